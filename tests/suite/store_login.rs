//! How Entrada logs in to its store: over TLS, with a password that changes, with the workload identity, and with no more
//! rights than the documentation says.

use http::Method;
use standin::pki::Ca;
use standin::redis::Redis;
use tempfile::TempDir;

use super::handover::{device, handed_over};
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";

/// The access list that docs/security.md gives, for this user and password.
fn documented_acl(user: &str, password: &str) -> Vec<String> {
    let text = std::fs::read_to_string("docs/security.md").unwrap();
    let begin = text.find("on >…").expect("docs/security.md has the access list");
    let rules = text[begin..].split("```").next().unwrap();
    let rules = rules.split_whitespace().map(|rule| rule.replace("…", password));
    ["ACL", "SETUSER", user].map(str::to_owned).into_iter().chain(rules).collect()
}

pub(crate) fn grant(redis: &Redis, user: &str, password: &str) {
    let command = documented_acl(user, password);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(redis.run(&command).unwrap(), "OK");
}

/// Everything that a user does goes through the store.
async fn everything_works(world: &World) {
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200);
    let list = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    assert_eq!(list["tokens"][0]["state"], "active");
    let id = list["tokens"][0]["id"].as_str().unwrap();
    let origin = [("origin", world.url.as_str())];
    let revoked = browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    assert_eq!(revoked.status, 204);
    handed_over(world, &browser).await;
    let (_, device_code, user_code) = device::ask(world, "laptop").await;
    assert_eq!(device::poll(world, &device_code).await.0, 400);
    assert_eq!(device::enter(world, &browser, "BBBB-BBBB").await.status, 400);
    let page = device::enter(world, &browser, &user_code).await;
    browser.submit(&page, &[("answer", "allow")]).await.unwrap();
    assert_eq!(device::poll(world, &device_code).await.0, 200);
    let out = browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    assert!(out.status.as_u16() < 400, "{}", out.status);
}

