//! `GET …/pods/{name}/log`: what a pod has said, and with `follow` what it goes on saying.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::call::{Answer, Call, bytes, streaming};
use super::cluster::Cluster;
use super::status::Failure;
use crate::time::Time;

/// Everything every pod said. The containers of a pod share one log.
pub(crate) struct Logs {
    time: Time,
    lines: Mutex<HashMap<Pod, Vec<Line>>>,
    changed: watch::Sender<()>,
}

type Pod = (String, String);

#[derive(Clone)]
struct Line {
    at: jiff::Timestamp,
    text: String,
}

impl Logs {
    pub(crate) fn new(time: Time) -> Self {
        Self { time, lines: Mutex::new(HashMap::new()), changed: watch::Sender::new(()) }
    }

    pub(crate) fn append(&self, namespace: &str, pod: &str, text: &str) {
        let line = Line { at: self.time.now(), text: text.to_owned() };
        self.lock().entry((namespace.to_owned(), pod.to_owned())).or_default().push(line);
        self.changed.send_replace(());
    }

    pub(crate) fn forget(&self, namespace: &str, pod: &str) {
        self.lock().remove(&(namespace.to_owned(), pod.to_owned()));
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pod, Vec<Line>>> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A reader of one pod's log that waits for more, until the pod is gone.
pub(crate) struct Follower {
    cluster: Arc<Cluster>,
    changes: watch::Receiver<()>,
    pod: Pod,
    next: usize,
    shows_times: bool,
}

impl Follower {
    /// Starts behind the lines that were said so far.
    pub(crate) fn from_now(cluster: &Arc<Cluster>, namespace: &str, pod: &str) -> Self {
        let pod = (namespace.to_owned(), pod.to_owned());
        let next = cluster.logs.lock().get(&pod).map_or(0, Vec::len);
        let changes = cluster.logs.changed.subscribe();
        Self { cluster: Arc::clone(cluster), changes, pod, next, shows_times: false }
    }

    /// Lines not yet read, or nothing once the pod is gone.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.mark_unchanged();
            if let Some(text) = self.unread_now() {
                return Some(text);
            }
            if !self.is_alive() {
                return None;
            }
            self.changes.changed().await.ok()?;
        }
    }

    /// Lines not yet read, if there are any now.
    pub(crate) fn unread_now(&mut self) -> Option<Bytes> {
        Some(self.unread()).filter(|text| !text.is_empty()).map(Bytes::from)
    }

    fn unread(&mut self) -> String {
        let lines = self.cluster.logs.lock();
        let new = lines.get(&self.pod).and_then(|own| own.get(self.next..)).unwrap_or_default();
        self.next += new.len();
        new.iter().map(|line| written(line, self.shows_times)).collect()
    }

    fn is_alive(&self) -> bool {
        let (namespace, name) = &self.pod;
        let key = super::store::Key {
            resource: "pods".to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
        };
        self.cluster.store.get(&key).is_some()
    }
}

fn written(line: &Line, shows_times: bool) -> String {
    if shows_times { format!("{} {}\n", line.at, line.text) } else { format!("{}\n", line.text) }
}

/// Answers a request for the log of `pod`, which exists.
pub(crate) fn answer(cluster: &Arc<Cluster>, call: &Call, pod: &Value) -> Answer {
    container(call, pod)?;
    let mut follower = Follower::from_now(cluster, &call.target.namespace, &call.target.name);
    let tail = call.query.number("tailLines").and_then(|count| usize::try_from(count).ok());
    follower.next = follower.next.saturating_sub(tail.unwrap_or(usize::MAX));
    follower.shows_times = call.query.flag("timestamps");
    if !call.query.flag("follow") {
        return Ok(bytes(http::StatusCode::OK, "text/plain", follower.unread()));
    }
    let chunks = futures_util::stream::unfold(follower, |mut follower| async move {
        let chunk = follower.next().await?;
        Some((Ok(chunk), follower))
    });
    Ok(streaming("text/plain", chunks))
}

/// The container that the request names, or the pod's only one.
pub(crate) fn container(call: &Call, pod: &Value) -> Result<String, Failure> {
    let names: Vec<&str> = pod["spec"]["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let name = &call.target.name;
    match call.query.get("container") {
        Some(wanted) if names.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Failure::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match names.as_slice() {
            [only] => Ok((*only).to_owned()),
            several => Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            ))),
        },
    }
}
