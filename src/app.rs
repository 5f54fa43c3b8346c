//! The only wiring: builds every part, and `App::handle` leads a request through them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::admin::Admin;
use crate::broker::Broker;
use crate::budget::Budget;
use crate::clock::{Clock, after};
use crate::config::Config;
use crate::entra::Entra;
use crate::http::body::Body;
use crate::http::forwarded::{Forwarding, Via};
use crate::http::framing::has_one_meaning;
use crate::http::stack::edge;
use crate::identity::signin::SignIn;
use crate::identity::{Authenticator, Refused};
use crate::listen::{Certificates, Listener};
use crate::metrics::Metrics;
use crate::pages::{Pages, Visit};
use crate::policy::{self, origin::Origins};
use crate::problem::{AUDIT_ID, Asker, Problem, advise_end, advise_sign_in};
use crate::route::{Facts, Route, route};
use crate::secret::random_guid;
use crate::session::{Credential, MemoryStore};
use crate::shutdown::Shutdown;
use crate::streams::Streams;
use crate::upstream::{Client, Upstream};
use crate::view::View;

/// Expired sessions and tokens hold memory for at most this long.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A user who is not let in any more loses open streams this long after the AKS token's end, at the latest.
const TEND_EVERY: Duration = Duration::from_secs(10);
const TENDED_AT_ONCE: usize = 32;
/// Of the drain window, for endpoints and load balancers to notice that we are not ready any more.
const NOTICE_SHARE: u32 = 5;
const NOTICE_AT_MOST: Duration = Duration::from_secs(5);
const MAX_AUDIT_ID_BYTES: usize = 64;

/// A running Entrada.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Where probes connect.
    pub admin_addr: SocketAddr,
    shutdown: Shutdown,
    draining: Arc<AtomicBool>,
    drain: Duration,
}

/// The ports, open before anything is started.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub public: TcpListener,
    /// For probes and scrapers.
    pub admin: TcpListener,
}

impl Sockets {
    /// Opens both ports.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            public: TcpListener::bind(config.listen).await.context("ENTRADA_LISTEN")?,
            admin: TcpListener::bind(config.admin_listen).await.context("ENTRADA_ADMIN_LISTEN")?,
        })
    }
}

