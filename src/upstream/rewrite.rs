//! The head of the outgoing request. Path and query stay byte for byte.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Uri, Version};

use super::UpstreamError;
use crate::broker::Delegated;
use crate::http::forwarded::Via;
use crate::http::headers::clean_request;

pub(super) fn head(
    inbound: &Parts,
    authority: &Authority,
    delegated: &Delegated,
    via: &Via,
) -> Result<Parts, UpstreamError> {
    let target = inbound.uri.path_and_query().filter(|target| target.as_str().starts_with('/'));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(authority.clone());
    uri.path_and_query = Some(target.ok_or(UpstreamError::BadTarget)?.clone());
    let uri = Uri::from_parts(uri).map_err(|_| UpstreamError::BadTarget)?;

    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = inbound.method.clone();
    head.uri = uri;
    head.version = Version::HTTP_11;
    head.headers = inbound.headers.clone();
    clean_request(&mut head.headers, delegated.identity().is_cookie());
    via.set(&mut head.headers);
    head.headers.insert(AUTHORIZATION, delegated.authorization());
    Ok(head)
}
