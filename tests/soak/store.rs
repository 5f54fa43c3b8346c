//! Redis is killed, held still or wiped while three replicas are under load.

use std::time::Duration;

use standin::redis::Redis;
use tokio::time::Instant;

use super::figures::print;
use super::load::{Load, Record};
use super::service::{REPLICAS, Service, Told};
use super::world::{Account, Visitor};
use super::{PATIENCE, World, within};

const USERS: usize = 24;
/// Well-formed, and issued by nobody.
const FOREIGN: &str = "entrada_00000000000000000000000000000000000000000003fvrO4";
/// What `docs/security.md` promises for what was changed behind the replicas' back is half a minute; and the looks.
const WIPE_SEEN_WITHIN: Duration = Duration::from_secs(35);

/// Until replicas have connected to a store that is back, and have looked.
const BACK_SEEN_WITHIN: Duration = Duration::from_secs(8);

/// Who is asked about while the store is away, and after it.
struct Probes {
    /// Whose token two of the replicas have never seen.
    stranger: Visitor,
    /// A token that nobody issued.
    foreign: Account,
    /// Who tries to revoke their token.
    revoker: Visitor,
}

/// Answers during an outage.
#[derive(Default)]
struct Answers {
    sign_ins: Vec<(u16, String)>,
    revocations: Vec<Told>,
    unknown: Vec<Told>,
}

impl Probes {
    async fn new(world: &World, service: &Service) -> Self {
        let visitor =
            async |name| world.sign_in(&service.url, name).await.unwrap().map_err(|page| page.text());
        let (stranger, revoker) = (visitor("stranger").await.unwrap(), visitor("revoker").await.unwrap());
        assert!(service.all_answer(world, &revoker.account, 200).await);
        let foreign = Account { name: "user000".to_owned(), token: FOREIGN.to_owned() };
        Self { stranger, foreign, revoker }
    }

    async fn revoke(&self, service: &Service) -> Told {
        let url = format!("{}/tokens/{}", service.url, self.revoker.token_id);
        let page = self.revoker.browser.delete(&url, &[("origin", &service.url)]).await.unwrap();
        Told::of(page.status, &page.headers)
    }

    /// Asks for all that needs the store, again and again for so long.
    async fn ask_for(&self, time: Duration, world: &World, service: &Service) -> Answers {
        let (began, mut answers) = (Instant::now(), Answers::default());
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        while began.elapsed() < time {
            tick.tick().await;
            let signed_in = world.sign_in(&service.url, "newcomer").await.unwrap();
            answers.sign_ins.push(signed_in.map_or_else(refusal, |_| (200, "signed in".to_owned())));
            answers.revocations.push(self.revoke(service).await);
            answers.unknown.extend(service.ask_each(world, &self.foreign).await);
            let stranger = service.ask_each(world, &self.stranger.account).await;
            answers.unknown.extend(stranger.into_iter().filter(|told| told.status != 200));
        }
        answers
    }

    /// Waits until all is as it was, and prints how long each thing took.
    async fn heal(&self, scenario: &str, world: &World, service: &Service) {
        let signs_in = || async { world.sign_in(&service.url, "newcomer").await.unwrap().is_ok() };
        // A revocation that was answered 503 may have been made all the same.
        let revokes = || async { matches!(self.revoke(service).await.status, 204 | 404) };
        let knows = || service.all_answer(world, &self.stranger.account, 200);
        let refuses = || service.all_answer(world, &self.foreign, 401);
        let (signs_in, revokes, knows, refuses) = tokio::join!(
            within(PATIENCE, "sign-ins", signs_in),
            within(PATIENCE, "revocations", revokes),
            within(PATIENCE, "tokens that were not known", knows),
            within(PATIENCE, "tokens that nobody issued", refuses),
        );
        let is_out = || service.all_answer(world, &self.revoker.account, 401);
        let ends = within(Duration::from_secs(1), "the revoked token ends everywhere", is_out).await;
        let all = [signs_in, revokes, knows, refuses].map(|took| format!("{} ms", took.as_millis()));
        print(scenario, "healed after: sign-in, revocation, cold token, foreign token", all.join(", "));
        print(scenario, "a revoked token is refused by all after", format!("{} ms", ends.as_millis()));
    }
}

