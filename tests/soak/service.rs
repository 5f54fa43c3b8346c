//! Several replicas as one service: the same public URL, which leads to a balancer, and a port for each.
//!
//! The balancer passes connections on in turn, so that a sign-in with its redirects meets several replicas, and passes
//! over one that is not in service or refuses the connection, as a Kubernetes service does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::World;
use super::client::{H1, get};
use super::process::{Program, free_port};
use super::world::{Account, LOOPBACK, Visitor};

pub(crate) const REPLICAS: usize = 3;

pub(crate) struct Service {
    /// The public URL.
    pub(crate) url: String,
    pub(crate) replicas: Vec<Program>,
    pub(crate) targets: Arc<Targets>,
    settings: Vec<(String, String)>,
    balancer: JoinHandle<()>,
}

/// Where connections can go.
pub(crate) struct Targets {
    pub(crate) addrs: Vec<SocketAddr>,
    in_service: Vec<AtomicBool>,
    next: AtomicUsize,
}

/// An answer, as far as it tells served from refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    /// `Entrada-Reason`, where the answer is ours.
    pub(crate) reason: String,
    pub(crate) retries: bool,
}

impl Service {
    /// Starts all replicas with this store and these further settings.
    pub(crate) async fn start(world: &World, store: &str, extra: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        world.expect_callback(&url);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = [&[("ENTRADA_STORE", store)], extra].concat().iter().map(owned).collect();
        let mut addrs = Vec::new();
        for _ in 0..REPLICAS {
            addrs.push(free_port().await);
        }
        let in_service = (0..REPLICAS).map(|_| AtomicBool::new(true)).collect();
        let targets = Arc::new(Targets { addrs, in_service, next: AtomicUsize::new(0) });
        let balancer = tokio::spawn(balance(listener, targets.clone()));
        let mut service = Self { url, replicas: Vec::new(), targets, settings, balancer };
        for n in 0..REPLICAS {
            let replica = service.start_replica(world, n).await;
            service.replicas.push(replica);
        }
        service
    }

    /// Starts a replica in this one's place.
    pub(crate) async fn start_replica(&self, world: &World, n: usize) -> Program {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        Program::start_replica(world, &self.url, self.targets.addrs[n], &settings).await
    }

    /// Whether new connections go to this replica.
    pub(crate) fn set_in_service(&self, n: usize, is: bool) {
        self.targets.in_service[n].store(is, Ordering::Relaxed);
    }

    /// Signs this many users in, and uses each token once at each replica.
    pub(crate) async fn visitors(&self, world: &World, count: usize) -> Vec<Visitor> {
        let visitors = world.visitors(&self.url, count).await;
        for n in 0..REPLICAS {
            let mut sender = world.dialer.h1(self.targets.addrs[n]).await.unwrap();
            for visitor in &visitors {
                assert_eq!(ask(&mut sender, &visitor.account).await.unwrap().status, 200);
            }
        }
        visitors
    }

    /// What each replica answers to a small list.
    pub(crate) async fn ask_each(&self, world: &World, account: &Account) -> Vec<Told> {
        let mut told = Vec::new();
        for addr in &self.targets.addrs {
            told.push(ask(&mut world.dialer.h1(*addr).await.unwrap(), account).await.unwrap());
        }
        told
    }

    /// Whether each replica answers so.
    pub(crate) async fn all_answer(&self, world: &World, account: &Account, status: u16) -> bool {
        self.ask_each(world, account).await.iter().all(|told| told.status == status)
    }

    /// # Panics
    /// When a replica has written a line at level ERROR.
    pub(crate) fn assert_no_errors_logged(&self) {
        for replica in &self.replicas {
            let errors = replica.logged("\"ERROR\"");
            assert!(errors.is_empty(), "{errors:#?}");
        }
    }
}

impl Targets {
    /// This one, or one of the others where it is not in service.
    pub(crate) fn at_or_after(&self, n: usize) -> usize {
        let mut all = (0..REPLICAS).map(|step| (n + step) % REPLICAS);
        all.find(|n| self.in_service[*n].load(Ordering::Relaxed)).unwrap_or(n % REPLICAS)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.balancer.abort();
    }
}

async fn balance(listener: TcpListener, targets: Arc<Targets>) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let targets = targets.clone();
        tokio::spawn(async move {
            let first = targets.next.fetch_add(1, Ordering::Relaxed);
            for step in 0..REPLICAS {
                let at = targets.addrs[targets.at_or_after(first + step)];
                if let Ok(mut replica) = TcpStream::connect(at).await {
                    let _ended = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
                    return;
                }
            }
        });
    }
}

/// What a small list is answered with.
pub(crate) async fn ask(sender: &mut H1, account: &Account) -> anyhow::Result<Told> {
    sender.ready().await?;
    let response = sender.send_request(get(&account.pods(), &account.token)).await?;
    let (head, body) = response.into_parts();
    body.collect().await?;
    Ok(Told::of(head.status, &head.headers))
}

impl Told {
    pub(crate) fn of(status: http::StatusCode, headers: &http::HeaderMap) -> Self {
        let reason = headers.get("entrada-reason").map_or("", |reason| reason.to_str().unwrap());
        let retries = headers.contains_key(RETRY_AFTER);
        Self { status: status.as_u16(), reason: reason.to_owned(), retries }
    }

    /// Whether it says that the store is away and that trying again helps.
    pub(crate) fn is_store_away(&self) -> bool {
        self.status == 503 && self.reason == "store_unavailable" && self.retries
    }
}
