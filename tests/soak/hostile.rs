//! Hostile clients, all at once, beside an honest one.
//!
//! A peer that vanishes without a word (half-open) cannot be had on loopback; TCP keepalive ends such a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Dialer, Front, PACE};
use super::figures::{assert_hardly_noticed, mib, print};
use super::frames::{self, Answer};
use super::process::Program;
use super::world::Account;
use super::{World, eventually};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The scheduler of a busy machine.
const LEEWAY: Duration = Duration::from_secs(4);
const MANY: usize = 200;
const SOME: usize = 50;
const FEW: usize = 10;
/// The most that all of it may cost at any moment.
const MAX_KIB: u64 = 192 * 1_024;

/// Reads to the end, or to the break, of a connection. What came, and when that was.
async fn to_the_end(mut stream: impl tokio::io::AsyncRead + Unpin) -> (String, Duration) {
    let began = Instant::now();
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        text.extend_from_slice(&buffer[..count]);
    }
    (String::from_utf8_lossy(&text).into_owned(), began.elapsed())
}

async fn silent(addr: SocketAddr, said: &'static [u8]) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(said).await.unwrap();
    let (_, took) = to_the_end(stream).await;
    assert!(took + LEEWAY > HANDSHAKE_TIMEOUT && took < HANDSHAKE_TIMEOUT + LEEWAY, "{took:?}");
}

/// One byte every second.
async fn slow_head(dialer: Dialer, addr: SocketAddr) {
    let stream = dialer.tls_h1(addr).await.unwrap();
    let began = Instant::now();
    let (read, mut write) = tokio::io::split(stream);
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        for byte in b"GET / HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            tick.tick().await;
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let (text, _) = tokio::select! {
        told = to_the_end(read) => told,
        () = trickle => unreachable!("it stays"),
    };
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    let took = began.elapsed();
    assert!(took + LEEWAY > HEAD_TIMEOUT && took < HEAD_TIMEOUT + LEEWAY, "{took:?}");
}

/// Sends this and reads the answer. Whether it came: it is lost where we are still sending when the connection is closed.
async fn too_much(dialer: Dialer, addr: SocketAddr, head: String, status: &str) -> bool {
    let (read, mut write) = tokio::io::split(dialer.tls_h1(addr).await.unwrap());
    let size = head.len();
    let sending = tokio::spawn(async move {
        let _closed = write.write_all(head.as_bytes()).await;
        let _closed = write.flush().await;
        write
    });
    let (text, _) = to_the_end(read).await;
    drop(sending.await);
    assert!(text.is_empty() || text.starts_with(&format!("HTTP/1.1 {status} ")), "{} bytes: {text}", size);
    !text.is_empty()
}

/// Asks, and closes its half before the answer: it is answered, or closed, but not kept.
async fn half_closed(dialer: Dialer, addr: SocketAddr, account: Account) {
    let mut stream = dialer.tls_h1(addr).await.unwrap();
    let (path, token) = (account.watch(), account.token);
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    to_the_end(stream).await;
}

type Attack = fn() -> Vec<u8>;

/// The attacks in frames, and what may answer them.
const ATTACKS: [(&str, Attack); 3] = [
    ("h2 rapid reset", frames::rapid_reset),
    ("h2 header bomb", frames::header_bomb),
    ("h2 CONTINUATION flood", frames::continuation_flood),
];

