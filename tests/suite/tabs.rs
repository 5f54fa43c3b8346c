//! One browser has one session, and holds its cookie: whatever its tabs do at the same moment.

use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::browser::Browser;
use standin::entra::Endpoint;
use url::Url;

use super::support::World;

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const HOUR: Duration = Duration::from_secs(3_600);

/// Begins a sign-in and stops before the browser returns: the address of the callback.
async fn callback_address(world: &World, browser: &Browser, user: &str) -> Url {
    world.entra.sign_in_directly(Some(user));
    let entra = browser.get(&world.at("/login")).await.unwrap().location().unwrap();
    let back = browser.get(entra.as_str()).await.unwrap().location().unwrap();
    world.entra.sign_in_directly(None);
    back
}

/// The callbacks of two tabs, both sent before either is answered.
async fn both(world: &World, browser: &Browser, users: [&str; 2]) {
    let one = callback_address(world, browser, users[0]).await;
    let two = callback_address(world, browser, users[1]).await;
    let hold = world.entra.hold(Endpoint::TokenCode);
    let release = async {
        hold.arrived(2).await;
        hold.release();
    };
    let (one, two, ()) = tokio::join!(browser.get(one.as_str()), browser.get(two.as_str()), release);
    assert_eq!((one.unwrap().status.as_u16(), two.unwrap().status.as_u16()), (302, 302));
}

/// Exactly one session stands, and it is the browser's; signing out of it leaves none.
async fn assert_one_session(world: &World, browser: &Browser, token: &str, told: &str) {
    assert_eq!(world.metric("entrada_sessions").await as i64, 1, "{told}");
    world.keep_secret(world.session_cookie(browser).unwrap());
    assert_eq!(browser.get(&world.at("/whoami")).await.unwrap().status, 200, "{told}");
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    assert_eq!(world.metric("entrada_sessions").await as i64, 0, "{told}");
    assert_eq!(reason(world, token).await, "session_ended", "{told}");
}

