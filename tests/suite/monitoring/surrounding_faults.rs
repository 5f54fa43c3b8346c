//! What Entrada stands between is away, or does not want it.

use std::time::Duration;

use http::Method;
use standin::redis::Redis;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::super::support::{World, eventually};
use super::PODS;
use super::rule_test::Case;

/// Longer than an AKS token lives.
const TWO_HOURS: Duration = Duration::from_secs(7_200);

pub(super) async fn nobody_answers() -> Case {
    let world = World::start().await;
    let case = Case::before(&world).await;
    world.entrada.kill().await;
    assert!(TcpStream::connect(world.entrada.admin_addr).await.is_err());
    case.lasting().fires(&["EntradaDown critical"])
}

pub(super) async fn a_replica_is_not_ready() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    case.after(&world).await;
    // Nobody listens there.
    let nowhere = Some("https://localhost:9/".to_owned());
    let unready = World::start_unready(|raw| raw.azure_authority_host = nowhere).await;
    eventually("an attempt", || async { unready.admin("/readyz").await.1.contains("connection failed") })
        .await;
    case.another(&unready).await;
    case.lasting().fires(&["EntradaReplicaNotReady warning"])
}

/// A world whose user's AKS token has expired when the fault is there, and what the user's next request is answered.
async fn at_a_renewal(fault: impl AsyncFnOnce(&World), reason: &str) -> Case {
    let world = World::start().await;
    let token = world.token(&world.signed_in("alice").await).await;
    let mut case = Case::before(&world).await;
    world.advance(TWO_HOURS);
    fault(&world).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.header("entrada-reason"), reason);
    case.after(&world).await;
    case.lasting()
}

pub(super) async fn the_federated_credential_is_gone() -> Case {
    let fault = async |world: &World| world.entra.remove_federated_credential();
    at_a_renewal(fault, "administrator_required").await.fires(&["EntradaRefusedByEntra critical"])
}

pub(super) async fn entra_is_away() -> Case {
    let fault = async |world: &World| world.entra.kill().await;
    at_a_renewal(fault, "entra_unavailable").await.fires(&["EntradaEntraUnreachable critical"])
}

pub(super) async fn the_api_server_is_away() -> Case {
    let fault = async |world: &World| world.api.kill().await;
    at_a_renewal(fault, "upstream_unreachable").await.fires(&["EntradaApiServerUnreachable critical"])
}

pub(super) async fn the_store_is_away() -> Case {
    let dir = TempDir::new().unwrap();
    let mut redis = Redis::start(dir.path()).await.unwrap();
    let store = Some(format!("redis://{}", redis.address()));
    let world = World::start_with(|raw| raw.store = store).await;
    let mut case = Case::before(&world).await;
    redis.kill();
    eventually("the loss", || async { world.metric("entrada_store_up").await < 1.0 }).await;
    case.after(&world).await;
    case.lasting().fires(&["EntradaStoreDown critical"])
}
