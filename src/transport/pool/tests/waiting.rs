//! What a connection holds while it waits.

use super::*;

/// After a burst nothing of the buffers stays with a connection that waits for more: of what was read, all is with those
/// to whom it was passed on.
#[tokio::test]
async fn a_connection_that_waits_holds_no_buffer() {
    let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
    let serve = async {
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        for _ in 0..40 {
            peer.say(format!("4000\r\n{}\r\n", "x".repeat(0x4000))).await;
        }
        peer
    };
    let reads = async {
        let mut body = pool.request(get("/watch"), "a").await.unwrap().into_body();
        let (mut seen, mut last) = (0, bytes::Bytes::new());
        while seen < 40 * 0x4000 {
            last = body.frame().await.unwrap().unwrap().into_data().unwrap();
            seen += last.len();
        }
        (body, last)
    };
    let (_peer, (mut body, last)) = tokio::join!(serve, reads);
    let more = futures_util::poll!(std::pin::pin!(body.frame()));
    assert!(more.is_pending(), "it waits");
    assert!(last.is_unique(), "nobody else has a part of that buffer");
}
