//! What people do in a schedule, what they were told, and whether it is true.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::browsers::Browsers;
use super::entra::SimulatedEntra;
use super::fate::Faults;
use super::net::{Net, pause};
use super::records::{as_elsewhere, credential, new_session};
use super::replica::{Replica, STALENESS};
use super::rng::Rng;
use super::{Broken, Violation};
use crate::clock::Clock;
use crate::identity::Refused;
use crate::secret::RefreshToken;
use crate::session::{Arming, CredentialKind, Ending, Grant, NewSession, Opener, SessionStore, UserKey};
use crate::streams::Stream;

const REPLICAS: usize = 3;
const USERS: u64 = 3;
const STEPS: usize = 24;
/// Within this time, what ended is refused everywhere: a message takes 200 ms, a call of the store up to a second, and a
/// failed look is repeated every second.
const SEEN_WITHIN: Duration = Duration::from_secs(12);
/// Where nothing is wrong, an end is seen, and its streams are over, within this time.
const SEEN_AT_ONCE: Duration = Duration::from_secs(1);
/// The same where messages can be lost: until a user is looked up although nothing was heard.
const SEEN_WITHOUT_MESSAGE: Duration = Duration::from_secs(70);

/// What a credential's user was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It works.
    Works,
    /// It was ended, and when.
    Ended(Instant),
    /// Something failed on the way: nobody knows.
    Nothing,
}

struct Holder {
    opener: Opener,
    told: Told,
}

struct Open {
    credential: usize,
    replica: usize,
    stream: Arc<Stream>,
}

/// One run of it all.
pub(super) struct Schedule {
    rng: Rng,
    net: Arc<Net>,
    clock: Clock,
    entra: Arc<SimulatedEntra>,
    replicas: Vec<Replica>,
    holders: Vec<Holder>,
    browsers: Browsers,
    open: Vec<Open>,
    seen_within: Duration,
    is_faulty: bool,
    /// When a replica was last cut off.
    cut_at: Option<Instant>,
    broken: Broken,
    renewals: JoinSet<()>,
}

impl Schedule {
    /// Starts the replicas. Call it within a runtime whose time is paused.
    fn new(seed: u64, broken: Broken) -> Self {
        let mut rng = Rng::new(seed);
        // A third each: nothing wrong but delays; calls that fail; messages that are lost beside them.
        let faults = match seed % 3 {
            0 => Faults { calls: 0, lost_messages: 0 },
            1 => Faults { calls: 3 + rng.below(8), lost_messages: 0 },
            _ => Faults { calls: 3 + rng.below(8), lost_messages: 20 },
        };
        let seen_within = if faults.lost_messages == 0 { SEEN_WITHIN } else { SEEN_WITHOUT_MESSAGE };
        let net = Net::new(seed, faults, broken);
        let clock = Clock::simulated();
        let entra = SimulatedEntra::new(net.clone(), clock.clone());
        let replicas =
            (0..REPLICAS).map(|at| Replica::start(&net, at, entra.clone(), &clock, broken)).collect();
        let (holders, open, renewals) = (Vec::new(), Vec::new(), JoinSet::new());
        Self {
            rng,
            net,
            clock,
            entra,
            replicas,
            holders,
            browsers: Browsers::default(),
            open,
            seen_within,
            is_faulty: faults.calls > 0,
            cut_at: None,
            broken,
            renewals,
        }
    }

    /// Runs the schedule of a seed to its end.
    pub(super) async fn run(seed: u64, broken: Broken) -> Result<(), Violation> {
        Self::new(seed, broken).play().await
    }

    async fn play(mut self) -> Result<(), Violation> {
        pause(Duration::from_millis(10)).await;
        for _ in 0..STEPS {
            self.step().await?;
            let until_next =
                if self.rng.percent(15) { self.rng.millis(5_000, 50_000) } else { self.rng.millis(0, 1_500) };
            pause(until_next).await;
        }
        self.settle().await
    }

