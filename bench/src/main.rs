//! `make bench`: Entrada beside nginx and HAProxy.

#![expect(clippy::print_stdout, reason = "figures are what this is for")]

use anyhow::{bail, ensure};
use bench::figures::Table;
use bench::measure::{cpu, flat, handshakes, latency, start, tunnels, watches};
use bench::page;
use bench::plan::Plan;
use bench::proxies::{Kind, Proxy};
use bench::world::World;
use tokio::signal::unix::{SignalKind, signal};

/// Enough for every measurement.
const USERS: usize = 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever way it ends, no proxy stays behind.
    tokio::select! {
        done = measure_all() => done,
        _ = terminate.recv() => bail!("terminated"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn measure_all() -> anyhow::Result<()> {
    let plan = Plan::from_env();
    plan.check()?;
    let world = World::start().await?;
    // The peers swap their tokens for those that an Entrada has minted.
    drop(Proxy::start(&world, Kind::EntradaBare, USERS).await?);
    if !plan.quick {
        page::write_machine()?;
    }
    let mut faults = Vec::new();
    for question in plan.questions() {
        plan.tell(question);
        let table = match question {
            "start" => start::measure(&world, &plan).await?,
            "cpu" => cpu::measure(&world, &plan).await?,
            "latency" => latency::measure(&world, &plan).await?,
            "watches" => watches::measure(&world, &plan).await?,
            "tunnels" => tunnels::measure(&world, &plan).await?,
            "handshakes" => handshakes::measure(&world, &plan).await?,
            "flat" => flat::measure(&world, &plan).await?,
            other => unreachable!("{other} is no question"),
        };
        tell(&plan, &table)?;
        faults.extend(table.faults);
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn tell(plan: &Plan, table: &Table) -> anyhow::Result<()> {
    println!("{table}");
    if plan.quick { Ok(()) } else { page::write(table) }
}
