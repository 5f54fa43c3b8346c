//! What is done for open streams beside requests.

use std::time::Duration;

use futures_util::future::join_all;
use standin::entra::Endpoint;

use super::support::wire::Wire;
use super::support::{World, eventually};

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
