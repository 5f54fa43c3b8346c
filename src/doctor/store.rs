//! The store: can it be reached, and is it a store that keeps sessions and gives us just the rights that we need?

use super::finding::Check;
use crate::config::RedisConfig;
use crate::session::{Examined, Login, Unreached, examine};

pub(super) const NAME: &str = "store";

/// `PEXPIREAT … GT` and what the scripts return.
const OLDEST: u32 = 7;
const ACCESS_LIST: &str = "give Entrada a user of its own with the access list in docs/security.md";

pub(super) async fn check(config: &RedisConfig, login: Login) -> Vec<Check> {
    let faults = match examine(config.clone(), login).await {
        Err(why) => vec![unreached(config, &why)],
        Ok(seen) => {
            let faults = faults(&seen);
            if faults.is_empty() {
                return vec![Check::fine(NAME, summary(config, &seen))];
            }
            faults
        }
    };
    faults.into_iter().map(|(seen, fix)| Check::fault(NAME, seen, fix)).collect()
}

type Fault = (String, String);

fn unreached(config: &RedisConfig, why: &Unreached) -> Fault {
    match why {
        Unreached::Refused(text) => (
            format!("it refuses us: {text}"),
            "correct ENTRADA_STORE_USERNAME, ENTRADA_STORE_PASSWORD_FILE and the user's access list (docs/security.md)"
                .to_owned(),
        ),
        Unreached::Certificate(text) => (
            format!("its certificate is not accepted: {text}"),
            "ENTRADA_STORE_CA_FILE must hold the CA of its certificate, and the certificate must name its host"
                .to_owned(),
        ),
        Unreached::NoAnswer(text) => (
            format!("it cannot be reached {}: {text}", over(config)),
            "correct ENTRADA_STORE (rediss… for TLS), or allow the pod to reach it (NetworkPolicy, firewall)".to_owned(),
        ),
    }
}

fn faults(seen: &Examined) -> Vec<Fault> {
    let is_old = |version: &str| {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_none_or(|major| major < OLDEST)
    };
    if let Some(version) = any_master(seen, "redis_version", is_old) {
        // Whatever else it lacks may be because of that.
        let fix = format!("take Redis {OLDEST}.0 or later, or Valkey");
        return vec![(format!("its version is {version}"), fix)];
    }
    let mut faults = Vec::new();
    faults.extend(rights(&seen.refused));
    // Also volatile-…: each of our keys has an expiry.
    if let Some(policy) = any_master(seen, "maxmemory_policy", |policy| policy != "noeviction") {
        let seen = format!("its maxmemory-policy is {policy}: it drops sessions when memory is short");
        faults.push((seen, "set maxmemory-policy to noeviction".to_owned()));
    }
    let writes = ["rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"];
    let failed = writes.into_iter().find(|name| any_master(seen, name, |status| status != "ok").is_some());
    // Told already, where it takes no writes because of that.
    let is_told = seen.refused.iter().any(|text| text.contains("MISCONF"));
    if let Some(name) = failed.filter(|_| !is_told) {
        let seen = format!("it could not write to its disk ({name})");
        faults
            .push((seen, "give its disk room, and see its log: until then it may refuse writes".to_owned()));
    }
    if seen.user.as_deref() == Some("default") {
        faults.push(("we are its user `default`, who may do everything".to_owned(), ACCESS_LIST.to_owned()));
    } else if seen.is_administrator {
        faults.push((
            "our user may read the server's configuration, and more".to_owned(),
            ACCESS_LIST.to_owned(),
        ));
    }
    faults
}

/// The value that one of the masters has and that is wrong.
fn any_master<'a>(seen: &'a Examined, name: &str, is_wrong: impl Fn(&str) -> bool) -> Option<&'a str> {
    seen.info.iter().filter_map(|info| field(info, name)).find(|value| is_wrong(value))
}

/// What the rights that were tried came to: one reason, of which the others follow.
fn rights(refused: &[String]) -> Option<Fault> {
    let first = refused.first()?;
    let any = |word: &str| refused.iter().any(|text| text.contains(word));
    let fix = if any("READONLY") {
        "ENTRADA_STORE leads to a replica: name the master, or the sentinels (redis-sentinel://…)"
    } else if any("OOM") {
        "give it more memory: it takes no writes any more"
    } else if any("MISCONF") {
        "give its disk room, and see its log: it takes no writes any more"
    } else {
        ACCESS_LIST
    };
    let names: Vec<&str> = refused.iter().skip(1).filter_map(|text| Some(text.split_once(':')?.0)).collect();
    let others = if names.is_empty() { String::new() } else { format!("; also {}", names.join(", ")) };
    Some((format!("it does not do what we need: {first}{others}"), fix.to_owned()))
}

fn summary(config: &RedisConfig, seen: &Examined) -> String {
    let info = seen.info.first().map_or("", String::as_str);
    let version = field(info, "valkey_version").map_or_else(
        || format!("Redis {}", field(info, "redis_version").unwrap_or("of an unknown version")),
        |version| format!("Valkey {version}"),
    );
    let masters = match seen.info.len() {
        0 | 1 => String::new(),
        count => format!(", {count} masters"),
    };
    let keeps = match field(info, "aof_enabled") {
        Some("1") => "keeps an append-only file",
        _ => "keeps no append-only file: a restart may sign everybody out",
    };
    format!("{version}{masters} {}, noeviction, just the rights it needs, {keeps}", over(config))
}

fn over(config: &RedisConfig) -> &'static str {
    if config.tls { "over TLS" } else { "without TLS" }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
