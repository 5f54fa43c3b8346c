//! Where a browser's request comes from, as the browser says it: `Origin` and fetch metadata. Pure.

use std::sync::Arc;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

/// The origins whose pages may act with a cookie of one host: its own, and those configured for it.
///
/// Each host has its own rules. A dashboard's has no configured ones, so that no other host can act on it; and as its
/// origin is configured for no other host, its pages can act on no other one, however near a sibling it is.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    own: HeaderValue,
    configured: Arc<[HeaderValue]>,
}

impl Origins {
    /// Of the host whose pages have the origin `own`. Of others, pages of the `configured` origins may act there.
    /// Both are written as browsers write them in `Origin`.
    #[must_use]
    pub(crate) fn new(own: &str, configured: &[String]) -> Self {
        // What cannot be a header's value cannot be sent as one: `null` never counts.
        let value = |origin: &str| HeaderValue::from_str(origin).unwrap_or(HeaderValue::from_static("null"));
        Self { own: value(own), configured: configured.iter().map(|origin| value(origin)).collect() }
    }

    /// The same host's rules for what only its own pages may do.
    #[must_use]
    pub(crate) fn own(&self) -> Self {
        Self { own: self.own.clone(), configured: Arc::default() }
    }

    /// Whether pages of other origins may act here at all.
    #[must_use]
    pub(crate) fn has_configured(&self) -> bool {
        !self.configured.is_empty()
    }

    /// The request's `Origin`, where that is a configured one.
    #[must_use]
    pub(crate) fn configured<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let Stated::One(origin) = Stated::of(headers) else { return None };
        self.configured.contains(origin).then_some(origin)
    }

    /// Whether the browser vouches that a page of this host, or of a configured origin, sent this request: needed to
    /// change anything.
    ///
    /// `Origin` decides where it says anything; `null` says nothing (a referrer policy can cause it).
    #[must_use]
    pub(crate) fn prove(&self, headers: &HeaderMap) -> bool {
        match Stated::of(headers) {
            Stated::One(origin) => *origin == self.own || self.configured.contains(origin),
            Stated::Nothing => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
            Stated::Several => false,
        }
    }

    /// Whether a request that changes nothing may pass. A sibling host is the same site, and `SameSite=Lax` lets its
    /// images and scripts send the cookie along; only a top-level navigation may come from there.
    #[must_use]
    pub(crate) fn tolerate(&self, parts: &Parts) -> bool {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        match header("sec-fetch-site") {
            None | Some("same-origin" | "none") => true,
            Some(_) => {
                let navigates = header("sec-fetch-mode") == Some("navigate")
                    && matches!(header("sec-fetch-dest"), None | Some("document"));
                navigates || self.configured(&parts.headers).is_some()
            }
        }
    }
}

/// What `Origin` says.
enum Stated<'a> {
    Nothing,
    One(&'a HeaderValue),
    /// No browser sends that.
    Several,
}

impl<'a> Stated<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut origins = headers.get_all(ORIGIN).into_iter();
        match (origins.next(), origins.next()) {
            (Some(_), Some(_)) => Self::Several,
            (Some(origin), None) if origin != "null" => Self::One(origin),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const PORTAL: &str = "https://k8s.example.com";
    const HEADLAMP: &str = "https://headlamp.example.com";
    const GRAFANA: &str = "https://grafana.example.com";
    const CONSOLE: &str = "https://console.example.com";

    /// The portal, for which the console is configured, and two dashboards.
    fn hosts() -> [Origins; 3] {
        let console = [CONSOLE.to_owned()];
        [Origins::new(PORTAL, &console), Origins::new(HEADLAMP, &[]), Origins::new(GRAFANA, &[])]
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Whether the three hosts let such a request change something, and read something.
    fn judged(headers: &[(&str, &str)]) -> [(bool, bool); 3] {
        let parts = parts(headers);
        hosts().map(|host| (host.prove(&parts.headers), host.tolerate(&parts)))
    }

    /// Every host accepts its own pages; the portal the console's beside them, and nobody accepts anyone else's.
    #[test]
    fn no_host_accepts_another_ones_pages() {
        const NO: (bool, bool) = (false, false);
        const YES: (bool, bool) = (true, true);
        let from = |origin: &str| judged(&[("origin", origin), ("sec-fetch-site", "same-site")]);
        // A browser says `same-origin` to the own host, and so it reads by that.
        assert_eq!(from(PORTAL), [(true, false), NO, NO]);
        assert_eq!(from(HEADLAMP), [NO, (true, false), NO]);
        assert_eq!(from(GRAFANA), [NO, NO, (true, false)]);
        assert_eq!(from(CONSOLE), [YES, NO, NO]);
        for near in [
            "https://evil.example.com",
            "https://console.example.com.evil.com",
            "https://console.example.com:8443",
            "http://console.example.com",
            "https://CONSOLE.example.com",
            "https://console.example.com/",
            "null",
            "",
        ] {
            assert_eq!(from(near), [NO; 3], "{near}");
        }
    }

    /// Where `Origin` says nothing, the browser's word on the site decides; where it says two things, nothing does.
    #[test]
    fn without_an_origin_only_same_origin_proves() {
        for headers in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        ] {
            assert_eq!(judged(headers), [(true, true); 3]);
        }
        let [portal, ..] =
            judged(&[("origin", PORTAL), ("origin", CONSOLE), ("sec-fetch-site", "same-origin")]);
        assert_eq!(portal, (false, true));
        let [portal, ..] =
            judged(&[("origin", CONSOLE), ("origin", CONSOLE), ("sec-fetch-site", "same-site")]);
        assert_eq!(portal, (false, false));
        assert_eq!(judged(&[]), [(false, true); 3]);
    }

    /// What only a host's own pages may do, no configured origin may.
    #[test]
    fn the_own_rules_know_no_configured_origin() {
        let [portal, ..] = hosts();
        let console = parts(&[("origin", CONSOLE), ("sec-fetch-site", "same-site")]);
        assert_eq!(portal.configured(&console.headers).unwrap(), CONSOLE);
        let own = portal.own();
        assert!(portal.has_configured() && !own.has_configured());
        assert_eq!(own.configured(&console.headers), None);
        assert!(!own.prove(&console.headers) && !own.tolerate(&console));
        assert!(own.prove(&parts(&[("origin", PORTAL)]).headers));
    }
}