    async fn step(&mut self) -> Result<(), Violation> {
        match self.rng.below(20) {
            0..=2 => self.sign_in().await,
            3..=4 => self.make_token().await,
            5..=9 => return self.requests().await,
            10..=12 => return self.open_stream().await,
            13 => self.end_session().await,
            14 => self.revoke().await,
            15 => self.end_user().await,
            16 => self.arm().await,
            17 => self.replace_replica().await,
            18 => {
                let (replica, lasts) = (self.replica(), self.rng.millis(500, 8_000));
                self.cut_at = Some(Instant::now());
                self.net.cut(replica, lasts);
            }
            _ => {
                let lasts = self.rng.millis(500, 8_000);
                self.cut_at = Some(Instant::now());
                (0..REPLICAS).for_each(|replica| self.net.cut(replica, lasts));
            }
        }
        Ok(())
    }

    /// A sign-in, half of them in a browser that has a session already.
    async fn sign_in(&mut self) {
        let at = self.replica();
        let old = self.rng.percent(50).then(|| self.some_holder(CredentialKind::Cookie)).flatten();
        let user = match &old {
            Some(old) if self.rng.percent(80) => self.holders[*old].opener.session.user.clone(),
            _ => UserKey { tid: "t".into(), oid: format!("user{}", self.rng.below(USERS)).into() },
        };
        let opener = new_session(&user, self.clock.now());
        let grant = Grant {
            refresh_token: RefreshToken::new(format!("{} first", opener.session.id)),
            aks: None,
            granted_at: self.clock.now(),
        };
        let supersedes = old.map(|old| self.holders[old].opener.clone());
        let moves = supersedes.as_ref().is_some_and(|old| old.session.user == user);
        let began = self.replicas[at]
            .store
            .begin(NewSession { opener: opener.clone(), grant, supersedes: supersedes.clone() })
            .await;
        if let Some(old) = supersedes {
            let followed = self.browsers.begins(&opener.session.id, &old.session.id);
            for holder in &mut self.holders {
                if followed.contains(&holder.opener.session.id) && holder.told == Told::Works {
                    holder.told = Told::Nothing;
                }
            }
            let told = if began.is_ok() { Told::Ended(Instant::now()) } else { Told::Nothing };
            for holder in self.holders.iter_mut().filter(|holder| holder.opener.session.id == old.session.id)
            {
                let is_cookie = holder.opener.credential.kind == CredentialKind::Cookie;
                if moves && !is_cookie && began.is_ok() && holder.told == Told::Works {
                    // Its token moves along.
                    holder.opener.session = opener.session.clone();
                } else if !matches!(holder.told, Told::Ended(_)) {
                    // Of a token that is not known for certain nobody knows whether it had this session at all.
                    let is_certain = holder.told == Told::Works && (is_cookie || !moves);
                    holder.told = if is_certain { told } else { Told::Nothing };
                }
            }
        }
        let told = if began.is_ok() { Told::Works } else { Told::Nothing };
        self.holders.push(Holder { opener, told });
    }

    async fn make_token(&mut self) {
        let at = self.replica();
        let Some(cookie) = self.some_holder(CredentialKind::Cookie) else { return };
        let session = as_elsewhere(&self.holders[cookie].opener);
        let (token, key) = credential(CredentialKind::Token, &session.session.user, self.clock.now());
        let added = self.replicas[at].store.add_token(&session, token.clone(), &key).await;
        let was_known = self.holders[cookie].told == Told::Works;
        let told = if added.is_ok() && was_known { Told::Works } else { Told::Nothing };
        let opener = Opener { credential: token, session: session.session, key };
        self.holders.push(Holder { opener, told });
    }

    /// Requests with one credential at all replicas at once, each with a token of Entra's.
    async fn requests(&mut self) -> Result<(), Violation> {
        let Some(at) = self.some_holder_of_any_kind() else { return Ok(()) };
        for replica in 0..REPLICAS {
            if let Some(opener) = self.request(replica, at).await? {
                let broker = self.replicas[replica].broker.clone();
                self.renewals.spawn(async move {
                    let _token_or_not = broker.try_token(&opener).await;
                });
            }
        }
        self.look_at_entra()
    }

