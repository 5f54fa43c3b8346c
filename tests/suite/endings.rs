//! What a user reads as something comes to its end, and how a token that waits works again.

use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::browser::{Browser, Page};
use standin::entra::{Endpoint, Fault};

use super::support::World;
use super::support::kubectl::Kubectl;

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_announced_in_the_last_tenth() {
    // Proves that kubectl's user reads how long there is and where to renew, for a session's end and for a token's.
    let world = World::start_with(|raw| raw.session_lifetime = Some("20h".to_owned())).await;
    // A renewal ahead of time begins right before the clock moves by hours, and does no harm.
    world.entra.set_access_token_lifetime(Some(67 * HOUR / 60));
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    let short = world.new_token(&browser, json!({ "lifetime_seconds": 3_600 })).await;
    let short = short["token"].as_str().unwrap();
    let warning = async |token: &str| world.call(Method::GET, PODS, token).await.header("warning").to_owned();
    assert_eq!(warning(short).await, "");
    world.advance(Duration::from_secs(53 * 60));
    assert_eq!(warning(short).await, "", "not before the last tenth");
    world.advance(Duration::from_secs(2 * 60));
    let expected = format!("299 - \"Your token ends in 5 minutes. Make a new one: {}/\"", world.url);
    assert_eq!(warning(short).await, expected);
    world.advance(18 * HOUR);
    let quiet = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    world.advance(Duration::from_secs(25 * 60));
    let told = kubectl.run(&["get", "pods", "-n", "team-a"]).await.stderr;
    let expected = format!("Warning: Your sign-in ends in 40 minutes. Sign in again: {}/login", world.url);
    assert!(told.contains(&expected), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_waits_for_its_user_is_armed_from_another_browser() {
    // Proves that a step-up done elsewhere, and one click, bring a kubeconfig back without a new download.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    world.entra.set_mfa_required(true);
    world.advance(2 * HOUR);
    let refused = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
    let sentence = "Your organisation asks for extra verification before you may use this cluster.";
    assert!(refused.stderr.contains(&format!("Warning: {sentence}")), "{refused:?}");

    let other = world.browser();
    let mut page = other.sign_in(&world.url, "alice").await.unwrap();
    if !page.url.as_str().starts_with(&world.url) {
        page = other.choose(page, "alice").await.unwrap();
    }
    assert_eq!(page.url.as_str(), world.at("/"));
    world.keep_secret(world.session_cookie(&other).unwrap());
    let list = other.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    assert_eq!(list["tokens"][0]["state"], "dormant");
    assert_ne!(kubectl.run(&["get", "pods", "-n", "team-a"]).await.code, Some(0), "not before the click");
    let origin = [("origin", world.url.as_str())];
    let armed = other.post_json(&world.at("/tokens/arm"), &json!({}), &origin).await.unwrap().json().unwrap();
    assert_eq!(armed["tokens"][0]["state"], "active");
    kubectl.ok(&["get", "pods", "-n", "team-a"]).await;
    assert!(!world.entra.loop_detected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_in_the_same_browser_needs_no_click() {
    // Proves that the tokens of the session that steps up move along with it.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.entra.set_mfa_required(true);
    world.advance(2 * HOUR);
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "step_up_required");
    let page = browser.navigate(&world.at("/login")).await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!(page.url.as_str(), world.at("/"), "{}", page.text());
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let scopes: Vec<String> =
        world.entra.authorize_calls().iter().filter_map(|call| call.get("scope").cloned()).collect();
    assert_eq!(scopes.iter().filter(|scope| scope.contains("6dae42f8")).count(), 1, "{scopes:?}");
}

/// From a page of ours or of the stand-in Entra's: alice, until she is home again.
async fn back_home(world: &World, browser: &Browser, page: Page) {
    let page = browser.choose(page, "alice").await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!(page.url.as_str(), world.at("/"), "{}", page.text());
    world.keep_secret(world.session_cookie(browser).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_made_after_a_step_up_has_worked_leads_to_another_one() {
    // Proves that "at most once" is meant for one demand: after a token that works, the next demand is a new one.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    world.entra.set_mfa_required(true);
    let browser = world.browser();
    let page = browser.sign_in(&world.url, "alice").await.unwrap();
    back_home(&world, &browser, page).await;
    let token = world.token(&browser).await;
    let steps = || {
        let calls = world.entra.authorize_calls();
        calls.iter().filter(|call| call.get("scope").is_some_and(|scope| scope.contains("6dae42f8"))).count()
    };
    for step_ups in 2..4 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
        world.advance(20 * HOUR);
        world.entra.set_refused_with("alice", Some(50078));
        let demand = world.call(Method::GET, PODS, &token).await;
        assert_eq!((demand.status.as_u16(), demand.header("entrada-reason")), (401, "step_up_required"));
        world.entra.set_refused_with("alice", None);
        let page = browser.navigate(&world.at("/login")).await.unwrap();
        back_home(&world, &browser, page).await;
        assert_eq!(steps(), step_ups);
    }
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_that_no_step_up_meets_is_told_and_does_not_go_round() {
    // Proves that a step-up whose token is too short to be used is not taken for one that met its demand.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    world.entra.fail_always(Endpoint::TokenRefresh, Fault::Error(50076));
    let browser = world.browser();
    let page = browser.sign_in(&world.url, "alice").await.unwrap();
    back_home(&world, &browser, page).await;
    let html = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    for _ in 0..3 {
        let page = browser.get_with(&world.at(PODS), &html).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "blocked_by_policy"));
        world.advance(Duration::from_secs(61));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_blocked_user_waits_for_a_click_after_the_next_sign_in() {
    // Proves that whoever was blocked gets nothing back but by hand, and by no hand where arming is off.
    for rearm in ["ask", "off"] {
        let world = World::start_with(|raw| raw.rearm = Some(rearm.to_owned())).await;
        world.entra.set_access_token_lifetime(Some(HOUR));
        let browser = world.signed_in("alice").await;
        let token = world.token(&browser).await;
        let reason = async || world.call(Method::GET, PODS, &token).await.header("entrada-reason").to_owned();
        // A block that ended before the sign-in leaves no trace.
        for passes in [true, false] {
            world.advance(2 * HOUR);
            world.entra.set_assigned("alice", false);
            assert_eq!(reason().await, "blocked_by_policy");
            world.entra.set_assigned("alice", true);
            world.advance(Duration::from_secs(61));
            if passes {
                assert_eq!(reason().await, "");
                browser.sign_in(&world.url, "alice").await.unwrap();
                world.keep_secret(world.session_cookie(&browser).unwrap());
                assert_eq!(reason().await, "", "{rearm}");
            }
        }
        browser.sign_in(&world.url, "alice").await.unwrap();
        world.keep_secret(world.session_cookie(&browser).unwrap());
        assert_eq!(reason().await, "session_ended", "{rearm}: not without a click");
        let origin = [("origin", world.url.as_str())];
        let armed = browser.post_json(&world.at("/tokens/arm"), &json!({}), &origin).await.unwrap();
        assert_eq!((armed.status == 200, reason().await.is_empty()), (rearm == "ask", rearm == "ask"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_kubeconfig_works_again_after_one_click() {
    // Proves that a session's natural end costs no download, only a sign-in and a click; and that a revoked token does
    // not come back.
    let world = World::start_with(|raw| raw.session_lifetime = Some("12h".to_owned())).await;
    let browser = world.signed_in("alice").await;
    let kubectl = Kubectl::new(&world.kubeconfig(&browser).await);
    let revoked = world.new_token(&browser, json!({})).await;
    kubectl.ok(&["get", "pods", "-n", "team-a"]).await;
    let origin = [("origin", world.url.as_str())];
    let id = revoked["id"].as_str().unwrap();
    browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    world.advance(24 * HOUR);
    let ended = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
    assert!(ended.stderr.contains("Warning: Your sign-in has ended."), "{ended:?}");
    browser.sign_in(&world.url, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_ne!(kubectl.run(&["get", "pods", "-n", "team-a"]).await.code, Some(0), "not before the click");
    browser.post_form(&world.at("/tokens/arm"), &[], &origin).await.unwrap();
    kubectl.ok(&["get", "pods", "-n", "team-a"]).await;
    let token = revoked["token"].as_str().unwrap();
    assert_eq!(world.call(Method::GET, PODS, token).await.header("entrada-reason"), "unknown_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_can_lead_on_to_entras_own() {
    // Proves that Entra's sign-in ends too where that is wanted, and that the browser comes back.
    let world = World::start_with(|raw| raw.sign_out = Some("entra".to_owned())).await;
    world.entra.set_redirect_uris(vec![world.at("/callback"), world.at("/")]);
    let browser = world.signed_in("alice").await;
    let origin = [("origin", world.url.as_str())];
    let answer = browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let entra = answer.location().unwrap();
    assert!(entra.as_str().starts_with(&world.entra.origin()), "{entra}");
    assert_eq!(world.session_cookie(&browser), None);
    let back = browser.get(entra.as_str()).await.unwrap().location().unwrap();
    assert_eq!(back.as_str().trim_end_matches('#'), world.at("/"));
}
