use std::time::Duration;

use tokio::net::TcpStream;

use super::support::kubectl::Kubectl;
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
