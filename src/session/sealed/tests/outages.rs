//! A real Redis that is stopped, held still, wiped, and comes back; two replicas beside each other.

use std::sync::Mutex;

use futures_util::FutureExt;

use super::*;
use crate::clock::Clock;
use crate::secret::{CredentialSecret, RefreshToken};
use crate::session::conformance::{add_token, begin, new_session};
use crate::session::{AddTokenError, Ended, Ending, Fate, Grant, Opener, StoreError, Turn};

/// Two replicas at one server; what ended at the second.
struct Replicas {
    server: standin::redis::Redis,
    one: Arc<SealedStore<Redis>>,
    two: Arc<SealedStore<Redis>>,
    ended_at_two: Arc<Mutex<Vec<Ended>>>,
    _tasks: [Task; 2],
    _directory: TempDir,
}

async fn replicas() -> Replicas {
    let directory = TempDir::new().unwrap();
    let server = standin::redis::Redis::start_with(directory.path(), &["--appendonly", "yes"]).await.unwrap();
    let (one, first) = running(at(&server), &Endings::default()).await;
    let endings = Endings::default();
    let ended_at_two = Arc::new(Mutex::new(Vec::new()));
    let sink = ended_at_two.clone();
    endings.listen(move |ended| sink.lock().unwrap().push(ended.clone()));
    let (two, second) = running(at(&server), &endings).await;
    Replicas { server, one, two, ended_at_two, _tasks: [first, second], _directory: directory }
}

impl Replicas {
    /// Alice signed in at the first replica and known at both.
    async fn alice(&self) -> Opener {
        let opener = begin(&*self.one, "alice", Clock::system().now()).await;
        assert!(self.two.find(&opener.key).await.unwrap().is_some());
        opener
    }
}

/// A sign-in at one replica is known at the other at once; what ends at one ends at the other, and is published there.
#[tokio::test]
async fn what_happens_at_one_replica_is_true_at_the_other() {
    let world = replicas().await;
    let cookie = world.alice().await;
    let token = add_token(&*world.one, &cookie, Clock::system().now(), 600).await.unwrap();
    assert!(world.two.find(&token.key).await.unwrap().unwrap().session.is_some());
    assert!(world.two.known(token.key.digest()).is_some(), "from now on without asking");
    world.one.revoke(&cookie.session.user, &token.credential.id).await.unwrap();
    let gone = (token.credential.id.clone(), Fate::Void);
    until(|| world.ended_at_two.lock().unwrap().iter().any(|ended| ended.credentials.contains(&gone))).await;
    assert!(world.two.known(token.key.digest()).is_none());
    assert!(world.two.find(&token.key).await.unwrap().is_none());
    world.one.end_user(&cookie.session.user).await.unwrap();
    until(|| {
        world.ended_at_two.lock().unwrap().iter().any(|ended| ended.sessions.contains(&cookie.session.id))
    })
    .await;
    assert!(world.two.find(&cookie.key).await.unwrap().is_none());
}

/// A dormant token that is armed at one replica works at the other.
#[tokio::test]
async fn a_token_is_armed_for_all_replicas() {
    let world = replicas().await;
    let (now, cookie) = (Clock::system().now(), world.alice().await);
    let token = add_token(&*world.one, &cookie, now, 600).await.unwrap();
    world.one.end_session(&cookie.session, Ending::Natural).await.unwrap();
    let found = async || world.two.find(&token.key).await.unwrap().unwrap().session;
    assert!(found().await.is_none());
    let next = begin(&*world.one, "alice", now).await;
    let arming = crate::session::Arming { token: token.credential.id.clone(), had: None };
    world.one.arm(&next, &[arming], now).await.unwrap();
    assert_eq!(found().await.unwrap().id, next.session.id);
}

