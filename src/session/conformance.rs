//! What every store must do, as tests: a store's own tests call [`suite`] with a function that makes an empty one.

mod mounts;
mod succession;

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub(super) use self::mounts::*;
pub(super) use self::succession::*;
use super::{
    AddTokenError, Arming, Credential, CredentialId, CredentialKind, Ended, Ending, Endings, Fate, Grant,
    LastUse, NewSession, Opener, Places, Session, SessionId, SessionStore, Use, UserKey, Wait,
};
use crate::clock::{Clock, after};
use crate::secret::{CredentialKey, CredentialSecret, Digest, RefreshToken};

/// An empty store, and what it has published so far.
pub(super) struct World {
    store: Arc<dyn SessionStore>,
    /// The present: a real store forgets by its own clock.
    now: Timestamp,
    published: Arc<Mutex<Vec<Ended>>>,
    /// What the store needs, for as long as it is used.
    _surroundings: Box<dyn Any>,
}

/// One test for each property, for the store that `$make` makes.
macro_rules! suite {
    ($make:expr) => {
        crate::session::conformance::suite!($make;
            a_credential_is_found_by_its_key_alone
            a_sign_in_supersedes_the_browsers_session_and_takes_its_tokens_along
            another_users_sign_in_leaves_the_old_tokens_dormant
            a_natural_end_leaves_tokens_dormant_and_a_final_one_none
            a_user_and_a_sid_end_with_all_that_is_theirs
            dormant_tokens_are_armed_unless_something_changed_meanwhile
            a_revoked_token_is_gone_and_only_its_owner_can_revoke_it
            a_tokens_end_is_brought_forward_by_its_holder_alone
            of_two_grants_the_newer_stays_and_an_ended_session_takes_none
            the_newest_use_is_kept_and_survives_a_move
            a_sweep_ends_what_has_expired_and_remembers_it_for_a_day
            of_sign_ins_at_once_in_a_browser_the_last_one_stays
            a_browser_that_changes_hands_has_one_session
            a_superseded_cookie_leads_to_its_successor_for_a_day
            superseded_sessions_are_remembered_within_bounds
            tokens_of_a_blocked_session_wait_for_a_click
            a_mounts_cookie_and_bearer_open_the_session_and_end_with_it
            a_mounts_cookie_is_revoked_with_its_bearer
            a_browser_has_few_cookies_for_a_mount
            a_sign_in_in_the_same_browser_takes_its_dashboards_along
        );
    };
    ($make:expr; $($property:ident)*) => {
        $(#[tokio::test]
        async fn $property() {
            crate::session::conformance::$property(($make)().await).await;
        })*
    };
}
pub(super) use suite;

impl World {
    pub(super) fn new(endings: &Endings, store: Arc<dyn SessionStore>, surroundings: impl Any) -> Self {
        let published = Arc::new(Mutex::new(Vec::new()));
        let sink = published.clone();
        endings.listen(move |ended| sink.lock().unwrap().push(ended.clone()));
        let now = Clock::system().now();
        Self { store, now, published, _surroundings: Box::new(surroundings) }
    }

    /// What was published since the last look, as (sessions, credentials).
    fn published(&self) -> (Vec<SessionId>, Vec<(CredentialId, Fate)>) {
        let all = std::mem::take(&mut *self.published.lock().unwrap());
        let sessions = all.iter().flat_map(|ended| ended.sessions.clone()).collect();
        (sessions, all.into_iter().flat_map(|ended| ended.credentials).collect())
    }
}

fn user(name: &str) -> UserKey {
    UserKey { tid: "t".into(), oid: name.into() }
}

pub(crate) fn new_session(name: &str, now: Timestamp) -> (NewSession, Opener) {
    let session = Arc::new(Session {
        id: SessionId::random(),
        user: user(name),
        name: "Alice Example".to_owned(),
        username: "alice@contoso.example".to_owned(),
        home_account_id: None,
        login_hint: None,
        sid: Some(Digest::of(name)),
        stepped_up: false,
        created_at: now,
        expires_at: after(now, Duration::from_secs(3_600)),
        places: Places::default(),
    });
    let (cookie, key) = credential(CredentialKind::Cookie, name, now, 3_600);
    let opener = Opener { credential: cookie, session, key };
    (NewSession { opener: opener.clone(), grant: grant("first", now), supersedes: None }, opener)
}

