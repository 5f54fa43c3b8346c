//! What goes through a tunnel for a second of the proxy's processor time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::figures::{Row, Table};
use crate::plan::{Plan, pass};
use crate::proxies::{Kind, Proxy};
use crate::world::World;

/// What exec and port-forward carry at once.
const BLOCK_BYTES: usize = 32 * 1024;

/// MiB in both directions together, through one tunnel that echoes.
///
/// # Errors
/// When a proxy does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = Kind::LOGGED;
    let proxies = Proxy::start_each(world, &kinds).await?;
    let mut row = Row::new("MiB for a second of processor time", kinds);
    for _ in 0..plan.rounds() {
        for proxy in &proxies {
            row.add(proxy.kind, of(world, plan, proxy).await?);
        }
    }
    Ok(Table::new("tunnels", "a tunnel", vec![row]))
}

async fn of(world: &World, plan: &Plan, proxy: &Proxy) -> anyhow::Result<f64> {
    let tunnel = world.dialer.tunnel(proxy.addr, &proxy.accounts[0]).await?;
    let (mut read, mut write) = tokio::io::split(tunnel);
    let writer = tokio::spawn(async move {
        let block = vec![b'x'; BLOCK_BYTES];
        while write.write_all(&block).await.is_ok() {}
    });
    let echoed = Arc::new(AtomicU64::new(0));
    let count = echoed.clone();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; BLOCK_BYTES];
        while let Ok(bytes @ 1..) = read.read(&mut buffer).await {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    });
    let (warm, window) = plan.window();
    pass(warm).await;
    let before = (proxy.process.cpu(), echoed.load(Ordering::Relaxed));
    pass(window).await;
    let after = (proxy.process.cpu(), echoed.load(Ordering::Relaxed));
    writer.abort();
    reader.abort();
    ensure!(after.1 > before.1, "{} carries nothing", proxy.kind.name());
    // Each byte that came back had gone there before.
    let mib = (after.1 - before.1) as f64 * 2.0 / 1_048_576.0;
    Ok(mib / after.0.since(&before.0).as_secs_f64())
}
