//! Signing out: of this browser, of everything, and from Entra's side.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use url::Url;

use super::SignIn;
use crate::identity::{Identity, Refused, cookie};
use crate::secret::Digest;
use crate::session::{Ending, Session, StoreError};

/// How long a browser remembers that it signed out.
const SIGNED_OUT_LIVES: Duration = Duration::from_secs(30 * 86_400);

impl SignIn {
    /// Ends the session of this browser; its tokens become dormant. `None` for a browser that has none: who is signed
    /// out already is where they wanted to be.
    ///
    /// # Errors
    /// When the store does not answer: nobody is told that they are signed out while their session may live.
    pub(crate) async fn sign_out(&self, headers: &HeaderMap) -> Result<Option<Identity>, StoreError> {
        let identity = match self.authenticator.identify(headers).await {
            Ok(identity) if identity.is_cookie() => identity,
            Err(Refused::Store(error)) => return Err(error),
            Ok(_) | Err(_) => return Ok(None),
        };
        let session = identity.session();
        self.store.end_session(session, Ending::Natural).await?;
        tracing::info!(user = %session.user.oid, session = %session.id, "signed out");
        Ok(Some(identity))
    }

    /// Ends all sessions and tokens of the user, for ever.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn sign_out_everywhere(&self, identity: &Identity) -> Result<(), StoreError> {
        let session = identity.session();
        self.store.end_user(&session.user).await?;
        tracing::info!(user = %session.user.oid, session = %session.id, "signed out everywhere");
        Ok(())
    }

    /// Ends, naturally, the sessions that Entra knows by `sid`, unless `issuer` is given and is not our tenant's. How many
    /// they were.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn front_channel(
        &self,
        sid: Option<&str>,
        issuer: Option<&str>,
    ) -> Result<usize, StoreError> {
        let is_ours = issuer.is_none_or(|issuer| self.entra.is_issuer(issuer));
        if let Some(sid) = sid.filter(|_| is_ours) {
            let sessions = self.store.end_by_sid(&Digest::of(sid)).await?;
            if sessions > 0 {
                tracing::info!(sessions, "signed out by Entra's front channel");
            }
            return Ok(sessions);
        }
        Ok(0)
    }

    /// Where the browser also signs out of Entra itself and then comes back to `home`; `None` while discovery names no
    /// such place.
    #[must_use]
    pub(crate) fn entra_sign_out_url(&self, home: &str, session: Option<&Session>) -> Option<Url> {
        self.entra.end_session_url(home, session.and_then(|session| session.login_hint.as_deref()))
    }

    /// The cookies to set after a sign-out: the session's goes, and the browser remembers to ask for the account at the
    /// next sign-in, because Entra's own sign-in still stands there.
    #[must_use]
    pub(crate) fn signed_out_cookies() -> [HeaderValue; 2] {
        [cookie::remove(cookie::SESSION), cookie::set(cookie::SIGNED_OUT, "1", SIGNED_OUT_LIVES)]
    }
}
