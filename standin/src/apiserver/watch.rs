//! Watches: the present or the past, then every change, until the time is up. Each is one JSON line, or one text message
//! where the caller asks for a WebSocket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::accept::View;
use super::call::{Answer, Call, streaming};
use super::cluster::Cluster;
use super::discovery::Resource;
use super::selector::Selector;
use super::status::Failure;
use super::store::Event;
use super::table;
use super::tunnel::Tunnels;
use super::upgrade;

/// How often a watch that allows bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lives that names no time itself.
const LIFETIME_SECONDS: u64 = 30 * 60;

#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    r#type: &'a str,
    object: T,
}

struct Watching {
    cluster: Arc<Cluster>,
    changes: Receiver<u64>,
    end: Receiver<u64>,
    resource: &'static Resource,
    namespace: String,
    selector: Selector,
    view: View,
    include: table::Include,
    allows_bookmarks: bool,
    deadline: Instant,
    /// Everything up to this revision was told.
    cursor: u64,
    lines: VecDeque<Bytes>,
    has_told_columns: bool,
    is_over: bool,
}

pub(crate) fn answer(cluster: &Arc<Cluster>, call: &Call, resource: &'static Resource) -> Answer {
    let watching = Watching::asked(cluster, call, resource)?;
    let lines = futures_util::stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((Ok(line), watching))
    });
    Ok(streaming("application/json", lines))
}

/// The same over a WebSocket, as pages watch.
pub(crate) fn over_websocket(
    cluster: &Arc<Cluster>,
    call: &Call,
    resource: &'static Resource,
    tunnels: &Tunnels,
    on_upgrade: OnUpgrade,
) -> Answer {
    let watching = Watching::asked(cluster, call, resource)?;
    let response = upgrade::websocket_as_asked(call.headers())?;
    tunnels.spawn(call, on_upgrade, |tunnel| watching.tell_over(tunnel));
    Ok(response)
}

impl Watching {
    fn asked(cluster: &Arc<Cluster>, call: &Call, resource: &'static Resource) -> Result<Self, Failure> {
        let asked = call.query.number("timeoutSeconds").filter(|seconds| *seconds > 0);
        let lifetime = Duration::from_secs(asked.unwrap_or(LIFETIME_SECONDS));
        let mut watching = Watching {
            changes: cluster.store.subscribe(),
            end: cluster.watch_ends.subscribe(),
            cluster: Arc::clone(cluster),
            resource,
            namespace: call.target.namespace_of(resource),
            selector: Selector::asked(&call.query)?,
            view: View::asked(call.headers()),
            include: table::Include::asked(&call.query),
            allows_bookmarks: call.query.flag("allowWatchBookmarks"),
            deadline: Instant::now() + lifetime,
            cursor: 0,
            lines: VecDeque::new(),
            has_told_columns: false,
            is_over: false,
        };
        watching.begin(call)?;
        Ok(watching)
    }

    async fn tell_over(mut self, tunnel: TokioIo<Upgraded>) {
        let (mut out, mut left) = WebSocketStream::from_raw_socket(tunnel, Role::Server, None).await.split();
        loop {
            let line = tokio::select! {
                line = self.next() => line,
                heard = left.next() => match heard {
                    Some(Ok(message)) if !message.is_close() => continue,
                    _ => None,
                },
            };
            let Some(line) = line else { break };
            let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if out.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        let _gone = out.close().await;
    }

    fn begin(&mut self, call: &Call) -> Result<(), Failure> {
        let version = call.query.get("resourceVersion").unwrap_or("0");
        let revision: u64 = version
            .parse()
            .map_err(|_| Failure::bad_request(format!("Invalid value: {version:?}: not a revision")))?;
        let wants_initial = call.query.flag("sendInitialEvents");
        if wants_initial && !self.allows_bookmarks {
            let problem = "Forbidden: sendInitialEvents is forbidden for watch without allowWatchBookmarks";
            return Err(Failure::invalid("ListOptions", "", "sendInitialEvents", problem));
        }
        if revision > 0 && !wants_initial {
            self.cursor = revision;
            return Ok(());
        }
        let (present, objects) = self.cluster.store.list(&self.resource.qualified(), &self.namespace);
        self.cursor = present;
        for (_, object) in objects {
            if self.selector.matches(&object) {
                self.tell("ADDED", &object);
            }
        }
        if wants_initial {
            self.bookmark(true);
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            self.changes.mark_unchanged();
            match self.cluster.store.events_after(self.cursor) {
                Err(oldest) => self.expire(oldest),
                Ok(events) if events.is_empty() => self.wait().await,
                Ok(events) => events.iter().for_each(|event| self.consider(event)),
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            changed = self.changes.changed() => self.is_over |= changed.is_err(),
            _ = self.end.changed() => self.is_over = true,
            () = tokio::time::sleep_until(self.deadline) => {
                self.bookmark(false);
                self.is_over = true;
            }
            () = tokio::time::sleep(BOOKMARK_EVERY) => self.bookmark(false),
        }
    }

    fn consider(&mut self, event: &Event) {
        self.cursor = event.revision;
        let is_ours = event.key.resource == self.resource.qualified()
            && (self.namespace.is_empty() || event.key.namespace == self.namespace);
        if !is_ours {
            return;
        }
        let seen = |object: &Option<Value>| object.as_ref().is_some_and(|own| self.selector.matches(own));
        let kind = match (seen(&event.before), seen(&event.now)) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        if let Some(object) = event.now.as_ref().or(event.before.as_ref()) {
            self.tell(kind, object);
        }
    }

    fn tell(&mut self, kind: &str, object: &Value) {
        match self.view {
            View::Object => self.push(kind, object),
            View::Metadata(version) => self.push(kind, &table::partial(object, version)),
            View::Table(version) => {
                let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let rows = std::slice::from_ref(object);
                let now = self.cluster.time.now();
                let mut told = table::table(self.resource, rows, meta, version, self.include, now);
                // The columns are told once, with the first row.
                if std::mem::replace(&mut self.has_told_columns, true) {
                    told["columnDefinitions"] = Value::Null;
                }
                self.push(kind, &told);
            }
        }
    }

    fn bookmark(&mut self, ends_initial_events: bool) {
        if !self.allows_bookmarks {
            return;
        }
        let mut object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": { "resourceVersion": self.cursor.to_string(), "creationTimestamp": null },
        });
        if ends_initial_events {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        self.tell("BOOKMARK", &object);
    }

    fn expire(&mut self, oldest: u64) {
        let failure = Failure::expired(self.cursor, oldest);
        self.push("ERROR", &failure.status());
        self.is_over = true;
    }

    fn push(&mut self, kind: &str, object: &impl Serialize) {
        let mut line = serde_json::to_vec(&Line { r#type: kind, object })
            .expect("an event is made of maps with string keys");
        line.push(b'\n');
        self.lines.push_back(line.into());
    }
}
