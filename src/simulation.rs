//! Three replicas, a store that drops, delays, repeats and reorders, replicas that die, and thousands of schedules of it.
//!
//! Everything but the network, Entra and time is the real thing: the sealed store, the broker, the streams and the
//! authenticator of each replica. Time is tokio's paused one, and what happens when is drawn from a seed, so that minutes
//! pass in milliseconds and a schedule that fails can be run again: its seed stands in the failure.
//!
//! After each schedule, and at each request in it, these must hold:
//!
//! - *No session is lost.* Who was told that they are signed in, and whom nobody signed out, is let in by every replica.
//! - *No session comes back.* What was reported as ended is refused by every replica soon after, has no open stream, and
//!   no renewal that was under way brings it back.
//! - *No renewal is doubled.* Two calls to Entra for one session at the same time happen only where a lease could not be
//!   asked for, or its holder lost it.
//! - *The newest grant stays.* No older one replaces it.

mod actors;
mod browsers;
mod entra;
mod fate;
mod net;
mod records;
mod replica;
mod rng;

use std::fmt;

use self::actors::Schedule;

/// Names another first seed than 0: to run a schedule again, or others than CI does.
const FIRST_SEED: &str = "SIMULATION_SEED";
/// How many schedules CI runs. Two threads, because the machines have two cores.
const SCHEDULES: u64 = 10_000;
const THREADS: u64 = 2;
/// With a rule broken, this many schedules must be enough to notice.
const ENOUGH: u64 = 2_000;

/// What is broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Broken {
    /// Everybody gets the lease.
    no_lease: bool,
    /// An older grant replaces a newer one.
    oldest_wins: bool,
    /// A stream is opened without another look at what ended meanwhile.
    no_recheck: bool,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    rule: &'static str,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Runs one schedule to its end.
fn run(seed: u64, broken: Broken) -> Result<(), Violation> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(Schedule::run(seed, broken));
    runtime.shutdown_background();
    result
}

/// The first schedule in which a rule does not hold.
fn first_violation(seeds: impl Iterator<Item = u64>, broken: Broken) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| run(seed, broken).err().map(|violation| (seed, violation)))
}

#[test]
fn ten_thousand_schedules_lose_nothing_bring_nothing_back_and_double_nothing() {
    let first: u64 = std::env::var(FIRST_SEED).map_or(0, |seed| seed.parse().unwrap());
    let threads = (0..THREADS).map(|thread| {
        let seeds = (first..first + SCHEDULES).filter(move |seed| seed % THREADS == thread);
        std::thread::spawn(move || first_violation(seeds, Broken::default()))
    });
    for thread in threads.collect::<Vec<_>>() {
        if let Some((seed, violation)) = thread.join().unwrap() {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn a_missing_lease_is_noticed() {
    let found = first_violation(0..ENOUGH, Broken { no_lease: true, ..Broken::default() });
    assert_eq!(found.expect("it is noticed").1.rule, "no renewal is doubled");
}

#[test]
fn an_older_grant_that_wins_is_noticed() {
    let found = first_violation(0..ENOUGH, Broken { oldest_wins: true, ..Broken::default() });
    assert_eq!(found.expect("it is noticed").1.rule, "the newest grant stays");
}

#[test]
fn a_missing_look_at_what_ended_is_noticed() {
    let found = first_violation(0..ENOUGH, Broken { no_recheck: true, ..Broken::default() });
    assert_eq!(found.expect("it is noticed").1.rule, "no session comes back");
}
