//! 5,000 watches of 100 users through one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{Dialer, Front, H1, H2, PACE, get, get_h2};
use super::figures::{Spread, assert_hardly_noticed, each, mib, print};
use super::process::Program;
use super::upstream::Topic;
use super::world::Account;
use super::{World, within};

const USERS: usize = 100;
/// Of one user in each protocol; those in HTTP/2 share one connection.
const EACH: usize = 25;
const EVENTS: usize = 60;
/// Connections that are opened at the same time.
const AT_ONCE: usize = 64;
/// Events a second while ordinary requests are timed; each goes to the 50 watches of one user.
const EVENTS_PER_SECOND: u32 = 10;

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With its final chunk, or END_STREAM.
    Clean,
    Broken,
}

/// Watches that are followed, each in a task of its own.
#[derive(Default)]
pub(crate) struct Watches {
    pub(crate) tasks: JoinSet<(End, Instant)>,
    /// Events that were seen, in order and byte for byte, by all of them together.
    pub(crate) seen: Arc<AtomicUsize>,
    /// Connections in HTTP/1.1 live as long as their sender; so do those in HTTP/2.
    h1: Vec<H1>,
    h2: Vec<H2>,
}

impl Watches {
    /// Opens `each` watches of each account, one connection for each.
    pub(crate) async fn open_h1(
        &mut self,
        world: &World,
        addr: SocketAddr,
        accounts: &[Account],
        each: usize,
    ) {
        let dialer = &world.dialer;
        let opened = stream::iter(accounts).flat_map(|account| stream::repeat(account).take(each)).map(
            async |account| {
                let mut sender = dialer.h1(addr).await.unwrap();
                let response = sender.send_request(get(&account.watch(), &account.token)).await.unwrap();
                assert_eq!(response.status(), 200);
                (sender, response.into_body(), account)
            },
        );
        let opened: Vec<_> = opened.buffer_unordered(AT_ONCE).collect().await;
        for (sender, body, account) in opened {
            self.h1.push(sender);
            self.follow(body, world.upstream.topic(&account.name));
        }
    }

    /// Opens `each` watches of each account, all on one connection of the account's.
    pub(crate) async fn open_h2(
        &mut self,
        world: &World,
        addr: SocketAddr,
        accounts: &[Account],
        each: usize,
    ) {
        let opened = stream::iter(accounts).map(|account| open_h2(&world.dialer, addr, account, each));
        let opened: Vec<_> = opened.buffered(AT_ONCE).collect().await;
        for ((sender, bodies), account) in opened.into_iter().zip(accounts) {
            self.h2.push(sender);
            for body in bodies {
                self.follow(body, world.upstream.topic(&account.name));
            }
        }
    }

    fn follow(&mut self, body: Incoming, topic: Arc<Topic>) {
        self.tasks.spawn(follow(body, topic, self.seen.clone()));
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }
}

async fn open_h2(dialer: &Dialer, addr: SocketAddr, account: &Account, each: usize) -> (H2, Vec<Incoming>) {
    let mut sender = dialer.h2(addr).await.unwrap();
    let mut bodies = Vec::with_capacity(each);
    for _ in 0..each {
        let response = sender.send_request(get_h2(&account.watch(), &account.token)).await.unwrap();
        assert_eq!(response.status(), 200);
        bodies.push(response.into_body());
    }
    (sender, bodies)
}

