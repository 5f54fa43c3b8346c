//! What this replica has opened: found credentials by digest, so that a request of a known credential asks no store, and
//! the users that they belong to.
//!
//! An entry counts only while it is known to be true: the store tells of every change as long as its channel is up, and
//! each loss of the channel begins a new *generation*, in which every user is looked up once more before its next
//! request. Beside that, each user is looked up every [`RECHECK_EVERY`], in case a message was lost on the way, and what was
//! not looked up for twice that time does not count. A store that nobody else writes to tells nothing that could be lost.

mod channel;
mod user;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use self::channel::{Channel, millis};
pub(super) use self::user::{Look, State, User};
use super::backend::{Events, Version};
use super::{Found, SessionId, StoreState, UserTag};
use crate::secret::Digest;

/// Without a channel, how long a look at the store is taken for the truth.
pub(super) const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long a lost message can go unnoticed while the channel is up.
pub(super) const RECHECK_EVERY: Duration = Duration::from_secs(30);
/// A user who is unused for this long is forgotten here; open streams keep theirs in use.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// The same when too many are known.
const FORGET_AFTER_WHEN_FULL: Duration = Duration::from_secs(60);
/// Users that are known at once. Above it, those unused for a minute go: at about 5 KiB each, 250 MiB.
const MAX_USERS: usize = 50_000;
/// Changes that are told apart from our own; of more than these, any may be another replica's.
const MAX_HEARD: usize = 32;

/// What this replica knows.
#[derive(Debug)]
pub(super) struct Near {
    found: DashMap<Digest, Entry>,
    users: DashMap<UserTag, Arc<User>>,
    /// Those who wait for another replica's renewal of a session.
    renewals: DashMap<SessionId, Arc<Notify>>,
    /// Users of whom the store said that they changed.
    changed: Mutex<HashSet<UserTag>>,
    news: Notify,
    channel: Channel,
    /// Whether a change by others may go unnoticed.
    may_miss: bool,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    user: Arc<User>,
}

impl Near {
    /// Nothing is known yet. `may_miss`: others write to the store, too, and what it tells of that may be lost.
    pub(super) fn new(may_miss: bool) -> Self {
        let (found, users, renewals) = (DashMap::new(), DashMap::new(), DashMap::new());
        let (changed, news, channel) = (Mutex::default(), Notify::new(), Channel::new());
        Self { found, users, renewals, changed, news, channel, may_miss }
    }

    /// A credential that is known for certain: the path of almost every request.
    pub(super) fn known(&self, digest: &Digest) -> Option<Found> {
        let entry = self.found.get(digest)?;
        entry.found.fetch();
        let now = self.channel.now();
        if !self.is_fresh_at(&entry.user, now) {
            return None;
        }
        entry.user.use_at(now / 1_000);
        Some(entry.found.clone())
    }

    /// Whether what is known of the user is good enough for an outage: everything that happened to the user was heard of
    /// until less than `staleness` ago, and nothing says that it is wrong.
    pub(super) fn may_be_served(&self, user: &User, staleness: Duration) -> bool {
        let generation = user.generation.load(Ordering::Acquire);
        let Some(certain_until) = self.channel.certain_until(generation) else { return false };
        let age_then = certain_until.saturating_sub(user.looked_up.load(Ordering::Acquire));
        let unheard = self.channel.now().saturating_sub(certain_until);
        !self.has_changed(user) && age_then < millis(2 * RECHECK_EVERY) && unheard < millis(staleness)
    }

    /// Whether the store said that the user changed, which was not looked up since.
    pub(super) fn has_changed(&self, user: &User) -> bool {
        user.changes.is_open()
    }

    /// A credential as it was last seen, however long ago, and its user.
    pub(super) fn last_seen(&self, digest: &Digest) -> Option<(Found, Arc<User>)> {
        let entry = self.found.get(digest)?;
        entry.user.use_at(self.channel.second());
        Some((entry.found.clone(), entry.user.clone()))
    }

    /// The user's place here. It stands before the store is asked, so that no change from then on is missed.
    pub(super) fn user(&self, tag: UserTag) -> Arc<User> {
        let user = match self.users.get(&tag) {
            Some(user) => user.clone(),
            None => self.users.entry(tag).or_insert_with(|| Arc::new(User::new(tag))).clone(),
        };
        user.use_at(self.channel.second());
        user
    }

