//! Real kubectls through Entrada: each command does what it does against the API server itself.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::support::World;
use super::support::kubectl::Kubectl;

/// A world with a pod in team-a, and alice's kubectl.
async fn alice() -> (World, Kubectl) {
    let world = World::start().await;
    world.api.put_pod("team-a", "web");
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    (world, kubectl)
}

fn configmap(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: palette, namespace: team-a}}\ndata: {{colour: {value}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_once_then_kubectl_is_you() {
    // Proves the main job: a downloaded kubeconfig is all that kubectl needs to act as the person.
    let (world, kubectl) = alice().await;
    let pods = kubectl.ok(&["get", "pods", "-n", "team-a"]).await;
    assert!(pods.contains("web") && pods.contains("Running"), "{pods}");
    let whoami = kubectl.ok(&["auth", "whoami", "-o", "json"]).await;
    let whoami: serde_json::Value = serde_json::from_str(&whoami).unwrap();
    let alice = world.entra.user("alice").unwrap();
    assert_eq!(whoami["status"]["userInfo"]["username"], alice.kubernetes_name());
    assert!(kubectl.ok(&["get", "--raw", "/version"]).await.contains("gitVersion"));
    world.api.assert_only_users(&[alice.kubernetes_name()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_an_event_within_200_ms() {
    // Proves that events are passed on as they come and not gathered.
    let (world, kubectl) = alice().await;
    let mut watch = kubectl.start(&["get", "pods", "-n", "team-a", "-w", "--no-headers"]);
    assert!(watch.line().await.unwrap().starts_with("web"));
    world.api.requests_until(|seen| seen.iter().any(|r| r.target.contains("watch=true") && r.is_open)).await;
    let mut took = Vec::new();
    for name in ["one", "two", "three", "four", "five"] {
        let put = Instant::now();
        world.api.put_pod("team-a", name);
        assert!(watch.line().await.unwrap().starts_with(name));
        took.push(put.elapsed());
    }
    took.sort();
    assert!(took[2] < Duration::from_millis(200), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_patched_and_deleted() {
    // Proves that every writing verb arrives as kubectl means it.
    let (world, kubectl) = alice().await;
    let get = || world.api.get("configmaps", "team-a", "palette");
    for (value, did) in [("red", "created"), ("blue", "configured")] {
        let applied = kubectl.run_with(&["apply", "-f", "-"], configmap(value).as_bytes()).await;
        assert!(applied.stdout.contains(did), "{applied:?}");
        assert_eq!(get().unwrap()["data"]["colour"], value);
    }
    let patch =
        ["patch", "cm", "palette", "-n", "team-a", "--type=merge", "-p", r#"{"data":{"colour":"green"}}"#];
    kubectl.ok(&patch).await;
    assert_eq!(get().unwrap()["data"]["colour"], "green");
    kubectl.ok(&["label", "pod", "web", "-n", "team-a", "tier=front"]).await;
    assert_eq!(world.api.get("pods", "team-a", "web").unwrap()["metadata"]["labels"]["tier"], "front");
    kubectl.ok(&["delete", "cm", "palette", "-n", "team-a"]).await;
    assert!(get().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed() {
    // Proves that `logs -f` is flushed line by line and ends when its client leaves.
    let (world, kubectl) = alice().await;
    world.api.append_log("team-a", "web", "first");
    let mut logs = kubectl.start(&["logs", "-f", "web", "-n", "team-a"]);
    while logs.line().await.unwrap() != "first" {}
    world.api.append_log("team-a", "web", "second");
    assert_eq!(logs.line().await.unwrap(), "second");
    logs.child.kill().await.unwrap();
    world.api.requests_until(|seen| !seen.iter().any(|r| r.target.contains("/log?") && r.is_open)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_carries_streams_and_exit_codes() {
    // Proves that exec is a tunnel in both directions with its end intact.
    let (world, kubectl) = alice().await;
    let spdy = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await).over_spdy();
    let exec = |rest: &[&'static str]| [&["exec", "-n", "team-a", "web"], rest].concat();
    let input: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for kubectl in [kubectl, spdy] {
        assert_eq!(kubectl.ok(&exec(&["--", "echo", "hi"])).await, "hi\n");
        let failed = kubectl.run(&exec(&["--", "sh", "-c", "exit 3"])).await;
        assert_eq!(failed.code, Some(3), "{failed:?}");
        let copied = kubectl.run_with(&exec(&["-i", "--", "cat"]), &input).await;
        assert!(
            copied.stdout.as_bytes() == input,
            "{} bytes came back: {}",
            copied.stdout.len(),
            copied.stderr
        );
    }
    let upgrades = world.api.requests();
    let spoken = |name: &str| upgrades.iter().filter(|seen| seen.header("upgrade") == Some(name)).count();
    assert_eq!((spoken("websocket"), spoken("SPDY/3.1")), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_shows_what_the_container_says() {
    // Proves that attach is a tunnel too.
    let (world, kubectl) = alice().await;
    let old = Kubectl::old(&world.kubeconfig(&world.signed_in("alice").await).await);
    for kubectl in [kubectl, old] {
        let mut attached = kubectl.start(&["attach", "-i", "web", "-n", "team-a"]);
        let mut stdin = attached.stdin.take().unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        while !attached.line().await.unwrap().contains("hello") {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_the_api_servers_to_judge() {
    // Proves that a refusal comes in the API server's own words and that impersonation is checked against the user.
    let (world, alices) = alice().await;
    let bobs = Kubectl::new(&world.kubeconfig(&world.signed_in("bob").await).await);
    let bob = world.entra.user("bob").unwrap().kubernetes_name().to_owned();
    let refused = bobs.run(&["get", "pods", "-n", "team-a"]).await;
    assert_eq!(refused.code, Some(1));
    let words =
        format!("User \"{bob}\" cannot list resource \"pods\" in API group \"\" in the namespace \"team-a\"");
    assert!(refused.stderr.contains(&words), "{refused:?}");

    assert_eq!(alices.ok(&["auth", "can-i", "delete", "pods", "-n", "team-a"]).await, "yes\n");
    assert_eq!(bobs.run(&["auth", "can-i", "delete", "pods", "-n", "team-a"]).await.stdout, "no\n");
    let carol = ["--as", "carol@contoso.example", "auth", "whoami", "-o", "json"];
    assert!(alices.ok(&carol).await.contains("carol@contoso.example"));
    let refused = bobs.run(&["--as", "carol@contoso.example", "get", "pods", "-n", "team-b"]).await;
    assert!(refused.stderr.contains("cannot impersonate resource \"users\""), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_told_where_to_sign_in() {
    // Proves that the user reads the sentence with the address although kubectl hides a 401's body.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    world.api.put_pod("team-a", "web");
    let mut logs = kubectl.start(&["logs", "-f", "web", "-n", "team-a"]);
    world.api.requests_until(|seen| seen.iter().any(|r| r.target.contains("/log?") && r.is_open)).await;
    let mut exec = kubectl.start(&["exec", "-i", "-n", "team-a", "web", "--", "cat"]);
    let mut stdin = exec.stdin.take().unwrap();
    stdin.write_all(b"hello\n").await.unwrap();
    assert_eq!(exec.line().await.unwrap(), "hello");
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let signed_out = Instant::now();
    while exec.line().await.is_some() {}
    assert_ne!(exec.child.wait().await.unwrap().code(), Some(0), "a cut exec must not look successful");
    while logs.line().await.is_some() {}
    assert_ne!(logs.child.wait().await.unwrap().code(), Some(0), "a cut log must not look complete");
    assert!(signed_out.elapsed() < Duration::from_secs(1), "{:?}", signed_out.elapsed());
    let next = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
    let sentence = format!("Warning: Your sign-in has ended. Sign in again: {}/login", world.url);
    assert!(next.stderr.contains(&sentence), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_old_kubectl_works_too() {
    // Proves that kubectl 1.20 does what it can: it has no `auth whoami`, and it speaks SPDY only.
    let world = World::start().await;
    world.api.put_pod("team-a", "web");
    world.api.append_log("team-a", "web", "first");
    let old = Kubectl::old(&world.kubeconfig(&world.signed_in("alice").await).await);
    assert!(old.ok(&["get", "pods", "-n", "team-a"]).await.contains("web"));
    let applied = old.run_with(&["apply", "-f", "-"], configmap("red").as_bytes()).await;
    assert!(applied.stdout.contains("created"), "{applied:?}");
    assert!(old.ok(&["logs", "web", "-n", "team-a"]).await.contains("first"));
    assert_eq!(old.ok(&["auth", "can-i", "list", "pods", "-n", "team-a"]).await, "yes\n");
    old.ok(&["delete", "cm", "palette", "-n", "team-a"]).await;
    let mut watch = old.start(&["get", "pods", "-n", "team-a", "-w", "--no-headers"]);
    assert!(watch.line().await.unwrap().starts_with("web"));
    world.api.requests_until(|seen| seen.iter().any(|r| r.target.contains("watch=true") && r.is_open)).await;
    world.api.put_pod("team-a", "late");
    assert!(watch.line().await.unwrap().starts_with("late"));
    let failed = old.run(&["exec", "-n", "team-a", "web", "--", "sh", "-c", "echo out; exit 3"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(3), "out\n"), "{failed:?}");
}