pub(super) fn credential(
    kind: CredentialKind,
    name: &str,
    now: Timestamp,
    seconds: u64,
) -> (Arc<Credential>, CredentialKey) {
    let key = CredentialSecret::new_token().key();
    let lifetime = Duration::from_secs(seconds);
    let credential = Credential::new(*key.digest(), kind, user(name), String::new(), now, lifetime, None);
    (Arc::new(credential), key)
}

fn grant(refresh_token: &str, granted_at: Timestamp) -> Grant {
    Grant { refresh_token: RefreshToken::new(refresh_token), aks: None, granted_at }
}

/// Begins a session of `name` that lives for an hour.
pub(super) async fn begin(store: &dyn SessionStore, name: &str, now: Timestamp) -> Opener {
    let (new, opener) = new_session(name, now);
    store.begin(new).await.unwrap();
    opener
}

/// Adds a token that lives for so many seconds.
pub(super) async fn add_token(
    store: &dyn SessionStore,
    opener: &Opener,
    now: Timestamp,
    seconds: u64,
) -> Result<Opener, AddTokenError> {
    let (token, key) = credential(CredentialKind::Token, &opener.session.user.oid, now, seconds);
    store.add_token(opener, token.clone(), &key).await?;
    Ok(Opener { credential: token, session: opener.session.clone(), key })
}

/// The session that a credential opens: `None` unknown, `Some(None)` dormant.
async fn opens(world: &World, opener: &Opener) -> Option<Option<SessionId>> {
    let found = world.store.find(&opener.key).await.unwrap();
    found.map(|found| found.session.map(|session| session.id.clone()))
}

pub(super) async fn a_credential_is_found_by_its_key_alone(world: World) {
    let now = world.now;
    let cookie = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &cookie, now, 60).await.unwrap();
    for opener in [&cookie, &token] {
        let found = world.store.find(&opener.key).await.unwrap().unwrap();
        assert_eq!((&found.credential.id, found.last_use), (&opener.credential.id, None));
        assert_eq!(found.session.unwrap().id, cookie.session.id);
    }
    let foreign = CredentialSecret::new_token().key();
    assert!(world.store.find(&foreign).await.unwrap().is_none());
    assert!(world.store.known(foreign.digest()).is_none());
    assert_eq!(world.store.count(), 1);
}

pub(super) async fn a_sign_in_supersedes_the_browsers_session_and_takes_its_tokens_along(world: World) {
    let now = world.now;
    let old = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &old, now, 60).await.unwrap();
    let (new, opener) = new_session("alice", now);
    world.store.begin(NewSession { supersedes: Some(old.clone()), ..new }).await.unwrap();
    assert_eq!(opens(&world, &old).await, None);
    assert_eq!(opens(&world, &token).await, Some(Some(opener.session.id.clone())));
    // The token lost nothing: its open watches go on.
    let gone = (old.credential.id.clone(), Fate::Void);
    assert_eq!(world.published(), (vec![old.session.id.clone()], vec![gone]));
}

pub(super) async fn another_users_sign_in_leaves_the_old_tokens_dormant(world: World) {
    let now = world.now;
    let old = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &old, now, 60).await.unwrap();
    let (new, _) = new_session("bob", now);
    world.store.begin(NewSession { supersedes: Some(old.clone()), ..new }).await.unwrap();
    assert_eq!(opens(&world, &token).await, Some(None));
    assert!(world.published().1.contains(&(token.credential.id.clone(), Fate::Dormant)));
}

pub(super) async fn a_natural_end_leaves_tokens_dormant_and_a_final_one_none(world: World) {
    let now = world.now;
    for (ending, left, fate) in
        [(Ending::Natural, Some(None), Fate::Dormant), (Ending::Final, None, Fate::Void)]
    {
        let cookie = begin(&*world.store, "alice", now).await;
        let token = add_token(&*world.store, &cookie, now, 60).await.unwrap();
        assert!(world.store.end_session(&cookie.session, ending).await.unwrap());
        assert!(!world.store.end_session(&cookie.session, ending).await.unwrap(), "it has ended already");
        assert_eq!((opens(&world, &cookie).await, opens(&world, &token).await), (None, left));
        let (sessions, credentials) = world.published();
        assert_eq!(sessions, std::slice::from_ref(&cookie.session.id));
        assert_eq!(credentials.len(), 2);
        assert!(credentials.contains(&(token.credential.id.clone(), fate)));
        assert!(credentials.contains(&(cookie.credential.id.clone(), Fate::Void)));
        let late = add_token(&*world.store, &cookie, now, 60).await;
        assert_eq!(late.unwrap_err(), AddTokenError::SessionGone);
    }
}

