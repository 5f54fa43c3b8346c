//! What a request of the browser brought.

use anyhow::Context as _;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use url::Url;

/// An answer, and the address that gave it.
#[derive(Clone, Debug)]
pub struct Page {
    /// The address that answered, without fragment.
    pub url: Url,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
    /// Every address of the navigation, the first to the last; of a plain request just that one.
    pub hops: Vec<Url>,
}

impl Page {
    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// A header's value, empty where it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The target of a redirect, made absolute, fragment included.
    #[must_use]
    pub fn location(&self) -> Option<Url> {
        let target = self.headers.get(LOCATION)?.to_str().ok()?;
        self.url.join(target).ok()
    }
}
