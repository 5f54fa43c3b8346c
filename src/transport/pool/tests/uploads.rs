//! Requests with bodies: how they are framed, and what happens when one side is done before the other.

use bytes::Bytes;

use super::*;

/// What the server reads of a request, to the end of the connection.
async fn written(request: Request<Outgoing>) -> String {
    let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
    let serve = async {
        let head = peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        let mut body = Vec::new();
        let _how = peer.0.read_to_end(&mut body).await;
        head + &String::from_utf8(body).unwrap()
    };
    let asked = async {
        let mut response = pool.request(request, "a").await.unwrap();
        if let Some(rest) = response.body_mut().apart() {
            rest.await;
        }
    };
    tokio::join!(serve, asked).0
}

/// A client's body of so many bytes, framed as this header says.
async fn body(framing: &str, bytes: &'static [u8]) -> Outgoing {
    let (mut client, server) = tokio::io::duplex(1024);
    let (sender, receiver) = tokio::sync::oneshot::channel::<Request<Incoming>>();
    let sender = std::sync::Mutex::new(Some(sender));
    let service = service_fn(move |request| {
        let _received = sender.lock().unwrap().take().unwrap().send(request);
        std::future::pending::<Result<Response<Full<Bytes>>, std::convert::Infallible>>()
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    client.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
    client.write_all(bytes).await.unwrap();
    // The client stays.
    tokio::spawn(async move { client.read_u8().await });
    Outgoing::from_client(receiver.await.unwrap().into_body(), None).0
}

/// A body goes on as it came: with its length, or in chunks, with an end; none stays none.
#[tokio::test]
async fn a_body_keeps_its_framing() {
    let mut post = request(Method::POST, "/a?b=%20c", body("content-length: 5", b"hello").await);
    post.headers_mut().insert("content-length", 5.into());
    post.headers_mut().append("x-a", "1".parse().unwrap());
    post.headers_mut().append("x-a", "2".parse().unwrap());
    let text = written(post).await;
    let (head, body_text) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /a?b=%20c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nx-a: 1\r\nx-a: 2"), "{head}");
    assert!(head.contains("\r\ncontent-length: 5"), "{head}");
    assert_eq!(body_text, "hello");

    let chunks =
        body("transfer-encoding: chunked", b"2\r\nhe\r\n3;x\r\nllo\r\n0\r\nx-trailer: 1\r\n\r\n").await;
    let text = written(request(Method::POST, "/", chunks)).await;
    let (head, body_text) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body_text, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");

    let none = body("transfer-encoding: chunked", b"0\r\n\r\n").await;
    let text = written(request(Method::GET, "/", none)).await;
    assert!(text.ends_with("\r\n\r\n0\r\n\r\n") && text.contains("\r\ntransfer-encoding: chunked"), "{text}");

    let text = written(request(Method::POST, "/", Outgoing::Own(Full::from("hello")))).await;
    assert!(text.contains("\r\ncontent-length: 5") && text.ends_with("\r\n\r\nhello"), "{text}");

    let text = written(request(Method::DELETE, "/", Outgoing::Empty)).await;
    assert!(text.ends_with("\r\n\r\n") && !text.contains("length") && !text.contains("encoding"), "{text}");
}

/// A length that the body does not have would make the server take the next request for its rest.
#[tokio::test]
async fn a_length_without_a_body_is_not_sent() {
    for length in ["5", "x", "5, 5", "-1"] {
        let (_server, pool, _peer) = Server::with_an_idle_connection().await;
        let mut post = request(Method::POST, "/", Outgoing::Empty);
        post.headers_mut().insert("content-length", length.parse().unwrap());
        assert!(matches!(ask(&pool, post).await, Err(TransportError::ClientGone(_))), "{length}");
    }
    let (_server, pool, _peer) = Server::with_an_idle_connection().await;
    let mut post = request(Method::POST, "/", Outgoing::Own(Full::from("hello")));
    post.headers_mut().append("content-length", 5.into());
    post.headers_mut().append("content-length", 5.into());
    assert!(matches!(ask(&pool, post).await, Err(TransportError::ClientGone(_))), "twice");
    for (length, text) in [(4, "hello"), (6, "hello")] {
        let (_server, pool, _peer) = Server::with_an_idle_connection().await;
        let mut post = request(Method::POST, "/", Outgoing::Own(Full::from(text)));
        post.headers_mut().insert("content-length", length.into());
        assert!(matches!(ask(&pool, post).await, Err(TransportError::ClientGone(_))), "{length}");
        assert_eq!(pool.idle.count(), 0);
    }
}

/// A server may refuse a large request before it has read it, and close: its answer is not lost, though the request
/// cannot be sent any more.
#[tokio::test]
async fn a_server_that_reads_no_more_has_answered() {
    for _ in 0..20 {
        let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
        let serve = async {
            peer.head().await;
            peer.say("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nown").await;
            // With bytes unread: TCP resets the connection.
            drop(peer);
        };
        let large = Outgoing::Own(Full::from(vec![b'x'; 8 * 1024 * 1024]));
        let (response, ()) = tokio::join!(pool.request(request(Method::POST, "/", large), "a"), serve);
        let mut response = response.unwrap();
        assert_eq!(response.status(), 413);
        let rest = response.body_mut().apart().map(tokio::spawn);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "own");
        if let Some(rest) = rest {
            rest.await.unwrap();
        }
        assert_eq!(pool.idle.count(), 0);
    }
}

/// An answer that came before its request had been sent.
struct Early {
    pool: Pool,
    peer: Peer,
    client: tokio::io::DuplexStream,
    response: Response<Received>,
    /// The task that sends the rest of the request.
    rest: tokio::task::JoinHandle<()>,
}

impl Early {
    /// Of the request's body two bytes of five have been sent, and of the answer's three of six have come.
    async fn half_of_both() -> Self {
        let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
        let (body, _sent, client) = half_a_body().await;
        let serve = async {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nown").await;
        };
        let (response, ()) = tokio::join!(pool.request(request(Method::POST, "/second", body), "a"), serve);
        let mut response = response.unwrap();
        let rest = tokio::spawn(response.body_mut().apart().unwrap());
        Self { pool, peer, client, response, rest }
    }
}

/// Who leaves an early answer takes the connection along, and the rest of the request is not sent.
#[tokio::test]
async fn an_early_answer_that_is_given_up_ends_its_upload() {
    let Early { pool, mut peer, mut client, response, rest } = Early::half_of_both().await;
    drop(response);
    timeout(PATIENCE, rest).await.expect("it ends").unwrap();
    let _gone = client.write_all(b"llo").await;
    let mut half = Vec::new();
    let _how = peer.0.read_to_end(&mut half).await;
    assert_eq!(half, b"he");
    assert_eq!(pool.idle.count(), 0);
}

/// A client that breaks its request off after an early answer has that answer broken off, too: it is no whole exchange.
#[tokio::test]
async fn an_upload_that_breaks_off_ends_its_early_answer() {
    let Early { pool, client, response, rest, peer: _peer } = Early::half_of_both().await;
    let reads = tokio::spawn(response.into_body().collect());
    // It waits for the rest of the answer by the time that the request breaks off.
    tokio::task::yield_now().await;
    drop(client);
    rest.await.unwrap();
    let read = timeout(PATIENCE, reads).await.expect("the reader is told");
    assert!(read.unwrap().is_err());
    assert_eq!(pool.idle.count(), 0);
}

/// A body whose last part was taken, and waits to be written, stands still when that has taken too long.
#[tokio::test(start_paused = true)]
async fn the_last_part_of_a_body_has_its_own_time() {
    let stall = Duration::from_secs(300);
    let (body, mut sent, _client) = half_a_body().await;
    drop(body);
    assert!(sent.is_done());
    let began = tokio::time::Instant::now();
    sent.stands_still(stall).await;
    assert_eq!(began.elapsed(), stall);
    let (body, mut sent, _client) = half_a_body().await;
    let given_up = async {
        crate::clock::pause(stall / 10).await;
        drop(body);
    };
    tokio::join!(sent.stands_still(stall), given_up);
    assert!(sent.is_done());
}
