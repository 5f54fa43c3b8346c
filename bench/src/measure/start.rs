//! What it takes to be there: time, memory, a file.

use crate::figures::{Row, Table};
use crate::plan::Plan;
use crate::proxies::{Kind, Proxy, binary};
use crate::world::World;

/// Of each proxy, alone on the machine.
///
/// # Errors
/// When a proxy does not start.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = Kind::LOGGED;
    let mut time = Row::new("time until it takes requests (ms)", kinds);
    let mut memory = Row::new("memory at the start (PSS, MiB)", kinds);
    let mut size = Row::new("size of its program (MiB)", kinds);
    for _ in 0..plan.rounds() {
        for kind in kinds {
            let proxy = Proxy::start(world, kind, 1).await?;
            time.add(kind, proxy.took.as_secs_f64() * 1e3);
            memory.add(kind, proxy.process.pss_kib()? as f64 / 1_024.0);
            size.add(kind, std::fs::metadata(binary(kind))?.len() as f64 / 1_048_576.0);
        }
    }
    Ok(Table::new("start", "at the start", vec![time, memory, size]))
}
