//! Clients that ask for much and do not read it.

use std::net::SocketAddr;

use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::client::{Front, H2, PACE, get_h2};
use super::figures::{assert_hardly_noticed, each, mib, print};
use super::process::Program;
use super::world::Account;
use super::{World, eventually};

/// In each protocol.
const READERS: usize = 100;
/// Streams on one HTTP/2 connection.
const STREAMS: usize = 10;
/// So that the kernel does not read in the client's place.
const RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;
/// Connections to the API server that the ordinary requests leave in the pool.
const POOLED: usize = 16;
/// Sockets hold back what a reader does not take; what of it is in our own memory must stay below this.
const MAX_KIB_EACH: u64 = 448;

async fn stall_h1(world: &World, addr: SocketAddr, account: &Account) -> TlsStream<TcpStream> {
    let mut stream = world.dialer.tls_small_h1(addr, RECEIVE_BUFFER_BYTES).await.unwrap();
    let (path, token) = (account.secrets(), &account.token);
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn stall_h2(world: &World, addr: SocketAddr, account: &Account) -> (H2, Vec<Incoming>) {
    let mut sender = world.dialer.h2(addr).await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..STREAMS {
        let response = sender.send_request(get_h2(&account.secrets(), &account.token)).await.unwrap();
        assert_eq!(response.status(), 200);
        bodies.push(response.into_body());
    }
    (sender, bodies)
}

/// What all TCP sockets of this machine hold, in KiB: both ends of everything here, and whatever else runs.
fn kernel_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap();
    let pages: u64 = line.rsplit_once("mem ").unwrap().1.trim().parse().unwrap();
    pages * 4
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stall_delay_nobody() {
    // Proves that 200 lists of 10 MB which nobody reads cost little memory and no one else's time.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let accounts = world.accounts(&program, 2).await;
    let (other, greedy) = (&accounts[0], &accounts[1]);
    let (_idle, idle) = world.idle().await;
    let (before, kernel) = (program.held(), kernel_kib());
    let mut h1 = Vec::new();
    for _ in 0..READERS {
        h1.push(stall_h1(&world, program.addr, greedy).await);
    }
    let mut h2 = Vec::new();
    for _ in 0..READERS / STREAMS {
        h2.push(stall_h2(&world, program.addr, greedy).await);
    }
    let asked = READERS * 2;
    let served = world.upstream.served();
    eventually("all lists have begun", || async { world.upstream.lists_begun() >= asked }).await;
    let busy = Front { addr: program.addr, account: other.clone() };
    let spreads = PACE.side_by_side(&world.dialer, &idle, &busy, |_| {}).await;
    let during = program.held();
    print("stalled", "ordinary requests (200/s), idle proxy", spreads[0]);
    print("stalled", "the same of another user beside 200 stalled readers of 10 MB", spreads[1]);
    print(
        "stalled",
        "taken from the API server for one stalled reader",
        mib(world.upstream.big_bytes_sent() / 1_024 / asked as u64),
    );
    print(
        "stalled",
        "RSS before, with them, peak",
        [before.rss_kib, during.rss_kib, during.peak_kib].map(mib).join(", "),
    );
    print("stalled", "memory of one stalled reader", each(before.rss_kib, during.rss_kib, asked as u64));
    print(
        "stalled",
        "socket memory of the machine, mostly the API server's unsent answers",
        format!("{} more", mib(kernel_kib().saturating_sub(kernel))),
    );
    assert!(world.upstream.served() > served, "the other user was served");
    assert!(during.peak_kib - before.rss_kib < asked as u64 * MAX_KIB_EACH, "{before:?} {during:?}");
    assert_hardly_noticed(spreads);
    drop((h1, h2));
    eventually("their end", || async { program.held().sockets <= before.sockets + POOLED }).await;
    world.upstream.assert_nobody_was_taken_for_another();
}
