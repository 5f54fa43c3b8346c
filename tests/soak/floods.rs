//! One user who takes all that one can get, beside another who works.
//!
//! With so few connections to the API server that the flood could hold them all; a rate limit only where the flood is of
//! requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::client::{Dialer, Front, Pace, get_h2, list};
use super::figures::{assert_hardly_noticed, mib, print};
use super::process::Program;
use super::world::Account;
use super::{World, eventually};

const RATE: (&str, &str) = ("ENTRADA_RATE_LIMIT", "50/s burst 300");
const LIMITS: [(&str, &str); 3] = [
    ("ENTRADA_MAX_UPSTREAM_CONNECTIONS", "800"),
    ("ENTRADA_STALL_TIMEOUT", "4s"),
    ("ENTRADA_IDLE_TIMEOUT", "5s"),
];
/// The one who works stays within the rate.
const HONEST: Pace = Pace { per_second: 45, connections: 3, lasts: Duration::from_secs(5) };
/// Of the flood: more than one user may have under way.
const MANY: usize = 500;
/// More than one user may have open.
const WATCHES: usize = 1_100;
/// A connection's share of [`MANY`].
const STREAMS: usize = 250;
const FLOODERS: u32 = 10;
/// A second, of each flooder.
const EACH: u32 = 50;
const IDLE_CONNECTIONS: usize = 200;
/// The most that a flood may leave behind.
const MAX_KIB_LEFT: u64 = 48 * 1_024;

/// Whom it is made by, and where.
#[derive(Clone)]
struct Flood {
    dialer: Dialer,
    addr: SocketAddr,
    account: Account,
}

/// What is held until somebody aborts the task.
async fn hold<T>(held: T) {
    std::future::pending::<()>().await;
    drop(held);
}

