//! Where a browser's request comes from, as the browser says it: `Origin` and fetch metadata. Pure.

use http::HeaderMap;
use http::header::ORIGIN;
use http::request::Parts;

/// The origins whose pages may act with a cookie.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    ours: String,
}

impl Origins {
    /// `ours` is the public URL's origin.
    #[must_use]
    pub(crate) fn new(ours: String) -> Self {
        Self { ours }
    }

    /// Whether the browser vouches that one of our own pages sent this request: needed to change anything.
    ///
    /// `Origin` decides where it says anything; `null` says nothing (a referrer policy can cause it).
    #[must_use]
    pub(crate) fn prove(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).into_iter();
        match (origins.next(), origins.next()) {
            (Some(_), Some(_)) => false,
            (Some(origin), None) if origin != "null" => origin.as_bytes() == self.ours.as_bytes(),
            _ => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
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
                header("sec-fetch-mode") == Some("navigate")
                    && matches!(header("sec-fetch-dest"), None | Some("document"))
            }
        }
    }
}