/// While the server is away, what is known is served and nothing is claimed to have been done; then all heals by itself.
#[tokio::test]
async fn an_outage_signs_nobody_out_and_claims_nothing() {
    let mut world = replicas().await;
    let (now, cookie) = (Clock::system().now(), world.alice().await);
    assert!(world.one.grant(&cookie).await.unwrap().is_some());
    world.server.kill();
    until(|| matches!(world.one.state(), StoreState::Away(_))).await;
    assert!(world.one.find(&cookie.key).await.unwrap().unwrap().session.is_some());
    let stranger = CredentialSecret::new_token().key();
    assert_eq!(world.one.find(&stranger).await.unwrap_err(), StoreError);
    assert_eq!(world.one.end_session(&cookie.session, Ending::Natural).await.unwrap_err(), StoreError);
    let token = add_token(&*world.one, &cookie, now, 60).await;
    assert_eq!(token.unwrap_err(), AddTokenError::Store(StoreError));
    let (new, _) = new_session("bob", now);
    assert_eq!(world.one.begin(new).await.unwrap_err(), StoreError);
    // Renewal goes on: the turn is ours without a lease, and the result is put back later.
    assert!(matches!(world.one.turn(&cookie, false).await.unwrap(), Turn::Ours(_)));
    assert!(world.one.grant(&cookie).await.unwrap().is_some());
    let renewed = Grant {
        refresh_token: RefreshToken::new("renewed"),
        aks: None,
        granted_at: now + jiff::SignedDuration::from_secs(9),
    };
    assert!(world.one.renew(&cookie, renewed).await.unwrap());
    world.server.restart().await.unwrap();
    until(|| world.one.state() == StoreState::Here && world.two.state() == StoreState::Here).await;
    until(|| world.one.unsent.is_empty()).await;
    let grant = world.two.grant(&cookie).await.unwrap().unwrap();
    assert_eq!(grant.refresh_token.expose(), "renewed");
    assert!(world.one.end_session(&cookie.session, Ending::Natural).await.unwrap());
}

/// What is known is served for as long as `staleness` says, and not longer.
#[tokio::test]
async fn what_is_known_is_not_served_for_ever() {
    let (_directory, mut server) = redis_server().await;
    let store = Arc::new(SealedStore::new(at(&server), Endings::default(), Duration::from_millis(1_500)));
    let task = store.clone();
    let _task = Task(tokio::spawn(async move { task.run().await }));
    until(|| store.state() == StoreState::Here).await;
    let cookie = begin(&*store, "alice", Clock::system().now()).await;
    server.kill();
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    while store.find(&cookie.key).await.is_ok() {
        poll.tick().await;
    }
    assert_eq!(store.find(&cookie.key).await.unwrap_err(), StoreError);
    assert!(store.known(cookie.key.digest()).is_none());
    assert_eq!(store.grant(&cookie).await.unwrap_err(), StoreError);
}

/// A server that is held still is noticed by its silence, and nobody waits for it longer than a moment.
#[tokio::test]
async fn a_server_that_is_held_still_is_noticed() {
    let world = replicas().await;
    let cookie = world.alice().await;
    world.server.pause().unwrap();
    until(|| matches!(world.one.state(), StoreState::Away(_))).await;
    let began = Instant::now();
    assert!(world.one.find(&cookie.key).await.unwrap().is_some());
    assert!(began.elapsed() < Duration::from_secs(1), "the link is down, so nobody waits for it");
    world.server.resume().unwrap();
    until(|| world.one.state() == StoreState::Here).await;
    assert!(world.one.find(&cookie.key).await.unwrap().is_some());
}

/// What a replica missed while it could not listen is seen at the first request after it.
#[tokio::test]
async fn a_change_that_was_missed_is_seen_after_the_channel_is_back() {
    let world = replicas().await;
    let cookie = world.alice().await;
    let clients = world.server.run(&["CLIENT", "LIST"]).unwrap();
    assert!(clients.lines().count() >= 3, "{clients}");
    for kind in ["pubsub", "normal"] {
        world.server.run(&["CLIENT", "KILL", "TYPE", kind]).unwrap();
    }
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    while world.one.end_user(&cookie.session.user).await.is_err() {
        poll.tick().await;
    }
    until(|| world.two.known(cookie.key.digest()).is_none()).await;
    until(|| world.two.state() == StoreState::Here).await;
    assert!(world.two.find(&cookie.key).await.unwrap().is_none());
}

/// A server that lost everything: sessions are gone, for all, without a half of one.
#[tokio::test]
async fn a_wiped_server_has_no_half_sessions() {
    let world = replicas().await;
    let cookie = world.alice().await;
    world.server.run(&["FLUSHALL"]).unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(40)).await;
    tokio::time::resume();
    // The leap has also silenced the link, which comes back.
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    while world.two.find(&cookie.key).await.is_ok_and(|found| found.is_some()) {
        poll.tick().await;
    }
    until(|| world.two.state() == StoreState::Here && world.one.state() == StoreState::Here).await;
    assert!(world.two.grant(&cookie).await.unwrap().is_none());
    // An eviction of the grant alone ends the session as a whole.
    let bob = begin(&*world.one, "bob", Clock::system().now()).await;
    let key = format!("entrada:1:{{{}}}:grant:{}", bob.session.user.tag(), bob.session.id);
    assert_eq!(world.server.run(&["DEL", &key]).unwrap(), "1");
    assert!(world.two.grant(&bob).await.unwrap().is_none());
    assert!(world.one.find(&bob.key).await.unwrap().is_none());
}

