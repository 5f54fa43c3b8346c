//! Where sessions live: memory, or a Redis whose address says whether it stands alone, behind Sentinel, or as a cluster.

use std::path::PathBuf;
use std::time::Duration;

use super::RawConfig;
use super::check::{Checker, given};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where sessions live.
#[derive(Clone, Debug)]
pub(crate) enum StoreConfig {
    /// In this process.
    Memory,
    /// In Redis or Valkey, shared by all replicas.
    Redis(RedisConfig),
}

/// How Redis is reached.
#[derive(Clone, Debug)]
pub(crate) struct RedisConfig {
    /// Which servers.
    pub(crate) topology: Topology,
    /// TLS, also towards sentinels.
    pub(crate) tls: bool,
    /// PEM of the authority that signs its certificate; `None`: the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// How we log in.
    pub(crate) auth: StoreAuth,
    /// How long known sessions are served without a sign of life from the store.
    pub(crate) staleness: Duration,
}

/// Host and port of one server.
pub(crate) type Address = (String, u16);

/// Which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One.
    Single {
        /// The server.
        address: Address,
        /// The number of the database.
        db: i64,
    },
    /// A master that sentinels name.
    Sentinel {
        /// Those who are asked.
        sentinels: Vec<Address>,
        /// The name that they know the master by.
        master: String,
    },
    /// A cluster.
    Cluster {
        /// Those who are asked for all others.
        nodes: Vec<Address>,
    },
}

/// How we log in to the store.
#[derive(Clone, Debug)]
pub(crate) enum StoreAuth {
    /// Not at all.
    None,
    /// With a password from a file.
    Password {
        /// The user of the store's access list; `None`: the default user.
        username: Option<String>,
        /// The password's file, read again when it changes.
        file: PathBuf,
    },
    /// With the workload identity's own token for the store.
    Entra {
        /// Object id of the app's service principal; `None`: as the token says.
        username: Option<String>,
    },
}

impl Checker {
    pub(super) fn store(&mut self, raw: &RawConfig) -> Option<StoreConfig> {
        let text = given(raw.store.as_deref()).unwrap_or("memory");
        let staleness =
            self.duration("ENTRADA_STORE_STALENESS", raw.store_staleness.as_deref(), Duration::from_secs(60));
        let username = given(raw.store_username.as_deref()).map(str::to_owned);
        let password_file = given(raw.store_password_file.as_deref());
        let ca_file = given(raw.store_ca_file.as_deref());
        let by_entra = self.choice(
            "ENTRADA_STORE_AUTH",
            raw.store_auth.as_deref(),
            &[("password", false), ("entra", true)],
        )?;
        if text == "memory" {
            if username.is_some() || password_file.is_some() || ca_file.is_some() || by_entra {
                self.fault("ENTRADA_STORE", "is `memory`, but a login or CA for it is set", "choose one");
            }
            return Some(StoreConfig::Memory);
        }
        if let Some(path) = password_file {
            self.read("ENTRADA_STORE_PASSWORD_FILE", path);
        }
        self.certificates("ENTRADA_STORE_CA_FILE", ca_file);
        let (topology, tls) = match topology(text) {
            Ok(parsed) => parsed,
            // Not repeated: it may hold a password.
            Err(seen) => {
                let fix = "must be `memory`, redis://host:port[/db], redis-cluster://host:port,… or \
                           redis-sentinel://host:port,…/master, each also as rediss… for TLS";
                self.fault("ENTRADA_STORE", seen, fix);
                return None;
            }
        };
        if ca_file.is_some() && !tls {
            self.fault("ENTRADA_STORE_CA_FILE", "is set, but the store is reached without TLS", "choose one");
        }
        let auth = match (by_entra, password_file) {
            (true, Some(_)) => {
                self.fault("ENTRADA_STORE_AUTH", "is `entra`, but a password file is set", "choose one");
                return None;
            }
            (true, None) if !tls => {
                self.fault(
                    "ENTRADA_STORE_AUTH",
                    "is `entra`, but the store is reached without TLS",
                    "use rediss…",
                );
                return None;
            }
            (true, None) => StoreAuth::Entra { username },
            (false, Some(file)) => StoreAuth::Password { username, file: PathBuf::from(file) },
            (false, None) if username.is_some() => {
                self.fault("ENTRADA_STORE_USERNAME", "is set without a password file", "set both or none");
                return None;
            }
            (false, None) => StoreAuth::None,
        };
        let ca_file = ca_file.map(PathBuf::from);
        Some(StoreConfig::Redis(RedisConfig { topology, tls, ca_file, auth, staleness }))
    }
}

