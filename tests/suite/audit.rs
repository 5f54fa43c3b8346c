//! The audit log: held against the API server's own, and against sinks that fail.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};
use standin::collector::{Collector, Mood};
use standin::entra::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::events::AuditLog;
use super::support::kubectl::Kubectl;
use super::support::wire::Wire;
use super::support::{PATIENCE, World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";

/// What both logs must say of a request: its events' stage and code, and what it was.
type Told = (Vec<(String, Value)>, [Value; 4]);

fn by_audit_id(events: &[Value]) -> BTreeMap<String, Told> {
    let mut requests: BTreeMap<String, Told> = BTreeMap::new();
    for event in events.iter().filter(|event| event["objectRef"]["apiGroup"] != "entrada.io") {
        let what = [
            event["verb"].clone(),
            event["objectRef"].clone(),
            event["user"]["username"].clone(),
            json!([event["requestURI"], event["impersonatedUser"]["username"]]),
        ];
        let id = event["auditID"].as_str().unwrap().to_owned();
        let (stages, said) = requests.entry(id).or_insert_with(|| (Vec::new(), what.clone()));
        assert_eq!(*said, what, "each stage says the same");
        stages.push((event["stage"].as_str().unwrap().to_owned(), event["responseStatus"]["code"].clone()));
    }
    requests
}

/// Reads, watches, writes, tunnels and acts as somebody else.
async fn session(world: &World, kubectl: &Kubectl) {
    kubectl.ok(&["get", "pods", "-n", "team-a"]).await;
    kubectl.ok(&["get", "--raw", "/version"]).await;
    let mut watch = kubectl.start(&["get", "pods", "-n", "team-a", "-w", "--no-headers"]);
    watch.line().await.unwrap();
    world.api.requests_until(|seen| seen.iter().any(|r| r.target.contains("watch=true") && r.is_open)).await;
    watch.child.kill().await.unwrap();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: team-a}\ndata: {b: c}\n";
    let applied = kubectl.run_with(&["apply", "-f", "-"], manifest.as_bytes()).await;
    assert!(applied.stdout.contains("created"), "{applied:?}");
    let failed = kubectl.run(&["exec", "-n", "team-a", "web", "--", "sh", "-c", "exit 3"]).await;
    assert_eq!(failed.code, Some(3), "{failed:?}");
    world.api.append_log("team-a", "web", "first");
    let mut logs = kubectl.start(&["logs", "-f", "web", "-n", "team-a"]);
    while logs.line().await.unwrap() != "first" {}
    logs.child.kill().await.unwrap();
    let file = world.dir.path().join("up");
    std::fs::write(&file, "content").unwrap();
    kubectl.ok(&["cp", file.to_str().unwrap(), "team-a/web:/tmp/up"]).await;
    forward(kubectl).await;
    kubectl.ok(&["delete", "cm", "a", "-n", "team-a"]).await;
    kubectl.ok(&["--as", "carol@contoso.example", "auth", "whoami"]).await;
    kubectl.run(&["get", "pods", "-n", "nowhere", "not-there"]).await;
}

