//! The network between replicas and their store: a real backend of bytes behind calls that are late, lost or repeated.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Broken;
use super::fate::{Fate, Faults};
use super::rng::Rng;
use crate::secret::Digest;
use crate::session::backend::{Backend, Events, Lease, Memory, Stored, StoredGrant, Swap, UsesOf, Version};
use crate::session::{SessionId, StoreError, UserTag};

/// As the Redis backend's own: after it, nobody waits any more.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it takes a replica at most to notice that its connection is down.
const NOTICE_MILLIS: u64 = 250;
/// As the Redis backend's own: how often a silent connection is seen to be alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// What a message says.
#[derive(Clone, Debug)]
enum Message {
    Changed(UserTag, Version),
    Renewed(SessionId),
    /// The connection is down.
    Cut,
}

/// A lease: its holder, or the failure that was left, and until when.
#[derive(Debug)]
struct Held {
    holder: Result<String, Bytes>,
    until: Instant,
}

/// The store and the way there.
pub(super) struct Net {
    rng: Mutex<Rng>,
    faults: Faults,
    broken: Broken,
    store: Memory,
    leases: Mutex<HashMap<SessionId, Held>>,
    /// The newest grant that was ever put for a session, and the one that stands.
    pub(super) grants: Mutex<HashMap<SessionId, (Timestamp, Timestamp)>>,
    inboxes: Mutex<HashMap<usize, UnboundedSender<Message>>>,
    /// Replicas that are cut off, and until when.
    down: Mutex<HashMap<usize, Instant>>,
    /// When a lease could not be asked for, or was lost: a doubled renewal is then within the rules.
    pub(super) excused: Mutex<HashMap<SessionId, Instant>>,
}

/// A replica's own connection.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) net: Arc<Net>,
    pub(super) replica: usize,
}

