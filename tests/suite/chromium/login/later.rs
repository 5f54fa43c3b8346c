//! What becomes of a kubeconfig later: the session ends, the token is revoked, Entra wants its user again.

use std::time::Duration;

use super::super::super::support::World;
use super::super::super::support::webdriver::Chromium;
use super::{GET_PODS, allow, assert_pods, logged_in, pick_alice, pods_in_terminal, world};

async fn revoke_by_button(world: &World, browser: &Chromium) {
    browser.open(&world.url).await;
    browser.press("Revoke").await;
    browser.press("Revoke it").await;
    browser.sees("Revoked.").await;
}

/// How often a computer was given a token.
async fn handed_over(world: &World) -> f64 {
    world.metric("entrada_handovers_total{step=\"fetched\",way=\"loopback\"}").await
}

/// Proves that a token which is kept here, and whose session has ended, costs one sentence where nobody sits before
/// kubectl, and of two kubectls in terminals opens one browser, after which both go on.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_kubectls_with_a_stale_token_one_signs_in() {
    let world = world().await;
    let (home, browser) = logged_in(&world).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
    browser.open(&world.url).await;
    browser.press("Sign out").await;
    browser.sees("You are signed out").await;
    let told = format!("entrada: Your sign-in has ended. Run: entrada login {}\n", world.url);
    home.kubectl(&GET_PODS).await.assert(1, &told);

    let (first, second) = (pods_in_terminal(&home), pods_in_terminal(&home));
    browser.open(home.opened().await.as_str()).await;
    pick_alice(&world, &browser).await;
    allow(&browser).await;
    let both = [first.ended().await, second.ended().await];
    world.keep_secret(home.token());
    both.iter().for_each(assert_pods);
    let waited = both.iter().filter(|ended| ended.said.contains("Another process is signing in.")).count();
    assert_eq!((waited, handed_over(&world).await), (1, 2.0), "{both:?}");
}

/// Proves that a token revoked on the portal is not sent for ever: kubectl ends with what to run, asks its person once
/// and not five times where that one refuses, and works after one click.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_told_once_and_replaced_by_a_click() {
    let world = world().await;
    let (home, browser) = logged_in(&world).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
    revoke_by_button(&world, &browser).await;
    let told = format!("entrada: This token is unknown or was revoked. Run: entrada login {}\n", world.url);
    home.kubectl(&GET_PODS).await.assert(1, &told);
    let requests = world.logged("\"unknown_token\"");
    let requests = requests.iter().filter(|line| line.contains("\"message\":\"request\"")).count();
    assert_eq!(requests, 2, "one of kubectl's, and one look of ours");

    // kubectl asks five times while it does not know what the cluster has.
    std::fs::remove_dir_all(home.path(".kube/cache/discovery")).unwrap();
    let kubectl = pods_in_terminal(&home);
    browser.open(home.opened().await.as_str()).await;
    browser.press("Refuse").await;
    browser.sees("Your computer was given nothing").await;
    // A browser opened once more would wait for a click, and kubectl for it.
    kubectl.ended().await.assert(1, "The request was refused in the browser.");

    let kubectl = pods_in_terminal(&home);
    browser.open(home.opened().await.as_str()).await;
    allow(&browser).await;
    let ended = kubectl.ended().await;
    world.keep_secret(home.token());
    assert_pods(&ended);

    // kubectl that learns it from the server does not repeat its request, and its person is told so.
    revoke_by_button(&world, &browser).await;
    let kubectl = pods_in_terminal(&home);
    browser.open(home.opened().await.as_str()).await;
    allow(&browser).await;
    kubectl.ended().await.assert(1, "run the same command again");
    world.keep_secret(home.token());
    assert_pods(&home.kubectl(&GET_PODS).await);
}

/// Proves that kubectl names the address at which the demand is met, that nothing is opened or thrown away meanwhile, and
/// that the same kubeconfig and token work afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_needs_its_user_works_again_after_the_step_up() {
    let world = world().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let (home, browser) = logged_in(&world).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
    let (kubeconfig, token) = (home.read(".kube/config"), home.token());
    world.entra.set_mfa_required(true);
    let told = format!(
        "Warning: Your organisation asks for extra verification before you may use this cluster. Continue in a browser: {}/login",
        world.url
    );
    home.kubectl(&GET_PODS).await.assert(1, &told);
    world.entra.set_access_token_lifetime(None);
    browser.open(&world.at("/login")).await;
    browser.sees("second factor").await;
    pick_alice(&world, &browser).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
    assert_eq!((home.read(".kube/config"), home.token()), (kubeconfig, token));
}
