//! What a proxy adds to the time of a request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::list;
use crate::figures::{Row, Table, median, percentile, short};
use crate::load::Protocol;
use crate::plan::Plan;
use crate::proxies::{Kind, Proxy};
use crate::world::{Account, World};

const BYTES: usize = 2_000;
/// Low load: this many requests a second over this many connections.
const LOW: (f64, usize) = (200.0, 4);
/// High load: this share of what can be had, over this many connections.
const HIGH: (f64, usize) = (0.7, 32);

/// Who is asked, and as whom.
struct Target<'a> {
    world: &'a World,
    protocol: Protocol,
    addr: SocketAddr,
    account: Account,
}

/// When the clock of a request starts: when it is sent, or when it was due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Sent,
    Due,
}

/// Microseconds that each proxy adds at low load, and milliseconds that the slowest wait at high load.
///
/// # Errors
/// When a proxy does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = Kind::LOGGED;
    let proxies = Proxy::start_each(world, &kinds).await?;
    let seen = world.upstream.seen();
    let minted = seen.get("user00000").context("nobody has come yet")?.clone();
    let direct = Account { name: "user00000".to_owned(), authorization: minted };
    let (_, window) = plan.window();
    // At a low rate it takes longer to see what the slowest in a hundred wait.
    let long = 2 * window;
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for protocol in Protocol::BOTH {
        let low =
            |name: &str| Row::new(format!("added at {} requests/s, {protocol}, {name} (µs)", LOW.0), kinds);
        let (mut p50, mut p99) = (low("p50"), low("p99"));
        let high = |name: &str| Row::new(format!("{name}, {protocol}"), kinds);
        let (mut rate, mut slow) = (high("most requests/s on both cores"), high("p99 at 70 % of that (ms)"));
        let mut alone = Vec::new();
        for _ in 0..plan.rounds() {
            let target = Target { world, protocol, addr: world.upstream.addr(), account: direct.clone() };
            let mut straight = target.paced(LOW.0, LOW.1, long, From::Sent).await?;
            for proxy in &proxies {
                let target = Target { addr: proxy.addr, account: proxy.accounts[0].clone(), ..target };
                let mut through = target.paced(LOW.0, LOW.1, long, From::Sent).await?;
                let mut added =
                    |percent| percentile(&mut through, percent) - percentile(&mut straight, percent);
                p50.add(proxy.kind, added(50));
                p99.add(proxy.kind, added(99));
                let most = target.fastest(HIGH.1, window).await?;
                rate.add(proxy.kind, most);
                let mut times = target.paced(most * HIGH.0, HIGH.1, window, From::Due).await?;
                slow.add(proxy.kind, percentile(&mut times, 99) / 1_000.0);
                if proxy.kind == Kind::Entrada {
                    let target = Target { addr: world.upstream.addr(), account: direct.clone(), ..target };
                    let mut times = target.paced(most * HIGH.0, HIGH.1, window, From::Due).await?;
                    alone.push(percentile(&mut times, 99) / 1_000.0);
                }
            }
        }
        notes.push(format!(
            "Without a proxy the p99 at Entrada's rate is {} ms, {protocol}: the clients' own share.",
            short(median(&alone))
        ));
        rows.extend([p50, p99, rate, slow]);
    }
    Ok(Table { notes, ..Table::new("latency", "latency, answers of 2 KB", rows) })
}

impl Target<'_> {
    /// Each connection asks again as soon as it was answered: how many answers a second.
    async fn fastest(&self, connections: usize, lasts: Duration) -> anyhow::Result<f64> {
        let end = Instant::now() + lasts;
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            let mut sender = self.world.dialer.open(self.protocol, self.addr).await?;
            let account = self.account.clone();
            clients.spawn(async move {
                let mut answers = 0.0;
                while Instant::now() < end {
                    sender.read(&account, &list(BYTES)).await?;
                    answers += 1.0;
                }
                anyhow::Ok(answers)
            });
        }
        let answers = clients.join_all().await.into_iter().sum::<anyhow::Result<f64>>()?;
        Ok(answers / lasts.as_secs_f64())
    }

    /// Requests at a steady rate: how many microseconds each took.
    async fn paced(
        &self,
        rate: f64,
        connections: usize,
        lasts: Duration,
        from: From,
    ) -> anyhow::Result<Vec<f64>> {
        let every = Duration::from_secs_f64(connections as f64 / rate);
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(self.world.dialer.open(self.protocol, self.addr).await?);
        }
        let begin = Instant::now();
        let mut clients = JoinSet::new();
        for (n, mut sender) in senders.into_iter().enumerate() {
            let account = self.account.clone();
            // Not all connections at the same moment.
            let offset = every.mul_f64(n as f64 / connections as f64);
            clients.spawn(async move {
                sender.read(&account, &list(BYTES)).await?;
                let mut due = tokio::time::interval_at(begin + every + offset, every);
                due.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut took = Vec::new();
                loop {
                    let due = due.tick().await;
                    if due >= begin + lasts {
                        return anyhow::Ok(took);
                    }
                    let began = if from == From::Due { due } else { Instant::now() };
                    sender.read(&account, &list(BYTES)).await?;
                    took.push(began.elapsed().as_secs_f64() * 1e6);
                }
            });
        }
        let took: anyhow::Result<Vec<_>> = clients.join_all().await.into_iter().collect();
        Ok(took?.concat())
    }
}
