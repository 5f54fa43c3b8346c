//! What a thief of the store has, and what a forger of its records gains: nothing.

use jiff::SignedDuration;

use super::*;
use crate::secret::{AksToken, RefreshToken};
use crate::session::CredentialKind;
use crate::session::backend::{Stored, Swap, Version};
use crate::session::conformance::{ORIGIN, add_token, begin, enter, new_session};
use crate::session::{AksGrant, EXPIRED_IS_KNOWN_FOR, Grant, NewSession, Opener, UserTag, Wait};

const REFRESH_TOKEN: &str = "0.refresh-token-of-alice";
const AKS_TOKEN: &str = "eyJ.aks-token-of-alice";

/// A second replica on the same records, which has seen nothing yet.
async fn another<B: Backend>(backend: B) -> (Arc<SealedStore<B>>, Task) {
    running(backend, &Endings::default()).await
}

/// Alice signed in, with a token.
pub(super) async fn alice(store: &dyn SessionStore) -> (Opener, Opener) {
    let now = crate::clock::Clock::system().now();
    let (new, opener) = new_session("0123-alice", now);
    let aks = AksGrant {
        token: AksToken::new(AKS_TOKEN),
        minted_at: now,
        expires_at: now + SignedDuration::from_hours(1),
        refresh_in: None,
    };
    let grant = Grant { refresh_token: RefreshToken::new(REFRESH_TOKEN), aks: Some(aks), granted_at: now };
    store.begin(NewSession { grant, ..new }).await.unwrap();
    let token = add_token(store, &opener, now, 600).await.unwrap();
    (opener, token)
}

/// The document as it stands in the backend.
pub(super) async fn document<B: Backend>(backend: &B, user: UserTag) -> (Version, String) {
    let Stored { version, document, .. } = backend.load(user, &Version::default()).await.unwrap();
    (version, String::from_utf8(document.unwrap().to_vec()).unwrap())
}

/// Puts another document in its place, as who may write to the store can.
async fn forge<B: Backend>(backend: &B, user: UserTag, document: String) {
    let (expected, _) = self::document(backend, user).await;
    let expires_at = crate::clock::Clock::system().now() + EXPIRED_IS_KNOWN_FOR;
    let (version, document) = (Version("forged".to_owned()), document.into_bytes().into());
    let swap = Swap { expected, version, document, expires_at, ..Swap::default() };
    assert!(backend.swap(user, swap).await.unwrap());
}

/// A dump of Redis and of memory alike holds no token, no credential and nothing of who somebody is.
#[tokio::test]
async fn a_dump_of_the_store_tells_nothing() {
    let (_directory, server) = redis_server().await;
    let (shared, _task) = running(at(&server), &Endings::default()).await;
    let (alone, _other) = running(Memory::default(), &Endings::default()).await;
    for (store, dump) in [
        (&*shared as &dyn SessionStore, &(|| server.dump().unwrap()) as &dyn Fn() -> Vec<u8>),
        (&*alone, &|| alone.backend.dump().into_bytes()),
    ] {
        let (cookie, token) = alice(store).await;
        let dump = dump();
        let seeds = [cookie.key.expose_seed(), token.key.expose_seed()];
        let texts = ["0123-alice", "Alice Example", "alice@contoso.example", REFRESH_TOKEN, AKS_TOKEN]
            .map(str::as_bytes);
        for secret in seeds.into_iter().chain(texts) {
            let found = dump.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", secret.escape_ascii());
        }
        let known = token.credential.id.as_str().as_bytes();
        assert!(dump.windows(known.len()).any(|window| window == known), "the dump is that of the store");
    }
}

