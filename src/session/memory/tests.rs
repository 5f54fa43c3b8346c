use std::time::Duration;

use super::*;
use crate::secret::{CredentialSecret, RefreshToken};

fn user() -> UserKey {
    UserKey { tid: "t".into(), oid: "o".into() }
}

fn session(now: Timestamp) -> Arc<Session> {
    Arc::new(Session {
        id: SessionId::random(),
        user: user(),
        name: String::new(),
        username: String::new(),
        home_account_id: None,
        login_hint: None,
        sid: Some(Digest::of("sid")),
        stepped_up: false,
        created_at: now,
        expires_at: now + SignedDuration::from_hours(1),
    })
}

fn credential(kind: CredentialKind, now: Timestamp, seconds: u64) -> Arc<Credential> {
    let digest = CredentialSecret::new_token().digest();
    let lifetime = Duration::from_secs(seconds);
    Arc::new(Credential::new(digest, kind, user(), String::new(), now, lifetime, None))
}

async fn begun(store: &MemoryStore, now: Timestamp) -> Arc<Session> {
    let session = session(now);
    let grant = Grant { refresh_token: RefreshToken::new("r"), aks: None, granted_at: now };
    let cookie = credential(CredentialKind::Cookie, now, 3_600);
    store.begin(session.clone(), grant, cookie, None).await.unwrap();
    session
}

/// A user who makes short tokens in a loop holds a bounded number of records.
#[tokio::test]
async fn expired_tokens_make_room() {
    let (store, mut now) = (MemoryStore::default(), Timestamp::UNIX_EPOCH);
    let session = begun(&store, now).await;
    for _ in 0..MAX_TOKENS_PER_USER + 50 {
        store.add_token(&session.id, credential(CredentialKind::Token, now, 1)).await.unwrap();
        now += SignedDuration::from_secs(2);
    }
    assert_eq!(store.found.len(), MAX_TOKENS_PER_USER + 1);
    let full = MemoryStore::default();
    let session = begun(&full, now).await;
    for _ in 0..MAX_TOKENS_PER_USER {
        full.add_token(&session.id, credential(CredentialKind::Token, now, 60)).await.unwrap();
    }
    let refused = full.add_token(&session.id, credential(CredentialKind::Token, now, 60)).await;
    assert_eq!(refused, Err(AddTokenError::TooMany));
}

/// An expired token is known for a day, so that its user is told what happened; then nothing is left of it.
#[tokio::test]
async fn a_sweep_leaves_nothing_behind_after_a_day() {
    let (store, now) = (MemoryStore::default(), Timestamp::UNIX_EPOCH);
    let session = begun(&store, now).await;
    let token = credential(CredentialKind::Token, now, 60);
    store.add_token(&session.id, token.clone()).await.unwrap();
    let ended = store.sweep(now + SignedDuration::from_secs(61)).await.unwrap();
    assert_eq!(ended, std::slice::from_ref(&token.id));
    assert!(store.find(&token.digest).await.unwrap().is_some());
    store.sweep(now + SignedDuration::from_hours(30)).await.unwrap();
    assert!(store.found.is_empty());
    let index = store.lock();
    assert!(index.sessions.is_empty() && index.users.is_empty() && index.sids.is_empty());
}

/// What is minted for a session that ended meanwhile is not kept, and an older grant does not replace a newer one.
#[tokio::test]
async fn grants_are_newest_wins_and_never_come_back() {
    let (store, now) = (MemoryStore::default(), Timestamp::UNIX_EPOCH);
    let session = begun(&store, now).await;
    let grant =
        |name: &str, granted_at| Grant { refresh_token: RefreshToken::new(name), aks: None, granted_at };
    assert!(store.renew(&session.id, grant("newer", now + SignedDuration::from_secs(2))).await.unwrap());
    assert!(store.renew(&session.id, grant("older", now + SignedDuration::from_secs(1))).await.unwrap());
    assert_eq!(store.grant(&session.id).await.unwrap().unwrap().refresh_token.expose(), "newer");
    store.end_by_sid(&Digest::of("sid")).await.unwrap();
    assert!(!store.renew(&session.id, grant("late", now)).await.unwrap());
    assert!(store.grant(&session.id).await.unwrap().is_none());
}