pub(super) async fn a_user_and_a_sid_end_with_all_that_is_theirs(world: World) {
    let now = world.now;
    let (one, two) = (begin(&*world.store, "alice", now).await, begin(&*world.store, "alice", now).await);
    let bob = begin(&*world.store, "bob", now).await;
    let dormant = add_token(&*world.store, &one, now, 60).await.unwrap();
    assert_eq!(world.store.end_by_sid(&Digest::of("alice")).await.unwrap(), 2);
    assert_eq!((opens(&world, &one).await, opens(&world, &two).await), (None, None));
    assert_eq!(world.store.end_by_sid(&Digest::of("alice")).await.unwrap(), 0);
    let three = begin(&*world.store, "alice", now).await;
    world.published();
    world.store.end_user(&user("alice")).await.unwrap();
    assert_eq!((opens(&world, &three).await, opens(&world, &dormant).await), (None, None));
    let (sessions, credentials) = world.published();
    assert_eq!(sessions, std::slice::from_ref(&three.session.id));
    assert!(credentials.contains(&(dormant.credential.id.clone(), Fate::Void)));
    assert_eq!(opens(&world, &bob).await, Some(Some(bob.session.id.clone())));
}

pub(super) async fn dormant_tokens_are_armed_unless_something_changed_meanwhile(world: World) {
    let now = world.now;
    let old = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &old, now, 600).await.unwrap();
    let expired = add_token(&*world.store, &old, now, 1).await.unwrap();
    world.store.end_session(&old.session, Ending::Natural).await.unwrap();
    let (alice, bob) = (begin(&*world.store, "alice", now).await, begin(&*world.store, "bob", now).await);
    let later = now + SignedDuration::from_secs(10);
    let arming = |token: &Opener, had| Arming { token: token.credential.id.clone(), had };
    let arm = async |opener: &Opener, had| {
        let before = opens(&world, &token).await;
        let armed = world.store.arm(opener, &[arming(&token, had), arming(&expired, None)], later).await;
        let opened = opens(&world, &token).await;
        let told: &[CredentialId] =
            if opened == before { &[] } else { std::slice::from_ref(&token.credential.id) };
        assert_eq!(armed.unwrap(), told, "it says what it did");
        opened.unwrap()
    };
    assert_eq!(arm(&bob, None).await, None, "another user's token");
    assert_eq!(arm(&alice, Some(old.session.id.clone())).await, None, "it had no session any more");
    assert_eq!(arm(&alice, None).await, Some(alice.session.id.clone()));
    assert_eq!(opens(&world, &expired).await, Some(None));
    let two = begin(&*world.store, "alice", now).await;
    assert_eq!(arm(&two, None).await, Some(alice.session.id.clone()), "it has a session by now");
    assert_eq!(arm(&two, Some(alice.session.id.clone())).await, Some(two.session.id.clone()));
}

pub(super) async fn a_revoked_token_is_gone_and_only_its_owner_can_revoke_it(world: World) {
    let now = world.now;
    let cookie = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &cookie, now, 60).await.unwrap();
    let id = &token.credential.id;
    assert!(!world.store.revoke(&user("bob"), id).await.unwrap());
    assert!(
        !world.store.revoke(&user("alice"), &cookie.credential.id).await.unwrap(),
        "a cookie is no token"
    );
    assert_eq!(world.published(), (vec![], vec![]));
    assert!(world.store.revoke(&user("alice"), id).await.unwrap());
    assert!(!world.store.revoke(&user("alice"), id).await.unwrap());
    assert_eq!(opens(&world, &token).await, None);
    assert_eq!(world.published(), (vec![], vec![(id.clone(), Fate::Void)]));
    assert!(world.store.listed(&user("alice"), CredentialKind::Token).await.unwrap().is_empty());
}

