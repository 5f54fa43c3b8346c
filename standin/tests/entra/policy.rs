//! Consent, Conditional Access, and the state of accounts.

use std::time::Duration;

use standin::entra::AKS_SERVER_APP;

use super::desk::{Desk, OIDC, aks_scope, query, refresh_token, refused};

#[tokio::test]
async fn missing_consent_surfaces_at_the_silent_redemption_only() {
    // The plain sign-in names no resource and succeeds.
    let desk = Desk::open().await;
    desk.entra.set_admin_consent(false);
    let token = refresh_token(&desk.signed_in("alice").await);
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 65001);
    assert_eq!(body["suberror"], "consent_required");
    let page = desk.authorize("alice", &[("scope", &aks_scope())]).await;
    assert!(page.location().is_none() && page.text().contains("AADSTS90094"), "{}", page.text());
    desk.entra.set_admin_consent(true);
    desk.entra.set_aks_listed(false);
    refused(&desk.refresh(&token).await, 400, "invalid_client", 650057);
    desk.entra.set_aks_listed(true);
    desk.entra.set_aks_present(false);
    refused(&desk.refresh(&token).await, 400, "invalid_resource", 500011);
    desk.entra.set_aks_present(true);
    assert_eq!(desk.refresh(&token).await.status, 200);
}

#[tokio::test]
async fn a_second_factor_needs_a_step_up_that_names_aks_or_presents_the_claims() {
    // Signing in again in the plain way changes nothing: that is the loop to avoid.
    let desk = Desk::open().await;
    desk.entra.set_mfa_required(true);
    let token = refresh_token(&desk.signed_in("alice").await);
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 50076);
    assert_eq!(body["suberror"], "basic_action");
    let again = refresh_token(&desk.signed_in("alice").await);
    refused(&desk.refresh(&again).await, 400, "invalid_grant", 50076);
    let claims = body["claims"].as_str().unwrap();
    let naming = format!("{OIDC} {AKS_SERVER_APP}/user.read");
    for step_up in [("claims", claims), ("scope", &naming)] {
        let code = desk.code("alice", &[step_up]).await;
        let token = refresh_token(&desk.redeem(&code, &[]).await.json().unwrap());
        assert_eq!(desk.refresh(&token).await.status, 200);
    }
    let bogus = desk.code("alice", &[("claims", "{\"access_token\":{}}")]).await;
    let token = refresh_token(&desk.redeem(&bogus, &[]).await.json().unwrap());
    refused(&desk.refresh(&token).await, 400, "invalid_grant", 50076);
}

#[tokio::test]
async fn a_step_up_shows_the_chooser_even_to_a_browser_that_is_signed_in() {
    // The earlier sign-in had no second factor.
    let desk = Desk::open().await;
    let plain = desk.authorize_url(&[]);
    assert_eq!(desk.press(&plain, ("user", "alice")).await.status, 302);
    desk.entra.set_mfa_required(true);
    assert_eq!(desk.browser.get(&plain).await.unwrap().status, 302);
    let step_up = desk.authorize_url(&[("scope", &aks_scope())]);
    assert_eq!(desk.browser.get(&step_up).await.unwrap().status, 200);
    let silent = desk.authorize_url(&[("scope", &aks_scope()), ("prompt", "none")]);
    let location = desk.browser.get(&silent).await.unwrap().location().unwrap();
    assert_eq!(query(&location, "error").as_deref(), Some("interaction_required"));
    assert_eq!(desk.press(&step_up, ("user", "alice")).await.status, 302);
    assert_eq!(desk.browser.get(&step_up).await.unwrap().status, 302, "now it had one");
}

#[tokio::test]
async fn a_block_and_a_missing_assignment_refuse_without_end() {
    // Both stay on the tenant's page when a person is there.
    let desk = Desk::open().await;
    let token = refresh_token(&desk.signed_in("alice").await);
    desk.entra.set_blocked(true);
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 53003);
    assert!(body["suberror"] == "message_only" && body["claims"].is_string());
    let page = desk.authorize("alice", &[("scope", &aks_scope())]).await;
    assert!(page.location().is_none() && page.text().contains("AADSTS53003"));
    desk.entra.set_blocked(false);
    desk.entra.set_assigned("alice", false);
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 50105);
    assert!(body.get("suberror").is_none());
    let page = desk.authorize("alice", &[]).await;
    assert!(page.location().is_none() && page.text().contains("AADSTS50105"));
    desk.entra.set_assigned("alice", true);
    assert_eq!(desk.refresh(&token).await.status, 200);
}

#[tokio::test]
async fn revoked_disabled_deleted_and_aged_sign_ins_end() {
    // A new sign-in works again after a revocation.
    let desk = Desk::open().await;
    let token = refresh_token(&desk.signed_in("alice").await);
    desk.entra.revoke_sessions("alice");
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 50173);
    assert_eq!(body["suberror"], "bad_token");
    let token = refresh_token(&desk.signed_in("alice").await);
    assert_eq!(desk.refresh(&token).await.status, 200);
    desk.entra.set_disabled("alice", true);
    refused(&desk.refresh(&token).await, 400, "invalid_grant", 50057);
    desk.entra.set_disabled("alice", false);
    desk.entra.set_sign_in_frequency(Some(Duration::from_secs(3600)));
    assert_eq!(desk.refresh(&token).await.status, 200);
    desk.time.advance(Duration::from_secs(3600));
    let body = refused(&desk.refresh(&token).await, 400, "invalid_grant", 70043);
    assert_eq!(body["suberror"], "token_expired");
    desk.entra.set_sign_in_frequency(None);
    desk.time.advance(Duration::from_secs(90 * 86_400));
    refused(&desk.refresh(&token).await, 400, "invalid_grant", 700082);
    desk.entra.remove_user("alice");
    refused(&desk.refresh(&token).await, 400, "invalid_grant", 700082);
}

#[tokio::test]
async fn one_user_alone_can_be_refused_with_any_number() {
    // The others go on.
    let desk = Desk::open().await;
    let (alice, bob) = (desk.signed_in("alice").await, desk.signed_in("bob").await);
    desk.entra.set_refused_with("alice", Some(50158));
    let body = refused(&desk.refresh(&refresh_token(&alice)).await, 400, "invalid_grant", 50158);
    assert!(body["claims"].is_string());
    assert_eq!(desk.refresh(&refresh_token(&bob)).await.status, 200);
    desk.entra.set_refused_with("alice", None);
    assert_eq!(desk.refresh(&refresh_token(&alice)).await.status, 200);
}

#[tokio::test]
async fn a_loop_of_refreshes_is_detected() {
    // The fifteenth within five minutes is one too many; later it works again.
    let desk = Desk::open().await;
    let token = refresh_token(&desk.signed_in("alice").await);
    for _ in 0..14 {
        assert_eq!(desk.refresh(&token).await.status, 200);
    }
    assert!(!desk.entra.loop_detected());
    refused(&desk.refresh(&token).await, 400, "invalid_grant", 50196);
    assert!(desk.entra.loop_detected());
    desk.time.advance(Duration::from_secs(300));
    assert_eq!(desk.refresh(&token).await.status, 200);
}