    /// The user's place here, where there is one.
    pub(super) fn known_user(&self, tag: UserTag) -> Option<Arc<User>> {
        self.users.get(&tag).map(|user| user.clone())
    }

    /// Whether what is known of the user is the truth.
    pub(super) fn is_fresh(&self, user: &User) -> bool {
        self.is_fresh_at(user, self.channel.now())
    }

    fn is_fresh_at(&self, user: &User, now: u64) -> bool {
        if user.doubts.is_open() {
            return false;
        }
        let age = now.saturating_sub(user.looked_up.load(Ordering::Acquire));
        let generation = self.channel.generation();
        let heard = generation != 0 && user.generation.load(Ordering::Acquire) == generation;
        let is_certain = heard && !self.may_miss;
        is_certain || age < millis(if heard { 2 * RECHECK_EVERY } else { TRUSTED_FOR })
    }

    /// Before the store is asked about a user: what must be handed to [`Near::looked_up`] after it.
    pub(super) fn before_look(&self, user: &User) -> Look {
        let (doubts, changes) = (user.doubts.reasons(), user.changes.reasons());
        Look { generation: self.channel.generation(), doubts, changes }
    }

    /// After the store was asked and had this version. `false`: there were new reasons meanwhile, so that it must be asked
    /// again.
    pub(super) fn looked_up(&self, user: &User, look: Look, version: &Version) -> bool {
        user.generation.store(look.generation, Ordering::Release);
        user.looked_up.store(self.channel.now(), Ordering::Release);
        user.changes.seen_up_to(look.changes);
        user.doubts.seen_up_to(look.doubts);
        self.has_put(user, version);
        let is_clean = !user.doubts.is_open();
        if is_clean {
            let mut versions = user.versions();
            versions.heard.clear();
            versions.too_many = false;
        }
        is_clean
    }

    /// The user's records are known in this version, from a look or because this replica has just put them there: hearing
    /// of it is no news.
    pub(super) fn has_put(&self, user: &User, version: &Version) {
        let mut versions = user.versions();
        versions.know(version);
        let heard = versions.heard.len();
        versions.heard.retain(|heard| heard != version);
        if heard > 0 && versions.heard.is_empty() && !versions.too_many {
            user.changes.seen_up_to(user.changes.reasons());
            user.doubts.seen_up_to(user.doubts.reasons());
        }
    }

    /// What is known of the user may be wrong: a change failed half-way.
    pub(super) fn distrust(&self, user: &User) {
        user.doubts.add();
    }

    /// Keeps a found credential.
    pub(super) fn keep(&self, user: &Arc<User>, state: &mut State, found: &Found) {
        let digest = found.credential.digest;
        state.digests.insert(digest);
        self.found.insert(digest, Entry { found: found.clone(), user: user.clone() });
    }

    /// Changes or, with `None`, forgets a found credential.
    pub(super) fn update(&self, digest: &Digest, change: impl FnOnce(&Found) -> Option<Found>) {
        let Some(mut entry) = self.found.get_mut(digest) else { return };
        match change(&entry.found) {
            Some(found) => entry.found = found,
            None => {
                drop(entry);
                self.found.remove(digest);
            }
        }
    }

    /// All users that are known.
    pub(super) fn users(&self) -> Vec<Arc<User>> {
        self.users.iter().map(|user| user.clone()).collect()
    }

    /// Users to look up although nobody asks for them, for their open streams may have to end: those of whom a change could
    /// not be looked up yet, all when the channel has come up, and those not looked up for [`RECHECK_EVERY`].
    pub(super) fn due(&self) -> Vec<Arc<User>> {
        if !self.may_miss {
            return Vec::new();
        }
        let (now, generation) = (self.channel.now(), self.channel.generation());
        let is_due = |user: &User| {
            let age = now.saturating_sub(user.looked_up.load(Ordering::Relaxed));
            let is_behind = generation != 0 && user.generation.load(Ordering::Relaxed) != generation;
            is_behind || self.has_changed(user) || age >= millis(RECHECK_EVERY)
        };
        self.users.iter().filter(|user| is_due(user)).map(|user| user.clone()).collect()
    }

