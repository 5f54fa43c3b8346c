//! What can be wrong with the store: real Redis, alone, behind Sentinel, as a cluster, and with TLS.

use standin::entra::Options;
use standin::pki::Ca;
use standin::redis::Redis;
use tempfile::TempDir;

use super::old_redis::{self, OldRedis};
use super::{Ground, assert_only_fault, assert_well};
use crate::store_login::grant;
use crate::support::World;
use crate::support::program::settings;

const PASSWORD: &str = "correct-horse-battery";

/// A good set-up with this store, and the documented login.
async fn ground_with(store: &str) -> Ground {
    let mut ground = Ground::new().await;
    ground.set("ENTRADA_STORE", store);
    let password = ground.file("password", &format!("{PASSWORD}\n"));
    ground.set("ENTRADA_STORE_USERNAME", "entrada");
    ground.set("ENTRADA_STORE_PASSWORD_FILE", password);
    ground
}

fn seen(rows: &[super::Row]) -> &str {
    &rows.iter().find(|row| row.check == "store").unwrap().seen
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_redis_and_nothing_is_left_in_it() {
    // Proves that the documented rights are just right, with TLS, and that the store is as it was.
    let (directory, ca) = (TempDir::new().unwrap(), Ca::new("of the store").unwrap());
    let redis = Redis::start_with_tls(directory.path(), &ca).await.unwrap();
    grant(&redis, "entrada", PASSWORD);
    let mut ground = ground_with(&format!("rediss://localhost:{}", redis.port())).await;
    let ca_file = ground.file("store-ca.pem", ca.pem());
    ground.set("ENTRADA_STORE_CA_FILE", ca_file);
    let rows = assert_well(&ground).await;
    assert!(seen(&rows).contains("over TLS, noeviction, just the rights it needs"), "{rows:#?}");
    assert!(ground.run(&[]).await.1.contains("ok     store "));
    assert_eq!(redis.run(&["DBSIZE"]).unwrap(), "0", "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_behind_sentinel_and_with_a_cluster() {
    // Proves the other two forms of a store's address.
    let directory = TempDir::new().unwrap();
    let master = Redis::start(directory.path()).await.unwrap();
    grant(&master, "entrada", PASSWORD);
    let sentinel = Redis::start_sentinel(directory.path(), &master, 1).await.unwrap();
    let ground = ground_with(&format!("redis-sentinel://{}/mymaster", sentinel.address())).await;
    assert_well(&ground).await;
    let nodes = Redis::start_cluster(directory.path(), 0).await.unwrap();
    nodes.iter().for_each(|node| grant(node, "entrada", PASSWORD));
    let ground = ground_with(&format!("redis-cluster://{},{}", nodes[0].address(), nodes[1].address())).await;
    let rows = assert_well(&ground).await;
    assert!(seen(&rows).contains(", 3 masters without TLS"), "{rows:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_the_workload_identity_as_login() {
    // Proves ENTRADA_STORE_AUTH=entra, and that the store is not failed where Entra is the fault.
    let (directory, ca) = (TempDir::new().unwrap(), Ca::new("of the store").unwrap());
    let redis = Redis::start_with_tls(directory.path(), &ca).await.unwrap();
    let mut ground = Ground::new().await;
    let ca_file = ground.file("store-ca.pem", ca.pem());
    ground.set("ENTRADA_STORE", format!("rediss://localhost:{}", redis.port()));
    ground.set("ENTRADA_STORE_CA_FILE", ca_file);
    ground.set("ENTRADA_STORE_AUTH", "entra");
    // As Azure does it: the user is the principal, and the password whatever token it has.
    let rules =
        ["ACL", "SETUSER", &Options::default().principal_id, "on", "nopass", "resetkeys", "~entrada:1:*"];
    let rules: Vec<&str> = rules.into_iter().chain(["&entrada:1:changes", "+@all", "-config"]).collect();
    redis.run(&rules).unwrap();
    assert_well(&ground).await;
    ground.world.entra.set_aks_present(false);
    assert_only_fault("not the store's fault", &ground, ("aks_permission", "AADSTS500011", "az ad sp")).await;
    assert!(seen(&ground.rows().await.1).contains("over TLS"), "it was looked at all the same");
    ground.world.entra.remove_federated_credential();
    let expected = ("client_assertion", "AADSTS70025", "federated credential");
    assert_only_fault("the store's login behind Entra", &ground, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_let_us_in() {
    // Proves that no connection, no trust and no login are told from each other.
    let (directory, ca) = (TempDir::new().unwrap(), Ca::new("of the store").unwrap());
    let redis = Redis::start_with_tls(directory.path(), &ca).await.unwrap();
    grant(&redis, "entrada", "another-password");
    let mut ground = ground_with(&format!("rediss://localhost:{}", redis.port())).await;
    let expected = ("store", "no authority that is trusted here", "ENTRADA_STORE_CA_FILE must hold the CA");
    assert_only_fault("a private CA that is not set", &ground, expected).await;

    let ca_file = ground.file("store-ca.pem", ca.pem());
    ground.set("ENTRADA_STORE_CA_FILE", ca_file);
    let expected = ("store", "it refuses us", "correct ENTRADA_STORE_USERNAME, ENTRADA_STORE_PASSWORD_FILE");
    assert_only_fault("a wrong password", &ground, expected).await;

    ground.settings.remove("ENTRADA_STORE_CA_FILE");
    ground.set("ENTRADA_STORE", format!("redis://localhost:{}", redis.port()));
    let expected = ("store", "it cannot be reached without TLS", "(rediss… for TLS)");
    assert_only_fault("no TLS towards a store that wants it", &ground, expected).await;

    drop(redis);
    let expected = ("store", "Connection refused", "allow the pod to reach it");
    assert_only_fault("nobody there", &ground, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_would_lose_sessions_or_gives_the_wrong_rights() {
    // Proves that eviction and rights, too many and too few, are found, and nothing is left behind by the search.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    grant(&redis, "entrada", PASSWORD);
    let mut ground = ground_with(&format!("redis://{}", redis.address())).await;
    assert_well(&ground).await;
    let run = |command: &[&str]| assert_eq!(redis.run(command).unwrap(), "OK");

    for policy in ["allkeys-lru", "volatile-ttl"] {
        run(&["CONFIG", "SET", "maxmemory-policy", policy]);
        assert_only_fault(policy, &ground, ("store", policy, "set maxmemory-policy to noeviction")).await;
    }
    run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);

    for (without, seen) in [
        ("-hset", "it does not do what we need: HSET: "),
        ("-eval", "'eval'"),
        ("-del", "it does not do what we need: DEL: "),
        ("-publish", "PUBLISH: "),
    ] {
        run(&["ACL", "SETUSER", "entrada", without]);
        let fix = "the access list in docs/security.md";
        assert_only_fault(without, &ground, ("store", seen, fix)).await;
        run(&["ACL", "SETUSER", "entrada", &without.replace('-', "+")]);
    }
    run(&["ACL", "SETUSER", "entrada", "resetkeys", "~other:*"]);
    let expected = ("store", "NOPERM", "access list");
    assert_only_fault("another key", &ground, expected).await;
    run(&["ACL", "SETUSER", "entrada", "~entrada:1:*", "resetchannels"]);
    let expected = ("store", "it refuses us", "access list");
    assert_only_fault("no channel", &ground, expected).await;
    run(&["ACL", "SETUSER", "entrada", "&*", "+@all"]);
    let expected = ("store", "our user may read the server's configuration", "a user of its own");
    assert_only_fault("all rights", &ground, expected).await;
    ground
        .settings
        .retain(|name, _| !matches!(*name, "ENTRADA_STORE_USERNAME" | "ENTRADA_STORE_PASSWORD_FILE"));
    let expected = ("store", "we are its user `default`", "a user of its own");
    assert_only_fault("the default user", &ground, expected).await;
    assert_eq!(redis.run(&["DBSIZE"]).unwrap(), "0", "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_writes() {
    // Proves that a replica and a master without memory are told from missing rights.
    let directory = TempDir::new().unwrap();
    let master = Redis::start(directory.path()).await.unwrap();
    let of = format!("127.0.0.1 {}", master.port());
    let replica = Redis::start_with(directory.path(), &["--replicaof", &of]).await.unwrap();
    grant(&replica, "entrada", PASSWORD);
    let ground = ground_with(&format!("redis://{}", replica.address())).await;
    assert_only_fault("a replica", &ground, ("store", "READONLY", "name the master")).await;
    grant(&master, "entrada", PASSWORD);
    let ground = ground_with(&format!("redis://{}", master.address())).await;
    master.run(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_only_fault("a full one", &ground, ("store", "OOM", "give it more memory")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_describes_itself_as_unfit() {
    // Proves that an old version and a disk that takes nothing are read from the store's own description.
    let old = OldRedis::start(old_redis::VERSION_6).await;
    let ground = ground_with(&format!("redis://{}", old.address)).await;
    let expected = ("store", "its version is 6.2.14", "take Redis 7.0 or later, or Valkey");
    assert_only_fault("version 6", &ground, expected).await;
    let full = OldRedis::start(old_redis::FULL_DISK).await;
    let ground = ground_with(&format!("redis://{}", full.address)).await;
    let expected = ("store", "it could not write to its disk (rdb_last_bgsave_status)", "give its disk room");
    assert_only_fault("a full disk", &ground, expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_is_not_disturbed() {
    // Proves that a server beside which doctor runs keeps its connection to the store, its sessions and its ports.
    let directory = TempDir::new().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    grant(&redis, "entrada", PASSWORD);
    let password = directory.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let (store, password) = (format!("redis://{}", redis.address()), password.to_str().unwrap().to_owned());
    let world = World::start_with(|raw| {
        raw.store = Some(store.clone());
        raw.store_username = Some("entrada".to_owned());
        raw.store_password_file = Some(password.clone());
    })
    .await;
    let browser = world.signed_in("alice").await;
    let before = redis.run(&["DBSIZE"]).unwrap();
    let settings = settings(&world);
    let mut ground = Ground { world, settings };
    ground.set("ENTRADA_STORE", store);
    ground.set("ENTRADA_STORE_USERNAME", "entrada");
    ground.set("ENTRADA_STORE_PASSWORD_FILE", password);
    ground.set("ENTRADA_LISTEN", ground.world.entrada.addr.to_string());
    for _ in 0..3 {
        assert_well(&ground).await;
    }
    assert_eq!(redis.run(&["DBSIZE"]).unwrap(), before);
    assert_eq!(browser.get(&ground.world.at("/whoami")).await.unwrap().status, 200);
    assert_eq!(ground.world.admin("/readyz").await.0, 200);
    assert!(ground.world.logged("the connection to the store is made anew").is_empty());
}
