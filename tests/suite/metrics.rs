//! Metrics: each that is documented exists and moves, and no client can make time series.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use standin::apiserver::Fault;
use standin::redis::Redis;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::collector::Collector;
use super::support::events::AuditLog;
use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// The host of a dashboard that nobody reaches.
const MOUNT: &str = "headlamp.example.com";
const RANDOM_PATHS: usize = 10_000;
/// Of all that those paths leave behind.
const MOST_SERIES: usize = 500;

/// A metric as documented, and as it is: type and labels.
type Shape = (String, BTreeSet<String>);

/// The rows of the table in docs/metrics.md.
fn documented() -> BTreeMap<String, Shape> {
    let text = std::fs::read_to_string("docs/metrics.md").unwrap();
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let rows = text.leak().lines().map(cells).filter(|cells| cells.len() == 6 && cells[1].starts_with('`'));
    rows.map(|cells| {
        let labels = cells[3].split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    })
    .collect()
}

/// What a scrape shows: each metric's shape, and the greatest of its values.
fn scraped(text: &str) -> BTreeMap<String, (Shape, f64)> {
    let mut found: BTreeMap<String, (Shape, f64)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            found.insert(name.to_owned(), ((kind.to_owned(), BTreeSet::new()), 0.0));
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = base.filter(|base| found.contains_key(*base)).unwrap_or(name);
        let ((_, names), most) = found.get_mut(name).unwrap();
        let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
        names.extend(pairs.map(|(label, _)| label.to_owned()).filter(|label| label != "le"));
        *most = most.max(value.parse().unwrap());
    }
    found
}

/// Everything that is counted happens once.
async fn live_a_little(world: &World, audit: &AuditLog) {
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let computer = [("client_name", "laptop")];
    let asked = world.browser().post_form(&world.at("/device/code"), &computer, &[]).await.unwrap();
    assert_eq!(asked.status, 200);
    assert_eq!(world.call_with(Method::GET, "/callback?code=x&state=y", &[]).await.status, 400);
    assert_eq!(world.call_with(Method::GET, "/", &[("host", MOUNT)]).await.status, 401);
    world.api.fault("/version", Fault::NoAnswer);
    assert_eq!(world.call(Method::GET, "/version", &token).await.status, 502);
    // An audit log whose disk is full for a while.
    let failures = "entrada_audit_sink_failures_total";
    eventually("a failure", || async { world.metric(failures).await > 0.0 }).await;
    assert!(world.metric("entrada_audit_queue_bytes").await > 0.0);
    std::fs::remove_file(audit.path()).unwrap();
    let written = r#"entrada_audit_events_total{outcome="written"}"#;
    eventually("events", || async { world.metric(written).await > 0.0 }).await;
    // A watch that stays, and one that its client leaves.
    let get = format!("GET {PODS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut left = Wire::open(world).await;
    left.write(&get).await;
    assert!(left.head().await.starts_with("HTTP/1.1 200"));
    drop(left);
    let ended = r#"entrada_streams_ended_total{kind="watch",reason="client"}"#;
    eventually("the watch's end", || async { world.metric(ended).await >= 1.0 }).await;
    // No TLS at all.
    let mut plain = TcpStream::connect(world.entrada.addr).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // Files are looked at every few seconds.
    world.advance(Duration::from_secs(6));
    let loaded = r#"entrada_reloads_total{file="certificate",outcome="ok"}"#;
    eventually("a look at the files", || async { world.metric(loaded).await >= 1.0 }).await;
    assert!(std::panic::catch_unwind(|| panic!("as a bug would")).is_err());
    // More than the rate allows.
    eventually("the limit", || async { world.call(Method::GET, PODS, &token).await.status == 429 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_metric_moves() {
    // Proves that docs/metrics.md and a scrape agree on names, types and labels, and that each value was moved by what it
    // is about.
    let directory = TempDir::new().unwrap();
    let mut redis = Redis::start(directory.path()).await.unwrap();
    let store = format!("redis://{}", redis.address());
    let collector = Collector::start().await;
    let audit = AuditLog::new();
    std::os::unix::fs::symlink("/dev/full", audit.path()).unwrap();
    let world = World::start_with(|raw| {
        raw.otel_exporter_otlp_endpoint = Some(collector.url.clone());
        raw.audit = Some(audit.setting());
        raw.store = Some(store);
        raw.mounts = Some(format!("https://{MOUNT}=http://127.0.0.1:1;insecure"));
        raw.rate_limit = Some("1/h burst 20".to_owned());
    })
    .await;
    live_a_little(&world, &audit).await;
    let exported = r#"entrada_spans_total{outcome="exported"}"#;
    eventually("spans", || async { world.metric(exported).await >= 1.0 }).await;
    let watch = Wire::open(&world).await;
    let busy = scraped(&world.admin("/metrics").await.1);
    assert_eq!(busy["entrada_store_up"].1, 1.0);
    assert!(busy["entrada_connections"].1 >= 1.0 && busy["entrada_sessions"].1 >= 1.0);
    drop(watch);
    // A store that is stopped in the middle of a call.
    redis.pause().unwrap();
    let unknown = entrada::secret::CredentialSecret::new_token();
    assert_eq!(world.call(Method::GET, PODS, unknown.expose()).await.status, 503);
    redis.resume().unwrap();
    eventually("the store", || async { world.metric("entrada_store_up").await >= 1.0 }).await;
    redis.kill();

    // Counted in whole seconds.
    let cpu = || world.metric("process_cpu_seconds_total");
    eventually("a second of work", || async { cpu().await > 0.0 }).await;
    let found = scraped(&world.admin("/metrics").await.1);
    let shapes: BTreeMap<_, _> =
        found.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect();
    assert_eq!(documented(), shapes);
    // Gauges of what is over by now are 0 again, and were looked at above.
    let over = [
        "entrada_streams",
        "entrada_connections",
        "entrada_store_up",
        "entrada_sessions",
        // These move in `redemptions` and wherever calls to Entra wait.
        "entrada_redemptions",
        "entrada_entra_calls_waiting",
        "entrada_audit_queue_bytes",
        // Of a process's standard output; this one logs elsewhere. `full_pipe` sees both move.
        "entrada_log_lines_total",
        "entrada_log_queue_bytes",
    ];
    for (name, (_, value)) in found.iter().filter(|(name, _)| !over.contains(&name.as_str())) {
        assert!(*value > 0.0, "{name} has not moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_paths_make_no_time_series() {
    // Proves the bound on label sets: groups, resources and verbs that nobody knows fold into one.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let bearer = format!("Bearer {token}");
    let client = world.browser();
    let methods = [Method::GET, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let requests = (0..RANDOM_PATHS).map(|n| {
        let word = || entrada::secret::random_base62(6);
        let path = match n % 4 {
            0 => format!("/apis/{}.example.com/v1/{}", word(), word()),
            1 => format!("/api/v1/namespaces/{}/{}/{}", word(), word(), word()),
            2 => format!("/apis/{}/v1/watch/{}", word(), word()),
            _ => format!("/{}/{}", word(), word()),
        };
        let (client, bearer, url) = (&client, &bearer, world.at(&path));
        let method = methods[n % methods.len()].clone();
        async move {
            let headers = [("authorization", bearer.as_str())];
            client.request(method, &url, &headers, bytes::Bytes::new()).await.unwrap().status
        }
    });
    let answered = futures_util::stream::iter(requests).buffer_unordered(32).count().await;
    assert_eq!(answered, RANDOM_PATHS);
    let (_, text) = world.admin("/metrics").await;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < MOST_SERIES, "{series} series");
    assert!(text.contains(r#"resource="other""#));
}