    /// One request; `Some` where it was let in.
    async fn request(&self, replica: usize, at: usize) -> Result<Option<Opener>, Violation> {
        let (holder, began) = (&self.holders[at], Instant::now());
        match self.replicas[replica].identify(&holder.opener).await {
            Ok(identity) => {
                self.assert_not_ended(at, began, "was let in")?;
                Ok(Some(identity.opener().clone()))
            }
            Err(Refused::Store(_)) => Ok(None),
            Err(refused) if holder.told == Told::Works => Err(Violation {
                rule: "no session is lost",
                what: format!("{refused} at replica {replica}: {:?}", holder.opener.credential.id),
            }),
            Err(_) => Ok(None),
        }
    }

    async fn open_stream(&mut self) -> Result<(), Violation> {
        let (replica, Some(at)) = (self.replica(), self.some_holder_of_any_kind()) else { return Ok(()) };
        let holder = &self.holders[at];
        let Ok(identity) = self.replicas[replica].identify(&holder.opener).await else { return Ok(()) };
        // Between the look at the credential and the stream's beginning, somebody may end it, here or elsewhere.
        if self.rng.percent(30) {
            let (user, elsewhere) = (holder.opener.session.user.clone(), self.replica());
            let done = self.replicas[elsewhere].store.end_user(&user).await;
            self.tell_user(&user, done.is_ok());
        }
        pause(self.rng.millis(0, 2_000)).await;
        let Ok(stream) = self.replicas[replica].open(&identity) else { return Ok(()) };
        let stream = Arc::new(stream);
        self.open.push(Open { credential: at, replica, stream: stream.clone() });
        if self.is_calm() {
            pause(SEEN_AT_ONCE).await;
            if let Told::Ended(ended_at) = self.holders[at].told
                && ended_at.elapsed() >= SEEN_AT_ONCE
            {
                return assert_over(&stream, replica).await;
            }
        }
        Ok(())
    }

    /// Whether nothing is wrong with the network, nor was a moment ago: then what ended is seen at once.
    fn is_calm(&self) -> bool {
        !self.is_faulty && self.cut_at.is_none_or(|at| at.elapsed() > Duration::from_secs(15))
    }

    async fn end_session(&mut self) {
        let (at, Some(chosen)) = (self.replica(), self.some_holder(CredentialKind::Cookie)) else { return };
        let session = self.holders[chosen].opener.session.clone();
        let ending = if self.rng.percent(50) { Ending::Natural } else { Ending::Final };
        let done = self.replicas[at].store.end_session(&session, ending).await.is_ok();
        let told = if done { Told::Ended(Instant::now()) } else { Told::Nothing };
        for holder in self.holders.iter_mut().filter(|holder| holder.opener.session.id == session.id) {
            if !matches!(holder.told, Told::Ended(_)) {
                // A token that may have moved to another session meanwhile is not known to have ended.
                holder.told = if holder.told == Told::Works { told } else { Told::Nothing };
            }
        }
    }

    async fn revoke(&mut self) {
        let (at, Some(chosen)) = (self.replica(), self.some_holder(CredentialKind::Token)) else { return };
        let opener = self.holders[chosen].opener.clone();
        let done = self.replicas[at].store.revoke(&opener.session.user, &opener.credential.id).await;
        let holder = &mut self.holders[chosen];
        if !matches!(holder.told, Told::Ended(_)) {
            // `false`: there was none by that id. One whose making had failed may still arrive.
            holder.told = if done == Ok(true) { Told::Ended(Instant::now()) } else { Told::Nothing };
        }
    }

    async fn end_user(&mut self) {
        let at = self.replica();
        let user = UserKey { tid: "t".into(), oid: format!("user{}", self.rng.below(USERS)).into() };
        let done = self.replicas[at].store.end_user(&user).await;
        self.tell_user(&user, done.is_ok());
    }

