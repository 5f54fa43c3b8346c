//! What a person does, in a real Chromium.
//!
//! Entrada is `127.0.0.1` here and Entra `localhost`, two sites, as they are in life. Pictures of the pages are left in
//! `target/tmp/pages/`; `make screenshots` puts those of the tour into `docs/images/`.

mod accessibility;
mod answers;
mod cached;
mod foreign;
mod handover;
mod login;
mod looks;
mod mounts;
mod origins;
mod portal;
mod sites;
mod socket;
mod tour;
mod troubles;

use std::path::Path;

use http::Method;

use super::support::World;
use super::support::kubectl::Kubectl;
use super::support::webdriver::Chromium;

const PODS: &str = "/api/v1/namespaces/team-a/pods";

/// A world that browsers know by an address which is not Entra's.
async fn world() -> World {
    let foreign = |url: &str| url.replace("localhost", "127.0.0.1");
    let mut world = World::start_with(|raw| raw.public_url = raw.public_url.as_deref().map(foreign)).await;
    world.url = foreign(&world.url);
    world.entra.set_redirect_uris(vec![world.at("/callback")]);
    world
}

/// A Chromium whose user opened the public URL and picked alice at Entra.
async fn alice(world: &World) -> Chromium {
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.url).await;
    pick_alice(world, &browser).await;
    browser
}

async fn pick_alice(world: &World, browser: &Chromium) {
    browser.click("button[value=alice]").await;
    browser.sees("Alice Admin").await;
    world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());
}

/// Makes a token by the portal's form; the token.
async fn token_by_form(world: &World, browser: &Chromium, name: &str) -> String {
    browser.press("Create a token without a kubeconfig").await;
    browser.enter("form[action=\"/tokens\"] input[name=name]", name).await;
    browser.press("Create token").await;
    browser.sees(&format!("Your new token “{name}”")).await;
    let token = browser.read("#token").await;
    world.keep_secret(&token);
    token
}

/// Nothing on our own pages made the browser complain: no error in a script, nothing that a policy refused. Left out is
/// the icon that it seeks by itself for an answer of the cluster's, which may load nothing.
async fn assert_no_complaint(world: &World, browser: &Chromium) {
    let complaints = browser.complaints().await;
    let ours: Vec<_> = complaints
        .iter()
        .filter(|text| !text.contains(&world.entra.origin()) && !text.contains("/favicon.ico"))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Where a test leaves a picture.
fn picture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages").join(name)
}

/// Proves that a person who opens the public URL is led through Entra to a portal that says who, where and how long.
#[tokio::test(flavor = "multi_thread")]
async fn the_portal_says_who_you_are_where_and_for_how_long() {
    let world = world().await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.url).await;
    assert!(browser.url().await.starts_with(&world.entra.origin()));
    pick_alice(&world, &browser).await;
    assert_eq!(browser.url().await, world.at("/"));
    for text in ["stand-in", &world.url, "Reachable", "You can use this cluster.", "It ends in 7 days."] {
        browser.sees(text).await;
    }
    assert_eq!(browser.run("return document.cookie").await, "", "a script can read a cookie");
    assert_no_complaint(&world, &browser).await;
}

/// Proves that copy buttons copy, and that where a browser has no clipboard they select the text instead.
#[tokio::test(flavor = "multi_thread")]
async fn copy_buttons_copy_or_select() {
    let world = world().await;
    let browser = alice(&world).await;
    browser.click(".address .copy").await;
    browser.sees("Copied").await;
    // Control and V.
    browser.press("Name and lifetime").await;
    browser.enter("input[name=name]", "\u{e009}v").await;
    let pasted = browser.run("return document.querySelector('input[name=name]').value").await;
    assert_eq!(pasted, world.url.as_str());
    browser.permit("clipboard-write", false).await;
    browser.click(".commands .copy").await;
    browser.sees("Selected").await;
    let selected = browser.run("return getSelection().toString()").await;
    assert!(selected.as_str().unwrap().ends_with("kubectl get pods"), "{selected}");
    assert_no_complaint(&world, &browser).await;
}

/// Proves that a token made by the form is shown once, works, and stops at the press of its button.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_works_and_ends_by_its_button() {
    let world = world().await;
    let browser = alice(&world).await;
    let token = token_by_form(&world, &browser, "ci").await;
    let answer = world.call(Method::GET, PODS, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    browser.open(&world.url).await;
    browser.sees("Your tokens").await;
    let source = browser.run("return document.documentElement.outerHTML").await;
    assert!(!source.as_str().unwrap().contains(&token[..20]), "shown twice");
    browser.press("Revoke").await;
    browser.sees("Revoke “ci”?").await;
    browser.press("Revoke it").await;
    browser.sees("Revoked.").await;
    browser.sees("None yet.").await;
    let answer = world.call(Method::GET, PODS, &token).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_no_complaint(&world, &browser).await;
}

