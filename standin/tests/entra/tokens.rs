//! `/token`: what is issued, and every check before it.

use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Value, json};
use standin::entra::{AKS_SERVER_APP, IdTokenFault};

use super::desk::{Desk, OIDC, VERIFIER, aks_scope, part, refresh_token, refused};

#[tokio::test]
async fn a_sign_in_yields_tokens_that_a_refresh_turns_into_an_aks_token() {
    // The whole way that the proxy goes, claim by claim.
    let desk = Desk::open().await;
    let answer = desk.signed_in("alice").await;
    let id = part(answer["id_token"].as_str().unwrap(), 1);
    let alice = desk.entra.user("alice").unwrap();
    assert_eq!((id["oid"].as_str(), id["nonce"].as_str()), (Some(alice.oid.as_str()), Some("n-1")));
    assert_eq!(id["exp"].as_i64().unwrap() - id["iat"].as_i64().unwrap(), 3900);
    assert_eq!(
        (id["iss"].as_str().unwrap(), id["ver"].as_str()),
        (desk.entra.issuer().as_str(), Some("2.0"))
    );
    assert!(!answer["access_token"].as_str().unwrap().contains('.'), "a Graph token is opaque");
    let page = desk.refresh(&refresh_token(&answer)).await;
    assert_eq!(page.header("cache-control"), "no-store, no-cache");
    let answer = page.json().unwrap();
    let lifetime = answer["expires_in"].as_i64().unwrap();
    assert!((3600..=5400).contains(&lifetime));
    let token = answer["access_token"].as_str().unwrap();
    let header = part(token, 0);
    assert_eq!(header["kid"], header["x5t"]);
    let key = desk.entra.keyset()(header["kid"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[AKS_SERVER_APP]);
    rules.set_issuer(&[desk.entra.aks_issuer()]);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
    assert_eq!((claims["upn"].as_str(), claims["scp"].as_str()), (alice.upn.as_deref(), Some("user.read")));
    assert_eq!((&claims["groups"], claims["appidacr"].as_str()), (&json!(alice.groups), Some("2")));
    assert!(part(answer["id_token"].as_str().unwrap(), 1).get("nonce").is_none());
    assert_eq!((desk.entra.calls().token_code, desk.entra.refreshes_of("alice")), (1, 1));
    assert!(desk.entra.secrets().iter().any(|secret| secret == token));
    assert!(desk.entra.secrets().iter().any(|secret| secret == VERIFIER));
}

#[tokio::test]
async fn a_guest_has_no_upn_and_comes_from_another_tenant() {
    // client_info holds the home pair, the token the resource tenant's.
    use base64::Engine as _;
    let desk = Desk::open().await;
    let answer = desk.signed_in("greta").await;
    let info = answer["client_info"].as_str().unwrap();
    let info = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(info).unwrap();
    let info: Value = serde_json::from_slice(&info).unwrap();
    let id = part(answer["id_token"].as_str().unwrap(), 1);
    assert!(info["uid"] != id["oid"] && info["utid"] != id["tid"]);
    assert!(id.get("upn").is_none() && id["idp"].as_str().unwrap().contains(info["utid"].as_str().unwrap()));
}

#[tokio::test]
async fn a_code_works_once_with_its_verifier_and_address_for_ten_minutes() {
    // Each refusal with its number.
    let desk = Desk::open().await;
    let code = desk.code("alice", &[]).await;
    assert_eq!(desk.redeem(&code, &[]).await.status, 200);
    refused(&desk.redeem(&code, &[]).await, 400, "invalid_grant", 54005);
    for wrong in ["", &VERIFIER.replace('0', "1")] {
        let code = desk.code("alice", &[]).await;
        let page = desk.redeem(&code, &[("code_verifier", wrong)]).await;
        refused(&page, 400, "invalid_grant", 501481);
    }
    let code = desk.code("alice", &[("code_challenge", VERIFIER), ("code_challenge_method", "")]).await;
    assert_eq!(desk.redeem(&code, &[]).await.status, 200, "a missing method means plain");
    let code = desk.code("alice", &[]).await;
    let page = desk.redeem(&code, &[("redirect_uri", "https://app.example/other")]).await;
    refused(&page, 400, "invalid_grant", 500112);
    let code = desk.code("alice", &[]).await;
    desk.time.advance(std::time::Duration::from_secs(600));
    refused(&desk.redeem(&code, &[]).await, 400, "invalid_grant", 70008);
}

#[tokio::test]
async fn a_wrong_assertion_is_refused_with_its_number() {
    // Every one is really signed, and only its one fault is wrong.
    let desk = Desk::open().await;
    let answer = desk.signed_in("alice").await;
    let token = refresh_token(&answer);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", OIDC)];
    let set = |name: &'static str, value: Value| {
        desk.entra.assertion_with(|claims| {
            claims.insert(name.to_owned(), value);
        })
    };
    let now = desk.time.unix();
    let wrong = [
        (set("iss", json!("https://other.example/")), 700211),
        (set("sub", json!("system:serviceaccount:entrada:other")), 700213),
        (set("aud", json!(["api://AKSIdentityBinding"])), 700212),
        (set("exp", json!(now - 301)), 700024),
        (set("nbf", json!(now + 310)), 700024),
        (desk.entra.assertion_of_unknown_key().unwrap(), 700027),
        (desk.entra.assertion().replace('.', ""), 50027),
        (String::new(), 7000218),
    ];
    for (assertion, code) in wrong {
        refused(&desk.token_as(&assertion, &fields).await, 401, "invalid_client", code);
    }
    desk.entra.remove_federated_credential();
    refused(&desk.token(&fields).await, 401, "invalid_client", 70025);
    desk.entra.set_federated_credential(None);
    assert_eq!(desk.token(&fields).await.status, 200);
}