/// The servers that a store's address names, and whether they are reached with TLS.
fn topology(text: &str) -> Result<(Topology, bool), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("is not an address")?;
    if rest.contains('@') {
        return Err("contains user information; use ENTRADA_STORE_USERNAME and ENTRADA_STORE_PASSWORD_FILE");
    }
    if rest.contains(['?', '#']) {
        return Err("has a query or fragment");
    }
    let (kind, tls) = match scheme {
        "redis" | "redis-cluster" | "redis-sentinel" => (scheme, false),
        "rediss" => ("redis", true),
        "rediss-cluster" => ("redis-cluster", true),
        "rediss-sentinel" => ("redis-sentinel", true),
        _ => return Err("has a scheme that is not supported"),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addresses = |port| -> Result<Vec<Address>, &'static str> {
        hosts
            .split(',')
            .map(|host| address(host.trim(), port).ok_or("names no host, or a port that is none"))
            .collect()
    };
    let topology = match kind {
        "redis" => {
            let mut addresses = addresses(REDIS_PORT)?;
            let (Some(address), true) = (addresses.pop(), addresses.is_empty()) else {
                return Err("names several servers");
            };
            let db = if path.is_empty() { "0" } else { path };
            let db = db.parse().ok().filter(|db| (0..=65_535).contains(db));
            Topology::Single { address, db: db.ok_or("names a database that is no number")? }
        }
        "redis-sentinel" => {
            if path.is_empty() || path.contains('/') {
                return Err("names no master");
            }
            Topology::Sentinel { sentinels: addresses(SENTINEL_PORT)?, master: path.to_owned() }
        }
        _ if !path.is_empty() => return Err("has a path, but a cluster has one database only"),
        _ => Topology::Cluster { nodes: addresses(REDIS_PORT)? },
    };
    Ok((topology, tls))
}

/// `host`, `host:port` or `[ipv6]:port`.
fn address(text: &str, default_port: u16) -> Option<Address> {
    let authority: http::uri::Authority = text.parse().ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        // What follows the host is no port.
        None if authority.as_str() != authority.host() => return None,
        None => default_port,
    };
    (!host.is_empty() && port > 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Address {
        (name.to_owned(), port)
    }

    /// Each form of the contract is read; ports have their usual defaults.
    #[test]
    fn every_form_of_address_is_read() {
        let single = |db, tls| Ok((Topology::Single { address: host("redis", 6379), db }, tls));
        assert_eq!(topology("redis://redis:6379"), single(0, false));
        assert_eq!(topology("rediss://redis/3"), single(3, true));
        let nodes = vec![host("a", 1), host("b", 6379)];
        assert_eq!(topology("rediss-cluster://a:1,b"), Ok((Topology::Cluster { nodes }, true)));
        let sentinels = vec![host("a", 26379), host("fd00::1", 5)];
        let sentinel = Topology::Sentinel { sentinels, master: "mymaster".to_owned() };
        assert_eq!(topology("redis-sentinel://a,[fd00::1]:5/mymaster"), Ok((sentinel, false)));
    }

    /// What is no address is refused, and one with a password without repeating it.
    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "redis",
            "http://redis",
            "redis://",
            "redis://a,b",
            "redis://a/x",
            "redis://a/-1",
            "redis://a:99999",
            "redis://a:",
            "redis://a?db=1",
            "redis-cluster://a/1",
            "redis-cluster://a,,b",
            "redis-sentinel://a",
            "redis-sentinel://a/",
        ] {
            assert!(topology(wrong).is_err(), "{wrong}");
        }
        let seen = topology("redis://user:hunter2@redis").unwrap_err();
        assert!(!seen.contains("hunter2"));
    }
}
