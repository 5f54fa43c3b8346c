//! Raw strings into a typed [`Config`], with every fault noted before giving up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use super::{ApiServer, Config, EntraConfig, Faults, Lifetimes, PublicUrl, RawConfig};

const DEFAULT_API_SERVER_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const DEFAULT_AUTHORITY: &str = "https://login.microsoftonline.com/";
const DAY: Duration = Duration::from_secs(86_400);

/// Collects faults; each method returns a value where one could be made.
#[derive(Default)]
pub(super) struct Checker {
    faults: Faults,
}

pub(super) fn check(raw: &RawConfig) -> Result<Config, Faults> {
    let mut c = Checker::default();
    c.names(raw);
    let public_url = c.public_url(raw.public_url.as_deref());
    let listen = c.address("ENTRADA_LISTEN", raw.listen.as_deref(), "0.0.0.0:8443");
    let tls = c.tls(raw);
    let admin_listen = c.address("ENTRADA_ADMIN_LISTEN", raw.admin_listen.as_deref(), "0.0.0.0:9090");
    let api_server = c.api_server(raw);
    let entra = c.entra(raw);
    let store = c.store(raw);
    let public_ca_pem = c.certificates("ENTRADA_PUBLIC_CA_FILE", given(raw.public_ca_file.as_deref()));
    let kubeconfig_templates = c.kubeconfig_templates(raw.kubeconfig_templates.as_deref());
    let lifetimes = c.lifetimes(raw);
    let handover = c.handover(raw, &lifetimes);
    let rearm =
        c.choice("ENTRADA_REARM", raw.rearm.as_deref(), &[("ask", true), ("off", false)]).unwrap_or(true);
    let sign_out_of_entra =
        c.choice("ENTRADA_SIGN_OUT", raw.sign_out.as_deref(), &[("here", false), ("entra", true)]);
    let limits = c.limits(raw);
    let allowed_origins = c.allowed_origins(raw.allowed_origins.as_deref());
    let mounts = c.mounts(raw.mounts.as_deref(), public_url.as_ref(), &allowed_origins);
    let trusted_proxies = c.networks(raw.trusted_proxies.as_deref());
    let trace = c.trace(raw);
    let drain = c.duration("ENTRADA_DRAIN", raw.drain.as_deref(), Duration::from_secs(25));
    let log = c.log_filter(raw.log.as_deref());
    let audit = c.audit(raw);
    // Without faults, each of these is there.
    let (Some(public_url), Some(listen), Some(admin_listen), Some(api_server)) =
        (public_url, listen, admin_listen, api_server)
    else {
        return Err(c.faults);
    };
    let (Some(entra), Some(store), true) = (entra, store, c.faults.is_empty()) else {
        return Err(c.faults);
    };
    let cluster_name =
        given(raw.cluster_name.as_deref()).map_or_else(|| public_url.host().to_owned(), str::to_owned);
    Ok(Config {
        public_url,
        listen,
        tls,
        admin_listen,
        api_server,
        entra,
        store,
        cluster_name,
        public_ca_pem,
        kubeconfig_templates,
        lifetimes,
        rearm,
        handover,
        sign_out_of_entra: sign_out_of_entra.unwrap_or_default(),
        limits,
        allowed_origins,
        mounts,
        trusted_proxies,
        trace,
        drain,
        log,
        audit,
    })
}

