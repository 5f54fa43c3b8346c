//! The connection to Redis and the channel on which replicas tell each other what changed.
//!
//! Commands and messages share one connection (RESP3). That the channel works is not assumed but tried: each replica
//! sends a *beat* through it once a second, and counts as connected only while it hears its own. A silent network, a
//! stopped Redis and a lost subscription all look alike: no beat, so the link is taken down and made anew.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Msg, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::connection::Connection;
use super::login::Login;
use super::{CHANNEL, Events, PREFIX, Version};
use crate::config::{RedisConfig, Topology};
use crate::secret::{random_base62, random_share};
use crate::session::{SessionId, StoreError, UserTag};

/// For one command. Redis answers in well under a millisecond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// For one server, and for all that have to be asked on the way: of a cluster, one server that does not answer must not
/// keep us from the others.
const SERVER_TIMEOUT: Duration = Duration::from_secs(1);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Without a beat of our own for this long, the link is made anew.
const SILENCE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The mark outlives every record: sessions and tokens live for days.
const MARK_LIVES: Duration = Duration::from_secs(400 * 86_400);
/// Failures to connect are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Link {
    config: RedisConfig,
    login: Login,
    /// Names this replica in its beats.
    replica: String,
    current: ArcSwapOption<Connection>,
    /// An answer said that this is the wrong server.
    renew: Notify,
    /// The store has lost its records.
    lost: Notify,
    /// Whether the next failed command is worth a line in the log.
    quiet: AtomicBool,
    /// What the store was marked with when it was last seen.
    mark: Mutex<Option<String>>,
}

impl Link {
    pub(super) fn new(config: RedisConfig, login: Login) -> Self {
        let (current, quiet) = (ArcSwapOption::empty(), AtomicBool::new(false));
        let (renew, lost) = (Notify::new(), Notify::new());
        let (replica, mark) = (random_base62(12), Mutex::default());
        Self { config, login, replica, current, renew, lost, quiet, mark }
    }

    /// The present connection.
    ///
    /// # Errors
    /// At once when there is none: nobody waits for a store that is away.
    pub(super) fn connection(&self) -> Result<Connection, StoreError> {
        self.current.load().as_deref().cloned().ok_or(StoreError)
    }

