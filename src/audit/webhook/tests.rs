use std::net::{Ipv4Addr, SocketAddr};

use standin::collector::{Collector, Mood};
use standin::pki::Ca;

use super::super::tests::{config, exchange, start};
use super::super::{Audit, Outcome};
use super::*;
use crate::clock::Clock;
use crate::config::{AuditConfig, AuditSink};
use crate::metrics::Metrics;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    collector: Collector,
    metrics: Metrics,
    audit: Audit,
    dir: tempfile::TempDir,
}

async fn world(change: impl FnOnce(&mut AuditConfig)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new("stand-in").unwrap();
    std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(dir.path().join("token"), "first\n").unwrap();
    let collector = Collector::start(LOOPBACK, &ca).await.unwrap();
    let mut config = config(AuditSink::Webhook(AuditWebhook {
        url: collector.url().parse().unwrap(),
        ca_file: Some(dir.path().join("ca.pem")),
        token_file: Some(dir.path().join("token")),
    }));
    change(&mut config);
    let (audit, metrics) = start(&config, &Clock::movable());
    World { collector, metrics, audit, dir }
}

async fn soon(what: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, what).await.expect("waited in vain");
}

/// Events come in lists of at most 400, in order, with the token as it is in its file at that time.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_posted_in_lists() {
    let world = world(|_| {}).await;
    for number in 0..1_000 {
        let id = number.to_string();
        world.audit.received(&super::super::Exchange { audit_id: &id, ..exchange() }).unwrap();
    }
    soon(world.collector.received(1_000)).await;
    let ids = world.collector.events().into_iter().map(|event| event["auditID"].as_str().unwrap().to_owned());
    assert!(ids.eq((0..1_000).map(|number| number.to_string())));
    assert!(world.collector.taken().len() <= 10, "they are sent together");
    assert!(
        world.collector.taken().iter().all(|taken| taken.authorization.as_deref() == Some("Bearer first"))
    );
    std::fs::write(world.dir.path().join("token"), "second").unwrap();
    world.audit.received(&exchange()).unwrap();
    soon(world.collector.received(1_001)).await;
    let last = world.collector.taken().pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("Bearer second"));
}

/// A server that is away, or answers 500, gets every accepted event in the end, once it is well again; strict mode refuses
/// requests meanwhile, but not what accepted ones still have to say.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_until_it_succeeds() {
    let world = world(|config| config.strict = true).await;
    world.collector.set_mood(Mood::Broken(500));
    let trail = world.audit.received(&exchange()).unwrap();
    soon(world.collector.attempted(1)).await;
    while world.metrics.audit.sink_failures.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.audit.received(&exchange()).is_err() && world.audit.ready().is_err());
    world.audit.complete(&trail, &Outcome::of(200));
    world.collector.kill().await;
    let failures = world.metrics.audit.sink_failures.get();
    while world.metrics.audit.sink_failures.get() == failures {
        tokio::task::yield_now().await;
    }
    world.collector.set_mood(Mood::Well);
    world.collector.revive().await.unwrap();
    soon(world.collector.received(2)).await;
    let stages: Vec<_> = world.collector.events().iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    while world.audit.ready().is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.metrics.audit.events.with_label_values(&["dropped"]).get(), 0);
}

/// A slow server costs nobody a wait: what does not fit is dropped and counted, or refused in strict mode.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_holds_up_nobody() {
    for strict in [false, true] {
        let world = world(|config| (config.strict, config.queue_bytes) = (strict, 64 * 1024)).await;
        world.collector.set_mood(Mood::Slow);
        let refused = (0..500).filter(|_| world.audit.received(&exchange()).is_err()).count();
        let dropped = world.metrics.audit.events.with_label_values(&["dropped"]).get();
        assert_eq!((refused > 0, dropped > 0), (strict, !strict));
        world.collector.set_mood(Mood::Well);
        let accepted = 500 - refused - usize::try_from(dropped).unwrap();
        soon(world.collector.received(accepted)).await;
        assert_eq!(world.collector.events().len(), accepted);
    }
}

/// A close sends what is left at once; where the server stays broken it gives up in time, and what is lost is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_sends_what_is_left() {
    let world = world(|_| {}).await;
    world.audit.received(&exchange()).unwrap();
    world.audit.close(PATIENCE).await;
    assert_eq!(world.collector.events().len(), 1);

    let world = self::world(|_| {}).await;
    world.collector.set_mood(Mood::Broken(503));
    world.audit.received(&exchange()).unwrap();
    world.audit.close(Duration::from_millis(300)).await;
    assert!(world.collector.events().is_empty() && world.collector.attempts() > 0);
    assert_eq!(world.metrics.audit.events.with_label_values(&["dropped"]).get(), 1);
}

/// A collector that takes no list as long as this gets shorter ones, and all events.
#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_too_long_come_in_shorter_ones() {
    let world = world(|_| {}).await;
    world.collector.set_mood(Mood::Narrow(20_000));
    for number in 0..300 {
        let id = number.to_string();
        world.audit.received(&super::super::Exchange { audit_id: &id, ..exchange() }).unwrap();
    }
    soon(world.collector.received(300)).await;
    let ids = world.collector.events().into_iter().map(|event| event["auditID"].as_str().unwrap().to_owned());
    assert!(ids.eq((0..300).map(|number| number.to_string())), "each once, in order");
}
