//! Scripted failures, records, and the documents.

use standin::entra::{Endpoint, ErrorStyle, Fault};

use super::desk::{Desk, refresh_token, refused};

#[tokio::test]
async fn scripted_faults_are_played_in_order_and_then_over() {
    // A queue first, then what lasts, then the right answers again.
    let desk = Desk::open().await;
    let token = refresh_token(&desk.signed_in("alice").await);
    desk.entra.fail_next(Endpoint::TokenRefresh, Fault::throttled(7));
    desk.entra
        .fail_next(Endpoint::TokenRefresh, Fault::Status { status: 503, retry_after: None, html: true });
    desk.entra.fail_next(Endpoint::TokenRefresh, Fault::Empty(500));
    desk.entra.fail_next(Endpoint::TokenRefresh, Fault::Error(50076));
    desk.entra.fail_next(Endpoint::TokenRefresh, Fault::Oversize(2_000_000));
    desk.entra.fail_always(Endpoint::TokenRefresh, Fault::status(500));
    let page = desk.refresh(&token).await;
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (429, "7"));
    assert!(page.json().is_ok());
    let page = desk.refresh(&token).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (503, "text/html"));
    let page = desk.refresh(&token).await;
    assert_eq!((page.status.as_u16(), page.body.len()), (500, 0));
    assert!(refused(&desk.refresh(&token).await, 400, "invalid_grant", 50076)["claims"].is_string());
    assert_eq!(desk.refresh(&token).await.body.len(), 2_000_000);
    assert_eq!(desk.refresh(&token).await.status, 500);
    assert_eq!(desk.refresh(&token).await.status, 500);
    desk.entra.heal();
    assert_eq!(desk.refresh(&token).await.status, 200);
    assert_eq!(desk.entra.calls().token_refresh, 8);
}

#[tokio::test]
async fn broken_connections_give_no_answer() {
    // Before the answer and within it.
    let desk = Desk::open().await;
    let url = desk.url("v2.0/.well-known/openid-configuration");
    for fault in [Fault::Reset, Fault::Truncated] {
        desk.entra.fail_next(Endpoint::Discovery, fault);
        assert!(desk.browser.get(&url).await.is_err());
    }
    assert_eq!(desk.browser.get(&url).await.unwrap().status, 200);
}

#[tokio::test]
async fn held_requests_wait_until_they_are_released() {
    // Two requests pile up at the gate, and both are answered after it opens.
    let desk = Desk::open().await;
    let url = desk.url("discovery/v2.0/keys");
    let hold = desk.entra.hold(Endpoint::Keys);
    let other = desk.other_browser();
    let release = async {
        hold.arrived(2).await;
        assert_eq!(hold.count(), 2);
        hold.release();
    };
    let (one, two, ()) = tokio::join!(desk.browser.get(&url), other.get(&url), release);
    assert_eq!((one.unwrap().status.as_u16(), two.unwrap().status.as_u16()), (200, 200));
}

#[tokio::test]
async fn a_killed_tenant_comes_back_on_its_port() {
    // With the grants that it had.
    let desk = Desk::open().await;
    let token = refresh_token(&desk.signed_in("alice").await);
    desk.entra.kill().await;
    assert!(desk.browser.get(&desk.url("discovery/v2.0/keys")).await.is_err());
    desk.entra.revive().await.unwrap();
    assert_eq!(desk.refresh(&token).await.status, 200);
}

#[tokio::test]
async fn descriptions_come_in_both_styles() {
    // Old builds broke lines.
    let desk = Desk::open().await;
    let description = async || {
        let body = refused(&desk.refresh("x").await, 400, "invalid_grant", 9002313);
        body["error_description"].as_str().unwrap().to_owned()
    };
    assert!(!description().await.contains('\n'));
    desk.entra.set_error_style(ErrorStyle::Crlf);
    assert!(description().await.contains("\r\nTrace ID: "));
}

#[tokio::test]
async fn the_documents_say_what_the_real_ones_say() {
    // Version 2, version 1, the cluster's, and an unknown tenant.
    let desk = Desk::open().await;
    let page = desk.browser.get(&desk.url("v2.0/.well-known/openid-configuration")).await.unwrap();
    assert_eq!(page.header("cache-control"), "max-age=86400, private");
    let document = page.json().unwrap();
    assert_eq!(document["issuer"], desk.entra.issuer().as_str());
    assert_eq!(document["token_endpoint"], desk.url("oauth2/v2.0/token").as_str());
    assert!(document.get("code_challenge_methods_supported").is_none());
    let page = desk.browser.get(&desk.url(".well-known/openid-configuration")).await.unwrap();
    assert_eq!(page.json().unwrap()["issuer"], desk.entra.aks_issuer().as_str());
    let cluster = format!("{}.well-known/openid-configuration", desk.entra.cluster_issuer());
    let page = desk.browser.get(&cluster).await.unwrap();
    assert_eq!(page.json().unwrap()["issuer"], desk.entra.cluster_issuer().as_str());
    let other = format!("{}/other.example/v2.0/.well-known/openid-configuration", desk.entra.origin());
    refused(&desk.browser.get(&other).await.unwrap(), 400, "invalid_request", 90002);
}

#[tokio::test]
async fn a_token_call_is_recorded_without_its_secrets() {
    // What a test may ask about a client's manners.
    let desk = Desk::open().await;
    let answer = desk.signed_in("bob").await;
    let call = desk.entra.token_calls().pop().unwrap();
    assert_eq!((call.grant_type.as_str(), call.user.as_deref()), ("authorization_code", Some("bob")));
    assert!(call.fields.iter().any(|field| field == "code_verifier"));
    assert!(!call.headers.iter().any(|name| name == "authorization" || name == "origin"));
    assert!(!format!("{call:?}").contains(answer["refresh_token"].as_str().unwrap()));
    assert_eq!(desk.entra.authorize_calls()[0]["nonce"], "n-1");
}
