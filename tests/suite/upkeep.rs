//! What is done for open streams beside requests.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use standin::entra::Endpoint;

use super::support::wire::Wire;
use super::support::{World, eventually};

/// As in `src/entra/http.rs`.
const CALLS_AT_ONCE: usize = 128;
const WATCH: &str = "/api/v1/namespaces/team-a/configmaps?watch=true";

async fn watch(world: &World, credential: String) -> Wire {
    let mut wire = Wire::open(world).await;
    wire.write(format!("GET {WATCH} HTTP/1.1\r\nhost: x\r\n{credential}\r\n\r\n")).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_entra_delays_no_end_of_a_stream() {
    // Proves that streams are judged while more renewals than are made at once wait for an Entra that says nothing: an idle
    // cookie's watch ends in that time.
    let world = World::start_with(|raw| {
        raw.entra_timeout = Some("1h".to_owned());
        raw.cookie_idle = Some("90m".to_owned());
    })
    .await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(24 * 3_600)));
    let alice = world.signed_in("alice").await;
    let cookie = format!("cookie: __Host-entrada={}", world.session_cookie(&alice).unwrap());
    let mut idle = watch(&world, cookie).await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(3_600)));
    let world = &world;
    let watches = join_all((0..40).map(|n| async move {
        let name = format!("user{n}");
        world.entra.add_user(&name);
        let token = world.token(&world.signed_in(&name).await).await;
        world.api.add_rule(standin::apiserver::Rule::new(
            &standin::apiserver::Subject::User(world.entra.user(&name).unwrap().kubernetes_name().to_owned()),
            &["team-a"],
            &["watch"],
            &[""],
            &["configmaps"],
        ));
        watch(world, format!("authorization: Bearer {token}")).await
    }))
    .await;
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    // Their AKS tokens have expired, so that each round waits for Entra; the cookie has not gone idle.
    world.advance(Duration::from_secs(3_600));
    eventually("as many renewals as are made at once", || async {
        world.advance(Duration::from_secs(11));
        hold.count() >= 32
    })
    .await;
    world.advance(Duration::from_secs(1_800));
    eventually("the end of the idle cookie's watch", || async {
        world.advance(Duration::from_secs(11));
        world.api.requests().iter().filter(|request| request.is_open).count() <= watches.len()
    })
    .await;
    idle.read_to(b"0\r\n\r\n").await;
    hold.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_moves_while_its_old_session_renews_keeps_its_streams() {
    // Proves that a session which ends while it renews takes no stream along whose token lives on in the next session.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(3_600)));
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let _watch = watch(&world, format!("authorization: Bearer {token}")).await;
    world.entra.reset_calls();
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    world.advance(Duration::from_secs(3_600));
    eventually("the renewal", || async {
        world.advance(Duration::from_secs(11));
        hold.count() == 1
    })
    .await;
    let next = async {
        let page = browser.sign_in(&world.url, "alice").await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        world.keep_secret(world.session_cookie(&browser).unwrap());
    };
    tokio::join!(next, async {
        // The next session's first token: it has begun, and the token has moved.
        hold.arrived(2).await;
        hold.release();
    });
    // Its next renewal is another round's, so that the one that waited is over.
    world.advance(Duration::from_secs(3_000));
    eventually("the next renewal", || async {
        world.advance(Duration::from_secs(11));
        world.entra.calls().token_refresh >= 3
    })
    .await;
    assert_eq!(world.api.requests().iter().filter(|request| request.is_open).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_entra_are_bounded_however_many_users_need_one() {
    // Proves that a crowd whose tokens have expired at once takes a bounded number of sockets, and that all are served.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(Duration::from_secs(3_600)));
    let world = &world;
    let tokens = join_all((0..CALLS_AT_ONCE + 20).map(|n| async move {
        let name = format!("user{n}");
        world.entra.add_user(&name);
        world.token(&world.signed_in(&name).await).await
    }))
    .await;
    world.advance(Duration::from_secs(7_200));
    let hold = world.entra.hold(Endpoint::TokenRefresh);
    let requests = join_all(tokens.iter().map(|token| world.call(Method::GET, "/version", token)));
    let (pages, ()) = tokio::join!(requests, async {
        hold.arrived(CALLS_AT_ONCE).await;
        let waiting = r#"entrada_entra_calls_waiting"#;
        eventually("the others", || async { world.metric(waiting).await == 20.0 }).await;
        assert_eq!(hold.count(), CALLS_AT_ONCE);
        hold.release();
    });
    assert!(pages.iter().all(|page| page.status == 200));
}
