//! Whose host a request is for: the public URL's, or that of a mounted dashboard. Pure.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;

/// The host names of the mounted dashboards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(Vec<Arc<str>>);

/// A request on the host of a mounted dashboard.
#[derive(Clone, Debug)]
pub(crate) struct AtMount {
    /// Which of the configured mounts.
    pub(crate) index: usize,
    /// Its host name.
    pub(crate) host: Arc<str>,
    /// What is asked for there.
    pub(crate) path: MountPath,
}

/// All paths there are the dashboard's, but those below this one.
const OWN: &str = "/.entrada";

/// What is asked for on the host of a mounted dashboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountPath {
    /// `/.entrada/enter`: takes the one-time code.
    Enter,
    /// `/.entrada/assets/…`
    Asset(String),
    /// Other paths below `/.entrada/`.
    Reserved,
    /// The dashboard's own.
    Dashboard,
}

/// A request that names two hosts, one of which is a mount's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TwoHosts;

impl Hosts {
    /// By their order in the settings.
    #[must_use]
    pub(crate) fn new(hosts: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self(hosts.into_iter().collect())
    }

    /// The mount whose host the request names, by `:authority` or `Host`; `None`: it is for the public URL's.
    pub(super) fn mount(&self, parts: &Parts) -> Result<Option<AtMount>, TwoHosts> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let headers = parts.headers.get_all(HOST).into_iter().map(http::HeaderValue::as_bytes);
        let mut named = authority.into_iter().chain(headers).map(|name| self.index(name));
        let Some(first) = named.next() else { return Ok(None) };
        if named.any(|other| other != first) {
            return Err(TwoHosts);
        }
        Ok(first.map(|index| AtMount { index, host: self.0[index].clone(), path: of(parts.uri.path()) }))
    }

    /// Ports are passed over: cookies do, too.
    fn index(&self, name: &[u8]) -> Option<usize> {
        let end = name.iter().rposition(|byte| *byte == b':').filter(|at| !name[*at..].contains(&b']'));
        let host = &name[..end.unwrap_or(name.len())];
        self.0.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(host))
    }
}

impl MountPath {
    /// Its name in metrics; empty for the dashboard's own.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Enter => "mount_enter",
            Self::Asset(_) => "assets",
            Self::Reserved => "reserved",
            Self::Dashboard => "",
        }
    }

    /// The pattern of its path, for traces.
    #[must_use]
    pub(crate) fn pattern(&self) -> Option<&'static str> {
        match self {
            Self::Enter => Some("/.entrada/enter"),
            Self::Asset(_) => Some("/.entrada/assets/{name}"),
            Self::Reserved | Self::Dashboard => None,
        }
    }
}

fn of(path: &str) -> MountPath {
    match path.strip_prefix(OWN) {
        Some("/enter") => MountPath::Enter,
        Some("") => MountPath::Reserved,
        Some(rest) if rest.starts_with('/') => {
            let asset = rest.strip_prefix("/assets/");
            asset.map_or(MountPath::Reserved, |name| MountPath::Asset(name.to_owned()))
        }
        _ => MountPath::Dashboard,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn named(uri: &str, hosts: &[&str]) -> Result<Option<usize>, TwoHosts> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let mounts = Hosts::new(["headlamp.example.com".into(), "[::1]".into()]);
        mounts.mount(&parts).map(|at| at.map(|at| at.index))
    }

    /// A mount is known by its name, whatever the port; any other host is the public URL's.
    #[test]
    fn a_mount_is_known_by_its_host() {
        for host in ["headlamp.example.com", "HEADLAMP.example.com:443", "headlamp.example.com:8443"] {
            assert_eq!(named("/", &[host]), Ok(Some(0)), "{host}");
        }
        assert_eq!(named("https://headlamp.example.com/", &[]), Ok(Some(0)));
        assert_eq!(named("/", &["[::1]:8443"]), Ok(Some(1)));
        for host in ["k8s.example.com", "xheadlamp.example.com", "headlamp.example.com.evil", "", ":"] {
            assert_eq!(named("/", &[host]), Ok(None), "{host}");
        }
        assert_eq!(named("/", &[]), Ok(None));
    }

    /// Two names of which one is a mount's could be read in two ways on the way.
    #[test]
    fn two_hosts_are_refused() {
        assert_eq!(named("/", &["headlamp.example.com", "k8s.example.com"]), Err(TwoHosts));
        assert_eq!(named("https://k8s.example.com/", &["headlamp.example.com"]), Err(TwoHosts));
        assert_eq!(named("https://a.example/", &["b.example"]), Ok(None));
        assert_eq!(named("https://headlamp.example.com/", &["headlamp.example.com:443"]), Ok(Some(0)));
    }

    /// Only paths that begin with ours are ours; whatever merely looks so is the dashboard's.
    #[test]
    fn paths_below_dot_entrada_are_ours() {
        assert_eq!(of("/.entrada/enter"), MountPath::Enter);
        assert_eq!(of("/.entrada/assets/entrada.css"), MountPath::Asset("entrada.css".to_owned()));
        for path in ["/.entrada", "/.entrada/", "/.entrada/enter/", "/.entrada/x"] {
            assert_eq!(of(path), MountPath::Reserved, "{path}");
        }
        for path in ["/", "/login", "/tokens", "/.entradax", "//.entrada/enter", "/%2eentrada/enter"] {
            assert_eq!(of(path), MountPath::Dashboard, "{path}");
        }
    }
}
