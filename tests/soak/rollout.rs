//! A rollout under load: one instance is told to stop, a second one takes over.
//!
//! The client side plays the load balancer: new connections go to the second instance as soon as the first is not ready
//! any more; those that are open are used until they are closed or say that they will be. A request that was never sent,
//! because its connection turned out to be closed, is sent on another one, as every client does; one that was sent and
//! got no answer has failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Dialer, H1, H2, get, get_h2, whole};
use super::figures::print;
use super::process::Program;
use super::tunnels;
use super::watches::{End, Watches};
use super::world::Account;
use super::{World, eventually};

/// 400 requests a second over HTTP/1.1, each client on a connection of its own, and 100 over HTTP/2.
const H1_CLIENTS: usize = 40;
const H2_CLIENTS: usize = 10;
const EVERY: Duration = Duration::from_millis(100);
/// In each protocol.
const WATCHES: usize = 250;
const USERS: usize = 10;
const TUNNELS: usize = 20;
const DRAIN: Duration = Duration::from_secs(12);
/// Of the window, the part in which the instance is only not ready, and the part after that over which watches end.
const NOTICE: Duration = Duration::from_millis(2_400);
const SPREAD: Duration = Duration::from_millis(7_680);
/// Clocks of two processes, and the scheduler of a busy machine.
const LEEWAY: Duration = Duration::from_millis(700);
const TRIES: usize = 3;

/// Where new connections go, and each instance's users.
struct Balancer {
    dialer: Dialer,
    fronts: [(SocketAddr, Vec<Account>); 2],
    current: AtomicUsize,
    stop: AtomicBool,
}

enum Sender {
    H1(H1),
    H2(H2),
}

#[derive(Default)]
struct Tally {
    /// Answers of each instance.
    good: [usize; 2],
    failed: Vec<String>,
    unsent: usize,
}

impl Sender {
    async fn open(balancer: &Balancer, addr: SocketAddr, is_h2: bool) -> anyhow::Result<Self> {
        Ok(if is_h2 {
            Self::H2(balancer.dialer.h2(addr).await?)
        } else {
            Self::H1(balancer.dialer.h1(addr).await?)
        })
    }

