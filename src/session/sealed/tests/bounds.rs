//! How many tokens a user may have, and how long expired ones are kept.

use jiff::{SignedDuration, Timestamp};

use super::super::change::Changed;
use super::*;
use crate::clock::Clock;
use crate::session::conformance::credential;
use crate::session::{AddTokenError, CredentialKind, MAX_TOKENS_PER_USER, Opener};

/// A user who has as many tokens as they may have, each `seconds` younger than the one before and valid for a minute. They are
/// made in one change: one by one, each would cost as much as all before it.
async fn full<B: Backend>(store: &SealedStore<B>, seconds: i64) -> (Opener, Timestamp) {
    let now = Clock::system().now();
    let opener = begin(store, "alice", now).await;
    let tag = opener.session.user.tag();
    let tokens: Vec<_> = (0..i64::try_from(MAX_TOKENS_PER_USER).unwrap())
        .map(|number| now + SignedDuration::from_secs(number * seconds))
        .map(|created_at| credential(CredentialKind::Token, "alice", created_at, 60))
        .collect();
    let added = store.change(tag, |records| {
        for (token, key) in &tokens {
            records.add_token(tag, &opener, token, key)?;
        }
        Ok::<_, AddTokenError>(Changed::Yes(()))
    });
    added.await.unwrap();
    (opener, now)
}

async fn a_user_has_a_bounded_number_of_tokens<B: Backend>(backend: B) {
    let (store, _task) = running(backend, &Endings::default()).await;
    let (opener, now) = full(&store, 0).await;
    let refused = add_token(&*store, &opener, now, 60).await;
    assert_eq!(refused.unwrap_err(), AddTokenError::TooMany);
    // Expired ones make room.
    add_token(&*store, &opener, now + SignedDuration::from_secs(61), 60).await.unwrap();
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_tokens_in_memory() {
    a_user_has_a_bounded_number_of_tokens(Memory::default()).await;
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_tokens_in_redis() {
    let (_directory, server) = redis_server().await;
    a_user_has_a_bounded_number_of_tokens(at(&server)).await;
}

/// Expired tokens are kept for a day, but only while there is room; afterwards nothing at all is left, nor known.
#[tokio::test]
async fn a_sweep_leaves_nothing_behind_after_a_day() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let (opener, now) = full(&store, 1).await;
    let later = now + SignedDuration::from_secs(i64::try_from(MAX_TOKENS_PER_USER).unwrap());
    for _ in 0..20 {
        add_token(&*store, &opener, later, 60).await.unwrap();
    }
    assert_eq!(store.backend.credentials(), MAX_TOKENS_PER_USER + 1);
    store.sweep(now + SignedDuration::from_hours(30)).await.unwrap();
    assert!(store.backend.is_empty());
    assert_eq!(store.near.sizes().1, 0);
}
