//! A request costs the same beside many sessions and many streams, and renewing many tokens costs little.

use anyhow::ensure;

use super::cpu;
use super::watches::{Watches, most};
use crate::client::list;
use crate::figures::{Row, Table, short};
use crate::load::{self, Protocol};
use crate::plan::Plan;
use crate::proxies::{Kind, Proxy};
use crate::world::World;

const BYTES: usize = 2_000;
const CONNECTIONS: usize = 32;
/// What a request may cost beside many, as a multiple of what it costs beside one.
const MAX_RATIO: f64 = 1.1;
/// Tokens that are renewed in an hour, and the share of a core that this may take.
const RENEWALS: f64 = 10_000.0;
const MAX_SHARE: f64 = 0.01;
/// So many are timed.
const TIMED_RENEWALS: usize = 500;
/// Who own the streams.
const OWNERS: usize = 20;

/// Microseconds of a request beside one and beside many, and of a renewal.
///
/// # Errors
/// When it does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let sessions = if plan.quick { 1_000 } else { 10_000 };
    let mut rows = Vec::new();
    plan.tell(&format!("{sessions} sign-ins"));

    let (few, many) =
        (Proxy::start(world, Kind::Entrada, 1).await?, Proxy::start(world, Kind::Entrada, sessions).await?);
    rows.extend(side_by_side(world, plan, [(&few, 1, "session"), (&many, sessions, "sessions")]).await?);

    let renewal = renewal(world, &many).await?;
    let mut row = Row::new("one renewal of a session's AKS token", [Kind::Entrada]);
    row.add(Kind::Entrada, renewal);
    rows.push(row);
    drop((few, many));

    let streams = if plan.quick { 1_000 } else { most() };
    let (few, many) = (
        Proxy::start(world, Kind::Entrada, OWNERS).await?,
        Proxy::start(world, Kind::Entrada, OWNERS).await?,
    );
    plan.tell(&format!("{streams} watches"));
    let _one = Watches::open(world, &few, Protocol::H1, 1).await?;
    let _all = Watches::open(world, &many, Protocol::H1, streams).await?;
    rows.extend(
        side_by_side(world, plan, [(&few, 1, "live stream"), (&many, streams, "live streams")]).await?,
    );

    let ratio = |few: usize| {
        rows[few + 1].median(Kind::Entrada).unwrap_or(f64::NAN)
            / rows[few].median(Kind::Entrada).unwrap_or(f64::NAN)
    };
    let (by_sessions, by_streams, share) = (ratio(0), ratio(3), renewal * RENEWALS / 1e6 / 3_600.0);
    let notes = vec![
        format!(
            "Beside {sessions} sessions a request costs {by_sessions:.2} times as much as beside one, beside {streams} live streams {by_streams:.2} times (at most {MAX_RATIO})."
        ),
        format!(
            "Renewing 10,000 tokens in an hour takes {:.2} % of a core (at most {:.0} %).",
            share * 100.0,
            MAX_SHARE * 100.0
        ),
    ];
    let is_flat = by_sessions <= MAX_RATIO && by_streams <= MAX_RATIO && share <= MAX_SHARE;
    let table = Table { question: "flat", title: "processor time (µs)".to_owned(), rows, notes };
    ensure!(is_flat, "costs are not flat, or renewals too expensive:\n{table}");
    Ok(table)
}

/// Requests that go round all sessions of each.
async fn side_by_side(
    world: &World,
    plan: &Plan,
    both: [(&Proxy, usize, &str); 2],
) -> anyhow::Result<[Row; 2]> {
    let mut rows = both.map(|(_, count, what)| {
        Row::new(format!("a request beside {} {what}", short(count as f64)), [Kind::Entrada])
    });
    for _ in 0..plan.rounds() {
        for ((proxy, ..), row) in both.iter().zip(&mut rows) {
            let load = load::start_round(world, proxy, &list(BYTES), CONNECTIONS)?;
            row.add(Kind::Entrada, cpu::under(world, plan, proxy, load, BYTES).await?);
        }
    }
    Ok(rows)
}

/// Microseconds of one renewal, the request for it included.
async fn renewal(world: &World, proxy: &Proxy) -> anyhow::Result<f64> {
    let accounts = &proxy.accounts[..proxy.accounts.len().min(TIMED_RENEWALS)];
    let mut sender = world.dialer.open(Protocol::H1, proxy.addr).await?;
    let before = proxy.process.cpu();
    for account in accounts {
        sender.post(account, "/refresh").await?;
    }
    Ok(proxy.process.cpu().since(&before).as_secs_f64() * 1e6 / accounts.len() as f64)
}
