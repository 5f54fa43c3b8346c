//! What any store of sessions must do. `conformance` holds every store to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    AddTokenError, Credential, CredentialId, CredentialKind, Ending, Found, Grant, Listed, Opener, Session,
    SessionId, StoreError, Use, UserKey, Wait,
};
use crate::secret::{CredentialKey, Digest};

/// A session that begins, with its first credential.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    /// The session, its first credential (the browser's cookie), and the cookie's key.
    pub(crate) opener: Opener,
    /// What Entra gave it.
    pub(crate) grant: Grant,
    /// The session that the same browser had before. It ends naturally, or whichever superseded it meanwhile does. For the
    /// same user its live tokens move along, unless the user is blocked in it.
    pub(crate) supersedes: Option<Opener>,
}

/// What a browser gets on the host of a mounted dashboard: its cookie, and what the dashboard calls the API with, each with
/// its key.
#[derive(Clone, Debug)]
pub(crate) struct MountEntry {
    /// The cookie.
    pub(crate) cookie: (Arc<Credential>, CredentialKey),
    /// The bearer's record.
    pub(crate) bearer: (Arc<Credential>, CredentialKey),
}

/// A dormant token that is to work again.
#[derive(Clone, Debug)]
pub(crate) struct Arming {
    /// The token.
    pub(crate) token: CredentialId,
    /// The session that it had when it was found dormant. If it has another one by now, it is left alone.
    pub(crate) had: Option<SessionId>,
}

/// Who may ask Entra for a session's next AKS token.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The caller, until it gives the turn back or stops holding it.
    Ours(Holder),
    /// Another replica had it. Its result may be there now: look at the grant, then ask for a turn again.
    Theirs,
    /// Nobody: it failed a moment ago. Holds what the one who failed left behind, and for how much longer it counts.
    Failed(Vec<u8>, Duration),
}

/// Names the one whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Holder(pub(super) Option<String>);

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreState {
    /// It was not reached yet.
    Starting,
    /// It answers.
    Here,
    /// It does not, since so long.
    Away(Duration),
}

/// Keeps sessions and credentials. Records are plain data: no locks, no callbacks, nothing of this process inside.
///
/// Every change that takes a session away from a credential is published as [`super::Ended`] before the call returns.
/// Every call may fail with [`StoreError`], which says nothing about whether a session exists.
#[async_trait]
pub(crate) trait SessionStore: fmt::Debug + Send + Sync {
    /// What this process already holds about a credential, without waiting: the path of almost every request. `None`
    /// means that [`SessionStore::find`] must be asked.
    fn known(&self, digest: &Digest) -> Option<Found>;

    /// Finds a presented credential. What has expired is found too, for a day, so that its user can be told so.
    async fn find(&self, key: &CredentialKey) -> Result<Option<Found>, StoreError>;

    /// Begins a session with its first credential.
    async fn begin(&self, new: NewSession) -> Result<(), StoreError>;

    /// The session that a browser's cookie opens, idle or not, or that it opened within the last day until a sign-in in
    /// the same browser superseded it: for that browser's next sign-in or sign-out, as the cookie itself opens nothing any
    /// more.
    async fn of_browser(&self, cookie: &CredentialKey) -> Result<Option<Opener>, StoreError>;

    /// Ends, naturally, the session of a browser: the opener's, or the one that superseded it. `false` when it had ended
    /// already.
    async fn sign_out(&self, opener: &Opener) -> Result<bool, StoreError>;

    /// Notes, until its next renewal, what a session waits for. Tokens of one whose user is blocked move to no other one.
    async fn note_wait(&self, session: &Session, wait: Wait) -> Result<(), StoreError>;

    /// Adds a proxy token to the opener's session.
    ///
    /// # Errors
    /// When the session has ended or the user has too many tokens.
    async fn add_token(
        &self,
        opener: &Opener,
        token: Arc<Credential>,
        key: &CredentialKey,
    ) -> Result<(), AddTokenError>;

    /// Lets the opener's browser into a mounted dashboard.
    ///
    /// # Errors
    /// When the session has ended.
    async fn enter_mount(&self, opener: &Opener, entry: &MountEntry) -> Result<(), AddTokenError>;

    /// The user's credentials of one kind, oldest first.
    async fn listed(&self, user: &UserKey, kind: CredentialKind) -> Result<Vec<Listed>, StoreError>;

    /// Lets tokens of the opener's user open the opener's session. What is not his, has expired or was changed
    /// meanwhile is left alone. Says which of them do.
    async fn arm(
        &self,
        opener: &Opener,
        tokens: &[Arming],
        now: Timestamp,
    ) -> Result<Vec<CredentialId>, StoreError>;

    /// Revokes one token of the user, or one cookie for a mounted dashboard, for ever. `false` when there is none by that
    /// id.
    async fn revoke(&self, user: &UserKey, token: &CredentialId) -> Result<bool, StoreError>;

    /// Brings the end of the opener's credential forward, on every replica; one that ends by then anyway is left alone.
    async fn shorten(&self, opener: &Opener, ends_at: Timestamp) -> Result<(), StoreError>;

    /// Ends one session. `false` when it had ended already.
    async fn end_session(&self, session: &Session, ending: Ending) -> Result<bool, StoreError>;

    /// Ends, naturally, the session that a browser's cookie of this user opens; which one it was.
    async fn end_browser(
        &self,
        user: &UserKey,
        cookie: &CredentialId,
    ) -> Result<Option<SessionId>, StoreError>;

    /// Ends all sessions and tokens of a user, dormant ones too.
    async fn end_user(&self, user: &UserKey) -> Result<(), StoreError>;

    /// Ends, naturally, the sessions that Entra knows by this session id. Says how many they were.
    async fn end_by_sid(&self, sid: &Digest) -> Result<usize, StoreError>;

    /// What Entra gave the opener's session; `None` when the session has ended.
    async fn grant(&self, opener: &Opener) -> Result<Option<Grant>, StoreError>;

    /// Replaces the grant of the opener's session by a newer one. `false` when the session has ended: nothing is
    /// brought back.
    async fn renew(&self, opener: &Opener, grant: Grant) -> Result<bool, StoreError>;

    /// Asks for the turn to renew the session's AKS token, so that of several replicas only one asks Entra. Where it is
    /// another's, waits until something may have changed. `insists`: a failure of a moment ago is passed over.
    async fn turn(&self, opener: &Opener, insists: bool) -> Result<Turn, StoreError>;

    /// Takes what one session may do once in such a time on all replicas together; says how long to wait when it was taken
    /// already, else nothing.
    async fn claim(&self, opener: &Opener, lasts: Duration) -> Result<Duration, StoreError>;

    /// Keeps the turn for as long as this is polled; it never resolves.
    async fn hold(&self, opener: &Opener, holder: &Holder);

    /// Gives the turn back; after a failure with what others shall find for a while instead of trying themselves.
    async fn give_back(&self, opener: &Opener, holder: Holder, failure: Option<(Vec<u8>, Duration)>);

    /// Notes last uses. An older one than the store knows changes nothing.
    async fn touch(&self, uses: &[Use]) -> Result<(), StoreError>;

    /// Ends what has expired, and forgets it a day later.
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError>;

    /// How many sessions this process knows.
    fn count(&self) -> usize;

    /// Whether the store answers.
    fn state(&self) -> StoreState;

    /// Whether the store was silent for so long that nothing may be served from memory any more.
    fn is_lost(&self) -> bool;
}
