//! More is asked for than there is.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use standin::entra::{Endpoint, Fault};

use super::super::support::wire::Wire;
use super::super::support::{World, eventually};
use super::PODS;
use super::rule_test::Case;

/// So many in a minute are more than the alert's floor, of one in two seconds.
const BUSY: usize = 40;

pub(super) async fn connections_are_many() -> Case {
    let world = World::start_with(|raw| raw.max_connections = Some("20".to_owned())).await;
    let mut case = Case::before(&world).await;
    let open = join_all((0..18).map(|_| Wire::open(&world))).await;
    eventually("connections", || async { world.metric("entrada_connections").await >= 18.0 }).await;
    case.after(&world).await;
    drop(open);
    case.lasting().fires(&["EntradaConnectionsNearLimit warning"])
}

pub(super) async fn upstream_connections_are_used_up() -> Case {
    let world = World::start_with(|raw| raw.max_upstream_connections = Some("1".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut case = Case::before(&world).await;
    let mut watch = Wire::open(&world).await;
    watch
        .write(format!("GET {PODS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"))
        .await;
    assert!(watch.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), "upstream_busy");
    case.after(&world).await;
    case.lasting().fires(&["EntradaUpstreamConnectionsExhausted warning"])
}

pub(super) async fn a_user_sends_too_much() -> Case {
    let world = World::start_with(|raw| raw.rate_limit = Some("1/h burst 5".to_owned())).await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut case = Case::before(&world).await;
    let mut refused = 0;
    for _ in 0..BUSY / 2 {
        refused += usize::from(world.call(Method::GET, PODS, &token).await.status == 429);
    }
    assert!(refused > 12, "{refused}");
    case.after(&world).await;
    case.lasting().fires(&["EntradaUsersLimited warning"])
}

pub(super) async fn tokens_are_waited_for() -> Case {
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut case = Case::before(&world).await;
    world.advance(Duration::from_secs(7_200));
    world.entra.fail_next(Endpoint::TokenRefresh, Fault::Delay(Duration::from_millis(300)));
    for answer in join_all((0..BUSY).map(|_| world.call(Method::GET, PODS, &token))).await {
        assert_eq!(answer.status, 200);
    }
    case.after(&world).await;
    case.lasting().fires(&["EntradaSlow warning"])
}