#[tokio::test]
async fn the_syntax_of_a_grant_is_checked_before_the_client() {
    // As measured on the real one; what is well-formed but unknown comes after the client.
    let desk = Desk::open().await;
    let page = desk.token_as("", &[("grant_type", "refresh_token"), ("refresh_token", "x")]).await;
    refused(&page, 400, "invalid_grant", 9002313);
    refused(&desk.refresh(&format!("1.A{}", "x".repeat(100))).await, 400, "invalid_grant", 70000);
    let page = desk.token(&[("grant_type", "password")]).await;
    refused(&page, 400, "unsupported_grant_type", 70003);
    let page = desk.token(&[("client_id", "other"), ("grant_type", "refresh_token")]).await;
    refused(&page, 400, "unauthorized_client", 700016);
    let token = refresh_token(&desk.signed_in("alice").await);
    let scope = format!("{} https://graph.microsoft.com/.default", aks_scope());
    let two = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", &scope)];
    refused(&desk.token(&two).await, 400, "invalid_scope", 28000);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_old_ones_live_unless_strict() {
    // The default is the real one's; strict mode proves that a client keeps the newest.
    let desk = Desk::open().await;
    let first = refresh_token(&desk.signed_in("alice").await);
    let second = refresh_token(&desk.refresh(&first).await.json().unwrap());
    assert_ne!(first, second);
    assert_eq!(desk.refresh(&first).await.status, 200);
    desk.entra.set_rotation(false);
    assert!(desk.refresh(&second).await.json().unwrap().get("refresh_token").is_none());
    desk.entra.set_rotation(true);
    desk.entra.set_strict_rotation(true);
    let third = refresh_token(&desk.refresh(&second).await.json().unwrap());
    refused(&desk.refresh(&second).await, 400, "invalid_grant", 70000);
    assert_eq!(desk.refresh(&third).await.status, 200);
}

#[tokio::test]
async fn keys_roll_over_in_three_steps() {
    // After each step the ID token's signature holds by the key set that is served.
    let desk = Desk::open().await;
    let first = verify_by_served_keys(&desk).await;
    desk.entra.keys_add_next().unwrap();
    assert_eq!(verify_by_served_keys(&desk).await, first);
    desk.entra.keys_switch();
    let second = verify_by_served_keys(&desk).await;
    assert_ne!(first, second);
    assert!(desk.entra.keyset()(&first).is_some());
    desk.entra.keys_drop_old();
    assert_eq!(verify_by_served_keys(&desk).await, second);
    assert!(desk.entra.keyset()(&first).is_none());
}

/// Signs in, verifies the ID token by the served keys, and returns its `kid`.
async fn verify_by_served_keys(desk: &Desk) -> String {
    let answer = desk.signed_in("bob").await;
    let token = answer["id_token"].as_str().unwrap();
    let kid = part(token, 0)["kid"].as_str().unwrap().to_owned();
    let page = desk.browser.get(&desk.url("discovery/v2.0/keys")).await.unwrap();
    let set = page.json().unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert!(keys.len() > 1);
    let jwk = keys.iter().find(|key| key["kid"] == kid.as_str()).unwrap();
    assert_x5t(jwk);
    let (n, e) = (jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap());
    let key = jsonwebtoken::DecodingKey::from_rsa_components(n, e).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[desk.entra.client_id()]);
    rules.set_issuer(&[desk.entra.issuer()]);
    jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
    kid
}

fn assert_x5t(jwk: &Value) {
    use aws_lc_rs::digest;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let certificate = STANDARD.decode(jwk["x5c"][0].as_str().unwrap()).unwrap();
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
    assert_eq!(jwk["x5t"].as_str().unwrap(), URL_SAFE_NO_PAD.encode(sum));
}

#[tokio::test]
async fn id_tokens_can_be_spoiled_one_by_one() {
    // A queue, then a lasting fault, then none.
    let desk = Desk::open().await;
    desk.entra.spoil_next_id_token(IdTokenFault::WrongAudience);
    desk.entra.spoil_next_id_token(IdTokenFault::AlgNone);
    let id = |answer: Value| answer["id_token"].as_str().unwrap().to_owned();
    let spoiled = id(desk.signed_in("alice").await);
    assert_ne!(part(&spoiled, 1)["aud"].as_str().unwrap(), desk.entra.client_id());
    assert_eq!(part(&id(desk.signed_in("alice").await), 0)["alg"], "none");
    desk.entra.spoil_id_tokens(Some(IdTokenFault::UnknownKid));
    let kid = part(&id(desk.signed_in("alice").await), 0)["kid"].as_str().unwrap().to_owned();
    assert!(desk.entra.keyset()(&kid).is_none());
    desk.entra.spoil_id_tokens(Some(IdTokenFault::Missing));
    assert!(desk.signed_in("alice").await.get("id_token").is_none());
    desk.entra.spoil_id_tokens(None);
    assert_eq!(part(&id(desk.signed_in("alice").await), 1)["aud"], desk.entra.client_id().as_str());
}
