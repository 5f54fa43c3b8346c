//! What a browser has for a mounted dashboard.

use super::*;
use crate::session::bearer::{self, BearerKeys};
use crate::session::{MAX_COOKIES_PER_MOUNT, MountEntry, Mounted};

pub(in crate::session) const ORIGIN: &str = "https://headlamp.example.com";

/// Lets the opener's browser in: its cookie there, and the bearer's record.
pub(in crate::session) async fn enter(
    store: &dyn SessionStore,
    opener: &Opener,
    at: Timestamp,
) -> (Opener, Opener) {
    let user = &opener.session.user.oid;
    let made = |kind, cookie: Option<&Credential>, keys: &BearerKeys, key: CredentialKey| {
        let (credential, _) = credential(kind, user, at, 3_600);
        let proof = cookie.map(|_| keys.proof().clone());
        let cookie = cookie.map(|cookie| cookie.id.clone());
        let mounted = Some(Mounted { origin: ORIGIN.into(), cookie, proof });
        let credential = Credential { digest: *key.digest(), mounted, ..(*credential).clone() };
        Opener { credential: Arc::new(credential), session: opener.session.clone(), key }
    };
    let key = CredentialSecret::new_cookie().key();
    let keys = BearerKeys::of(&key);
    let cookie = made(CredentialKind::MountCookie, None, &keys, key);
    let bearer = made(CredentialKind::Bearer, Some(&cookie.credential), &keys, keys.key());
    let pair = |opener: &Opener| (opener.credential.clone(), opener.key.clone());
    let entry = MountEntry { cookie: pair(&cookie), bearer: pair(&bearer) };
    store.enter_mount(opener, &entry).await.unwrap();
    (cookie, bearer)
}

pub(in crate::session) async fn a_mounts_cookie_and_bearer_open_the_session_and_end_with_it(world: World) {
    let now = world.now;
    let browser = begin(&*world.store, "alice", now).await;
    let (cookie, bearer) = enter(&*world.store, &browser, now).await;
    for opener in [&cookie, &bearer] {
        let found = world.store.find(&opener.key).await.unwrap().unwrap();
        assert_eq!(found.credential.kind, opener.credential.kind);
        assert!(found.credential.is_for_mount(ORIGIN));
        assert_eq!(found.session.unwrap().id, browser.session.id);
        assert!(world.store.grant(opener).await.unwrap().is_some(), "streams renew their session with it");
    }
    // Whoever presents a bearer is judged by the key in its record.
    let text = BearerKeys::of(&cookie.key).bearer(now);
    let (key, claim) = bearer::presented(text.expose()).unwrap();
    let found = world.store.find(&key).await.unwrap().unwrap();
    assert!(found.credential.mounted.as_ref().unwrap().proof.as_ref().unwrap().proves(&claim, now));
    assert!(world.store.listed(&user("alice"), CredentialKind::Token).await.unwrap().is_empty());
    assert_eq!(world.store.listed(&user("alice"), CredentialKind::MountCookie).await.unwrap().len(), 1);
    assert_eq!(world.store.listed(&user("alice"), CredentialKind::Cookie).await.unwrap().len(), 1);

    world.store.end_session(&browser.session, Ending::Natural).await.unwrap();
    assert_eq!((opens(&world, &cookie).await, opens(&world, &bearer).await), (None, None), "never dormant");
    let (_, ended) = world.published();
    assert!(ended.contains(&(bearer.credential.id.clone(), Fate::Void)), "its streams end");
    assert!(ended.contains(&(cookie.credential.id.clone(), Fate::Void)));
}

pub(in crate::session) async fn a_mounts_cookie_is_revoked_with_its_bearer(world: World) {
    let now = world.now;
    let browser = begin(&*world.store, "alice", now).await;
    let ((first, bearer), (second, other)) =
        (enter(&*world.store, &browser, now).await, enter(&*world.store, &browser, now).await);
    assert!(!world.store.revoke(&user("alice"), &bearer.credential.id).await.unwrap(), "not by itself");
    assert!(!world.store.revoke(&user("bob"), &first.credential.id).await.unwrap());
    assert!(world.store.revoke(&user("alice"), &first.credential.id).await.unwrap());
    assert_eq!((opens(&world, &first).await, opens(&world, &bearer).await), (None, None));
    for stays in [&browser, &second, &other] {
        assert_eq!(opens(&world, stays).await, Some(Some(browser.session.id.clone())));
    }
}

pub(in crate::session) async fn a_browser_has_few_cookies_for_a_mount(world: World) {
    let now = world.now;
    let browser = begin(&*world.store, "alice", now).await;
    let (oldest, bearer) = enter(&*world.store, &browser, now).await;
    for second in 1..=MAX_COOKIES_PER_MOUNT {
        let at = now + SignedDuration::from_secs(i64::try_from(second).unwrap());
        assert!(opens(&world, &oldest).await.is_some());
        enter(&*world.store, &browser, at).await;
    }
    assert_eq!((opens(&world, &oldest).await, opens(&world, &bearer).await), (None, None));
    let listed = world.store.listed(&user("alice"), CredentialKind::MountCookie).await.unwrap();
    assert_eq!(listed.len(), MAX_COOKIES_PER_MOUNT);
}

pub(in crate::session) async fn a_sign_in_in_the_same_browser_takes_its_dashboards_along(world: World) {
    let now = world.now;
    let before = begin(&*world.store, "alice", now).await;
    let (cookie, bearer) = enter(&*world.store, &before, now).await;
    let (new, after) = new_session("alice", now);
    world.store.begin(NewSession { supersedes: Some(before), ..new }).await.unwrap();
    for opener in [&cookie, &bearer] {
        assert_eq!(opens(&world, opener).await, Some(Some(after.session.id.clone())));
    }
    let (new, _) = new_session("bob", now);
    world.store.begin(NewSession { supersedes: Some(after), ..new }).await.unwrap();
    assert_eq!((opens(&world, &cookie).await, opens(&world, &bearer).await), (None, None));
}
