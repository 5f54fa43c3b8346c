//! `kubectl port-forward` through Entrada: SPDY/3.1 frames, inside WebSocket messages or bare.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::support::kubectl::{Kubectl, Started};
use super::support::{PATIENCE, World, eventually, noise, sha256};

/// The ports that every pod of the stand-in has: they send back, count, and make bytes.
const ECHO: u16 = 7;
const SINK: u16 = 9;
const SOURCE: u16 = 19;

/// A kubectl that forwards a port of the pod `web`.
struct Forwarded {
    kubectl: Started,
    addr: String,
}

impl Forwarded {
    async fn start(kubectl: &Kubectl, port: u16) -> Self {
        let mut kubectl = kubectl.start(&["port-forward", "-n", "team-a", "pod/web", &format!(":{port}")]);
        let line = kubectl.line().await.unwrap();
        let addr = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(" -> ")).unwrap().0;
        Self { addr: addr.to_owned(), kubectl }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.addr).await.unwrap()
    }
}

async fn kubeconfig(world: &World) -> std::path::PathBuf {
    world.api.put_pod("team-a", "web");
    world.kubeconfig(&world.signed_in("alice").await).await
}

/// Sends all of it, closes its half, and reads to the end at the same time.
async fn exchange(stream: TcpStream, content: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = stream.into_split();
    let send = async {
        write.write_all(content).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let receive = read.read_to_end(&mut received);
    let both = async { tokio::join!(send, receive).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection does not end").unwrap();
    received
}

/// 50 connections at once over one tunnel, each with a content of its own.
async fn fifty_at_once(kubectl: &Kubectl) {
    let forwarded = Forwarded::start(kubectl, ECHO).await;
    let mut connections = JoinSet::new();
    for number in 0..50 {
        let stream = forwarded.connect().await;
        connections.spawn(async move {
            let content = noise(100_000 + number);
            let received = exchange(stream, &content).await;
            assert!(received == content, "connection {number} got {} bytes back", received.len());
        });
    }
    while let Some(connection) = connections.join_next().await {
        connection.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_share_a_tunnel_in_websocket() {
    // Proves that kubectl 1.34's own way of tunnelling keeps every connection's bytes whole and apart.
    let world = World::start().await;
    fifty_at_once(&Kubectl::new(&kubeconfig(&world).await)).await;
    let seen = world.api.requests().into_iter().find(|seen| seen.target.ends_with("/portforward")).unwrap();
    assert_eq!(seen.header("sec-websocket-protocol"), Some("SPDY/3.1+portforward.k8s.io"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_connections_share_a_tunnel_of_bare_spdy() {
    // Proves the same for SPDY without WebSocket, as kubectl 1.34 speaks it when told so and kubectl 1.20 always.
    let world = World::start().await;
    let kubeconfig = kubeconfig(&world).await;
    for kubectl in [Kubectl::new(&kubeconfig).over_spdy(), Kubectl::old(&kubeconfig)] {
        fifty_at_once(&kubectl).await;
        let seen = world.api.requests().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.header("upgrade")), ("POST", Some("SPDY/3.1")));
        assert_eq!(seen.header_values("x-stream-protocol-version"), ["portforward.k8s.io"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn much_flows_through_one_connection_each_way() {
    // Proves that a single stream carries megabytes, with their hash, and that the server may end it as well.
    let world = World::start().await;
    let kubeconfig = kubeconfig(&world).await;
    let content = noise(20 << 20);
    for kubectl in [Kubectl::new(&kubeconfig), Kubectl::new(&kubeconfig).over_spdy()] {
        let sink = Forwarded::start(&kubectl, SINK).await;
        let answer = String::from_utf8(exchange(sink.connect().await, &content).await).unwrap();
        assert_eq!(answer, format!("{} {}\n", content.len(), sha256(&content)));
        let source = Forwarded::start(&kubectl, SOURCE).await;
        let made = exchange(source.connect().await, b"20M\n").await;
        let hash = kubectl.ok(&["exec", "-n", "team-a", "web", "--", "sha256sum", "/big/20M"]).await;
        assert_eq!(format!("{}  /big/20M\n", sha256(&made)), hash, "{} bytes", made.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_nobody_listens_on_is_said_so() {
    // Proves that the pod's complaint reaches the user, by both ways.
    let world = World::start().await;
    let kubeconfig = kubeconfig(&world).await;
    for kubectl in [Kubectl::new(&kubeconfig), Kubectl::old(&kubeconfig)] {
        let mut forwarded = Forwarded::start(&kubectl, 81).await;
        let received = exchange(forwarded.connect().await, b"").await;
        assert_eq!(received, b"");
        let mut said = String::new();
        let mut stderr = forwarded.kubectl.child.stderr.take().unwrap();
        while !said.contains("error forwarding port 81 to pod web") {
            let read = tokio::time::timeout(PATIENCE, stderr.read_u8()).await;
            said.push(char::from(
                read.expect("kubectl says nothing more").unwrap_or_else(|_| panic!("{said}")),
            ));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_its_kubectl() {
    // Proves that nothing is left behind in Entrada or upstream when the client is killed in the middle.
    let world = World::start().await;
    let kubeconfig = kubeconfig(&world).await;
    for kubectl in [Kubectl::new(&kubeconfig), Kubectl::new(&kubeconfig).over_spdy()] {
        let mut forwarded = Forwarded::start(&kubectl, ECHO).await;
        let mut stream = forwarded.connect().await;
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(world.metric("entrada_streams{kind=\"tunnel\"}").await, 1.0);
        forwarded.kubectl.child.kill().await.unwrap();
        eventually("the tunnel's end", || async {
            world.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0
        })
        .await;
        world.api.requests_until(|seen| !seen.iter().any(|request| request.is_open)).await;
    }
}
