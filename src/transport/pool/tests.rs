//! The pool against a server that speaks raw bytes, orderly and not. What must never happen is that bytes which were meant
//! for one request, or for none, become the answer to another: so each test that sends too many looks at who gets them.
//!
//! One thread: what the server has written is in the kernel, and tokio has not heard of it yet, when the next request
//! begins.

mod burst;
mod mix;
mod uploads;
mod waiting;
mod wire;

use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use standin::pki::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::Sent;
use super::*;

const OWN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown";
const STOLEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen";

/// A connection that is not made where one should be is a fault, and no wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca: Ca,
}

/// The server's end of one connection.
struct Peer(TlsStream<TcpStream>);

impl Server {
    async fn start() -> (Self, Pool) {
        let ca = Ca::new("pool").unwrap();
        let acceptor = TlsAcceptor::from(ca.issue(&[]).unwrap().server_config().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority: Authority =
            format!("localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let pool = Pool::new(Some(roots(&ca)), &authority, Duration::from_secs(30)).unwrap();
        (Self { listener, acceptor, ca }, pool)
    }

    async fn accept(&self) -> Peer {
        let connected = timeout(PATIENCE, self.listener.accept()).await;
        let (tcp, _) = connected.expect("another connection").unwrap();
        Peer(self.acceptor.accept(tcp).await.unwrap())
    }

    /// A pool with one idle connection, on which one answer was read, and the server's end of it.
    async fn with_an_idle_connection() -> (Self, Pool, Peer) {
        let (server, pool) = Self::start().await;
        let serve = async {
            let mut peer = server.accept().await;
            peer.head().await;
            peer.say(OWN).await;
            peer
        };
        let (body, peer) = tokio::join!(ask(&pool, get("/first")), serve);
        assert_eq!(body.unwrap(), "own");
        assert_eq!(pool.idle.count(), 1);
        (server, pool, peer)
    }

    /// The next request is not sent on an old connection, but on a new one, and gets the answer that comes there.
    async fn assert_next_is_on_a_new_connection(&self, pool: &Pool) {
        let serve = async {
            let mut peer = self.accept().await;
            assert!(peer.head().await.starts_with("GET /next HTTP/1.1\r\n"));
            peer.say(OWN).await;
            peer
        };
        let (body, _peer) = tokio::join!(ask(pool, get("/next")), serve);
        assert_eq!(body.unwrap(), "own");
    }
}

impl Peer {
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Waits until the proxy has closed the connection, and has sent nothing more on it.
    async fn assert_closed(mut self) {
        let mut rest = Vec::new();
        let _how = self.0.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

fn roots(ca: &Ca) -> RootCertStore {
    tls::roots_or_public(Some(ca.pem().as_bytes())).unwrap()
}

fn request(method: Method, path: &str, body: Outgoing) -> Request<Outgoing> {
    Request::builder().method(method).uri(path).body(body).unwrap()
}

fn get(path: &str) -> Request<Outgoing> {
    request(Method::GET, path, Outgoing::Empty)
}

async fn ask(pool: &Pool, request: Request<Outgoing>) -> Result<String, TransportError> {
    let body = pool.request(request, "a").await?.into_body().collect().await;
    Ok(String::from_utf8(body?.to_bytes().to_vec()).unwrap())
}

/// A client's body of five bytes, of which two have come; the rest comes when the client writes it.
async fn half_a_body() -> (Outgoing, Sent, tokio::io::DuplexStream) {
    let (mut client, server) = tokio::io::duplex(1024);
    let (sender, receiver) = tokio::sync::oneshot::channel::<Request<Incoming>>();
    let sender = std::sync::Mutex::new(Some(sender));
    let service = service_fn(move |request| {
        let _received = sender.lock().unwrap().take().unwrap().send(request);
        std::future::pending::<Result<Response<Full<bytes::Bytes>>, std::convert::Infallible>>()
    });
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe").await.unwrap();
    let (body, sent) = Outgoing::from_client(receiver.await.unwrap().into_body(), None);
    (body, sent, client)
}

/// One connection carries one exchange after the other, whatever ends an answer: a length, the last chunk, no body at all.
#[tokio::test]
async fn a_connection_is_used_again() {
    let (server, pool, mut peer) = Server::with_an_idle_connection().await;
    let answers = [
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\now\r\n1\r\nn\r\n0\r\n\r\n",
            "own",
        ),
        (
            Method::GET,
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nown",
            "own",
        ),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3000\r\n\r\n", ""),
        (Method::DELETE, "HTTP/1.1 204 No Content\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ];
    for (method, answer, expected) in answers {
        let serve = async {
            let head = peer.head().await;
            assert!(head.starts_with(&format!("{method} /again HTTP/1.1\r\n")), "{head}");
            assert!(head.contains(&format!("host: {}\r\n", pool.target.authority().unwrap())), "{head}");
            peer.say(answer).await;
        };
        let (body, ()) = tokio::join!(ask(&pool, request(method.clone(), "/again", Outgoing::Empty)), serve);
        assert_eq!(body.unwrap(), expected);
        assert_eq!(pool.idle.count(), 1, "{answer}");
    }
    drop(server);
}

/// What comes right behind an answer, with it in one write, is nobody's.
#[tokio::test]
async fn bytes_behind_an_answer_end_its_connection() {
    for (first, body) in [
        (OWN, "own"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n", "own"),
    ] {
        for extra in [STOLEN, "x", "\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
            let (server, pool, mut peer) = Server::with_an_idle_connection().await;
            let serve = async {
                peer.head().await;
                peer.say(format!("{first}{extra}")).await;
                peer
            };
            let (told, peer) = tokio::join!(ask(&pool, get("/second")), serve);
            assert_eq!(told.unwrap(), body);
            assert_eq!(pool.idle.count(), 0, "{extra:?}");
            peer.assert_closed().await;
            server.assert_next_is_on_a_new_connection(&pool).await;
        }
    }
}

/// What comes while nobody waits for anything is nobody's: neither a whole answer nor noise reaches the next request.
#[tokio::test]
async fn bytes_on_an_idle_connection_end_it() {
    for came in [STOLEN.as_bytes(), &[b'x'; 100], b"\n"] {
        let (server, pool, mut peer) = Server::with_an_idle_connection().await;
        peer.say(came).await;
        server.assert_next_is_on_a_new_connection(&pool).await;
        peer.assert_closed().await;
    }
}

/// A request is not lost to a connection that the server had closed, not even one that may not be sent twice.
#[tokio::test]
async fn a_request_survives_an_idle_connection_that_was_closed() {
    let (server, pool, peer) = Server::with_an_idle_connection().await;
    drop(peer);
    let serve = async {
        let mut peer = server.accept().await;
        assert!(peer.head().await.starts_with("POST /next HTTP/1.1\r\n"));
        let mut body = [0; 5];
        peer.0.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"hello");
        peer.say(OWN).await;
        peer
    };
    let post = request(Method::POST, "/next", Outgoing::Own(Full::from("hello")));
    let (body, _peer) = tokio::join!(ask(&pool, post), serve);
    assert_eq!(body.unwrap(), "own");
}

/// An answer that is not whole is an error, and so is what is read on after it.
#[tokio::test]
async fn an_answer_that_breaks_off_ends_its_connection() {
    for part in [
        "HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nown",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nown\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nownHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        let (server, pool, mut peer) = Server::with_an_idle_connection().await;
        let serve = async {
            peer.head().await;
            peer.say(part).await;
            drop(peer);
        };
        let (told, ()) = tokio::join!(ask(&pool, get("/second")), serve);
        assert!(told.is_err(), "{part}: {told:?}");
        assert_eq!(pool.idle.count(), 0);
        server.assert_next_is_on_a_new_connection(&pool).await;
    }
}

/// Who leaves, before the head of the answer or within its body, takes the connection along.
#[tokio::test]
async fn an_exchange_that_is_given_up_ends_its_connection() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsto"] {
        let (server, pool, mut peer) = Server::with_an_idle_connection().await;
        {
            let serve = async {
                peer.head().await;
                peer.say(answer).await;
            };
            tokio::select! {
                biased;
                response = pool.request(get("/second"), "a") => drop(response.unwrap()),
                () = serve => {}
            }
        }
        assert_eq!(pool.idle.count(), 0);
        peer.assert_closed().await;
        server.assert_next_is_on_a_new_connection(&pool).await;
    }
}

/// A server that says it will close is taken at its word, and so is one that speaks an older HTTP.
#[tokio::test]
async fn a_connection_that_is_said_to_close_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nown",
        "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nown",
    ] {
        let (server, pool, mut peer) = Server::with_an_idle_connection().await;
        let serve = async {
            peer.head().await;
            peer.say(answer).await;
        };
        let (body, ()) = tokio::join!(ask(&pool, get("/second")), serve);
        assert_eq!(body.unwrap(), "own");
        assert_eq!(pool.idle.count(), 0);
        server.assert_next_is_on_a_new_connection(&pool).await;
    }
}

/// An answer that is there before its request has been sent is passed on, while the request goes on without anybody reading
/// the answer; its connection is used again only when both are whole.
#[tokio::test]
async fn an_early_answer_does_not_free_a_connection_that_still_sends() {
    let (server, pool, mut peer) = Server::with_an_idle_connection().await;
    let (body, mut sent, mut client) = half_a_body().await;
    let serve = async {
        peer.head().await;
        peer.say(OWN).await;
    };
    let (response, ()) = tokio::join!(pool.request(request(Method::POST, "/second", body), "a"), serve);
    let mut response = response.unwrap();
    assert!(!sent.is_done());
    let rest = tokio::spawn(response.body_mut().apart().unwrap());
    assert_eq!(pool.idle.count(), 0);
    let next = async { server.assert_next_is_on_a_new_connection(&pool).await };
    next.await;
    let idle = pool.idle.count();
    client.write_all(b"llo").await.unwrap();
    let mut all = [0; 5];
    peer.0.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"hello", "though nobody has read the answer");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "own");
    rest.await.unwrap();
    assert_eq!(pool.idle.count(), idle + 1);
}