    /// A dormant token is armed: from then on nothing is known for certain but that it may work.
    async fn arm(&mut self) {
        let (at, Some(cookie)) = (self.replica(), self.some_holder(CredentialKind::Cookie)) else { return };
        let opener = self.holders[cookie].opener.clone();
        let is_candidate = |holder: &&mut Holder| {
            holder.opener.credential.kind == CredentialKind::Token
                && holder.opener.session.user == opener.session.user
        };
        let mut armed = Vec::new();
        for holder in self.holders.iter_mut().filter(is_candidate) {
            armed.push(Arming { token: holder.opener.credential.id.clone(), had: None });
            if holder.told != Told::Works {
                holder.told = Told::Nothing;
            }
        }
        let _done = self.replicas[at].store.arm(&opener, &armed, self.clock.now()).await;
    }

    /// A replica dies in the middle of what it does, and another takes its place.
    async fn replace_replica(&mut self) {
        let at = self.replica();
        self.open.retain(|open| open.replica != at);
        let entra = self.entra.clone();
        let new = Replica::start(&self.net, at, entra, &self.clock, self.broken);
        std::mem::replace(&mut self.replicas[at], new).die().await;
    }

    /// All is well again; after a while all must be true.
    async fn settle(self) -> Result<(), Violation> {
        self.net.heal();
        pause(self.seen_within + STALENESS).await;
        self.look_at_entra()?;
        for at in 0..self.holders.len() {
            for replica in 0..REPLICAS {
                self.request(replica, at).await?;
            }
        }
        for open in &self.open {
            if let Told::Ended(_) = self.holders[open.credential].told {
                assert_over(&open.stream, open.replica).await?;
            }
        }
        for (session, (newest, standing)) in &*self.net.grants.lock().unwrap() {
            if newest != standing {
                let what = format!("session {session} has the grant of {standing}, and had that of {newest}");
                return Err(Violation { rule: "the newest grant stays", what });
            }
        }
        Ok(())
    }

    fn look_at_entra(&self) -> Result<(), Violation> {
        self.entra.violation.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn assert_not_ended(&self, at: usize, began: Instant, what: &str) -> Result<(), Violation> {
        let Told::Ended(ended_at) = self.holders[at].told else { return Ok(()) };
        // A replica that is cut off serves what it knows for as long as the setting says.
        let allowed = self.seen_within + STALENESS;
        if began > ended_at + allowed {
            let what = format!(
                "{:?} {what} {:?} after its end",
                self.holders[at].opener.credential.id,
                began - ended_at
            );
            return Err(Violation { rule: "no session comes back", what });
        }
        Ok(())
    }

    fn tell_user(&mut self, user: &UserKey, done: bool) {
        let told = if done { Told::Ended(Instant::now()) } else { Told::Nothing };
        for holder in self.holders.iter_mut().filter(|holder| holder.opener.session.user == *user) {
            if !matches!(holder.told, Told::Ended(_)) {
                holder.told = told;
            }
        }
    }

    fn replica(&mut self) -> usize {
        usize::try_from(self.rng.below(REPLICAS as u64)).unwrap_or(0)
    }

    fn some_holder(&mut self, kind: CredentialKind) -> Option<usize> {
        let of_kind = |at: &usize| self.holders[*at].opener.credential.kind == kind;
        let all: Vec<usize> = (0..self.holders.len()).filter(of_kind).collect();
        self.rng.pick(&all).copied()
    }

    fn some_holder_of_any_kind(&mut self) -> Option<usize> {
        let all: Vec<usize> = (0..self.holders.len()).collect();
        self.rng.pick(&all).copied()
    }
}

async fn assert_over(stream: &Stream, replica: usize) -> Result<(), Violation> {
    let over = tokio::time::timeout(Duration::ZERO, stream.over()).await;
    let what = format!("a stream is open at replica {replica}");
    over.map(drop).map_err(|_| Violation { rule: "no session comes back", what })
}
