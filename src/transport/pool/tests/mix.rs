//! Many exchanges at once.

use super::*;

/// What the server of the next test does on a connection: it answers with the path, and now and then misbehaves in a way
/// that would hand the next request an answer which is not its own.
async fn echo_with_faults(mut peer: Peer) {
    for count in 0_usize.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = peer.0.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let length = path.len();
        let plain = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}");
        let chunked =
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{path}\r\n0\r\n\r\n");
        let answer = match (count + length) % 7 {
            0 => format!("{plain}{STOLEN}"),
            1 | 2 => chunked,
            3 => format!("{chunked}{STOLEN}"),
            _ => plain,
        };
        if peer.0.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if count % 5 == 4 {
            // The connection may be idle by now, or taken.
            return drop(peer.0.shutdown().await);
        }
    }
}

/// From many threads, with clients that leave at any moment and a server that says too much: whoever gets an answer gets
/// their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_gets_anothers_answer() {
    let (server, pool) = Server::start().await;
    let serve = async {
        loop {
            let (tcp, _) = server.listener.accept().await.unwrap();
            let handshake = server.acceptor.accept(tcp);
            tokio::spawn(async {
                // A client may leave within it.
                if let Ok(stream) = handshake.await {
                    echo_with_faults(Peer(stream)).await;
                }
            });
        }
    };
    let pool = Arc::new(pool);
    let clients = (0..16).map(|client| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            for n in 0..150 {
                let path = format!("/{}/{client}/{n}", "x".repeat(n));
                let asked = ask(&pool, get(&path));
                if n % 9 == 8 {
                    // Gives up after some polls.
                    let polls = futures_util::future::join_all((0..n % 4).map(|_| tokio::task::yield_now()));
                    tokio::select! { biased; () = async { polls.await; } => {}, _early = asked => {} }
                } else if let Ok(body) = asked.await {
                    assert_eq!(body, path);
                    answered += 1;
                }
            }
            answered
        })
    });
    let clients = futures_util::future::join_all(clients.collect::<Vec<_>>());
    let answered = tokio::select! { answered = clients => answered, () = serve => unreachable!() };
    let answered: usize = answered.into_iter().map(Result::unwrap).sum();
    assert!(answered > 16 * 100, "{answered}");
}
