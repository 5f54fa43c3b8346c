//! The browser brings the answer to a port of this computer (RFC 8252): one code, for the one request that we made.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Failure;
use crate::secret::{AttemptSecret, AuthorizationCode, Digest, random_base62};

/// One browser needs two or three; others on this computer may try, too.
const MOST_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEAD_BYTES: usize = 16 * 1024;
const LONGEST_CODE: usize = 2_048;
/// For the last page to reach the browser.
const LAST_PAGE: Duration = Duration::from_secs(2);

/// The secrets of one request, and what may be known of it.
pub(super) struct Attempt {
    pub(super) state: AttemptSecret,
    pub(super) verifier: AttemptSecret,
    pub(super) challenge: String,
}

/// What the browser brought.
pub(super) enum Brought {
    Code(AuthorizationCode),
    /// The person said no.
    Denied,
    /// The server's error.
    Error(String),
}

/// One visit of a browser with our own state. It waits for what it shall show.
pub(super) struct Visit {
    pub(super) brought: Brought,
    page: oneshot::Sender<Page>,
}

#[derive(Clone, Copy)]
pub(super) enum Page {
    SignedIn,
    Refused,
    Failed,
    NotOurs,
}

/// An open port that waits for the browser.
pub(super) struct Loopback {
    pub(super) redirect_uri: String,
    visits: mpsc::Receiver<Visit>,
    connections: TaskTracker,
    accepting: tokio::task::JoinHandle<()>,
}

impl Attempt {
    pub(super) fn new() -> Self {
        let verifier = random_base62(64);
        let challenge = URL_SAFE_NO_PAD.encode(Digest::of(&verifier).as_bytes());
        Self {
            state: AttemptSecret::new(random_base62(43)),
            verifier: AttemptSecret::new(verifier),
            challenge,
        }
    }

    /// What the terminal and the server's page both show, so that a person sees that they belong together.
    pub(super) fn number(&self) -> String {
        number(&self.challenge)
    }
}

fn number(challenge: &str) -> String {
    let digest = Digest::of(&format!("entrada number:{challenge}"));
    let first = digest.as_bytes().iter().take(4).fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
    format!("{:04}", first % 10_000)
}

impl Visit {
    pub(super) fn show(self, page: Page) -> Brought {
        let _gone = self.page.send(page);
        self.brought
    }
}

impl Loopback {
    /// Opens a random port on this computer alone.
    pub(super) async fn open(state: AttemptSecret) -> Result<Self, Failure> {
        let closed = |error: std::io::Error| Failure::failed(format!("No port can be opened here: {error}."));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(closed)?;
        let port = listener.local_addr().map_err(closed)?.port();
        let (sender, visits) = mpsc::channel(1);
        let connections = TaskTracker::new();
        let accepting = tokio::spawn(accept(listener, Arc::new(state), sender, connections.clone()));
        let redirect_uri = format!("http://127.0.0.1:{port}/callback");
        Ok(Self { redirect_uri, visits, connections, accepting })
    }

    /// The next visit with our state. All others have been sent away.
    pub(super) async fn visit(&mut self) -> Option<Visit> {
        self.visits.recv().await
    }

    /// Closes the port once the browser has its page.
    pub(super) async fn close(self) {
        self.accepting.abort();
        drop(self.visits);
        self.connections.close();

        let _gone = tokio::time::timeout(LAST_PAGE, self.connections.wait()).await;
    }
}

async fn accept(
    listener: TcpListener,
    state: Arc<AttemptSecret>,
    visits: mpsc::Sender<Visit>,
    connections: TaskTracker,
) {
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (state, visits) = (Arc::clone(&state), visits.clone());
        let service = service_fn(move |request| {
            let (state, visits) = (Arc::clone(&state), visits.clone());
            async move { Ok::<_, std::convert::Infallible>(answer(&request, &state, &visits).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
        let connection = builder.keep_alive(false).serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            let _broken = connection.await;
            drop(seat);
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    state: &AttemptSecret,
    visits: &mpsc::Sender<Visit>,
) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let brought = (request.method() == Method::GET && request.uri().path() == "/callback")
        .then(|| brought(query, state))
        .flatten();
    let Some(brought) = brought else { return respond(Page::NotOurs) };
    let (page, shown) = oneshot::channel();
    if visits.send(Visit { brought, page }).await.is_err() {
        return respond(Page::NotOurs);
    }
    respond(shown.await.unwrap_or(Page::Failed))
}

/// Nothing without our state: whoever else on this computer finds the port does not know it.
fn brought(query: &str, state: &AttemptSecret) -> Option<Brought> {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
    let one = |name: &str| {
        let mut values = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    };
    if !bool::from(one("state")?.as_bytes().ct_eq(state.expose().as_bytes())) {
        return None;
    }
    match (one("code"), one("error")) {
        (Some(code), None) if code.len() <= LONGEST_CODE => Some(Brought::Code(AuthorizationCode::new(code))),
        (None, Some("access_denied")) => Some(Brought::Denied),
        (None, Some(error)) => {
            let said = one("error_description").unwrap_or(error);
            Some(Brought::Error(super::talk::plain(said, 300)))
        }
        _ => None,
    }
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;\
    max-width:32rem;margin:20vh auto;padding:0 1rem}";

fn respond(page: Page) -> Response<Full<Bytes>> {
    let (status, title, text) = match page {
        Page::SignedIn => {
            (StatusCode::OK, "Signed in", "You can close this tab and go back to your terminal.")
        }
        Page::Refused => {
            (StatusCode::OK, "Refused", "You can close this tab. Your computer was given nothing.")
        }
        Page::Failed => {
            (StatusCode::OK, "That did not work", "You can close this tab. Your terminal says why.")
        }
        Page::NotOurs => {
            (StatusCode::NOT_FOUND, "Not found", "This belongs to no sign-in that is under way here.")
        }
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} – Entrada</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1><p>{text}</p></main></body></html>\n",
    );
    let style = STANDARD.encode(Digest::of(STYLE).as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // The address has the code in it.
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert("content-security-policy", policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_with_our_state_is_taken() {
        // Proves that a wrong, missing or doubled state brings nothing, and that code and error exclude each other.
        let state = AttemptSecret::new("abc");
        let takes = |query: &str| brought(query, &state).is_some();
        assert!(takes("state=abc&code=1"));
        assert!(takes("error=access_denied&state=abc"));
        for bad in ["", "code=1", "state=abd&code=1", "state=abc", "state=abc&state=abc&code=1"] {
            assert!(!takes(bad), "{bad}");
        }
        assert!(!takes("state=abc&code=1&error=x") && !takes("state=abc&code=1&code=2"));
        assert!(!takes(&format!("state=abc&code={}", "x".repeat(LONGEST_CODE + 1))));
    }

    #[test]
    fn the_number_is_what_the_protocol_says() {
        // Proves against the challenge of RFC 7636 appendix B, with the number computed by another program.
        assert_eq!(number("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"), "6924");
        let attempt = Attempt::new();
        assert_eq!((attempt.challenge.len(), attempt.number().len()), (43, 4));
        assert_eq!((attempt.state.expose().len(), attempt.verifier.expose().len()), (43, 64));
    }
}
