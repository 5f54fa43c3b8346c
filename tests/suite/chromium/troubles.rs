//! What a browser shows when something stands between a person and the cluster. Leaves pictures for
//! `docs/troubleshooting.md`.

use super::super::support::World;
use super::super::support::webdriver::Chromium;
use super::{PODS, alice, picture, world};

/// Leaves a picture of the page as it is, at the width of a desk.
async fn keep(browser: &Chromium, name: &str) {
    let screen = serde_json::json!({ "width": 900, "height": 460, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    browser.picture(&picture(&format!("trouble-{name}.png"))).await;
}

/// Alice, whose next AKS token must be asked for anew.
async fn due() -> (World, Chromium) {
    let world = world().await;
    let browser = alice(&world).await;
    world.advance(std::time::Duration::from_secs(3 * 3_600));
    (world, browser)
}

/// Proves that a user who is not assigned reads whom to ask, with the id to give on.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_assignment_is_a_page_that_says_whom_to_ask() {
    let (world, browser) = due().await;
    world.entra.set_assigned("alice", false);
    browser.open(&world.at(PODS)).await;
    browser.sees("You are not assigned to this application.").await;
    browser.sees("AADSTS50105").await;
    keep(&browser, "assignment").await;
}

/// Proves that withdrawn consent names the address at which to give it, on the page and on the portal.
#[tokio::test(flavor = "multi_thread")]
async fn withdrawn_consent_is_a_page_with_the_address_to_give_it() {
    let (world, browser) = due().await;
    world.entra.set_admin_consent(false);
    browser.open(&world.at(PODS)).await;
    browser.sees("An administrator must first grant this application access").await;
    browser.sees("/adminconsent?client_id=").await;
    keep(&browser, "consent").await;
    browser.open(&world.url).await;
    browser.sees("An administrator must first grant this application access").await;
}

/// Proves that a wrong federated credential is said to be an administrator's, not the user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_federated_credential_is_an_administrators_page() {
    let (world, browser) = due().await;
    let issuer = world.entra.cluster_issuer();
    world.entra.set_federated_credential(Some((&issuer, "system:serviceaccount:other:other")));
    browser.open(&world.at(PODS)).await;
    browser.sees("Entra does not accept Entrada's workload identity").await;
    browser.sees("AADSTS700213").await;
    keep(&browser, "federation").await;
}

/// Proves that a demand which one step-up does not meet ends on a page, and not in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_stays_blocked_ends_on_a_page() {
    let (world, browser) = due().await;
    world.entra.set_refused_with("alice", Some(53000));
    browser.open(&world.at(PODS)).await;
    // The one step-up: Entra asks interactively, and refuses all the same.
    browser.click("button[value=alice]").await;
    browser.sees("Your organisation asks for a managed device or an approved app.").await;
    browser.sees("AADSTS53000").await;
    keep(&browser, "device").await;
    let interactive = world.entra.authorize_calls().len();
    assert!(interactive <= 3, "the browser went round {interactive} times");
    assert!(!world.entra.loop_detected());
}
