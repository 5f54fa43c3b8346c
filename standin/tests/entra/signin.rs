//! `/authorize`, the chooser, and what only a browser sees.

use super::desk::{Desk, REDIRECT, query};

#[tokio::test]
async fn the_chooser_signs_in_and_is_skipped_the_next_time() {
    // One click signs the browser in at the tenant; later requests need no page, unless they ask for one.
    let desk = Desk::open().await;
    let page = desk.browser.navigate(&desk.authorize_url(&[("prompt", "none")])).await;
    assert!(page.is_err(), "the app's address does not exist, so the navigation must have gone there");
    let page = desk.browser.get(&desk.authorize_url(&[("prompt", "none")])).await.unwrap();
    assert_eq!(query(&page.location().unwrap(), "error").as_deref(), Some("login_required"));
    let page = desk.browser.navigate(&desk.authorize_url(&[])).await.unwrap();
    assert!(page.text().contains("Alice Admin"), "{}", page.text());
    let location = desk.press(&desk.authorize_url(&[]), ("user", "alice")).await.location().unwrap();
    assert!(query(&location, "code").is_some());
    let silent = desk.browser.get(&desk.authorize_url(&[("prompt", "none")])).await.unwrap();
    assert_eq!(query(&silent.location().unwrap(), "session_state"), query(&location, "session_state"));
    for prompt in ["login", "select_account"] {
        let page = desk.browser.get(&desk.authorize_url(&[("prompt", prompt)])).await.unwrap();
        assert_eq!((page.status.as_u16(), page.location()), (200, None));
    }
    desk.time.advance(std::time::Duration::from_secs(61));
    let aged = desk.browser.get(&desk.authorize_url(&[("max_age", "60")])).await.unwrap();
    assert_eq!(aged.status, 200, "the sign-in is too old");
    let hinted =
        desk.browser.get(&desk.authorize_url(&[("login_hint", "bob@contoso.example")])).await.unwrap();
    assert_eq!(hinted.status, 200, "another user's hint needs the chooser");
}

#[tokio::test]
async fn redirects_echo_the_state_and_end_with_an_empty_fragment() {
    // The state has characters that double encoding would spoil.
    let desk = Desk::open().await;
    let page = desk.authorize("alice", &[("client_info", "1")]).await;
    assert_eq!(page.status, 302);
    assert!(page.header("location").starts_with(REDIRECT));
    assert!(page.header("location").ends_with('#'));
    let location = page.location().unwrap();
    assert_eq!(query(&location, "state").as_deref(), Some("s t+a/te&"));
    assert!(query(&location, "client_info").is_some() && query(&location, "session_state").is_some());
    let failed = desk.authorize("alice", &[("response_type", "token")]).await;
    assert!(failed.header("location").ends_with('#'));
    let location = failed.location().unwrap();
    assert_eq!(query(&location, "error").as_deref(), Some("unsupported_response_type"));
    assert_eq!(query(&location, "state").as_deref(), Some("s t+a/te&"));
}

#[tokio::test]
async fn a_wrong_address_app_or_tenant_is_never_redirected() {
    // Who cannot be trusted with an answer gets none.
    let desk = Desk::open().await;
    let wrong = [
        ("redirect_uri", "https://app.example/callback/", "AADSTS50011"),
        ("redirect_uri", "", "AADSTS900144"),
        ("client_id", "0e000000-0000-4000-8000-000000000000", "AADSTS700016"),
    ];
    for (name, value, code) in wrong {
        let page = desk.authorize("alice", &[(name, value)]).await;
        assert_eq!(page.location(), None, "{name}");
        assert!(page.text().contains(code), "{}", page.text());
    }
    let other = desk.authorize_url(&[]).replace(&desk.entra.tenant_id(), "common");
    let page = desk.browser.get(&other).await.unwrap();
    assert!(page.location().is_none() && page.text().contains("AADSTS90002"));
}

#[tokio::test]
async fn malformed_requests_go_back_to_the_app_with_an_error() {
    // All of these have a good redirect URI.
    let desk = Desk::open().await;
    let wrong = [
        ("scope", "", "900144"),
        ("prompt", "maybe", "90023"),
        ("claims", "{", "90023"),
        ("code_challenge_method", "S512", "501491"),
        ("code_challenge", "short", "501491"),
    ];
    for (name, value, code) in wrong {
        let location = desk.authorize("alice", &[(name, value)]).await.location().unwrap();
        assert_eq!(query(&location, "error").as_deref(), Some("invalid_request"), "{name}");
        assert!(query(&location, "error_uri").unwrap().ends_with(&format!("error?code={code}")), "{name}");
    }
}

#[tokio::test]
async fn cancelling_goes_back_with_access_denied() {
    // The subcode is how an app knows it from a policy.
    let desk = Desk::open().await;
    let location = desk.press(&desk.authorize_url(&[]), ("cancel", "1")).await.location().unwrap();
    assert_eq!(query(&location, "error").as_deref(), Some("access_denied"));
    assert_eq!(query(&location, "error_subcode").as_deref(), Some("cancel"));
}

#[tokio::test]
async fn signing_out_ends_the_browsers_sign_in_and_leads_only_to_registered_addresses() {
    // After it the chooser comes again.
    let desk = Desk::open().await;
    assert_eq!(desk.press(&desk.authorize_url(&[]), ("user", "bob")).await.status, 302);
    let sign_out = |to: &str| desk.url(&format!("oauth2/v2.0/logout?post_logout_redirect_uri={to}&state=x"));
    let page = desk.browser.get(&sign_out("https://evil.example/")).await.unwrap();
    assert_eq!((page.status.as_u16(), page.location()), (200, None));
    let page = desk.browser.get(&sign_out(REDIRECT)).await.unwrap();
    assert_eq!(page.location().unwrap().as_str(), format!("{REDIRECT}?state=x"));
    assert_eq!(desk.browser.get(&desk.authorize_url(&[])).await.unwrap().status, 200);
}

#[tokio::test]
async fn signing_in_directly_needs_no_page() {
    // A setting of the tenant, for load tests.
    let desk = Desk::open().await;
    desk.entra.add_user("user-101");
    desk.entra.sign_in_directly(Some("user-101"));
    let page = desk.browser.get(&desk.authorize_url(&[])).await.unwrap();
    assert!(query(&page.location().unwrap(), "code").is_some());
    assert_eq!(desk.entra.calls().authorize, 1);
}