async fn authentications(redis: &Redis) -> usize {
    let stats = redis.run(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_auth:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_access_list_is_enough() {
    // Proves that the rights in docs/security.md suffice, and that Redis refused nothing.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    grant(&redis, "entrada", "correct-horse-battery");
    let password = directory.path().join("password");
    std::fs::write(&password, "correct-horse-battery\n").unwrap();
    let world = World::start_with(|raw| {
        raw.store = Some(format!("redis://{}", redis.address()));
        raw.store_username = Some("entrada".to_owned());
        raw.store_password_file = Some(password.to_str().unwrap().to_owned());
    })
    .await;
    everything_works(&world).await;
    let refused = redis.run(&["ACL", "LOG"]).unwrap();
    assert!(!refused.contains("command") && !refused.contains("key"), "{refused}");
    world.keep_secret("correct-horse-battery");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changes_is_used_on_the_open_connection() {
    // Proves that a rotated password file needs no restart and loses no connection.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    grant(&redis, "entrada", "the-first-one");
    let password = directory.path().join("password");
    std::fs::write(&password, "the-first-one").unwrap();
    let world = World::start_with(|raw| {
        raw.store = Some(format!("redis://{}", redis.address()));
        raw.store_username = Some("entrada".to_owned());
        raw.store_password_file = Some(password.to_str().unwrap().to_owned());
    })
    .await;
    redis.run(&["ACL", "SETUSER", "entrada", ">the-second-one"]).unwrap();
    let before = authentications(&redis).await;
    std::fs::write(&password, "the-second-one").unwrap();
    eventually("the new password", || async { authentications(&redis).await > before }).await;
    redis.run(&["ACL", "SETUSER", "entrada", "<the-first-one"]).unwrap();
    everything_works(&world).await;
    // A connection that is lost comes back with it.
    redis.run(&["CLIENT", "KILL", "USER", "entrada"]).unwrap();
    eventually("the return", || async {
        world.browser().sign_in(&world.url, "bob").await.is_ok_and(|page| page.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workload_identity_logs_in_over_tls_and_renews_its_token() {
    // Proves ENTRADA_STORE_AUTH=entra: object id and token as user and password, a new one on the open connection.
    let directory = TempDir::new().unwrap();
    let ca = Ca::new("of the store").unwrap();
    let redis = Redis::start_with_tls(directory.path(), &ca).await.unwrap();
    let ca_file = directory.path().join("store-ca.pem");
    std::fs::write(&ca_file, ca.pem()).unwrap();
    let world = World::start_unready(|raw| {
        raw.store = Some(format!("rediss://localhost:{}", redis.port()));
        raw.store_ca_file = Some(ca_file.to_str().unwrap().to_owned());
        raw.store_auth = Some("entra".to_owned());
    })
    .await;
    world.entra.set_access_token_lifetime(Some(std::time::Duration::from_secs(6)));
    // As Azure does it: whoever bears a token of the principal's is let in as the principal.
    let principal = standin::entra::Options::default().principal_id;
    eventually("the first token", || async { !world.entra.store_tokens().is_empty() }).await;
    assert!(world.admin("/readyz").await.1.contains("[-] store: not reached yet"));
    let admit = || {
        let tokens = world.entra.store_tokens();
        grant(&redis, &principal, tokens.last().unwrap());
        tokens.len()
    };
    eventually("readiness", || async {
        admit();
        world.admin("/readyz").await.0 == 200
    })
    .await;
    let (first, before) = (admit(), authentications(&redis).await);
    eventually("a new token", || async { world.entra.store_tokens().len() > first }).await;
    admit();
    eventually("its use", || async { authentications(&redis).await > before }).await;
    let grants = world.entra.token_calls();
    assert!(grants.iter().any(|call| format!("{call:?}").contains("client_credentials")), "{grants:?}");
    world.entra.set_access_token_lifetime(None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_sentinels_name_is_logged_in_to_and_followed() {
    // Proves the login behind Sentinel, with the documented rights, and that a failover needs no restart and signs nobody
    // out.
    let directory = TempDir::new().unwrap();
    let mut master = Redis::start(directory.path()).await.unwrap();
    let of = format!("127.0.0.1 {}", master.port());
    let replica = Redis::start_with(directory.path(), &["--replicaof", &of]).await.unwrap();
    replica.until("master_link_status:up", &["INFO", "replication"]).await.unwrap();
    grant(&master, "entrada", "correct-horse-battery");
    grant(&replica, "entrada", "correct-horse-battery");
    let sentinel = Redis::start_sentinel(directory.path(), &master, 1).await.unwrap();
    sentinel.until(&replica.port().to_string(), &["SENTINEL", "REPLICAS", "mymaster"]).await.unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "correct-horse-battery").unwrap();
    let world = World::start_with(|raw| {
        raw.store = Some(format!("redis-sentinel://{}/mymaster", sentinel.address()));
        raw.store_username = Some("entrada".to_owned());
        raw.store_password_file = Some(password.to_str().unwrap().to_owned());
    })
    .await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    // The replica has all that the master acknowledged.
    let has_it = format!("slave0:ip=127.0.0.1,port={},state=online", replica.port());
    master.until(&has_it, &["INFO", "replication"]).await.unwrap();
    assert_eq!(master.run(&["WAIT", "1", "5000"]).unwrap(), "1");
    master.kill();
    eventually("the failover", || async {
        assert_eq!(world.call(Method::GET, PODS, &token).await.status, 200, "nobody is signed out");
        world.browser().sign_in(&world.url, "bob").await.is_ok_and(|page| page.status == 200)
    })
    .await;
    assert!(replica.run(&["ROLE"]).unwrap().starts_with("master"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_certificate_is_not_trusted_is_not_used() {
    // Proves that TLS towards the store is verified.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start_with_tls(directory.path(), &Ca::new("of the store").unwrap()).await.unwrap();
    let other = directory.path().join("other.pem");
    std::fs::write(&other, Ca::new("another").unwrap().pem()).unwrap();
    let world = World::start_unready(|raw| {
        raw.store = Some(format!("rediss://localhost:{}", redis.port()));
        raw.store_ca_file = Some(other.to_str().unwrap().to_owned());
    })
    .await;
    eventually("the refusal", || async { !world.logged("the store cannot be reached").is_empty() }).await;
    assert_eq!(world.admin("/readyz").await.0, 503);
    assert_eq!(redis.run(&["DBSIZE"]).unwrap(), "0");
}
