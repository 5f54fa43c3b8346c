//! Traces: what a collector is sent, what the API server is told, and what happens when the collector is in trouble.

use std::time::{Duration, Instant};

use http::Method;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Server};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use standin::apiserver::Fault;
use standin::pki::Ca;

use super::support::collector::{Collector, Mood, Span};
use super::support::kubectl::Kubectl;
use super::support::program::{self, settings};
use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// More than wait for a collector, and more than it is sent at once.
const TOO_MANY_SPANS: usize = 2_048 + 512 + 100;

async fn traced() -> (World, Collector) {
    let collector = Collector::start().await;
    let endpoint = collector.url.clone();
    let world = World::start_with(|raw| raw.otel_exporter_otlp_endpoint = Some(endpoint)).await;
    (world, collector)
}

async fn alice(world: &World) -> String {
    world.token(&world.signed_in("alice").await).await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(span: &Span) -> f64 {
    Duration::from_nanos(span.0.end_time_unix_nano - span.0.start_time_unix_nano).as_secs_f64()
}

/// A request for pods with these headers beside alice's token; what the API server was told of its trace.
async fn told_upstream(
    world: &World,
    token: &str,
    headers: &[(&str, &str)],
) -> (Option<String>, Option<String>) {
    let bearer = format!("Bearer {token}");
    let headers = [&[("authorization", bearer.as_str())], headers].concat();
    assert_eq!(world.call_with(Method::GET, PODS, &headers).await.status, 200);
    let seen = world.api.requests();
    let seen = seen.iter().rfind(|seen| seen.target == PODS).unwrap();
    assert!(seen.header_values("traceparent").len() <= 1);
    (seen.header("traceparent").map(str::to_owned), seen.header("tracestate").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_two_spans_in_its_callers_trace() {
    // Proves who is whose parent, from the caller to the API server, and what the spans say; and that they hold no secret.
    let (world, collector) = traced().await;
    let token = alice(&world).await;
    let given = format!("00-{TRACE}-{CALLER}-01");
    let headers = [
        ("traceparent", given.as_str()),
        ("tracestate", "a=1,b=2"),
        ("user-agent", "kubectl/test"),
        ("audit-id", "audit-of-this-test"),
    ];
    let (parent, state) = told_upstream(&world, &token, &headers).await;
    let (server, client) =
        (collector.span(Server, "list pods").await, collector.span(Client, "list pods").await);
    assert_eq!([hex(&server.0.trace_id), hex(&client.0.trace_id)], [TRACE, TRACE]);
    assert_eq!(hex(&server.0.parent_span_id), CALLER);
    assert_eq!(client.0.parent_span_id, server.0.span_id);
    assert_eq!(parent.unwrap(), format!("00-{TRACE}-{}-01", hex(&client.0.span_id)));
    assert_eq!(state.unwrap(), "a=1,b=2");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", PODS),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "kubectl/test"),
        ("enduser.id", &world.entra.user("alice").unwrap().oid),
        ("k8s.namespace.name", "team-a"),
        ("entrada.audit_id", "audit-of-this-test"),
        ("entrada.verb", "list"),
        ("entrada.resource", "pods"),
    ] {
        assert_eq!(server.get(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(client.get("http.response.status_code").as_deref(), Some("200"));
    assert_eq!(client.get("server.port").unwrap(), world.api.addr().port().to_string());
    assert!(server.0.start_time_unix_nano <= client.0.start_time_unix_nano);
    assert!(client.0.end_time_unix_nano <= server.0.end_time_unix_nano);
    assert_eq!((&server.0.status, &client.0.status), (&None, &None));
    assert_eq!(server.0.events[0].name, "response head");

    let received = collector.until("the sign-in", |seen| seen.spans.len() >= 5).await;
    assert!(received.spans.iter().any(|span| span.0.name == "GET /callback"));
    let sent = String::from_utf8_lossy(&received.bytes);
    let secrets = world.entra.secrets();
    assert!(!secrets.is_empty() && !secrets.iter().any(|secret| sent.contains(secret)));
    assert!(!sent.contains(&token) && !sent.contains("code="));
    assert_eq!(received.resource("service.name").as_deref(), Some("entrada"));
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_valid_is_replaced_and_one_that_is_not_sampled_makes_no_spans() {
    // Proves that the API server is told a valid trace of ours whatever came in, and that the caller decides.
    let (world, collector) = traced().await;
    let token = alice(&world).await;
    let bad = [("traceparent", "00-nonsense"), ("tracestate", "a=1")];
    let (parent, state) = told_upstream(&world, &token, &bad).await;
    let client = collector.span(Client, "list pods").await;
    let ours = format!("00-{}-{}-01", hex(&client.0.trace_id), hex(&client.0.span_id));
    assert_eq!((parent, state), (Some(ours), None));
    assert!(collector.span(Server, "list pods").await.0.parent_span_id.is_empty());

    let not_sampled = format!("00-{TRACE}-{CALLER}-00");
    let headers = [("traceparent", not_sampled.as_str()), ("tracestate", "a=1")];
    let (parent, state) = told_upstream(&world, &token, &headers).await;
    let parent = parent.unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"), "{parent}");
    assert!(!parent.contains(CALLER));
    assert_eq!(state.as_deref(), Some("a=1"));
    world.entrada.kill().await;
    let spans = collector.received().spans;
    assert!(!spans.iter().any(|span| hex(&span.0.trace_id) == TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_is_sent_and_headers_pass_untouched() {
    // Proves that tracing is off by default, and that what the caller and the API server say to each other is left alone.
    let collector = Collector::start().await;
    let endpoint = collector.url.clone();
    let world = World::start_with(|raw| {
        raw.otel_exporter_otlp_endpoint = Some(endpoint);
        raw.otel_sdk_disabled = Some("true".to_owned());
    })
    .await;
    let token = alice(&world).await;
    let headers = [("traceparent", "00-nonsense"), ("tracestate", "a=1")];
    let told = told_upstream(&world, &token, &headers).await;
    assert_eq!(told, (Some("00-nonsense".to_owned()), Some("a=1".to_owned())));
    assert_eq!(told_upstream(&world, &token, &[]).await, (None, None));
    world.entrada.kill().await;
    assert_eq!(collector.received().calls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_a_watch_end_with_the_watch() {
    // Proves that spans last as long as the exchange, not only to the answer's head.
    let (world, collector) = traced().await;
    let token = alice(&world).await;
    let mut watch = Wire::open(&world).await;
    let get = format!("GET {PODS}?watch=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    watch.write(get).await;
    assert!(watch.head().await.starts_with("HTTP/1.1 200"));
    // One that comes and goes meanwhile.
    world.call(Method::GET, PODS, &token).await;
    let list = collector.span(Server, "list pods").await;
    assert!(!collector.received().spans.iter().any(|span| span.0.name == "watch pods"));
    world.api.end_watches();
    watch.read_to(b"0\r\n\r\n").await;
    for kind in [Server, Client] {
        let span = collector.span(kind, "watch pods").await;
        assert!(span.0.start_time_unix_nano < list.0.start_time_unix_nano);
        assert!(span.0.end_time_unix_nano > list.0.end_time_unix_nano);
    }
    let server = collector.span(Server, "watch pods").await;
    assert!(server.0.events[0].time_unix_nano < list.0.start_time_unix_nano, "its head came long before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_has_spans_that_end_with_it() {
    // Proves it of a real exec, whose client span the API server is told, too.
    let (world, collector) = traced().await;
    world.api.put_pod("team-a", "web");
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    let mut shell = kubectl.start(&["exec", "-i", "-n", "team-a", "web", "--", "cat"]);
    let tunnels = "entrada_streams{kind=\"tunnel\"}";
    eventually("the tunnel", || async { world.metric(tunnels).await >= 1.0 }).await;
    world.call_with(Method::GET, "/whoami", &[]).await;
    let other = collector.span(Server, "GET /whoami").await;
    assert!(!collector.received().spans.iter().any(|span| span.0.name.ends_with("/exec")));
    drop(shell.stdin.take());
    assert!(shell.child.wait().await.unwrap().success());
    for kind in [Server, Client] {
        let span = collector.span(kind, "get pods/exec").await;
        assert_eq!(span.get("http.response.status_code").as_deref(), Some("101"));
        assert!(span.0.end_time_unix_nano > other.0.end_time_unix_nano);
    }
    let client = collector.span(Client, "get pods/exec").await;
    let seen = world.api.requests();
    let exec = seen.iter().find(|seen| seen.target.contains("/exec?")).unwrap();
    assert_eq!(exec.header("traceparent").unwrap()[36..52], hex(&client.0.span_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_failed_requests_say_why() {
    // Proves that a refusal has no client span, that a failure of the API server has one which failed, and that neither
    // a random path nor a random method makes a name.
    let (world, collector) = traced().await;
    let unknown = entrada::secret::CredentialSecret::new_token();
    assert_eq!(world.call(Method::GET, PODS, unknown.expose()).await.status, 401);
    let refused = collector.span(Server, "list pods").await;
    assert_eq!(refused.get("entrada.reason").as_deref(), Some("unknown_token"));
    assert_eq!(refused.get("http.response.status_code").as_deref(), Some("401"));
    assert_eq!((refused.get("enduser.id"), &refused.0.status), (None, &None));
    assert!(!collector.received().spans.iter().any(|span| span.0.kind == Client as i32));

    let token = alice(&world).await;
    world.api.fault("/random", Fault::NoAnswer);
    let method = Method::from_bytes(b"RANDOM").unwrap();
    assert_eq!(world.call(method, "/random/path?secret=1", &token).await.status, 502);
    let failed = [collector.span(Server, "HTTP").await, collector.span(Client, "HTTP").await];
    for span in failed {
        assert_eq!(span.0.status.as_ref().unwrap().code, StatusCode::Error as i32);
        assert_eq!(span.get("error.type").as_deref(), Some("upstream_broken"));
        assert_eq!(span.get("http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(span.get("http.request.method_original").as_deref(), Some("RANDOM"));
        assert!(!format!("{span:?}").contains("secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_is_trusted_by_its_own_authority_and_told_our_key() {
    // Proves TLS, headers and resource attributes, and that a stop sends the last spans. The key is searched for in the log.
    let ca = Ca::new("collectors").unwrap();
    let collector = Collector::start_with_tls(&ca).await;
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("collector-ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let key = entrada::secret::random_base62(32);
    let world = World::start_with(|raw| {
        raw.otel_exporter_otlp_endpoint = Some(collector.url.clone());
        raw.otel_exporter_otlp_certificate = Some(file.to_str().unwrap().to_owned());
        raw.otel_exporter_otlp_headers = Some(format!("api-key={key}"));
        raw.otel_resource_attributes = Some("deployment.environment.name=test".to_owned());
    })
    .await;
    world.keep_secret(key.as_str());
    world.call_with(Method::GET, "/whoami", &[]).await;
    world.entrada.kill().await;
    let received = collector.received();
    assert_eq!(received.spans.len(), 1);
    assert_eq!(received.headers["api-key"], key);
    assert_eq!(received.resource("deployment.environment.name").as_deref(), Some("test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_is_told_of_once() {
    // Proves one line in the log when it goes and one when it is back, and that what it could not take is sent again.
    let (world, collector) = traced().await;
    collector.set(Mood::Refuses(503));
    world.call_with(Method::GET, "/whoami", &[]).await;
    collector.until("a second try", |seen| seen.calls >= 2).await;
    collector.set(Mood::Takes);
    let span = collector.span(Server, "GET /whoami").await;
    assert!(seconds(&span) < 1.0, "of the request, not of the wait for the collector");
    let exported = r#"entrada_spans_total{outcome="exported"}"#;
    eventually("the count", || async { world.metric(exported).await >= 1.0 }).await;
    // What will never be taken is not tried again.
    collector.set(Mood::Refuses(400));
    world.call_with(Method::GET, "/whoami", &[]).await;
    let failed = r#"entrada_spans_total{outcome="failed"}"#;
    eventually("the loss", || async { world.metric(failed).await >= 1.0 }).await;
    let told = |text: &str| {
        let lines = world.logged(text);
        lines.into_iter().filter(|line| line.contains(&collector.url)).count()
    };
    assert_eq!((told("the collector takes no spans"), told("the collector takes spans again")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_stalls_nobody() {
    // Proves that requests go on, that what does not fit the queue is counted, and that the stop does not wait for it.
    let (world, collector) = traced().await;
    collector.set(Mood::Hangs);
    let client = world.browser();
    let url = world.at("/whoami");
    for _ in 0..TOO_MANY_SPANS {
        let answer = client.request(Method::GET, &url, &[], bytes::Bytes::new()).await.unwrap();
        assert_eq!(answer.status, 401);
    }
    assert!(world.metric(r#"entrada_spans_total{outcome="dropped"}"#).await >= 1.0);
    let began = Instant::now();
    world.entrada.kill().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_the_last_spans_and_does_not_wait_for_a_collector_that_hangs() {
    // Proves it of the program as it is run: SIGTERM, exit code 0, in time.
    let world = World::start().await;
    for mood in [Mood::Takes, Mood::Hangs] {
        let collector = Collector::start().await;
        collector.set(mood);
        let mut settings = settings(&world);
        settings.insert("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone());
        // Shorter than a batch waits for more spans.
        settings.insert("ENTRADA_DRAIN", "100ms".to_owned());
        settings.remove("ENTRADA_TLS_CERT_FILE");
        settings.remove("ENTRADA_TLS_KEY_FILE");
        settings.insert("ENTRADA_TLS", "off".to_owned());
        let program = program::start(&settings).await;
        let mut stream = tokio::net::TcpStream::connect(&program.addr).await.unwrap();
        let request = "GET /whoami HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let began = Instant::now();
        program.signal("-TERM");
        let (code, _) = program.ended().await;
        assert_eq!(code, Some(0));
        // The window, two seconds for the spans, and what a busy machine needs.
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let sent = collector.received().spans;
        assert_eq!(sent.len(), usize::from(mood == Mood::Takes), "{sent:?}");
    }
}
