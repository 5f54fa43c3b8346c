//! The only wiring: builds every part from checked settings, starts them, and stops them.

mod mounts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use tokio::net::TcpListener;

use crate::admin::Admin;
use crate::audit::Audit;
use crate::broker::Broker;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::config::{Config, RedisConfig, StoreAuth, StoreConfig};
use crate::entra::Entra;
use crate::exchange::Stages;
use crate::identity::Authenticator;
use crate::listen::{self, Certificates, Listener};
use crate::metrics::{Metrics, count_panics};
use crate::mounts::Mounts;
use crate::pages::{PageSettings, Pages};
use crate::policy::origin::Origins;
use crate::quota::Quotas;
use crate::record::Sinks;
use crate::session::{
    Backend, Credentials, Endings, Handover, Handovers, Login, Memory, Redis, SealedStore, SessionStore, Uses,
};
use crate::shutdown::Shutdown;
use crate::signin::SignIn;
use crate::streams::Streams;
use crate::trace::Tracer;
use crate::transport::{Timeouts, Transport};
use crate::upkeep::Upkeep;
use crate::upstream::Upstream;
use crate::view::View;

/// Of the drain window, for endpoints and load balancers to notice that we are not ready any more.
const NOTICE_SHARE: u32 = 5;
const NOTICE_AT_MOST: Duration = Duration::from_secs(5);
/// For the last spans, after everything has ended.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// For the last audit events, after everything has ended.
const LAST_EVENTS: Duration = Duration::from_secs(5);
const LAST_EVENTS_IN_A_HURRY: Duration = Duration::from_secs(1);

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
    tracer: Option<Arc<Tracer>>,
    audit: Audit,
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
            public: listen::bind(config.listen).context("ENTRADA_LISTEN")?,
            admin: TcpListener::bind(config.admin_listen).await.context("ENTRADA_ADMIN_LISTEN")?,
        })
    }
}

/// Parts that stand before any request does.
struct Foundation {
    clock: Clock,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    tracer: Option<Arc<Tracer>>,
    audit: Audit,
    entra: Arc<Entra>,
    streams: Streams,
    store: Arc<dyn SessionStore>,
    handovers: Arc<dyn Handovers>,
    quotas: Arc<Quotas>,
    broker: Arc<Broker>,
    uses: Uses,
    authenticator: Authenticator,
    budget: Budget,
}

/// Builds everything from checked settings and starts it.
///
/// # Errors
/// When a certificate, key or CA file can no longer be loaded, or a client cannot be built.
pub fn start(config: &Config, clock: Clock, sockets: Sockets) -> anyhow::Result<Running> {
    count_panics();
    let draining = Arc::new(AtomicBool::new(false));
    let budget = Budget::raise(&config.limits, config.mounts.len());
    let foundation = Foundation::lay(config, clock, budget)?;
    let certificates = (!config.tls.is_empty()).then(|| Certificates::new(&config.tls)).transpose();
    let certificates = certificates.context("public certificate")?.map(Arc::new);
    let stages = Arc::new(foundation.stages(config)?);

    let admin_addr = sockets.admin.local_addr()?;
    let Foundation {
        clock,
        shutdown,
        metrics,
        tracer,
        audit,
        entra,
        streams,
        store,
        quotas,
        broker,
        uses,
        authenticator,
        ..
    } = foundation;
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
        let (clock, metrics) = (clock.clone(), metrics.clone());
        shutdown.spawn_vital("certificate reload", async move {
            certificates.keep_fresh(&clock, &metrics).await;
        });
    }
    shutdown.spawn_vital("keys", entra.clone().keep_fresh());
    shutdown.spawn_vital("ca reload", {
        let (stages, clock) = (stages.clone(), clock.clone());
        async move { stages.upstream.transport().keep_ca_fresh("api_server_ca", &clock).await }
    });
    shutdown.spawn_vital("mount ca reload", stages.mounts.clone().keep_cas_fresh(clock.clone()));
    let upkeep =
        Upkeep { streams, authenticator, broker, quotas, store: store.clone(), uses, clock: clock.clone() };
    shutdown.spawn_vital("judging of streams", upkeep.clone().judge_streams());
    shutdown.spawn_vital("renewal for streams", upkeep.clone().renew_streams());
    shutdown.spawn_vital("uses", upkeep.clone().flush_uses());
    shutdown.spawn_vital("sweep", upkeep.sweep());
    let admin = Arc::new(Admin { entra, metrics, store, clock, draining: draining.clone() });
    shutdown.spawn_vital("admin", admin.serve(sockets.admin, shutdown.clone()));
    shutdown.spawn_vital("listener", listener.run(move |peer| stages.clone().serve(peer)));
    tracing::info!(%addr, %admin_addr, ?config, "started");
    Ok(Running { addr, admin_addr, shutdown, draining, drain: config.drain, tracer, audit })
}

