//! Tunnels by raw bytes: an invented protocol, cut everywhere, ended in every way.

use futures_util::StreamExt;
use standin::apiserver::Recorded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::wire::Wire;
use super::support::{World, eventually};

async fn with_token() -> (World, String) {
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    (world, token)
}

fn request(query: &str, token: &str) -> String {
    format!(
        "GET /standin/upgrade{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         connection: Upgrade\r\nupgrade: Invented/7\r\n\r\n"
    )
}

/// A tunnel to an echo that behaves as `query` says.
async fn tunnel(world: &World, query: &str, token: &str) -> Wire {
    let mut wire = Wire::open(world).await;
    wire.write(request(query, token)).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    wire
}

async fn no_tunnel_is_left(world: &World) {
    world.api.requests_until(|seen| !seen.iter().any(|request| request.is_open)).await;
    eventually("the tunnel's end", || async {
        world.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_may_be_cut_at_every_byte() {
    // Proves that no boundary of the client's writes matters: within the head, behind it, or in the data that comes
    // before the 101 was seen.
    let (world, token) = with_token().await;
    let (world, data) = (&world, b"early \x00\xff bytes".as_slice());
    let sent = [request("", &token).as_bytes(), data].concat();
    let sent = &sent;
    // What the portal asked at the sign-in.
    let before = world.api.requests().len();
    let splits = futures_util::stream::iter(1..sent.len()).map(|at| async move {
        let mut wire = Wire::open(world).await;
        wire.write(&sent[..at]).await;
        // Time for the first part to be read alone: a whole exchange on another connection.
        world.admin("/healthz").await;
        wire.write(&sent[at..]).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "cut at {at}: {head}");
        wire.read_to(data).await;
        wire.write("later").await;
        wire.0.shutdown().await.unwrap();
        assert_eq!(wire.rest().await, (b"later".to_vec(), true), "cut at {at}");
    });
    splits.buffer_unordered(8).collect::<Vec<()>>().await;
    let heard = world.api.requests().split_off(before);
    assert_eq!(heard.len(), sent.len() - 1);
    assert!(heard.iter().all(|request| request.heard_bytes == data.len() + b"later".len()));
    no_tunnel_is_left(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_the_101_is_kept() {
    // Proves that the server may speak first, in the very segment that switches protocols, and with more than a buffer.
    let (world, token) = with_token().await;
    for greeting in ["hello".to_owned(), "0123456789".repeat(1_500)] {
        let mut wire = tunnel(&world, &format!("?greet={greeting}"), &token).await;
        wire.write("; bye").await;
        wire.0.shutdown().await.unwrap();
        let (received, clean) = wire.rest().await;
        assert_eq!(String::from_utf8(received).unwrap(), format!("{greeting}; bye"));
        assert!(clean);
    }
    no_tunnel_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_may_close_its_half_first() {
    // Proves that its end is passed on as a clean one while the client's half goes on being heard.
    let (world, token) = with_token().await;
    let mut wire = tunnel(&world, "?bye=5", &token).await;
    wire.write("01234").await;
    assert_eq!(wire.rest().await, (b"01234".to_vec(), true));
    let more = vec![7; 1_000_000];
    wire.write(&more).await;
    let has_heard = |seen: &[Recorded]| seen.iter().any(|request| request.heard_bytes == 5 + more.len());
    world.api.requests_until(has_heard).await;
    assert_eq!(world.metric("entrada_streams{kind=\"tunnel\"}").await, 1.0, "half of it is open");
    wire.0.shutdown().await.unwrap();
    no_tunnel_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_may_close_its_half_first() {
    // Proves that what the server sends after the client's end still arrives, to the last byte.
    let (world, token) = with_token().await;
    let mut wire = tunnel(&world, "", &token).await;
    let content: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    let (mut read, mut write) = tokio::io::split(&mut wire.0);
    let send = async {
        write.write_all(&content).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(read.read_to_end(&mut received), send);
    read.unwrap();
    assert!(received == content, "{} bytes came back", received.len());
    no_tunnel_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_is_not_made_to_look_orderly() {
    // Proves that neither a reset nor a connection that just stops reaches the client as a clean end of TLS, and that
    // what was sent before arrives.
    let (world, token) = with_token().await;
    for query in ["?reset=5", "?cut=5"] {
        let mut wire = tunnel(&world, query, &token).await;
        wire.write("0123").await;
        wire.read_to(b"0123").await;
        wire.write("4").await;
        let (received, clean) = wire.rest().await;
        // A reset may overtake what was sent before it.
        assert!(received == b"4" || query == "?reset=5" && received.is_empty(), "{query}: {received:?}");
        assert!(!clean, "{query}");
        no_tunnel_is_left(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_end_arrives() {
    // Proves that a client which reads slowly still gets every byte that came before the server hung up.
    let (world, token) = with_token().await;
    let content: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    let mut wire = tunnel(&world, &format!("?cut={}", content.len()), &token).await;
    let (mut read, mut write) = tokio::io::split(&mut wire.0);
    let mut received = Vec::new();
    let slowly = async {
        let mut piece = [0; 1_000];
        while let Ok(count @ 1..) = read.read(&mut piece).await {
            received.extend_from_slice(&piece[..count]);
            tokio::task::yield_now().await;
        }
    };
    let sending = async {
        write.write_all(&content).await.unwrap();
        // Without it the last TLS records may stay in this client, and the server never has enough to hang up.
        write.flush().await.unwrap();
    };
    tokio::join!(sending, slowly);
    assert!(received == content, "{} of {} bytes arrived", received.len(), content.len());
    no_tunnel_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_last_word_is_not_drowned_by_a_client_that_goes_on_talking() {
    // Proves that a failed write towards the server does not discard what the server had said before it left, as when
    // a program ends without reading its input.
    let (world, token) = with_token().await;
    for _ in 0..20 {
        let mut wire = tunnel(&world, "?close=5", &token).await;
        let (mut read, mut write) = tokio::io::split(&mut wire.0);
        let talk = async {
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..64 {
                if write.write_all(&piece).await.is_err() {
                    return;
                }
            }
        };
        let mut last_word = [0; 5];
        let (_, heard) = tokio::join!(talk, read.read_exact(&mut last_word));
        heard.unwrap();
        assert_eq!(&last_word, b"xxxxx");
    }
    no_tunnel_is_left(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_leaves_nothing_upstream() {
    // Proves that upstream's connection ends with the client's, be it reset, cut off or both halves closed.
    let (world, token) = with_token().await;
    for is_reset in [false, true] {
        let mut wire = tunnel(&world, "", &token).await;
        wire.write("x").await;
        wire.read_to(b"x").await;
        if is_reset {
            wire.0.get_ref().0.set_zero_linger().unwrap();
        }
        drop(wire);
        no_tunnel_is_left(&world).await;
    }
}