/// Why a token does not work; empty where it does.
async fn reason(world: &World, token: &str) -> String {
    world.call(Method::GET, "/whoami", token).await.header("entrada-reason").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_that_sign_in_at_once_are_one_session() {
    // Proves that the later sign-in supersedes the one that it could not know of when it was sent, and takes the tokens. Two
    // answers on two connections may overtake each other on a busy machine, which nobody can help: most do not.
    let mut in_order = 0;
    for round in 0..5 {
        let world = World::start().await;
        let browser = world.signed_in("alice").await;
        let token = world.token(&browser).await;
        both(&world, &browser, ["alice", "alice"]).await;
        assert_eq!(reason(&world, &token).await, "");
        if browser.get(&world.at("/whoami")).await.unwrap().status == 200 {
            in_order += 1;
            assert_one_session(&world, &browser, &token, &format!("round {round}")).await;
        }
    }
    assert!(in_order >= 3, "{in_order} of 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_of_different_users_are_one_session() {
    // Proves the same where the browser changes hands: whoever is signed out has no session left behind.
    let world = World::start().await;
    for users in [["alice", "bob"], ["bob", "alice"], ["bob", "greta"], ["bob", "bob"]] {
        let browser = world.signed_in("alice").await;
        let token = world.token(&browser).await;
        both(&world, &browser, users).await;
        assert_one_session(&world, &browser, &token, &format!("{users:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_brings_no_dead_cookie() {
    // Proves that a sign-in which was superseded while it waited for its first token leaves the browser's cookie alone.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let one = callback_address(&world, &browser, "alice").await;
    let two = callback_address(&world, &browser, "alice").await;
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let later = async {
        hold.arrived(1).await;
        let release = async {
            hold.arrived(2).await;
            hold.release();
        };
        tokio::join!(browser.get(two.as_str()), release).0
    };
    let (one, two) = tokio::join!(browser.get(one.as_str()), later);
    let pages = [one.unwrap(), two.unwrap()];
    let cookies = pages.iter().map(|page| {
        let set = page.headers.get_all("set-cookie").iter();
        set.filter(|value| value.to_str().unwrap().starts_with("__Host-entrada=")).count()
    });
    assert_eq!(cookies.sum::<usize>(), 1);
    assert!(pages.iter().all(|page| page.status == 302));
    assert_one_session(&world, &browser, &token, "late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_the_session_whose_cookie_is_still_under_way() {
    // Proves that a browser which signs out while one of its tabs signs in is signed out of both sessions.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let before = world.session_cookie(&browser).unwrap();
    let callback = callback_address(&world, &browser, "alice").await;
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let signs_out = async {
        hold.arrived(1).await;
        let cookie = format!("__Host-entrada={before}");
        let headers = [("cookie", cookie.as_str()), ("origin", world.url.as_str())];
        assert_eq!(world.call_with(Method::POST, "/logout", &headers).await.status, 303);
        assert_eq!(world.metric("entrada_sessions").await as i64, 0);
        hold.release();
    };
    let (page, ()) = tokio::join!(browser.get(callback.as_str()), signs_out);
    assert_eq!(page.unwrap().status, 302);
    assert_eq!(world.session_cookie(&browser).unwrap(), before, "no cookie of an ended session");
    assert_eq!(reason(&world, &token).await, "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_whose_answer_was_lost_leaves_no_session_behind() {
    // Proves that the next sign-in, with the cookie from before, supersedes the session that no browser knows of.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let before = world.session_cookie(&browser).unwrap();
    let callback = callback_address(&world, &browser, "alice").await;
    assert_eq!(browser.get(callback.as_str()).await.unwrap().status, 302);
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert!(browser.set_cookie(&world.url, &format!("__Host-entrada={before}; Path=/; Secure")));
    world.advance(20 * HOUR);
    assert_eq!(browser.get(&world.at("/whoami")).await.unwrap().status, 401, "it opens nothing any more");
    let callback = callback_address(&world, &browser, "alice").await;
    assert_eq!(browser.get(callback.as_str()).await.unwrap().status, 302);
    assert_eq!(reason(&world, &token).await, "", "the tokens follow");
    assert_one_session(&world, &browser, &token, "lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cookie_still_tells_which_session_its_browser_leaves_behind() {
    // Proves that neither a sign-in nor a sign-out of a browser that was idle for a day misses its session.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.advance(25 * HOUR);
    assert_eq!(browser.get(&world.at("/whoami")).await.unwrap().header("entrada-reason"), "expired_cookie");
    let callback = callback_address(&world, &browser, "alice").await;
    browser.get(callback.as_str()).await.unwrap();
    assert_eq!(reason(&world, &token).await, "");
    assert_one_session(&world, &browser, &token, "signed in again").await;

    let browser = world.signed_in("alice").await;
    let token = world.new_token(&browser, json!({})).await["token"].as_str().unwrap().to_owned();
    world.advance(25 * HOUR);
    let origin = [("origin", world.url.as_str())];
    assert_eq!(browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap().status, 303);
    assert_eq!(reason(&world, &token).await, "session_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_while_its_session_is_superseded_goes_on_in_the_next_one() {
    // Proves that a sign-in in the browser refuses no kubectl whose token moves along at that moment.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.advance(2 * HOUR);
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let signs_in = async {
        hold.arrived(1).await;
        let sign_in = async {
            world.entra.sign_in_directly(Some("alice"));
            browser.navigate(&world.at("/login")).await.unwrap()
        };
        let release = async {
            hold.arrived(2).await;
            hold.release();
        };
        tokio::join!(sign_in, release).0
    };
    let (page, home) = tokio::join!(world.call(Method::GET, PODS, &token), signs_in);
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!((page.status.as_u16(), home.status.as_u16()), (200, 200), "{}", page.text());
}