/// The store of sessions and of hand-overs, and the task that keeps it.
fn store(
    config: &StoreConfig,
    entra: &Arc<Entra>,
    endings: &Endings,
    shutdown: &Shutdown,
    metrics: &Arc<Metrics>,
) -> (Arc<dyn SessionStore>, Arc<dyn Handovers>) {
    match config {
        StoreConfig::Memory => {
            let store = Arc::new(SealedStore::new(Memory::default(), endings.clone(), Duration::MAX));
            shutdown.spawn_vital("store", keep(store.clone()));
            (store.clone(), store)
        }
        StoreConfig::Redis(redis) => {
            let login = store_login(redis, Some(entra));
            let backend = Redis::new(redis.clone(), login, metrics.clone());
            let store = Arc::new(SealedStore::new(backend, endings.clone(), redis.staleness));
            shutdown.spawn_vital("store", keep(store.clone()));
            (store.clone(), store)
        }
    }
}

/// How to log in to the store. `entra` is asked where its token is the password.
pub(crate) fn store_login(redis: &RedisConfig, entra: Option<&Arc<Entra>>) -> Login {
    match (redis.auth.clone(), entra) {
        (StoreAuth::Password { username, file }, _) => Login::File { username, path: file },
        (StoreAuth::Entra { username }, Some(entra)) => {
            Login::issued_by(StoreLogin { entra: entra.clone(), username })
        }
        (StoreAuth::None | StoreAuth::Entra { .. }, _) => Login::None,
    }
}

async fn keep<B: Backend>(store: Arc<SealedStore<B>>) {
    store.run().await;
}

/// Logs in to the store with the workload identity.
struct StoreLogin {
    entra: Arc<Entra>,
    username: Option<String>,
}

#[async_trait]
impl Credentials for StoreLogin {
    async fn issue(&self) -> Result<(String, String, Duration), String> {
        let token = self.entra.store_token().await.map_err(|fault| fault.to_string())?;
        let username = self.username.clone().or(token.oid).ok_or("the token names no object id")?;
        Ok((username, token.token.expose().to_owned(), token.lasts))
    }
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
        // Only now has everything told how it ended.
        let spans = async {
            if let Some(tracer) = &self.tracer {
                tracer.close(LAST_SPANS).await;
            }
        };
        tokio::join!(self.audit.close(LAST_EVENTS), spans);
    }

    /// Writes what audit events there are, for a process that ends without waiting for what is under way.
    pub async fn write_audit(&self) {
        self.audit.close_at_once(LAST_EVENTS_IN_A_HURRY).await;
    }
}