pub(super) async fn a_tokens_end_is_brought_forward_by_its_holder_alone(world: World) {
    let now = world.now;
    let cookie = begin(&*world.store, "alice", now).await;
    let (token, key) = credential(CredentialKind::Token, "alice", now, 600);
    let token = Arc::new(Credential { renewable: true, ..(*token).clone() });
    world.store.add_token(&cookie, token.clone(), &key).await.unwrap();
    let opener = Opener { credential: token, session: cookie.session.clone(), key };
    let sooner = after(now, Duration::from_secs(60));
    // Whoever does not hold the token cannot: its record is authenticated under its own key.
    let forged = Opener { key: CredentialSecret::new_token().key(), ..opener.clone() };
    assert!(world.store.shorten(&forged, sooner).await.is_err());
    world.store.shorten(&opener, sooner).await.unwrap();
    world.store.shorten(&opener, after(now, Duration::from_secs(3_600))).await.unwrap();
    let found = world.store.find(&opener.key).await.unwrap().unwrap();
    assert_eq!((found.credential.expires_at, found.credential.renewable), (sooner, true));
    assert_eq!(found.session.unwrap().id, cookie.session.id);
    assert_eq!(
        world.store.listed(&user("alice"), CredentialKind::Token).await.unwrap()[0].credential.expires_at,
        sooner
    );
    assert_eq!(world.published(), (vec![], vec![]), "nothing has ended yet");
}

pub(super) async fn of_two_grants_the_newer_stays_and_an_ended_session_takes_none(world: World) {
    let now = world.now;
    let opener = begin(&*world.store, "alice", now).await;
    let at = |seconds| now + SignedDuration::from_secs(seconds);
    assert!(world.store.renew(&opener, grant("newer", at(2))).await.unwrap());
    assert!(world.store.renew(&opener, grant("older", at(1))).await.unwrap());
    let kept = world.store.grant(&opener).await.unwrap().unwrap();
    assert_eq!(kept.refresh_token.expose(), "newer");
    world.store.end_session(&opener.session, Ending::Natural).await.unwrap();
    assert!(!world.store.renew(&opener, grant("late", at(3))).await.unwrap());
    assert!(world.store.grant(&opener).await.unwrap().is_none());
}

pub(super) async fn the_newest_use_is_kept_and_survives_a_move(world: World) {
    let now = world.now;
    let old = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &old, now, 600).await.unwrap();
    let used = |seconds| LastUse {
        at: now + SignedDuration::from_secs(seconds),
        from: std::net::IpAddr::from([127, 0, 0, 1]),
    };
    let (nobodys, _) = credential(CredentialKind::Token, "nobody", now, 60);
    let touch = async |seconds| {
        let batch = [
            Use { credential: token.credential.clone(), last: used(seconds) },
            Use { credential: nobodys.clone(), last: used(seconds) },
        ];
        world.store.touch(&batch).await.unwrap();
    };
    touch(5).await;
    touch(3).await;
    let (new, _) = new_session("alice", now);
    world.store.begin(NewSession { supersedes: Some(old.clone()), ..new }).await.unwrap();
    let found = world.store.find(&token.key).await.unwrap().unwrap();
    assert_eq!(found.last_use, Some(used(5)));
    assert_eq!(
        world.store.listed(&user("alice"), CredentialKind::Token).await.unwrap()[0].last_use,
        Some(used(5))
    );
}

pub(super) async fn a_sweep_ends_what_has_expired_and_remembers_it_for_a_day(world: World) {
    let now = world.now;
    let cookie = begin(&*world.store, "alice", now).await;
    let short = add_token(&*world.store, &cookie, now, 60).await.unwrap();
    let long = add_token(&*world.store, &cookie, now, 86_400 * 3).await.unwrap();
    world.store.sweep(now + SignedDuration::from_secs(61)).await.unwrap();
    assert!(opens(&world, &short).await.is_some(), "its user is told that it has expired");
    assert_eq!(world.store.count(), 1);
    world.store.sweep(now + SignedDuration::from_secs(3_600)).await.unwrap();
    assert_eq!(world.store.count(), 0);
    assert_eq!(opens(&world, &long).await, Some(None));
    assert_eq!(world.published().0, std::slice::from_ref(&cookie.session.id));
    world.store.sweep(now + SignedDuration::from_hours(30)).await.unwrap();
    assert_eq!((opens(&world, &short).await, opens(&world, &cookie).await), (None, None));
    assert_eq!(opens(&world, &long).await, Some(None));
}
