//! Entrada's clock was ahead and is set back while it runs: what is measured in lengths of time goes on.

use std::time::Duration;

use http::Method;
use standin::entra::{Endpoint, Fault};

use super::support::wire::Wire;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const WATCH: &str = "/api/v1/namespaces/team-a/configmaps?watch=true";
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(61);

#[tokio::test(flavor = "multi_thread")]
async fn access_can_be_renewed_a_minute_later_all_the_same() {
    // Proves that POST /refresh is once a minute by a clock that is never set, and asks Entra each time.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::POST, "/refresh", &token).await.status, 200);
    world.set_back(2 * HOUR);
    let again = world.call(Method::POST, "/refresh", &token).await;
    assert_eq!(again.header("entrada-reason"), "renewed_recently");
    for renewals in 2..=3 {
        world.advance(MINUTE);
        assert_eq!(world.call(Method::POST, "/refresh", &token).await.status, 200);
        assert_eq!(world.entra.calls().token_refresh, renewals + 1, "with the one at the sign-in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_of_the_api_server_forces_a_renewal_all_the_same() {
    // Proves that a token's age, and the time since the last forced renewal, are lengths of time.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    world.set_back(2 * HOUR);
    world.entra.reset_calls();
    for renewals in 1..=2 {
        world.advance(Duration::from_secs(120));
        // Entra dates tokens five minutes back.
        world.api.refuse_tokens_issued_before(Some(world.true_now() - Duration::from_secs(350)));
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
        assert_eq!(world.entra.calls().token_refresh, renewals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_ahead_of_need_all_the_same() {
    // Proves that a token's lifetime is a length of time: at its real end nobody waits for a renewal, or meets a 401.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    world.set_back(2 * HOUR);
    world.entra.reset_calls();
    for renewals in 1..=2 {
        world.advance(Duration::from_secs(3_000));
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
        eventually("the renewal", || async { world.entra.calls().token_refresh == renewals }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_expired_is_not_used_any_more() {
    // Proves that neither this process's memory nor the store gives out a token whose lifetime is over.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    world.set_back(2 * HOUR);
    world.advance(HOUR);
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    assert!(world.api.requests().iter().all(|request| request.status != Some(401)), "a 401 was met");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_token_that_came_last_is_kept() {
    // Proves that of two grants the one written later wins: with an Entra that kills old refresh tokens, the next works.
    let world = World::start().await;
    world.entra.set_strict_rotation(true);
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.set_back(3 * HOUR);
    world.entra.reset_calls();
    for renewals in 1..=3 {
        world.advance(MINUTE);
        assert_eq!(world.call(Method::POST, "/refresh", &token).await.status, 200);
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
        assert_eq!(world.entra.calls().token_refresh, renewals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_remembered_for_its_time_and_no_longer() {
    // Proves that back-off and Retry-After are lengths of time, whether the clock was set back before or after the failure.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    world.entra.reset_calls();
    world.entra.fail_always(Endpoint::TokenRefresh, Fault::throttled(120));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 503);
    world.set_back(HOUR);
    world.advance(Duration::from_secs(90));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 503);
    assert_eq!(world.entra.calls().token_refresh, 1, "asked to wait two minutes");
    world.entra.heal();
    world.advance(Duration::from_secs(31));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);

    world.advance(2 * HOUR);
    // To before the session began.
    world.set_back(8 * HOUR);
    world.entra.reset_calls();
    world.entra.fail_always(Endpoint::TokenRefresh, Fault::throttled(120));
    for _ in 0..5 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 503);
    }
    assert_eq!(world.entra.calls().token_refresh, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_looked_after_all_the_same() {
    // Proves that the rounds over open streams, and what else is done every few seconds, do not wait for the clock to catch
    // up.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    let mut wire = Wire::open(&world).await;
    wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n")).await;
    wire.head().await;
    world.entra.reset_calls();
    // Not so far that the kubelet's token, or a pause that has just begun, would be what is seen.
    world.set_back(24 * HOUR);
    world.advance(Duration::from_secs(3_000));
    eventually("the renewal", || async {
        world.advance(Duration::from_secs(11));
        world.entra.calls().token_refresh >= 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_fetched_five_minutes_later_all_the_same() {
    // Proves that an unknown key is looked for by the time since the last look.
    let world = World::start().await;
    let sign_in = async || world.browser().sign_in(&world.url, "alice").await.unwrap().status.as_u16();
    world.entra.keys_replace().unwrap();
    assert_eq!(sign_in().await, 200);
    // Within what an ID token allows clocks to differ.
    world.set_back(Duration::from_secs(250));
    world.advance(Duration::from_secs(301));
    world.entra.keys_replace().unwrap();
    assert_eq!(sign_in().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_used_is_not_idle() {
    // Proves that a cookie's last use counts, although it lies in the future of a clock that was set back.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    for _ in 0..2 {
        world.advance(23 * HOUR);
        assert_eq!(browser.get(&world.at("/whoami")).await.unwrap().status, 200);
    }
    world.set_back(Duration::from_secs(300));
    let answer = browser.get(&world.at("/whoami")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("entrada-reason")), (200, ""));
}
