//! Watches, logs, and upgraded connections.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use standin::apiserver::{Fault, Recorded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::Fixture;
use crate::{Outcome, PODS};

const EXEC: &str = "/api/v1/namespaces/team-a/pods/web/exec";

async fn revision(fixture: &Fixture) -> anyhow::Result<String> {
    let list = fixture.get("alice", PODS).await?.json()?;
    Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_watch_replays_the_past_and_tells_the_present() -> Outcome {
    let fixture = Fixture::start().await?;
    let from = revision(&fixture).await?;
    fixture.server.put_pod("team-a", "early");
    fixture.server.put_pod("team-b", "elsewhere");
    let mut watch = fixture.watch("alice", &format!("{PODS}?watch=true&resourceVersion={from}")).await?;
    let (kind, object) = watch.event().await?;
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("early")));
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Pod"), &json!("v1")));
    fixture.server.delete("pods", "team-a", "early");
    assert_eq!(watch.event().await?.0, "DELETED");
    fixture.server.end_watches();
    assert_eq!(watch.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn the_record_shows_which_streams_are_still_open() -> Outcome {
    let fixture = Fixture::start().await?;
    let mut watch = fixture.watch("alice", &format!("{PODS}?watch=true")).await?;
    watch.event().await?;
    let exec = format!("{EXEC}?command=sleep&command=1000&stdout=true");
    let tunnel = stream(&fixture, &exec, "v5.channel.k8s.io").await?;
    let open = |all: &[Recorded]| all.iter().filter(|one| one.is_open).count();
    assert_eq!(open(&fixture.server.requests()), 2);
    drop(watch);
    fixture.server.requests_until(|all| open(all) == 1).await;
    drop(tunnel);
    fixture.server.requests_until(|all| open(all) == 0).await;
    Ok(())
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_ends_with_410_in_the_stream() -> Outcome {
    let fixture = Fixture::start().await?;
    fixture.server.forget_history();
    let mut watch = fixture.watch("alice", &format!("{PODS}?watch=true&resourceVersion=1")).await?;
    let (kind, status) = watch.event().await?;
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_watch_sees_objects_enter_and_leave_its_selector() -> Outcome {
    let fixture = Fixture::start().await?;
    let from = revision(&fixture).await?;
    let path = format!("{PODS}?watch=true&labelSelector=hot%3Dyes&resourceVersion={from}");
    let mut watch = fixture.watch("alice", &path).await?;
    for label in ["yes", "no"] {
        let patch = json!({ "metadata": { "labels": { "hot": label } } });
        let web = format!("{PODS}/web");
        fixture.write("alice", "PATCH", &web, "application/merge-patch+json", &patch).await?;
    }
    assert_eq!(watch.event().await?.0, "ADDED");
    assert_eq!(watch.event().await?.0, "DELETED");
    Ok(())
}

#[tokio::test]
async fn a_watch_list_ends_its_beginning_with_a_bookmark_and_its_time_with_another() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = format!(
        "{PODS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\
         &timeoutSeconds=1"
    );
    let mut watch = fixture.watch("alice", &path).await?;
    assert_eq!(watch.event().await?.0, "ADDED");
    let (kind, object) = watch.event().await?;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(watch.event().await?.0, "BOOKMARK");
    assert_eq!(watch.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn a_watch_in_rows_tells_its_columns_once() -> Outcome {
    let fixture = Fixture::start().await?;
    fixture.server.put_pod("team-a", "second");
    let head = fixture.ask("alice", "GET", &format!("{PODS}?watch=true&timeoutSeconds=1"));
    let reply =
        fixture.send(head.header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"), "").await?;
    let events: Vec<Value> = reply
        .body
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let columns: Vec<usize> = events
        .iter()
        .map(|event| event["object"]["columnDefinitions"].as_array().map_or(0, Vec::len))
        .collect();
    assert_eq!(columns, [9, 0]);
    Ok(())
}

#[tokio::test]
async fn logs_are_tailed_and_followed_until_the_pod_is_gone() -> Outcome {
    let fixture = Fixture::start().await?;
    let reply = fixture.get("alice", &format!("{PODS}/web/log?tailLines=1&container=c")).await?;
    assert_eq!(reply.body.as_ref(), b"listening on :8080\n");
    assert_eq!(reply.headers["content-type"], "text/plain");
    let wrong = fixture.get("alice", &format!("{PODS}/web/log?container=d")).await?;
    assert_eq!(wrong.message(), "container d is not valid for pod web");

    let mut log = fixture.watch("alice", &format!("{PODS}/web/log?tailLines=0&follow=true")).await?;
    fixture.server.append_log("team-a", "web", "one more");
    assert_eq!(log.next().await?.as_deref(), Some("one more"));
    fixture.server.delete("pods", "team-a", "web");
    assert_eq!(log.next().await?, None);
    Ok(())
}

async fn stream(
    fixture: &Fixture,
    path: &str,
    protocol: &str,
) -> anyhow::Result<WebSocketStream<TokioIo<Upgraded>>> {
    let head = fixture
        .ask("alice", "GET", path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", protocol);
    let mut response = fixture.open(head, "").await?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    // The answer to the sample key of RFC 6455, section 1.3.
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(&mut response).await?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// Everything the stream says, by channel, until it is closed in order.
async fn drain(mut stream: WebSocketStream<TokioIo<Upgraded>>) -> anyhow::Result<[Vec<u8>; 4]> {
    let mut channels = [const { Vec::new() }; 4];
    while let Some(message) = stream.next().await {
        let Message::Binary(message) = message? else { continue };
        let (channel, content) = message.split_first().ok_or_else(|| anyhow::anyhow!("no channel"))?;
        let own = channels.get_mut(usize::from(*channel));
        own.ok_or_else(|| anyhow::anyhow!("channel {channel}"))?.extend_from_slice(content);
    }
    Ok(channels)
}

#[tokio::test]
async fn exec_carries_both_outputs_and_the_exit_code() -> Outcome {
    let fixture = Fixture::start().await?;
    let script = "echo%20out%3B%20echo%20err%20%3E%262%3B%20exit%203";
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let path = format!("{EXEC}?command=sh&command=-c&command={script}&stdout=true&stderr=true");
        let [_, out, err, status] = drain(stream(&fixture, &path, protocol).await?).await?;
        assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        let status: Value = serde_json::from_slice(&status)?;
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"], json!([{ "reason": "ExitCode", "message": "3" }]));
    }
    Ok(())
}

#[tokio::test]
async fn exec_reads_standard_input_until_it_is_closed() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = format!("{EXEC}?command=cat&stdin=true&stdout=true");
    let mut open = stream(&fixture, &path, "v5.channel.k8s.io").await?;
    for message in [&b"\0first "[..], b"\0second", b"\x04{\"Width\":80}", b"\xff\0"] {
        open.send(Message::binary(Bytes::from_static(message))).await?;
    }
    let [_, out, _, status] = drain(open).await?;
    assert_eq!(out, b"first second");
    assert_eq!(serde_json::from_slice::<Value>(&status)?["status"], "Success");
    Ok(())
}

#[tokio::test]
async fn attach_writes_to_the_log_and_shows_it() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = format!("{PODS}/web/attach?stdin=true&stdout=true");
    let mut open = stream(&fixture, &path, "v5.channel.k8s.io").await?;
    for message in [&b"\0typed\n"[..], b"\xff\0"] {
        open.send(Message::binary(Bytes::from_static(message))).await?;
    }
    let [_, out, ..] = drain(open).await?;
    assert_eq!(out, b"typed\n");
    let log = fixture.get("alice", &format!("{PODS}/web/log?tailLines=1")).await?;
    assert_eq!(log.body.as_ref(), b"typed\n");
    Ok(())
}

#[tokio::test]
async fn exec_needs_an_upgrade_and_a_protocol_in_common() -> Outcome {
    let fixture = Fixture::start().await?;
    let path = format!("{EXEC}?command=true&stdout=true");
    let reply = fixture.get("alice", &path).await?;
    assert_eq!(
        (reply.status, reply.message().as_str()),
        (StatusCode::BAD_REQUEST, "Upgrade request required")
    );
    let spdy = |protocols: &[&str]| {
        let head = fixture.ask("alice", "POST", &path);
        let head = head.header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
        protocols.iter().fold(head, |head, own| head.header("x-stream-protocol-version", *own))
    };
    let reply = fixture.send(spdy(&["v9.channel.k8s.io", "channel.k8s.io"]), "").await?;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(
        reply.message(),
        "unable to negotiate protocol: client supports [v9.channel.k8s.io channel.k8s.io], server accepts \
         [v4.channel.k8s.io]"
    );
    // As the real one does: version 5 is for WebSocket only.
    let response = fixture.open(spdy(&["v5.channel.k8s.io", "v4.channel.k8s.io"]), "").await?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
    Ok(())
}

#[tokio::test]
async fn a_tunnel_of_any_protocol_echoes_raw_bytes_and_survives_a_half_close() -> Outcome {
    let fixture = Fixture::start().await?;
    let extra = ("x-extra".parse()?, "yes".parse()?);
    fixture.server.fault("/standin/", Fault::Header(extra.0, extra.1));
    let head = fixture.ask("bob", "GET", "/standin/upgrade");
    let head = head.header("connection", "Upgrade").header("upgrade", "Invented/7.3");
    let mut response = fixture.open(head, "").await?;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "Invented/7.3");
    assert_eq!(response.headers()["x-extra"], "yes");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await?);
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    tunnel.write_all(&bytes).await?;
    tunnel.shutdown().await?;
    let mut back = Vec::new();
    tunnel.read_to_end(&mut back).await?;
    assert_eq!(back, bytes);
    Ok(())
}

#[tokio::test]
async fn a_refused_upgrade_has_a_body_and_a_kill_cuts_tunnels() -> Outcome {
    let fixture = Fixture::start().await?;
    let upgrade = |path: &str| {
        fixture.ask("bob", "GET", path).header("connection", "Upgrade").header("upgrade", "Invented/7.3")
    };
    let refused = fixture.open(upgrade("/standin/refuse-upgrade"), "").await?;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.into_body().collect().await?.to_bytes().starts_with(b"this upgrade is refused"));

    let mut response = fixture.open(upgrade("/standin/upgrade"), "").await?;
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await?);
    tunnel.write_all(b"ping").await?;
    let mut back = [0; 4];
    tunnel.read_exact(&mut back).await?;
    fixture.server.kill().await;
    let mut rest = Vec::new();
    let _cut = tunnel.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    Ok(())
}
