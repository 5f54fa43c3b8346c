//! Processor time of the proxy for one request.

use anyhow::ensure;

use crate::client::list;
use crate::figures::{Row, Table};
use crate::load::{self, Protocol};
use crate::plan::{Plan, pass};
use crate::process::Process;
use crate::proxies::{Kind, Proxy};
use crate::world::World;

/// Clients, each with a connection of its own.
const CONNECTIONS: usize = 32;
/// Sizes of answers.
const SIZES: [(&str, usize); 4] =
    [("2 KB", 2_000), ("100 KB", 100_000), ("1 MB", 1_000_000), ("13 MB", 13_000_000)];

/// Microseconds of all proxies, for each protocol and size.
///
/// # Errors
/// When a proxy does not start, or does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = if plan.quick { &Kind::LOGGED[..] } else { &Kind::ALL[..] };
    let sizes = if plan.quick { &SIZES[..1] } else { &SIZES[..] };
    let proxies = Proxy::start_each(world, kinds).await?;
    let mut rows = Vec::new();
    for (name, bytes) in sizes {
        for protocol in Protocol::BOTH {
            plan.tell(&format!("answers of {name}, {protocol}"));
            let mut row = Row::new(format!("{name}, {protocol}"), kinds.iter().copied());
            for _ in 0..plan.rounds() {
                for proxy in &proxies {
                    row.add(proxy.kind, of(world, plan, proxy, protocol, *bytes).await?);
                }
            }
            rows.push(row);
        }
    }
    Ok(Table::new("cpu", "processor time of a request (µs)", rows))
}

/// Microseconds for one answer of so many bytes.
async fn of(
    world: &World,
    plan: &Plan,
    proxy: &Proxy,
    protocol: Protocol,
    bytes: usize,
) -> anyhow::Result<f64> {
    let load = load::start(protocol, proxy.addr, &proxy.accounts[0], &list(bytes), CONNECTIONS)?;
    under(world, plan, proxy, load, bytes).await
}

/// Microseconds for one answer of so many bytes, under this load. Bytes are counted and not answers, because of the
/// large ones many are under way when the window opens and when it closes.
pub(super) async fn under(
    world: &World,
    plan: &Plan,
    proxy: &Proxy,
    load: Process,
    bytes: usize,
) -> anyhow::Result<f64> {
    let (warm, window) = plan.window();
    let refused = world.upstream.refused();
    pass(warm).await;
    let before = (proxy.process.cpu(), world.upstream.sent_bytes());
    pass(window).await;
    let after = (proxy.process.cpu(), world.upstream.sent_bytes());
    drop(load);
    let answers = (after.1 - before.1) as f64 / bytes as f64;
    ensure!(answers > 1.0 && world.upstream.refused() == refused, "{} does not answer", proxy.kind.name());
    Ok(after.0.since(&before.0).as_secs_f64() * 1e6 / answers)
}