/// Shorter times mean nothing here, and longer ones cannot be added to the present.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// An empty variable means the same as none: manifests often leave one empty.
pub(super) fn given(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

impl Checker {
    pub(super) fn fault(&mut self, check: &str, seen: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(check, seen, fix);
    }

    #[cfg(test)]
    pub(super) fn into_faults(self) -> Faults {
        self.faults
    }

    /// What was found so far, as it is told.
    #[cfg(test)]
    pub(super) fn told(&self) -> String {
        self.faults.to_string()
    }

    fn required<'a>(&mut self, name: &str, value: Option<&'a str>) -> Option<&'a str> {
        let value = given(value);
        if value.is_none() {
            self.faults.push(name, "not set", "is required");
        }
        value
    }

    fn public_url(&mut self, value: Option<&str>) -> Option<PublicUrl> {
        let url = self.https_origin("ENTRADA_PUBLIC_URL", given(value))?;
        PublicUrl::of(&url)
    }

    /// A URL that is https and an origin, nothing more.
    fn https_origin(&mut self, name: &str, value: Option<&str>) -> Option<Url> {
        let text = self.required(name, value)?;
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                self.faults.push(name, error.to_string(), "must be a URL");
                return None;
            }
        };
        if url.scheme() != "https" {
            self.faults.push(name, format!("begins with {}:", url.scheme()), "must begin with https://");
        } else if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            self.faults.push(name, "has a path, query or fragment", "must be an origin such as https://host");
        } else if !url.username().is_empty() || url.password().is_some() {
            self.faults.push(name, "contains user information", "must not contain a user name or password");
        } else {
            return Some(url);
        }
        None
    }

    fn address(&mut self, name: &str, value: Option<&str>, default: &str) -> Option<SocketAddr> {
        let text = given(value).unwrap_or(default);
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let fix = format!("must be an IP address and a port, e.g. {default}");
            self.faults.push(name, format!("is `{text}`"), fix);
        }
        parsed
    }

    fn api_server(&mut self, raw: &RawConfig) -> Option<ApiServer> {
        let from_pod = match (&raw.kubernetes_service_host, &raw.kubernetes_service_port) {
            (Some(host), Some(port)) if host.contains(':') => Some(format!("https://[{host}]:{port}")),
            (Some(host), Some(port)) => Some(format!("https://{host}:{port}")),
            _ => None,
        };
        let ca_file = given(raw.api_server_ca_file.as_deref()).unwrap_or(DEFAULT_API_SERVER_CA);
        self.certificates("ENTRADA_API_SERVER_CA_FILE", Some(ca_file));
        let text = given(raw.api_server_url.as_deref()).or(from_pod.as_deref());
        let url = self.https_origin("ENTRADA_API_SERVER_URL", text)?;
        let authority = url.authority().parse().ok()?;
        Some(ApiServer { authority, ca_file: PathBuf::from(ca_file) })
    }

    fn entra(&mut self, raw: &RawConfig) -> Option<EntraConfig> {
        let tenant_id = self.guid("AZURE_TENANT_ID", raw.azure_tenant_id.as_deref());
        let client_id = self.guid("AZURE_CLIENT_ID", raw.azure_client_id.as_deref());
        let token_file =
            self.required("AZURE_FEDERATED_TOKEN_FILE", raw.azure_federated_token_file.as_deref());
        if let Some(path) = token_file {
            self.read("AZURE_FEDERATED_TOKEN_FILE", path);
        }
        let authority = given(raw.azure_authority_host.as_deref()).unwrap_or(DEFAULT_AUTHORITY);
        let authority = self.https_origin("AZURE_AUTHORITY_HOST", Some(authority));
        let ca_file = given(raw.entra_ca_file.as_deref());
        self.certificates("ENTRADA_ENTRA_CA_FILE", ca_file);
        // Entra answers in well under a second; its own libraries wait 30 s.
        let default = Duration::from_secs(15);
        let timeout = self.duration("ENTRADA_ENTRA_TIMEOUT", raw.entra_timeout.as_deref(), default);
        Some(EntraConfig {
            timeout,
            tenant_id: tenant_id?,
            client_id: client_id?,
            federated_token_file: PathBuf::from(token_file?),
            authority: authority?,
            ca_file: ca_file.map(PathBuf::from),
        })
    }

    /// A GUID in lower case. `common`, `organizations` and domain names are refused: Entrada serves one tenant.
    fn guid(&mut self, name: &str, value: Option<&str>) -> Option<String> {
        let text = self.required(name, value)?.to_ascii_lowercase();
        let parts: Vec<&str> = text.split('-').collect();
        let well_formed = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
            && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !well_formed {
            // Not repeated: by mistake it may be a secret that belongs elsewhere.
            self.faults.push(name, "not a GUID", "must be a GUID");
        }
        well_formed.then_some(text)
    }

    pub(super) fn read(&mut self, name: &str, path: &str) -> Option<String> {
        std::fs::read_to_string(path)
            .inspect_err(|error| {
                let seen = format!("cannot read {path}: {error}");
                self.faults.push(name, seen, "must be a readable file");
            })
            .ok()
    }

    /// Reads a PEM file and checks that certificates are in it, each whole.
    pub(super) fn certificates(&mut self, name: &str, path: Option<&str>) -> Option<String> {
        let path = path?;
        let pem = self.read(name, path)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        if !certificates.is_ok_and(|found| !found.is_empty()) {
            let seen = format!("{path} contains no certificate, or a broken one");
            self.faults.push(name, seen, "must contain certificates in PEM");
            return None;
        }
        Some(pem)
    }

    fn lifetimes(&mut self, raw: &RawConfig) -> Lifetimes {
        Lifetimes {
            session: self.duration("ENTRADA_SESSION_LIFETIME", raw.session_lifetime.as_deref(), 7 * DAY),
            cookie_idle: self.duration("ENTRADA_COOKIE_IDLE", raw.cookie_idle.as_deref(), DAY),
            token: self.duration("ENTRADA_TOKEN_LIFETIME", raw.token_lifetime.as_deref(), 30 * DAY),
        }
    }

    pub(super) fn duration(&mut self, name: &str, value: Option<&str>, default: Duration) -> Duration {
        let Some(text) = given(value) else { return default };
        match humantime::parse_duration(text) {
            Ok(duration) if (SHORTEST..=LONGEST).contains(&duration) => return duration,
            Ok(duration) if duration.is_zero() => {
                self.faults.push(name, format!("is `{text}`"), "must be greater than zero");
            }
            Ok(_) => self.faults.push(name, format!("is `{text}`"), "must be from 1ms to 10 years"),
            Err(_) => {
                self.faults.push(name, format!("is `{text}`"), "must be a duration such as 90s, 12h or 7d");
            }
        }
        default
    }

    pub(super) fn choice<T: Copy>(&mut self, name: &str, value: Option<&str>, of: &[(&str, T)]) -> Option<T> {
        let text = given(value).unwrap_or(of[0].0);
        let found = of.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = of.iter().map(|(word, _)| *word).collect();
            self.faults.push(name, format!("is `{text}`"), format!("must be `{}`", words.join("` or `")));
        }
        found
    }

    fn networks(&mut self, value: Option<&str>) -> Vec<ipnet::IpNet> {
        let entries = given(value).into_iter().flat_map(|list| list.split(',')).map(str::trim);
        let mut networks = Vec::new();
        for entry in entries.filter(|entry| !entry.is_empty()) {
            // A bare address means that one host.
            match entry.parse().or_else(|_| entry.parse::<std::net::IpAddr>().map(ipnet::IpNet::from)) {
                Ok(network) => networks.push(network),
                Err(_) => {
                    let fix = "must be networks such as 10.0.0.0/8";
                    self.faults.push("ENTRADA_TRUSTED_PROXIES", format!("`{entry}` is not a network"), fix);
                }
            }
        }
        networks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(raw: &RawConfig) -> String {
        check(raw).unwrap_err().to_string()
    }

    /// An empty environment yields every missing setting in one message.
    #[test]
    fn every_missing_setting_is_named_at_once() {
        let text = faults(&RawConfig::default());
        for name in [
            "ENTRADA_PUBLIC_URL",
            "ENTRADA_TLS_CERT_FILE",
            "ENTRADA_API_SERVER_URL",
            "ENTRADA_API_SERVER_CA_FILE",
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_FEDERATED_TOKEN_FILE",
        ] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }

    /// Values out of their range are faults, each with what would be right.
    #[test]
    fn wrong_values_are_faults() {
        let some = |text: &str| Some(text.to_owned());
        let text = faults(&RawConfig {
            public_url: some("http://k8s.example.com"),
            listen: some("localhost"),
            api_server_ca_file: some("/nonexistent/ca.crt"),
            tls: some("maybe"),
            session_lifetime: some("0s"),
            cookie_idle: some("a day"),
            rearm: some("always"),
            max_streams_per_user: some("0"),
            trusted_proxies: some("10.0.0.0/8, nonsense"),
            azure_tenant_id: some("common"),
            azure_authority_host: some("https://login.example.com/tenant"),
            ..RawConfig::default()
        });
        insta::assert_snapshot!(text);
    }

    /// A password in the store's URL is not repeated.
    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        let store = Some("redis://user:hunter2@redis".to_owned());
        let text = faults(&RawConfig { store, ..RawConfig::default() });
        assert!(text.contains("ENTRADA_STORE: must be `memory`"));
        assert!(!text.contains("hunter2"));
    }

    /// A pod's own environment names the API server, IPv6 included.
    #[test]
    fn the_api_server_defaults_to_the_pods_environment() {
        let raw = RawConfig {
            kubernetes_service_host: Some("fd00::1".to_owned()),
            kubernetes_service_port: Some("443".to_owned()),
            ..RawConfig::default()
        };
        let mut checker = Checker::default();
        let server = checker.api_server(&raw).unwrap();
        assert_eq!(server.authority.as_str(), "[fd00::1]");
    }
}
