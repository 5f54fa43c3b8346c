//! A request costs the same beside many sessions and many streams, and looking after many sessions costs little.

use std::time::Duration;

use super::cpu;
use super::watches::{Watches, most};
use crate::client::list;
use crate::figures::{Row, Table, median, short};
use crate::load::{self, Protocol};
use crate::plan::{Plan, pass};
use crate::proxies::{Kind, Proxy};
use crate::world::World;

const BYTES: usize = 2_000;
const CONNECTIONS: usize = 32;
/// What a request may cost beside many, as a multiple of what it costs beside one.
const MAX_RATIO: f64 = 1.1;
/// The bound is as near as what rounds differ by: there are three for each of another measurement.
const ROUNDS_FOR_EACH: usize = 3;
/// Sessions whose tokens are renewed once an hour, and the share of a core that looking after them may take.
const SESSIONS: usize = 10_000;
const MAX_SHARE: f64 = 0.01;
/// So many renewals are timed, and sessions that do nothing are looked at for so long.
const TIMED_RENEWALS: usize = 500;
const IDLE: Duration = Duration::from_secs(10);
/// Who own the streams.
const OWNERS: usize = 20;

/// Microseconds of a request beside one and beside many, of a renewal, and of a second without requests.
///
/// # Errors
/// When it does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let (sessions, streams) = if plan.quick { (1_000, 1_000) } else { (SESSIONS, most()) };
    plan.tell(&format!("{sessions} sign-ins"));
    let few = Proxy::start(world, Kind::Entrada, 1).await?;
    let many = Proxy::start(world, Kind::Entrada, sessions).await?;
    plan.tell("requests beside them");
    let [one, all] = beside(["one session", &format!("{} sessions", short(sessions as f64))]);
    let by_sessions = side_by_side(world, plan, [&few, &many], [one, all]).await?;
    let (idle, renewal) = (idle(&many).await, renewal(world, &many).await?);
    drop((few, many));

    plan.tell(&format!("{streams} watches"));
    let few = Proxy::start(world, Kind::Entrada, OWNERS).await?;
    let many = Proxy::start(world, Kind::Entrada, OWNERS).await?;
    let _one = Watches::open(world, &few, Protocol::H1, 1).await?;
    let _all = Watches::open(world, &many, Protocol::H1, streams).await?;
    plan.tell("requests beside them");
    let [one, all] = beside(["one live stream", &format!("{} live streams", short(streams as f64))]);
    let by_streams = side_by_side(world, plan, [&few, &many], [one, all]).await?;
    Ok(table(by_sessions, by_streams, idle / sessions as f64, renewal))
}

fn beside(what: [&str; 2]) -> [Row; 2] {
    what.map(|what| Row::new(format!("a request beside {what}"), [Kind::Entrada]))
}

/// What was measured, and whether it is as promised.
fn table(by_sessions: [Row; 2], by_streams: [Row; 2], idle: f64, renewal: f64) -> Table {
    let row = |what: &str, value: f64| {
        let mut row = Row::new(what, [Kind::Entrada]);
        row.add(Kind::Entrada, value);
        row
    };
    let ratios = [&by_sessions, &by_streams].map(|[few, many]| ratio(few, many));
    let mut rows: Vec<_> = by_sessions.into_iter().chain(by_streams).collect();
    rows.push(row("one renewal of a session's AKS token", renewal));
    rows.push(row("an idle session, in an hour", idle * 3_600.0));
    let share = (renewal / 3_600.0 + idle) * SESSIONS as f64 / 1e6;
    let mut table = Table::new("flat", "processor time (µs)", rows);
    table.notes.push(format!(
        "Beside so many sessions a request costs {:.2} times as much as beside one, beside so many live streams {:.2} \
         times (median of the rounds' ratios; at most {MAX_RATIO}). Looking after {} sessions, each of which is renewed \
         once an hour, takes {:.2} % of a core (at most {:.0} %).",
        ratios[0],
        ratios[1],
        short(SESSIONS as f64),
        share * 100.0,
        MAX_SHARE * 100.0
    ));
    for (what, ratio) in ["sessions", "live streams"].iter().zip(ratios) {
        if ratio > MAX_RATIO {
            table
                .faults
                .push(format!("beside many {what} a request costs {ratio:.2} times as much as beside one"));
        }
    }
    if share > MAX_SHARE {
        table.faults.push(format!("{:.1} % of a core looks after sessions", share * 100.0));
    }
    table
}

/// Both were measured in each round.
fn ratio(few: &Row, many: &Row) -> f64 {
    let values = |row: &Row| row.values[0].1.clone();
    let ratios: Vec<_> = values(many).iter().zip(values(few)).map(|(many, few)| many / few).collect();
    median(&ratios)
}

/// Requests that go round all sessions of each.
async fn side_by_side(
    world: &World,
    plan: &Plan,
    proxies: [&Proxy; 2],
    mut rows: [Row; 2],
) -> anyhow::Result<[Row; 2]> {
    let turns = proxies[1].accounts.len();
    for round in 0..ROUNDS_FOR_EACH * plan.rounds() {
        // Which is first alternates: a machine that grows slower meanwhile is no difference between them.
        for which in [round % 2, 1 - round % 2] {
            let load = load::start_round(world, proxies[which], &list(BYTES), CONNECTIONS, turns)?;
            rows[which].add(Kind::Entrada, cpu::under(world, plan, proxies[which], load, BYTES).await?);
        }
    }
    Ok(rows)
}

/// Microseconds of a second in which nobody asks for anything.
async fn idle(proxy: &Proxy) -> f64 {
    let before = proxy.process.cpu();
    pass(IDLE).await;
    proxy.process.cpu().since(&before).as_secs_f64() * 1e6 / IDLE.as_secs_f64()
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