/// The body of a request may end early on the client's side: then nothing more is sent on the connection.
#[tokio::test]
async fn a_request_that_breaks_off_ends_its_connection() {
    let (server, pool, mut peer) = Server::with_an_idle_connection().await;
    let (body, _sent, client) = half_a_body().await;
    drop(client);
    let told = ask(&pool, request(Method::POST, "/second", body)).await;
    assert!(matches!(told, Err(TransportError::ClientGone(_))), "{told:?}");
    assert!(peer.head().await.starts_with("POST /second"));
    let mut half = [0; 2];
    peer.0.read_exact(&mut half).await.unwrap();
    peer.assert_closed().await;
    server.assert_next_is_on_a_new_connection(&pool).await;
}

/// With a new CA file, connections that the old one vouched for are not used any more: the idle ones at once, one in use
/// after its exchange.
#[tokio::test]
async fn new_trust_closes_old_connections() {
    let (server, pool, mut peer) = Server::with_an_idle_connection().await;
    let serve = async {
        peer.head().await;
        pool.trust(roots(&server.ca)).unwrap();
        peer.say(OWN).await;
        peer
    };
    let (body, peer) = tokio::join!(ask(&pool, get("/second")), serve);
    assert_eq!(body.unwrap(), "own");
    assert_eq!(pool.idle.count(), 0);
    peer.assert_closed().await;
    server.assert_next_is_on_a_new_connection(&pool).await;
    pool.trust(roots(&Ca::new("another").unwrap())).unwrap();
    assert_eq!(pool.idle.count(), 0);
    let accept = async {
        let (tcp, _) = server.listener.accept().await.unwrap();
        assert!(server.acceptor.accept(tcp).await.is_err());
    };
    let (told, ()) = tokio::join!(ask(&pool, get("/third")), accept);
    assert!(matches!(told, Err(TransportError::Untrusted(_))), "{told:?}");
}

/// An idle connection is closed after twelve rounds of the sweeper; one that the server has closed, in the next but one.
#[tokio::test]
async fn idle_connections_are_swept() {
    let (_server, pool, peer) = Server::with_an_idle_connection().await;
    for _ in 0..12 {
        pool.idle.sweep();
        assert_eq!(pool.idle.count(), 1);
    }
    pool.idle.sweep();
    assert_eq!(pool.idle.count(), 0);
    peer.assert_closed().await;

    let (_server, pool, peer) = Server::with_an_idle_connection().await;
    drop(peer);
    pool.idle.sweep();
    pool.idle.sweep();
    assert_eq!(pool.idle.count(), 0);
}

/// A request does not ride in its future: each future around that would store and move it once more.
#[tokio::test]
async fn a_request_is_no_part_of_its_future() {
    let (_server, pool, _peer) = Server::with_an_idle_connection().await;
    let bytes = size_of_val(&pool.request(get("/next"), "a"));
    assert!(bytes < size_of::<Request<Outgoing>>(), "{bytes}");
}
