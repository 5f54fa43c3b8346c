//! The head of a request to the API server, made as its user. Path and query stay byte for byte.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Uri, Version};

use crate::broker::Delegated;
use crate::http::forwarded::ForwardedHeaders;
use crate::http::headers::for_upstream;
use crate::route::Shape;
use crate::transport::TransportError;

/// The outgoing head of `inbound`, made as the user.
pub(super) fn as_user(
    inbound: &Parts,
    has_body: bool,
    delegated: &Delegated,
    forwarded_headers: &ForwardedHeaders,
) -> Result<Parts, TransportError> {
    let target = inbound.uri.path_and_query().filter(|target| target.as_str().starts_with('/'));
    let target = target.ok_or(TransportError::BadTarget)?;

    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = inbound.method.clone();
    head.uri = Uri::from(target.clone());
    head.version = Version::HTTP_11;
    let is_upgrade = delegated.facts().shape == Shape::Upgrade;
    head.headers = for_upstream(&inbound.headers, delegated.identity().is_cookie(), is_upgrade);
    if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
        // Said outright: of a GET without a length the client library would otherwise take the body for absent.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    forwarded_headers.set(&mut head.headers);
    head.headers.insert(AUTHORIZATION, delegated.authorization());
    Ok(head)
}
