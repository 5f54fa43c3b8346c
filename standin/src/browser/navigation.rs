//! A navigation: the headers that a browser gives it, and how redirects change it.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

/// Where a navigation stands.
pub(crate) struct Navigation {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) fields: Vec<(String, String)>,
    /// `Sec-Fetch-Site`: `none` for a typed address.
    pub(crate) site: &'static str,
    /// The origin of the page whose form is sent.
    pub(crate) origin: Option<String>,
}

impl Navigation {
    pub(crate) fn request(&self) -> anyhow::Result<(HeaderMap, Bytes)> {
        let mut headers = HeaderMap::new();
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert("upgrade-insecure-requests", HeaderValue::from_static("1"));
        headers.insert("sec-fetch-site", HeaderValue::from_static(self.site));
        headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        headers.insert("sec-fetch-dest", HeaderValue::from_static("document"));
        headers.insert("sec-fetch-user", HeaderValue::from_static("?1"));
        if self.method != Method::POST {
            return Ok((headers, Bytes::new()));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(origin) = &self.origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin)?);
        }
        Ok((headers, serde_urlencoded::to_string(&self.fields)?.into()))
    }

    /// Goes on to `next`. A typed address stays `none` through all redirects; a form's navigation becomes
    /// `cross-site` at the first foreign hop and stays so.
    pub(crate) fn redirect(&mut self, status: StatusCode, next: Url) {
        let keeps_method = matches!(status.as_u16(), 307 | 308);
        let foreign = next.origin() != self.url.origin();
        if self.site != "none" && foreign {
            self.site = "cross-site";
            self.origin = self.origin.take().map(|_| "null".to_owned());
        }
        if !keeps_method {
            self.method = Method::GET;
            self.fields.clear();
        }
        self.url = next;
    }
}