impl Flood {
    /// Small lists, as quick as they are answered, ten times the rate that one user has.
    fn requests(self) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for _ in 0..FLOODERS {
            let own = self.clone();
            all.spawn(async move {
                let mut tick = tokio::time::interval(Duration::from_secs(1) / EACH);
                loop {
                    let Ok(mut sender) = own.dialer.h1(own.addr).await else { continue };
                    while list(&mut sender, &own.account).await.is_ok() {
                        tick.tick().await;
                    }
                }
            });
        }
        all
    }

    /// Requests whose bodies never end.
    fn bodies(self) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for _ in 0..MANY {
            let own = self.clone();
            all.spawn(async move {
                let stream = own.dialer.tls_h1(own.addr).await.unwrap();
                let (mut read, mut write) = tokio::io::split(stream);
                let (path, token) = (own.account.pods(), &own.account.token);
                let head = format!(
                    "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                write.write_all(head.as_bytes()).await.unwrap();
                let mut tick = tokio::time::interval(Duration::from_secs(1));
                while write.write_all(b"1\r\nx\r\n").await.is_ok() && write.flush().await.is_ok() {
                    tick.tick().await;
                }
                let mut told = Vec::new();
                let _refused = read.read_to_end(&mut told).await;
                hold((read, write)).await;
            });
        }
        all
    }

    /// HTTP/2 with the windows shut: answers that cannot be sent, asked for again as soon as they are given up.
    fn windows(self) -> JoinSet<()> {
        let path = self.account.pods();
        self.shut(path)
    }

    /// The same with answers of 10 MB.
    fn large_windows(self) -> JoinSet<()> {
        let path = self.account.secrets();
        self.shut(path)
    }

    fn shut(self, path: String) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for _ in 0..MANY * 2 / STREAMS {
            let (own, path) = (self.clone(), path.clone());
            all.spawn(async move {
                let stream = TokioIo::new(own.dialer.tls_h2(own.addr).await.unwrap());
                let shut = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(0).clone();
                let (sender, connection) = shut.handshake::<_, Empty<Bytes>>(stream).await.unwrap();
                let mut asked = JoinSet::new();
                for _ in 0..STREAMS {
                    let (mut sender, own, path) = (sender.clone(), own.clone(), path.clone());
                    asked.spawn(async move {
                        let mut tick = tokio::time::interval(Duration::from_secs(2));
                        loop {
                            tick.tick().await;
                            let request = get_h2(&path, &own.account.token);
                            let Ok(answer) = sender.send_request(request).await else { return };
                            if answer.status() == 200 {
                                return hold(answer).await;
                            }
                        }
                    });
                }
                let _ended = connection.await;
            });
        }
        all
    }

    /// Watches, and more of them.
    fn watches(self) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for _ in 0..WATCHES / STREAMS + 1 {
            let own = self.clone();
            all.spawn(async move {
                let sender = own.dialer.h2(own.addr).await.unwrap();
                let mut asked = JoinSet::new();
                for _ in 0..STREAMS {
                    let (mut sender, own) = (sender.clone(), own.clone());
                    asked.spawn(async move {
                        let mut tick = tokio::time::interval(Duration::from_secs(5));
                        loop {
                            tick.tick().await;
                            let request = get_h2(&own.account.watch(), &own.account.token);
                            let Ok(answer) = sender.send_request(request).await else { return };
                            if answer.status() == 200 {
                                return hold(answer).await;
                            }
                        }
                    });
                }
                asked.join_all().await;
            });
        }
        all
    }

    /// Callbacks with a code that Entra never gave, for an attempt that is genuine: anyone gets one from `/login`.
    fn sign_ins(self) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for _ in 0..FLOODERS {
            let own = self.clone();
            all.spawn(async move {
                let mut sender = own.dialer.h1(own.addr).await.unwrap();
                let login = http::Request::get("/login").header("host", "localhost");
                let answer = sender.send_request(login.body(Empty::new()).unwrap()).await.unwrap();
                let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
                let location = url::Url::parse(&header("location")).unwrap();
                let state = location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
                let cookie = header("set-cookie").split(';').next().unwrap().to_owned();
                let mut tick = tokio::time::interval(Duration::from_secs(1) / (EACH / 2));
                loop {
                    let Ok(mut sender) = own.dialer.h1(own.addr).await else { continue };
                    loop {
                        tick.tick().await;
                        let callback = http::Request::get(format!("/callback?code=forged&state={state}"))
                            .header("host", "localhost")
                            .header("cookie", &cookie)
                            .body(Empty::new())
                            .unwrap();
                        let Ok(answer) = sender.send_request(callback).await else { break };
                        if super::client::whole(answer).await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
        all
    }
}

type Kind = (&'static str, fn(Flood) -> JoinSet<()>);

/// What the proxy reads before it notices that nobody takes it, a quarter of a megabyte for each, keeps it busy for a
/// moment each time that these begin. So the others are answered, but a few of them later.
const LARGE: &str = "1,000 answers of 10 MB into a shut HTTP/2 window";

const FLOODS: [Kind; 6] = [
    ("500 requests/s where 50 are allowed", Flood::requests),
    ("500 bodies that never end", Flood::bodies),
    ("1,000 answers into a shut HTTP/2 window", Flood::windows),
    (LARGE, Flood::large_windows),
    ("1,250 watches", Flood::watches),
    ("250 forged callbacks/s", Flood::sign_ins),
];

#[tokio::test(flavor = "multi_thread")]
async fn one_users_flood_is_hardly_noticed_by_another() {
    // Proves that another user's requests are all answered with 200, in less than twice the time that they take at an idle
    // proxy beside the same flood, and that nothing of the flood is left when it is over.
    let world = Arc::new(World::start().await);
    let limited = Program::start(&world, &[&LIMITS[..], &[RATE]].concat()).await;
    let (_idle, idle) = world.idle().await;
    beside(&world, &idle, &limited, &FLOODS[..1]).await;
    assert_hit(&limited, &["rate_limit"]).await;
    let program = Program::start(&world, &LIMITS).await;
    let before = program.held();
    beside(&world, &idle, &program, &FLOODS[1..]).await;
    assert_hit(&program, &["max_requests_per_user", "max_streams_per_user"]).await;
    let after = program.held();
    let rss = [before.rss_kib, after.rss_kib, after.peak_kib].map(mib).join(", ");
    print("floods", "RSS before, after, peak", rss);
    print("floods", "sockets before, after", format!("{}, {}", before.sockets, after.sockets));
    assert!(after.rss_kib < before.rss_kib + MAX_KIB_LEFT, "{before:?} {after:?}");
}

/// Each flood in turn, and another user beside it.
async fn beside(world: &World, idle: &Front, program: &Program, floods: &[Kind]) {
    let accounts = world.accounts(program, 2).await;
    let busy = Front { addr: program.addr, account: accounts[0].clone() };
    for (what, begin) in floods {
        let account = accounts[1].clone();
        let mut flood = begin(Flood { dialer: world.dialer.clone(), addr: program.addr, account });
        let [_, control, loaded] = HONEST.with_control(&world.dialer, idle, &busy, || {}).await;
        flood.abort_all();
        while flood.join_next().await.is_some() {}
        drop(flood);
        print("floods", &format!("idle proxy beside {what}"), control);
        print("floods", "another user at the flooded proxy at the same time", loaded);
        if *what != LARGE {
            assert_hardly_noticed([control, loaded]);
        }
        eventually("the flood's end", || async { program.metric("entrada_connections").await <= 1.0 }).await;
    }
    assert!(program.logged("a task crashed").is_empty());
}

async fn assert_hit(program: &Program, limits: &[&str]) {
    for limit in limits {
        let hit = program.metric(&format!("entrada_limits_hit_total{{limit=\"{limit}\"}}")).await;
        print("floods", &format!("requests over {limit}"), hit);
        assert!(hit > 0.0, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_http2_connections_are_closed_though_they_answer_pings() {
    // Proves that connections which were used once and are only kept open give their seats back.
    let world = World::start().await;
    let program = Program::start(&world, &LIMITS).await;
    let account = world.accounts(&program, 1).await.remove(0);
    let mut kept = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        let mut sender = world.dialer.h2(program.addr).await.unwrap();
        let answer = sender.send_request(get_h2(&account.pods(), &account.token)).await.unwrap();
        super::client::whole(answer).await.unwrap();
        kept.push(sender);
    }
    print("floods", "idle HTTP/2 connections", program.metric("entrada_connections").await);
    eventually("their end", || async { program.metric("entrada_connections").await <= 1.0 }).await;
    // A client hears of it a moment after it has been counted.
    eventually("their clients' notice", || async { kept.iter().all(http2::SendRequest::is_closed) }).await;
}
