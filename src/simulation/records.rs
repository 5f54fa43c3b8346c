//! New sessions and credentials.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::after;
use crate::secret::{CredentialKey, CredentialSecret};
use crate::session::{Credential, CredentialKind, Opener, Places, Session, SessionId, UserKey};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn credential(
    kind: CredentialKind,
    user: &UserKey,
    now: Timestamp,
) -> (Arc<Credential>, CredentialKey) {
    let key = CredentialSecret::new_token().key();
    (Arc::new(Credential::new(*key.digest(), kind, user.clone(), String::new(), now, DAY, None)), key)
}

pub(super) fn new_session(user: &UserKey, now: Timestamp) -> Opener {
    let session = Arc::new(Session {
        id: SessionId::random(),
        user: user.clone(),
        name: String::new(),
        username: String::new(),
        home_account_id: None,
        login_hint: None,
        sid: None,
        stepped_up: false,
        created_at: now,
        expires_at: after(now, DAY),
        places: Places::default(),
    });
    let (credential, key) = credential(CredentialKind::Cookie, user, now);
    Opener { credential, session, key }
}

/// The same session as another replica has it, without what the first one keeps beside it.
pub(super) fn as_elsewhere(opener: &Opener) -> Opener {
    Opener { session: Arc::new(Session::clone(&opener.session)), ..opener.clone() }
}
