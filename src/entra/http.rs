//! Plain calls to the authority: TLS, no redirects, bounded in time and size; status and `Retry-After` are kept.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use prometheus::IntGauge;
use rustls::CertificateError;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::redemptions::Counted;
use crate::tls::{self, CallClient, Schemes};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at once, each on a connection of its own: within the reserve that the bounds on connections leave of the file limit
/// (`budget`). A crowd whose tokens have expired is served at several hundred calls a second.
const CALLS_AT_ONCE: usize = 128;
/// Keys and discovery are about 20 KB, a token answer with hundreds of groups about 10 KB.
const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Why a call brought no answer.
#[derive(Clone, Debug, Error)]
pub(crate) enum CallError {
    /// Nothing came back in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection could not be made, or broke.
    #[error("connection failed: {0}")]
    Connection(String),
    /// Whoever answered is not who was meant, as its certificate says.
    #[error("its certificate is not accepted: {0}")]
    Certificate(CertificateError),
    /// The answer's body broke or was larger than 1 MiB.
    #[error("answer could not be read: {0}")]
    Body(String),
    /// The answer was not what the protocol says: its status is given.
    #[error("unexpected answer with status {0}")]
    Unexpected(StatusCode),
}

/// An answer, whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// A header, where it is text.
    pub(super) fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After` in seconds, where it was a number.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.header(RETRY_AFTER)?.trim().parse().ok()?))
    }

    /// What time it was for whoever answered, in whole seconds.
    pub(super) fn date(&self) -> Option<Timestamp> {
        DateTimeParser::new().parse_timestamp(self.header(DATE)?).ok()
    }
}

#[derive(Debug)]
pub(super) struct Http {
    client: CallClient,
    timeout: Duration,
    seats: Semaphore,
    waiting: IntGauge,
}

impl Http {
    /// `timeout`: for one call, from the wait for a connection to the last byte. `waiting`: how many wait for theirs.
    pub(super) fn new(extra_ca: Option<&Path>, timeout: Duration, waiting: IntGauge) -> anyhow::Result<Self> {
        let mut roots = tls::public_roots();
        if let Some(path) = extra_ca {
            let pem = std::fs::read(path).context("ENTRADA_ENTRA_CA_FILE")?;
            tls::add_roots(&mut roots, &pem).context("ENTRADA_ENTRA_CA_FILE")?;
        }
        let client = tls::call_client(roots, Schemes::Https, CONNECT_TIMEOUT)?;
        Ok(Self { client, timeout, seats: Semaphore::new(CALLS_AT_ONCE), waiting })
    }

    pub(super) async fn get(&self, url: &str) -> Result<Reply, CallError> {
        let request = Request::builder().method(Method::GET).uri(url).header(ACCEPT, "application/json");
        self.call(request, Bytes::new(), true).await
    }

    /// Posts a form. `correlation_id` comes back in Entra's logs and errors. `may_repeat`: it is sent once more where the
    /// connection was closed before an answer, as a server may do with an idle one just as it is used again.
    pub(super) async fn post_form(
        &self,
        url: &str,
        form: String,
        correlation_id: &str,
        may_repeat: bool,
    ) -> Result<Reply, CallError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("client-request-id", correlation_id)
            .header("return-client-request-id", "true")
            .header("x-client-sku", "entrada")
            .header("x-client-ver", env!("CARGO_PKG_VERSION"))
            // Asks Entra to say 429 with Retry-After where it would otherwise say `invalid_grant`.
            .header("x-ms-lib-capability", "retry-after, h429");
        self.call(request, Bytes::from(form), may_repeat).await
    }

    async fn call(
        &self,
        request: http::request::Builder,
        body: Bytes,
        may_repeat: bool,
    ) -> Result<Reply, CallError> {
        let request =
            request.body(Full::new(body)).map_err(|error| CallError::Connection(error.to_string()))?;
        let exchange = async {
            let waiting = Counted::new(&self.waiting);
            let _seat =
                self.seats.acquire().await.map_err(|error| CallError::Connection(error.to_string()))?;
            drop(waiting);
            let again = may_repeat.then(|| request.clone());
            let mut response = self.client.request(request).await;
            if let (Err(error), Some(again)) = (&response, again)
                && !error.is_connect()
            {
                response = self.client.request(again).await;
            }
            let response = response.map_err(|error| {
                tls::refused_certificate(&error)
                    .map_or_else(|| CallError::Connection(tls::chain(&error)), CallError::Certificate)
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await;
            let body = body.map_err(|error| CallError::Body(tls::chain(&*error)))?.to_bytes();
            Ok(Reply { status: head.status, headers: head.headers, body })
        };
        let reply = tokio::time::timeout(self.timeout, exchange).await;
        reply.unwrap_or(Err(CallError::Timeout(self.timeout)))
    }
}
