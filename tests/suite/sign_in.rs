//! Signing in: the good way, and everything that must not become a session.

use std::time::Duration;

use serde_json::Value;
use standin::browser::{Browser, Page};
use standin::entra::{Endpoint, Fault, IdTokenFault};
use url::Url;

use super::support::World;

/// Begins at `/login`, chooses alice, and stops before the browser returns: the address of the callback.
async fn callback_address(world: &World, browser: &Browser) -> Url {
    world.entra.sign_in_directly(Some("alice"));
    let login = browser.get(&world.at("/login")).await.unwrap();
    let entra = login.location().unwrap();
    let answer = browser.get(entra.as_str()).await.unwrap();
    world.entra.sign_in_directly(None);
    answer.location().unwrap()
}

async fn whoami(world: &World, browser: &Browser) -> Page {
    browser.get(&world.at("/whoami")).await.unwrap()
}

/// No session, a page with a 400 and a link that starts anew.
fn assert_refused(world: &World, browser: &Browser, page: &Page, reason: &str) {
    assert_eq!(page.status, 400, "{}", page.text());
    assert_eq!(page.header("entrada-reason"), reason, "{}", page.text());
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().contains("login?return_to="), "{}", page.text());
    assert_eq!(world.session_cookie(browser), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_makes_a_session_that_says_who_and_how_long() {
    // Proves the contract of the cookie and of /whoami.
    let world = World::start().await;
    let browser = world.browser();
    let callback = browser.get(callback_address(&world, &browser).await.as_str()).await.unwrap();
    assert_eq!(callback.status, 302);
    assert_eq!(callback.location().unwrap().as_str(), world.at("/"));
    let cookies: Vec<&str> =
        callback.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let session = cookies.iter().find(|cookie| cookie.starts_with("__Host-entrada=")).unwrap();
    for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(session.contains(attribute), "{session}");
    }
    world.keep_secret(world.session_cookie(&browser).unwrap());
    let who: Value = whoami(&world, &browser).await.json().unwrap();
    let alice = world.entra.user("alice").unwrap();
    assert_eq!(who["user"]["oid"], alice.oid.as_str());
    assert_eq!(who["user"]["tid"], world.entra.tenant_id());
    assert_eq!(who["user"]["username"], alice.username.as_str());
    assert_eq!(who["user"]["name"], alice.display_name.as_str());
    assert_eq!(who["credential"]["kind"], "cookie");
    assert_eq!(who["session"]["expires_at"], who["credential"]["expires_at"]);
    // A guest, whose home is elsewhere and who has no UPN, is a user like any other.
    let guest = whoami(&world, &world.signed_in("greta").await).await.json().unwrap();
    assert_eq!(guest["user"]["oid"], world.entra.user("greta").unwrap().oid.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorization_request_is_as_entra_wants_it() {
    // Proves the parameters, and that each attempt has secrets of its own.
    let world = World::start().await;
    let browser = world.browser();
    let one = browser.get(&world.at("/login?return_to=/x")).await.unwrap().location().unwrap();
    let two = browser.get(&world.at("/login?return_to=/y")).await.unwrap().location().unwrap();
    let value = |url: &Url, name: &str| {
        url.query_pairs()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    assert_eq!(value(&one, "scope"), "openid profile offline_access");
    assert_eq!(value(&one, "response_type"), "code");
    assert_eq!(value(&one, "code_challenge_method"), "S256");
    assert_eq!(value(&one, "redirect_uri"), world.at("/callback"));
    assert_eq!(value(&one, "client_id"), world.entra.client_id());
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(value(&one, name), value(&two, name));
        assert!(value(&one, name).len() >= 43);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tabs_sign_in_side_by_side() {
    // Proves that attempts do not overwrite each other, and that a sixth removes the first.
    let world = World::start().await;
    let browser = world.browser();
    let first = callback_address(&world, &browser).await;
    let second = callback_address(&world, &browser).await;
    assert_eq!(browser.get(second.as_str()).await.unwrap().status, 302);
    assert_eq!(browser.get(first.as_str()).await.unwrap().status, 302);
    for _ in 0..7 {
        browser.get(&world.at("/login")).await.unwrap();
    }
    let attempts = browser.cookie_names(&world.url);
    assert_eq!(attempts.iter().filter(|name| name.starts_with("__Host-entrada-login-")).count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_once_in_its_own_browser_and_in_time() {
    // Proves that a foreign, missing, used or late state makes no session.
    let world = World::start().await;
    let (own, other) = (world.browser(), world.browser());
    let address = callback_address(&world, &own).await;
    let foreign = other.get(address.as_str()).await.unwrap();
    assert_refused(&world, &other, &foreign, "no_sign_in_attempt");
    let missing = other.get(&world.at("/callback?code=abc")).await.unwrap();
    assert_refused(&world, &other, &missing, "no_sign_in_attempt");
    let calls = world.entra.calls().token_code;
    assert_eq!(calls, 0, "a code was redeemed for nobody");

    assert_eq!(own.get(address.as_str()).await.unwrap().status, 302);
    own.clear_cookies(&world.url);
    let used = own.get(address.as_str()).await.unwrap();
    assert_refused(&world, &own, &used, "no_sign_in_attempt");

    let late = callback_address(&world, &own).await;
    world.advance(Duration::from_secs(901));
    let late = own.get(late.as_str()).await.unwrap();
    assert_refused(&world, &own, &late, "no_sign_in_attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_redeemed_once() {
    // Proves that a replayed callback, with its attempt's cookie kept, makes no second session.
    let world = World::start().await;
    let browser = world.browser();
    let address = callback_address(&world, &browser).await;
    let kept: Vec<(String, String)> = browser
        .cookie_names(&world.url)
        .into_iter()
        .map(|name| (name.clone(), browser.cookie(&world.url, &name).unwrap()))
        .collect();
    assert_eq!(browser.get(address.as_str()).await.unwrap().status, 302);
    browser.clear_cookies(&world.url);
    for (name, value) in kept {
        assert!(browser.set_cookie(&world.url, &format!("{name}={value}; Path=/; Secure")));
    }
    let replayed = browser.get(address.as_str()).await.unwrap();
    assert_refused(&world, &browser, &replayed, "code_refused");
    assert!(!world.logged("54005").is_empty(), "the log lacks Entra's code");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cancels_or_is_refused_at_entra_gets_a_page() {
    // Proves that Entra's errors in the redirect are told, without echoing what came with them.
    let world = World::start().await;
    let browser = world.browser();
    let chooser = browser.navigate(&world.at("/login")).await.unwrap();
    let page = browser.submit(&chooser, &[("cancel", "1")]).await.unwrap();
    assert_refused(&world, &browser, &page, "cancelled");

    let login = browser.get(&world.at("/login")).await.unwrap().location().unwrap();
    let state = login.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let evil = format!(
        "/callback?state={state}&error=server_error&error_description=AADSTS90033%3a+%3Cscript%3Ealert(1)%3C/script%3E"
    );
    let page = browser.get(&world.at(&evil)).await.unwrap();
    assert_refused(&world, &browser, &page, "refused_by_entra");
    assert!(page.text().contains("AADSTS90033") && !page.text().contains("alert(1)"), "{}", page.text());
    let again = browser.get(&world.at(&evil)).await.unwrap();
    assert_refused(&world, &browser, &again, "no_sign_in_attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_faulty_id_token_makes_a_session() {
    // Proves each check of the ID token, and that the log says which one failed, with Entra's correlation id.
    let world = World::start().await;
    for fault in [
        IdTokenFault::WrongNonce,
        IdTokenFault::NoNonce,
        IdTokenFault::WrongIssuer,
        IdTokenFault::WrongAudience,
        IdTokenFault::WrongTenant,
        IdTokenFault::BadSignature,
        IdTokenFault::UnknownKid,
        IdTokenFault::AlgNone,
        IdTokenFault::Expired,
        IdTokenFault::NotYetValid,
        IdTokenFault::WrongVersion,
        IdTokenFault::NoOid,
    ] {
        let browser = world.browser();
        let told = format!("{fault:?}");
        world.entra.spoil_next_id_token(fault);
        let before = world.logged("id_token_refused").len();
        let page = browser.sign_in(&world.url, "alice").await.unwrap();
        assert_eq!(page.header("entrada-reason"), "id_token_refused", "{told}: {}", page.text());
        assert_refused(&world, &browser, &page, "id_token_refused");
        assert!(world.logged("id_token_refused").len() > before, "{told} is not in the log");
    }
    let browser = world.browser();
    world.entra.spoil_next_id_token(IdTokenFault::Missing);
    let page = browser.sign_in(&world.url, "alice").await.unwrap();
    assert_refused(&world, &browser, &page, "code_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_fetched_when_a_token_bears_one() {
    // Proves that an emergency key roll needs no restart, and that made-up keys do not make us hammer Entra.
    let world = World::start().await;
    world.entra.keys_replace().unwrap();
    let before = world.entra.calls().keys;
    world.signed_in("alice").await;
    assert_eq!(world.entra.calls().keys, before + 1);
    for _ in 0..3 {
        world.entra.spoil_next_id_token(IdTokenFault::UnknownKid);
        world.browser().sign_in(&world.url, "alice").await.unwrap();
    }
    assert_eq!(world.entra.calls().keys, before + 1, "at most one fetch in five minutes");
    world.advance(Duration::from_secs(301));
    world.entra.keys_replace().unwrap();
    world.signed_in("alice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_stays_on_our_origin() {
    // Proves that return_to is followed to our own paths only.
    let world = World::start().await;
    let browser = world.browser();
    world.entra.sign_in_directly(Some("alice"));
    for (asked, lands) in [
        ("/api/v1/namespaces/team-a/pods?limit=1", "/api/v1/namespaces/team-a/pods?limit=1"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/login", "/"),
    ] {
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", asked).finish();
        let login = browser.get(&world.at(&format!("/login?{query}"))).await.unwrap();
        let back = browser.get(login.location().unwrap().as_str()).await.unwrap().location().unwrap();
        let landed = browser.get(back.as_str()).await.unwrap().location().unwrap();
        assert_eq!(landed.as_str(), world.at(lands), "{asked}");
    }
    world.keep_secret(world.session_cookie(&browser).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_of_one_browser_leaves_the_others() {
    // Proves that sessions are apart, that their cookie is dead at once, and that the next sign-in asks for the account.
    let world = World::start().await;
    let (one, two, three) =
        (world.signed_in("alice").await, world.signed_in("alice").await, world.signed_in("alice").await);
    let dead = world.session_cookie(&one).unwrap();
    let origin = [("origin", world.url.as_str())];
    let answer = one.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let page = world.at("/?signed-out");
    assert_eq!((answer.status.as_u16(), answer.location().unwrap().as_str()), (303, page.as_str()));
    assert_eq!(world.session_cookie(&one), None);
    assert_eq!(world.with_cookie("/whoami", &dead).await.status, 401);
    for browser in [&two, &three] {
        assert_eq!(whoami(&world, browser).await.status, 200);
    }
    let login = one.get(&world.at("/login")).await.unwrap().location().unwrap();
    assert!(login.query().unwrap().contains("prompt=select_account"));
    let login = two.get(&world.at("/login")).await.unwrap().location().unwrap();
    assert!(!login.query().unwrap().contains("prompt="));

    two.post_form(&world.at("/logout/everywhere"), &[], &origin).await.unwrap();
    assert_eq!(whoami(&world, &three).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sign_in_supersedes_the_browsers_old_session() {
    // Proves that tokens move along with the same user, and rest when it is another.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let old = world.session_cookie(&browser).unwrap();
    let token = world.token(&browser).await;
    browser.sign_in(&world.url, "alice").await.unwrap();
    let new = world.session_cookie(&browser).unwrap();
    world.keep_secret(new.clone());
    assert_ne!(old, new, "a new id at every sign-in");
    assert_eq!(world.with_cookie("/whoami", &old).await.status, 401);
    assert_eq!(world.call(http::Method::GET, "/whoami", &token).await.status, 200);

    world.entra.sign_in_directly(Some("bob"));
    browser.navigate(&world.at("/login")).await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(
        world.call(http::Method::GET, "/whoami", &token).await.header("entrada-reason"),
        "session_ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_met_at_the_first_token_leads_to_one_step_up() {
    // Proves that a demand for MFA, which a plain sign-in does not show, is met on the spot.
    let world = World::start().await;
    world.entra.set_mfa_required(true);
    let browser = world.browser();
    let page = browser.sign_in(&world.url, "alice").await.unwrap();
    let page = if page.url.as_str().starts_with(&world.url) {
        page
    } else {
        browser.choose(page, "alice").await.unwrap()
    };
    assert_eq!(page.url.as_str(), world.at("/"), "{}", page.text());
    world.keep_secret(world.session_cookie(&browser).unwrap());
    let token = world.token(&browser).await;
    let pods = world.call(http::Method::GET, "/api/v1/namespaces/team-a/pods", &token).await;
    assert_eq!(pods.status, 200, "{}", pods.text());
    let scopes: Vec<String> =
        world.entra.authorize_calls().iter().filter_map(|call| call.get("scope").cloned()).collect();
    assert!(scopes.last().unwrap().contains("6dae42f8-4368-4678-94ff-3960e28e3630/.default"), "{scopes:?}");
    assert!(!world.entra.loop_detected());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_administrator_must_do_is_said_and_costs_no_session() {
    // Proves that missing consent leaves the user signed in and says whom to ask, in page and Status alike.
    let world = World::start().await;
    world.entra.set_admin_consent(false);
    let browser = world.signed_in("alice").await;
    let portal = browser.navigate(&world.at("/")).await.unwrap().text();
    assert!(portal.contains("An administrator must first grant"), "{portal}");
    let token = world.token(&browser).await;
    let pods = world.call(http::Method::GET, "/api/v1/pods", &token).await;
    assert_eq!((pods.status.as_u16(), pods.header("entrada-reason")), (503, "administrator_required"));
    assert_eq!(pods.header("retry-after"), "", "kubectl must not wait for a person");
    assert!(
        pods.header("warning").contains("An administrator must first grant"),
        "{}",
        pods.header("warning")
    );
    assert!(pods.header("warning").contains("AADSTS65001"));
    world.entra.set_admin_consent(true);
    world.advance(Duration::from_secs(61));
    assert_eq!(world.call(http::Method::GET, "/api/v1/namespaces/team-a/pods", &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_entra_nobody_signs_in_and_everything_recovers() {
    // Proves that readiness says why, that /login does not crash, and that it heals by itself.
    let world = World::start_unready(|_| {}).await;
    world.entra.fail_always(Endpoint::Discovery, Fault::status(503));
    let broken = World::start_unready(|raw| {
        raw.azure_authority_host = Some(world.entra.authority_host());
        raw.entra_ca_file = Some(world.dir.path().join("ca.pem").to_str().unwrap().to_owned());
    })
    .await;
    super::support::eventually("the reason", || async {
        let (status, text) = broken.admin("/readyz").await;
        status == 503 && text.contains("503")
    })
    .await;
    let login = broken.browser().get(&broken.at("/login")).await.unwrap();
    assert_eq!((login.status.as_u16(), login.header("entrada-reason")), (503, "entra_unavailable"));
    world.entra.heal();
    broken.advance(Duration::from_secs(6));
    super::support::eventually("recovery", || async { broken.admin("/readyz").await.0 == 200 }).await;
}
