//! Settings: raw strings from flags and environment, checked all at once, into a typed [`Config`].
//!
//! Every fault is reported in one message and nothing is opened before all are gone. Secrets come by file path only,
//! so the `Debug` output of a `Config` is safe to log.

mod audit;
mod check;
mod handover;
mod limits;
mod log;
mod mounts;
mod names;
mod origins;
mod raw;
mod store;
mod templates;
mod tls;
mod trace;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub(crate) use self::audit::{
    AuditConfig, AuditFile, AuditPolicy, AuditRule, AuditSink, AuditWebhook, GroupResources, Stages,
};
pub use self::raw::RawConfig;
pub(crate) use self::store::{RedisConfig, StoreAuth, StoreConfig, Topology};
pub use self::templates::KubeconfigTemplates;
pub(crate) use self::templates::{PLUGIN, TOKEN};
pub(crate) use self::trace::{Sampler, TraceConfig};

/// Exit code for faulty settings (`EX_USAGE` of sysexits).
pub const EXIT_USAGE: u8 = 64;

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The origin that users see.
    pub public_url: PublicUrl,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Certificates of the public listener, the first of which is for clients that ask for no host or an unknown one. None
    /// where TLS ends in front of us.
    pub tls: Vec<TlsFiles>,
    /// Where liveness, readiness and metrics are served in plain HTTP.
    pub admin_listen: SocketAddr,
    /// The API server and who vouches for it.
    pub api_server: ApiServer,
    /// The tenant and our own identity in it.
    pub entra: EntraConfig,
    /// Where sessions live.
    pub(crate) store: StoreConfig,
    /// The cluster's name in kubeconfigs and pages.
    pub cluster_name: String,
    /// PEM for generated kubeconfigs, when the public certificate needs it.
    pub public_ca_pem: Option<String>,
    /// What kubeconfigs are made from.
    pub kubeconfig_templates: KubeconfigTemplates,
    /// How long sessions and credentials live.
    pub lifetimes: Lifetimes,
    /// Whether dormant tokens may be armed again on the portal.
    pub rearm: bool,
    /// How tokens are handed over to computers.
    pub handover: HandoverConfig,
    /// Whether a sign-out leads on to Entra's own.
    pub sign_out_of_entra: bool,
    /// Bounds.
    pub limits: Limits,
    /// Origins whose pages may use the API with the user's cookie, as browsers write them.
    pub allowed_origins: Vec<String>,
    /// Dashboards on hosts of their own.
    pub(crate) mounts: Vec<MountConfig>,
    /// Networks whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where spans go; `None`: nowhere, and none are made.
    pub(crate) trace: Option<TraceConfig>,
    /// The window of a graceful stop.
    pub drain: Duration,
    /// Which events are logged, as a directive of the log's filter.
    pub log: String,
    /// The audit log, if there is one.
    pub(crate) audit: Option<AuditConfig>,
}

/// An https origin: scheme, host, and port where it is not 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
}

/// PEM files of one certificate, re-read when their content changes.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The upstream API server.
#[derive(Clone, Debug)]
pub struct ApiServer {
    /// `host:port`, as in a request's authority.
    pub authority: http::uri::Authority,
    /// PEM of the authority that signs its certificate.
    pub ca_file: PathBuf,
}

/// A server that requests are forwarded to.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// `host:port`, as in a request's authority.
    pub(crate) authority: http::uri::Authority,
    /// Who vouches for it.
    pub(crate) trust: Trust,
}

/// Who vouches for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Plain HTTP: nobody does.
    Nobody,
    /// The authorities that browsers trust.
    Public,
    /// Those in this PEM file, and no others.
    File(PathBuf),
}

/// A dashboard on a host of its own.
#[derive(Clone, Debug)]
pub(crate) struct MountConfig {
    /// The origin that users see.
    pub(crate) url: PublicUrl,
    /// The dashboard.
    pub(crate) dashboard: Server,
}

/// The Entra tenant and the app registration.
#[derive(Clone, Debug)]
pub struct EntraConfig {
    /// The tenant's GUID, lower case.
    pub tenant_id: String,
    /// The app registration's client id.
    pub client_id: String,
    /// The projected service-account token, read anew for each use.
    pub federated_token_file: PathBuf,
    /// The cloud's sign-in host, ending in `/`.
    pub authority: Url,
    /// An extra trust root for the authority.
    pub ca_file: Option<PathBuf>,
    /// For one call, from connecting to the last byte.
    pub timeout: Duration,
}

/// How long things live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// A session's cap from sign-in.
    pub session: Duration,
    /// How long a browser cookie may stay unused.
    pub cookie_idle: Duration,
    /// Default and maximum lifetime of a proxy token.
    pub token: Duration,
}

