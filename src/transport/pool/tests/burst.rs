//! Many requests at once, and a pool without a connection.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;

/// A server that is slow to greet is not asked for a thousand handshakes at once, and a few that lead nowhere keep out
/// nobody for long: each second as many more are begun.
#[tokio::test(start_paused = true)]
async fn connections_are_made_a_few_at_a_time() {
    let (server, pool) = Server::start().await;
    let asked = Instant::now();
    let serve = async {
        let mut came = Vec::new();
        for _ in 0..100 {
            came.push((server.listener.accept().await.unwrap().0, asked.elapsed().as_secs()));
        }
        came
    };
    let requests = join_all((0..100).map(|_| ask(&pool, get("/burst"))));
    let mut requests = pin!(requests);
    let came = tokio::select! {
        came = serve => came,
        _ = &mut requests => panic!("nobody was answered"),
    };
    for (already, (_, second)) in came.iter().enumerate() {
        assert!(*second as usize >= already / DIALS_AT_ONCE, "{already} in second {second}");
    }
    assert_eq!(requests.await.iter().filter(|answer| answer.is_ok()).count(), 0, "and then each gives up");
    assert_eq!(asked.elapsed(), Duration::from_secs(30), "in the same time as if it had been alone");
}

/// Who waits for a turn to connect, or whose own connection is long in coming, takes the one that another has done with.
#[tokio::test]
async fn who_waits_for_a_connection_takes_one_that_becomes_idle() {
    let (server, pool) = Server::start().await;
    let serve = async {
        // One is made, and answers all; the others, and the one that took the turn of the first, never are.
        let mut peer = server.accept().await;
        let mut stuck = Vec::new();
        for _ in 0..DIALS_AT_ONCE {
            stuck.push(server.listener.accept().await.unwrap());
        }
        for _ in 0..50 {
            peer.head().await;
            peer.say(OWN).await;
        }
        stuck
    };
    let requests = (0..50 + DIALS_AT_ONCE).map(|_| ask(&pool, get("/burst")));
    let mut requests: futures_util::stream::FuturesUnordered<_> = requests.collect();
    let answers = async {
        for _ in 0..50 {
            assert_eq!(futures_util::StreamExt::next(&mut requests).await.unwrap().unwrap(), "own");
        }
    };
    let (_stuck, ()) = tokio::join!(serve, answers);
}

/// A request that was given up while it waited takes no connection from those behind it.
#[tokio::test]
async fn who_has_gone_takes_no_connection() {
    let (_server, pool, mut peer) = Server::with_an_idle_connection().await;
    let serve = async {
        peer.head().await;
        peer.say(OWN).await;
        peer
    };
    let link = pool.idle.take().unwrap();
    let mut gone = Box::pin(pool.idle.freed());
    assert!(futures_util::poll!(gone.as_mut()).is_pending());
    let mut next = pin!(pool.idle.freed());
    assert!(futures_util::poll!(next.as_mut()).is_pending());
    drop(gone);
    pool.idle.put(link);
    let link = next.await;
    let (answer, _peer) = tokio::join!(link.exchange(get("/next")), serve);
    assert_eq!(answer.unwrap().status(), 200);
}

/// Whose many requests wait to connect delays another's by a turn, not by all of theirs.
#[tokio::test(start_paused = true)]
async fn users_take_turns_to_connect() {
    let (server, pool) = Server::start().await;
    let serve = async {
        loop {
            let tcp = server.listener.accept().await.unwrap().0;
            let acceptor = server.acceptor.clone();
            tokio::spawn(async move {
                crate::clock::pause(Duration::from_millis(900)).await;
                let mut peer = Peer(acceptor.accept(tcp).await.unwrap());
                peer.head().await;
                // An answer that keeps its connection, as that to a watch does.
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                std::future::pending::<()>().await;
            });
        }
    };
    let flood = async {
        join_all((0..400).map(|_| pool.request(get("/watch"), "a"))).await;
    };
    let other = async {
        crate::clock::pause(Duration::from_millis(100)).await;
        let asked = Instant::now();
        assert!(pool.request(get("/other"), "b").await.is_ok());
        asked.elapsed()
    };
    let waited = tokio::select! {
        waited = other => waited,
        () = flood => panic!("the flood came first"),
        () = serve => unreachable!("it serves for ever"),
    };
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}
