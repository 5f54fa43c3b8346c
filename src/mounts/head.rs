//! The head of a request to a dashboard. Path and query stay byte for byte.

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Uri, Version};

use crate::config::PublicUrl;
use crate::http::headers::for_upstream;
use crate::transport::TransportError;

/// The outgoing head of `inbound`, without a credential. `Host` is what the browser sees: dashboards compare a WebSocket's
/// `Origin` with it, and make links from it.
pub(super) fn for_dashboard(
    inbound: &Parts,
    has_body: bool,
    is_upgrade: bool,
    url: &PublicUrl,
) -> Result<Parts, TransportError> {
    let target = inbound.uri.path_and_query().filter(|target| target.as_str().starts_with('/'));
    let target = target.ok_or(TransportError::BadTarget)?;

    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = inbound.method.clone();
    head.uri = Uri::from(target.clone());
    head.version = Version::HTTP_11;
    head.headers = for_upstream(&inbound.headers, false, is_upgrade);
    if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let host = url.origin().trim_start_matches("https://");
    head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| TransportError::BadTarget)?);
    Ok(head)
}
