//! The portal's own affairs: other browsers, all tokens at once, a cluster that does not answer, a session that ends.

use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::apiserver::Fault;

use super::super::support::kubectl::Kubectl;
use super::{PODS, alice, assert_no_complaint, pick_alice, token_by_form, world};

/// Proves that the portal asks the cluster itself who its user is, as that user, and folds a long list of groups.
#[tokio::test(flavor = "multi_thread")]
async fn the_portal_shows_the_groups_that_the_cluster_sees() {
    let world = world().await;
    let groups: Vec<_> = (0..120_u32).map(|n| format!("6e0a0000-0000-4000-8000-{n:012}")).collect();
    world.entra.edit_user("alice", |alice| alice.groups.clone_from(&groups));
    let browser = alice(&world).await;
    let name = world.entra.user("alice").unwrap().kubernetes_name().to_owned();
    browser.sees("The cluster knows you as").await;
    assert!(!browser.text().await.contains(&groups[0]), "the list is not folded");
    // The cluster adds `system:authenticated`.
    browser.press("121 groups").await;
    browser.sees(&groups[0]).await;
    browser.sees("And 61 more:").await;
    world.api.assert_only_users(&[&name]);
    assert_no_complaint(&world, &browser).await;
}

/// Proves that a cluster that does not answer delays the portal by about a second, and that the page says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_said_so() {
    let world = world().await;
    let browser = alice(&world).await;
    world.api.fault("/apis/authentication", Fault::DelayHead(Duration::from_secs(600)));
    let began = std::time::Instant::now();
    browser.open(&world.url).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    browser.sees("Not reachable").await;
    browser.sees("not known: the cluster did not say").await;
    world.api.kill().await;
    browser.open(&world.url).await;
    browser.sees("Not reachable").await;
    world.api.clear_faults();
    world.api.restart().await.unwrap();
    browser.open(&world.url).await;
    browser.sees("Reachable").await;
    assert_no_complaint(&world, &browser).await;
}

/// Proves that another browser stands in the list with its address, and that one click ends it and not this one.
#[tokio::test(flavor = "multi_thread")]
async fn another_browser_is_signed_out_from_here() {
    let world = world().await;
    let other = world.signed_in("alice").await;
    let token = world.token(&other).await;
    let browser = alice(&world).await;
    for text in ["Chrome on Linux", "this one", "from 127.0.0.1"] {
        browser.sees(text).await;
    }
    browser.click("[popovertarget^=b-]").await;
    browser.press("Sign it out").await;
    browser.sees("The other browser is signed out.").await;
    assert_eq!(other.get(&world.at("/whoami")).await.unwrap().status, 401);
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 401);
    // Its token is dormant, and its owner may arm it here.
    browser.press("Arm").await;
    browser.sees("Armed.").await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    assert_no_complaint(&world, &browser).await;
}

/// Proves that nobody signs out somebody else's browser by its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_another_user_is_out_of_reach() {
    let world = world().await;
    let (alice, bob) = (world.signed_in("alice").await, world.signed_in("bob").await);
    let whoami = bob.get(&world.at("/whoami")).await.unwrap().json().unwrap();
    let id = whoami["credential"]["id"].as_str().unwrap();
    let origin = [("origin", world.url.as_str())];
    let answer = alice.post_form(&world.at("/logout"), &[("browser", id)], &origin).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(bob.get(&world.at("/whoami")).await.unwrap().status, 200);
    assert_eq!(alice.get(&world.at("/whoami")).await.unwrap().status, 200, "nor their own by mistake");
}

/// Proves that all dormant tokens are armed at once, and all tokens revoked at once, without a script.
#[tokio::test(flavor = "multi_thread")]
async fn all_tokens_are_armed_and_revoked_at_once_without_a_script() {
    let world = world().await;
    let browser = alice(&world).await;
    let tokens = [token_by_form(&world, &browser, "one").await, token_by_form(&world, &browser, "two").await];
    browser.press("Sign out").await;
    browser.press("Sign in again").await;
    pick_alice(&world, &browser).await;
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.open(&world.url).await;
    browser.press("Arm all").await;
    browser.sees("Armed.").await;
    for token in &tokens {
        assert_eq!(world.call(Method::GET, PODS, token).await.status, 200);
    }
    browser.press("Revoke all").await;
    browser.sees("Revoke all 2 tokens?").await;
    browser.press("Revoke all of them").await;
    browser.sees("None yet.").await;
    for token in &tokens {
        assert_eq!(world.call(Method::GET, PODS, token).await.status, 401);
    }
    browser.press("Download kubeconfig").await;
    let file = browser.downloaded("stand-in.yaml").await;
    let text = std::fs::read_to_string(&file).unwrap();
    let token = text.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    world.keep_secret(token.trim_matches('"'));
    Kubectl::new(&file).ok(&["get", "pods", "-n", "team-a"]).await;
}

/// Proves that a click after the session's end leads to a sign-in and back to the portal, by form and by script.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_under_an_open_page_leads_to_a_sign_in_and_back() {
    let world = world().await;
    let browser = alice(&world).await;
    for button in ["Renew my access", "Download kubeconfig"] {
        let other = world.signed_in("alice").await;
        let origin = [("origin", world.url.as_str())];
        other.post_form(&world.at("/logout/everywhere"), &[], &origin).await.unwrap();
        browser.press(button).await;
        browser.sees("Please sign in").await;
        // Entra's own sign-in still stands, so it asks nothing.
        browser.press("Sign in").await;
        browser.sees("Alice Admin").await;
        world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());
        assert_eq!(browser.url().await, world.at("/"));
    }
}

/// Proves that the portal is one document with its files: no call of a script's follows, and nothing of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_portal_is_one_round_trip_and_is_not_kept() {
    let world = world().await;
    let browser = alice(&world).await;
    let _earlier = browser.answers().await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    let answers = browser.answers().await;
    let document = answers.iter().find(|answer| answer.url == world.at("/")).unwrap();
    assert_eq!((document.status, document.header("cache-control")), (200, "no-store"));
    let more: Vec<_> =
        answers.iter().map(|answer| &answer.url).filter(|url| **url != world.at("/")).collect();
    assert!(more.iter().all(|url| url.starts_with(&world.at("/assets/"))), "{more:?}");
}
