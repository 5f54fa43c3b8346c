//! Tunnels: much through one, little through many, nothing through one for long.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use futures_util::{StreamExt, stream};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::client::get;
use super::figures::{each, mib, print};
use super::process::Program;
use super::world::Account;
use super::{PATIENCE, World, eventually};

const GIB: usize = 1024 * 1024 * 1024;
const BLOCK_BYTES: usize = 64 * 1024;
/// What the pattern of each direction begins with.
const TO_SERVER: u8 = 1;
const TO_CLIENT: u8 = 2;
const DIGEST_BYTES: usize = 32;

const MANY: usize = 500;
const AT_ONCE: usize = 32;

/// How long the idle tunnel idles: shorter than any timer would be that is wrong, unless `SOAK_IDLE_SECONDS` says more.
const IDLE: Duration = Duration::from_secs(45);

pub(crate) type Tunnel = TokioIo<Upgraded>;

/// Opens a tunnel of this protocol.
pub(crate) async fn open(world: &World, addr: SocketAddr, account: &Account, protocol: &str) -> Tunnel {
    let mut sender = world.dialer.h1(addr).await.unwrap();
    let mut request = get(&account.tunnel(), &account.token);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(UPGRADE, HeaderValue::from_str(protocol).unwrap());
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

/// Sends a few bytes through an echoing tunnel and reads them back.
pub(crate) async fn ping(tunnel: &mut Tunnel, text: &[u8]) -> std::io::Result<()> {
    let exchange = async {
        tunnel.write_all(text).await?;
        tunnel.flush().await?;
        let mut back = vec![0; text.len()];
        tunnel.read_exact(&mut back).await?;
        assert_eq!(back, text);
        Ok(())
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}

/// The API server's side of a transfer: 1 GiB each way at once, then the digest of what it got.
pub(crate) async fn through<T: AsyncRead + AsyncWrite + Send + 'static>(tunnel: T) {
    let (mut read, mut write) = tokio::io::split(tunnel);
    let (sent, got) = tokio::join!(send(&mut write, TO_CLIENT), receive(&mut read));
    if let (Ok(_), Ok(digest)) = (sent, got) {
        let _gone = write.write_all(digest.as_ref()).await;
        let _gone = write.shutdown().await;
        // A socket that is closed with bytes unread, such as the client's farewell, is reset, and the digest with it.
        let _ended = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
    }
}

/// Sends the pattern of this direction; its digest.
async fn send<W: AsyncWrite + Unpin>(write: &mut W, direction: u8) -> std::io::Result<Digest> {
    let mut digest = Context::new(&SHA256);
    let mut block: Vec<u8> = (0..BLOCK_BYTES).map(|n| (n * n % 251) as u8 ^ direction).collect();
    for n in 0..GIB / BLOCK_BYTES {
        block[..8].copy_from_slice(&(n as u64).to_be_bytes());
        digest.update(&block);
        write.write_all(&block).await?;
    }
    write.flush().await?;
    Ok(digest.finish())
}

/// Reads 1 GiB; its digest.
async fn receive<R: AsyncRead + Unpin>(read: &mut R) -> std::io::Result<Digest> {
    let mut digest = Context::new(&SHA256);
    let (mut buffer, mut left) = (vec![0; BLOCK_BYTES], GIB);
    while left > 0 {
        let room = left.min(BLOCK_BYTES);
        let count = read.read(&mut buffer[..room]).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        digest.update(&buffer[..count]);
        left -= count;
    }
    Ok(digest.finish())
}

async fn transfer(mut read: ReadHalf<Tunnel>, mut write: WriteHalf<Tunnel>) {
    let upload = async {
        let digest = send(&mut write, TO_SERVER).await.unwrap();
        write.shutdown().await.unwrap();
        digest
    };
    let (sent, got) = tokio::join!(upload, async { receive(&mut read).await.unwrap() });
    let mut told = Vec::new();
    read.read_to_end(&mut told).await.unwrap();
    assert_eq!(told.len(), DIGEST_BYTES);
    assert_eq!(told, sent.as_ref(), "what the API server got is what the client sent");
    let expected = send(&mut tokio::io::sink(), TO_CLIENT).await.unwrap();
    assert_eq!(got.as_ref(), expected.as_ref(), "what the client got is what the API server sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_each_way_at_once_through_one_tunnel() {
    // Proves that a tunnel changes no byte, and that what passes through it does not stay.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let account = &world.accounts(&program, 1).await[0];
    let mut warm = open(&world, program.addr, account, "echo").await;
    ping(&mut warm, b"warm").await.unwrap();
    drop(warm);
    let (before, began) = (program.held(), Instant::now());
    let (read, write) = tokio::io::split(open(&world, program.addr, account, "through").await);
    transfer(read, write).await;
    let (took, after) = (began.elapsed().as_secs_f64(), program.held());
    print(
        "tunnel",
        "1 GiB each way at once, hashes equal",
        format!("{took:.1} s, {:.0} MiB/s in all", 2048.0 / took),
    );
    let cpu = (after.cpu - before.cpu).as_secs_f64() / 2.0;
    print("tunnel", "processor time for 1 GiB", format!("{cpu:.2} s"));
    print("tunnel", "RSS before, peak", format!("{}, {}", mib(before.rss_kib), mib(after.peak_kib)));
    assert!(after.peak_kib < before.peak_kib + 8 * 1024, "{before:?} {after:?}");
    eventually("the tunnel's end", || async {
        program.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0
    })
    .await;
    world.upstream.assert_nobody_was_taken_for_another();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_tunnels_carry_traffic_at_once() {
    // Proves that many tunnels carry traffic at the same time, what one costs, and that none leaves anything behind.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let account = &world.accounts(&program, 1).await[0];
    drop(open(&world, program.addr, account, "echo").await);
    eventually("no tunnel", || async { program.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0 })
        .await;
    let before = program.held();
    let opening = stream::iter(0..MANY).map(|_| open(&world, program.addr, account, "echo"));
    let mut tunnels: Vec<Tunnel> = opening.buffer_unordered(AT_ONCE).collect().await;
    let idle = program.held();
    print(
        "tunnels",
        "memory of one of 500 that has carried nothing",
        each(before.rss_kib, idle.rss_kib, MANY as u64),
    );
    let began = Instant::now();
    let busy = tunnels.drain(..).map(|mut tunnel| async move {
        let text: Vec<u8> = (0..4_000_u32).flat_map(u32::to_be_bytes).collect();
        for _ in 0..10 {
            ping(&mut tunnel, &text).await.unwrap();
        }
        tunnel
    });
    tunnels = futures_util::future::join_all(busy).await;
    let took = began.elapsed().as_secs_f64();
    let after = program.held();
    print("tunnels", "10 echoes of 16 kB through each of 500 at once", format!("{took:.1} s"));
    print("tunnels", "memory of one of 500 after that", each(before.rss_kib, after.rss_kib, MANY as u64));
    assert_eq!(program.metric("entrada_streams{kind=\"tunnel\"}").await, MANY as f64);
    for tunnel in &mut tunnels {
        tunnel.shutdown().await.unwrap();
        let rest = tokio::time::timeout(PATIENCE, tunnel.read_u8()).await.expect("an end");
        assert_eq!(rest.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof, "ends in peace");
    }
    drop(tunnels);
    eventually("all tunnels' end", || async {
        program.metric("entrada_streams{kind=\"tunnel\"}").await == 0.0
            && program.held().sockets <= before.sockets
    })
    .await;
    print(
        "tunnels",
        "sockets before, with 500, after",
        format!("{}, {}, {}", before.sockets, after.sockets, program.held().sockets),
    );
    world.upstream.assert_nobody_was_taken_for_another();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_tunnel_lives() {
    // Proves that no timer of ours ends a silent tunnel: longer than every limit on connections that is not one of them.
    let world = World::start().await;
    let program = Program::start(&world, &[]).await;
    let account = &world.accounts(&program, 1).await[0];
    let mut tunnel = open(&world, program.addr, account, "echo").await;
    ping(&mut tunnel, b"before").await.unwrap();
    let asked = std::env::var("SOAK_IDLE_SECONDS").ok();
    let idle = asked.map_or(IDLE, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    // Nothing may come, not even an end.
    let silence = tokio::time::timeout(idle, tunnel.read_u8()).await;
    assert!(silence.is_err(), "{silence:?}");
    ping(&mut tunnel, b"after").await.unwrap();
    print("idle", "a tunnel that was silent for this long still lives", format!("{} s", idle.as_secs()));
}
