//! Streams end with their credential: also those that have not begun, that nobody reads, or whose token lives again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use standin::apiserver::Fault;
use standin::entra::Endpoint;

use super::support::wire::Wire;
use super::support::{World, eventually};

const WATCH: &str = "/api/v1/namespaces/team-a/configmaps?watch=true";

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")
}

async fn sign_out(world: &World, browser: &standin::browser::Browser) {
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
}

async fn open_upstream(world: &World) -> usize {
    world.api.requests().iter().filter(|request| request.is_open).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_before_its_answer_has_begun() {
    // Proves that a pod which never answers keeps no request of a revoked token alive.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let proxy = "/api/v1/namespaces/team-a/services/web/proxy/x";
    world.api.fault(proxy, Fault::DelayHead(Duration::from_secs(600)));
    let mut wire = Wire::open(&world).await;
    wire.write(get(proxy, &token)).await;
    world.api.requests_until(|seen| seen.iter().any(|request| request.target == proxy)).await;
    let ended = Instant::now();
    sign_out(&world, &browser).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 401") && head.contains("entrada-reason: session_ended"), "{head}");
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    eventually("upstream's end", || async { open_upstream(&world).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_cannot_keep_its_stream() {
    // Proves that upstream is let go although the client's window is full and its connection asks for nothing.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let mut wire = Wire::open(&world).await;
    wire.write(get(WATCH, &token)).await;
    wire.head().await;
    let big = "x".repeat(500_000);
    let put = |n: u32| {
        world.api.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "big", "namespace": "team-a" }, "data": { "n": n.to_string(), "big": big },
        }))
    };
    // More than the sockets between us hold.
    for n in 0..60 {
        put(n);
    }
    let ended = Instant::now();
    sign_out(&world, &browser).await;
    eventually("upstream's end", || async { open_upstream(&world).await == 0 }).await;
    eventually("no stream", || async { world.metric("entrada_streams{kind=\"watch\"}").await == 0.0 }).await;
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
    drop(wire);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_end_nobody_takes_counts_for_its_user() {
    // Proves that an HTTP/2 client which keeps its window shut cannot pile up what is left of streams that are over.
    let world = World::start_with(|raw| raw.max_streams_per_user = Some("1".to_owned())).await;
    let (browser, other) = (world.signed_in("alice").await, world.signed_in("alice").await);
    let (token, others) = (world.token(&browser).await, world.token(&other).await);
    world.api.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "any", "namespace": "team-a" },
    }));
    let tls = Wire::open_with(&world, b"h2").await.0;
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(tls))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(world.at(WATCH)).header("authorization", format!("Bearer {token}"));
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let mut watch = client.send_request(request).await.unwrap();
    // Now the rest of the first event waits for the window.
    assert_eq!(watch.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len(), 1);
    sign_out(&world, &browser).await;
    eventually("no stream", || async { world.metric("entrada_streams{kind=\"watch\"}").await == 0.0 }).await;
    let answer = async || {
        let mut wire = Wire::open(&world).await;
        wire.write(get(WATCH, &others)).await;
        wire.head().await
    };
    let refused = answer().await;
    assert!(refused.contains("entrada-reason: too_many_streams"), "{refused}");
    connection.abort();
    drop((client, watch));
    eventually("room", || async { answer().await.starts_with("HTTP/1.1 200") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_armed_again_has_streams_that_live() {
    // Proves that an old stream which lingers does not end the new ones of the same token.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let watch = async || {
        let mut wire = Wire::open(&world).await;
        wire.write(get(WATCH, &token)).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        wire
    };
    let _lingers = watch().await;
    sign_out(&world, &browser).await;
    browser.sign_in(&world.url, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    let origin = [("origin", world.url.as_str())];
    browser.post_json(&world.at("/tokens/arm"), &json!({}), &origin).await.unwrap();
    let mut anew = watch().await;
    world.api.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "late", "namespace": "team-a" },
    }));
    anew.read_to(b"\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_is_the_clients_fault() {
    // Proves that a client which gives up is not reported as the API server's failure.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!(
        "POST /api/v1/namespaces/team-a/configmaps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{{\"ki\r\nnonsense\r\n"
    ))
    .await;
    wire.rest().await;
    eventually("the note", || async {
        world.metric("entrada_problems_total{reason=\"client_gone\"}").await == 1.0
    })
    .await;
    assert_eq!(world.metric("entrada_problems_total{reason=\"upstream_broken\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_met_a_dying_connection_is_repeated_where_that_is_safe() {
    // Proves that a GET survives a connection that closes under it, and that a POST is never sent twice.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let pods = "/api/v1/namespaces/team-a/pods";
    assert_eq!(world.call(Method::GET, pods, &token).await.status, 200);
    world.api.fault_times(pods, 1, Fault::Garbage(String::new()));
    assert_eq!(world.call(Method::GET, pods, &token).await.status, 200);
    world.api.fault_times(pods, 1, Fault::Garbage(String::new()));
    let before = world.api.requests().len();
    let page = world.call(Method::POST, pods, &token).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (502, "upstream_broken"));
    assert_eq!(world.api.requests().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_is_not_lost() {
    // Proves that a GET with a chunked body, as search APIs behind a proxy path take it, arrives with its body.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!(
        "GET /api/v1/namespaces/team-a/pods/web/proxy/search HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n"
    ))
    .await;
    wire.head().await;
    let seen = world.api.requests().pop().unwrap();
    assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_loses_access_loses_open_streams() {
    // Proves that streams without requests are looked after: renewed while all is well, through an outage too, and ended
    // with the AKS token when the user is not let in any more, though the session stays.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(3_600)));
    let token = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(get(WATCH, &token)).await;
    wire.head().await;
    world.entra.reset_calls();
    for minutes in 1..=3 {
        world.advance(Duration::from_secs(3_000));
        eventually("renewal", || async {
            world.advance(Duration::from_secs(11));
            world.entra.calls().token_refresh >= minutes
        })
        .await;
    }
    world.entra.fail_always(Endpoint::TokenRefresh, standin::entra::Fault::status(503));
    world.advance(Duration::from_secs(4_000));
    eventually("a failed renewal", || async { !world.logged("a token request to Entra failed").is_empty() })
        .await;
    assert_eq!(open_upstream(&world).await, 1, "an outage takes nobody's access away");
    world.entra.heal();
    world.entra.set_assigned("alice", false);
    world.advance(Duration::from_secs(61));
    eventually("the watch's end", || async {
        world.advance(Duration::from_secs(11));
        open_upstream(&world).await == 0
    })
    .await;
    wire.read_to(b"0\r\n\r\n").await;
    world.entra.set_assigned("alice", true);
    world.advance(Duration::from_secs(61));
    assert_eq!(world.call(Method::GET, "/whoami", &token).await.status, 200, "the session stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_asks_for_a_switch_is_a_stream_all_the_same() {
    // Proves that an `Upgrade` which the API server passes over takes no watch off the books.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!(
        "GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\n\
         upgrade: whatever\r\n\r\n"
    ))
    .await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(open_upstream(&world).await, 1);
    sign_out(&world, &browser).await;
    eventually("the watch's end", || async { open_upstream(&world).await == 0 }).await;
    let (_, whole) = wire.rest().await;
    assert!(!whole || world.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_keeps_its_connections_seat() {
    // Proves that tunnels count as the connections that they are.
    let world = World::start_with(|raw| raw.max_connections = Some("3".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(&world).await;
        wire.write(format!(
            "GET /standin/upgrade HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             connection: Upgrade\r\nupgrade: x\r\n\r\n"
        ))
        .await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101"));
        tunnels.push(wire);
    }
    assert_eq!(world.metric("entrada_connections").await, 3.0);
    let mut late = tokio::net::TcpStream::connect(world.entrada.addr).await.unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut late, &mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "closed at once");
    drop(tunnels);
    eventually("free seats", || async { world.metric("entrada_connections").await == 0.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_before_the_answer_is_told_as_what_it_is() {
    // Proves that a revoked token is not said to be dormant: to sign in again would not bring it back.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let origin = [("origin", world.url.as_str())];
    let (revoked, dormant) = (world.new_token(&browser, json!({})).await, world.token(&browser).await);
    world.api.fault("/api", Fault::DelayHead(Duration::from_secs(60)));
    let watch = "/api/v1/namespaces/team-a/pods?watch=true";
    let id = revoked["id"].as_str().unwrap();
    let is_open = |count| world.api.requests_until(move |seen| seen.len() == count);
    let waiting = world.call(Method::GET, watch, revoked["token"].as_str().unwrap());
    let (told, ()) = tokio::join!(waiting, async {
        is_open(1).await;
        browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    });
    assert_eq!((told.status.as_u16(), told.header("entrada-reason")), (401, "unknown_token"));
    let (told, ()) = tokio::join!(world.call(Method::GET, watch, &dormant), async {
        is_open(2).await;
        browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    });
    assert_eq!((told.status.as_u16(), told.header("entrada-reason")), (401, "session_ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_a_sign_in_that_comes_while_its_access_is_renewed() {
    // Proves that the care of open streams follows a token to its next session: its former one has ended, its access not.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(3_600)));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let mut wire = Wire::open(&world).await;
    wire.write(get(WATCH, &token)).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    world.advance(Duration::from_secs(7_200));
    hold.arrived(1).await;
    let release = async {
        hold.arrived(2).await;
        hold.release();
    };
    world.entra.sign_in_directly(Some("alice"));
    let login = world.at("/login");
    let (home, ()) = tokio::join!(browser.navigate(&login), release);
    assert_eq!(home.unwrap().status, 200);
    world.keep_secret(world.session_cookie(&browser).unwrap());
    for n in 0..3 {
        world.advance(Duration::from_secs(11));
        assert_eq!(world.call(Method::GET, "/api/v1/namespaces/team-a/pods", &token).await.status, 200);
        let name = format!("late{n}");
        world.api.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "team-a" },
        }));
        wire.read_to(b"\n\r\n").await;
    }
}
