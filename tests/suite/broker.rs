//! The user's own AKS token: one call to Entra however many ask, ahead of need, and calm when Entra is not there.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use standin::apiserver::{Rule, Subject};
use standin::entra::{Endpoint, Fault};

use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_on_an_expired_token_are_one_call() {
    // Proves single flight: the call is held until all have asked, and all get its token.
    let world = World::start_with(|raw| raw.max_requests_per_user = Some("1000".to_owned())).await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    world.advance(2 * HOUR);
    world.entra.reset_calls();
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let requests = join_all((0..1_000).map(|_| world.call(Method::GET, PODS, &token)));
    let (pages, ()) = tokio::join!(requests, async {
        hold.arrived(1).await;
        hold.release();
    });
    assert!(
        pages.iter().all(|page| page.status == 200),
        "{:?}",
        pages.iter().find(|page| page.status != 200)
    );
    assert_eq!(world.entra.calls().token_refresh, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_users_are_a_hundred_calls() {
    // Proves that flights are one per session and not one in all, and that nobody gets another's token.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let mut tokens = Vec::new();
    for n in 0..100 {
        world.entra.add_user(&format!("user{n}"));
        tokens.push(world.token(&world.signed_in(&format!("user{n}")).await).await);
    }
    world.advance(2 * HOUR);
    world.entra.reset_calls();
    let whoami = r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#;
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let requests = (0..1_000).map(|n| {
        let bearer = format!("Bearer {}", tokens[n % 100]);
        let world = &world;
        async move {
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            world.browser().request(Method::POST, &world.at(review), &headers, whoami.into()).await.unwrap()
        }
    });
    for (n, page) in join_all(requests).await.iter().enumerate() {
        assert_eq!(page.status, 201, "{}", page.text());
        let user = world.entra.user(&format!("user{}", n % 100)).unwrap();
        assert_eq!(page.json().unwrap()["status"]["userInfo"]["username"], user.kubernetes_name());
    }
    assert_eq!(world.entra.calls().token_refresh, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_ahead_of_need_and_in_the_background() {
    // Proves that nobody waits for a renewal, and that a caller who leaves does not cancel it.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(Duration::from_secs(3_000));
    world.entra.reset_calls();
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    for _ in 0..10 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200, "while the renewal is under way");
    }
    hold.arrived(1).await;
    hold.release();
    world.advance(Duration::from_secs(900));
    eventually("the renewed token", || async { world.call(Method::GET, PODS, &token).await.status == 200 })
        .await;
    assert_eq!(world.entra.calls().token_refresh, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_while_it_renews_takes_no_other_along() {
    // Proves that the credential for which a renewal was started decides for itself alone.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let browser = world.signed_in("alice").await;
    let (one, other) = (world.token(&browser).await, world.token(&browser).await);
    world.advance(2 * HOUR);
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let first = world.call(Method::GET, PODS, &one);
    let rest = async {
        hold.arrived(1).await;
        let revoke = async {
            let list = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
            let id = list["tokens"][0]["id"].as_str().unwrap();
            let origin = [("origin", world.url.as_str())];
            let answer = browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
            assert_eq!(answer.status, 204);
            hold.release();
        };
        tokio::join!(world.call(Method::GET, PODS, &other), revoke).0
    };
    let (first, second) = tokio::join!(first, rest);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_entra_is_not_noticed_while_the_token_is_good() {
    // Proves that a failing renewal keeps the old token, is not repeated at once, and that recovery needs nobody.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.entra.kill().await;
    world.advance(Duration::from_secs(3_500));
    for _ in 0..20 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    }
    world.advance(Duration::from_secs(200));
    let failed = world.call(Method::GET, PODS, &token).await;
    assert_eq!((failed.status.as_u16(), failed.header("entrada-reason")), (503, "entra_unavailable"));
    assert!(matches!(failed.header("retry-after").parse(), Ok(1..=5_u32)));
    world.entra.revive().await.unwrap();
    world.advance(Duration::from_secs(61));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200, "nobody was signed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_remembered_for_a_while() {
    // Proves that a thousand impatient clients are no thousand calls, and that Retry-After is honoured.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    world.entra.reset_calls();
    world.entra.fail_always(Endpoint::TokenRefresh, Fault::throttled(120));
    for _ in 0..50 {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 503);
    }
    assert_eq!(world.entra.calls().token_refresh, 1);
    world.advance(Duration::from_secs(90));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 503);
    assert_eq!(world.entra.calls().token_refresh, 1, "asked to wait two minutes");
    world.entra.heal();
    world.advance(Duration::from_secs(31));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_token_endpoint_says_is_a_clear_error() {
    // Proves that no answer of Entra, however broken, signs anybody out or looks like the API server's.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    for fault in [
        Fault::status(500),
        Fault::Status { status: 503, retry_after: None, html: true },
        Fault::Empty(400),
        Fault::Empty(200),
        Fault::Oversize(2 * 1024 * 1024),
        Fault::Truncated,
        Fault::Reset,
        Fault::Error(700_016),
        Fault::Error(7_000_218),
    ] {
        world.advance(2 * HOUR);
        let told = format!("{fault:?}");
        world.entra.fail_always(Endpoint::TokenRefresh, fault);
        let page = world.call(Method::GET, PODS, &token).await;
        assert_eq!(page.status, 503, "{told}: {}", page.text());
        assert!(!page.header("entrada-reason").is_empty());
        world.entra.heal();
        world.advance(Duration::from_secs(61));
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200, "after {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_entra_closes_is_no_failure() {
    // Proves that a renewal whose connection breaks before the answer, as that of an idle one may, is asked for once more.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    world.entra.fail_next(Endpoint::TokenRefresh, Fault::Reset);
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_refresh_token_is_kept() {
    // Proves write-back: with an Entra that kills old refresh tokens, renewal after renewal works.
    let world = World::start().await;
    world.entra.set_strict_rotation(true);
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    for _ in 0..5 {
        world.advance(2 * HOUR);
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_assertion_is_read_again() {
    // Proves that our own identity comes from the file as it is now, not as it was at start.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance_without_kubelet(2 * HOUR);
    let refused = world.call(Method::GET, PODS, &token).await;
    let reason = refused.header("entrada-reason").to_owned();
    std::fs::write(world.dir.path().join("assertion"), world.entra.assertion()).unwrap();
    world.advance(Duration::from_secs(61));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    assert_eq!(reason, "administrator_required", "{}", refused.text());
    assert!(!world.logged("700024").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_assertion_is_not_blamed_on_entra() {
    // Proves that the user and the log are told of the file when Entra was never asked.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    std::fs::remove_file(world.dir.path().join("assertion")).unwrap();
    let refused = world.call(Method::GET, PODS, &token).await;
    assert_eq!(refused.header("entrada-reason"), "administrator_required", "{}", refused.text());
    assert!(refused.text().contains("cannot read its own workload-identity token"), "{}", refused.text());
    assert!(!world.logged("AZURE_FEDERATED_TOKEN_FILE cannot be read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_401_forces_one_renewal_and_one_retry() {
    // Proves decision 8: a token that the API server does not take any more is renewed once, not in a loop.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(Duration::from_secs(120));
    world.entra.reset_calls();
    world.api.refuse_tokens_issued_before(Some(world.now() - Duration::from_secs(350)));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    assert_eq!(world.entra.calls().token_refresh, 1);
    // Entra dates tokens five minutes back, so the refused one was dated 420 s ago. Now even fresh ones are refused: a second renewal within the minute is not tried; the 401 comes as it was.
    world.advance(Duration::from_secs(61));
    world
        .api
        .fault("/api", standin::apiserver::Fault::Answer(http::StatusCode::UNAUTHORIZED, "no".to_owned()));
    for _ in 0..5 {
        let page = world.call(Method::GET, PODS, &token).await;
        assert_eq!((page.status.as_u16(), page.text().as_str()), (401, "no"));
        assert!(page.header("warning").contains("/login"), "{}", page.header("warning"));
        assert_eq!(page.header("entrada-reason"), "", "it is the API server's answer");
    }
    assert_eq!(world.entra.calls().token_refresh, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_lets_go_of_its_connection_before_the_request_is_repeated() {
    // Proves that one exchange never holds two connections, or the bound on connections would not be one.
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    world.advance(Duration::from_secs(120));
    let (minute, before) = (Duration::from_secs(60), world.api.requests().len());
    world
        .api
        .fault("/api", standin::apiserver::Fault::Answer(http::StatusCode::UNAUTHORIZED, "no".to_owned()));
    world.api.fault("/api", standin::apiserver::Fault::SlowBody(1, minute));
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let seen = async {
        hold.arrived(1).await;
        world.api.clear_faults();
        world.api.fault("/api", standin::apiserver::Fault::DelayHead(minute));
        hold.release();
        world.api.requests_until(|seen| seen.len() == before + 2 && !seen[before].is_open).await;
        world.api.requests()[before..].iter().map(|request| request.status).collect::<Vec<_>>()
    };
    tokio::select! {
        page = world.call(Method::GET, PODS, &token) => panic!("it was answered: {}", page.status),
        seen = seen => assert_eq!(seen, [Some(401), None]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_entra_revoked_is_signed_out_for_good() {
    // Proves that a revoked user's tokens do not rest but end, and that a merely blocked user keeps the session.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.advance(2 * HOUR);
    world.entra.set_assigned("alice", false);
    let blocked = world.call(Method::GET, PODS, &token).await;
    assert_eq!((blocked.status.as_u16(), blocked.header("entrada-reason")), (403, "blocked_by_policy"));
    world.entra.set_assigned("alice", true);
    world.advance(Duration::from_secs(61));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);

    world.advance(2 * HOUR);
    world.entra.revoke_sessions("alice");
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "session_ended");
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "unknown_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_renewed_on_demand_once_a_minute() {
    // Proves POST /refresh: a group that was joined shows at once.
    let world = World::start().await;
    let token = world.token(&world.signed_in("bob").await).await;
    let groups = async || {
        let headers =
            [("authorization", format!("Bearer {token}")), ("content-type", "application/json".to_owned())];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let review = r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#;
        let url = world.at("/apis/authentication.k8s.io/v1/selfsubjectreviews");
        world.browser().request(Method::POST, &url, &headers, review.into()).await.unwrap().text()
    };
    let group = "99999999-0000-0000-0000-000000000001";
    // Whoever is in the group may list the pods of team-a.
    let in_group = Subject::Group(group.to_owned());
    world.api.add_rule(Rule::new(&in_group, &["team-a"], &["list"], &[""], &["pods"]));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 403);
    assert!(!groups().await.contains(group));
    world.entra.edit_user("bob", |bob| bob.groups.push(group.to_owned()));
    assert!(!groups().await.contains(group));
    let renewed = world.call(Method::POST, "/refresh", &token).await;
    assert_eq!(
        (renewed.status.as_u16(), renewed.json().unwrap()["credential"]["kind"].as_str()),
        (200, Some("token"))
    );
    assert!(groups().await.contains(group));
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let again = world.call(Method::POST, "/refresh", &token).await;
    assert_eq!((again.status.as_u16(), again.header("entrada-reason")), (429, "renewed_recently"));
    world.advance(Duration::from_secs(60));
    assert_eq!(world.call(Method::POST, "/refresh", &token).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_sessions_share_their_patience_with_entra() {
    // Proves that renewals ahead of need heed Retry-After too: four sessions of one user are not four times the calls.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(world.token(&world.signed_in("alice").await).await);
    }
    world.advance(Duration::from_secs(3_000));
    world.entra.reset_calls();
    world.entra.fail_always(Endpoint::TokenRefresh, Fault::throttled(600));
    for _ in 0..5 {
        for token in &tokens {
            assert_eq!(world.call(Method::GET, PODS, token).await.status, 200);
        }
        eventually("the flights' landing", || async { world.entra.calls().token_refresh >= 1 }).await;
        world.advance(Duration::from_secs(61));
    }
    // The four may have taken off together, before the first had failed.
    assert!(world.entra.calls().token_refresh <= 4, "{}", world.entra.calls().token_refresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_users_trouble_is_not_anothers() {
    // Proves that a consent that one user lacks, or a policy that one session has not met, leaves the others alone.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    let bob = world.token(&world.signed_in("bob").await).await;
    let alice = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    world.entra.set_refused_with("bob", Some(65001));
    assert_eq!(world.call(Method::GET, PODS, &bob).await.header("entrada-reason"), "administrator_required");
    assert_eq!(world.call(Method::GET, PODS, &alice).await.status, 200);

    let other = world.token(&world.signed_in("alice").await).await;
    world.advance(2 * HOUR);
    world.entra.set_refused_with("alice", Some(50076));
    let refused = world.call(Method::GET, PODS, &alice).await;
    assert_eq!((refused.status.as_u16(), refused.header("entrada-reason")), (401, "step_up_required"));
    world.entra.set_refused_with("alice", None);
    assert_eq!(world.call(Method::GET, PODS, &other).await.status, 200);
}
