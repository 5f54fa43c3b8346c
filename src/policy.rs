//! May this identity make this request through us? Pure: no I/O, no `async`. What the user may do in the cluster is
//! the API server's to say; here stand only the guards that a browser's cookie needs.

pub(crate) mod origin;

use std::sync::Arc;

use http::request::Parts;
use thiserror::Error;

use self::origin::Origins;
use crate::http::headers::is_upgrade;
use crate::identity::Identity;
use crate::route::{Facts, Shape};

/// Evidence that an identity may make one request. Made here only.
#[derive(Debug)]
pub(crate) struct Permit {
    /// Boxed, because each stage hands it on to the next one.
    permitted: Box<(Identity, Arc<Facts>)>,
}

/// Why a request was not permitted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A cookie, and no word of the browser that the request comes from a page which may make it.
    #[error("a cookie request that does not come from this origin")]
    CrossOrigin,
    /// A cookie on a path that a pod answers: its pages would speak under our origin.
    #[error("a cookie request to a proxy path")]
    ProxyByCookie,
    /// A cookie with a path that two readers would cut differently.
    #[error("a cookie request with an ambiguous path")]
    AmbiguousPath,
    /// A service worker that would be fetched from the cluster or a dashboard, and live on an origin of ours.
    #[error("a service worker from a Kubernetes path")]
    ServiceWorker,
}

impl Permit {
    /// Whose request it is.
    #[must_use]
    pub(crate) fn identity(&self) -> &Identity {
        &self.permitted.0
    }

    /// What the request's head says.
    #[must_use]
    pub(crate) fn facts(&self) -> &Facts {
        &self.permitted.1
    }
}

/// Decides about one Kubernetes request.
///
/// # Errors
/// Which guard refused it.
pub(crate) fn permit(
    identity: Identity,
    facts: Arc<Facts>,
    parts: &Parts,
    origins: &Origins,
) -> Result<Permit, Denied> {
    if is_service_worker(parts) {
        return Err(Denied::ServiceWorker);
    }
    if identity.is_cookie() {
        guard_cookie(&facts, parts, origins)?;
    }
    Ok(Permit { permitted: Box::new((identity, facts)) })
}

/// Evidence that the browser of a mount's cookie may make one request to its dashboard. Made here only.
#[derive(Debug)]
pub(crate) struct Passage {
    identity: Identity,
    is_upgrade: bool,
}

impl Passage {
    /// Whose request it is.
    #[must_use]
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it asks to leave HTTP.
    #[must_use]
    pub(crate) fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }
}

/// Decides about one request to a mounted dashboard, by a cookie of its host. `origins`: whose pages may send it.
///
/// A service worker is refused, for it would see the one-time code that hands a session over.
///
/// # Errors
/// Which guard refused it.
pub(crate) fn permit_passage(
    identity: Identity,
    parts: &Parts,
    origins: &Origins,
) -> Result<Passage, Denied> {
    if is_service_worker(parts) {
        return Err(Denied::ServiceWorker);
    }
    let is_upgrade = is_upgrade(parts.version, &parts.headers);
    let needs_proof = is_upgrade || !parts.method.is_safe();
    let passes = if needs_proof { origins.prove(&parts.headers) } else { origins.tolerate(parts) };
    if passes { Ok(Passage { identity, is_upgrade }) } else { Err(Denied::CrossOrigin) }
}

fn is_service_worker(parts: &Parts) -> bool {
    parts.headers.get("service-worker").is_some_and(|value| value == "script")
}

fn guard_cookie(facts: &Facts, parts: &Parts, origins: &Origins) -> Result<(), Denied> {
    if !facts.one_reading {
        return Err(Denied::AmbiguousPath);
    }
    if facts.pod_answers {
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

    fn origins() -> Origins {
        Origins::new("https://k8s.example.com", &["https://console.example.com".to_owned()])
    }

    fn judge_path(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(), Denied> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        guard_cookie(&Facts::of(&parts), &parts, &origins())
    }

    fn judge(method: &str, headers: &[(&str, &str)]) -> Result<(), Denied> {
        judge_path(method, "/api/v1/pods", headers)
    }

    /// An unsafe method needs proof of its origin; a proof from elsewhere is none.
    #[test]
    fn unsafe_methods_need_proof() {
        let same = [("origin", "https://k8s.example.com")];
        assert_eq!(judge("POST", &same), Ok(()));
        assert_eq!(judge("DELETE", &[("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(judge("PATCH", &[("origin", "https://console.example.com")]), Ok(()));
        assert_eq!(judge("POST", &[]), Err(Denied::CrossOrigin));
        assert_eq!(judge("POST", &[("origin", "https://evil.example.com")]), Err(Denied::CrossOrigin));
        assert_eq!(judge("POST", &[("sec-fetch-site", "same-site")]), Err(Denied::CrossOrigin));
    }

    /// An upgrade needs proof too, although it is a GET.
    #[test]
    fn upgrades_need_proof() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        assert_eq!(judge("GET", &upgrade), Err(Denied::CrossOrigin));
        let same = [upgrade[0], upgrade[1], ("origin", "https://k8s.example.com")];
        assert_eq!(judge("GET", &same), Ok(()));
        let configured = [upgrade[0], upgrade[1], ("origin", "https://console.example.com")];
        assert_eq!(judge("GET", &configured), Ok(()));
        let sibling = [upgrade[0], upgrade[1], ("origin", "https://evil.example.com")];
        assert_eq!(judge("GET", &sibling), Err(Denied::CrossOrigin));
    }

    /// Safe requests pass unless the browser says that another site's page sent them, and it is no navigation.
    #[test]
    fn safe_requests_of_other_sites_pass_only_as_navigation() {
        assert_eq!(judge("GET", &[]), Ok(()));
        for site in ["same-origin", "none"] {
            assert_eq!(judge("GET", &[("sec-fetch-site", site)]), Ok(()));
        }
        let navigation = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(judge("GET", &navigation), Ok(()));
        for headers in [
            [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        ] {
            assert_eq!(judge("GET", &headers), Err(Denied::CrossOrigin));
        }
    }

    /// A page of a configured origin may read, too; a guard for what pods answer holds for it as for our own pages.
    #[test]
    fn configured_origins_are_guarded_like_our_own_pages() {
        let from = [("origin", "https://console.example.com"), ("sec-fetch-site", "same-site")];
        assert_eq!(judge("GET", &from), Ok(()));
        assert_eq!(
            judge_path("GET", "/api/v1/namespaces/a/pods/web/proxy/", &from),
            Err(Denied::ProxyByCookie)
        );
        assert_eq!(judge_path("GET", "/api/v1//pods", &from), Err(Denied::AmbiguousPath));
    }

    /// A cookie opens no proxy path and no path of two readings.
    #[test]
    fn cookies_open_no_pods_pages() {
        let same = [("sec-fetch-site", "same-origin")];
        let pod = "/api/v1/namespaces/a/services/web/proxy/";
        assert_eq!(judge_path("GET", pod, &same), Err(Denied::ProxyByCookie));
        assert_eq!(judge_path("GET", "/api/v1//pods", &same), Err(Denied::AmbiguousPath));
    }
}