/// Of a user's document, no flipped bit gives a session that is not exactly the one that was made, nor another grant.
#[tokio::test]
async fn a_flipped_bit_is_refused_and_never_another_session() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let (cookie, token) = alice(&*store).await;
    let user = cookie.session.user.tag();
    let (_, good) = document(&store.backend, user).await;
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(forged) = String::from_utf8(bytes) else { continue };
        let Ok(records) = Records::parse(forged.as_bytes()) else {
            refused += 1;
            continue;
        };
        match records.open(user, &token.key) {
            Err(_) | Ok(None) => refused += 1,
            Ok(Some(opened)) => {
                assert_eq!(opened.credential.id, token.credential.id, "byte {at}");
                assert_eq!(opened.credential.expires_at, token.credential.expires_at, "byte {at}");
                assert_eq!(opened.credential.user, token.credential.user, "byte {at}");
                if let Some(session) = opened.session {
                    assert_eq!(session.id, token.session.id, "byte {at}");
                    assert_eq!(session.user, token.session.user, "byte {at}");
                    assert_eq!(session.expires_at, token.session.expires_at, "byte {at}");
                }
            }
        }
    }
    // What is left belongs to the cookie, which this token's records do not hang on.
    assert!(refused > good.len() / 2, "{refused} of {}", good.len());
}

/// The cookie of a dashboard's host that is called the portal's own, or another dashboard's, opens nothing.
#[tokio::test]
async fn a_cookie_of_a_mount_cannot_be_made_another() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let (alice, _) = alice(&*store).await;
    let (cookie, _) = enter(&*store, &alice, alice.session.created_at).await;
    let user = alice.session.user.tag();
    let (_, document) = document(&store.backend, user).await;
    assert!(Records::parse(document.as_bytes()).unwrap().open(user, &cookie.key).unwrap().is_some());
    let mount = format!(",\"mount\":\"{ORIGIN}\"");
    assert_eq!(document.matches(&mount).count(), 2, "its own and its bearer's");
    for other in ["", ",\"mount\":\"https://pods.example.com\""] {
        let forged = document.replace(&mount, other);
        let records = Records::parse(forged.as_bytes()).unwrap();
        assert!(records.open(user, &cookie.key).is_err(), "{other}");
    }
}

/// A record that is copied to another user's place opens nothing there; the forged sign-in is refused and logged.
#[tokio::test]
async fn a_record_in_another_users_place_opens_nothing() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let (alice, token) = alice(&*store).await;
    let bob = begin(&*store, "bob", crate::clock::Clock::system().now()).await;
    let (_, of_alice) = document(&store.backend, alice.session.user.tag()).await;
    forge(&store.backend, bob.session.user.tag(), of_alice).await;
    let records =
        Records::parse(document(&store.backend, bob.session.user.tag()).await.1.as_bytes()).unwrap();
    assert!(records.open(bob.session.user.tag(), &token.key).is_err());
    assert!(records.open(bob.session.user.tag(), &alice.key).is_err());
}

/// A sealed grant that is put beside another session of the same user does not open there.
#[tokio::test]
async fn a_grant_of_another_session_is_refused() {
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    let now = crate::clock::Clock::system().now();
    let (one, two) = (begin(&*store, "alice", now).await, begin(&*store, "alice", now).await);
    let user = one.session.user.tag();
    let sealed = store.backend.grant(user, &one.session.id).await.unwrap().unwrap();
    let stolen = crate::session::backend::StoredGrant {
        session: two.session.id.clone(),
        granted_at: now + SignedDuration::from_secs(1),
        sealed,
        expires_at: two.session.expires_at,
    };
    assert!(store.backend.renew(user, &stolen).await.unwrap());
    assert!(store.grant(&one).await.is_ok());
    assert!(store.grant(&two).await.is_err());
}

