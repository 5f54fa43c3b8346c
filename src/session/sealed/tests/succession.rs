//! Sign-ins of one browser at two replicas at once, and what a forger of the records about them gains.

use std::collections::BTreeSet;

use super::theft::{alice, document};
use super::*;
use crate::session::conformance::{add_token, begin, new_session};
use crate::session::{NewSession, Opener};

/// Whether an opener's session stands, as a replica sees it.
async fn stands(store: &dyn SessionStore, opener: &Opener) -> bool {
    let found = store.find(&opener.key).await.unwrap();
    found.and_then(|found| found.session).is_some_and(|session| session.id == opener.session.id)
}

/// Two replicas that begin a session for the same browser at the same moment leave one, and the token is its.
#[tokio::test]
async fn one_browser_at_two_replicas_has_one_session() {
    let (_directory, server) = redis_server().await;
    let (one, _a) = running(at(&server), &Endings::default()).await;
    let (two, _b) = running(at(&server), &Endings::default()).await;
    let mut now = crate::clock::Clock::system().now();
    for (first, second) in [("alice", "alice"), ("alice", "bob"), ("bob", "alice"), ("bob", "carol")] {
        for _ in 0..8 {
            // The oldest are forgotten first.
            now += jiff::SignedDuration::from_secs(1);
            let before = begin(&*one, "alice", now).await;
            let token = add_token(&*two, &before, now, 600).await.unwrap();
            let sign_in = async |store: &dyn SessionStore, name: &str| {
                let (new, opener) = new_session(name, now);
                store.begin(NewSession { supersedes: Some(before.clone()), ..new }).await.unwrap();
                opener
            };
            let (a, b) = tokio::join!(sign_in(&*one, first), sign_in(&*two, second));
            for store in [&*one, &*two] {
                let standing = [stands(store, &a).await, stands(store, &b).await];
                assert!(standing[0] != standing[1], "{first}, {second}: {standing:?}");
                let moved = store.find(&token.key).await.unwrap().unwrap().session.map(|now| now.id.clone());
                assert!(moved.is_none() || [&a.session.id, &b.session.id].contains(&moved.as_ref().unwrap()));
                assert!(moved.is_some() || (first, second) != ("alice", "alice"));
            }
            assert!(two.sign_out(&before).await.unwrap());
            assert!(!stands(&*one, &a).await && !stands(&*one, &b).await, "{first}, {second}");
        }
    }
}

/// Whoever writes to the store can lead a superseded cookie to another session of the user, which ends it, but moves no
/// token that the cookie's own session did not have.
#[tokio::test]
async fn a_forged_successor_moves_no_token() {
    let store = SealedStore::new(Memory::default(), Endings::default(), STALENESS);
    let now = crate::clock::Clock::system().now();
    let (before, own) = alice(&store).await;
    let user = before.session.user.tag();
    let sign_in = async |store: &dyn SessionStore, before: &Opener| {
        let (new, opener) = new_session("0123-alice", now);
        store.begin(NewSession { supersedes: Some(before.clone()), ..new }).await.unwrap();
        opener
    };
    let second = sign_in(&store, &before).await;
    let other = begin(&store, "0123-alice", now).await;
    let others = add_token(&store, &other, now, 600).await.unwrap();
    let (_, text) = document(&store.backend, user).await;
    let mut forged: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of_before = &mut forged["superseded"][before.session.id.as_str()];
    assert_eq!(of_before["by"]["session"], second.session.id.as_str());
    of_before["by"]["session"] = serde_json::json!(other.session.id.as_str());
    // And the other session's list and record in the place of the superseded one's.
    let (session, mut replaced) = (forged["sessions"][other.session.id.as_str()].clone(), forged.clone());
    replaced["superseded"][before.session.id.as_str()]["session"] = session;
    for forged in [forged, replaced] {
        let (store, _task) = running(Memory::default(), &Endings::default()).await;
        put(&store.backend, user, forged.to_string()).await;
        let last = sign_in(&*store, &before).await;
        assert!(!stands(&*store, &other).await && stands(&*store, &last).await);
        let dormant = store.backend.load(user, &Default::default()).await.unwrap().document.unwrap();
        let dormant: serde_json::Value = serde_json::from_slice(&dormant).unwrap();
        let credentials = dormant["credentials"].as_object().unwrap();
        let live: BTreeSet<&String> = credentials
            .iter()
            .filter(|(_, record)| record.get("session").is_some_and(|id| *id == last.session.id.as_str()))
            .map(|(id, _)| id)
            .collect();
        assert_eq!(live.len(), 1, "its own cookie alone");
        assert!(!live.contains(&others.credential.id.to_string()));
        assert!(!live.contains(&own.credential.id.to_string()), "it is another session's");
    }
}

/// Puts a document where there is none.
async fn put<B: Backend>(backend: &B, user: crate::session::UserTag, document: String) {
    use crate::session::backend::{Swap, Version};
    let expires_at = crate::clock::Clock::system().now() + crate::session::EXPIRED_IS_KNOWN_FOR;
    let (version, document) = (Version("forged".to_owned()), document.into_bytes().into());
    assert!(backend.swap(user, Swap { version, document, expires_at, ..Swap::default() }).await.unwrap());
}