    /// What a failed command means.
    pub(super) fn failed(&self, error: &RedisError) -> StoreError {
        if !self.quiet.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the store did not do what it was asked");
        }
        // A server that was a master: behind Sentinel another one is, by now.
        if is_no_master(error) {
            self.renew.notify_one();
        }
        StoreError
    }

    /// Connects, and connects again, for ever.
    pub(super) async fn run(&self, events: &dyn Events) {
        let (mut pause, mut logged_at) = (FIRST_PAUSE, None::<Instant>);
        loop {
            let (sender, pushes) = unbounded_channel();
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(sender)).await;
            match connected.unwrap_or_else(|_| Err(timed_out())) {
                Ok(connection) => {
                    pause = FIRST_PAUSE;
                    logged_at = None;
                    self.current.store(Some(Arc::new(connection.clone())));
                    let why = self.follow(connection, pushes, events).await;
                    self.current.store(None);
                    events.disconnected();
                    tracing::warn!(
                        why,
                        "the connection to the store is made anew; known sessions are served from memory"
                    );
                }
                Err(error) => {
                    if logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                        logged_at = Some(Instant::now());
                        tracing::warn!(%error, "the store cannot be reached");
                    }
                }
            }
            // Spread, so that replicas do not all come back at the same moment.
            let spread = pause.mul_f64(0.5 + random_share() / 2.0);
            crate::clock::pause(spread).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Passes on what the channel tells, until it is silent or broken. Says why it ended.
    async fn follow(
        &self,
        connection: Connection,
        mut pushes: UnboundedReceiver<PushInfo>,
        events: &dyn Events,
    ) -> &'static str {
        let is_cluster = matches!(connection, Connection::Cluster(_));
        let (mut heard_at, mut is_up) = (Instant::now(), false);
        // What was said of the connection before this one.
        let _past = self.renew.notified().now_or_never();
        let mut beats = pin!(self.beat(connection));
        let mut look = tokio::time::interval(BEAT_EVERY / 4);
        loop {
            tokio::select! {
                biased;
                push = pushes.recv() => match push {
                    None => return "the connection was closed",
                    Some(push) if push.kind == PushKind::Disconnection => {
                        if !is_cluster {
                            return "the connection was closed";
                        }
                        // One of several nodes, maybe the one that we listen to. The next beat tells whether it was.
                        is_up = false;
                        events.disconnected();
                    }
                    Some(push) => {
                        let Some(message) = Msg::from_push_info(push) else { continue };
                        let Ok(text) = message.get_payload::<String>() else { continue };
                        match text.split_once(' ') {
                            Some(("b", replica)) if replica == self.replica => {
                                heard_at = Instant::now();
                                self.quiet.store(false, Ordering::Relaxed);
                                if std::mem::replace(&mut is_up, true) {
                                    events.alive();
                                } else {
                                    tracing::info!("the store is here");
                                    events.connected();
                                }
                            }
                            Some(("c", change)) => {
                                let (user, version) = change.split_once(' ').unwrap_or((change, ""));
                                if let Some(user) = UserTag::parse(user) {
                                    events.changed(user, Version(version.to_owned()));
                                }
                            }
                            Some(("r", session)) => events.renewed(SessionId::from(session)),
                            _ => {}
                        }
                    }
                },
                never = &mut beats => match never {},
                () = self.renew.notified() => return "its server is no master any more",
                // Nothing that was heard counts any more: everybody who is known here is looked up again. The connection
                // is as good as it was.
                () = self.lost.notified(), if is_up => {
                    events.disconnected();
                    events.connected();
                }
                _ = look.tick() => {
                    if heard_at.elapsed() > SILENCE {
                        return "it is silent";
                    }
                }
            }
        }
    }

    /// Sends a beat a second. One that fails is not heard, which is all that counts.
    async fn beat(&self, mut connection: Connection) -> std::convert::Infallible {
        let mut tick = tokio::time::interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A write, because a replica of Redis takes no writes but would pass a message on. A master that takes none for
        // another reason (no memory, too few replicas) still tells of changes.
        let mut set = redis::cmd("SET");
        set.arg(format!("{PREFIX}beat:{}", self.replica)).arg("1").arg("PX").arg(60_000);
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(CHANNEL).arg(format!("b {}", self.replica));
        loop {
            tick.tick().await;
            // At once, because in a cluster each may be another server's, of which one may not answer.
            let (mut first, mut second) = (connection.clone(), connection.clone());
            let (set, published, ()) = tokio::join!(
                first.req_packed_command(&set),
                second.req_packed_command(&publish),
                self.look_for_loss(&mut connection)
            );
            for error in [set.err(), published.err()].into_iter().flatten() {
                self.failed(&error);
            }
        }
    }

    /// Whether the store still is the one that this replica has seen: a mark that stands there for as long as its records.
    async fn look_for_loss(&self, connection: &mut Connection) {
        let key = format!("{PREFIX}mark");
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(random_base62(12)).arg("NX").arg("PX").arg(MARK_LIVES.as_millis() as u64);
        let mark = async {
            connection.req_packed_command(&set).await?;
            let value = connection.req_packed_command(redis::cmd("GET").arg(&key)).await?;
            Ok::<_, RedisError>(Option::<String>::from_redis_value(value)?)
        };
        let Ok(Some(mark)) = mark.await else { return };
        let mut seen = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_some_and(|seen| *seen != mark) {
            tracing::error!(
                "the store has lost its records (wiped, evicted, or a failover without its data): sessions that were in \
                 it are gone, and people have to sign in again"
            );
            self.lost.notify_one();
        }
        *seen = Some(mark);
    }

    /// A store that evicts records signs people out at random.
    async fn warn_of_eviction(&self, connection: &mut Connection) {
        let Connection::One(_) = connection else { return };
        let info = connection.req_packed_command(redis::cmd("INFO").arg("memory")).await;
        let info = info.and_then(|value| Ok(String::from_redis_value(value)?)).unwrap_or_default();
        let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        if let Some(policy) = policy.map(str::trim).filter(|policy| *policy != "noeviction") {
            tracing::warn!(policy, "the store's maxmemory-policy lets it drop sessions; use noeviction");
        }
    }

    pub(super) async fn connect(&self, pushes: UnboundedSender<PushInfo>) -> RedisResult<Connection> {
        let certificates = self.certificates().await?;
        let mut connection = match &self.config.topology {
            Topology::Single { address, db } => {
                let client = self.client(address, *db, certificates)?;
                let config = self.connection_config(pushes);
                Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Topology::Sentinel { sentinels, master } => {
                Connection::One(self.by_sentinel(sentinels, master, certificates, pushes).await?)
            }
            Topology::Cluster { nodes } => {
                Connection::Cluster(self.cluster(nodes, certificates, pushes).await?)
            }
        };
        match &mut connection {
            Connection::One(one) => one.subscribe(CHANNEL).await?,
            Connection::Cluster(cluster) => cluster.subscribe(CHANNEL).await?,
        }
        self.warn_of_eviction(&mut connection).await;
        Ok(connection)
    }

    fn connection_config(&self, pushes: UnboundedSender<PushInfo>) -> AsyncConnectionConfig {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(SERVER_TIMEOUT))
            .set_push_sender(pushes);
        match self.login.provider() {
            Some(provider) => config.set_credentials_provider(provider),
            None => config,
        }
    }

    fn address(&self, (host, port): &(String, u16)) -> ConnectionAddr {
        let host = host.clone();
        if self.config.tls {
            ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, *port)
        }
    }

    fn client(&self, at: &(String, u16), db: i64, tls: Option<TlsCertificates>) -> RedisResult<Client> {
        // Without telling the library's name, which takes a right that older servers do not know.
        let settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(db)
            .set_skip_set_lib_name();
        let info = self.address(at).into_connection_info()?.set_redis_settings(settings);
        match tls {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    async fn by_sentinel(
        &self,
        sentinels: &[(String, u16)],
        master: &str,
        tls: Option<TlsCertificates>,
        pushes: UnboundedSender<PushInfo>,
    ) -> RedisResult<MultiplexedConnection> {
        let addresses = || sentinels.iter().map(|sentinel| self.address(sentinel));
        let mut builder = SentinelClientBuilder::new(addresses(), master, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3);
        if self.config.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = tls {
            builder = builder.set_client_to_redis_certificates(certificates.clone());
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
        // The client asks the server for its role first, on a connection that knows nothing of the provider.
        if let Some(auth) = self.login.now().await? {
            builder = builder.set_client_to_redis_username(auth.username());
            builder = builder.set_client_to_redis_password(auth.password());
        }
        let mut client = builder.build()?;
        client.get_async_connection_with_config(&self.connection_config(pushes)).await
    }

    async fn cluster(
        &self,
        nodes: &[(String, u16)],
        tls: Option<TlsCertificates>,
        pushes: UnboundedSender<PushInfo>,
    ) -> RedisResult<ClusterConnection> {
        let infos = nodes.iter().map(|node| self.address(node).into_connection_info());
        let mut builder = ClusterClient::builder(infos.collect::<RedisResult<Vec<_>>>()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(SERVER_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .overall_response_timeout(Some(RESPONSE_TIMEOUT))
            .retries(2)
            .push_sender(pushes);
        if self.config.tls {
            builder = builder.tls(TlsMode::Secure);
        }
        if let Some(certificates) = tls {
            builder = builder.certs(certificates);
        }
        if let Some(provider) = self.login.provider() {
            builder = builder.set_credentials_provider(provider);
        }
        builder.build()?.get_async_connection().await
    }

    /// The store's own trust root, read anew for each connection; `None`: the public ones.
    async fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(path) = self.config.ca_file.as_ref().filter(|_| self.config.tls) else { return Ok(None) };
        let pem = tokio::fs::read(path).await.map_err(RedisError::from)?;
        Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// Whether the error says that the server is a replica of another one.
fn is_no_master(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "MASTERDOWN"))
}

pub(super) fn timed_out() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