/// A server that has lost everything still answers: whoever is not known is told so, and not to try again.
#[tokio::test]
async fn a_wiped_server_is_not_away() {
    let world = replicas().await;
    world.alice().await;
    let stranger = CredentialSecret::new_token().key();
    world.server.run(&["FLUSHALL"]).unwrap();
    while world.ended_at_two.lock().unwrap().is_empty() {
        assert!(world.two.find(&stranger).await.unwrap().is_none());
    }
}

/// Who finds a look under way is served what is known instead of waiting; where that look takes it away meanwhile, the store
/// is asked.
#[tokio::test(start_paused = true)]
async fn what_a_look_under_way_takes_away_is_asked_for_again() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let cookie = begin(&*store, "alice", Clock::system().now()).await;
    let digest = cookie.key.digest();
    assert!(store.find(&cookie.key).await.unwrap().is_some());
    let user = store.near.user(cookie.session.user.tag());
    let look = user.state.lock().await;
    store.near.distrust(&user);
    assert!(store.find(&cookie.key).await.unwrap().is_some(), "nobody waits for the look of another");
    // Timers go by whole milliseconds: the rest of this one is how long it takes them to say so.
    tokio::time::advance(Duration::from_micros(500)).await;
    let mut asked = std::pin::pin!(store.find(&cookie.key));
    assert!(asked.as_mut().now_or_never().is_none());
    store.backend.forget(&[*digest]).await;
    store.near.update(digest, |_| None);
    assert!(asked.await.unwrap().is_none(), "told that it is not known, and not to try again");
    drop(look);
}

/// Of two replicas only one has the turn; the other sees the result, or a failure, or takes over from one that died.
#[tokio::test]
async fn one_replica_renews_and_the_others_see_what_came_of_it() {
    let world = replicas().await;
    let cookie = world.alice().await;
    let Turn::Ours(holder) = world.one.turn(&cookie, false).await.unwrap() else { panic!("it is free") };
    let two = world.two.clone();
    let opener = cookie.clone();
    let waiting = tokio::spawn(async move { two.turn(&opener, false).await.unwrap() });
    world.one.give_back(&cookie, holder, None).await;
    let waited = waiting.await.unwrap();
    let holder = match waited {
        Turn::Theirs => None,
        Turn::Ours(holder) => Some(holder),
        Turn::Failed(..) => panic!("nothing failed"),
    };
    if let Some(holder) = holder {
        world.two.give_back(&cookie, holder, None).await;
    }
    let Turn::Ours(holder) = world.one.turn(&cookie, false).await.unwrap() else { panic!("it is free") };
    let failure = Some((b"Entra said no".to_vec(), Duration::from_secs(30)));
    world.one.give_back(&cookie, holder, failure).await;
    let Turn::Failed(left, _) = world.two.turn(&cookie, false).await.unwrap() else { panic!("it failed") };
    assert_eq!(left, b"Entra said no");
    let Turn::Ours(dead) = world.two.turn(&cookie, true).await.unwrap() else { panic!("the user insists") };
    drop(dead);
    // The one who died holds it until its lease ends.
    let began = Instant::now();
    while !matches!(world.one.turn(&cookie, false).await.unwrap(), Turn::Ours(_)) {}
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

/// A server that takes no writes, for want of replicas or memory, is not away: what is known is served, and changes are
/// heard of, while every write is refused.
#[tokio::test]
async fn a_server_that_refuses_writes_is_not_away() {
    let world = replicas().await;
    let cookie = world.alice().await;
    world.server.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    let mut poll = tokio::time::interval(Duration::from_millis(100));
    let began = Instant::now();
    // Longer than the silence after which a link is made anew.
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(world.one.state(), StoreState::Here);
        assert!(world.one.find(&cookie.key).await.unwrap().is_some());
        poll.tick().await;
    }
    assert_eq!(world.one.end_user(&cookie.session.user).await.unwrap_err(), StoreError);
    world.server.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    world.one.end_user(&cookie.session.user).await.unwrap();
    until(|| world.two.known(cookie.key.digest()).is_none()).await;
}
