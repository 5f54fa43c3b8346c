//! One browser, one session: which one a sign-in supersedes, what a sign-out ends, and which tokens move.

use super::*;

/// A sign-in of `name` in the browser whose cookie was `before`'s when it was sent.
async fn sign_in(world: &World, name: &str, before: &Opener) -> Opener {
    let (new, opener) = new_session(name, world.now);
    world.store.begin(NewSession { supersedes: Some(before.clone()), ..new }).await.unwrap();
    opener
}

/// Those of several sessions that stand.
async fn standing(world: &World, of: &[&Opener]) -> Vec<SessionId> {
    let mut standing = Vec::new();
    for opener in of {
        standing.extend(opens(world, opener).await.flatten());
    }
    standing
}

pub(in crate::session) async fn of_sign_ins_at_once_in_a_browser_the_last_one_stays(world: World) {
    let before = begin(&*world.store, "alice", world.now).await;
    let token = add_token(&*world.store, &before, world.now, 60).await.unwrap();
    let mut all = vec![before.clone()];
    for _ in 0..3 {
        let last = sign_in(&world, "alice", &before).await;
        all.push(last.clone());
        let stands = std::slice::from_ref(&last.session.id);
        assert_eq!(standing(&world, &all.iter().collect::<Vec<_>>()).await, stands);
        assert_eq!(opens(&world, &token).await, Some(Some(last.session.id.clone())), "its tokens follow");
    }
    let gone: Vec<SessionId> = all.iter().take(3).map(|opener| opener.session.id.clone()).collect();
    let (sessions, credentials) = world.published();
    assert_eq!(sessions, gone);
    assert!(credentials.iter().all(|(_, fate)| *fate == Fate::Void), "no stream of the token's ends");
}

pub(in crate::session) async fn a_browser_that_changes_hands_has_one_session(world: World) {
    // The browser's last session is found through every user's records that it went through.
    for names in [["bob", "alice"], ["alice", "bob"], ["bob", "carol"], ["bob", "bob"]] {
        let before = begin(&*world.store, "alice", world.now).await;
        let first = sign_in(&world, names[0], &before).await;
        let next = sign_in(&world, "carol", &first).await;
        let last = sign_in(&world, names[1], &before).await;
        let stands = standing(&world, &[&before, &first, &next, &last]).await;
        assert_eq!(stands, std::slice::from_ref(&last.session.id), "{names:?}");
        assert!(world.store.sign_out(&before).await.unwrap(), "{names:?}");
        assert!(standing(&world, &[&last]).await.is_empty(), "{names:?}");
    }
}

pub(in crate::session) async fn a_superseded_cookie_leads_to_its_successor_for_a_day(world: World) {
    let now = world.now;
    let before = begin(&*world.store, "alice", now).await;
    let found = async |opener: &Opener| {
        let found = world.store.of_browser(&opener.key).await.unwrap();
        found.map(|found| (found.credential.id.clone(), found.session.id.clone()))
    };
    let of = |opener: &Opener| Some((opener.credential.id.clone(), opener.session.id.clone()));
    assert_eq!(found(&before).await, of(&before));
    let token = add_token(&*world.store, &before, now, 86_400 * 3).await.unwrap();
    assert_eq!(found(&token).await, None, "a token is no browser");
    let last = sign_in(&world, "alice", &before).await;
    assert_eq!((opens(&world, &before).await, found(&before).await), (None, of(&before)));
    assert!(world.store.sign_out(&before).await.unwrap());
    assert_eq!(opens(&world, &last).await, None, "the browser's session has ended");
    assert!(!world.store.sign_out(&before).await.unwrap());
    assert_eq!((found(&last).await, found(&before).await), (None, of(&before)));
    assert_eq!(opens(&world, &token).await, Some(None));
    // Nothing of it comes back at the next sign-in, and nothing of it stays.
    sign_in(&world, "alice", &before).await;
    assert_eq!(opens(&world, &token).await, Some(None), "a sign-out is no move");
    world.store.sweep(now + SignedDuration::from_hours(25)).await.unwrap();
    assert_eq!(found(&before).await, None);
    let other = begin(&*world.store, "alice", now).await;
    sign_in(&world, "alice", &other).await;
    world.store.end_user(&user("alice")).await.unwrap();
    assert_eq!(found(&other).await, None);
}

pub(in crate::session) async fn superseded_sessions_are_remembered_within_bounds(world: World) {
    let mut all = vec![begin(&*world.store, "alice", world.now).await];
    for _ in 0..20 {
        let last = sign_in(&world, "alice", all.last().unwrap()).await;
        all.push(last);
    }
    let mut known = 0;
    for opener in &all[..20] {
        known += usize::from(world.store.of_browser(&opener.key).await.unwrap().is_some());
    }
    assert_eq!(known, 16);
    assert!(world.store.sign_out(&all[19]).await.unwrap());
}

pub(in crate::session) async fn tokens_of_a_blocked_session_wait_for_a_click(world: World) {
    let now = world.now;
    let later = |seconds| now + SignedDuration::from_secs(seconds);
    let before = begin(&*world.store, "alice", now).await;
    let token = add_token(&*world.store, &before, now, 600).await.unwrap();
    world.store.note_wait(&before.session, Wait::Blocked).await.unwrap();
    assert_eq!(opens(&world, &token).await, Some(Some(before.session.id.clone())), "the session stands");
    let second = sign_in(&world, "alice", &before).await;
    assert_eq!(opens(&world, &token).await, Some(None));
    let arming = Arming { token: token.credential.id.clone(), had: None };
    world.store.arm(&second, &[arming], now).await.unwrap();
    // Blocked and let in again: what it has is alive, and moves.
    world.store.note_wait(&second.session, Wait::Blocked).await.unwrap();
    assert!(world.store.renew(&second, grant("again", later(1))).await.unwrap());
    let third = sign_in(&world, "alice", &second).await;
    assert_eq!(opens(&world, &token).await, Some(Some(third.session.id.clone())));
    // A tab that knows of the session before this one alone finds it blocked as well.
    world.store.note_wait(&third.session, Wait::Blocked).await.unwrap();
    sign_in(&world, "alice", &second).await;
    assert_eq!(opens(&world, &token).await, Some(None));
    assert!(world.published().1.contains(&(token.credential.id.clone(), Fate::Dormant)));
    // One that waits for a step-up never ended: its own browser meets the demand.
    let before = begin(&*world.store, "bob", now).await;
    let token = add_token(&*world.store, &before, now, 600).await.unwrap();
    world.store.note_wait(&before.session, Wait::StepUp).await.unwrap();
    let waits = world.store.listed(&user("bob"), CredentialKind::Token).await.unwrap()[0]
        .session
        .as_ref()
        .unwrap()
        .waits;
    assert_eq!(waits, Some(Wait::StepUp));
    let next = sign_in(&world, "bob", &before).await;
    assert_eq!(opens(&world, &token).await, Some(Some(next.session.id.clone())));
}