    /// Forgets users who are not used any more.
    pub(super) fn forget_unused(&self) {
        let idle = if self.users.len() > MAX_USERS { FORGET_AFTER_WHEN_FULL } else { FORGET_AFTER };
        let now = self.channel.now();
        let is_unused =
            |user: &User| now.saturating_sub(user.used.load(Ordering::Relaxed) * 1_000) >= millis(idle);
        let unused = self.users.iter().filter(|user| is_unused(user)).map(|user| user.clone());
        for user in unused.collect::<Vec<_>>() {
            // Whoever holds its state is using it right now.
            let Ok(mut state) = user.state.try_lock() else { continue };
            for digest in state.digests.drain() {
                self.found.remove(&digest);
            }
            self.distrust(&user);
            *state = State::default();
            drop(state);
            // Not while somebody holds it, who would go on with a place that no news reaches. Two are the map's and ours.
            self.users.remove_if(&user.tag, |_, known| Arc::strong_count(known) == 2);
        }
    }

    /// What to wait at for another replica's renewal of the session.
    pub(super) fn renewal_of(&self, session: &SessionId) -> Arc<Notify> {
        self.renewals.entry(session.clone()).or_default().clone()
    }

    /// Nobody waits for the session's renewal here any more.
    pub(super) fn forget_renewals(&self) {
        self.renewals.retain(|_, notify| Arc::strong_count(notify) > 1);
    }

    /// Waits until the store says that users changed, and takes them.
    pub(super) async fn changed_users(&self) -> Vec<Arc<User>> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
            if !changed.is_empty() {
                return changed.iter().filter_map(|tag| Some(self.users.get(tag)?.clone())).collect();
            }
            self.news.notified().await;
        }
    }

    /// How long there was no sign of life from the store.
    pub(super) fn silent_for(&self) -> Duration {
        self.channel.silent_for()
    }

    /// How often the channel has come up.
    pub(super) fn count(&self) -> u64 {
        self.channel.count()
    }

    /// Whether the store answers.
    pub(super) fn state(&self) -> StoreState {
        self.channel.state()
    }

    /// How many users, and entries.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.users.len(), self.found.len())
    }
}

impl Events for Near {
    fn connected(&self) {
        self.channel.comes_up();
    }

    fn disconnected(&self) {
        self.channel.goes_down();
    }

    fn alive(&self) {
        self.channel.shows_life();
    }

    fn changed(&self, user: UserTag, version: Version) {
        self.alive();
        let Some(known) = self.users.get(&user).map(|user| user.clone()) else { return };
        {
            let mut versions = known.versions();
            if versions.knows(&version) {
                return;
            }
            if versions.heard.len() < MAX_HEARD {
                versions.heard.push(version);
            } else {
                versions.too_many = true;
            }
            known.changes.add();
            known.doubts.add();
        }
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(user);
        self.news.notify_one();
    }

    fn renewed(&self, session: SessionId) {
        self.alive();
        if let Some(waiting) = self.renewals.get(&session) {
            waiting.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::UserKey;

    /// Of changes of our own in a row the messages come late: they are no reason to ask the store again. Another replica's is.
    #[test]
    fn a_late_message_of_an_own_change_is_no_news() {
        let near = Near::new(true);
        let tag = UserKey { tid: "tenant".into(), oid: "alice".into() }.tag();
        let (user, version) = (near.user(tag), |name: &str| Version(name.to_owned()));
        for own in ["1", "2", "3"] {
            near.has_put(&user, &version(own));
        }
        near.changed(tag, version("1"));
        near.changed(tag, version("3"));
        assert!(!near.has_changed(&user));
        near.changed(tag, version("4"));
        assert!(near.has_changed(&user));
    }

    /// Who was looked up is looked up again for fear of a lost message, but not where none can be lost.
    #[tokio::test(start_paused = true)]
    async fn what_nobody_else_changes_is_not_looked_at_again() {
        for may_miss in [false, true] {
            let near = Near::new(may_miss);
            near.connected();
            let user = near.user(UserKey { tid: "tenant".into(), oid: "alice".into() }.tag());
            let look = near.before_look(&user);
            assert!(near.looked_up(&user, look, &Version("1".to_owned())));
            tokio::time::advance(RECHECK_EVERY).await;
            assert_eq!((near.is_fresh(&user), near.due().len()), (true, usize::from(may_miss)));
            tokio::time::advance(RECHECK_EVERY).await;
            assert_eq!(near.is_fresh(&user), !may_miss);
            near.distrust(&user);
            assert!(!near.is_fresh(&user));
        }
    }
}
