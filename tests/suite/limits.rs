//! What one user may take, and what is left for the others.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use standin::apiserver::{Fault, Rule, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::kubectl::Kubectl;
use super::support::wire::Wire;
use super::support::{PATIENCE, World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const BOBS: &str = "/api/v1/namespaces/team-b/pods";
/// As docs/settings.md says.
const RECOMMENDED: &str = "100/s burst 3000";
/// What kubectl keeps to within one of its clients.
const LOW: &str = "50/s burst 300";
const LARGE: usize = 64 * 1024 * 1024;

async fn get(world: &World, path: &str, token: &str) -> Wire {
    let mut wire = Wire::open(world).await;
    wire.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_rate_is_a_limit_of_that_user_alone() {
    // Proves the 429's form, that pages count too, that streams do not, and that another user is not concerned.
    let world = World::start_with(|raw| raw.rate_limit = Some("1/h burst 5".to_owned())).await;
    let browser = world.signed_in("alice").await;
    let token = world.new_token(&browser, json!({})).await;
    let alice = token["token"].as_str().unwrap().to_owned();
    let bob = world.token(&world.signed_in("bob").await).await;
    // The portal's question to the API server and the new token were the first of the five.
    for _ in 0..2 {
        assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 200);
    }
    assert_eq!(world.call(Method::GET, "/whoami", &alice).await.status, 200);
    for path in [PODS, "/whoami"] {
        let page = world.call(Method::GET, path, &alice).await;
        assert_eq!(page.status, 429, "{path}");
        assert_eq!(page.headers["entrada-reason"], "rate_limited");
        assert_eq!(page.headers["retry-after"], "1");
        let status = page.json().unwrap();
        assert_eq!((&status["code"], &status["reason"]), (&429.into(), &"TooManyRequests".into()));
    }
    // What only looks like a stream is none.
    let upgrade = [("authorization", format!("Bearer {alice}")), ("connection", "Upgrade".to_owned())];
    let mut upgrade: Vec<_> = upgrade.iter().map(|(name, value)| (*name, value.as_str())).collect();
    upgrade.push(("upgrade", "x"));
    for (method, path) in [
        (Method::DELETE, "/api/v1/namespaces/team-a/pods/web?watch=1"),
        (Method::GET, "/version?watch=1"),
        (Method::GET, "/api/v1/namespaces/team-a/pods/web/log"),
    ] {
        assert_eq!(world.call(method, path, &alice).await.status, 429, "{path}");
    }
    assert_eq!(world.call_with(Method::GET, PODS, &upgrade).await.status, 429);
    let mut watch = get(&world, &format!("{PODS}?watch=1"), &alice).await;
    assert!(watch.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.call(Method::GET, BOBS, &bob).await.status, 200);
    // Whoever has emptied the bucket with a stolen token cannot keep its owner from revoking it.
    let id = token["id"].as_str().unwrap();
    let url = world.at(&format!("/tokens/{id}"));
    let origin = [("origin", world.url.as_str())];
    let revoked = browser.request(Method::DELETE, &url, &origin, Bytes::new()).await.unwrap();
    assert_eq!(revoked.status, 204);
    let all = [("_method", "delete")];
    assert_eq!(browser.post_form(&world.at("/tokens"), &all, &origin).await.unwrap().status, 303, "nor all");
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 401);
    assert!(world.metric(r#"entrada_problems_total{reason="rate_limited"}"#).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectls_own_burst_does_not_meet_a_rate_of_the_same_numbers() {
    // Proves it with the burst that kubectl is known for: one list for each of 300 kinds, and discovery before it.
    let world = World::start_with(|raw| raw.rate_limit = Some(LOW.to_owned())).await;
    world.api.set_kinds(300);
    let subject = Subject::user(world.entra.user("alice").unwrap().kubernetes_name());
    world.api.add_rule(Rule::new(&subject, &["*"], &["list"], &["*"], &["*"]));
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    let listed = kubectl.run(&["get", "all", "--all-namespaces"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let lists = world.api.requests().iter().filter(|seen| seen.target.contains("/kind")).count();
    assert_eq!(lists, 300);
    assert_eq!(world.metric(r#"entrada_limits_hit_total{limit="rate_limit"}"#).await, 0.0);
}

/// Has alice's kubectl apply so many objects at this rate limit; never a 429.
async fn apply(count: usize, rate: &str) {
    let world = World::start_with(|raw| raw.rate_limit = Some(rate.to_owned())).await;
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    let object = |n: usize| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": format!("map-{n}"), "namespace": "team-a" },
            "data": { "n": n.to_string() },
        })
    };
    let items: Vec<_> = (0..count).map(object).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    let applied = kubectl.run_with(&["apply", "-f", "-"], list.as_bytes()).await;
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert_eq!(applied.stdout.lines().filter(|line| line.ends_with(" created")).count(), count);
    assert_eq!(world.metric(r#"entrada_limits_hit_total{limit="rate_limit"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_are_applied_within_the_recommended_rate() {
    // Proves that kubectl, which sends three requests for each object as fast as they are answered, does not meet it.
    apply(1_000, RECOMMENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_rate_slows_kubectl_and_does_not_refuse_it() {
    // Proves that a client which waits for its answers never sees a 429: 603 requests where 300 may come at once.
    apply(200, LOW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addresss_sign_ins_are_limited() {
    // Proves that /login and /callback share a budget, and that who is signed in goes on.
    let world = World::start_with(|raw| raw.signin_rate_limit = Some("1/h burst 3".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let page = world.call_with(Method::GET, "/callback?code=x&state=y", &[]).await;
    assert_eq!(page.status, 400, "the third step is still within it");
    for path in ["/login", "/callback?code=x&state=y"] {
        let page = world.call_with(Method::GET, path, &[]).await;
        assert_eq!(page.status, 429, "{path}");
        assert_eq!(page.headers["entrada-reason"], "rate_limited");
        assert_eq!(page.headers["retry-after"], "1");
    }
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_requests_under_way_are_bounded() {
    // Proves that bodies which never end hold no more than their user's share, and that what ends makes room.
    let world = World::start_with(|raw| raw.max_requests_per_user = Some("3".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let bob = world.token(&world.signed_in("bob").await).await;
    let mut endless = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(&world).await;
        wire.write(format!(
            "POST {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice}\r\ncontent-length: 100000\r\n\r\n{{"
        ))
        .await;
        endless.push(wire);
    }
    eventually("the bound", || async { world.call(Method::GET, PODS, &alice).await.status == 429 }).await;
    let page = world.call(Method::GET, PODS, &alice).await;
    assert_eq!(page.status, 429);
    assert_eq!(page.headers["entrada-reason"], "too_many_requests");
    assert_eq!(page.headers["retry-after"], "1");
    assert_eq!(world.call(Method::GET, BOBS, &bob).await.status, 200);
    endless.pop();
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_shut_window_loses_its_answers_and_not_the_others_their_seats() {
    // Proves that an answer nobody reads is given up after a while, with all that it holds, although an HTTP/2 client
    // that keeps its window shut answers every PING.
    let world = World::start_with(|raw| {
        raw.max_requests_per_user = Some("2".to_owned());
        raw.stall_timeout = Some("1s".to_owned());
    })
    .await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let tls = Wire::open_with(&world, b"h2").await.0;
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(tls))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let get = || {
        let request = http::Request::get(world.at(PODS)).header("authorization", format!("Bearer {alice}"));
        request.body(http_body_util::Empty::<Bytes>::new()).unwrap()
    };
    let held = [client.send_request(get()).await.unwrap(), client.send_request(get()).await.unwrap()];
    assert!(
        held.iter().all(|answer| answer.status() == 200),
        "their heads are there, their bodies cannot come"
    );
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 429);
    eventually("room", || async { world.call(Method::GET, PODS, &alice).await.status == 200 }).await;
    // Nor does its connection stay, with what hyper holds of them. PINGs alone do not keep it.
    tokio::time::timeout(PATIENCE, connection).await.expect("the connection ends").unwrap().unwrap_err();
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_ends_its_http1_connection() {
    // Proves it for HTTP/1.1, where the socket takes some of the answer first.
    let world = World::start_with(|raw| raw.stall_timeout = Some("1s".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    world.api.fault(PODS, Fault::Answer(http::StatusCode::OK, "x".repeat(LARGE)));
    let mut wire = get(&world, PODS, &alice).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    eventually("the end", || async { world.metric("entrada_connections").await < 1.0 }).await;
    let mut rest = Vec::new();
    let read = wire.0.read_to_end(&mut rest).await;
    assert!(read.is_err() || rest.len() < LARGE, "it is not whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_without_a_stream_is_told_to_leave() {
    // Proves GOAWAY and the end after the idle timeout, also for a client that answers PINGs and never leaves by itself;
    // a connection with a watch stays.
    let world = World::start_with(|raw| raw.idle_timeout = Some("1s".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let open = async |path: &str| {
        let tls = Wire::open_with(&world, b"h2").await.0;
        let io = TokioIo::new(tls);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get(world.at(path)).header("authorization", format!("Bearer {alice}"));
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        (client.send_request(request).await.unwrap(), client, connection)
    };
    let (watch, _client, watched) = open(&format!("{PODS}?watch=1")).await;
    let (answer, _also_kept, connection) = open(PODS).await;
    answer.into_body().collect().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), connection).await.expect("it ends").unwrap().unwrap();
    assert!(!watched.is_finished() && watch.status() == 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_connection_goes_to_users_in_turn() {
    // Proves that one request of bob's is served while all of alice's wait for the few connections there are.
    let world = World::start_with(|raw| raw.max_upstream_connections = Some("2".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let bob = world.token(&world.signed_in("bob").await).await;
    world.api.fault(PODS, Fault::DelayHead(Duration::from_millis(300)));
    let flood = join_all((0..40).map(|_| world.call(Method::GET, PODS, &alice)));
    let others = async {
        for _ in 0..5 {
            assert_eq!(world.call(Method::GET, BOBS, &bob).await.status, 200);
        }
    };
    tokio::join!(flood, others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_answer_is_recorded() {
    // Proves that each request has its line in the log, also one that nobody waited for, and that it is counted.
    let world = World::start().await;
    let alice = world.token(&world.signed_in("alice").await).await;
    world.api.fault(PODS, Fault::DelayHead(Duration::from_secs(600)));
    let wire = get(&world, &format!("{PODS}?left=1"), &alice).await;
    world.api.requests_until(|seen| seen.iter().any(|seen| seen.target.ends_with("left=1"))).await;
    drop(wire);
    eventually("its line", || async {
        world.logged(r#""status":499,"reason":"client_gone""#).iter().any(|line| line.contains(PODS))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stands_still_is_given_up() {
    // Proves that a client which stops in the middle of its body is told so, and gives its connection to the API server
    // back.
    let world = World::start_with(|raw| {
        raw.stall_timeout = Some("1s".to_owned());
        raw.max_upstream_connections = Some("1".to_owned());
    })
    .await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!(
        "POST {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice}\r\ncontent-length: 100\r\n\r\n{{"
    ))
    .await;
    let told = wire.head().await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(told.contains("entrada-reason: body_too_slow") && told.contains("connection: close"), "{told}");
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends() {
    // Proves that the idle timeout holds on HTTP/1.1 after an answer at once, after one of the API server, and after a refused
    // request's body has come; and not yet while a client asks now and then.
    let world = World::start_with(|raw| raw.idle_timeout = Some("2s".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let mut asks = Wire::open(&world).await;
    let request = |method: &str, rest: &str| format!("{method} {PODS} HTTP/1.1\r\nhost: x\r\n{rest}\r\n");
    let bearer = format!("authorization: Bearer {alice}\r\n");
    let began = std::time::Instant::now();
    let asked = [("GET", ""), ("GET", bearer.as_str()), ("POST", "content-length: 10\r\n")];
    let silent = asked.map(async |(method, rest)| {
        let mut wire = Wire::open(&world).await;
        wire.write(request(method, rest)).await;
        wire.head().await;
        if method == "POST" {
            wire.write("0123456789").await;
        }
        wire.rest().await;
        began.elapsed()
    });
    let asking = async {
        let mut pause = tokio::time::interval(Duration::from_secs(1));
        for _ in 0..5 {
            pause.tick().await;
            asks.write(request("GET", "")).await;
            asks.head().await;
            asks.read_to(b"}").await;
        }
    };
    let (ended, ()) = tokio::join!(join_all(silent), asking);
    for lasted in ended {
        assert!(lasted >= Duration::from_secs(2) && lasted < Duration::from_secs(9), "{lasted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_keep_connections() {
    // Proves that connections of clients without a credential end: one that asks and never reads; one over HTTP/2 that never
    // lets its answer come.
    let world = World::start_with(|raw| {
        for time in [&mut raw.idle_timeout, &mut raw.stall_timeout, &mut raw.head_timeout] {
            *time = Some("1s".to_owned());
        }
    })
    .await;
    let mut deaf = Wire::open(&world).await;
    let request = format!("GET {PODS} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(1_000);
    let asks = async {
        // Until the socket is full in both directions.
        let _full = tokio::time::timeout(Duration::from_secs(20), async {
            while deaf.0.write_all(request.as_bytes()).await.is_ok() {}
        })
        .await;
    };
    let shut = async {
        let tls = Wire::open_with(&world, b"h2").await.0;
        let mut shut = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let shut = shut.initial_stream_window_size(0).handshake(TokioIo::new(tls));
        let (mut client, connection) = shut.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get(world.at(PODS)).body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let held = client.send_request(request).await.unwrap();
        assert_eq!(held.status(), 401);
        let ended = tokio::time::timeout(PATIENCE, connection).await;
        let _broken = ended.expect("the connection ends").unwrap();
        drop((held, client));
    };
    tokio::join!(asks, shut);
    eventually("their end", || async { world.metric("entrada_connections").await < 1.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_no_connection_costs_its_client_none() {
    // Proves that a small body is read when its request is refused because all connections are in use.
    let world = World::start_with(|raw| raw.max_upstream_connections = Some("1".to_owned())).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let mut watch = get(&world, &format!("{PODS}?watch=1"), &alice).await;
    assert!(watch.head().await.starts_with("HTTP/1.1 200"));
    let mut wire = Wire::open(&world).await;
    for _ in 0..2 {
        wire.write(format!(
            "POST {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice}\r\ncontent-length: 2\r\n\r\n{{}}"
        ))
        .await;
        let told = wire.head().await;
        assert!(told.starts_with("HTTP/1.1 503") && !told.contains("connection: close"), "{told}");
        let length = told.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        wire.0.read_exact(&mut body).await.unwrap();
    }
}
