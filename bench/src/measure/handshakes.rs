//! TLS handshakes: none is a resumption, and all proxies exchange keys by X25519 and sign with ECDSA P-256.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::figures::{Row, Table};
use crate::load::Protocol;
use crate::plan::{Plan, pass};
use crate::proxies::{Kind, Proxy};
use crate::world::World;

const AT_ONCE: usize = 8;

/// How many a core of the proxy's does in a second.
///
/// # Errors
/// When a proxy does not do its work.
pub async fn measure(world: &World, plan: &Plan) -> anyhow::Result<Table> {
    let kinds = Kind::LOGGED;
    let proxies = Proxy::start_each(world, &kinds).await?;
    let mut row = Row::new("full handshakes for a second of processor time", kinds);
    for _ in 0..plan.rounds() {
        for proxy in &proxies {
            row.add(proxy.kind, of(world, plan, proxy).await?);
        }
    }
    Ok(Table::new("handshakes", "TLS", vec![row]))
}

async fn of(world: &World, plan: &Plan, proxy: &Proxy) -> anyhow::Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (dialer, addr, done) = (world.dialer.clone(), proxy.addr, done.clone());
        clients.spawn(async move {
            while dialer.tls(Protocol::H1, addr).await.is_ok() {
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (warm, window) = plan.window();
    pass(warm).await;
    let before = (proxy.process.cpu(), done.load(Ordering::Relaxed));
    pass(window).await;
    let after = (proxy.process.cpu(), done.load(Ordering::Relaxed));
    ensure!(after.1 > before.1, "{} does not answer", proxy.kind.name());
    Ok((after.1 - before.1) as f64 / after.0.since(&before.0).as_secs_f64())
}
