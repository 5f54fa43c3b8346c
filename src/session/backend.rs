//! Where sealed records lie. A backend keeps bytes: it understands none of them and holds no key.
//!
//! All records of one user stand together as one *document*, which is replaced as a whole, and only if nobody replaced
//! it meanwhile (compare and swap). Beside it stand, for the same user, one sealed grant for each session, the last uses
//! of credentials, and one lease for each session whose AKS token is being renewed. Two small indexes lead to the user:
//! by a credential's digest, and by the digest of Entra's session id.

mod memory;
mod redis;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

pub(crate) use self::memory::Memory;
pub(crate) use self::redis::{Credentials, Examined, Login, Redis, Unreached, examine};
use super::{CredentialId, LastUse, SessionId, StoreError, UserTag};
use crate::secret::Digest;

/// Which state of a document was seen. Random, so that a document that was lost and made anew is never taken for the
/// old one. Empty: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) String);

/// A user's document, as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Empty where there is none.
    pub(crate) version: Version,
    /// The document; `None` where there is none, or where it is known.
    pub(crate) document: Option<Bytes>,
    /// Last uses of the user's credentials.
    pub(crate) uses: Vec<(CredentialId, LastUse)>,
}

/// The replacement of a user's document, and what changes with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Swap {
    /// It must still be this one.
    pub(crate) expected: Version,
    /// What it is then.
    pub(crate) version: Version,
    /// The document.
    pub(crate) document: Bytes,
    /// When the document can be forgotten.
    pub(crate) expires_at: Timestamp,
    /// Grants of sessions that begin.
    pub(crate) grants: Vec<StoredGrant>,
    /// Sessions that end: their grants go.
    pub(crate) ended: Vec<SessionId>,
    /// New credentials, and until when each is looked up.
    pub(crate) digests: Vec<(Digest, Timestamp)>,
    /// New sessions by Entra's session id.
    pub(crate) sids: Vec<(Digest, SessionId, Timestamp)>,
    /// Credentials that are gone: their uses go.
    pub(crate) gone: HashSet<CredentialId>,
}

/// A session's sealed grant.
#[derive(Clone, Debug)]
pub(crate) struct StoredGrant {
    /// Whose it is.
    pub(crate) session: SessionId,
    /// Of two grants the newer one stays.
    pub(crate) granted_at: Timestamp,
    /// Sealed.
    pub(crate) sealed: Bytes,
    /// When it can be forgotten.
    pub(crate) expires_at: Timestamp,
}

/// Last uses of one user's credentials.
#[derive(Clone, Debug)]
pub(crate) struct UsesOf {
    /// The user.
    pub(crate) user: UserTag,
    /// What was used when.
    pub(crate) uses: Vec<(CredentialId, LastUse)>,
    /// When they can be forgotten.
    pub(crate) expires_at: Timestamp,
}

/// Who may renew a session's AKS token right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    /// The one who asked.
    Mine,
    /// Somebody else, at most this much longer unless they ask again.
    Theirs(Duration),
    /// Nobody: it failed a moment ago. Holds what the one who failed left behind, sealed, and for how much longer it counts.
    Failed(Bytes, Duration),
}

/// What a backend hears from other replicas, and what it knows of its own connection.
pub(crate) trait Events: Send + Sync {
    /// From here on every change is heard of.
    fn connected(&self);
    /// From here on changes may be missed.
    fn disconnected(&self);
    /// The backend answered, or was heard of.
    fn alive(&self);
    /// A user's document was replaced by this version.
    fn changed(&self, user: UserTag, version: Version);
    /// A session's grant was renewed, or the lease for it was given back.
    fn renewed(&self, session: SessionId);
}

/// Keeps sealed bytes. Every call may fail, which says nothing about what it asked for.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Whether other replicas write to it, too. What they tell of that can be lost on its way here, and so can an answer:
    /// then only another look shows what has changed. Where not, each call has been made when it was first polled, so that
    /// nobody who leaves can leave a change half-made.
    const IS_SHARED: bool;

    /// Runs for ever: keeps the connection, and tells what happens.
    async fn run(&self, events: &dyn Events);

    /// Whose credential has this digest.
    async fn user_of(&self, digest: &Digest) -> Result<Option<UserTag>, StoreError>;

    /// The user's document and uses; of a document that still is the known one, the version alone.
    async fn load(&self, user: UserTag, known: &Version) -> Result<Stored, StoreError>;

    /// Replaces the user's document. `false`: it is not the expected one any more, and nothing was changed.
    async fn swap(&self, user: UserTag, swap: Swap) -> Result<bool, StoreError>;

    /// A session's sealed grant.
    async fn grant(&self, user: UserTag, session: &SessionId) -> Result<Option<Bytes>, StoreError>;

    /// Replaces a session's grant unless a newer one is there. `false`: it has none any more, because it has ended.
    async fn renew(&self, user: UserTag, grant: &StoredGrant) -> Result<bool, StoreError>;

    /// Notes last uses. An older one than is known changes nothing.
    async fn touch(&self, uses: &[UsesOf]) -> Result<(), StoreError>;

    /// The sessions that Entra knows by this session id.
    async fn by_sid(&self, sid: &Digest) -> Result<Vec<(UserTag, SessionId)>, StoreError>;

    /// Asks for the lease of a session's renewal, or for more of it. `insists`: a failure of a moment ago is passed over.
    async fn lease(
        &self,
        user: UserTag,
        session: &SessionId,
        holder: &str,
        lasts: Duration,
        insists: bool,
    ) -> Result<Lease, StoreError>;

    /// Gives the lease back; after a failure with what others shall find for a while instead of trying themselves.
    async fn release(
        &self,
        user: UserTag,
        session: &SessionId,
        holder: &str,
        failure: Option<(Bytes, Duration)>,
    ) -> Result<(), StoreError>;

    /// Takes what a session may do once in such a time; says how long to wait when it was taken already, else nothing.
    async fn claim(
        &self,
        user: UserTag,
        session: &SessionId,
        lasts: Duration,
    ) -> Result<Duration, StoreError>;

    /// Credentials that are gone need not be looked up any more.
    async fn forget(&self, digests: &[Digest]);

    /// A session that is gone need not be looked up by Entra's session id any more.
    async fn forget_sid(&self, sid: &Digest, user: UserTag, session: &SessionId);

    /// Forgets what has expired, where the backend does not do that by itself.
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError>;
}
