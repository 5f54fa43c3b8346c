//! The head of a request to a dashboard. Path and query stay byte for byte.

use http::header::{HOST, HeaderValue};
use http::request::Parts;

use crate::config::PublicUrl;
use crate::http::headers::for_upstream;
use crate::transport::{TransportError, outgoing_head};

/// The outgoing head of `inbound`, without a credential. `Host` is what the browser sees: dashboards compare a WebSocket's
/// `Origin` with it, and make links from it.
pub(super) fn for_dashboard(
    inbound: &Parts,
    is_upgrade: bool,
    url: &PublicUrl,
) -> Result<Parts, TransportError> {
    let mut head = outgoing_head(inbound, for_upstream(&inbound.headers, false, is_upgrade))?;
    let host = url.origin().trim_start_matches("https://");
    head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| TransportError::BadTarget)?);
    Ok(head)
}
