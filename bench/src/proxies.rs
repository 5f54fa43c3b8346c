//! The proxies, each configured for the same work and started as a process of its own.

mod entrada;
mod haproxy;
mod nginx;
mod peer;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::list;
use crate::load::Protocol;
use crate::process::Process;
use crate::world::{Account, World};
use haproxy::HAPROXY;
use nginx::NGINX;
use peer::Peer;

/// One of the proxies that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As shipped, with an audit log in a file and a rate limit: all that Entrada does beside proxying.
    Entrada,
    /// Without its line in the log for each request, without audit and limits.
    EntradaBare,
    /// With its access log.
    NginxLog,
    /// Without.
    Nginx,
    /// With its access log.
    HaproxyLog,
    /// Without.
    Haproxy,
}

impl Kind {
    /// In the order of the tables.
    pub const ALL: [Self; 6] =
        [Self::Entrada, Self::NginxLog, Self::HaproxyLog, Self::EntradaBare, Self::Nginx, Self::Haproxy];
    /// One of each program, as they are mostly run.
    pub const LOGGED: [Self; 3] = [Self::Entrada, Self::NginxLog, Self::HaproxyLog];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entrada => "Entrada",
            Self::EntradaBare => "Entrada, bare",
            Self::NginxLog => "nginx, log",
            Self::Nginx => "nginx",
            Self::HaproxyLog => "HAProxy, log",
            Self::Haproxy => "HAProxy",
        }
    }
}

/// A running proxy that has answered.
pub struct Proxy {
    /// Which.
    pub kind: Kind,
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Whom it knows.
    pub accounts: Vec<Account>,
    /// Its process.
    pub process: Process,
    /// From its start until it takes requests.
    pub took: Duration,
}

impl Proxy {
    /// Starts one that knows so many users. Of the peers the tokens are those that an Entrada has minted before.
    ///
    /// # Errors
    /// When it does not start, or does not answer.
    pub async fn start(world: &World, kind: Kind, users: usize) -> anyhow::Result<Self> {
        let is_bare = kind == Kind::EntradaBare;
        match kind {
            Kind::Entrada | Kind::EntradaBare => {
                Self::entrada(world, Command::new(entrada::binary()), kind, is_bare, users).await
            }
            Kind::Nginx | Kind::NginxLog => Self::peer(world, kind, users, &NGINX).await,
            Kind::Haproxy | Kind::HaproxyLog => Self::peer(world, kind, users, &HAPROXY).await,
        }
    }

    /// One of each kind, with one user.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_each(world: &World, kinds: &[Kind]) -> anyhow::Result<Vec<Self>> {
        let mut proxies = Vec::new();
        for kind in kinds {
            proxies.push(Self::start(world, *kind, 1).await?);
        }
        Ok(proxies)
    }

    /// Starts an Entrada by this command, with all that it does beside proxying.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_entrada(world: &World, command: Command, users: usize) -> anyhow::Result<Self> {
        Self::entrada(world, command, Kind::Entrada, false, users).await
    }

    async fn entrada(
        world: &World,
        command: Command,
        kind: Kind,
        is_bare: bool,
        users: usize,
    ) -> anyhow::Result<Self> {
        let (addr, began) = (free_port()?, Instant::now());
        let mut started = entrada::start(world, command, addr, is_bare)?;
        until_ready(started.admin, &mut started.process).await?;
        let took = began.elapsed();
        let accounts = world.sign_in(&started.url, 0..users).await?;
        let proxy = Self { kind, addr, accounts, process: started.process, took };
        proxy.serves_all(world).await?;
        Ok(proxy)
    }

    async fn peer(world: &World, kind: Kind, users: usize, peer: &Peer) -> anyhow::Result<Self> {
        let (addr, swaps) = (free_port()?, swaps(world, users)?);
        let accounts = swaps.iter().map(|swap| swap.account.clone()).collect();
        let (began, is_logged) = (Instant::now(), matches!(kind, Kind::NginxLog | Kind::HaproxyLog));
        let mut process = peer.start(world, addr, is_logged, &swaps)?;
        until_it_answers(world, addr, &mut process).await?;
        let proxy = Self { kind, addr, accounts, process, took: began.elapsed() };
        proxy.serves_all(world).await?;
        Ok(proxy)
    }

    /// Each account is let in, as the API server sees it.
    async fn serves_all(&self, world: &World) -> anyhow::Result<()> {
        let mut sender = world.dialer.open(Protocol::H1, self.addr).await?;
        for account in &self.accounts {
            let bytes = sender.read(account, &list(2_000)).await.with_context(|| self.kind.name())?;
            anyhow::ensure!(bytes == 2_000, "{}: {bytes} bytes", self.kind.name());
        }
        Ok(())
    }
}

/// A client's made-up token of the same form as Entrada's, and the minted one that a peer swaps it for.
struct Swap {
    account: Account,
    token: String,
    minted: String,
}

/// How often somebody is asked who has just been started, and how many times.
const ASKED_EVERY: Duration = Duration::from_millis(2);
const ASKED_AT_MOST: usize = 30_000;

/// Waits until somebody answers a TLS handshake there.
async fn until_it_answers(world: &World, addr: SocketAddr, process: &mut Process) -> anyhow::Result<()> {
    let mut poll = tokio::time::interval(ASKED_EVERY);
    for _ in 0..ASKED_AT_MOST {
        poll.tick().await;
        process.check()?;
        if world.dialer.tls(Protocol::H1, addr).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("nobody answers at {addr}")
}

/// Waits until an Entrada says so.
async fn until_ready(admin: SocketAddr, process: &mut Process) -> anyhow::Result<()> {
    let mut poll = tokio::time::interval(ASKED_EVERY);
    for _ in 0..ASKED_AT_MOST {
        poll.tick().await;
        process.check()?;
        let Ok(mut stream) = TcpStream::connect(admin).await else { continue };
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        if text.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
    }
    anyhow::bail!("Entrada does not become ready")
}

/// For users who have come through an Entrada before.
fn swaps(world: &World, users: usize) -> anyhow::Result<Vec<Swap>> {
    let seen = world.upstream.seen();
    let swap = |n: usize| {
        let name = format!("user{n:05}");
        let minted = seen.get(&name).context("start an Entrada first")?.to_str()?.to_owned();
        let token = format!("entrada_{n:049}");
        let account = Account { name, authorization: format!("Bearer {token}").try_into()? };
        Ok(Swap { account, token, minted })
    };
    (0..users).map(swap).collect()
}

/// The program of a proxy.
#[must_use]
pub fn binary(kind: Kind) -> PathBuf {
    match kind {
        Kind::Entrada | Kind::EntradaBare => entrada::binary(),
        Kind::Nginx | Kind::NginxLog => tool("nginx"),
        Kind::Haproxy | Kind::HaproxyLog => tool("haproxy"),
    }
}

/// A program that `scripts/tools bench` fetched. Not below a moved target folder: the script does not know it.
fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from("target/tools").join(name);
    std::path::absolute(&path).unwrap_or(path)
}

/// Each of the proxies works with so many threads or processes.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// One that nobody listens on right now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
