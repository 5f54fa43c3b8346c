//! Replicas come and go under load: a rolling restart, and each killed in turn.

use std::time::Duration;

use tokio::time::Instant;

use super::figures::print;
use super::load::{Load, Record};
use super::service::{REPLICAS, Service};
use super::{World, eventually};

use standin::redis::Redis;

const USERS: usize = 24;
const DRAIN: &str = "5s";
/// After a replica was killed, a request may still have been sent on a connection that its client takes for good.
const NOTICED_WITHIN: Duration = Duration::from_millis(500);

/// A replica that was killed, and when.
type Killed = (usize, Instant);

/// Each replica is told to stop and a new one starts in its place. How long each took.
async fn restart_each(world: &World, service: &mut Service, load: &Load) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..REPLICAS {
        let began = Instant::now();
        service.replicas[n].terminate();
        eventually("unreadiness", || async { !service.replicas[n].is_ready().await }).await;
        service.set_in_service(n, false);
        assert_eq!(service.replicas[n].exit_code().await, Some(0));
        service.replicas[n] = service.start_replica(world, n).await;
        service.set_in_service(n, true);
        took.push(began.elapsed());
        load.goes_on(250).await;
    }
    took
}

/// Each replica is killed, and a new one starts in its place.
async fn kill_each(world: &World, service: &mut Service, load: &Load) -> Vec<Killed> {
    let mut killed = Vec::new();
    for n in 0..REPLICAS {
        killed.push((n, Instant::now()));
        service.replicas[n].kill().await;
        // Nobody is told: clients find out by themselves.
        load.goes_on(500).await;
        service.replicas[n] = service.start_replica(world, n).await;
        load.goes_on(250).await;
    }
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_restart_or_die_sign_nobody_out() {
    // Proves that a rolling restart fails no request, that a killed replica fails only what was under way there, and that
    // no session notices either.
    let world = World::start().await;
    let redis = Redis::start(world.dir.path()).await.unwrap();
    let store = format!("redis://{}", redis.address());
    let mut service = Service::start(&world, &store, &[("ENTRADA_DRAIN", DRAIN)]).await;
    let visitors = service.visitors(&world, USERS).await;

    let load = Load::start(&world.dialer, &service, &visitors);
    load.goes_on(500).await;
    let took = restart_each(&world, &mut service, &load).await;
    let record = load.stop().await;
    let took = took.iter().map(|took| format!("{:.1} s", took.as_secs_f64())).collect::<Vec<_>>().join(", ");
    print("replicas", "rolling restart under load, each replica took", took);
    print("replicas", "answers: 200, 401, 503, others, none", record.summary());
    print("replicas", "requests that met a closed connection, and were sent on another", record.unsent);
    assert!(record.failures().is_empty(), "{:#?}", record.failures());

    let load = Load::start(&world.dialer, &service, &visitors);
    load.goes_on(500).await;
    let killed = kill_each(&world, &mut service, &load).await;
    let record = load.stop().await;
    judge_killed(&record, &killed);

    for visitor in &visitors {
        assert!(service.all_answer(&world, &visitor.account, 200).await, "{}", visitor.account.name);
    }
    service.assert_no_errors_logged();
    world.upstream.assert_nobody_was_taken_for_another();
}

fn judge_killed(record: &Record, killed: &[Killed]) {
    print("replicas", "each killed in turn under load: 200, 401, 503, others, none", record.summary());
    print("replicas", "requests that met a closed connection, and were sent on another", record.unsent);
    for asked in record.failures() {
        let (_, at) = killed[asked.replica];
        let was_under_way = asked.at <= at + NOTICED_WITHIN && asked.at + asked.took >= at;
        assert!(asked.outcome.is_err() && was_under_way, "{asked:?}, killed {:?}", at.elapsed());
    }
}
