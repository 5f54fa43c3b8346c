//! Certificates and trust that change under a running Entrada.

use std::time::Duration;

use http::Method;
use standin::pki::Ca;
use tokio::io::AsyncWriteExt;

use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";

fn loads(file: &str, outcome: &str) -> String {
    format!("entrada_reloads_total{{file=\"{file}\",outcome=\"{outcome}\"}}")
}

async fn counted(world: &World, metric: &str, count: f64) {
    world.advance(Duration::from_secs(6));
    eventually(metric, || async { world.metric(metric).await >= count }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_presented_and_a_bad_one_is_not() {
    // Proves that renewal needs no restart, drops no connection, and that a broken file changes nothing but the metric.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut open = Wire::open(&world).await;
    let before = open.certificate();
    counted(&world, &loads("certificate", "ok"), 1.0).await;
    let renewed = world.ca.issue(&[]).unwrap();
    // Half-way through a renewal the two files do not belong together.
    std::fs::write(world.dir.path().join("tls.crt"), &renewed.cert_pem).unwrap();
    counted(&world, &loads("certificate", "failed"), 1.0).await;
    assert_eq!(Wire::open(&world).await.certificate(), before, "the last good one stays");
    std::fs::write(world.dir.path().join("tls.key"), &renewed.key_pem).unwrap();
    counted(&world, &loads("certificate", "ok"), 2.0).await;
    assert_ne!(Wire::open(&world).await.certificate(), before);
    std::fs::remove_file(world.dir.path().join("tls.key")).unwrap();
    counted(&world, &loads("certificate", "failed"), 2.0).await;
    assert!(!world.logged("could not load").is_empty());

    open.write(format!("GET {PODS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    assert!(open.head().await.starts_with("HTTP/1.1 200"), "the open connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_trust_in_the_api_server_is_taken_without_dropping_a_stream() {
    // Proves that a new CA is used for new connections, that tunnels live on, and that a bad file changes nothing.
    let other = Ca::new("another").unwrap();
    let world = World::start_with(|raw| {
        let path = std::path::Path::new(raw.api_server_ca_file.as_ref().unwrap()).with_file_name("api.pem");
        std::fs::copy(raw.api_server_ca_file.as_ref().unwrap(), &path).unwrap();
        raw.api_server_ca_file = Some(path.to_str().unwrap().to_owned());
    })
    .await;
    let token = world.token(&world.signed_in("alice").await).await;
    let file = world.dir.path().join("api.pem");
    let mut tunnel = Wire::open(&world).await;
    let upgrade = "GET /standin/upgrade HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: x\r\n";
    tunnel.write(format!("{upgrade}authorization: Bearer {token}\r\n\r\n")).await;
    assert!(tunnel.head().await.starts_with("HTTP/1.1 101"));
    counted(&world, &loads("api_server_ca", "ok"), 1.0).await;

    std::fs::write(&file, "no certificate").unwrap();
    counted(&world, &loads("api_server_ca", "failed"), 1.0).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200, "the last good one stays");
    std::fs::write(&file, other.pem()).unwrap();
    counted(&world, &loads("api_server_ca", "ok"), 2.0).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "upstream_untrusted");
    std::fs::write(&file, world.ca.pem()).unwrap();
    counted(&world, &loads("api_server_ca", "ok"), 3.0).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    tunnel.write("still here").await;
    tunnel.read_to(b"still here").await;
    tunnel.0.shutdown().await.unwrap();
}
