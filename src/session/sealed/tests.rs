//! The conformance suite over both backends, and what a thief or a forger of the store would have.

mod bounds;
mod handovers;
mod outages;
mod succession;
mod theft;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use super::SealedStore;
use crate::config::{RedisConfig, StoreAuth, Topology};
use crate::session::backend::{Backend, Login, Memory, Redis, Version};
use crate::session::conformance::{World, add_token, begin};
use crate::session::records::Records;
use crate::session::{Ending, Endings, LastUse, SessionStore, StoreState, Use};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);
const STALENESS: Duration = Duration::from_secs(60);

mod memory {
    use super::*;

    crate::session::conformance::suite!(|| async {
        let endings = Endings::default();
        let (store, task) = running(Memory::default(), &endings).await;
        World::new(&endings, store, task)
    });
}

mod redis {
    use super::*;

    crate::session::conformance::suite!(|| async {
        let (endings, (directory, server)) = (Endings::default(), redis_server().await);
        let (store, task) = running(at(&server), &endings).await;
        World::new(&endings, store, (directory, server, task))
    });
}

/// A real server, and where it keeps its files until the test ends.
async fn redis_server() -> (TempDir, standin::redis::Redis) {
    let directory = TempDir::new().unwrap();
    let server = standin::redis::Redis::start(directory.path()).await.unwrap();
    (directory, server)
}

/// A backend for a real server.
fn at(server: &standin::redis::Redis) -> Redis {
    let address = ("127.0.0.1".to_owned(), server.port());
    let topology = Topology::Single { address, db: 0 };
    let (auth, staleness) = (StoreAuth::None, STALENESS);
    Redis::new(
        RedisConfig { topology, tls: false, ca_file: None, auth, staleness },
        Login::None,
        Arc::default(),
    )
}

/// Ends the store's task with the test.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A store that is up.
async fn running<B: Backend>(backend: B, endings: &Endings) -> (Arc<SealedStore<B>>, Task) {
    let store = Arc::new(SealedStore::new(backend, endings.clone(), STALENESS));
    let task = Task(tokio::spawn({
        let store = store.clone();
        async move { store.run().await }
    }));
    until(|| store.state() == StoreState::Here).await;
    (store, task)
}

/// Waits until a condition holds.
async fn until(mut condition: impl FnMut() -> bool) {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            poll.tick().await;
        }
    });
    waited.await.expect("the condition comes to hold");
}

/// A grant that was kept just after its session had ended goes with the next sweep; one of a session that stands stays.
#[tokio::test]
async fn the_grant_of_an_ended_session_is_not_kept() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let now = crate::clock::Clock::system().now();
    let (ended, stands) = (begin(&*store, "alice", now).await, begin(&*store, "alice", now).await);
    for opener in [&ended, &stands] {
        assert!(store.grant(opener).await.unwrap().is_some());
    }
    let kept = store.grants.get(&ended.session.id).unwrap().clone();
    store.end_session(&ended.session, Ending::Natural).await.unwrap();
    // As by a renewal that had looked at the records a moment before.
    store.grants.insert(ended.session.id.clone(), kept);
    store.sweep(now).await.unwrap();
    assert!(!store.grants.contains_key(&ended.session.id));
    assert!(store.grants.contains_key(&stands.session.id));
}

/// A use that is told after its credential was revoked goes with the next change: who makes and revokes tokens all day
/// leaves nothing behind.
async fn uses_of_what_is_gone_do_not_pile_up<B: Backend>(backend: B) {
    let (store, _task) = running(backend, &Endings::default()).await;
    let now = crate::clock::Clock::system().now();
    let cookie = begin(&*store, "alice", now).await;
    let (user, last) = (&cookie.session.user, LastUse { at: now, from: [127, 0, 0, 1].into() });
    let used = async || {
        let all = store.backend.load(user.tag(), &Version::default()).await.unwrap().uses;
        all.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let mut late = Vec::new();
    for _ in 0..3 {
        let token = add_token(&*store, &cookie, now, 600).await.unwrap().credential;
        assert!(store.revoke(user, &token.id).await.unwrap());
        late.push(Use { credential: token, last });
    }
    let kept = add_token(&*store, &cookie, now, 600).await.unwrap().credential;
    late.push(Use { credential: kept.clone(), last });
    store.touch(&late).await.unwrap();
    assert_eq!(used().await.len(), 4, "none of them is known to be gone yet");
    add_token(&*store, &cookie, now, 600).await.unwrap();
    assert_eq!(used().await, std::slice::from_ref(&kept.id));
}

#[tokio::test]
async fn uses_of_what_is_gone_do_not_pile_up_in_memory() {
    uses_of_what_is_gone_do_not_pile_up(Memory::default()).await;
}

#[tokio::test]
async fn uses_of_what_is_gone_do_not_pile_up_in_redis() {
    let (_directory, server) = redis_server().await;
    uses_of_what_is_gone_do_not_pile_up(at(&server)).await;
}
