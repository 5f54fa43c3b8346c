//! What the server was sent, head by head.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

use super::audit::Audited;
use crate::serve::{Body, Peer};

/// The head of one request as it came, and what became of it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Method.
    pub method: Method,
    /// Path and query, byte for byte.
    pub target: String,
    /// HTTP version.
    pub version: Version,
    /// Every header in order (names in lower case: HTTP does not tell them apart by case).
    pub headers: Vec<(String, Bytes)>,
    /// Where the connection came from.
    pub remote: SocketAddr,
    /// Whose token it bore; nothing where none was accepted.
    pub user: Option<String>,
    /// Whom it acted as: differs from `user` under impersonation.
    pub acted_as: Option<String>,
    /// The status it was answered with; nothing while it waits, or where the connection was broken instead.
    pub status: Option<u16>,
    /// True until the answer's body, or the tunnel, has ended here, by whichever side.
    pub is_open: bool,
    /// Bytes that came through the tunnel; counted at `/standin/upgrade` only.
    pub heard_bytes: usize,
}

impl Recorded {
    /// The first value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value)?;
        std::str::from_utf8(value).ok()
    }

    /// Every value of a header.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        let own = self.headers.iter().filter(|(own, _)| own == name);
        own.filter_map(|(_, value)| std::str::from_utf8(value).ok()).collect()
    }
}

/// How many requests are remembered; older ones are forgotten, so that a long demo does not fill the memory.
const REMEMBERED: usize = 50_000;

/// The recorded heads, in the order of their arrival.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<watch::Sender<Remembered>>);

#[derive(Default)]
struct Remembered {
    requests: VecDeque<Recorded>,
    forgotten: usize,
}

/// The place of one request in the record. Once the last clone is gone, the exchange is over.
#[derive(Clone)]
pub(crate) struct Entry(Arc<Place>);

struct Place {
    record: Record,
    number: usize,
    audited: OnceLock<Audited>,
}

impl Record {
    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.0.borrow().requests.iter().cloned().collect()
    }

    /// Waits until the record satisfies `is_enough`.
    pub(crate) async fn until(&self, is_enough: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
        let mut changes = self.0.subscribe();
        loop {
            changes.mark_unchanged();
            let all = self.all();
            if is_enough(&all) {
                return all;
            }
            // The sender lives in `self`: this cannot fail.
            let _changed = changes.changed().await;
        }
    }

    pub(crate) fn add<B>(&self, request: &Request<B>) -> Entry {
        let target = request.uri().path_and_query().map_or("", |own| own.as_str());
        let remote = request.extensions().get::<Peer>().map(|peer| peer.0);
        let recorded = Recorded {
            method: request.method().clone(),
            target: target.to_owned(),
            version: request.version(),
            headers: headers(request.headers()),
            remote: remote.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            user: None,
            acted_as: None,
            status: None,
            is_open: true,
            heard_bytes: 0,
        };
        let mut number = 0;
        self.0.send_modify(|own| {
            own.requests.push_back(recorded);
            number = own.forgotten + own.requests.len() - 1;
            if own.requests.len() > REMEMBERED {
                own.requests.pop_front();
                own.forgotten += 1;
            }
        });
        Entry(Arc::new(Place { record: self.clone(), number, audited: OnceLock::new() }))
    }
}

impl Entry {
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Recorded)) {
        self.0.edit(change);
    }

    /// From now on the exchange is told of in the audit log, too.
    pub(crate) fn audit(&self, audited: Audited) {
        // An exchange has one caller.
        let _told_already = self.0.audited.set(audited);
    }

    /// The answer's head is ready.
    pub(crate) fn answered(&self, status: u16) {
        self.edit(|own| own.status = Some(status));
        if let Some(audited) = self.0.audited.get() {
            audited.start(status);
        }
    }

    /// The same body, which keeps the entry for as long as it lives.
    pub(crate) fn keep(self, body: Body) -> Body {
        Kept { body, _entry: self }.boxed_unsync()
    }
}

struct Kept {
    body: Body,
    _entry: Entry,
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<anyhow::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Place {
    fn edit(&self, change: impl FnOnce(&mut Recorded)) {
        self.record.0.send_modify(|own| {
            let at = self.number.checked_sub(own.forgotten);
            at.and_then(|at| own.requests.get_mut(at)).map(change);
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.edit(|own| own.is_open = false);
    }
}

fn headers(map: &HeaderMap) -> Vec<(String, Bytes)> {
    let pairs = map.iter();
    pairs.map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}