/// Reads a watch to its end, and compares every byte with what the API server sent: each event once, in order.
async fn follow(mut body: Incoming, topic: Arc<Topic>, seen: Arc<AtomicUsize>) -> (End, Instant) {
    let (mut next, mut expected) = (0, Bytes::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (End::Broken, Instant::now()) };
        let Ok(mut data) = frame.into_data() else { continue };
        while data.has_remaining() {
            if expected.is_empty() {
                expected = topic.event(next).expect("an event that was sent");
                next += 1;
            }
            let common = data.len().min(expected.len());
            assert_eq!(data[..common], expected[..common], "event {next}");
            data.advance(common);
            expected.advance(common);
            if expected.is_empty() {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let end = if expected.is_empty() { End::Clean } else { End::Broken };
    (end, Instant::now())
}

/// Times ordinary requests at an idle proxy and at this one, while events flow here. How many events there were.
async fn timed_with_events(world: &World, program: &Program, accounts: &[Account]) -> ([Spread; 2], usize) {
    let (_idle, idle) = world.idle().await;
    let busy = Front { addr: program.addr, account: accounts[0].clone() };
    let (flow, mut flows) = watch::channel(false);
    let mut put = 0;
    let events = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / EVENTS_PER_SECOND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            flows.wait_for(|flows| *flows).await.unwrap();
            tick.tick().await;
            world.upstream.topic(&accounts[put % accounts.len()].name).put();
            put += 1;
        }
    };
    let spreads = tokio::select! {
        spreads = PACE.side_by_side(&world.dialer, &idle, &busy, |on| { flow.send_replace(on); }) => spreads,
        () = events => unreachable!("events flow for ever"),
    };
    (spreads, put)
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_100_users_see_every_event_in_order() {
    // Proves order and completeness for 5,000 watches, that ordinary requests hardly notice them, and what one costs.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let accounts = world.accounts(&program, USERS).await;
    let mut watches = Watches::default();
    let before = program.held();
    watches.open_h1(&world, program.addr, &accounts, EACH).await;
    let with_h1 = program.held();
    watches.open_h2(&world, program.addr, &accounts, EACH).await;
    let with_both = program.held();
    let count = 2 * USERS * EACH;
    assert_eq!(program.metric("entrada_streams{kind=\"watch\"}").await, count as f64);
    let half = (USERS * EACH) as u64;
    print("watches", "open", format!("{count} ({half} HTTP/1.1, {half} in 100 HTTP/2 connections)"));
    print("watches", "memory of one, HTTP/1.1", each(before.rss_kib, with_h1.rss_kib, half));
    print("watches", "memory of one, HTTP/2", each(with_h1.rss_kib, with_both.rss_kib, half));
    print("watches", "memory of one, all", each(before.rss_kib, with_both.rss_kib, 2 * half));
    print(
        "watches",
        "RSS before and with all",
        format!("{}, {}", mib(before.rss_kib), mib(with_both.rss_kib)),
    );

    let (spreads, put) = timed_with_events(&world, &program, &accounts).await;
    let per_second = EVENTS_PER_SECOND as usize * 2 * EACH;
    print("watches", "ordinary requests (200/s), idle proxy", spreads[0]);
    print("watches", &format!("ordinary requests beside them, {per_second} events/s delivered"), spreads[1]);

    let (began, cpu) = (Instant::now(), program.held().cpu);
    let already = watches.seen();
    for (n, account) in accounts.iter().enumerate() {
        let had = put / USERS + usize::from(n < put % USERS);
        (had..EVENTS).for_each(|_| world.upstream.topic(&account.name).put());
    }
    let all = count * EVENTS;
    within(Duration::from_secs(120), "every event", || async { watches.seen() >= all }).await;
    let (took, cpu) = (began.elapsed(), program.held().cpu - cpu);
    assert_eq!(watches.seen(), all);
    let burst = all - already;
    print(
        "watches",
        &format!("{burst} events at once, delivered in"),
        format!("{:.1} s", took.as_secs_f64()),
    );
    let micros = cpu.as_micros() / burst as u128;
    print("watches", "processor time for one event of one watch", format!("{micros} µs"));
    print(
        "watches",
        "RSS after the burst, peak",
        format!("{}, {}", mib(program.held().rss_kib), mib(program.held().peak_kib)),
    );

    assert!(watches.tasks.try_join_next().is_none(), "a watch ended");
    assert_hardly_noticed(spreads);
    world.upstream.assert_nobody_was_taken_for_another();
}
