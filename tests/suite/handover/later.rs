//! What the program does with its token later, and what becomes of a hand-over whose session ends.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::super::support::World;
use super::super::support::events::AuditLog;
use super::{PODS, VERIFIER, address, answered, code, error, handed_over, redeem, tokens};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_and_the_old_one_ends_a_minute_later() {
    // Proves renewal: the same name and session, a fresh lifetime, a minute for what is under way with the old one.
    let world = World::start_with(|raw| raw.cli_token_lifetime = Some("1h".to_owned())).await;
    let browser = world.signed_in("alice").await;
    let old = handed_over(&world, &browser).await;
    let old_token = old["token"].as_str().unwrap();
    assert_eq!(world.call(Method::GET, PODS, old_token).await.status, 200);
    world.advance(Duration::from_secs(1_800));
    let page = world.call(Method::POST, "/cli/renew", old_token).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let new = page.json().unwrap();
    let new_token = new["token"].as_str().unwrap();
    world.keep_secret(new_token);
    assert_eq!(new["name"], "alice-laptop");
    assert_eq!(new["session_expires_at"], old["session_expires_at"]);
    let ends: jiff::Timestamp = new["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((3_590..=3_600).contains(&ends.duration_since(world.now()).as_secs()));
    for token in [old_token, new_token] {
        let page = world.call(Method::GET, PODS, token).await;
        assert_eq!((page.status.as_u16(), page.header("warning")), (200, ""), "kubectl prints nothing");
    }
    world.advance(Duration::from_secs(61));
    let ended = world.call(Method::GET, PODS, old_token).await;
    assert_eq!((ended.status.as_u16(), ended.header("entrada-reason")), (401, "expired_token"));
    let ended = world.call(Method::POST, "/cli/renew", old_token).await;
    assert_eq!((ended.status.as_u16(), ended.header("entrada-reason")), (401, "expired_token"));
    assert_eq!(world.call(Method::GET, PODS, new_token).await.status, 200);
    let listed = tokens(&world, &browser).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], new["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_handed_over_is_renewed_and_only_by_its_holder() {
    // Proves that a token which was made to end stays so, and that no page renews or revokes with the cookie.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let short = world.new_token(&browser, json!({ "lifetime_seconds": 60 })).await;
    let page = world.call(Method::POST, "/cli/renew", short["token"].as_str().unwrap()).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "not_renewable"));
    for path in ["/cli/renew", "/cli/revoke"] {
        let origin = [("origin", world.url.as_str())];
        let page = browser.post_form(&world.at(path), &[], &origin).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "token_required"), "{path}");
        let stranger = entrada::secret::CredentialSecret::new_token();
        let page = world.call(Method::POST, path, stranger.expose()).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "unknown_token"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_revoked_by_its_holder_also_when_it_is_dormant() {
    // Proves `entrada logout`: what the computer held comes back with no click and no renewal.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let live = handed_over(&world, &browser).await;
    let live = live["token"].as_str().unwrap();
    assert_eq!(world.call(Method::POST, "/cli/revoke", live).await.status, 204);
    assert_eq!(world.call(Method::GET, PODS, live).await.header("entrada-reason"), "unknown_token");
    assert_eq!(world.call(Method::POST, "/cli/revoke", live).await.status, 401, "it is gone already");

    let dormant = handed_over(&world, &browser).await;
    let dormant = dormant["token"].as_str().unwrap();
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let renewed = world.call(Method::POST, "/cli/renew", dormant).await;
    assert_eq!((renewed.status.as_u16(), renewed.header("entrada-reason")), (401, "session_ended"));
    assert_eq!(
        renewed.json().unwrap(),
        json!({ "error": "invalid_token", "error_description": "Your sign-in has ended." })
    );
    assert_eq!(renewed.header("www-authenticate"), "Bearer");
    assert_eq!(world.call(Method::POST, "/cli/revoke", dormant).await.status, 204);
    assert_eq!(tokens(&world, &world.signed_in("alice").await).await.len(), 0, "nothing is left to arm");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_ends_its_hand_over() {
    // Proves that a sign-out between yes and the token counts, whichever way it ends the session.
    let world = World::start().await;
    for path in ["/logout", "/logout/everywhere"] {
        let browser = world.signed_in("alice").await;
        let code = code(&world, &browser).await;
        let origin = [("origin", world.url.as_str())];
        assert_eq!(browser.post_form(&world.at(path), &[], &origin).await.unwrap().status, 303);
        assert_eq!(error(&redeem(&world, &code, VERIFIER).await), (400, "invalid_grant"), "{path}");
    }
    let browser = world.signed_in("alice").await;
    let list = tokens(&world, &browser).await;
    assert!(list.iter().all(|token| token["state"] == "dormant"), "{list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_session_waits_for_a_step_up_meets_it_first() {
    // Proves that no computer is given a token that opens nothing: the person is led to the demand, and back to the question.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(5)));
    let browser = world.signed_in("alice").await;
    let token = handed_over(&world, &browser).await;
    let token = token["token"].as_str().unwrap();
    world.entra.set_mfa_required(true);
    assert_eq!(world.call(Method::GET, PODS, token).await.header("entrada-reason"), "step_up_required");
    let renewed = world.call(Method::POST, "/cli/renew", token).await;
    assert_eq!((renewed.status.as_u16(), renewed.header("entrada-reason")), (401, "step_up_required"));
    let page = answered(&world, &browser, "allow", &world.url).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "step_up_required"));
    assert!(page.text().contains("return_to=%2Fcli%2Fauthorize%3F"), "{}", page.text());
    world.entra.set_access_token_lifetime(None);
    let page = browser.navigate(&address(&world)).await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(page.url.as_str(), address(&world), "{}", page.text());
    handed_over(&world, &browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_let_which_computer_in() {
    // Proves an event for each yes, no, token, renewal and revocation, and for what was refused.
    let log = AuditLog::new();
    let world = World::start_with(|raw| raw.audit = Some(log.setting())).await;
    let browser = world.signed_in("alice").await;
    answered(&world, &browser, "refuse", &world.url).await;
    let first = handed_over(&world, &browser).await;
    let renewed =
        world.call(Method::POST, "/cli/renew", first["token"].as_str().unwrap()).await.json().unwrap();
    let token = renewed["token"].as_str().unwrap();
    world.keep_secret(token);
    world.call(Method::POST, "/cli/revoke", token).await;
    redeem(&world, "code_wrong", VERIFIER).await;
    world.entrada.kill().await;
    let events = log.events();
    let told: Vec<_> = events
        .iter()
        .filter(|event| event["requestURI"].as_str().is_some_and(|uri| uri.starts_with("/cli/")))
        .map(|event| {
            let object = &event["objectRef"];
            let name = object["name"].as_str().unwrap_or_default();
            let known = [(&first["id"], "first"), (&renewed["id"], "second")];
            let name = known.iter().find(|(id, _)| **id == name).map_or("", |(_, called)| *called);
            let code = event["responseStatus"]["code"].as_u64().unwrap();
            let who =
                event["user"]["username"].as_str().unwrap_or_default().split('@').next().unwrap_or_default();
            format!(
                "{who} {} {} {name} {code}",
                event["verb"].as_str().unwrap(),
                object["resource"].as_str().unwrap()
            )
        })
        .collect();
    let expected = [
        "alice delete handovers  303",
        "alice create handovers  303",
        "alice create tokens first 200",
        "alice create tokens second 200",
        "alice delete tokens second 204",
        " create tokens  400",
    ];
    assert_eq!(told, expected);
    assert!(!log.text().contains("code_"), "no code stands in it");
}
