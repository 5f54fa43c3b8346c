//! Memory of idle watches, before and after a burst of events, and processor time of an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::client::{Sender, WATCH};
use crate::figures::{Row, Table, short};
use crate::load::Protocol;
use crate::plan::{Plan, pass};
use crate::proxies::{Kind, Proxy};
use crate::upstream::FIRST_EVENT;
use crate::world::World;

/// Each with a share of the watches: no user may have most of the connections to the API server.
const USERS: usize = 20;
/// Watches that share one HTTP/2 connection.
const STREAMS: usize = 100;
const AT_ONCE: usize = 32;
const FEW: usize = 1_000;
/// Of one event while memory and time are looked at.
const EVENT_BYTES: usize = 500;
/// A burst, all at once: 100 KB for each watch.
const BURST: [usize; 2] = [20, 5_000];
/// Events whose processor time is looked at.
const EVENTS: usize = 20;

/// Open watches, each of which is read by a task of its own.
pub struct Watches {
    count: usize,
    seen_bytes: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
    _senders: Vec<Sender>,
}

impl Watches {
    /// Opens so many.
    ///
    /// # Errors
    /// When one is not let in.
    pub async fn open(
        world: &World,
        proxy: &Proxy,
        protocol: Protocol,
        count: usize,
    ) -> anyhow::Result<Self> {
        let each = if protocol == Protocol::H2 { STREAMS.min(count) } else { 1 };
        let opened = stream::iter(0..count.div_ceil(each)).map(async |n| {
            let account = &proxy.accounts[n % proxy.accounts.len()];
            let mut sender = world.dialer.open(protocol, proxy.addr).await?;
            let mut bodies = Vec::new();
            for _ in 0..each {
                bodies.push(sender.get(account, WATCH).await?.into_body());
            }
            anyhow::Ok((sender, bodies))
        });
        let opened: Vec<_> = opened.buffer_unordered(AT_ONCE).try_collect().await?;
        let seen_bytes = Arc::new(AtomicUsize::new(0));
        let (mut tasks, mut senders) = (JoinSet::new(), Vec::new());
        for (sender, bodies) in opened {
            senders.push(sender);
            bodies.into_iter().for_each(|body| drop(tasks.spawn(follow(body, seen_bytes.clone()))));
        }
        let watches = Self { count: tasks.len(), seen_bytes, _tasks: tasks, _senders: senders };
        watches.have_seen(watches.count * FIRST_EVENT.len()).await?;
        Ok(watches)
    }

    /// The same one after the other: each reaches all watches before the next is sent.
    ///
    /// # Errors
    /// When one does not.
    pub async fn put_each(&self, world: &World, events: usize, bytes: usize) -> anyhow::Result<()> {
        for _ in 0..events {
            self.put(world, 1, bytes).await?;
        }
        Ok(())
    }

    /// Sends events and waits until every watch has seen them.
    ///
    /// # Errors
    /// When one does not.
    pub async fn put(&self, world: &World, events: usize, bytes: usize) -> anyhow::Result<()> {
        let until = self.seen_bytes.load(Ordering::Relaxed) + self.count * events * bytes;
        (0..events).for_each(|_| world.upstream.put_event(bytes));
        self.have_seen(until).await
    }

    /// Waits until all of them together have.
    async fn have_seen(&self, until: usize) -> anyhow::Result<()> {
        let mut poll = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..30_000 {
            poll.tick().await;
            if self.seen_bytes.load(Ordering::Relaxed) >= until {
                return Ok(());
            }
        }
        let missing = until - self.seen_bytes.load(Ordering::Relaxed);
        anyhow::bail!("{missing} bytes of events are missing")
    }
}

async fn follow(mut body: Incoming, seen_bytes: Arc<AtomicUsize>) {
    while let Some(Ok(frame)) = body.frame().await {
        seen_bytes.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
    }
}

/// Of each proxy: KiB at its start, of an idle watch, and of one after a burst; and an event's processor time.
///
/// # Errors
/// When a proxy does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = Kind::LOGGED;
    let mut rows = vec![Row::new("memory at the start (KiB)", kinds)];
    for count in if plan.quick { vec![FEW] } else { vec![FEW, most()] } {
        for protocol in Protocol::BOTH {
            let more = of(world, plan, protocol, count, &mut rows[0]).await?;
            rows.extend(more);
        }
    }
    Ok(Table::new("watches", "watches", rows))
}

/// 10,000, or what the file limit carries: both ends of each watch are files of this process, and of the proxy, which
/// keep a few hundred for themselves.
pub(super) fn most() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024);
    let carried = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(400) / 2;
    (carried / 100 * 100).clamp(FEW, 10_000)
}

async fn of(
    world: &World,
    plan: &Plan,
    protocol: Protocol,
    count: usize,
    start: &mut Row,
) -> anyhow::Result<Vec<Row>> {
    let watches = short(count as f64);
    let what = |what: &str| Row::new(format!("{what}, {protocol}, {watches} watches"), Kind::LOGGED);
    let mut idle = what("memory of an idle watch (KiB)");
    let mut right = what("right after the burst (KiB)");
    let mut later = what("a minute after the burst (KiB)");
    let mut cpu = what("processor time of an event of one watch (µs)");
    for kind in Kind::LOGGED {
        let proxy = Proxy::start(world, kind, USERS).await?;
        plan.tell(&format!("{watches} watches of {}, {protocol}", kind.name()));
        let before = proxy.process.pss_kib()?;
        start.add(kind, before as f64);
        let watches = Watches::open(world, &proxy, protocol, count).await?;
        ensure!(watches.count == count, "{} watches", watches.count);
        let each = || anyhow::Ok(proxy.process.pss_kib()?.saturating_sub(before) as f64 / count as f64);
        idle.add(kind, each()?);
        let used = proxy.process.cpu();
        watches.put_each(world, EVENTS, EVENT_BYTES).await?;
        let used = proxy.process.cpu().since(&used);
        cpu.add(kind, used.as_secs_f64() * 1e6 / (EVENTS * count) as f64);
        watches.put(world, BURST[0], BURST[1]).await?;
        right.add(kind, each()?);
        // Six minutes of waiting tell enough.
        if count > FEW {
            pass(Duration::from_secs(60)).await;
            later.add(kind, each()?);
        }
    }
    let rows = [idle, right, later, cpu].into_iter();
    Ok(rows.filter(|row| row.values.iter().all(|(_, values)| !values.is_empty())).collect())
}
