//! All that the tenant knows, behind one lock.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Options;
use super::errors::ErrorStyle;
use super::faults::Faults;
use super::federation::Federation;
use super::keys::KeyRing;
use super::mint::IdTokenFault;
use super::policy::Policy;
use super::record::Record;
use super::session::{Code, Refresh, Sso};
use super::users::User;
use crate::time::Time;

/// What every request handler holds.
pub(crate) struct Shared {
    pub(crate) time: Time,
    pub(crate) options: Options,
    pub(crate) origin: OnceLock<String>,
    pub(crate) state: Mutex<State>,
}

/// What changes: by requests, and by a test's setters.
pub(crate) struct State {
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) users: Vec<User>,
    pub(crate) keys: KeyRing,
    pub(crate) federation: Federation,
    pub(crate) policy: Policy,
    pub(crate) faults: Faults,
    pub(crate) record: Record,
    pub(crate) direct: Option<String>,
    /// The app's front-channel logout URL.
    pub(crate) frontchannel: Option<String>,
    /// What the discovery document says instead of the tenant's own issuer.
    pub(crate) other_issuer: Option<String>,
    pub(crate) strict_rotation: bool,
    pub(crate) rotates: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_in: Option<Duration>,
    /// The app's own tokens for Azure's Redis, oldest first.
    pub(crate) store_tokens: Vec<String>,
    pub(crate) error_style: ErrorStyle,
    pub(crate) id_token_next: VecDeque<IdTokenFault>,
    pub(crate) id_token_always: Option<IdTokenFault>,
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) refresh_tokens: HashMap<String, Refresh>,
    /// Browsers' sign-ins at the tenant itself, by cookie value.
    pub(crate) sso: HashMap<String, Sso>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empty only until the port is bound, when no request can come in yet.
    pub(crate) fn origin(&self) -> &str {
        self.origin.get().map_or("", String::as_str)
    }

    pub(crate) fn tenant(&self) -> &str {
        &self.options.tenant_id
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}/{}/v2.0", self.origin(), self.tenant())
    }

    pub(crate) fn aks_issuer(&self) -> String {
        format!("{}/{}/", self.origin(), self.tenant())
    }

    pub(crate) fn cluster_issuer(&self) -> String {
        format!("{}/cluster/", self.origin())
    }
}

impl State {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            redirect_uris: options.redirect_uris.clone(),
            users: super::users::first_users(&options.tenant_id),
            keys: KeyRing::new()?,
            federation: Federation::new()?,
            policy: Policy::default(),
            faults: Faults::default(),
            record: Record::new(options.keep_secrets),
            direct: None,
            frontchannel: None,
            other_issuer: None,
            strict_rotation: false,
            rotates: true,
            lifetime: None,
            refresh_in: None,
            store_tokens: Vec::new(),
            error_style: ErrorStyle::default(),
            id_token_next: VecDeque::new(),
            id_token_always: None,
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            sso: HashMap::new(),
        })
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }
}
