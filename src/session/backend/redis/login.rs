//! Who we are towards Redis: a name and a password that may change while a connection is open.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;
use redis::{BasicAuth, ErrorKind, RedisError, RedisResult, StreamingCredentialsProvider};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often a password file is read again, and credentials are asked for again at the most.
const REREAD_EVERY: Duration = Duration::from_secs(5);
/// Without a name, it is the one that Redis gives to everybody.
const DEFAULT_USER: &str = "default";

/// How to log in.
#[derive(Clone)]
pub(crate) enum Login {
    /// Not at all.
    None,
    /// With a password from a file, which is read again for as long as the connection is open.
    File {
        /// The user of the store's access list.
        username: Option<String>,
        /// The password's file.
        path: PathBuf,
    },
    /// With what somebody else gives.
    Issued(Arc<Issued>),
}

/// What somebody gave, until it is time to ask again: connections that come and go all use the same.
pub(crate) struct Issued {
    issuer: Box<dyn Credentials>,
    present: Mutex<Option<(BasicAuth, Instant)>>,
}

/// Gives credentials that expire.
#[async_trait]
pub(crate) trait Credentials: Send + Sync {
    /// User, password, and for how long they are good.
    ///
    /// # Errors
    /// Why there are none, in words for the log.
    async fn issue(&self) -> Result<(String, String, Duration), String>;
}

impl Login {
    /// With what `issuer` gives.
    #[must_use]
    pub(crate) fn issued_by(issuer: impl Credentials + 'static) -> Self {
        Self::Issued(Arc::new(Issued { issuer: Box::new(issuer), present: Mutex::default() }))
    }

    /// What the client library asks: now, and whenever it changes. `None`: no login at all.
    pub(super) fn provider(&self) -> Option<Provider> {
        (!matches!(self, Self::None)).then(|| Provider(self.clone()))
    }

    /// The present credentials; `None`: no login at all.
    pub(super) async fn now(&self) -> RedisResult<Option<BasicAuth>> {
        if matches!(self, Self::None) {
            return Ok(None);
        }
        self.present().await.map(|(auth, _)| Some(auth)).map_err(refusal)
    }

    /// The present credentials, and when to ask again.
    async fn present(&self) -> Result<(BasicAuth, Duration), String> {
        match self {
            Self::None => Err("no login is set".to_owned()),
            Self::File { username, path } => {
                let password = tokio::fs::read_to_string(path).await;
                let password = password.map_err(|error| format!("ENTRADA_STORE_PASSWORD_FILE: {error}"))?;
                let username = username.clone().unwrap_or_else(|| DEFAULT_USER.to_owned());
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Ok((BasicAuth::new(username, password), REREAD_EVERY))
            }
            Self::Issued(issued) => issued.present().await,
        }
    }
}

impl Issued {
    async fn present(&self) -> Result<(BasicAuth, Duration), String> {
        // Held while it is asked for, so that several connections ask once.
        let mut present = self.present.lock().await;
        if let Some((auth, renew_at)) = present.as_ref().filter(|(_, renew_at)| Instant::now() < *renew_at) {
            return Ok((auth.clone(), renew_at.duration_since(Instant::now())));
        }
        let (username, password, lasts) = self.issuer.issue().await?;
        let auth = BasicAuth::new(username, password);
        // With a quarter of its life left, as clocks differ and the next one may take a few tries.
        let pause = lasts.mul_f32(0.75).max(REREAD_EVERY);
        *present = Some((auth.clone(), Instant::now() + pause));
        Ok((auth, pause))
    }
}

/// A login as the client library wants it.
pub(super) struct Provider(Login);

/// What was given last, and how long until the next look.
type Given = Option<(BasicAuth, Duration)>;

impl StreamingCredentialsProvider for Provider {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let login = self.0.clone();
        Box::pin(futures_util::stream::unfold((login, None), |(login, given): (Login, Given)| async move {
            let Some((last, mut pause)) = given else {
                // The first: a failure is the connection's failure.
                let first = login.present().await;
                return Some(match first {
                    Ok((auth, pause)) => (Ok(auth.clone()), (login, Some((auth, pause)))),
                    Err(error) => (Err(refusal(error)), (login, None)),
                });
            };
            loop {
                crate::clock::pause(pause).await;
                match login.present().await {
                    Ok((auth, next)) if is_same(&auth, &last) => pause = next,
                    Ok((auth, next)) => return Some((Ok(auth.clone()), (login, Some((auth, next))))),
                    Err(error) => {
                        tracing::warn!(error, "no new credentials for the store; those in use stay");
                        pause = REREAD_EVERY;
                    }
                }
            }
        }))
    }
}

fn is_same(one: &BasicAuth, other: &BasicAuth) -> bool {
    one.username() == other.username() && one.password() == other.password()
}

fn refusal(error: String) -> RedisError {
    RedisError::from((ErrorKind::AuthenticationFailed, "no credentials for the store", error))
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Login::None",
            Self::File { .. } => "Login::File",
            Self::Issued(_) => "Login::Issued",
        })
    }
}
