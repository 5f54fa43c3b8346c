//! What passes between client and API server, and what does not; and how faults between them look.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use standin::apiserver::{Fault, Recorded};
use standin::pki::Ca;
use tokio::io::AsyncWriteExt;

use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";

async fn with_token() -> (World, String) {
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    (world, token)
}

fn last(world: &World) -> Recorded {
    world.api.requests().pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn path_and_query_arrive_byte_for_byte() {
    // Proves that nothing is decoded, cleaned or cut, up to 60 KiB of selectors.
    let (world, token) = with_token().await;
    let long = format!("{PODS}?labelSelector={}", "a%2Cb%20".repeat(7_500));
    for target in [
        "/api/v1/namespaces/team-a/pods/..%2f..%2fx",
        "//api//v1/./pods/../x/%2e%2e",
        "/api/v1/pods?fieldSelector=a%3Db&x=%00&y=+&z",
        "/caf%C3%A9/%zz/a;b=c,d|e\"f'g",
        &long,
    ] {
        let mut wire = Wire::open(&world).await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        wire.write(request).await;
        let head = wire.head().await;
        assert_eq!(last(&world).target, target, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_sees_the_user_and_nothing_forged() {
    // Proves the header rules on the wire: credentials swapped, forgeries gone, what kubectl sends kept.
    let (world, token) = with_token().await;
    let bearer = format!("Bearer {token}");
    let page = world
        .call_with(
            Method::GET,
            PODS,
            &[
                ("authorization", &bearer),
                ("x-remote-user", "system:admin"),
                ("x-remote-group", "system:masters"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("forwarded", "for=1.2.3.4"),
                ("cookie", "other=1; __Host-entrada=x; more=2"),
                ("connection", "keep-alive, x-secret, impersonate-user"),
                ("x-secret", "1"),
                ("impersonate-user", "carol@contoso.example"),
                ("audit-id", "6d7a2f14-7a72-405d-ae6a-ab5d5b73c582"),
                ("kubectl-command", "kubectl get"),
            ],
        )
        .await;
    assert_eq!(page.header("audit-id"), "6d7a2f14-7a72-405d-ae6a-ab5d5b73c582");
    let seen = last(&world);
    assert_eq!(seen.user.as_deref(), Some(world.entra.user("alice").unwrap().kubernetes_name()));
    assert_eq!(seen.acted_as.as_deref(), Some("carol@contoso.example"));
    assert_eq!(seen.version, http::Version::HTTP_11);
    assert_eq!(seen.header("cookie"), Some("other=1; more=2"));
    assert_eq!(seen.header_values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), world.url.strip_prefix("https://"));
    assert_eq!(seen.header("kubectl-command"), Some("kubectl get"));
    assert_eq!(seen.header("audit-id"), Some("6d7a2f14-7a72-405d-ae6a-ab5d5b73c582"));
    for gone in ["x-remote-user", "x-remote-group", "x-real-ip", "x-secret", "via"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_answer_cannot_speak_as_us() {
    // Proves that reasons, cookies and origin-wide headers of ours cannot be forged from behind.
    let (world, token) = with_token().await;
    for (name, value) in [
        ("entrada-reason", "forged"),
        ("set-cookie", "__Host-entrada=stolen; Path=/"),
        ("access-control-allow-origin", "*"),
        ("strict-transport-security", "max-age=1"),
        ("clear-site-data", "\"*\""),
    ] {
        let header = Fault::Header(HeaderName::from_static(name), HeaderValue::from_static(value));
        world.api.clear_faults();
        world.api.fault("/api", header);
        let page = world.call(Method::GET, PODS, &token).await;
        assert_eq!((page.status.as_u16(), page.header(name)), (200, ""), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_are_opaque_tunnels() {
    // Proves that an invented protocol passes both ways, with bytes that come at once and a half-close.
    let (world, token) = with_token().await;
    let upgrade = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\n\
             upgrade: Invented/7\r\nx-stream-protocol-version: b\r\nx-stream-protocol-version: a\r\n\
             content-length: 0\r\n\r\n"
        )
    };
    let mut wire = Wire::open(&world).await;
    wire.write(format!("{}early bytes;", upgrade("/standin/upgrade"))).await;
    let head = wire.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: invented/7"), "{head}");
    assert_eq!(wire.read_to(b"early bytes;").await, b"early bytes;");
    assert_eq!(last(&world).header_values("x-stream-protocol-version"), ["b", "a"]);
    assert!(world.metric("entrada_streams{kind=\"tunnel\"}").await >= 1.0);
    let every_byte: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    wire.write(&every_byte).await;
    wire.0.shutdown().await.unwrap();
    let (echoed, clean) = wire.rest().await;
    assert!(echoed == every_byte && clean, "{} bytes came back", echoed.len());
    eventually("the tunnel's end", || async {
        world.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0
    })
    .await;

    let mut wire = Wire::open(&world).await;
    wire.write(upgrade("/standin/refuse-upgrade")).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(!head.to_lowercase().contains("entrada-reason"), "a refusal goes back as it came: {head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_subprotocol_is_taken_and_removed() {
    // Proves that a browser's WebSocket can bear a token, and that the API server never sees it.
    let (world, token) = with_token().await;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &token);
    let offer = |bearer: &str| {
        format!(
            "GET /standin/upgrade HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{bearer}\r\n\r\n"
        )
    };
    let mut wire = Wire::open(&world).await;
    wire.write(offer(&encoded)).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(last(&world).header_values("sec-websocket-protocol"), ["v5.channel.k8s.io"]);
    let mut wire = Wire::open(&world).await;
    wire.write(offer("bm9wZQ")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 401"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_credential_ends_its_streams_within_a_second() {
    // Proves that revocation cuts a watch cleanly and a tunnel at once, and spares another token's streams.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let (doomed, spared) =
        (world.new_token(&browser, serde_json::json!({})).await, world.token(&browser).await);
    let token = doomed["token"].as_str().unwrap();
    let open = async |token: &str, upgrade: bool| {
        let mut wire = Wire::open(&world).await;
        let (path, extra) =
            if upgrade { ("/standin/upgrade", "connection: Upgrade\r\nupgrade: x\r\n") } else { (WATCH, "") };
        wire.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{extra}\r\n"))
            .await;
        assert!(wire.head().await.starts_with(if upgrade { "HTTP/1.1 101" } else { "HTTP/1.1 200" }));
        wire
    };
    let (mut watch, mut tunnel) = (open(token, false).await, open(token, true).await);
    let mut other = open(&spared, true).await;
    world.api.requests_until(|seen| seen.iter().filter(|request| request.is_open).count() == 3).await;
    let origin = [("origin", world.url.as_str())];
    let id = doomed["id"].as_str().unwrap();
    let revoked = Instant::now();
    browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    let end = watch.read_to(b"0\r\n\r\n").await;
    assert!(end.ends_with(b"0\r\n\r\n"), "a watch ends between two events");
    tunnel.rest().await;
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    world.api.requests_until(|seen| seen.iter().filter(|request| request.is_open).count() == 1).await;
    other.write("still here").await;
    other.read_to(b"still here").await;
}

const WATCH: &str = "/api/v1/namespaces/team-a/pods?watch=true";

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_time_of_their_credential() {
    // Proves that an expired token keeps no watch alive.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.new_token(&browser, serde_json::json!({ "lifetime_seconds": 600 })).await;
    let token = token["token"].as_str().unwrap();
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    wire.head().await;
    world.advance(Duration::from_secs(601));
    wire.read_to(b"0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_cannot_hold_endless_streams() {
    // Proves the bound on streams, its status, and that a seat is given back.
    let world = World::start_with(|raw| raw.max_streams_per_user = Some("2".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let watch = async || {
        let mut wire = Wire::open(&world).await;
        wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
        let head = wire.head().await;
        (wire, head)
    };
    let (first, _) = watch().await;
    let (_second, _) = watch().await;
    let (_, refused) = watch().await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 5"), "{refused}");
    assert!(refused.contains("entrada-reason: too_many_streams"), "{refused}");
    drop(first);
    eventually("a free seat", || async { watch().await.1.starts_with("HTTP/1.1 200") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_not_there_is_said_so() {
    // Proves 503 with Retry-After while it is away, success at once when it is back, and a broken stream when it dies.
    let (world, token) = with_token().await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    wire.head().await;
    world.api.kill().await;
    let (rest, _) = wire.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a broken watch must not look complete");
    let page = world.call(Method::GET, PODS, &token).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (503, "upstream_unreachable"));
    assert_eq!((page.header("retry-after"), page.json().unwrap()["code"].as_u64()), ("1", Some(503)));
    world.api.restart().await.unwrap();
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_server_that_is_not_trusted() {
    // Proves that a wrong CA is a 502 that names the cause, and that the token stays here.
    let other = Ca::new("another").unwrap();
    let world = World::start_with(|raw| {
        let path = std::path::Path::new(raw.api_server_ca_file.as_ref().unwrap()).with_file_name("other.pem");
        std::fs::write(&path, other.pem()).unwrap();
        raw.api_server_ca_file = Some(path.to_str().unwrap().to_owned());
    })
    .await;
    let token = world.token(&world.signed_in("alice").await).await;
    let page = world.call(Method::GET, PODS, &token).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (502, "upstream_untrusted"));
    assert_eq!(page.header("retry-after"), "", "waiting does not help");
    assert!(world.api.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    // Proves that a reset in the middle reaches the client as one, and garbage as a 502.
    let (world, token) = with_token().await;
    for name in ["one", "two", "three"] {
        world.api.put_pod("team-a", name);
    }
    world.api.fault_times(PODS, 1, Fault::ResetBody(100));
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    let (rest, _) = wire.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    world.api.fault_times(PODS, 1, Fault::Garbage("not http at all\r\n\r\n".to_owned()));
    let page = world.call(Method::GET, PODS, &token).await;
    assert_eq!((page.status, page.header("entrada-reason")), (StatusCode::BAD_GATEWAY, "upstream_broken"));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_two_meanings_go_up_as_one_or_not_at_all() {
    // Proves decision 12 with raw bytes: whatever is let in leaves as exactly one request.
    let (world, token) = with_token().await;
    let before = world.api.requests().len();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 6\r\n",
    ] {
        let mut wire = Wire::open(&world).await;
        wire.write(format!(
            "POST {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{framing}\r\n0\r\n\r\n{smuggled}"
        ))
        .await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 400"), "{framing}: {head}");
        wire.rest().await;
    }
    assert_eq!(world.api.requests().len(), before);
    // hyper itself lets `chunked` win (RFC 9112 section 6.3) and closes the connection afterwards.
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let mut wire = Wire::open(&world).await;
        wire.write(format!(
            "POST {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{framing}\r\n0\r\n\r\n{smuggled}"
        ))
        .await;
        assert!(wire.head().await.contains("connection: close"));
        wire.rest().await;
        assert_eq!(last(&world).header("content-length"), None);
    }
    let seen = world.api.requests();
    assert_eq!(seen[before..].iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), [PODS, PODS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_says_so_at_once() {
    // Proves the bound on connections to the API server: 503 with Retry-After, and room again when one has ended.
    let world = World::start_with(|raw| raw.max_upstream_connections = Some("1".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    wire.head().await;
    let page = world.call(Method::GET, PODS, &token).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (503, "upstream_busy"));
    assert_eq!(page.header("retry-after"), "1");
    drop(wire);
    eventually("room", || async { world.call(Method::GET, PODS, &token).await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_limit_is_a_status_and_not_a_hang() {
    // Proves 431 for large heads and many fields, 408 for slow ones, and that none of it needs a credential.
    let world = World::start_with(|raw| {
        raw.head_timeout = Some("300ms".to_owned());
        raw.max_head_bytes = Some("16384".to_owned());
    })
    .await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(20_000));
    let many: String = (0..250).map(|n| format!("x-{n}: 1\r\n")).collect();
    for request in [large, format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")] {
        let mut wire = Wire::open(&world).await;
        wire.write(request).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 431"));
        wire.rest().await;
    }
    for begun in ["", "GET / HTTP/1.1\r\nhost"] {
        let mut wire = Wire::open(&world).await;
        wire.write(begun).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 408"));
        wire.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_and_silent_connections_are_cut() {
    // Proves that neither a TCP connection without TLS nor an h2 connection without a word holds a seat.
    let world = World::start_with(|raw| {
        raw.handshake_timeout = Some("300ms".to_owned());
        raw.head_timeout = Some("300ms".to_owned());
    })
    .await;
    let mut silent = tokio::net::TcpStream::connect(world.entrada.addr).await.unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut silent, &mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)));
    let mut h2 = Wire::open_with(&world, b"h2").await;
    h2.rest().await;
    eventually("free seats", || async { world.metric("entrada_connections").await == 0.0 }).await;
    let refused = "entrada_connections_refused_total{reason=\"handshake_slow\"}";
    assert_eq!(world.metric(refused).await, 1.0);
}
