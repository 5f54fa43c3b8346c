//! The program as it is run: its settings, its log, its signals, its exit codes.

use std::collections::BTreeMap;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::support::program::{command, settings, start};
use super::support::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn faulty_settings_are_told_at_once_and_nothing_is_opened() {
    // Proves exit code 64 with every fault in one message, flags and environment alike.
    let settings = BTreeMap::from([
        ("ENTRADA_PUBLIC_URL", "http://k8s.example.com".to_owned()),
        ("ENTRADA_STORE", "redis://:hunter2@redis:6379".to_owned()),
        ("ENTRADA_RATE_LIMIT", "50 per second".to_owned()),
        ("ENTRADA_TLS_CERT_FILE", "/nonexistent/tls.crt".to_owned()),
    ]);
    let output = command(&settings).args(["--listen", "nowhere"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty(), "nothing is logged before the settings are good");
    let told = String::from_utf8(output.stderr).unwrap();
    for part in [
        "ENTRADA_PUBLIC_URL: must begin with https://",
        "ENTRADA_LISTEN: must be an IP address and a port",
        "ENTRADA_STORE: must be `memory`, redis://host:port[/db]",
        "contains user information",
        "ENTRADA_RATE_LIMIT: must be `off`, or a rate such as `50/s burst 300` (is `50 per second`)",
        "ENTRADA_TLS_CERT_FILE, ENTRADA_TLS_KEY_FILE: must both be set",
        "AZURE_TENANT_ID: is required",
        "AZURE_FEDERATED_TOKEN_FILE: is required",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    assert!(!told.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_the_environment_that_no_setting_has_is_a_fault() {
    // Proves exit code 64 for a misspelt setting, with the name that was meant and without the value; beside the other
    // faults, and not for what Kubernetes adds for Services called entrada and entrada-redis.
    let settings = BTreeMap::from([
        ("ENTRADA_RATE_LIMITT", "hunter2/s".to_owned()),
        ("ENTRADA_MAX_STREAM_PER_USER", "hunter2".to_owned()),
        ("ENTRADA_TLS", "maybe".to_owned()),
        ("ENTRADA_SERVICE_HOST", "10.0.0.1".to_owned()),
        ("ENTRADA_SERVICE_PORT_HTTPS", "443".to_owned()),
        ("ENTRADA_PORT", "tcp://10.0.0.1:443".to_owned()),
        ("ENTRADA_PORT_443_TCP_ADDR", "10.0.0.1".to_owned()),
        ("ENTRADA_REDIS_SERVICE_HOST", "10.0.0.2".to_owned()),
        ("ENTRADA_REDIS_PORT", "tcp://10.0.0.2:6379".to_owned()),
    ]);
    let output = command(&settings).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in [
        "ENTRADA_RATE_LIMITT: did you mean ENTRADA_RATE_LIMIT? (no setting has this name)",
        "ENTRADA_MAX_STREAM_PER_USER: did you mean ENTRADA_MAX_STREAMS_PER_USER?",
        "ENTRADA_TLS: must be `on` or `off`",
    ] {
        assert!(told.contains(part), "{part} is missing in:\n{told}");
    }
    for absent in ["hunter2", "_SERVICE_", "_PORT:", "_ADDR"] {
        assert!(!told.contains(absent), "{absent} stands in:\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_logs_in_json_and_stops_cleanly() {
    // Proves readiness, the form of the log, and exit code 0 after SIGTERM.
    let world = World::start().await;
    let program = start(&settings(&world)).await;
    eventually("readiness", || async { program.probe("/readyz").await.starts_with("HTTP/1.1 200") }).await;
    assert!(program.probe("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(program.probe("/metrics").await.contains("# HELP entrada_connections Open client connections."));
    assert!(TcpStream::connect(&program.addr).await.is_ok());
    program.signal("-TERM");
    let (code, events) = program.ended().await;
    assert_eq!(code, Some(0));
    assert!(
        events.iter().any(|event| event["message"] == "stopping" && event["level"] == "INFO"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_the_window_short() {
    // Proves that readiness goes first, and exit code 1 when somebody could not wait.
    let world = World::start().await;
    let mut settings = settings(&world);
    settings.insert("ENTRADA_DRAIN", "1h".to_owned());
    let program = start(&settings).await;
    // A client in the middle of its handshake keeps the window open.
    let _client = TcpStream::connect(&program.addr).await.unwrap();
    eventually("the client", || async { program.probe("/metrics").await.contains("entrada_connections 1") })
        .await;
    program.signal("-TERM");
    eventually("unreadiness", || async { program.probe("/readyz").await.starts_with("HTTP/1.1 503") }).await;
    program.signal("-INT");
    assert_eq!(program.ended().await.0, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_a_failure_that_says_so() {
    // Proves that trouble at the start ends the process with code 1 and a reason.
    let world = World::start().await;
    let mut settings = settings(&world);
    settings.insert("ENTRADA_LISTEN", world.entrada.addr.to_string());
    let output = command(&settings).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("ENTRADA_LISTEN: Address already in use"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_can_end_in_front_of_it() {
    // Proves that ENTRADA_TLS=off serves plain HTTP, and that links are the public URL's all the same.
    let world = World::start().await;
    let mut settings = settings(&world);
    settings.remove("ENTRADA_TLS_CERT_FILE");
    settings.remove("ENTRADA_TLS_KEY_FILE");
    settings.insert("ENTRADA_TLS", "off".to_owned());
    let program = start(&settings).await;
    let mut stream = TcpStream::connect(&program.addr).await.unwrap();
    let request = "GET /api HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 401") && answer.contains(&format!("{}/login", world.url)),
        "{answer}"
    );
}
