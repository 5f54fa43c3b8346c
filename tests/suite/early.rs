//! An answer that comes before the request's body must arrive: clients that send all of it before they read.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use standin::apiserver::Fault;
use tokio::io::AsyncReadExt as _;

use super::support::kubectl::Kubectl;
use super::support::wire::Wire;
use super::support::{PATIENCE, World, eventually, noise};

const POST: &str = "/api/v1/namespaces/team-a/configmaps";
const SIZES: [usize; 3] = [10, 100_000, 10_000_000];

const ROUNDS: usize = 30;

fn unknown() -> String {
    entrada::secret::CredentialSecret::new_token().expose().to_owned()
}

fn head(token: &str, framing: &str) -> String {
    format!("POST {POST} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{framing}\r\n\r\n")
}

/// Reads an answer whole.
async fn answer(wire: &mut Wire) -> String {
    let head = wire.head().await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    let read = wire.0.read_exact(&mut body);
    tokio::time::timeout(PATIENCE, read).await.expect("the body arrives").unwrap();
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_who_sends_all_before_reading() {
    // Proves for small, middle and large bodies that the 401 arrives, and that a connection which is not said to close
    // takes the next request.
    let world = World::start().await;
    let token = unknown();
    for size in SIZES {
        let body = noise(size);
        let rounds = (0..ROUNDS).map(|_| async {
            let mut wire = Wire::open(&world).await;
            for _ in 0..3 {
                wire.write(head(&token, &format!("content-length: {size}"))).await;
                wire.write(&body).await;
                let told = answer(&mut wire).await;
                assert!(told.starts_with("HTTP/1.1 401"), "{told}");
                if told.contains("connection: close") {
                    assert!(size > 256 * 1024, "{size}");
                    assert!(wire.rest().await.1, "closed in peace");
                    return;
                }
            }
            assert!(size <= 256 * 1024, "a large rest is not read for the sake of the connection");
        });
        join_all(rounds).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_to_upgrade_does_not_cost_the_answer() {
    // Proves that a connection on which another protocol was offered, in this request or an earlier one, is closed as any
    // other: after the answer has arrived.
    let world = World::start().await;
    let (token, size) = (unknown(), 10_000_000);
    let body = noise(size);
    let offer = "connection: upgrade\r\nupgrade: h2c";
    let rounds = (0..ROUNDS).map(|round| {
        let (world, token, body) = (&world, &token, &body);
        async move {
            let mut wire = Wire::open(world).await;
            let framing = if round % 2 == 0 {
                format!("content-length: {size}\r\n{offer}")
            } else {
                wire.write(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{offer}\r\n\r\n")).await;
                answer(&mut wire).await;
                format!("content-length: {size}")
            };
            wire.write(head(token, &framing)).await;
            wire.write(body).await;
            let told = answer(&mut wire).await;
            assert!(told.starts_with("HTTP/1.1 401") && told.contains("connection: close"), "{told}");
            assert!(wire.rest().await.1, "closed in peace");
        }
    });
    join_all(rounds).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{offer}\r\nconnection: close\r\n\r\n")).await;
    answer(&mut wire).await;
    assert!(wire.rest().await.1, "with an end that TLS knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_or_one_that_waits_closes_the_connection() {
    // Proves that the answer says what happens to the connection, for a chunked body and for one that asks first.
    let world = World::start().await;
    let mut wire = Wire::open(&world).await;
    wire.write(head(&unknown(), "transfer-encoding: chunked")).await;
    for _ in 0..40 {
        wire.write(b"2710\r\n").await;
        wire.write(noise(10_000)).await;
        wire.write(b"\r\n").await;
    }
    wire.write(b"0\r\n\r\n").await;
    let told = answer(&mut wire).await;
    assert!(told.starts_with("HTTP/1.1 401") && told.contains("connection: close"), "{told}");
    assert!(wire.rest().await.1);

    let mut wire = Wire::open(&world).await;
    wire.write(head(&unknown(), "content-length: 1000\r\nexpect: 100-continue")).await;
    let told = answer(&mut wire).await;
    assert!(told.starts_with("HTTP/1.1 401") && told.contains("connection: close"), "{told}");
    let (rest, in_peace) = wire.rest().await;
    assert!(rest.is_empty() && in_peace, "no 100 Continue behind the answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_every_stream_gets_its_answer() {
    // Proves that refused bodies, small and large, disturb no other stream of the connection.
    let world = World::start().await;
    let good = world.token(&world.signed_in("alice").await).await;
    let wire = Wire::open_with(&world, b"h2").await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(wire.0)).await.unwrap();
    let connection = tokio::spawn(connection);
    let token = unknown();
    let ask = async |size: usize, bearer: &str| {
        let mut sender = sender.clone();
        let method = if size == 0 { "GET" } else { "POST" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{}", if size == 0 { "/api" } else { POST }))
            .header("authorization", format!("Bearer {bearer}"))
            .body(Full::new(Bytes::from(noise(size))))
            .unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
        status
    };
    for size in SIZES {
        let refused = join_all((0..ROUNDS).map(|_| ask(size, &token)));
        let others = join_all((0..10).map(|_| ask(0, &good)));
        let (refused, others) = tokio::join!(refused, others);
        assert!(refused.iter().all(|status| *status == 401), "{refused:?}");
        assert!(others.iter().all(|status| *status == 200), "{others:?}");
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_client_reads_its_refusal() {
    // Proves it for a client of another language, over connections that it keeps where it may.
    let world = World::start().await;
    let ca = world.dir.path().join("ca.pem");
    let script = r"
import http.client, ssl, sys
port, ca, token, rounds = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
for size in (10, 100_000, 10_000_000):
    connection = http.client.HTTPSConnection('localhost', port, context=context, timeout=30)
    for _ in range(rounds):
        connection.request('POST', '/api/v1/namespaces/team-a/configmaps', body=b'x' * size,
                           headers={'Authorization': 'Bearer ' + token})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 401, answer.status
";
    let port = world.entrada.addr.port().to_string();
    let arguments = ["-c", script, &port, ca.to_str().unwrap(), &unknown(), &ROUNDS.to_string()];
    let mut python = tokio::process::Command::new("python3");
    python
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, python.output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_where_to_sign_in_again() {
    // Proves that who applies a large manifest with an ended sign-in is told so, and not "EOF".
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let kubeconfig = world.kubeconfig(&browser).await;
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let kubectl = Arc::new(Kubectl::new(&kubeconfig));
    for size in [10, 100_000, 2_000_000] {
        let file = world.dir.path().join(format!("{size}.json"));
        std::fs::write(&file, format!("{{\"data\":\"{}\"}}", "x".repeat(size))).unwrap();
        let told = kubectl.run(&["create", "--raw", POST, "-f", file.to_str().unwrap()]).await;
        assert!(told.stderr.contains(&format!("{}/login", world.url)), "{size}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_answer_is_over_is_bounded_too() {
    // Proves that the rest of a request whose answer came early, and without a body, keeps its place among the connections to
    // the API server, and is given up when it stands still.
    let world = World::start_with(|raw| {
        raw.stall_timeout = Some("4s".to_owned());
        raw.max_upstream_connections = Some("1".to_owned());
    })
    .await;
    let alice = world.token(&world.signed_in("alice").await).await;
    let bob = world.token(&world.signed_in("bob").await).await;
    world.api.fault(POST, Fault::Answer(http::StatusCode::NO_CONTENT, String::new()));
    let mut wire = Wire::open(&world).await;
    wire.write(head(&alice, "content-length: 100") + "{").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 204"));
    let busy = world.call(http::Method::GET, "/version", &bob).await;
    assert_eq!(busy.status, 503, "the only connection is in use");
    eventually("room", || async { world.call(http::Method::GET, "/version", &bob).await.status == 200 })
        .await;
    drop(wire);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_room_for_what_all_its_streams_may_send() {
    // Proves that uploads which nobody reads cannot use up what another request on their connection needs: HTTP/2 counts
    // bytes for each stream, and once more for all of them together.
    let world = World::start().await;
    let mut wire = Wire::open_with(&world, b"h2").await;
    wire.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let (mut streams, mut of_stream, mut of_all) = (0, 65_535, 65_535);
    while of_all == 65_535 {
        let mut head = [0; 9];
        let read = wire.0.read_exact(&mut head);
        tokio::time::timeout(PATIENCE, read).await.expect("a frame").unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        wire.0.read_exact(&mut payload).await.unwrap();
        let number = |bytes: &[u8]| u64::from(u32::from_be_bytes(bytes.try_into().unwrap()));
        match (head[3], &head[5..]) {
            // SETTINGS: 3 is MAX_CONCURRENT_STREAMS, 4 is INITIAL_WINDOW_SIZE.
            (4, _) => payload.chunks_exact(6).for_each(|setting| match setting[1] {
                3 => streams = number(&setting[2..]),
                4 => of_stream = number(&setting[2..]),
                _ => {}
            }),
            // WINDOW_UPDATE of the connection.
            (8, [0, 0, 0, 0]) => of_all += number(&payload),
            _ => {}
        }
    }
    assert_eq!(streams, 250);
    assert!(of_all >= streams * of_stream, "{of_all} for {streams} of {of_stream}");
}
