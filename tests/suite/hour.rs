//! A scripted hour of many users: tokens that expire, outages, a key rollover, a strict rotation.

use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use standin::entra::{Endpoint, Fault};

use super::support::{World, eventually};

const USERS: usize = 200;
const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// Renewed after about 15 minutes: at the latest with five left.
const TOKEN_LIFETIME: Duration = Duration::from_secs(20 * 60);
/// An hour of tokens that are renewed every 13.5 to 15 minutes.
const RENEWALS_NEEDED: f64 = (USERS * 5) as f64;

/// One request of every user, some at a time; how many were answered with 403 by the API server, which knows none of
/// their rights, and the first other answer.
async fn round(world: &World, tokens: &[String]) -> Result<(), String> {
    let pages = futures_util::stream::iter(tokens).map(|token| world.call(Method::GET, PODS, token));
    let mut pages = pages.buffer_unordered(16);
    while let Some(page) = pages.next().await {
        if page.status != 403 || !page.header("entrada-reason").is_empty() {
            return Err(format!("{} {}: {}", page.status, page.header("entrada-reason"), page.text()));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_two_hundred_users_loses_nobody() {
    // Proves that expiring tokens, errors, silence, new keys and strict rotation cost no request and no session, and no
    // more calls than renewals need.
    // Silence is waited for in real time, while the hour is a matter of seconds.
    let world = World::start_with(|raw| raw.entra_timeout = Some("300ms".to_owned())).await;
    world.entra.set_access_token_lifetime(Some(TOKEN_LIFETIME));
    let mut tokens = Vec::new();
    for n in 0..USERS {
        world.entra.add_user(&format!("user{n}"));
        tokens.push(world.token(&world.signed_in(&format!("user{n}")).await).await);
    }
    let ok = "entrada_entra_token_calls_total{grant=\"refresh_token\",outcome=\"ok\"}";
    let before = world.metric(ok).await;
    world.entra.reset_calls();
    for minute in 0..60 {
        match minute {
            12 => world.entra.fail_always(Endpoint::TokenRefresh, Fault::status(503)),
            28 => world.entra.fail_always(Endpoint::TokenRefresh, Fault::Hang),
            16 | 32 => world.entra.heal(),
            38 => world.entra.keys_replace().unwrap(),
            42 => world.entra.set_strict_rotation(true),
            _ => {}
        }
        if let Err(wrong) = round(&world, &tokens).await {
            panic!("minute {minute}: {wrong}");
        }
        world.advance(Duration::from_secs(60));
    }
    let renewed = world.metric(ok).await - before;
    assert!(renewed >= (USERS * 3) as f64, "{renewed} renewals: tokens were not renewed at all");
    assert!(renewed <= RENEWALS_NEEDED, "{renewed} renewals");
    // Eight minutes of outage, at most one attempt a minute of whoever was due.
    let failed = world.entra.calls().token_refresh as f64 - renewed;
    assert!(failed <= (USERS * 8) as f64, "{failed} calls in vain");
    assert!(!world.entra.loop_detected());
    let session = "entrada_sessions";
    eventually("all sessions", || async { world.metric(session).await == USERS as f64 }).await;
}
