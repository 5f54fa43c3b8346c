//! The task that sends spans to the collector, in batches: OTLP over HTTP.
//!
//! Nobody waits for it. While the collector is slow or down, the queue before it fills and further spans are dropped
//! there; the log says once that it is down, and once that it is back.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::otlp;
use crate::clock::pause;
use crate::config::TraceConfig;
use crate::metrics::Metrics;
use crate::secret::random_guid;
use crate::tls::{self, CallClient, Schemes};

/// As in OpenTelemetry's own libraries.
const MAX_BATCH: usize = 512;
/// How long a batch waits for more spans after its first.
const DELAY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one batch is tried, where the protocol says that trying again may help.
const TRIES: usize = 5;
/// Between the first two tries; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An answer says hardly anything. It is read so that the connection can be used again.
const MAX_REPLY_BYTES: usize = 64 * 1024;

type Spans = mpsc::Receiver<Box<[u8]>>;

pub(super) struct Exporter {
    client: CallClient,
    endpoint: Uri,
    headers: HeaderMap,
    timeout: Duration,
    resource: Vec<u8>,
    exported: IntCounter,
    failed: IntCounter,
    closing: CancellationToken,
    /// Spans lost since the collector was last heard; `None` while it takes them.
    lost_since_down: Option<usize>,
}

/// Why a batch was not taken.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    why: String,
    /// Trying again may help.
    is_passing: bool,
    retry_after: Option<Duration>,
}

impl Exporter {
    /// Its spans end when `closing` is cancelled.
    pub(super) fn new(
        config: &TraceConfig,
        metrics: &Metrics,
        closing: CancellationToken,
    ) -> anyhow::Result<Self> {
        let pem = config.ca_file.as_ref().map(std::fs::read).transpose();
        let pem = pem.context("OTEL_EXPORTER_OTLP_CERTIFICATE")?;
        let roots = tls::roots_or_public(pem.as_deref()).context("OTEL_EXPORTER_OTLP_CERTIFICATE")?;
        let client = tls::call_client(roots, Schemes::HttpsAndHttp, CONNECT_TIMEOUT)?;
        let mut headers = config.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let count = |outcome| metrics.spans.with_label_values(&[outcome]);
        Ok(Self {
            client,
            endpoint: config.endpoint.clone(),
            headers,
            timeout: config.timeout,
            resource: resource(&config.resource),
            exported: count("exported"),
            failed: count("failed"),
            closing,
            lost_since_down: None,
        })
    }

    /// Sends what comes, until it is closed; then what has come by then.
    pub(super) async fn run(mut self, mut spans: Spans) {
        let closing = self.closing.clone();
        let mut batch = Vec::new();
        // None come any more when nobody is left who makes them.
        while let Some(1..) = closing.run_until_cancelled(spans.recv_many(&mut batch, MAX_BATCH)).await {
            let more = tokio::time::timeout(DELAY, fill(&mut batch, &mut spans));
            closing.run_until_cancelled(more).await;
            self.deliver(&mut batch).await;
        }
        while let Ok(span) = spans.try_recv() {
            batch.push(span);
            if batch.len() == MAX_BATCH {
                self.deliver(&mut batch).await;
            }
        }
        if !batch.is_empty() {
            self.deliver(&mut batch).await;
        }
    }

    /// Sends a batch, more than once if need be, and empties it.
    async fn deliver(&mut self, batch: &mut Vec<Box<[u8]>>) {
        let body = Bytes::from(otlp::request(&self.resource, batch));
        let count = batch.len();
        batch.clear();
        let mut wait = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let refused = match self.send(body.clone()).await {
                Ok(()) => {
                    self.exported.inc_by(count as u64);
                    return self.is_up();
                }
                Err(refused) => refused,
            };
            self.is_down(&refused);
            if !refused.is_passing || attempt == TRIES || self.closing.is_cancelled() {
                break;
            }
            let asked = refused.retry_after.unwrap_or(wait).min(LONGEST_PAUSE);
            // One last try when it is closed.
            self.closing.run_until_cancelled(pause(asked)).await;
            wait *= 2;
        }
        self.failed.inc_by(count as u64);
        if let Some(lost) = &mut self.lost_since_down {
            *lost += count;
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), Refused> {
        let passing = |why: String| Refused { why, is_passing: true, retry_after: None };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| passing(format!("{:#}", anyhow::Error::from(error))))?;
            let (head, body) = response.into_parts();
            let _reply = Limited::new(body, MAX_REPLY_BYTES).collect().await;
            judge(head.status, &head.headers)
        };
        let answered = tokio::time::timeout(self.timeout, exchange).await;
        answered.unwrap_or_else(|_| Err(passing(format!("no answer within {:?}", self.timeout))))
    }

    fn is_down(&mut self, refused: &Refused) {
        if self.lost_since_down.is_none() {
            self.lost_since_down = Some(0);
            let (endpoint, why) = (&self.endpoint, &refused.why);
            tracing::warn!(%endpoint, why, "the collector takes no spans");
        }
    }

    fn is_up(&mut self) {
        if let Some(lost) = self.lost_since_down.take() {
            tracing::info!(endpoint = %self.endpoint, lost, "the collector takes spans again");
        }
    }
}

/// Adds spans until the batch is full.
async fn fill(batch: &mut Vec<Box<[u8]>>, spans: &mut Spans) {
    while batch.len() < MAX_BATCH {
        if spans.recv_many(batch, MAX_BATCH - batch.len()).await == 0 {
            return;
        }
    }
}

/// What an answer means. Source: "OTLP/HTTP Response" of the OTLP specification.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Refused> {
    if status.is_success() {
        return Ok(());
    }
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Err(Refused {
        why: format!("it answered {status}"),
        is_passing: matches!(status.as_u16(), 429 | 502 | 503 | 504),
        retry_after: retry_after.map(Duration::from_secs),
    })
}

/// What is said of this process; what is configured wins.
fn resource(configured: &[(String, String)]) -> Vec<u8> {
    let instance = random_guid();
    let own = [
        ("service.version", env!("CARGO_PKG_VERSION")),
        // Another one after each start, as the conventions recommend where nothing better is known.
        ("service.instance.id", &instance),
        ("telemetry.sdk.name", "entrada"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let configured = configured.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let is_ours = |(key, _): &(&str, &str)| !configured.clone().any(|(other, _)| other == *key);
    otlp::resource(own.into_iter().filter(is_ours).chain(configured.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only what the protocol calls passing is tried again, after the time that was asked for.
    #[test]
    fn only_what_may_pass_is_tried_again() {
        let judged = |status: u16, after: Option<&'static str>| {
            let after = after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after)));
            judge(StatusCode::from_u16(status).unwrap(), &after.into_iter().collect())
        };
        assert_eq!(judged(200, None), Ok(()));
        for (status, is_passing) in
            [(302, false), (400, false), (401, false), (404, false), (500, false), (503, true), (429, true)]
        {
            assert_eq!(judged(status, None).unwrap_err().is_passing, is_passing, "{status}");
        }
        let after = |text| judged(503, Some(text)).unwrap_err().retry_after;
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