/// One connection through `kubectl port-forward`.
async fn forward(kubectl: &Kubectl) {
    let mut forwarding = kubectl.start(&["port-forward", "-n", "team-a", "pod/web", ":7"]);
    let line = forwarding.line().await.unwrap();
    let addr = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(" -> ")).unwrap().0;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut echo)).await.unwrap().unwrap();
    drop(stream);
    forwarding.child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubectl_session_joins_one_to_one_with_the_api_servers_log() {
    // Proves that by Audit-ID both logs tell of the same requests: users, verbs, objects, codes and order of stages.
    let log = AuditLog::new();
    let world = World::start_with(|raw| raw.audit = Some(log.setting())).await;
    world.api.put_pod("team-a", "web");
    for user in ["alice", "bob"] {
        let browser = world.signed_in(user).await;
        let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
        if user == "alice" {
            session(&world, &kubectl).await;
        } else {
            assert_eq!(kubectl.run(&["get", "pods", "-n", "team-a"]).await.code, Some(1));
            assert_eq!(kubectl.run(&["exec", "-n", "team-a", "web", "--", "true"]).await.code, Some(1));
        }
    }
    world.api.requests_until(|seen| !seen.iter().any(|request| request.is_open)).await;
    world.entrada.kill().await;

    let (ours, theirs) = (by_audit_id(&log.events()), by_audit_id(&world.api.audit_events()));
    for (id, told) in &theirs {
        assert_eq!(ours.get(id), Some(told), "{id}");
    }
    let more: Vec<_> = ours.iter().filter(|(id, _)| !theirs.contains_key(*id)).collect();
    assert!(more.is_empty(), "not in the API server's log: {more:#?}");
    let told = |verb: &str, subresource: &str| {
        let mut all = theirs.values().map(|(_, what)| what);
        all.any(|what| what[0] == verb && what[1]["subresource"].as_str().unwrap_or_default() == subresource)
    };
    for (verb, subresource) in
        [("list", ""), ("watch", ""), ("get", "exec"), ("get", "log"), ("get", "portforward"), ("delete", "")]
    {
        assert!(told(verb, subresource), "{verb} {subresource}");
    }
    assert!(theirs.values().any(|(stages, what)| what[1]["subresource"] == "exec" && stages.len() == 3));
    let text = log.text();
    assert!(!world.entra.secrets().iter().any(|secret| text.contains(secret.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_with_their_sign_in_is_recorded() {
    // Proves the events of sessions and tokens, their users, that refusals are told, and that no code or token is.
    let log = AuditLog::new();
    let world = World::start_with(|raw| raw.audit = Some(log.setting())).await;
    let browser = world.signed_in("alice").await;
    let made = world.new_token(&browser, json!({})).await;
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let browser = world.signed_in("alice").await;
    browser.post_json(&world.at("/tokens/arm"), &json!({}), &origin).await.unwrap();
    assert_eq!(world.call(Method::POST, "/refresh", token).await.status, 200);
    let path = world.at(&format!("/tokens/{id}"));
    browser.request(Method::DELETE, &path, &origin, bytes::Bytes::new()).await.unwrap();
    browser.post_form(&world.at("/logout/everywhere"), &[], &origin).await.unwrap();
    let refused = world.call_with(Method::GET, "/callback?code=hunter2&state=hunter2", &[]).await;
    assert_eq!(refused.status, 400);
    assert_eq!(world.call(Method::GET, PODS, token).await.status, 401);
    world.entrada.kill().await;

    // The portal's question to the API server is a request like any other.
    let mut events = log.events();
    events.retain(|event| event["objectRef"]["resource"] != "selfsubjectreviews");
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let parts = [&event["verb"], &object["resource"], &object["subresource"]].map(text);
            format!("{} {}", parts.join(" ").trim_end(), event["responseStatus"]["code"])
        })
        .collect();
    assert_eq!(
        told,
        [
            "create sessions 302",
            "create tokens 201",
            "delete sessions 303",
            "create sessions 302",
            "update tokens arm 200",
            "update sessions access 200",
            "delete tokens 204",
            "deletecollection sessions 303",
            "create sessions 400",
            "list pods 401",
        ]
    );
    let alice = world.entra.user("alice").unwrap();
    for event in &events[..8] {
        assert_eq!(event["user"]["username"], alice.kubernetes_name(), "{event}");
        assert_eq!(event["sourceIPs"], json!(["127.0.0.1"]));
    }
    assert_eq!(events[1]["objectRef"]["name"], id);
    assert_eq!(events[8]["requestURI"], "/callback");
    assert_eq!(events[9]["user"], json!({}));
    assert_eq!(events[9]["responseStatus"]["reason"], "Unauthorized");
    assert!(events[9]["annotations"]["entrada.io/reason"].is_string(), "{}", events[9]);
    let text = log.text();
    assert!(!text.contains("hunter2") && !text.contains(token));
    assert!(!world.entra.secrets().iter().any(|secret| text.contains(secret.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_holds_up_nobody_and_loses_nothing() {
    // Proves that requests go on while the collector is slow, broken or away, that failures are counted, and that every
    // event arrives once it is well.
    let dir = tempfile::tempdir().unwrap();
    let ca = standin::pki::Ca::new("collector").unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let collector = Collector::start(([127, 0, 0, 1], 0).into(), &ca).await.unwrap();
    let world = World::start_with(|raw| {
        raw.audit = Some(collector.url());
        raw.audit_ca_file = Some(ca_file.to_str().unwrap().to_owned());
    })
    .await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut calls = 0;
    for mood in [Mood::Slow, Mood::Broken(500)] {
        collector.set_mood(mood);
        for _ in 0..20 {
            assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
            calls += 1;
        }
    }
    eventually("a failure", || async { world.metric("entrada_audit_sink_failures_total").await > 0.0 }).await;
    collector.kill().await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    calls += 1;
    collector.set_mood(Mood::Well);
    collector.revive().await.unwrap();
    // A sign-in and a token, and two events of each call.
    let all = 2 + 2 * calls;
    // A list that was on its way when the collector was killed may have been taken, and then comes again.
    let distinct = || {
        let events = collector.events().into_iter();
        events
            .map(|event| (event["auditID"].to_string(), event["stage"].to_string()))
            .collect::<BTreeSet<_>>()
            .len()
    };
    eventually("all events", || async { distinct() >= all }).await;
    assert_eq!(distinct(), all);
    assert_eq!(world.metric(r#"entrada_audit_events_total{outcome="dropped"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_answer_is_recorded() {
    // Proves that a change that goes on without its client has an event: the client's going leaves no gap in the log.
    let log = AuditLog::new();
    let world = World::start_with(|raw| raw.audit = Some(log.setting())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let mut wire = Wire::open(&world).await;
    let head = format!("POST /refresh HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n");
    wire.write(format!("{head}content-length: 0\r\n\r\n")).await;
    hold.arrived(1).await;
    drop(wire);
    eventually("the event", || async {
        log.text().lines().any(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["objectRef"]["subresource"] == "access"
                && event["responseStatus"]["code"] == 499
                && event["annotations"]["entrada.io/reason"] == "client_gone"
                && !event["user"]["username"].is_null()
        })
    })
    .await;
    hold.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_refuses_what_it_cannot_record() {
    // Proves that with a full disk nothing is given that would not be recorded, that signing out still works, and that
    // all goes on when there is space again.
    let log = AuditLog::new();
    let world = World::start_with(|raw| {
        raw.audit = Some(log.setting());
        raw.audit_strict = Some("on".to_owned());
    })
    .await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    eventually("the events", || async { log.text().contains(r#""tokens""#) }).await;
    std::fs::rename(log.path(), log.path().with_extension("before")).unwrap();
    // A device that is always full.
    std::os::unix::fs::symlink("/dev/full", log.path()).unwrap();
    // The first is accepted, because nobody knows yet.
    world.call(Method::GET, PODS, &token).await;
    eventually("a failure", || async { world.metric("entrada_audit_sink_failures_total").await > 0.0 }).await;
    let before = world.api.requests().len();
    let refused = world.call(Method::GET, PODS, &token).await;
    assert_eq!(
        (refused.status.as_u16(), refused.headers["entrada-reason"].to_str().unwrap()),
        (503, "audit_unavailable")
    );
    assert_eq!(refused.headers["retry-after"], "5");
    assert_eq!(world.api.requests().len(), before, "it never reached the API server");
    let origin = [("origin", world.url.as_str())];
    let page = browser.post_json(&world.at("/tokens"), &json!({}), &origin).await.unwrap();
    assert_eq!(page.status, 503, "{}", page.text());
    std::fs::remove_file(log.path()).unwrap();
    eventually("service", || async { world.call(Method::GET, PODS, &token).await.status == 200 }).await;
    assert_eq!(world.metric(r#"entrada_audit_events_total{outcome="dropped"}"#).await, 0.0);

    std::fs::remove_file(log.path()).unwrap();
    std::os::unix::fs::symlink("/dev/full", log.path()).unwrap();
    world.call(Method::GET, PODS, &token).await;
    eventually("refusal", || async { world.call(Method::GET, PODS, &token).await.status == 503 }).await;
    let all = [("_method", "delete")];
    let page = browser.post_form(&world.at("/tokens"), &all, &origin).await.unwrap();
    assert_eq!(page.status, 303, "revoking takes away: {}", page.text());
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 401);
    let page = browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    assert!(page.status.as_u16() < 400, "{}", page.text());
    assert_eq!(world.session_cookie(&browser), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_signed_out_is_not_ended_again() {
    // Proves that its end is told once, and as what it was, although Entra refuses a renewal that was under way.
    let log = AuditLog::new();
    let world = World::start_with(|raw| raw.audit = Some(log.setting())).await;
    world.entra.set_access_token_lifetime(Some(std::time::Duration::from_secs(5)));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.entra.set_refused_with("alice", Some(50173));
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let meanwhile = async {
        hold.arrived(1).await;
        let origin = [("origin", world.url.as_str())];
        assert_eq!(browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap().status, 303);
        hold.release();
    };
    let (refused, ()) = tokio::join!(world.call(Method::GET, PODS, &token), meanwhile);
    assert_eq!(refused.status, 401);
    world.entrada.kill().await;
    let events = log.events();
    let ends = events.iter().filter(|it| it["objectRef"]["resource"] == "sessions" && it["verb"] == "delete");
    let causes: Vec<_> = ends.map(|event| &event["annotations"]["entrada.io/cause"]).collect();
    assert_eq!(causes, ["sign_out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_of_all_that_fails_is_told_as_that() {
    // Proves that the log does not take it for an attempt to make a token, which comes to the same address.
    let (log, directory) = (AuditLog::new(), tempfile::TempDir::new().unwrap());
    let mut redis = standin::redis::Redis::start(directory.path()).await.unwrap();
    let world = World::start_with(|raw| {
        raw.audit = Some(log.setting());
        raw.store = Some(format!("redis://{}", redis.address()));
    })
    .await;
    let browser = world.signed_in("alice").await;
    world.token(&browser).await;
    redis.kill();
    eventually("the loss", || async { world.admin("/readyz").await.1.contains("[!] store: away") }).await;
    let origin = [("origin", world.url.as_str())];
    let page = browser.post_form(&world.at("/tokens"), &[("_method", "delete")], &origin).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (503, "store_unavailable"));
    world.entrada.kill().await;
    let events = log.events();
    let told = events.iter().filter(|event| event["responseStatus"]["code"] == 503);
    let told: Vec<_> = told.map(|event| (&event["verb"], &event["objectRef"]["resource"])).collect();
    assert_eq!(told, [(&json!("delete"), &json!("tokens"))]);
}
