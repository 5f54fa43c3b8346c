//! What the log and the audit log say of a credential and its session with each of its requests: put together once, and
//! kept beside them.

use std::sync::Arc;

use crate::audit::{CredentialText, SessionText};
use crate::json::{self, key};
use crate::session::{Credential, Session};

/// Of a credential.
pub(super) struct OfCredential {
    /// The log's fields, as JSON: `,"user":"…","credential":"…"`.
    pub(super) log: Box<[u8]>,
    pub(super) audit: CredentialText,
}

pub(super) fn of_credential(credential: &Credential) -> &OfCredential {
    credential.text.get(|| {
        let mut log = Vec::new();
        json::field(&mut log, key!("user"), &credential.user.oid);
        json::field(&mut log, key!("credential"), credential.id.as_str());
        let audit = CredentialText::new(credential.id.as_str(), credential.kind.name());
        Arc::new(OfCredential { log: log.into(), audit })
    })
}

pub(super) fn of_session(session: &Session) -> &SessionText {
    let (user, id) = (&session.user, session.id.as_str());
    let text = || SessionText::new(session.kubernetes_name(), &user.oid, &user.tid, id);
    session.places.text.get(|| Arc::new(text()))
}
