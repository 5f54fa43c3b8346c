//! The origins whose pages may use the API with the user's cookie.

use url::{Host, Url};

use super::check::{Checker, given};

const NAME: &str = "ENTRADA_ALLOWED_ORIGINS";
const FORM: &str = "must be origins such as https://console.example.com, separated by commas";

impl Checker {
    /// Each as browsers write it in `Origin`: `https://host`, with the port where it is not 443.
    pub(super) fn allowed_origins(&mut self, value: Option<&str>) -> Vec<String> {
        let entries = given(value).into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let mut origins = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            match origin(entry) {
                Ok(origin) if origins.contains(&origin) => {}
                Ok(origin) => origins.push(origin),
                // Not repeated where a password may stand in it.
                Err((seen, fix)) if entry.contains('@') => self.fault(NAME, format!("one {seen}"), fix),
                Err((seen, fix)) => self.fault(NAME, format!("`{}` {seen}", entry.escape_debug()), fix),
            }
        }
        origins
    }
}

/// The origin, or what is wrong with it and what would be right.
fn origin(entry: &str) -> Result<String, (&'static str, &'static str)> {
    if entry == "null" {
        return Err(("is the origin of pages that nobody can tell apart, such as sandboxed ones", FORM));
    }
    if entry.contains('*') {
        return Err(("has a wildcard", "must name each origin, because each can act as its visitors"));
    }
    let url = Url::parse(entry).map_err(|_| ("is no URL", FORM))?;
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => {}
        // For developers: nobody else can answer there. The cookie is not sent from there; tokens can be.
        ("http", Some(host)) if is_loopback(&host) => {}
        ("http", _) => {
            let fix = "must begin with https://; http:// is for localhost, 127.0.0.1 and [::1] alone";
            return Err(("is not encrypted, so that anybody on the way can act as it", fix));
        }
        _ => return Err(("is no https:// origin", FORM)),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("contains user information", FORM));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(("has a path, query or fragment", "must be an origin: all of its pages count as one"));
    }
    Ok(url.origin().ascii_serialization())
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> (Vec<String>, String) {
        let mut checker = Checker::default();
        let origins = checker.allowed_origins(Some(list));
        (origins, checker.told())
    }

    /// What is meant is clear: case, the usual port, a slash at the end, and doubles make no difference.
    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        let list = "https://Console.example.com/, https://console.example.com:443,https://b.example.com:8443, \
                    http://localhost:3000, http://127.0.0.1:3000, http://[::1]:3000, https://bücher.example,";
        let (origins, faults) = read(list);
        let expected = [
            "https://console.example.com",
            "https://b.example.com:8443",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
        ];
        assert_eq!(origins, expected, "{faults}");
        assert_eq!(read(" , ").0, [""; 0]);
    }

    /// Whatever is not exactly one origin is refused with what would be right.
    #[test]
    fn what_is_not_exactly_one_origin_is_a_fault() {
        let wrong = [
            "*",
            "null",
            "https://*.example.com",
            "console.example.com",
            "https://console.example.com/app",
            "https://console.example.com?x",
            "https://user:secret@console.example.com",
            "http://console.example.com",
            "http://localhost.example.com:3000",
            "file:///etc",
            "data:text/html,x",
            "https://",
        ];
        let (origins, faults) = read(&wrong.join(","));
        assert_eq!(origins, [""; 0]);
        assert!(!faults.contains("secret"));
        insta::assert_snapshot!(faults);
    }
}
