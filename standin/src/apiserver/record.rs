//! What the server was sent, head by head.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version};

use crate::serve::Peer;

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

/// All recorded heads, in the order of their arrival.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Recorded>>>);

/// The place of one request in the record.
pub(crate) struct Entry {
    record: Record,
    at: usize,
}

impl Record {
    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.edit(|all| all.clone())
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
        };
        let at = self.edit(|all| {
            all.push(recorded);
            all.len() - 1
        });
        Entry { record: self.clone(), at }
    }

    fn edit<T>(&self, change: impl FnOnce(&mut Vec<Recorded>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Entry {
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Recorded)) {
        self.record.edit(|all| all.get_mut(self.at).map(change));
    }
}

fn headers(map: &HeaderMap) -> Vec<(String, Bytes)> {
    let pairs = map.iter();
    pairs.map(|(name, value)| (name.as_str().to_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}
