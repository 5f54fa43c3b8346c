//! What passing through Entrada costs, next to a direct connection to the same API server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::World;
use super::client::{Dialer, bearer, list};
use super::figures::{Spread, print};
use super::process::Program;
use super::world::Account;

const CONNECTIONS: usize = 32;
const LASTS: Duration = Duration::from_secs(8);

/// Each connection asks again as soon as it was answered. How many answers there were, and how long each took.
pub(crate) async fn as_fast_as_possible(
    dialer: &Dialer,
    addr: SocketAddr,
    account: &Account,
    lasts: Duration,
) -> (Spread, f64) {
    let mut clients = JoinSet::new();
    let end = Instant::now() + lasts;
    for _ in 0..CONNECTIONS {
        let (dialer, account) = (dialer.clone(), account.clone());
        clients.spawn(async move {
            let mut sender = dialer.h1(addr).await.unwrap();
            let mut took = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                assert_eq!(list(&mut sender, &account).await.unwrap(), 200);
                took.push(began.elapsed());
            }
            took
        });
    }
    let took = clients.join_all().await.concat();
    let per_second = took.len() as f64 / lasts.as_secs_f64();
    (Spread::of(took), per_second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_get_costs_little_more_than_without_us() {
    // Prints throughput, latency and processor time of small GETs; asserts only what no noise can break.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let account = world.accounts(&program, 1).await.remove(0);
    let direct = Account { token: "direct".to_owned(), ..account.clone() };
    world.upstream.let_in(bearer(&direct.token), &direct.name);
    let warm = as_fast_as_possible(&world.dialer, program.addr, &account, LASTS).await;
    let before = program.held();
    let (through, through_rate) = as_fast_as_possible(&world.dialer, program.addr, &account, LASTS).await;
    let after = program.held();
    let (straight, straight_rate) =
        as_fast_as_possible(&world.dialer, world.upstream.addr(), &direct, LASTS).await;
    let micros = (after.cpu - before.cpu).as_micros() / through.count as u128;
    print(
        "baseline",
        "small GETs through Entrada, 32 connections",
        format!("{through_rate:.0}/s, {through}"),
    );
    print("baseline", "the same without Entrada", format!("{straight_rate:.0}/s, {straight}"));
    print(
        "baseline",
        "share of the direct rate (clients, proxy and server on 2 cores)",
        format!("{:.2}", through_rate / straight_rate),
    );
    print("baseline", "Entrada's processor time for one request", format!("{micros} µs"));
    print("baseline", "RSS", super::figures::mib(after.rss_kib));
    assert!(through.count > 100 && warm.0.count > 100, "{through}");
    assert!(after.sockets <= before.sockets + CONNECTIONS, "{before:?} {after:?}");
    world.upstream.assert_nobody_was_taken_for_another();
}
