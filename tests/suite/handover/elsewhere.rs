//! A hand-over whose requests arrive at several replicas, and one whose store is away.

use serde_json::Value;

use super::super::replicas::Replicas;
use super::super::support::{World, eventually};
use super::device::{ask, poll};
use super::{REDIRECT, VERIFIER, code, error, redeem};

/// A form of a program to this replica.
async fn post_to(world: &World, url: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let page = world.browser().post_form(url, fields, &[]).await.unwrap();
    (page.status.as_u16(), page.json().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_began_another_ends() {
    // Proves that code, device code, answer and tries are the same at every replica, and that the store learns no secret.
    let replicas = Replicas::start(1).await;
    let (world, urls) = (&replicas.world, replicas.urls());
    let browser = world.signed_in("alice").await;
    let code = code(world, &browser).await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT),
    ];
    // Presented to both at once, it is good once.
    let token_at = |n: usize| format!("{}/cli/token", urls[n]);
    let (here, there) = (token_at(0), token_at(1));
    let both =
        futures_util::future::join(post_to(world, &here, &fields), post_to(world, &there, &fields)).await;
    let mut statuses = [both.0.0, both.1.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400], "{both:?}");
    let mut secrets = vec![code];
    secrets.extend(
        [&both.0.1, &both.1.1].iter().filter_map(|answer| answer["token"].as_str().map(str::to_owned)),
    );

    let code_at = format!("{}/device/code", urls[1]);
    let (_, told) = post_to(world, &code_at, &[("client_name", "box-of-alice")]).await;
    let (device_code, user_code) =
        (told["device_code"].as_str().unwrap(), told["user_code"].as_str().unwrap());
    secrets.extend([device_code, user_code].map(str::to_owned));
    let dump = String::from_utf8_lossy(&replicas.redis.dump().unwrap()).into_owned();
    let page = browser.navigate(&world.at("/device")).await.unwrap();
    let page = browser.submit(&page, &[("user_code", user_code)]).await.unwrap();
    assert!(page.text().contains("box-of-alice"), "{}", page.text());
    let page = browser.submit(&page, &[("answer", "allow")]).await.unwrap();
    assert!(page.text().contains("Allowed"), "{}", page.text());
    let after = String::from_utf8_lossy(&replicas.redis.dump().unwrap()).into_owned();
    assert!(
        dump.contains("handover:asked:") && after.contains("handover:answer:"),
        "the dumps are those of the store"
    );
    // A token's label stands in clear, but not before somebody said yes.
    assert!(!dump.contains("box-of-alice"));
    for secret in &secrets {
        assert!(!dump.contains(secret) && !after.contains(secret), "{}", &secret[..8]);
    }
    let poll_at = format!("{}/device/token", urls[1]);
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    let (status, answer) = post_to(world, &poll_at, &[grant, ("device_code", device_code)]).await;
    assert_eq!(status, 200, "{answer}");
    let long = secrets.iter().map(String::as_str).filter(|secret| secret.len() > 40);
    long.chain(answer["token"].as_str()).for_each(|secret| world.keep_secret(secret));
    // A token that was renewed at one replica ends at the other, too.
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(replicas.get(&urls[1], "/whoami", &headers).await.status, 200);
    let renewed = world.call(http::Method::POST, "/cli/renew", answer["token"].as_str().unwrap()).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    world.keep_secret(renewed.json().unwrap()["token"].as_str().unwrap());
    let ends = |page: standin::browser::Page| {
        page.json().unwrap()["credential"]["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    eventually("the news", || async {
        let there = ends(replicas.get(&urls[1], "/whoami", &headers).await);
        there.duration_since(world.now()).as_secs() <= 60
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_as_such() {
    // Proves that an outage is no verdict on a code: the program may ask again, and the code is still good.
    let replicas = Replicas::start(0).await;
    let world = &replicas.world;
    let browser = world.signed_in("alice").await;
    let (_, device_code, _) = ask(world, "laptop").await;
    let code = code(world, &browser).await;
    replicas.redis.pause().unwrap();
    let world = &replicas.world;
    for answer in [redeem(world, &code, VERIFIER).await, poll(world, &device_code).await] {
        assert_eq!(error(&answer), (503, "temporarily_unavailable"));
    }
    let page =
        world.browser().post_form(&world.at("/device/code"), &[("client_name", "x")], &[]).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "5"));
    assert_eq!(page.header("entrada-reason"), "store_unavailable");
    replicas.redis.resume().unwrap();
    let world = &replicas.world;
    eventually("the return", || async { poll(world, &device_code).await.0 == 400 }).await;
}
