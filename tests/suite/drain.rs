use std::time::Duration;

use tokio::net::TcpStream;

use super::support::kubectl::Kubectl;
use super::support::wire::Wire;
use super::support::{PATIENCE, World, eventually};

/// Proves that probes are answered as long as somebody is still served, and that the drain ends when nobody is.
#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_during_a_drain_that_ends_with_its_last_stream() {
    // A window that no one waits out: a stop that took all of it would fail below.
    let world = World::start_with(|raw| raw.drain = Some("10m".to_owned())).await;
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    let mut follow = kubectl.start(&["-n", "team-a", "logs", "-f", "web"]);
    follow.line().await.expect("the log has lines");

    let stop = world.entrada.stop();
    let watch = async {
        eventually("unreadiness", || async { world.admin("/readyz").await.0 == 503 }).await;
        let closed = || async { TcpStream::connect(world.entrada.addr).await.is_err() };
        eventually("the end of new connections", closed).await;
        for _ in 0..10 {
            assert_eq!(world.admin("/livez").await.0, 200);
            assert_eq!(world.admin("/readyz").await.0, 503);
        }
        follow.child.kill().await.unwrap();
    };
    let both = async { tokio::join!(stop, watch) };
    assert!(tokio::time::timeout(PATIENCE + Duration::from_secs(10), both).await.is_ok(), "it does not end");
}

/// Proves that a kept connection which asks just as we stop is answered, and told that this was the last time: a client
/// far away cannot know yet, and a request that is cut off may have been carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_on_its_way_when_we_stop_is_answered() {
    let world = World::start_with(|raw| raw.drain = Some("20s".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let get = format!("GET /version HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let (mut late, mut silent) = (Wire::open(&world).await, Wire::open(&world).await);
    for wire in [&mut late, &mut silent] {
        wire.write(&get).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains("connection: close"), "{head}");
        wire.read_to(b"}\n").await;
    }
    let stop = world.entrada.stop();
    let clients = async {
        let closed = || async { TcpStream::connect(world.entrada.addr).await.is_err() };
        eventually("the end of new connections", closed).await;
        late.write(&get).await;
        let head = late.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
        assert!(late.rest().await.1, "closed as it should be");
        // One that asks nothing is closed in peace, before the window ends.
        assert_eq!(silent.rest().await, (Vec::new(), true));
    };
    let both = async { tokio::join!(stop, clients) };
    assert!(tokio::time::timeout(Duration::from_secs(18), both).await.is_ok(), "it waits for its deadline");
}
