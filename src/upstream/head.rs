//! The head of a request to the API server, made as its user. Path and query stay byte for byte.

use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::broker::Delegated;
use crate::http::forwarded::ForwardedHeaders;
use crate::http::headers::for_upstream;
use crate::route::Shape;
use crate::transport::{TransportError, outgoing_head};

/// The outgoing head of `inbound`, made as the user.
pub(super) fn as_user(
    inbound: &Parts,
    delegated: &Delegated,
    forwarded_headers: &ForwardedHeaders,
) -> Result<Parts, TransportError> {
    let is_upgrade = delegated.facts().shape == Shape::Upgrade;
    let headers = for_upstream(&inbound.headers, delegated.identity().is_cookie(), is_upgrade);
    let mut head = outgoing_head(inbound, headers)?;
    forwarded_headers.set(&mut head.headers);
    head.headers.insert(AUTHORIZATION, delegated.authorization());
    Ok(head)
}
