//! The API server dies and comes back while many use it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Dialer, H1, get};
use super::figures::print;
use super::process::Program;
use super::tunnels;
use super::watches::{End, Watches};
use super::world::Account;
use super::{PATIENCE, World, eventually, within};

const CLIENTS: usize = 32;
/// Of one client: 320 requests a second in all.
const EVERY: Duration = Duration::from_millis(100);
const WATCHES: usize = 20;
const TUNNELS: usize = 5;
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(3);
/// What the issue promises after its return.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// How long the pool keeps a connection that nobody uses.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// A Status of ours with this code.
    Told(u16),
    /// An answer that broke off after its head.
    BrokenBody,
    /// No answer at all, or one that makes no sense.
    Failed,
}

async fn ask(sender: &mut H1, path: &str, account: &Account) -> Outcome {
    let Ok(response) = sender.send_request(get(path, &account.token)).await else { return Outcome::Failed };
    let (status, is_ours) = (response.status().as_u16(), response.headers().contains_key("entrada-reason"));
    match response.into_body().collect().await {
        Err(_) => Outcome::BrokenBody,
        Ok(_) if status == 200 => Outcome::Good,
        Ok(body) => {
            let told: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            let is_status = told["kind"] == "Status" && told["code"] == status;
            if is_ours && is_status { Outcome::Told(status) } else { Outcome::Failed }
        }
    }
}

/// Asks at a steady rate until told to stop; every second client for small lists, the others for big ones.
async fn client(
    dialer: Dialer,
    addr: SocketAddr,
    account: Account,
    is_big: bool,
    stop: Arc<AtomicBool>,
) -> Vec<(Instant, Outcome)> {
    let path = if is_big { account.secrets() } else { account.pods() };
    let mut tick = tokio::time::interval(if is_big { EVERY * 10 } else { EVERY });
    let mut outcomes = Vec::new();
    let mut sender = dialer.h1(addr).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        if sender.ready().await.is_err() {
            // The connection ended with the answer that broke off on it.
            sender = dialer.h1(addr).await.unwrap();
        }
        let asked = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, ask(&mut sender, &path, &account)).await;
        outcomes.push((asked, outcome.unwrap_or(Outcome::Failed)));
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_killed_and_comes_back_leaves_nothing_behind() {
    // Proves what clients are told meanwhile, that they are served again within a second, and that no socket leaks.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let accounts = world.accounts(&program, 4).await;
    let at_rest = program.held().sockets;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let account = accounts[n % accounts.len()].clone();
        clients.spawn(client(world.dialer.clone(), program.addr, account, n % 4 == 3, stop.clone()));
    }
    let mut watches = Watches::default();
    watches.open_h1(&world, program.addr, &accounts[..2], WATCHES / 4).await;
    watches.open_h2(&world, program.addr, &accounts[2..], WATCHES / 4).await;
    let mut open = Vec::new();
    for _ in 0..TUNNELS {
        open.push(tunnels::open(&world, program.addr, &accounts[0], "echo").await);
    }
    let served = world.upstream.served();
    eventually("load", || async { world.upstream.served() > served + 500 }).await;
    let under_load = program.held().sockets;

    let killed = Instant::now();
    world.upstream.kill().await;
    let ends = watches.tasks.join_all().await;
    assert!(ends.iter().all(|(end, _)| *end == End::Broken), "a watch that broke must not look complete");
    for tunnel in &mut open {
        assert!(tunnels::ping(tunnel, b"gone").await.is_err());
    }
    drop(open);
    let mut away = tokio::time::interval_at(killed + AWAY, AWAY);
    away.tick().await;
    world.upstream.restart().await;
    let back = Instant::now();
    let served = world.upstream.served();
    eventually("load again", || async { world.upstream.served() > served + 1_000 }).await;
    stop.store(true, Ordering::Relaxed);
    let outcomes = clients.join_all().await.concat();
    judge(&outcomes, killed, back);

    let after = program.held().sockets;
    let at_rest_again = || async { program.held().sockets <= at_rest };
    let took = within(POOL_IDLE + PATIENCE, "sockets are closed", at_rest_again).await;
    print(
        "restart",
        "sockets at rest, under load, after it, without the idle pool",
        format!("{at_rest}, {under_load}, {after}, {} after {} s", program.held().sockets, took.as_secs()),
    );
    world.upstream.assert_nobody_was_taken_for_another();
}

fn judge(outcomes: &[(Instant, Outcome)], killed: Instant, back: Instant) {
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, own)| wanted(own)).count();
    let told = |code: u16| outcomes.iter().filter(|(_, own)| *own == Outcome::Told(code)).count();
    let broken = count(|own| *own == Outcome::BrokenBody);
    print(
        "restart",
        "requests: good, 502, 503, broken in the body",
        format!("{}, {}, {}, {broken}", count(|own| *own == Outcome::Good), told(502), told(503)),
    );
    let others: Vec<_> = outcomes
        .iter()
        .filter(|(_, own)| !matches!(own, Outcome::Good | Outcome::BrokenBody | Outcome::Told(502 | 503)))
        .collect();
    assert!(others.is_empty(), "neither a Status nor a broken stream: {others:?}");
    assert!(told(503) > 0, "the API server was away");
    let first = outcomes.iter().filter(|(asked, own)| *asked >= back && *own == Outcome::Good);
    let first = first.map(|(asked, _)| *asked - back).min().expect("a good answer after its return");
    print(
        "restart",
        "first request that succeeded after its return was sent after",
        format!("{} ms", first.as_millis()),
    );
    for (asked, outcome) in outcomes {
        let is_bad = *outcome != Outcome::Good;
        assert!(!is_bad || *asked < back + BACK_WITHIN, "{outcome:?} {:?} after its return", *asked - back);
        // A big list that was under way when the server died was asked for before.
        assert!(!is_bad || *asked + Duration::from_secs(5) > killed, "{outcome:?} before it was killed");
    }
}