/// Proves that the button brings a file, and that kubectl needs nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_downloaded_kubeconfig_is_all_that_kubectl_needs() {
    let world = world().await;
    let browser = alice(&world).await;
    browser.press("Name and lifetime").await;
    browser.enter("input[name=name]", "laptop").await;
    browser.press("Download kubeconfig").await;
    let file = browser.downloaded("stand-in.yaml").await;
    let text = std::fs::read_to_string(&file).unwrap();
    let token = text.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    world.keep_secret(token.trim_matches('"'));
    let pods = Kubectl::new(&file).ok(&["get", "pods", "-n", "team-a"]).await;
    assert!(pods.contains("web"), "{pods}");
    browser.sees("Your kubeconfig is downloaded.").await;
    assert_eq!(browser.read("tbody .name").await, "laptop");
    assert_no_complaint(&world, &browser).await;
}

/// Proves that the button fetches a fresh AKS token and says so, and that a second press too soon is explained.
#[tokio::test(flavor = "multi_thread")]
async fn access_is_renewed_by_a_button() {
    let world = world().await;
    let browser = alice(&world).await;
    let before = world.entra.calls().token_refresh;
    browser.press("Renew my access").await;
    browser.sees("Your access is renewed.").await;
    assert_eq!(world.entra.calls().token_refresh, before + 1);
    assert_no_complaint(&world, &browser).await;
    browser.press("Renew my access").await;
    browser.sees("Your access was renewed a moment ago.").await;
    browser.press("Open the portal").await;
    browser.sees("Alice Admin").await;
}

/// Proves that two tabs may stand at Entra at once, and that each sign-in ends well.
#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_sign_in_at_the_same_time() {
    let world = world().await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.url).await;
    let first = browser.tab().await;
    let second = browser.new_tab().await;
    browser.open(&world.at(PODS)).await;
    browser.look_at(&first).await;
    pick_alice(&world, &browser).await;
    browser.look_at(&second).await;
    browser.click("button[value=alice]").await;
    browser.comes_to(&world.at(PODS)).await;
    browser.sees("PodList").await;
    browser.look_at(&first).await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());
    assert_no_complaint(&world, &browser).await;
}

/// Proves that a sign-out is one: Entra asks for the account next time, tokens rest, and one click wakes them.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_sign_out_entra_asks_for_the_account() {
    let world = world().await;
    let browser = alice(&world).await;
    let token = token_by_form(&world, &browser, "ci").await;
    browser.press("Sign out").await;
    browser.sees("You are signed out").await;
    browser.press("Sign in again").await;
    browser.comes_to(&world.entra.origin()).await;
    assert!(browser.url().await.contains("prompt=select_account"), "{}", browser.url().await);
    browser.sees("Pick an account").await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 401);
    browser.open(&world.url).await;
    browser.sees("Pick an account").await;
    pick_alice(&world, &browser).await;
    browser.sees("dormant").await;
    browser.press("Arm").await;
    browser.sees("Armed.").await;
    assert!(!browser.text().await.contains("dormant"));
    browser.sees("Alice Admin").await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    assert_no_complaint(&world, &browser).await;
}

/// Proves that signing out everywhere asks first, ends the tokens for ever, and also ends at Entra's question.
#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_tokens_for_ever() {
    let world = world().await;
    let browser = alice(&world).await;
    let token = token_by_form(&world, &browser, "ci").await;
    browser.press("Sign out everywhere").await;
    browser.sees("Sign out everywhere?").await;
    browser.press("Sign out and end all tokens").await;
    browser.sees("all your tokens have ended").await;
    browser.press("Sign in again").await;
    browser.sees("Pick an account").await;
    pick_alice(&world, &browser).await;
    browser.sees("None yet.").await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 401);
    assert_no_complaint(&world, &browser).await;
}

/// Proves that who gives up at Entra gets a page that says so, with a way back in that works.
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_at_entra_gets_a_way_back() {
    let world = world().await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.url).await;
    browser.press("Cancel").await;
    browser.sees("You are not signed in").await;
    let answers = browser.answers().await;
    let page = answers.iter().find(|answer| answer.url.starts_with(&world.at("/callback"))).unwrap();
    assert_eq!(page.status, 400);
    browser.picture(&picture("cancelled.png")).await;
    browser.press("Sign in").await;
    browser.comes_to(&world.entra.origin()).await;
    pick_alice(&world, &browser).await;
    assert_eq!(browser.url().await, world.at("/"));
}

/// Proves that a Kubernetes path works as a link: through the sign-in, back to it, and its answer can do nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubernetes_path_leads_through_the_sign_in_and_back() {
    let world = world().await;
    let browser = Chromium::start(world.ca.pem(), "").await;
    let path = format!("{PODS}?limit=5");
    browser.open(&world.at(&path)).await;
    browser.click("button[value=alice]").await;
    browser.sees("\"PodList\"").await;
    assert_eq!(browser.url().await, world.at(&path));
    world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());
    let answers = browser.answers().await;
    let json = answers.iter().find(|answer| answer.url == world.at(&path)).unwrap();
    assert_eq!(json.status, 200);
    assert_eq!(json.header("content-security-policy"), "sandbox; frame-ancestors 'none'");
    assert_eq!(browser.run("return self.origin").await, "null", "it speaks under our origin");
    assert_no_complaint(&world, &browser).await;
}
