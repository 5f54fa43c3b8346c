//! A master of Redis is lost under load, and a replica of Redis takes its place: behind Sentinel, and in a cluster.

use std::time::Duration;

use standin::redis::Redis;
use tempfile::TempDir;
use tokio::time::Instant;

use super::figures::print;
use super::load::{Load, Record};
use super::service::{Service, Told};
use super::world::Visitor;
use super::{PATIENCE, World, within};

const USERS: usize = 24;
/// Of the sentinels and of the cluster, in which a master is declared dead and another one elected.
const FAILOVER: Duration = Duration::from_secs(30);

/// Three sentinels that agree on a master and its replica.
struct Watched {
    master: Redis,
    _replica: Redis,
    sentinels: Vec<Redis>,
}

impl Watched {
    async fn start(dir: &TempDir) -> Self {
        let master = Redis::start(dir.path()).await.unwrap();
        let of = format!("127.0.0.1 {}", master.port());
        let replica = Redis::start_with(dir.path(), &["--replicaof", &of, "--repl-diskless-sync-delay", "0"])
            .await
            .unwrap();
        replica.until("master_link_status:up", &["INFO", "replication"]).await.unwrap();
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Redis::start_sentinel(dir.path(), &master, 2).await.unwrap());
        }
        for sentinel in &sentinels {
            sentinel.until("OK 3 usable", &["SENTINEL", "CKQUORUM", "mymaster"]).await.unwrap();
            sentinel.until("num-slaves\n1", &["SENTINEL", "MASTER", "mymaster"]).await.unwrap();
        }
        Self { master, _replica: replica, sentinels }
    }

    fn url(&self) -> String {
        let addresses = self.sentinels.iter().map(Redis::address).collect::<Vec<_>>();
        format!("redis-sentinel://{}/mymaster", addresses.join(","))
    }
}

/// Signs all users in, one after the other. How many sign-ins were refused, and when the last of these ended.
async fn sign_all_in(world: &World, service: &Service, visitors: &[Visitor]) -> (usize, Option<Instant>) {
    let (mut refused, mut last) = (0, None);
    for visitor in visitors {
        let began = Instant::now();
        while let Err(page) = world.sign_in(&service.url, &visitor.account.name).await.unwrap() {
            assert_eq!(page.header("entrada-reason"), "store_unavailable", "{}", page.text());
            assert!(began.elapsed() < FAILOVER, "no sign-in");
            refused += 1;
            last = Some(Instant::now());
        }
    }
    (refused, last)
}

/// Kills a master under load. What became of requests, and when it was killed.
async fn lose(
    scenario: &str,
    world: &World,
    service: &Service,
    visitors: &[Visitor],
    kill: impl FnOnce(),
) -> (Record, Instant) {
    let load = Load::start(&world.dialer, service, visitors);
    load.goes_on(750).await;
    let killed = Instant::now();
    kill();
    let (refused, last) = sign_all_in(world, service, visitors).await;
    let after = last.map_or(0.0, |last| (last - killed).as_secs_f64());
    print(scenario, "sign-ins refused, the last one after", format!("{refused}, {after:.1} s"));
    let served = || async {
        for visitor in visitors {
            if !service.all_answer(world, &visitor.account, 200).await {
                return false;
            }
        }
        true
    };
    within(PATIENCE, "every session is served by every replica", served).await;
    load.goes_on(750).await;
    (load.stop().await, killed)
}

fn judge(scenario: &str, record: &Record, killed: Instant) {
    print(scenario, "known sessions: 200, 401, 503, others, none", record.summary());
    print(scenario, "how long they took after the master was killed", record.spread(killed, Instant::now()));
    let failures = record.failures();
    for asked in &failures {
        assert!(asked.outcome.as_ref().is_ok_and(Told::is_store_away), "{asked:?}");
    }
    if let (Some(first), Some(last)) =
        (failures.iter().map(|f| f.at).min(), failures.iter().map(|f| f.at).max())
    {
        let after =
            [first, last].map(|at| format!("{:.1} s", at.saturating_duration_since(killed).as_secs_f64()));
        print(scenario, "the first and the last 503 were asked for after", after.join(", "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_sentinel_replaces_signs_nobody_out() {
    // Proves that known sessions notice nothing of a failover, and how soon new ones can begin.
    let world = World::start().await;
    let mut watched = Watched::start(&world.dir).await;
    let service = Service::start(&world, &watched.url(), &[]).await;
    let visitors = service.visitors(&world, USERS).await;
    let (record, killed) = lose("sentinel", &world, &service, &visitors, || watched.master.kill()).await;
    judge("sentinel", &record, killed);
    assert_eq!(record.failures().len(), 0, "{:#?}", record.failures());
    service.assert_no_errors_logged();
    world.upstream.assert_nobody_was_taken_for_another();
}

/// A cluster loses this one of its three masters.
async fn loses_a_master(scenario: &str, master: usize) {
    let world = World::start().await;
    let mut nodes = Redis::start_cluster(world.dir.path(), 1).await.unwrap();
    let addresses = nodes.iter().map(Redis::address).collect::<Vec<_>>();
    let service = Service::start(&world, &format!("redis-cluster://{}", addresses.join(",")), &[]).await;
    let visitors = service.visitors(&world, USERS).await;
    let (record, killed) = lose(scenario, &world, &service, &visitors, || nodes[master].kill()).await;
    judge(scenario, &record, killed);
    service.assert_no_errors_logged();
    world.upstream.assert_nobody_was_taken_for_another();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_master_signs_nobody_out() {
    // Proves that nobody is refused for good while a third of the users' records has no master.
    loses_a_master("cluster", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_the_master_of_the_channel_signs_nobody_out() {
    // Proves the same where messages are published at the lost master, too: `entrada:1:changes` is in the last third.
    loses_a_master("channel", 2).await;
}
