//! The management listener, which everybody in the cluster may be able to reach.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::support::{World, eventually};

/// As in `src/admin.rs`.
const SEATS: usize = 64;

async fn is_alive(world: &World) -> bool {
    let mut stream = TcpStream::connect(world.entrada.admin_addr).await.unwrap();
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    // One that is refused may be closed before its request is written.
    let _sent = stream.write_all(request.as_bytes()).await;
    let _read = stream.read_to_string(&mut answer).await;
    answer.starts_with("HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_nothing_do_not_keep_the_probes_out() {
    // Proves that a connection has an end, also while its client asks on and takes no answer.
    let world = World::start().await;
    let mut clients = Vec::new();
    for _ in 0..SEATS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(world.entrada.admin_addr).await.unwrap();
        clients.push(tokio::spawn(async move {
            let requests = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100_000);
            let _sent = stream.write_all(requests.as_bytes()).await;
            stream
        }));
    }
    eventually("all seats to be taken", || async { !is_alive(&world).await }).await;
    eventually("a free seat", || async {
        world.advance(Duration::from_secs(70));
        is_alive(&world).await
    })
    .await;
    for client in clients {
        client.abort();
    }
}
