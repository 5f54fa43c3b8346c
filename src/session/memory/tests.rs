use super::super::conformance::{self, World};
use super::*;

crate::session::conformance::suite!(|| {
    let endings = Endings::default();
    World::new(endings.clone(), Arc::new(MemoryStore::new(endings)))
});

/// Expired tokens are kept for a day, but only while there is room; afterwards nothing at all is left.
#[tokio::test]
async fn a_sweep_leaves_nothing_behind_after_a_day() {
    let store = MemoryStore::default();
    let now = Timestamp::UNIX_EPOCH;
    let opener = conformance::begin(&store, "alice", now).await;
    for seconds in 0..MAX_TOKENS_PER_USER + 50 {
        let at = now + SignedDuration::from_secs(i64::try_from(seconds * 2).unwrap());
        conformance::add_token(&store, &opener, at, 1).await.unwrap();
    }
    assert_eq!(store.found.len(), MAX_TOKENS_PER_USER + 1);
    store.sweep(now + SignedDuration::from_hours(30)).await.unwrap();
    assert!(store.found.is_empty());
    let index = store.lock();
    assert!(index.sessions.is_empty() && index.users.is_empty() && index.sids.is_empty());
}
