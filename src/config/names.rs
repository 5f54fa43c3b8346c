//! Names in the environment that no setting has. A misspelt setting would otherwise be ignored, and whoever wrote it
//! would believe in a control that is not there.

use clap::{Args, Command};

use super::RawConfig;
use super::check::Checker;

const PREFIX: &str = "ENTRADA_";
/// As Kubernetes spells the protocols of a Service's ports.
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

impl Checker {
    /// Names only: the value of a misspelt setting may be a secret, and is never looked at.
    pub(super) fn names(&mut self, raw: &RawConfig) {
        let known = known();
        let environment = &raw.environment;
        let ours = environment.iter().filter(|name| name.starts_with(PREFIX));
        for name in ours.filter(|name| !known.contains(name) && !is_of_a_service(name, environment)) {
            let fix = nearest(name, &known)
                .map_or_else(|| "must not be set".to_owned(), |nearest| format!("did you mean {nearest}?"));
            // Escaped, because a name can hold line breaks, too.
            self.fault(&name.escape_debug().to_string(), "no setting has this name", fix);
        }
    }
}

/// The environment variables that settings have.
fn known() -> Vec<String> {
    let command = RawConfig::augment_args(Command::new("serve"));
    let names = command.get_arguments().filter(|argument| !argument.is_hide_set());
    names.filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned())).collect()
}

/// Whether Kubernetes adds the variable to every pod beside a Service called `entrada` or `entrada-…`, unless the pod says
/// `enableServiceLinks: false`.
///
/// Source: "Discovering services" of Kubernetes' page on Services; the `…_PORT` forms are those of Docker's links.
fn is_of_a_service(name: &str, environment: &[String]) -> bool {
    let rest = &name[PREFIX.len()..];
    if is_of_this_service(rest) {
        return true;
    }
    // The longest name of a Service that leaves one of the forms: ENTRADA_REDIS_SERVICE_HOST is of entrada-redis.
    rest.match_indices('_').any(|(at, _)| {
        let (service, form) = (&rest[..at], &rest[at + 1..]);
        // A short form that somebody may have meant for a setting, such as ENTRADA_ADMIN_PORT. Kubernetes adds another beside it.
        let is_vouched_for = || environment.contains(&format!("{PREFIX}{service}_SERVICE_HOST"));
        !service.is_empty() && is_of_this_service(form) && (form != "PORT" || is_vouched_for())
    })
}

/// One of the forms that follow the Service's own name.
fn is_of_this_service(form: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if matches!(form, "SERVICE_HOST" | "SERVICE_PORT" | "PORT") {
        return true;
    }
    if let Some(port) = form.strip_prefix("SERVICE_PORT_") {
        return is_word(port);
    }
    let mut words = form.split('_');
    let is_port = words.next() == Some("PORT")
        && words.next().is_some_and(|port| port.parse::<u16>().is_ok())
        && words.next().is_some_and(|protocol| PROTOCOLS.contains(&protocol));
    is_port && matches!((words.next(), words.next()), (None | Some("ADDR" | "PORT" | "PROTO"), None))
}

/// The known name that the fewest changes make of this one. `ENTRADA_` or `AZURE_` does not count: ENTRADA_TENANT_ID
/// means AZURE_TENANT_ID.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let bare = |name: &str| name.split_once('_').map_or(name, |(_, bare)| bare).to_owned();
    let asked = bare(name);
    known.iter().min_by_key(|known| changes(&asked, &bare(known))).map(String::as_str)
}

/// How many characters must be added, removed or replaced to turn one text into the other (Levenshtein's distance).
fn changes(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (removed, from) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], removed + 1);
        for (at, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(names: &[&str]) -> Vec<String> {
        let environment = names.iter().map(|name| (*name).to_owned()).collect();
        let mut checker = Checker::default();
        checker.names(&RawConfig { environment, ..RawConfig::default() });
        checker.into_faults().0.into_iter().map(|fault| fault.check).collect()
    }

    fn meant(name: &str) -> String {
        nearest(name, &known()).unwrap().to_owned()
    }

    /// The list is the program's own, so that a new setting is known without being written down twice.
    #[test]
    fn every_setting_is_known() {
        let known = known();
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        assert!(names.contains(&"ENTRADA_PUBLIC_URL") && names.contains(&"AZURE_TENANT_ID"));
        assert!(refused(&names).is_empty());
    }

    /// Typing errors, names of another product's habit, and settings of another version are faults; other programs' are not.
    #[test]
    fn what_only_looks_like_a_setting_is_refused() {
        let wrong = [
            "ENTRADA_RATE_LIMITT",
            "ENTRADA_LISTEN_PORT",
            "ENTRADA_ADMIN_PORT",
            "ENTRADA_PORTS",
            "ENTRADA_PORT_HTTPS",
            "ENTRADA_PORT_443_TLS",
            "ENTRADA_PORT_443_TCP_HOST",
            "ENTRADA_PORT_443_TCP_ADDR_X",
            "ENTRADA_SERVICE",
            "ENTRADA_SERVICE_PORT_",
            "ENTRADA_TLS_CERT_FILE\nX",
            "ENTRADA_",
            "ENTRADA__PORT",
        ];
        let told: Vec<String> = wrong.iter().map(|name| name.escape_debug().to_string()).collect();
        assert_eq!(refused(&wrong), told);
        assert!(refused(&["PATH", "AZURE_REGION", "ENTRADAS", "MY_ENTRADA_LISTN"]).is_empty());
    }

    /// What Kubernetes adds for a Service called entrada, or one whose name begins so, is no fault.
    #[test]
    fn what_kubernetes_adds_for_a_service_is_passed_over() {
        for service in ["ENTRADA", "ENTRADA_REDIS", "ENTRADA_REDIS_NODE_0"] {
            let forms = [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_HTTPS",
                "SERVICE_PORT_TCP_REDIS",
                "PORT",
                "PORT_6379_TCP",
                "PORT_6379_TCP_ADDR",
                "PORT_6379_TCP_PORT",
                "PORT_53_UDP_PROTO",
                "PORT_5_SCTP",
            ];
            let names: Vec<String> = forms.iter().map(|form| format!("{service}_{form}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(refused(&names), Vec::<String>::new());
        }
    }

    /// The nearest name is the one that was meant.
    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        assert_eq!(meant("ENTRADA_RATE_LIMITT"), "ENTRADA_RATE_LIMIT");
        assert_eq!(meant("ENTRADA_MAX_STREAM_PER_USER"), "ENTRADA_MAX_STREAMS_PER_USER");
        assert_eq!(meant("ENTRADA_TLS_CERTIFICATE_FILE"), "ENTRADA_TLS_CERT_FILE");
        assert_eq!(meant("ENTRADA_TENANT_ID"), "AZURE_TENANT_ID");
        assert_eq!(changes("kitten", "sitting"), 3);
        assert_eq!(changes("", "ab"), 2);
    }
}
