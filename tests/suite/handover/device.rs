//! A computer without a browser: its code is typed in elsewhere.

use std::time::Duration;

use serde_json::Value;
use standin::browser::{Browser, Page};

use super::super::support::World;
use super::{PODS, error, post, tokens};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A computer asks; what it is told, and its codes.
pub(crate) async fn ask(world: &World, name: &str) -> (Value, String, String) {
    let (status, told) = post(world, "/device/code", &[("client_name", name)]).await;
    assert_eq!(status, 200, "{told}");
    let text = |field: &str| told[field].as_str().unwrap().to_owned();
    let (device_code, user_code) = (text("device_code"), text("user_code"));
    world.keep_secret(&device_code);
    (told, device_code, user_code)
}

pub(crate) async fn poll(world: &World, device_code: &str) -> (u16, Value) {
    let answer = post(world, "/device/token", &[("grant_type", GRANT), ("device_code", device_code)]).await;
    if let Some(token) = answer.1["token"].as_str() {
        world.keep_secret(token);
    }
    answer
}

/// Types a code on the page, and reads what follows.
pub(crate) async fn enter(world: &World, browser: &Browser, user_code: &str) -> Page {
    let page = browser.navigate(&world.at("/device")).await.unwrap();
    browser.submit(&page, &[("user_code", user_code)]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computer_without_a_browser_gets_a_token_by_its_code() {
    // Proves the way of RFC 8628: the code is typed, the page says which computer asks, and the token is told once.
    let world = World::start().await;
    let (told, device_code, user_code) = ask(&world, "build-box").await;
    assert_eq!(told["verification_uri"], world.at("/device"));
    assert!(
        told.get("verification_uri_complete").is_none(),
        "nobody is led to a page that wants only a click"
    );
    assert_eq!((told["expires_in"].as_u64(), told["interval"].as_u64()), (Some(300), Some(5)));
    assert!(user_code.len() == 9 && user_code.as_bytes()[4] == b'-', "{user_code}");
    assert_eq!(error(&poll(&world, &device_code).await), (400, "authorization_pending"));
    assert_eq!(error(&poll(&world, &device_code).await), (400, "slow_down"));
    world.advance(Duration::from_secs(65));
    assert_eq!(error(&poll(&world, &device_code).await), (400, "authorization_pending"));

    let browser = world.browser();
    let page = browser.navigate(&world.at("/device")).await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(page.url.as_str(), world.at("/device"));
    let typed = user_code.replace('-', "").to_lowercase();
    let page = browser.submit(&page, &[("user_code", &typed)]).await.unwrap();
    assert_eq!(page.status, 200);
    for text in ["build-box", "127.0.0.1", "65 seconds ago", "alice@contoso.example"] {
        assert!(page.text().contains(text), "{text}: {}", page.text());
    }
    let page = browser.submit(&page, &[("answer", "allow")]).await.unwrap();
    assert!(page.text().contains("Allowed"), "{}", page.text());
    let (status, answer) = poll(&world, &device_code).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (answer["name"].as_str(), answer["user"]["username"].as_str()),
        (Some("build-box"), Some("alice@contoso.example"))
    );
    assert_eq!(world.call(http::Method::GET, PODS, answer["token"].as_str().unwrap()).await.status, 200);
    assert_eq!(error(&poll(&world, &device_code).await), (400, "expired_token"), "told once");
    let list = tokens(&world, &browser).await;
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(enter(&world, &browser, &user_code).await.status, 400, "the code is used up");
    assert!(world.logged(&user_code).is_empty() && world.logged(&typed).is_empty(), "no code is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_computer_and_a_late_one_are_told_so() {
    // Proves no, too late, and that of two answers the first one counts.
    let world = World::start().await;
    let (alice, bob) = (world.signed_in("alice").await, world.signed_in("bob").await);
    let (_, device_code, user_code) = ask(&world, "laptop").await;
    let (first, second) = (enter(&world, &alice, &user_code).await, enter(&world, &bob, &user_code).await);
    let refused = alice.submit(&first, &[("answer", "refuse")]).await.unwrap();
    assert!(refused.text().contains("gets nothing"), "{}", refused.text());
    let late = bob.submit(&second, &[("answer", "allow")]).await.unwrap();
    assert_eq!(late.status, 400, "{}", late.text());
    assert_eq!(error(&poll(&world, &device_code).await), (400, "access_denied"));
    assert_eq!(tokens(&world, &bob).await.len(), 0, "nothing is left of what came too late");
    // Both at the same moment: one of them is whose the token is.
    let (_, device_code, user_code) = ask(&world, "laptop").await;
    let (first, second) = (enter(&world, &alice, &user_code).await, enter(&world, &bob, &user_code).await);
    let allow = [("answer", "allow")];
    let both = futures_util::future::join(alice.submit(&first, &allow), bob.submit(&second, &allow)).await;
    let pages = [both.0.unwrap(), both.1.unwrap()];
    assert_eq!(pages.iter().filter(|page| page.text().contains("Allowed")).count(), 1);
    assert_eq!(poll(&world, &device_code).await.0, 200);
    let made = [tokens(&world, &alice).await.len(), tokens(&world, &bob).await.len()];
    assert_eq!(made.iter().sum::<usize>(), 1, "{made:?}");

    let (_, device_code, user_code) = ask(&world, "slow").await;
    world.advance(Duration::from_secs(301));
    assert_eq!(error(&poll(&world, &device_code).await), (400, "expired_token"));
    assert_eq!(enter(&world, &alice, &user_code).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_codes_are_enough() {
    // Proves that nobody tries codes until one fits, in one browser or in several of the same user.
    let world = World::start().await;
    let (_, device_code, user_code) = ask(&world, "laptop").await;
    let (first, second) = (world.signed_in("alice").await, world.signed_in("alice").await);
    // A right one costs no try.
    assert_eq!(enter(&world, &first, &user_code).await.status, 200);
    for n in 0..10 {
        let page = enter(&world, if n % 2 == 0 { &first } else { &second }, "BBBB-BBBB").await;
        assert_eq!(page.status, 400, "{n}");
        assert!(page.text().contains("No computer waits with this code"), "{}", page.text());
    }
    for browser in [&first, &second] {
        let page = enter(&world, browser, &user_code).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (429, "too_many_wrong_codes"));
        assert!(page.text().contains("Wait five minutes"), "{}", page.text());
    }
    let origin = [("origin", world.url.as_str())];
    let fields = [("user_code", user_code.as_str()), ("answer", "allow")];
    let page = first.post_form(&world.at("/device/answer"), &fields, &origin).await.unwrap();
    assert_eq!(page.status, 429, "nor is it answered");
    assert_eq!(enter(&world, &world.signed_in("bob").await, &user_code).await.status, 200);
    assert_eq!(error(&poll(&world, &device_code).await), (400, "authorization_pending"));
    world.advance(Duration::from_secs(301));
    assert_eq!(enter(&world, &first, "BBBB-BBBB").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_ends_what_a_device_waits_for() {
    // Proves that a sign-out after yes counts, and that no other site says yes.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let (_, device_code, user_code) = ask(&world, "laptop").await;
    let fields = [("user_code", user_code.as_str()), ("answer", "allow")];
    let evil = [("origin", "https://evil.example")];
    for path in ["/device", "/device/answer"] {
        let page = browser.post_form(&world.at(path), &fields, &evil).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"));
    }
    let page = enter(&world, &browser, &user_code).await;
    browser.submit(&page, &[("answer", "allow")]).await.unwrap();
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    assert_eq!(error(&poll(&world, &device_code).await), (400, "invalid_grant"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_asks_for_codes_within_its_rate() {
    // Proves that strangers cannot fill the store from one address, and what the program is told then.
    let world = World::start_with(|raw| raw.signin_rate_limit = Some("1/h burst 3".to_owned())).await;
    for _ in 0..3 {
        ask(&world, "x").await;
    }
    let told = post(&world, "/device/code", &[("client_name", "x")]).await;
    assert_eq!(error(&told), (429, "slow_down"));
    for name in ["", &"n".repeat(65), "two\nlines"] {
        let world = World::start().await;
        let fields = [("client_name", name)];
        let (status, told) = post(&world, "/device/code", &fields).await;
        let expected = if name.is_empty() { 200 } else { 400 };
        assert_eq!(status, expected, "{name:?}: {told}");
    }
}
