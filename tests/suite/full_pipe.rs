//! Standard output that nobody reads.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::program::{settings, start_unread};
use super::support::{PATIENCE, World, eventually};

/// Each request's line in the log is about so long: a hundred and some fill the log's queue.
pub(super) const PATH_BYTES: usize = 30_000;

/// The settings of an Entrada without TLS, so that a request is quickly made.
pub(super) fn plain(world: &World) -> BTreeMap<&'static str, String> {
    let mut settings = settings(world);
    settings.remove("ENTRADA_TLS_CERT_FILE");
    settings.remove("ENTRADA_TLS_KEY_FILE");
    settings.insert("ENTRADA_TLS", "off".to_owned());
    settings
}

/// One request without a credential.
pub(super) async fn refused(addr: &str, path: &str) {
    let answer = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("no answer");
}

pub(super) fn dropped(metrics: &str) -> u64 {
    let name = r#"entrada_log_lines_total{outcome="dropped"} "#;
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_no_request() {
    // Proves that requests are answered while the pipe is full, that lost lines are counted, and that when somebody
    // reads again the lines flow on and the loss is said.
    let world = World::start().await;
    let program = start_unread(&plain(&world)).await;
    let path = format!("/api/v1/namespaces/{}", "a".repeat(PATH_BYTES));
    let mut rounds = 0;
    while dropped(&program.probe("/metrics").await) < 50 {
        rounds += 1;
        assert!(rounds < 100, "the pipe is never full");
        for _ in 0..20 {
            refused(&program.addr, &path).await;
        }
    }

    let program = program.reading();
    let text = || program.probe("/metrics");
    eventually("the queue to be empty", || async { text().await.contains("entrada_log_queue_bytes 0") })
        .await;
    refused(&program.addr, "/api/v1/namespaces/afterwards").await;
    let lost = dropped(&text().await);
    program.signal("-TERM");
    let (code, events) = program.ended().await;
    assert_eq!(code, Some(0));
    let told: Vec<_> = events.iter().filter_map(|event| event["dropped"].as_u64()).collect();
    assert_eq!(told.iter().sum::<u64>(), lost, "{told:?}");
    let place = |wanted: &dyn Fn(&serde_json::Value) -> bool| events.iter().position(wanted).unwrap();
    let said = place(&|event| !event["dropped"].is_null());
    let after = place(&|event| event["path"] == "/api/v1/namespaces/afterwards");
    assert!(said < after);
    assert_eq!(events[said]["level"], "WARN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    // Proves that the process ends although its last lines cannot be written.
    let world = World::start().await;
    let mut settings = plain(&world);
    settings.insert("ENTRADA_DRAIN", "1s".to_owned());
    let program = start_unread(&settings).await;
    let path = format!("/api/v1/namespaces/{}", "a".repeat(PATH_BYTES));
    for _ in 0..10 {
        refused(&program.addr, &path).await;
    }
    program.signal("-TERM");
    assert_eq!(program.ended_unread().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_as_much_as_it_is_asked_to() {
    // Proves that ENTRADA_LOG is the directive of the filter, and that a wrong one is a fault.
    let world = World::start().await;
    let mut settings = plain(&world);
    settings.insert("ENTRADA_LOG", "info,entrada::record=off".to_owned());
    let program = start_unread(&settings).await.reading();
    refused(&program.addr, "/api/v1/pods").await;
    program.signal("-TERM");
    let (_, events) = program.ended().await;
    let messages: Vec<_> = events.iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert!(messages.contains(&"stopping") && !messages.contains(&"request"), "{messages:?}");

    settings.insert("ENTRADA_LOG", "inof".to_owned());
    let output = super::support::program::command(&settings).output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("ENTRADA_LOG: must be a level"), "{told}");
}
