//! Dashboards on hosts of their own: each is a `Transport` to the dashboard, and this room decides which credential goes
//! along. Accepts only [`AdmittedPassage`].
//!
//! What goes along is a bearer that is derived from the mount's cookie: it opens the Kubernetes API as the person who
//! looks, for less than an hour, and nothing else. So a dashboard never holds a token that Entra has signed, a cookie of
//! ours, or anything that outlives the session.

mod entry;
mod head;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use thiserror::Error;
use tokio::time::Instant;

pub(crate) use self::entry::{Entry, is_id as is_entry_id};
use crate::clock::Clock;
use crate::config::PublicUrl;
use crate::http::body::Body;
use crate::http::forwarded::{ForwardedHeaders, Forwarding};
use crate::http::headers::clean_dashboard_response;
use crate::http::unread::InUse;
use crate::identity::{Identity, Refused};
use crate::policy::Passage;
use crate::policy::origin::Origins;
use crate::quota::AdmittedPassage;
use crate::record::Record;
use crate::reload;
use crate::route::{Hosts, Shape};
use crate::session::bearer::BearerKeys;
use crate::streams::{EndedBy, NotOpened, Over, Stream, StreamKind, Streams};
use crate::transport::{Outgoing, Transport, TransportError};

/// Why there is no answer of a dashboard.
#[derive(Debug, Error)]
pub(crate) enum MountError {
    /// The request could not be sent, or its answer did not come or could not be read.
    #[error("{host}: {error}")]
    Transport {
        /// The mount's host.
        host: Arc<str>,
        /// What went wrong.
        error: TransportError,
    },
    /// The user has too many streams open.
    #[error("the user has too many streams open")]
    TooManyStreams,
    /// The cookie ended after its check and before the answer's first bytes.
    #[error("the credential has ended")]
    Ended(Refused),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

/// All mounted dashboards, in the order of the settings.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

/// One mounted dashboard.
#[derive(Debug)]
pub(crate) struct Mount {
    url: PublicUrl,
    host: Arc<str>,
    transport: Transport,
    streams: Streams,
    origins: Origins,
    forwarding: Forwarding,
    clock: Clock,
}

impl Mounts {
    /// In the order of the settings.
    #[must_use]
    pub(crate) fn new(mounts: Vec<Mount>) -> Self {
        Self(mounts)
    }

    /// Their host names.
    #[must_use]
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts::new(self.0.iter().map(|mount| mount.host.clone()))
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Mount> {
        self.0.iter()
    }

    /// Watches the CA files of all for ever: `mount_ca`, `mount_ca_2`, and so on, in the order of `ENTRADA_MOUNTS`.
    pub(crate) async fn keep_cas_fresh(self: Arc<Self>, clock: Clock) {
        let reload = async |(index, mount): (usize, &Mount)| {
            mount.transport.keep_ca_fresh(&reload::numbered("mount_ca", index), &clock).await;
        };
        futures_util::future::join_all(self.0.iter().enumerate().map(reload)).await;
        std::future::pending().await
    }

    /// The one that the route names.
    pub(crate) fn at(&self, index: usize) -> Option<&Mount> {
        self.0.get(index)
    }

    /// The one with this origin.
    pub(crate) fn with_origin(&self, origin: &str) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.url.origin() == origin)
    }
}

impl Mount {
    /// Seen at `url`, reached by `transport`; what is answered is registered in `streams`.
    #[must_use]
    pub(crate) fn new(
        url: PublicUrl,
        transport: Transport,
        streams: Streams,
        forwarding: Forwarding,
        clock: Clock,
    ) -> Self {
        let (host, origins) = (url.host().into(), Origins::new(url.origin(), &[]));
        Self { url, host, transport, streams, origins, forwarding, clock }
    }

    /// Where users see it.
    #[must_use]
    pub(crate) fn url(&self) -> &PublicUrl {
        &self.url
    }

    /// Whose pages may send a request with its cookie: its own.
    #[must_use]
    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Makes the `X-Forwarded-*` headers that the dashboard gets.
    #[must_use]
    pub(crate) fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    /// Forwards a request to the dashboard, with the bearer of whoever makes it.
    ///
    /// Every answer is registered as a stream: whether it is one cannot be told from the request, and each must end with
    /// its cookie.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn forward(
        &self,
        admitted: AdmittedPassage,
        parts: &mut Parts,
        body: Incoming,
        forwarded_headers: &ForwardedHeaders,
        record: &Arc<Record>,
    ) -> Result<Response<Body>, MountError> {
        let (passage, share) = admitted.into_parts();
        let identity = passage.identity();
        let kind = identity.credential().kind;
        let stream = self.register(&passage)?;
        let broke = |error| {
            stream.ended_by(EndedBy::Upstream);
            MountError::Transport { host: self.host.clone(), error }
        };
        let user = &identity.credential().user;
        let lease = self.transport.lease(user, (share, record.clone())).await.map_err(broke)?;
        let client = parts.extensions.remove::<OnUpgrade>().filter(|_| passage.is_upgrade());
        let (body, sent) = Outgoing::from_client(body, parts.extensions.remove::<InUse>());
        let authorization = self.authorization(identity);
        let head = || {
            let mut head = head::for_dashboard(parts, passage.is_upgrade(), &self.url)?;
            forwarded_headers.set(&mut head.headers);
            head.headers.insert(http::header::AUTHORIZATION, authorization.clone());
            record.sending(&mut head.headers, self.transport.authority());
            Ok(head)
        };
        // Of an answer to a plain request the head must come in time; what follows may be a stream.
        let shape = if passage.is_upgrade() { Shape::Upgrade } else { Shape::Plain };
        let began = Instant::now();
        let mut leased = tokio::select! {
            answered = self.transport.send(lease, user, head, (body, sent), shape) => answered.map_err(broke)?,
            over = stream.over() => return Err(match over {
                Over::Credential(fate) => MountError::Ended(Refused::ended(kind, fate)),
                Over::Stopping => MountError::Stopping,
            }),
        };
        record.upstream_took(began.elapsed());
        let response = leased.response_mut();
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        clean_dashboard_response(response.headers_mut(), switches);
        let delivered = self.transport.deliver(leased, Some(stream), client, Shape::Follow);
        delivered.map_err(|error| MountError::Transport { host: self.host.clone(), error })
    }

    fn register(&self, passage: &Passage) -> Result<Stream, MountError> {
        let kind = if passage.is_upgrade() { StreamKind::Tunnel } else { StreamKind::Dashboard };
        let identity = passage.identity();
        let opened = self.streams.open(kind, identity.opener(), identity.ends_at(), identity.found_at());
        opened.map_err(|error| match error {
            NotOpened::TooMany => MountError::TooManyStreams,
            NotOpened::Ended(fate) => MountError::Ended(Refused::ended(identity.credential().kind, fate)),
        })
    }

    /// The bearer for the API, derived anew and marked sensitive.
    fn authorization(&self, identity: &Identity) -> HeaderValue {
        let bearer = BearerKeys::of(&identity.opener().key).bearer(self.clock.now());
        let value = HeaderValue::try_from(format!("Bearer {}", bearer.expose()));
        let mut value = value.expect("a bearer is of base62's letters and an underscore");
        value.set_sensitive(true);
        value
    }
}