/// A planted record is not taken along to the next session: the old session's seal does not list it.
#[tokio::test]
async fn a_planted_token_does_not_move_to_the_next_session() {
    let store = Arc::new(SealedStore::new(Memory::default(), Endings::default(), STALENESS));
    let now = crate::clock::Clock::system().now();
    let (old, own) = alice(&*store).await;
    // The forger's own token, made in a session of theirs, and planted as a live one of Alice's.
    let mallory = begin(&*store, "mallory", now).await;
    let planted = add_token(&*store, &mallory, now, 600).await.unwrap();
    let user = old.session.user.tag();
    let (_, of_mallory) = document(&store.backend, mallory.session.user.tag()).await;
    let (_, of_alice) = document(&store.backend, user).await;
    let mut alice: serde_json::Value = serde_json::from_str(&of_alice).unwrap();
    let mallory: serde_json::Value = serde_json::from_str(&of_mallory).unwrap();
    let id = planted.credential.id.as_str();
    let mut record = mallory["credentials"][id].clone();
    record["session"] = serde_json::json!(old.session.id.as_str());
    alice["credentials"][id] = record;
    forge(&store.backend, user, alice.to_string()).await;
    let (store, _task) = another(Arc::into_inner(store).unwrap().backend).await;
    let (new, opener) = new_session("0123-alice", now);
    store.begin(NewSession { supersedes: Some(old), ..new }).await.unwrap();
    let moved = store.find(&own.key).await.unwrap().unwrap().session.unwrap();
    assert_eq!(moved.id, opener.session.id, "her own token moved along");
    let (_, after) = document(&store.backend, user).await;
    let after: serde_json::Value = serde_json::from_str(&after).unwrap();
    assert!(after["sessions"][opener.session.id.as_str()]["data_keys"].get(id).is_none());
    let records = Records::parse(after.to_string().as_bytes()).unwrap();
    assert!(records.open(user, &planted.key).is_err(), "and the planted one is nobody's");
}

/// A revoked token that is put back into the present records opens nothing once the session was sealed anew: its seal
/// lists who opens it.
#[tokio::test]
async fn a_revoked_token_that_is_put_back_opens_nothing() {
    let store = SealedStore::new(Memory::default(), Endings::default(), STALENESS);
    let (cookie, token) = alice(&store).await;
    let user = cookie.session.user.tag();
    let (id, session) = (token.credential.id.as_str(), cookie.session.id.as_str());
    let before: serde_json::Value = serde_json::from_str(&document(&store.backend, user).await.1).unwrap();
    assert!(store.revoke(&cookie.session.user, &token.credential.id).await.unwrap());
    add_token(&store, &cookie, crate::clock::Clock::system().now(), 60).await.unwrap();
    let mut after: serde_json::Value = serde_json::from_str(&document(&store.backend, user).await.1).unwrap();
    after["credentials"][id] = before["credentials"][id].clone();
    after["sessions"][session]["data_keys"][id] = before["sessions"][session]["data_keys"][id].clone();
    let records = Records::parse(after.to_string().as_bytes()).unwrap();
    assert!(records.open(user, &token.key).is_err());
    assert!(records.open(user, &cookie.key).unwrap().unwrap().session.is_some());
}

/// What a newer version wrote beside what this one knows is kept by each change.
#[tokio::test]
async fn fields_of_a_newer_version_survive_a_change() {
    let store = SealedStore::new(Memory::default(), Endings::default(), STALENESS);
    let (cookie, _) = alice(&store).await;
    let user = cookie.session.user.tag();
    let (_, text) = document(&store.backend, user).await;
    let mut newer: serde_json::Value = serde_json::from_str(&text).unwrap();
    newer["news"] = serde_json::json!({"a": 1});
    newer["sessions"][cookie.session.id.as_str()]["device"] = serde_json::json!("laptop");
    newer["sessions"][cookie.session.id.as_str()]["waits"] = serde_json::json!("for something new");
    forge(&store.backend, user, newer.to_string()).await;
    let (store, _task) = another(store.backend).await;
    let listed = store.listed(&cookie.session.user, CredentialKind::Token).await.unwrap();
    assert_eq!(listed[0].session.as_ref().unwrap().waits, Some(Wait::Blocked), "rather a click than none");
    add_token(&*store, &cookie, crate::clock::Clock::system().now(), 60).await.unwrap();
    let after: serde_json::Value = serde_json::from_str(&document(&store.backend, user).await.1).unwrap();
    assert_eq!(after["news"]["a"], 1);
    assert_eq!(after["sessions"][cookie.session.id.as_str()]["device"], "laptop");
}
