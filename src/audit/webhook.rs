//! Events to a web server, in batches, one at a time.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::runtime::Runtime;

use super::writer::{Sink, TooLarge};
use crate::config::AuditWebhook;
use crate::outbox::Gathering;
use crate::secret::random_share;
use crate::tls::{self, CallClient, Schemes};

/// One batch, from connecting to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As the API server's own webhook backend has it.
const MOST_EVENTS: u64 = 400;
const MOST_BYTES: usize = 4 * 1024 * 1024;
const GATHERING: Duration = Duration::from_secs(1);
/// After the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of an answer, which says nothing that is needed.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A web server that takes an `audit.k8s.io/v1` EventList.
pub(super) struct WebhookSink {
    settings: AuditWebhook,
    /// Of this thread: a slow server costs no worker anything.
    runtime: Runtime,
    client: CallClient,
    /// What the client trusts, as the file held it.
    ca: Option<Vec<u8>>,
}

impl WebhookSink {
    /// # Errors
    /// When the CA file cannot be read, or a client cannot be built.
    pub(super) fn new(settings: AuditWebhook) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ca = read_ca(settings.ca_file.as_deref())?;
        let client = client(ca.as_deref())?;
        Ok(Self { settings, runtime, client, ca })
    }

    fn request(&self, events: &[u8]) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.settings.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("entrada/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.settings.token_file {
            let token = std::fs::read_to_string(path).context("ENTRADA_AUDIT_TOKEN_FILE")?;
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut bearer = bearer.ok().context("ENTRADA_AUDIT_TOKEN_FILE holds no token")?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        Ok(request.body(Full::new(list(events)))?)
    }
}

impl Sink for WebhookSink {
    fn gathering(&self) -> Gathering {
        Gathering { time: GATHERING, lines: MOST_EVENTS }
    }

    fn portion(&self) -> (usize, u64) {
        (MOST_BYTES, MOST_EVENTS)
    }

    fn write(&mut self, events: &[u8]) -> anyhow::Result<()> {
        let ca = read_ca(self.settings.ca_file.as_deref())?;
        if ca != self.ca {
            self.client = client(ca.as_deref())?;
            self.ca = ca;
        }
        let request = self.request(events)?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            // Read, so that the connection can be used again.
            let _what_it_says = Limited::new(response.into_body(), MAX_REPLY_BYTES).collect().await;
            anyhow::ensure!(status != StatusCode::PAYLOAD_TOO_LARGE, TooLarge);
            anyhow::ensure!(status.is_success(), "the webhook answered {status}");
            Ok(())
        };
        let reply = self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, exchange).await });
        reply.with_context(|| format!("no answer of the webhook within {} s", TIMEOUT.as_secs()))?
    }

    fn pause(&self, failures: u32) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        // So that replicas do not all come back at once.
        pause.mul_f64(0.5 + random_share() / 2.0)
    }
}

/// The events, each a line, as an EventList.
fn list(events: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(events.len() + 100);
    body.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (at, line) in events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(line);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn read_ca(path: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    path.map(std::fs::read).transpose().context("ENTRADA_AUDIT_CA_FILE")
}

/// Trusts the given authorities, or the public ones.
fn client(ca: Option<&[u8]>) -> anyhow::Result<CallClient> {
    let roots = tls::roots_or_public(ca).context("ENTRADA_AUDIT_CA_FILE")?;
    tls::call_client(roots, Schemes::Https, CONNECT_TIMEOUT)
}

#[cfg(test)]
mod tests;