impl Net {
    pub(super) fn new(seed: u64, faults: Faults, broken: Broken) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(Rng::new(seed)),
            faults,
            broken,
            store: Memory::default(),
            leases: Mutex::default(),
            grants: Mutex::default(),
            inboxes: Mutex::default(),
            down: Mutex::default(),
            excused: Mutex::default(),
        })
    }

    pub(super) fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap()
    }

    /// Cuts a replica off for a while.
    pub(super) fn cut(&self, replica: usize, lasts: Duration) {
        self.down.lock().unwrap().insert(replica, Instant::now() + lasts);
        if let Some(inbox) = self.inboxes.lock().unwrap().get(&replica) {
            let _gone = inbox.send(Message::Cut);
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&self) {
        self.down.lock().unwrap().clear();
    }

    fn down_until(&self, replica: usize) -> Option<Instant> {
        self.down.lock().unwrap().get(&replica).copied().filter(|until| *until > Instant::now())
    }

    /// Messages come in any order, twice, or (where the schedule says so) not at all.
    fn publish(self: &Arc<Self>, message: &Message) {
        let inboxes: Vec<_> = self.inboxes.lock().unwrap().iter().map(|(at, to)| (*at, to.clone())).collect();
        for (replica, inbox) in inboxes {
            let copies = {
                let mut rng = self.rng();
                if rng.percent(self.faults.lost_messages) { 0 } else { 1 + usize::from(rng.percent(10)) }
            };
            for _ in 0..copies {
                let (net, inbox, message) = (self.clone(), inbox.clone(), message.clone());
                let delay = self.rng().millis(0, 200);
                tokio::spawn(async move {
                    pause(delay).await;
                    if net.down_until(replica).is_none() {
                        let _gone = inbox.send(message);
                    }
                });
            }
        }
    }

    /// What the store does: at once, as its calls are made for one at a time.
    fn store<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> T {
        call.now_or_never().expect("memory does not wait").expect("memory does not fail")
    }

    fn swap(self: &Arc<Self>, user: UserTag, swap: &Swap) -> bool {
        let swapped = self.store(self.store.swap(user, swap.clone()));
        if swapped {
            let mut grants = self.grants.lock().unwrap();
            for session in &swap.ended {
                grants.remove(session);
            }
            for grant in &swap.grants {
                grants.insert(grant.session.clone(), (grant.granted_at, grant.granted_at));
            }
            drop(grants);
            self.publish(&Message::Changed(user, swap.version.clone()));
        }
        swapped
    }

    fn renew(self: &Arc<Self>, user: UserTag, grant: &StoredGrant) -> bool {
        let mut put = grant.clone();
        if self.broken.oldest_wins {
            // As if it were the newest: the store then takes it.
            put.granted_at = Timestamp::MAX;
        }
        let is_live = self.store(self.store.renew(user, &put));
        if is_live && let Some((newest, standing)) = self.grants.lock().unwrap().get_mut(&grant.session) {
            *newest = (*newest).max(grant.granted_at);
            *standing = if self.broken.oldest_wins { grant.granted_at } else { *newest };
        }
        self.publish(&Message::Renewed(grant.session.clone()));
        is_live
    }

    fn lease(&self, session: &SessionId, holder: &str, lasts: Duration, insists: bool) -> Lease {
        let (now, mut leases) = (Instant::now(), self.leases.lock().unwrap());
        if let Some(held) = leases.get(session).filter(|held| held.until > now && !self.broken.no_lease) {
            match &held.holder {
                Ok(other) if other != holder => return Lease::Theirs(held.until - now),
                Err(failure) if !insists => return Lease::Failed(failure.clone(), held.until - now),
                _ => {}
            }
        }
        let held = Held { holder: Ok(holder.to_owned()), until: now + lasts };
        leases.insert(session.clone(), held);
        Lease::Mine
    }

    fn release(self: &Arc<Self>, session: &SessionId, holder: &str, failure: Option<&(Bytes, Duration)>) {
        let mut leases = self.leases.lock().unwrap();
        if leases.get(session).is_some_and(|held| held.holder.as_deref().ok() == Some(holder)) {
            match failure {
                None => leases.remove(session),
                Some((left, lasts)) => {
                    let until = Instant::now() + *lasts;
                    leases.insert(session.clone(), Held { holder: Err(left.clone()), until })
                }
            };
        }
        drop(leases);
        self.publish(&Message::Renewed(session.clone()));
    }
}

impl Wire {
    /// One call over the network.
    async fn call<T: Send + 'static>(
        &self,
        effect: impl Fn(&Arc<Net>) -> T + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let (there, back) = {
            let mut rng = self.net.rng();
            (rng.millis(0, 30), rng.millis(0, 30))
        };
        if self.net.down_until(self.replica).is_some() {
            return Err(StoreError);
        }
        pause(there).await;
        let fate = Fate::draw(self.net.faults.calls, &mut self.net.rng());
        match fate {
            Fate::Good => {
                let result = effect(&self.net);
                pause(back).await;
                return Ok(result);
            }
            Fate::Twice(after) => {
                let result = effect(&self.net);
                self.later(after, effect);
                return Ok(result);
            }
            Fate::Resent => {
                drop(effect(&self.net));
                pause(back).await;
                return Ok(effect(&self.net));
            }
            Fate::Lost => {}
            Fate::Unheard => drop(effect(&self.net)),
            Fate::Late(after) => self.later(after, effect),
        }
        pause(RESPONSE_TIMEOUT).await;
        Err(StoreError)
    }

    fn later<T: Send + 'static>(
        &self,
        after: Duration,
        effect: impl Fn(&Arc<Net>) -> T + Send + Sync + 'static,
    ) {
        let net = self.net.clone();
        tokio::spawn(async move {
            pause(after).await;
            drop(effect(&net));
        });
    }

    fn excuse(&self, session: &SessionId) {
        self.net.excused.lock().unwrap().insert(session.clone(), Instant::now());
    }

    async fn hear(&self, inbox: &mut UnboundedReceiver<Message>, events: &dyn Events) {
        let mut beat = tokio::time::interval(BEAT_EVERY);
        loop {
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(Message::Changed(user, version)) => events.changed(user, version),
                    Some(Message::Renewed(session)) => events.renewed(session),
                    Some(Message::Cut) => {
                        let noticed_after = self.net.rng().millis(0, NOTICE_MILLIS);
                        pause(noticed_after).await;
                        if self.net.down_until(self.replica).is_some() {
                            return;
                        }
                    }
                    None => return,
                },
                _ = beat.tick() => events.alive(),
            }
        }
    }
}

