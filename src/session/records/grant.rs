//! What Entra gave a session, as it is sealed beside the document.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Broken, DataKey, Session, UserTag, context_of, read, write};
use crate::secret::{AksToken, RefreshToken};
use crate::session::{AksGrant, Grant};

/// What Entra gave, as it is sealed.
#[derive(Serialize, Deserialize)]
struct SealedGrant {
    refresh_token: String,
    granted_at: Timestamp,
    aks: Option<SealedAks>,
}

#[derive(Serialize, Deserialize)]
struct SealedAks {
    token: String,
    minted_at: Timestamp,
    expires_at: Timestamp,
    refresh_in_ms: Option<u64>,
}

/// Seals what Entra gave a session.
pub(in crate::session) fn seal_grant(
    key: &DataKey,
    user: UserTag,
    session: &Session,
    grant: &Grant,
) -> Vec<u8> {
    let plain = SealedGrant {
        refresh_token: grant.refresh_token.expose().to_owned(),
        granted_at: grant.granted_at,
        aks: grant.aks.as_ref().map(|aks| SealedAks {
            token: aks.token.expose().to_owned(),
            minted_at: aks.minted_at,
            expires_at: aks.expires_at,
            refresh_in_ms: aks.refresh_in.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }),
    };
    key.seal(&context_of("grant", user, session), &write(&plain))
}

/// Opens it again.
///
/// # Errors
/// When it was changed, or belongs to another session.
pub(in crate::session) fn open_grant(
    key: &DataKey,
    user: UserTag,
    session: &Session,
    sealed: &[u8],
) -> Result<Grant, Broken> {
    let plain: SealedGrant = read(&key.open(&context_of("grant", user, session), sealed)?)?;
    Ok(Grant {
        refresh_token: RefreshToken::new(plain.refresh_token),
        granted_at: plain.granted_at,
        aks: plain.aks.map(|aks| AksGrant {
            token: AksToken::new(aks.token),
            minted_at: aks.minted_at,
            expires_at: aks.expires_at,
            refresh_in: aks.refresh_in_ms.map(Duration::from_millis),
        }),
    })
}