impl Foundation {
    fn lay(config: &Config, clock: Clock, budget: Budget) -> anyhow::Result<Self> {
        let (shutdown, metrics) = (Shutdown::default(), Arc::new(Metrics::default()));
        let tracer = config.trace.as_ref();
        let tracer =
            tracer.map(|trace| Tracer::start(trace, clock.clone(), &metrics, &shutdown)).transpose()?;
        let audit = config.audit.as_ref().map(|audit| Audit::start(audit, &clock, &metrics)).transpose()?;
        let audit = audit.unwrap_or_default();
        let redirect_uri = config.public_url.join("/callback");
        let entra = Entra::new(config.entra.clone(), redirect_uri, clock.clone(), metrics.clone())?;
        let entra = Arc::new(entra);
        // What is left of the window after the notice that is given first.
        let drain = config.drain.saturating_sub(notice(config.drain));
        let limits = &config.limits;
        let shares = (budget.requests_per_user, budget.dashboards_per_user);
        let quotas = Quotas::new(limits.rate, limits.sign_in_rate, shares.0, shares.1);
        let quotas = Arc::new(quotas);
        let streams =
            Streams::new(budget.streams_per_user, clock.clone(), shutdown.clone(), drain, metrics.clone());
        let endings = Endings::default();
        let (store, handovers) = store(&config.store, &entra, &endings, &shutdown, &metrics);
        let broker =
            Broker::new(entra.clone(), store.clone(), clock.clone(), shutdown.clone(), audit.clone());
        // What ends, wherever it was ended, ends its streams and is forgotten by the broker.
        endings.listen({
            let streams = streams.clone();
            // Weak: the broker holds the store, and the store holds this.
            let broker = Arc::downgrade(&broker);
            move |ended| {
                streams.end(ended);
                if let Some(broker) = broker.upgrade() {
                    broker.forget(ended);
                }
            }
        });
        let uses = Uses::new(store.clone());
        let authenticator = Authenticator::new(store.clone(), uses.clone(), clock.clone());
        Ok(Self {
            clock,
            shutdown,
            metrics,
            tracer,
            audit,
            entra,
            streams,
            store,
            handovers,
            quotas,
            broker,
            uses,
            authenticator,
            budget,
        })
    }

    fn stages(&self, config: &Config) -> anyhow::Result<Stages> {
        let limits = &config.limits;
        let timeouts = Timeouts { connect: limits.connect, response: limits.response, stall: limits.stall };
        let transport = Transport::new(
            (&config.api_server).into(),
            self.budget.upstream,
            timeouts,
            self.metrics.clone(),
            self.shutdown.clone(),
        )
        .context("ENTRADA_API_SERVER_CA_FILE")?;
        let authority = config.entra.authority.origin().ascii_serialization();
        let view = Arc::new(View::new(config.public_url.clone(), &authority, &config.kubeconfig_templates));
        let origins = Origins::new(config.public_url.origin(), &config.allowed_origins);
        let upstream = Arc::new(Upstream::new(transport, self.streams.clone(), self.broker.clone()));
        let dashboards = Arc::new(self.mounts(config, timeouts)?);
        Ok(Stages {
            pages: self.pages(config, &view, &origins, &upstream, &dashboards),
            authenticator: self.authenticator.clone(),
            origins,
            quotas: self.quotas.clone(),
            broker: self.broker.clone(),
            upstream,
            hosts: dashboards.hosts(),
            mount_views: dashboards.iter().map(|mount| view.at_mount(mount.url().clone())).collect(),
            mounts: dashboards,
            forwarding: mounts::forwarding(config, &config.public_url),
            view,
            sinks: Sinks::new(self.metrics.clone(), self.audit.clone(), self.tracer.clone()),
        })
    }

    fn pages(
        &self,
        config: &Config,
        view: &Arc<View>,
        origins: &Origins,
        upstream: &Arc<Upstream>,
        mounts: &Arc<Mounts>,
    ) -> Pages {
        let sign_in = SignIn::new(
            self.entra.clone(),
            self.store.clone(),
            self.broker.clone(),
            self.authenticator.clone(),
            config.lifetimes,
            self.clock.clone(),
            self.shutdown.clone(),
            self.metrics.clone(),
        );
        let (handovers, origin) = (self.handovers.clone(), config.public_url.origin());
        Pages {
            handover: Handover::new(handovers, origin, self.clock.clone(), self.metrics.clone()),
            view: view.clone(),
            sign_in: Arc::new(sign_in),
            authenticator: self.authenticator.clone(),
            store: self.store.clone(),
            uses: self.uses.clone(),
            quotas: self.quotas.clone(),
            broker: self.broker.clone(),
            upstream: upstream.clone(),
            mounts: mounts.clone(),
            origins: origins.clone(),
            own_origin: origins.own(),
            clock: self.clock.clone(),
            settings: PageSettings {
                lifetimes: config.lifetimes,
                handover: config.handover,
                max_body_bytes: config.limits.body_bytes,
                rearm: config.rearm,
                sign_out_of_entra: config.sign_out_of_entra,
                cluster_name: config.cluster_name.clone(),
                public_ca_pem: config.public_ca_pem.clone(),
            },
        }
    }
}

/// How long to be not ready before connections are refused.
fn notice(drain: Duration) -> Duration {
    (drain / NOTICE_SHARE).min(NOTICE_AT_MOST)
}