/// How a token is handed over to the credential plugin of a person's computer.
#[derive(Clone, Copy, Debug)]
pub struct HandoverConfig {
    /// Through the browser of the same computer.
    pub loopback: bool,
    /// By a code that is typed in on another device.
    pub device: bool,
    /// How long such a token lives, at most a proxy token's maximum.
    pub token_lifetime: Duration,
}

/// Bounds on what clients may hold, send, and wait for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open streams of one user.
    pub streams_per_user: usize,
    /// Ordinary requests of one user that are under way.
    pub requests_per_user: usize,
    /// Requests of one user; `None`: unlimited.
    pub rate: Option<RateLimit>,
    /// Sign-ins from one address; `None`: unlimited.
    pub sign_in_rate: Option<RateLimit>,
    /// Open client connections; `None`: what the file limit carries.
    pub connections: Option<usize>,
    /// Open client connections of one address; `None`: unlimited.
    pub connections_per_address: Option<usize>,
    /// Connections to the API server that are in use; `None`: what the file limit carries.
    pub upstream_connections: Option<usize>,
    /// From a connection's beginning to the end of its TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte to the end of its head.
    pub head: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
    /// To connect to the API server, TLS included.
    pub connect: Duration,
    /// From the end of a request to its answer's head; not for streams and proxy paths.
    pub response: Duration,
    /// How long an ordinary answer may stand still; not for streams and proxy paths.
    pub stall: Duration,
    /// Request line and header fields.
    pub head_bytes: usize,
    /// Streams on one HTTP/2 connection.
    pub h2_streams: u32,
    /// Streams that a client opened and reset before they were looked at.
    pub h2_resets: usize,
    /// The body of a request to our own pages.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_user: 1_000,
            // More than kubectl and client-go have under way in a burst (300), less than the API server's own 600.
            requests_per_user: 400,
            rate: None,
            sign_in_rate: None,
            connections: None,
            connections_per_address: None,
            upstream_connections: None,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            // Longer than proxies and clients keep an idle connection, so that it is they who close it.
            idle: Duration::from_secs(180),
            connect: Duration::from_secs(10),
            // The API server gives itself 60 s for an answer that is no stream; ten more for the way.
            response: Duration::from_secs(70),
            // Longer than nginx's 60 s: a person may read page by page, and a user's share bounds what stands still.
            stall: Duration::from_secs(300),
            // A request line with 60 KiB of selectors, and header fields beside it.
            head_bytes: 128 * 1024,
            // What the API server itself allows.
            h2_streams: 250,
            h2_resets: 50,
            // A name and a list of ids fit many times over.
            body_bytes: 64 * 1024,
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// So many in a second in the long run; greater than zero.
    pub per_second: f64,
    /// So many at once; at least one.
    pub burst: u32,
}

/// One check that failed, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting or settings that were looked at.
    pub check: String,
    /// What was found, e.g. ``is `maybe` ``; never a value that may hold a secret.
    pub seen: String,
    /// What would be right, e.g. ``must be `on` or `off` ``.
    pub fix: String,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl PublicUrl {
    /// `None` for a URL without a host.
    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.to_owned();
        Some(Self { origin: url.origin().ascii_serialization(), host })
    }

    /// The origin without a trailing slash: `https://k8s.example.com`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The host without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The origin followed by `path`, which begins with `/`.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

impl From<&ApiServer> for Server {
    fn from(server: &ApiServer) -> Self {
        Self { authority: server.authority.clone(), trust: Trust::File(server.ca_file.clone()) }
    }
}

impl Config {
    /// Every host that is served, and for which there must be a certificate.
    pub(crate) fn hosts(&self) -> Vec<&str> {
        let mounts = self.mounts.iter().map(|mount| mount.url.host());
        std::iter::once(self.public_url.host()).chain(mounts).collect()
    }

    /// Checks the raw settings.
    ///
    /// # Errors
    /// All faults at once: missing or contradictory settings, unreadable files, values out of range.
    pub fn from_raw(raw: &RawConfig) -> Result<Self, Faults> {
        check::check(raw)
    }
}

impl Faults {
    fn push(&mut self, check: &str, seen: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Fault { check: check.to_owned(), seen: seen.into(), fix: fix.into() });
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} fault{} in the settings:", if count == 1 { "" } else { "s" })?;
        let mut faults = self.0.iter();
        faults.try_for_each(|Fault { check, seen, fix }| write!(f, "\n  - {check}: {fix} ({seen})"))
    }
}

impl std::error::Error for Faults {}