fn refusal(page: standin::browser::Page) -> (u16, String) {
    (page.status.as_u16(), page.header("entrada-reason").to_owned())
}

impl Answers {
    fn judge(&self, scenario: &str) {
        let count = self.sign_ins.len();
        print(
            scenario,
            "sign-ins, revocations, unknown tokens asked for meanwhile",
            format!("{count}, {}, {}", self.revocations.len(), self.unknown.len()),
        );
        print(scenario, "the first sign-in meanwhile was answered", format!("{:?}", self.sign_ins[0]));
        let is_told = |answer: &&(u16, String)| answer.1 == "store_unavailable";
        assert_eq!(self.sign_ins.iter().filter(is_told).count(), count, "{:?}", self.sign_ins);
        for told in self.revocations.iter().chain(&self.unknown) {
            assert!(told.is_store_away(), "{told:?}");
        }
        assert!(
            self.unknown.len() >= count * (REPLICAS + 2),
            "the stranger's token is known at one replica at most"
        );
    }
}

/// No request of a known session fails while `redis` is away for `time`, and all else heals when it is back.
async fn survives(
    scenario: &str,
    redis: &mut Redis,
    time: Duration,
    goes: impl FnOnce(&mut Redis),
    comes: impl AsyncFnOnce(&mut Redis),
) {
    let world = World::start().await;
    let service = Service::start(&world, &format!("redis://{}", redis.address()), &[]).await;
    let visitors = service.visitors(&world, USERS).await;
    let probes = Probes::new(&world, &service).await;
    let load = Load::start(&world.dialer, &service, &visitors);
    let began = Instant::now();
    load.goes_on(750).await;
    let gone = Instant::now();
    goes(redis);
    let answers = probes.ask_for(time, &world, &service).await;
    let back = Instant::now();
    comes(redis).await;
    probes.heal(scenario, &world, &service).await;
    let healed = Instant::now();
    load.goes_on(750).await;
    let record = load.stop().await;
    print(scenario, "known sessions: 200, 401, 503, others, none", record.summary());
    print(scenario, "before it", record.spread(began, gone));
    print(
        scenario,
        &format!("while it is away for {} s", (back - gone).as_secs()),
        record.spread(gone, back),
    );
    print(scenario, "while it heals, and 3 s after that", record.spread(back, Instant::now()));
    assert!(record.failures().is_empty(), "{:#?}", record.failures());
    assert!(healed - back < PATIENCE);
    answers.judge(scenario);
    service.assert_no_errors_logged();
    world.upstream.assert_nobody_was_taken_for_another();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_and_comes_back_signs_nobody_out() {
    // Proves that known sessions notice nothing, that the rest is told to try again, and how soon all heals.
    let dir = tempfile::tempdir().unwrap();
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = Redis::start_with(dir.path(), &options).await.unwrap();
    let comes = async |redis: &mut Redis| redis.restart().await.unwrap();
    survives("killed", &mut redis, Duration::from_secs(10), Redis::kill, comes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_held_still_for_half_a_minute_signs_nobody_out() {
    // Proves the same where connections stay open and nothing answers.
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path()).await.unwrap();
    let goes = |redis: &mut Redis| redis.pause().unwrap();
    let comes = async |redis: &mut Redis| redis.resume().unwrap();
    survives("paused", &mut redis, Duration::from_secs(30), goes, comes).await;
}

/// Everything is lost: all sessions end everywhere within `promised`, nothing breaks, and signing in again helps.
async fn loses_all(scenario: &str, promised: Duration, lose: impl AsyncFnOnce(&mut Redis)) {
    let world = World::start().await;
    let mut redis = Redis::start(world.dir.path()).await.unwrap();
    let service = Service::start(&world, &format!("redis://{}", redis.address()), &[]).await;
    let visitors = service.visitors(&world, USERS).await;
    let load = Load::start(&world.dialer, &service, &visitors);
    load.goes_on(500).await;
    lose(&mut redis).await;
    let lost = Instant::now();
    let signs_in = || async { world.sign_in(&service.url, "newcomer").await.unwrap().is_ok() };
    let newcomer = within(Duration::from_secs(5), "a new sign-in", signs_in).await;
    let is_out = || async {
        for visitor in &visitors {
            if !service.all_answer(&world, &visitor.account, 401).await {
                return false;
            }
        }
        true
    };
    within(promised, "everybody is signed out", is_out).await;
    let took = lost.elapsed();
    let again = world.visitors(&service.url, USERS).await;
    for visitor in &again {
        assert!(service.all_answer(&world, &visitor.account, 200).await, "{}", visitor.account.name);
    }
    let record = load.stop().await;
    print(scenario, "a new sign-in works after", format!("{} ms", newcomer.as_millis()));
    print(
        scenario,
        "all old sessions are refused by all replicas after",
        format!("{:.1} s", took.as_secs_f64()),
    );
    print(scenario, "meanwhile: 200, 401, 503, others, none", record.summary());
    assert_eq!(record.all.len(), record.told(200) + record.told(401), "{:?}", record.other_than(&[200, 401]));
    world.upstream.assert_nobody_was_taken_for_another();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_wiped_store_has_lost_is_lost_everywhere_within_half_a_minute() {
    // Proves that nobody stays signed in by memory alone although no replica was told of anything.
    let wipe = async |redis: &mut Redis| {
        redis.run(&["FLUSHALL"]).unwrap();
    };
    loses_all("wiped", WIPE_SEEN_WITHIN, wipe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_without_a_disk_has_lost_is_lost_everywhere_when_it_is_back() {
    // Proves that replicas look everybody up again when a store comes back that holds nothing any more.
    let restart = async |redis: &mut Redis| redis.restart().await.unwrap();
    loses_all("emptied", BACK_SEEN_WITHIN, restart).await;
}

/// What became of requests of known sessions with a staleness of three seconds.
fn judge_short(record: &Record, killed: Instant, back: Instant) {
    print("stale", "known sessions: 200, 401, 503, others, none", record.summary());
    let refused: Vec<_> = record.failures();
    assert!(!refused.is_empty(), "nobody was refused");
    for asked in &refused {
        let is_told = asked.outcome.as_ref().is_ok_and(Told::is_store_away);
        assert!(is_told, "{asked:?}");
    }
    let first = refused.iter().map(|asked| asked.at).min().unwrap();
    let last = refused.iter().map(|asked| asked.at).max().unwrap();
    print(
        "stale",
        "the first 503 was asked for, after it was killed",
        format!("{:.1} s", (first - killed).as_secs_f64()),
    );
    print(
        "stale",
        "the last 503 was asked for, after its return",
        format!("{} ms", last.saturating_duration_since(back).as_millis()),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn known_sessions_are_told_to_try_again_after_the_staleness() {
    // Proves that ENTRADA_STORE_STALENESS ends what is served from memory with a 503, never a 401, and that it heals.
    let world = World::start().await;
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = Redis::start_with(world.dir.path(), &options).await.unwrap();
    let extra = [("ENTRADA_STORE_STALENESS", "3s")];
    let service = Service::start(&world, &format!("redis://{}", redis.address()), &extra).await;
    let visitors = service.visitors(&world, USERS).await;
    let load = Load::start(&world.dialer, &service, &visitors);
    load.goes_on(500).await;
    let killed = Instant::now();
    redis.kill();
    let refused = || async {
        let told = service.ask_each(&world, &visitors[0].account).await;
        told.iter().all(Told::is_store_away)
    };
    let took = within(Duration::from_secs(6), "all replicas say that the store is away", refused).await;
    load.goes_on(500).await;
    redis.restart().await.unwrap();
    let back = Instant::now();
    let served = || service.all_answer(&world, &visitors[0].account, 200);
    let healed = within(PATIENCE, "served again", served).await;
    load.goes_on(750).await;
    let record = load.stop().await;
    print("stale", "with 3 s: all replicas answer 503 after", format!("{:.1} s", took.as_secs_f64()));
    print("stale", "served again after", format!("{} ms", healed.as_millis()));
    judge_short(&record, killed, back);
    service.assert_no_errors_logged();
    world.upstream.assert_nobody_was_taken_for_another();
}
