//! The audit log of a process that is stopped, killed, or runs out of disk.

use std::collections::BTreeMap;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::full_pipe;
use super::support::World;
use super::support::events::AuditLog;
use super::support::eventually;
use super::support::program::{self, Program};

/// The settings of an Entrada without TLS, so that a request is quickly made, that records in `log`.
fn settings(world: &World, log: &AuditLog) -> BTreeMap<&'static str, String> {
    let mut settings = program::settings(world);
    settings.remove("ENTRADA_TLS_CERT_FILE");
    settings.remove("ENTRADA_TLS_KEY_FILE");
    settings.insert("ENTRADA_TLS", "off".to_owned());
    settings.insert("ENTRADA_DRAIN", "1s".to_owned());
    settings.insert("ENTRADA_AUDIT", log.setting());
    settings
}

/// So many requests without a credential on one connection, or fewer when the process goes: how many were answered.
async fn refused(addr: &str, count: usize) -> usize {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    for number in 0..count {
        let request = b"GET /api/v1/namespaces/team-a/pods HTTP/1.1\r\nhost: x\r\n\r\n";
        if stream.write_all(request).await.is_err() {
            return number;
        }
        match stream.read(&mut answer).await {
            Ok(read) if read > 0 => assert!(answer.starts_with(b"HTTP/1.1 401")),
            _ => return number,
        }
    }
    count
}

fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

async fn failures(program: &Program) -> u64 {
    metric(&program.probe("/metrics").await, "entrada_audit_sink_failures_total")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_loses_no_event() {
    // Proves that every request that was answered before a SIGTERM is in the file afterwards.
    let (world, log) = (World::start().await, AuditLog::new());
    let program = program::start(&settings(&world, &log)).await;
    let answered = refused(&program.addr, 500).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await.0, Some(0));
    assert_eq!((answered, log.events().len()), (500, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_a_hurry_loses_no_event_either() {
    // Proves that a second signal, which waits for nobody, still writes what was recorded. The request is answered after the
    // first, when the window is open: its event may still be in the queue.
    let (world, log) = (World::start().await, AuditLog::new());
    let mut settings = settings(&world, &log);
    settings.insert("ENTRADA_DRAIN", "1h".to_owned());
    let program = program::start(&settings).await;
    let mut client = TcpStream::connect(&program.addr).await.unwrap();
    eventually("the client", || async { program.probe("/metrics").await.contains("entrada_connections 1") })
        .await;
    program.signal("-TERM");
    eventually("unreadiness", || async { program.probe("/readyz").await.starts_with("HTTP/1.1 503") }).await;
    client.write_all(b"GET /api HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    client.read_exact(&mut status).await.unwrap();
    program.signal("-TERM");
    assert_eq!((&status, program.ended().await.0), (b"HTTP/1.1 401", Some(1)));
    assert_eq!(log.events().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_path_gets_into_no_log() {
    // Proves it of the log and of the audit log, for each kind of token, wherever in a path somebody has pasted it.
    let (world, log) = (World::start().await, AuditLog::new());
    let program = program::start(&settings(&world, &log)).await;
    let secret = "hunter2".repeat(7);
    let tokens = ["entrada_", "entradam_", "code_", "eyJhbGciOiJSUzI1NiJ9.e30."].map(|beginning| {
        let token = format!("{beginning}{secret}");
        [format!("/{token}/x"), format!("/api/v1/namespaces/{token}/pods/{token}/log")]
    });
    for path in tokens.as_flattened() {
        full_pipe::refused(&program.addr, path).await;
    }
    program.signal("-TERM");
    let (_code, events) = program.ended().await;
    let lines: Vec<_> = events.iter().filter(|event| event["message"] == "request").collect();
    assert_eq!((lines.len(), log.events().len()), (8, 8));
    for written in [format!("{events:?}"), log.text()] {
        assert!(!written.contains("hunter2"), "{written}");
        assert!(written.contains("/api/v1/namespaces/REDACTED/pods/REDACTED/log"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_no_broken_line_but_the_last() {
    // Proves what a kill -9 costs: the last moment's events, and at most one broken line, which the next start ends.
    let (world, log) = (World::start().await, AuditLog::new());
    let settings = settings(&world, &log);
    let program = program::start(&settings).await;
    let addr = program.addr.clone();
    let load = tokio::spawn(async move { refused(&addr, 1_000_000).await });
    eventually("a busy log", || async { log.text().lines().count() > 1_000 }).await;
    program.signal("-KILL");
    program.ended().await;
    assert!(load.await.unwrap() > 1_000);
    assert!(AuditLog::events_after_a_crash(&log.path()).len() > 1_000);

    // As it would be, had the kill come in the middle of a line.
    let mut text = log.text();
    text.push_str("{\"kind\":\"Eve");
    std::fs::write(log.path(), &text).unwrap();
    let program = program::start(&settings).await;
    refused(&program.addr, 1).await;
    program.signal("-TERM");
    program.ended().await;
    let after = log.text();
    let last = after.strip_prefix(&text).unwrap().strip_prefix('\n').unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(last).unwrap()["responseStatus"]["code"], 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_counted_and_recovered_from() {
    // Proves that where a disk is full no half of a line stays, requests go on, and all events are written when there is
    // space again. The limit on the size of files acts as a full disk does: part of a write is written.
    let (world, log) = (World::start().await, AuditLog::new());
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -S -f 100; exec \"$0\" serve", env!("CARGO_BIN_EXE_entrada")])
        .env_clear()
        .envs(settings(&world, &log))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let program = program::start_as(command).await;
    // Some are written before: a first write that does not fit would leave nothing.
    let mut answered = refused(&program.addr, 5).await;
    eventually("the first events", || async { log.text().lines().count() >= answered }).await;
    while failures(&program).await == 0 {
        assert!(answered < 100_000, "the disk is never full");
        answered += refused(&program.addr, 200).await;
    }
    answered += refused(&program.addr, 200).await;
    // Each attempt writes half a line for a moment, and takes it back.
    eventually("whole lines", || async { log.text().ends_with('\n') }).await;
    let told =
        log.text().lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(told < answered && told > 0);

    let pid = Pid::from_raw(i32::try_from(program.id()).unwrap()).unwrap();
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    eventually("all events", || async { log.text().lines().count() >= answered }).await;
    program.signal("-TERM");
    assert_eq!(program.ended().await.0, Some(0));
    assert_eq!(log.events().len(), answered);
}