/// What came of the attacks in frames: printed and judged once all is over, so that each round is as quick as it can be.
#[derive(Default)]
struct Frames {
    rounds: usize,
    answers: Vec<(&'static str, Answer)>,
    taken: Vec<(&'static str, usize)>,
}

/// A round of attacks in frames each time that it is told to; ends when nobody tells any more.
async fn attacks(dialer: Dialer, addr: SocketAddr, mut rounds: mpsc::UnboundedReceiver<()>) -> Frames {
    let mut seen = Frames::default();
    // Made once, and not while requests are timed.
    let made = |all: &[(&'static str, Attack)]| {
        all.iter().map(|(what, make)| (*what, Bytes::from(make()))).collect()
    };
    let (attacks, floods): (Vec<_>, Vec<_>) = (made(&ATTACKS), made(&FLOODS));
    while rounds.recv().await.is_some() {
        seen.rounds += 1;
        for (what, bytes) in &attacks {
            let mut all = JoinSet::new();
            for _ in 0..FEW {
                let stream = dialer.tls_h2(addr).await.unwrap();
                all.spawn(frames::attack(stream, bytes.clone(), HEAD_TIMEOUT));
            }
            seen.answers.extend(all.join_all().await.into_iter().map(|answer| (*what, answer)));
        }
        for (what, bytes) in &floods {
            let mut all = JoinSet::new();
            for _ in 0..FEW {
                let stream = dialer.tls_small_h2(addr, UNREAD_BYTES).await.unwrap();
                all.spawn(frames::flood(stream, bytes.clone()));
            }
            seen.taken.extend(all.join_all().await.into_iter().map(|taken| (*what, taken)));
        }
    }
    seen
}

fn judge(seen: &Frames) {
    print("hostile", "rounds of the attacks in frames, each beside a timed window", seen.rounds);
    for (what, _) in ATTACKS {
        let answers: Vec<Answer> =
            seen.answers.iter().filter(|(own, _)| *own == what).map(|(_, answer)| *answer).collect();
        print(
            "hostile",
            &format!("{what}: {} times, the first answered by", answers.len()),
            format!("{:?}", answers[0]),
        );
        let unheard = answers.iter().find(|answer| matches!(answer, Answer::Held | Answer::Reset(8)));
        assert!(unheard.is_none(), "{what}: {unheard:?}");
    }
    for (what, _) in FLOODS {
        let of = seen.taken.iter().filter(|(own, _)| *own == what);
        let taken = of.map(|(_, taken)| *taken).max().unwrap();
        print(
            "hostile",
            &format!("h2 {what} flood that reads no answer, at most taken"),
            format!("{taken} of {} bytes", frames::FLOOD_BYTES),
        );
        assert!(taken < frames::FLOOD_BYTES, "{what}: the server reads on although nobody reads its answers");
    }
}

/// These never read; the server must stop reading them.
const FLOODS: [(&str, Attack); 2] = [("PING", frames::pings), ("SETTINGS", frames::settings)];
const UNREAD_BYTES: u32 = 16 * 1024;

async fn be_hostile(world: &World, addr: SocketAddr, account: &Account) {
    let dialer = &world.dialer;
    let mut all = JoinSet::new();
    for n in 0..MANY {
        all.spawn(silent(addr, if n % 4 == 0 { b"\x16\x03\x01\x02\x00\x01" } else { b"" }));
        all.spawn(slow_head(dialer.clone(), addr));
    }
    for _ in 0..SOME {
        all.spawn(half_closed(dialer.clone(), addr, account.clone()));
    }
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "x".repeat(300_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: x\r\n".repeat(300));
    let mut told = JoinSet::new();
    for _ in 0..SOME {
        told.spawn(too_much(dialer.clone(), addr, huge.clone(), "431"));
        told.spawn(too_much(dialer.clone(), addr, many.clone(), "431"));
    }
    let told = told.join_all().await.into_iter().filter(|told| *told).count();
    print("hostile", "oversized heads and too many fields, told 431", format!("{told} of {}", 2 * SOME));
    assert!(told >= SOME, "those with too many fields at least are told why");
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_meet_their_limits_and_others_notice_nothing() {
    // Proves that each kind of abuse ends at its limit, that memory is bounded, and that an honest user is served.
    let world = Arc::new(World::start().await);
    let program = Program::start(&world, &[]).await;
    let (_idle, idle) = world.idle().await;
    let account = world.accounts(&program, 2).await;
    let busy = Front { addr: program.addr, account: account[1].clone() };
    let before = program.held();
    let (hostile, addr, victim) = (world.clone(), program.addr, account[0].clone());
    let hostile = tokio::spawn(async move { be_hostile(&hostile, addr, &victim).await });
    let (round, rounds) = mpsc::unbounded_channel();
    let frames = tokio::spawn(attacks(world.dialer.clone(), addr, rounds));
    let load = || round.send(()).unwrap();
    let [rest, control, loaded] = PACE.with_control(&world.dialer, &idle, &busy, load).await;
    drop(round);
    judge(&frames.await.unwrap());
    hostile.await.unwrap();
    let after = program.held();
    print("hostile", "ordinary requests (200/s), idle proxy between the rounds", rest);
    print("hostile", "idle proxy during the rounds (the attackers use the same cores)", control);
    print("hostile", "another user at the attacked proxy at the same time", loaded);
    let cpu = (after.cpu - before.cpu).as_secs_f64();
    print("hostile", "processor time of the attacked proxy in all", format!("{cpu:.1} s"));
    let rss = [before.rss_kib, after.rss_kib, after.peak_kib].map(mib).join(", ");
    print("hostile", "RSS before, after, peak", rss);
    assert!(after.peak_kib < before.rss_kib + MAX_KIB, "{before:?} {after:?}");
    let refused = program.metric("entrada_connections_refused_total{reason=\"handshake_slow\"}").await;
    print("hostile", "connections closed because of a slow handshake", refused);
    assert!(refused >= MANY as f64, "{refused}");
    eventually("their end", || async { program.metric("entrada_connections").await <= 1.0 }).await;
    assert_hardly_noticed([control, loaded]);
    assert!(program.logged("a task crashed").is_empty());
}
