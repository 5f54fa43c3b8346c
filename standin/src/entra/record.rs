//! What the tenant saw: counts, requests, secrets, and a detector of loops.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Entra;
use super::faults::Endpoint;
use super::form::Form;

/// This many identical refreshes within [`LOOP_WINDOW`] are a loop (50196).
const LOOP_LIMIT: usize = 15;
const LOOP_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// How many token and authorize requests are kept.
const KEPT: usize = 1000;

/// Requests by kind since the start, or since [`Entra::reset_calls`]. Failed and scripted ones count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// OpenID configurations.
    pub discovery: usize,
    /// Key sets.
    pub keys: usize,
    /// `/authorize`.
    pub authorize: usize,
    /// Codes presented.
    pub token_code: usize,
    /// Refresh tokens presented.
    pub token_refresh: usize,
}

/// One token request, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCall {
    /// `grant_type` as sent.
    pub grant_type: String,
    /// `scope` as sent.
    pub scope: Option<String>,
    /// The user whose code or refresh token it was, where it was known.
    pub user: Option<String>,
    /// Names of all form fields, in their order.
    pub fields: Vec<String>,
    /// `client-request-id` as sent.
    pub correlation_id: Option<String>,
    /// `x-ms-lib-capability` as sent.
    pub lib_capability: Option<String>,
    /// `claims` as sent.
    pub claims: Option<String>,
    /// Names of all headers, in lower case.
    pub headers: Vec<String>,
    /// When it came, by the tenant's clock.
    pub at: Timestamp,
}

pub(crate) struct Record {
    keep_secrets: bool,
    calls: Calls,
    refreshes: HashMap<String, usize>,
    token_calls: VecDeque<TokenCall>,
    authorize_calls: VecDeque<BTreeMap<String, String>>,
    secrets: HashSet<String>,
    loop_off: bool,
    loop_seen: bool,
    recent: HashMap<(String, String), VecDeque<Timestamp>>,
}

impl Record {
    pub(crate) fn new(keep_secrets: bool) -> Self {
        Self {
            keep_secrets,
            calls: Calls::default(),
            refreshes: HashMap::new(),
            token_calls: VecDeque::new(),
            authorize_calls: VecDeque::new(),
            secrets: HashSet::new(),
            loop_off: false,
            loop_seen: false,
            recent: HashMap::new(),
        }
    }

    pub(crate) fn count(&mut self, endpoint: Endpoint) {
        let count = match endpoint {
            Endpoint::Discovery => &mut self.calls.discovery,
            Endpoint::Keys => &mut self.calls.keys,
            Endpoint::Authorize => &mut self.calls.authorize,
            Endpoint::TokenCode => &mut self.calls.token_code,
            Endpoint::TokenRefresh => &mut self.calls.token_refresh,
        };
        *count += 1;
    }

    pub(crate) fn token_call(&mut self, call: TokenCall) {
        if call.grant_type == "refresh_token"
            && let Some(user) = &call.user
        {
            *self.refreshes.entry(user.clone()).or_default() += 1;
        }
        keep(&mut self.token_calls, call);
    }

    pub(crate) fn authorize_call(&mut self, form: &Form) {
        keep(&mut self.authorize_calls, form.pairs().iter().cloned().collect());
    }

    pub(crate) fn secret(&mut self, secret: &str) {
        if self.keep_secrets && !self.secrets.contains(secret) {
            self.secrets.insert(secret.to_owned());
        }
    }

    /// Notes a refresh of `user` for `scope`; true when it is one too many.
    pub(crate) fn loops(&mut self, user: &str, scope: &str, now: Timestamp) -> bool {
        if self.loop_off {
            return false;
        }
        let times = self.recent.entry((user.to_owned(), scope.to_owned())).or_default();
        while times.front().is_some_and(|time| now.duration_since(*time) >= LOOP_WINDOW) {
            times.pop_front();
        }
        times.push_back(now);
        let looping = times.len() >= LOOP_LIMIT;
        self.loop_seen |= looping;
        looping
    }
}

fn keep<T>(kept: &mut VecDeque<T>, item: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(item);
}

impl Entra {
    /// How often each endpoint was called.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.lock().record.calls
    }

    /// How often a refresh token of this user was presented.
    #[must_use]
    pub fn refreshes_of(&self, user: &str) -> usize {
        self.lock().record.refreshes.get(user).copied().unwrap_or(0)
    }

    /// Starts all counts and kept requests anew. Secrets and the loop detector stay.
    pub fn reset_calls(&self) {
        let mut state = self.lock();
        state.record.calls = Calls::default();
        state.record.refreshes.clear();
        state.record.token_calls.clear();
        state.record.authorize_calls.clear();
    }

    /// The last 1000 token requests, oldest first.
    #[must_use]
    pub fn token_calls(&self) -> Vec<TokenCall> {
        self.lock().record.token_calls.iter().cloned().collect()
    }

    /// The parameters of the last 1000 requests to `/authorize`, oldest first.
    #[must_use]
    pub fn authorize_calls(&self) -> Vec<BTreeMap<String, String>> {
        self.lock().record.authorize_calls.iter().cloned().collect()
    }

    /// Every secret issued or received: codes, tokens of all kinds, client assertions, PKCE verifiers. None of them
    /// may stand in a log.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        self.lock().record.secrets.iter().cloned().collect()
    }

    /// Whether a client ever sent 15 identical refreshes (same user, same scope) within five minutes.
    #[must_use]
    pub fn loop_detected(&self) -> bool {
        self.lock().record.loop_seen
    }

    /// Switches the loop detector on (as at first) or off, and forgets what it saw.
    pub fn set_loop_detector(&self, on: bool) {
        let mut state = self.lock();
        state.record.loop_off = !on;
        state.record.loop_seen = false;
        state.record.recent.clear();
    }

    /// How long the loop detector looks back.
    #[must_use]
    pub fn loop_window() -> Duration {
        LOOP_WINDOW.unsigned_abs()
    }
}
