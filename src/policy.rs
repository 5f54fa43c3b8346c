//! May this identity make this request through us? Pure: no I/O, no `async`. What the user may do in the cluster is
//! the API server's to say; here stand only the guards that a browser's cookie needs.

pub mod origin;

use http::request::Parts;
use thiserror::Error;

use self::origin::Origins;
use crate::identity::Identity;
use crate::route::{Facts, Shape};

/// Evidence that an identity may make one request. Made here only.
#[derive(Debug)]
pub struct Permit {
    identity: Identity,
    facts: Facts,
}

/// Why a request was not permitted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Denied {
    /// A cookie with an unsafe method or an upgrade, and no word of the browser that it comes from our own pages.
    #[error("a cookie request that does not come from this origin")]
    CrossOrigin,
    /// A cookie on a path that a pod answers: its pages would speak under our origin.
    #[error("a cookie request to a proxy path")]
    ProxyByCookie,
    /// A cookie with a path that two readers would cut differently.
    #[error("a cookie request with an ambiguous path")]
    AmbiguousPath,
    /// A service worker that would be fetched from the cluster and live on our origin.
    #[error("a service worker from a Kubernetes path")]
    ServiceWorker,
}

impl Permit {
    /// Whose request it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the request's head says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.facts
    }
}

/// Decides about one Kubernetes request.
///
/// # Errors
/// Which guard refused it.
pub fn permit(identity: Identity, facts: Facts, parts: &Parts, origins: &Origins) -> Result<Permit, Denied> {
    if parts.headers.get("service-worker").is_some_and(|value| value == "script") {
        return Err(Denied::ServiceWorker);
    }
    if identity.is_cookie() {
        guard_cookie(facts, parts, origins)?;
    }
    Ok(Permit { identity, facts })
}

fn guard_cookie(facts: Facts, parts: &Parts, origins: &Origins) -> Result<(), Denied> {
    if !facts.one_reading {
        return Err(Denied::AmbiguousPath);
    }
    if facts.is_proxy {
        return Err(Denied::ProxyByCookie);
    }
    let needs_proof = facts.shape == Shape::Upgrade || !parts.method.is_safe();
    let passes = if needs_proof { origins.prove(&parts.headers) } else { origins.tolerate(parts) };
    if passes { Ok(()) } else { Err(Denied::CrossOrigin) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(method: &str, facts: Facts, headers: &[(&str, &str)]) -> Result<(), Denied> {
        let mut request = Request::builder().method(method).uri("/api/v1/pods");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        guard_cookie(facts, &parts, &Origins::new("https://k8s.example.com".to_owned()))
    }

    const PLAIN: Facts = Facts { shape: Shape::Plain, is_proxy: false, one_reading: true };

    /// An unsafe method needs proof of its origin; a proof from elsewhere is none.
    #[test]
    fn unsafe_methods_need_proof() {
        let same = [("origin", "https://k8s.example.com")];
        assert_eq!(judge("POST", PLAIN, &same), Ok(()));
        assert_eq!(judge("DELETE", PLAIN, &[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(judge("POST", PLAIN, &[]), Err(Denied::CrossOrigin));
        assert_eq!(judge("POST", PLAIN, &[("origin", "https://evil.example.com")]), Err(Denied::CrossOrigin));
        assert_eq!(judge("POST", PLAIN, &[("sec-fetch-site", "same-site")]), Err(Denied::CrossOrigin));
    }

    /// An upgrade needs proof too, although it is a GET.
    #[test]
    fn upgrades_need_proof() {
        let upgrade = Facts { shape: Shape::Upgrade, ..PLAIN };
        assert_eq!(judge("GET", upgrade, &[]), Err(Denied::CrossOrigin));
        assert_eq!(judge("GET", upgrade, &[("origin", "https://k8s.example.com")]), Ok(()));
    }

    /// Safe requests pass unless the browser says that another site's page sent them, and it is no navigation.
    #[test]
    fn safe_requests_of_other_sites_pass_only_as_navigation() {
        assert_eq!(judge("GET", PLAIN, &[]), Ok(()));
        for site in ["same-origin", "none"] {
            assert_eq!(judge("GET", PLAIN, &[("sec-fetch-site", site)]), Ok(()));
        }
        let navigation = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(judge("GET", PLAIN, &navigation), Ok(()));
        for headers in [
            [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ] {
            assert_eq!(judge("GET", PLAIN, &headers), Err(Denied::CrossOrigin));
        }
    }

    /// A cookie opens no proxy path and no path of two readings.
    #[test]
    fn cookies_open_no_pods_pages() {
        let same = [("sec-fetch-site", "same-origin")];
        assert_eq!(judge("GET", Facts { is_proxy: true, ..PLAIN }, &same), Err(Denied::ProxyByCookie));
        assert_eq!(judge("GET", Facts { one_reading: false, ..PLAIN }, &same), Err(Denied::AmbiguousPath));
    }
}
