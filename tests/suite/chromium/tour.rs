//! A walk past every page, for whoever wants to look at each: by eye, or with a program.

use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::apiserver::Fault;

use super::super::support::World;
use super::super::support::webdriver::Chromium;
use super::{pick_alice, token_by_form};

const DAY: Duration = Duration::from_secs(86_400);

/// An address that never changes, so that pictures do not either.
const HOME: &str = "https://k8s.example.com";

/// Has `look` see each page in turn, with its name; the browser may be resized.
pub(super) async fn tour(mut look: impl AsyncFnMut(&Chromium, &str)) {
    let mut world = World::start_with(|raw| {
        raw.public_url = Some(HOME.to_owned());
        raw.cluster_name = Some("production".to_owned());
    })
    .await;
    let address = world.url.replace("https://", "");
    world.url = HOME.to_owned();
    world.entra.set_redirect_uris(vec![world.at("/callback")]);
    let browser = Chromium::start(world.ca.pem(), &format!("MAP k8s.example.com {address}")).await;

    browser.open(HOME).await;
    browser.press("Cancel").await;
    browser.sees("You are not signed in").await;
    look(&browser, "cancelled").await;
    browser.press("Sign in").await;
    browser.comes_to(&world.entra.origin()).await;
    pick_alice(&world, &browser).await;
    browser.sees("None yet.").await;
    look(&browser, "first").await;

    token_by_form(&world, &browser, "laptop").await;
    look(&browser, "token").await;
    // What was made before a sign-out is dormant; what is made after it works.
    browser.click("header form button").await;
    browser.sees("You are signed out").await;
    look(&browser, "signed-out").await;
    world.advance(3 * DAY);
    browser.press("Sign in again").await;
    let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0";
    browser.devtools("Network.setUserAgentOverride", json!({ "userAgent": mac })).await;
    pick_alice(&world, &browser).await;
    // Another browser, as far as Entrada can know.
    browser.devtools("Network.deleteCookies", json!({ "name": "__Host-entrada", "url": HOME })).await;
    browser.devtools("Network.setUserAgentOverride", json!({ "userAgent": "" })).await;
    world.advance(DAY / 8);
    browser.open(HOME).await;
    browser.sees("Alice Admin").await;
    world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());
    let token = token_by_form(&world, &browser, "ci-pipeline").await;
    token_by_form(&world, &browser, "headlamp").await;
    world.entra.edit_user("alice", |alice| {
        alice.groups = (0..14_u32).map(|n| format!("6e0a0000-0000-4000-8000-{n:012}")).collect();
    });
    // As the token would be used, from kubectl.
    let bearer = format!("Bearer {token}");
    assert_eq!(browser_less(&world, &address, &bearer).await, 200);
    world.advance(DAY / 12);
    browser.open(HOME).await;
    browser.press("Renew my access").await;
    browser.sees("Your access is renewed.").await;
    look(&browser, "portal").await;
    browser.press("Revoke").await;
    browser.sees("Revoke “headlamp”?").await;
    look(&browser, "question").await;
    computers(&world, &browser, &address, &mut look).await;
    troubles(&world, &browser, &mut look).await;
}

/// Computers that ask to act as the person.
async fn computers(
    world: &World,
    browser: &Chromium,
    address: &str,
    look: &mut impl AsyncFnMut(&Chromium, &str),
) {
    let query = "response_type=code&redirect_uri=http://127.0.0.1:51234/callback&state=0123456789abcdefghij-_&\
                 code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&\
                 client_name=alice-laptop";
    browser.open(&world.at(&format!("/cli/authorize?{query}"))).await;
    browser.sees("6924").await;
    look(browser, "computer").await;

    browser.open(&world.at("/device")).await;
    browser.enter("input[name=user_code]", "BBBB-BBBB").await;
    browser.press("Go on").await;
    browser.sees("No computer waits with this code.").await;
    look(browser, "device").await;
    let url = format!("https://{}/device/code", address.replace("127.0.0.1", "localhost"));
    let codes = world.browser().post_form(&url, &[("client_name", "build-box")], &[]).await.unwrap();
    let codes: serde_json::Value = codes.json().unwrap();
    browser.enter("input[name=user_code]", codes["user_code"].as_str().unwrap()).await;
    browser.press("Go on").await;
    browser.sees("build-box").await;
    look(browser, "device-question").await;
}

/// What stands between a person and the cluster.
async fn troubles(world: &World, browser: &Chromium, look: &mut impl AsyncFnMut(&Chromium, &str)) {
    world.api.fault("/apis/authentication", Fault::DelayHead(Duration::from_secs(60)));
    browser.open(HOME).await;
    browser.sees("Not reachable").await;
    look(browser, "away").await;
    world.api.clear_faults();

    browser.open(&world.at("/api/v1/namespaces/team-a/services/web/proxy/")).await;
    browser.sees("Not allowed").await;
    look(browser, "error").await;

    // A policy's demand that signing in again does not meet.
    world.advance(DAY / 8);
    world.entra.set_refused_with("alice", Some(53000));
    browser.open(&world.at("/api/v1/namespaces")).await;
    browser.click("button[value=alice]").await;
    browser.sees("Your organisation asks for").await;
    look(browser, "step-up").await;

    // The session ends while a page of it is open.
    world.entra.set_refused_with("alice", None);
    browser.open(HOME).await;
    browser.devtools("Network.deleteCookies", json!({ "name": "__Host-entrada", "url": HOME })).await;
    browser.press("Renew my access").await;
    browser.sees("Please sign in").await;
    look(browser, "sign-in-needed").await;
}

/// The status of a list of pods, asked for with a token and no browser.
async fn browser_less(world: &World, address: &str, bearer: &str) -> u16 {
    let url = format!("https://{}/api/v1/namespaces/team-a/pods", address.replace("127.0.0.1", "localhost"));
    let headers = [("authorization", bearer)];
    let page = world.browser().request(Method::GET, &url, &headers, bytes::Bytes::new()).await.unwrap();
    page.status.as_u16()
}