/// The stages of a request.
#[derive(Debug)]
struct App {
    pages: Pages,
    authenticator: Authenticator,
    origins: Origins,
    broker: Arc<Broker>,
    upstream: Upstream,
    forwarding: Forwarding,
    view: Arc<View>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// Builds everything from checked settings and starts it.
///
/// # Errors
/// When a file changed for the worse since the check.
pub fn start(config: &Config, clock: Clock, sockets: Sockets) -> anyhow::Result<Running> {
    let shutdown = Shutdown::default();
    let draining = Arc::new(AtomicBool::new(false));
    let metrics = Arc::new(Metrics::default());
    let store = Arc::new(MemoryStore::default());
    let redirect_uri = config.public_url.join("/callback");
    let entra = Entra::new(config.entra.clone(), redirect_uri, clock.clone(), metrics.clone())?;
    let entra = Arc::new(entra);
    let certificates =
        config.tls.as_ref().map(Certificates::new).transpose().context("public certificate")?;
    let certificates = certificates.map(Arc::new);
    let budget = Budget::raise(&config.limits);
    let app = App::build(config, budget, &clock, &shutdown, &metrics, &store, &entra)?;

    let admin_addr = sockets.admin.local_addr()?;
    let listener = Listener {
        socket: sockets.public,
        certificates: certificates.clone(),
        max_connections: budget.clients,
        limits: config.limits,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let addr = listener.addr()?;

    if let Some(certificates) = certificates {
        let metrics = metrics.clone();
        shutdown.spawn_vital("certificate reload", async move {
            certificates.keep_fresh(&clock, &metrics).await;
        });
    }
    shutdown.spawn_vital("keys", entra.clone().keep_fresh());
    shutdown.spawn_vital("ca reload", {
        let app = app.clone();
        async move { app.upstream.client.keep_ca_fresh(&app.clock).await }
    });
    shutdown.spawn_vital("sweep", app.clone().sweep(store.clone()));
    shutdown.spawn_vital("streams", app.clone().tend());
    let admin = Arc::new(Admin { entra, metrics, store, draining: draining.clone() });
    shutdown.spawn_vital("admin", admin.serve(sockets.admin, shutdown.clone()));
    shutdown.spawn_vital("listener", listener.run(move |peer| app.clone().edge(peer)));
    tracing::info!(%addr, %admin_addr, ?config, "started");
    Ok(Running { addr, admin_addr, shutdown, draining, drain: config.drain })
}

impl Running {
    /// Resolves when a task crashed that the process cannot do without.
    pub async fn crashed(&self) {
        self.shutdown.crashed().await;
    }

    /// Stops gracefully: not ready, then no new connections, then whatever is left is closed when the window ends.
    pub async fn stop(&self) {
        self.draining.store(true, Ordering::Relaxed);
        tracing::info!(window = ?self.drain, "stopping");
        let notice = notice(self.drain);
        let _passed = tokio::time::timeout(notice, self.shutdown.begun()).await;
        self.shutdown.begin();
        let window = self.drain.saturating_sub(notice);
        if tokio::time::timeout(window, self.shutdown.drained()).await.is_err() {
            tracing::info!("the window has ended; closing what is left");
        }
        self.kill().await;
    }

    /// Closes everything at once.
    pub async fn kill(&self) {
        self.shutdown.finish().await;
    }
}

impl App {
    fn build(
        config: &Config,
        budget: Budget,
        clock: &Clock,
        shutdown: &Shutdown,
        metrics: &Arc<Metrics>,
        store: &Arc<MemoryStore>,
        entra: &Arc<Entra>,
    ) -> anyhow::Result<Arc<Self>> {
        // What is left of the window after the notice that is given first.
        let drain = config.drain.saturating_sub(notice(config.drain));
        let (limits, seats) = (&config.limits, budget.upstream);
        let max = limits.streams_per_user;
        let streams = Streams::new(max, clock.clone(), shutdown.clone(), drain, metrics.clone());
        let authenticator = Authenticator::new(store.clone(), clock.clone());
        let origins = Origins::new(config.public_url.origin().to_owned());
        let broker =
            Broker::new(entra.clone(), store.clone(), streams.clone(), clock.clone(), shutdown.clone());
        let client = Client::new(&config.api_server, seats, limits.connect, metrics.clone())?;
        let upstream = Upstream {
            client,
            broker: broker.clone(),
            authenticator: authenticator.clone(),
            streams: streams.clone(),
            shutdown: shutdown.clone(),
            response_timeout: limits.response,
        };
        let authority = config.entra.authority.origin().ascii_serialization();
        let view = Arc::new(View::new(config.public_url.clone(), &authority));
        let sign_in = Arc::new(SignIn {
            entra: entra.clone(),
            store: store.clone(),
            streams: streams.clone(),
            authenticator: authenticator.clone(),
            clock: clock.clone(),
            lifetimes: config.lifetimes,
            shutdown: shutdown.clone(),
            metrics: metrics.clone(),
        });
        let pages = Pages {
            view: view.clone(),
            sign_in,
            authenticator: authenticator.clone(),
            store: store.clone(),
            streams,
            broker: broker.clone(),
            origins: origins.clone(),
            clock: clock.clone(),
            lifetimes: config.lifetimes,
            max_body_bytes: config.limits.body_bytes,
            rearm: config.rearm,
            sign_out_of_entra: config.sign_out_of_entra,
            cluster_name: config.cluster_name.clone(),
            public_ca_pem: config.public_ca_pem.clone(),
        };
        let public_authority = config.public_url.origin().trim_start_matches("https://");
        let forwarding = Forwarding::new(config.trusted_proxies.clone(), public_authority);
        Ok(Arc::new(Self {
            pages,
            authenticator,
            origins,
            broker,
            upstream,
            forwarding,
            view,
            clock: clock.clone(),
            metrics: metrics.clone(),
        }))
    }

    /// The application as one connection sees it.
    fn edge(self: Arc<Self>, peer: IpAddr) -> crate::http::stack::Edge {
        let direct = Arc::new(self.forwarding.direct(peer));
        edge(move |request| {
            let (app, direct) = (self.clone(), direct.clone());
            async move { app.answer(request, &direct).await }
        })
    }

    /// One request from its head to its answer's head, counted and logged.
    async fn answer(&self, mut request: Request<Incoming>, direct: &Via) -> Response<Body> {
        let started = tokio::time::Instant::now();
        let via = self.forwarding.of(direct, request.headers());
        let audit_id = audit_id(&mut request);
        let (parts, body) = request.into_parts();
        let target = route(&parts);
        let (asker, method) = (Asker::of(&parts), parts.method.clone());
        let kind = if matches!(target, Route::Kubernetes(_)) { "kubernetes" } else { "page" };
        let handled = self.handle(target, Request::from_parts(parts, body), &via).await;
        let mut response = handled.unwrap_or_else(|problem| {
            problem.note(&audit_id, &self.metrics);
            problem.respond(&asker, &self.view)
        });
        let status = response.status().as_u16();
        response.headers_mut().entry(AUDIT_ID).or_insert_with(|| audit_id.clone());
        self.metrics.requests.with_label_values(&[kind, class(status)]).inc();
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.request_seconds.with_label_values(&[kind]).observe(seconds);
        let (path, client) = (asker.path(), via.client);
        let audit_id = audit_id.to_str().unwrap_or_default();
        // Never the query: codes and states of sign-ins stand there.
        tracing::info!(%method, path, status, seconds, %client, audit_id, "request");
        response
    }

    /// The path of a request: own page, or who, may, as them, forward.
    async fn handle(
        &self,
        target: Route,
        request: Request<Incoming>,
        via: &Via,
    ) -> Result<Response<Body>, Problem> {
        if !has_one_meaning(request.headers()) {
            return Err(Problem::ambiguous_framing());
        }
        match target {
            Route::Page(page) => self.pages.answer(page, Visit::new(request, via.client)).await,
            Route::WrongMethod(allowed) => Err(Problem::wrong_method(allowed)),
            Route::Kubernetes(facts) => self.proxy(facts, request, via).await,
        }
    }

    async fn proxy(
        &self,
        facts: Facts,
        request: Request<Incoming>,
        via: &Via,
    ) -> Result<Response<Body>, Problem> {
        let identity = self.authenticator.identify(request.headers(), via.client).await?;
        let (parts, body) = request.into_parts();
        let ends_soon = identity.ends_soon(self.clock.now());
        let permit = policy::permit(identity, facts, &parts, &self.origins)?;
        let delegated = self.broker.delegate(permit).await?;
        let mut answer = self.upstream.forward(delegated, Request::from_parts(parts, body), via).await?;
        let headers = answer.response.headers_mut();
        if answer.refused_user {
            advise_sign_in(headers, &self.view);
        } else if let Some((what, left)) = ends_soon {
            advise_end(headers, &self.view, what, left);
        }
        Ok(answer.response)
    }

    /// Looks after open streams, for ever: renews their sessions' access ahead of need though no request asks for it, and
    /// ends those whose user is not let in any more.
    async fn tend(self: Arc<Self>) {
        let streams = &self.upstream.streams;
        loop {
            self.clock.sleep_until(after(self.clock.now(), TEND_EVERY)).await;
            let open = futures_util::stream::iter(streams.credentials());
            // Some may wait for Entra; the others need not wait for them.
            open.for_each_concurrent(TENDED_AT_ONCE, |credential| self.tend_one(credential)).await;
        }
    }

    async fn tend_one(&self, credential: Arc<Credential>) {
        let ends = match self.authenticator.confirm(&credential).await {
            Ok(identity) => {
                // The token may have moved to a session that lives longer, or shorter.
                self.upstream.streams.set_deadline(&credential.id, identity.ends_at());
                self.broker.has_lost_access(identity.session()).await
            }
            // A store that does not answer is no reason to end anything.
            Err(refused) => !matches!(refused, Refused::Store(_)),
        };
        if ends {
            tracing::info!(user = %credential.user.oid, credential = %credential.id, "streams ended");
            self.upstream.streams.end(std::slice::from_ref(&credential.id));
        }
    }

    /// Forgets what has expired, for ever.
    async fn sweep(self: Arc<Self>, store: Arc<MemoryStore>) {
        let clock = &self.clock;
        loop {
            clock.sleep_until(after(clock.now(), SWEEP_EVERY)).await;
            match store.sweep(clock.now()).await {
                Ok(ended) => self.pages.streams.end(&ended),
                Err(error) => tracing::warn!(%error, "could not sweep"),
            }
            self.broker.sweep().await;
        }
    }
}

/// The caller's audit id, or a new one: it goes upstream and comes back, and stands in our log.
fn audit_id(request: &mut Request<Incoming>) -> HeaderValue {
    let given = request.headers().get(AUDIT_ID);
    let plain = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_AUDIT_ID_BYTES
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let id = given.filter(plain).cloned();
    let id = id.or_else(|| HeaderValue::try_from(random_guid()).ok());
    let id = id.unwrap_or(HeaderValue::from_static("none"));
    request.headers_mut().insert(AUDIT_ID, id.clone());
    id
}

/// How long to be not ready before connections are refused.
fn notice(drain: Duration) -> Duration {
    (drain / NOTICE_SHARE).min(NOTICE_AT_MOST)
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