#[async_trait]
impl Backend for Wire {
    const IS_SHARED: bool = true;

    async fn run(&self, events: &dyn Events) {
        loop {
            let (sender, mut inbox) = unbounded_channel();
            self.net.inboxes.lock().unwrap().insert(self.replica, sender);
            events.connected();
            self.hear(&mut inbox, events).await;
            events.disconnected();
            while let Some(until) = self.net.down_until(self.replica) {
                tokio::time::timeout_at(until, std::future::pending::<()>()).await.unwrap_err();
            }
        }
    }

    async fn user_of(&self, digest: &Digest) -> Result<Option<UserTag>, StoreError> {
        let digest = *digest;
        self.call(move |net| net.store(net.store.user_of(&digest))).await
    }

    async fn load(&self, user: UserTag, known: &Version) -> Result<Stored, StoreError> {
        let known = known.clone();
        self.call(move |net| net.store(net.store.load(user, &known))).await
    }

    async fn swap(&self, user: UserTag, swap: Swap) -> Result<bool, StoreError> {
        self.call(move |net| net.swap(user, &swap)).await
    }

    async fn grant(&self, user: UserTag, session: &SessionId) -> Result<Option<Bytes>, StoreError> {
        let session = session.clone();
        self.call(move |net| net.store(net.store.grant(user, &session))).await
    }

    async fn renew(&self, user: UserTag, grant: &StoredGrant) -> Result<bool, StoreError> {
        let grant = grant.clone();
        self.call(move |net| net.renew(user, &grant)).await
    }

    async fn touch(&self, uses: &[UsesOf]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.call(move |net| net.store(net.store.touch(&uses))).await
    }

    async fn by_sid(&self, sid: &Digest) -> Result<Vec<(UserTag, SessionId)>, StoreError> {
        let sid = *sid;
        self.call(move |net| net.store(net.store.by_sid(&sid))).await
    }

    async fn lease(
        &self,
        _user: UserTag,
        session: &SessionId,
        holder: &str,
        lasts: Duration,
        insists: bool,
    ) -> Result<Lease, StoreError> {
        let (id, name) = (session.clone(), holder.to_owned());
        let lease = self.call(move |net| net.lease(&id, &name, lasts, insists)).await;
        if lease.is_err() {
            self.excuse(session);
        }
        lease
    }

    async fn release(
        &self,
        _user: UserTag,
        session: &SessionId,
        holder: &str,
        failure: Option<(Bytes, Duration)>,
    ) -> Result<(), StoreError> {
        let (id, name) = (session.clone(), holder.to_owned());
        self.call(move |net| net.release(&id, &name, failure.as_ref())).await
    }

    async fn claim(
        &self,
        _user: UserTag,
        _session: &SessionId,
        _lasts: Duration,
    ) -> Result<Duration, StoreError> {
        Ok(Duration::ZERO)
    }

    async fn forget(&self, digests: &[Digest]) {
        let digests = digests.to_vec();
        let _left = self.call(move |net| net.store.forget(&digests).now_or_never()).await;
    }

    async fn forget_sid(&self, _sid: &Digest, _user: UserTag, _session: &SessionId) {}

    async fn sweep(&self, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.replica)
    }
}

/// Waits in simulated time.
pub(super) async fn pause(time: Duration) {
    let _passed = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
