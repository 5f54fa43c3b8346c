//! What Entrada writes is not taken.

use http::Method;

use super::super::full_pipe::{PATH_BYTES, dropped, plain, refused};
use super::super::support::collector::{Collector, Mood};
use super::super::support::events::AuditLog;
use super::super::support::program::start_unread;
use super::super::support::{World, eventually};
use super::PODS;
use super::app_faults::body;
use super::rule_test::Case;

/// A world with an audit log; from the fault on its disk is full.
async fn on_a_full_disk(queue_bytes: &str, until: &str) -> Case {
    let log = AuditLog::new();
    let world = World::start_with(|raw| {
        raw.audit = Some(log.setting());
        raw.audit_queue_bytes = Some(queue_bytes.to_owned());
    })
    .await;
    let token = world.token(&world.signed_in("alice").await).await;
    eventually("the events", || async { log.text().contains(r#""tokens""#) }).await;
    let mut case = Case::before(&world).await;
    std::fs::rename(log.path(), log.path().with_extension("before")).unwrap();
    // A device that is always full.
    std::os::unix::fs::symlink("/dev/full", log.path()).unwrap();
    eventually(until, || async {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
        world.metric(until).await > 0.0
    })
    .await;
    case.after(&world).await;
    std::fs::remove_file(log.path()).unwrap();
    case
}

pub(super) async fn the_audit_log_is_full() -> Case {
    let case = on_a_full_disk("16777216", "entrada_audit_sink_failures_total").await;
    case.lasting().fires(&["EntradaAuditSinkFailing warning"])
}

pub(super) async fn the_audit_queue_is_full() -> Case {
    let case = on_a_full_disk("65536", r#"entrada_audit_events_total{outcome="dropped"}"#).await;
    case.fires(&["EntradaAuditEventsLost critical"])
}

pub(super) async fn nobody_reads_the_log() -> Case {
    let world = World::start().await;
    let program = start_unread(&plain(&world)).await;
    eventually("readiness", || async { program.probe("/readyz").await.contains(" 200 ") }).await;
    let scrape = || async { body(&program.probe("/metrics").await) };
    let mut case = Case::before_text(&scrape().await, world.now());
    let path = format!("/api/v1/namespaces/{}", "a".repeat(PATH_BYTES));
    eventually("a line that is lost", || async {
        refused(&program.addr, &path).await;
        dropped(&scrape().await) > 0
    })
    .await;
    case.after_text(&scrape().await, world.now());
    case.fires(&["EntradaLogLinesDropped warning"])
}

pub(super) async fn the_collector_refuses_spans() -> Case {
    let collector = Collector::start().await;
    let world = World::start_with(|raw| raw.otel_exporter_otlp_endpoint = Some(collector.url.clone())).await;
    let mut case = Case::before(&world).await;
    collector.set(Mood::Refuses(400));
    assert_eq!(world.call_with(Method::GET, PODS, &[]).await.status, 401);
    let failed = r#"entrada_spans_total{outcome="failed"}"#;
    eventually("the loss", || async { world.metric(failed).await > 0.0 }).await;
    case.after(&world).await;
    case.fires(&["EntradaSpansLost info"])
}