    async fn is_usable(&mut self) -> bool {
        match self {
            Self::H1(sender) => sender.ready().await.is_ok(),
            Self::H2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn ask(
        &mut self,
        account: &Account,
    ) -> Result<Response<Incoming>, TrySendError<Request<Empty<bytes::Bytes>>>> {
        match self {
            Self::H1(sender) => sender.try_send_request(get(&account.pods(), &account.token)).await,
            Self::H2(sender) => sender.try_send_request(get_h2(&account.pods(), &account.token)).await,
        }
    }
}

async fn client(balancer: Arc<Balancer>, n: usize) -> Tally {
    let mut tally = Tally::default();
    let mut open: Option<(Sender, usize)> = None;
    let mut tick = tokio::time::interval_at(Instant::now() + EVERY * n as u32 / 50, EVERY);
    while !balancer.stop.load(Ordering::Relaxed) {
        tick.tick().await;
        if let Err(why) = ask(&balancer, &mut open, n, &mut tally).await {
            tally.failed.push(why);
        }
    }
    tally
}

/// One request, on the open connection or on a new one.
async fn ask(
    balancer: &Balancer,
    open: &mut Option<(Sender, usize)>,
    n: usize,
    tally: &mut Tally,
) -> Result<(), String> {
    for _ in 0..TRIES {
        if let Some((sender, _)) = open
            && !sender.is_usable().await
        {
            *open = None;
        }
        if open.is_none() {
            let at = balancer.current.load(Ordering::Relaxed);
            let sender = Sender::open(balancer, balancer.fronts[at].0, n >= H1_CLIENTS).await;
            *open = Some((sender.map_err(|error| format!("instance {at}: connect: {error}"))?, at));
        }
        let (sender, at) = open.as_mut().expect("opened above");
        let account = &balancer.fronts[*at].1[n % USERS];
        match sender.ask(account).await {
            Ok(response) => match whole(response).await {
                Ok((200, 1..)) => {
                    tally.good[*at] += 1;
                    return Ok(());
                }
                other => return Err(format!("instance {at}: {other:?}")),
            },
            Err(mut error) if error.message().is_some() => {
                let _unsent = error.take_message();
                tally.unsent += 1;
                *open = None;
            }
            Err(error) => {
                let (at, kind) = (*at, if n >= H1_CLIENTS { "h2" } else { "h1" });
                *open = None;
                return Err(format!("instance {at}: {kind}: no answer: {:?}", error.error()));
            }
        }
    }
    Err(format!("not sent in {TRIES} tries"))
}

/// Keeps a tunnel busy to its end; when that came.
async fn keep_busy(mut tunnel: tunnels::Tunnel) -> Instant {
    let mut tick = tokio::time::interval(EVERY);
    while tunnels::ping(&mut tunnel, b"still there?").await.is_ok() {
        tick.tick().await;
    }
    Instant::now()
}

/// Events of all users, for ever.
async fn keep_telling(world: &World, accounts: &[Account]) {
    let mut tick = tokio::time::interval(EVERY);
    for account in accounts.iter().cycle() {
        tick.tick().await;
        world.upstream.topic(&account.name).put();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_takes_over_and_no_request_fails() {
    // Proves that a rollout under load fails no request, ends watches cleanly and spread, and gives tunnels their window.
    let world = World::start().await;
    let drain = format!("{}s", DRAIN.as_secs());
    let mut first = Program::start(&world, &[("ENTRADA_DRAIN", &drain)]).await;
    let second = Program::start(&world, &[]).await;
    let (accounts, taken_over) = (world.accounts(&first, USERS).await, world.accounts(&second, USERS).await);
    let mut watches = Watches::default();
    watches.open_h1(&world, first.addr, &accounts, WATCHES / USERS).await;
    watches.open_h2(&world, first.addr, &accounts, WATCHES / USERS).await;
    let mut busy = JoinSet::new();
    for n in 0..TUNNELS {
        busy.spawn(keep_busy(tunnels::open(&world, first.addr, &accounts[n % USERS], "echo").await));
    }
    let balancer = Arc::new(Balancer {
        dialer: world.dialer.clone(),
        fronts: [(first.addr, accounts.clone()), (second.addr, taken_over)],
        current: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    (0..H1_CLIENTS + H2_CLIENTS).for_each(|n| drop(clients.spawn(client(balancer.clone(), n))));
    let served = world.upstream.served();
    eventually("load", || async { world.upstream.served() > served + 1_000 }).await;

    let began = Instant::now();
    first.terminate();
    let drained = async {
        eventually("unreadiness", || async { !first.is_ready().await }).await;
        balancer.current.store(1, Ordering::Relaxed);
        first.exit_code().await
    };
    let code = tokio::select! {
        code = drained => code,
        () = keep_telling(&world, &accounts) => unreachable!("events flow for ever"),
    };
    let took = began.elapsed();
    let served = world.upstream.served();
    eventually("load at the second", || async { world.upstream.served() > served + 500 }).await;
    balancer.stop.store(true, Ordering::Relaxed);
    let (tallies, ends, tunnels) =
        (clients.join_all().await, watches.tasks.join_all().await, busy.join_all().await);
    print("rollout", "exit code, time from SIGTERM", format!("{code:?}, {:.1} s", took.as_secs_f64()));
    assert_eq!(code, Some(0));
    judge_watches(&ends, began);
    judge_tunnels(&tunnels, began);
    judge_requests(&tallies);
    world.upstream.assert_nobody_was_taken_for_another();
}

fn judge_requests(tallies: &[Tally]) {
    let good = |at: usize| tallies.iter().map(|tally| tally.good[at]).sum::<usize>();
    let unsent: usize = tallies.iter().map(|tally| tally.unsent).sum();
    let failed: Vec<&String> = tallies.iter().flat_map(|tally| &tally.failed).collect();
    print(
        "rollout",
        "requests answered by the first, by the second instance",
        format!("{}, {}", good(0), good(1)),
    );
    print("rollout", "requests that met a closed connection, and were sent on another", unsent);
    print("rollout", "requests failed", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

fn judge_watches(ends: &[(End, Instant)], began: Instant) {
    let broken = ends.iter().filter(|(end, _)| *end != End::Clean).count();
    let mut after: Vec<Duration> = ends.iter().map(|(_, at)| *at - began).collect();
    after.sort_unstable();
    let at = |percent: usize| format!("{:.1} s", after[(after.len() - 1) * percent / 100].as_secs_f64());
    let spread = [0, 25, 50, 75, 100].map(at).join(", ");
    print("rollout", &format!("{} watches ended after (first, quartiles, last)", ends.len()), spread);
    assert_eq!(broken, 0, "watches that did not end cleanly");
    assert!(after[0] + LEEWAY >= NOTICE, "{:?}", after[0]);
    for quarter in 1..=4 {
        let (from, to) = (NOTICE + SPREAD * (quarter - 1) / 4, NOTICE + SPREAD * quarter / 4 + LEEWAY);
        let count = after.iter().filter(|after| (from..to).contains(*after)).count();
        assert!(
            count >= ends.len() / 8,
            "{count} of {} watches ended between {from:?} and {to:?}",
            ends.len()
        );
    }
}

fn judge_tunnels(ends: &[Instant], began: Instant) {
    let (first, last) = (*ends.iter().min().unwrap() - began, *ends.iter().max().unwrap() - began);
    let text = format!("{:.1} s, {:.1} s", first.as_secs_f64(), last.as_secs_f64());
    print("rollout", &format!("{} tunnels ended after (first, last)", ends.len()), text);
    assert!(first + LEEWAY >= DRAIN, "a tunnel ended after {first:?}");
}
