//! The hand-over protocol: OAuth 2.0 shapes (RFC 6749, RFC 7636, RFC 8628, RFC 7009).

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::http::{Http, Reply};
use super::server::Server;
use super::{Exit, Failure, authority, talk};
use crate::secret::{AttemptSecret, AuthorizationCode, CredentialSecret};

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Longer texts of a server are no names.
const LONGEST_NAME: usize = 128;
const LONGEST_TOKEN: usize = 4096;

/// What a hand-over brings.
pub(super) struct Granted {
    pub(super) id: String,
    pub(super) token: CredentialSecret,
    pub(super) expires_at: Timestamp,
    pub(super) session_expires_at: Option<Timestamp>,
    pub(super) username: String,
    pub(super) cluster_name: String,
    /// What clients need to trust, in PEM.
    pub(super) authority: Option<String>,
}

/// What a server says of a token.
pub(super) enum Checked {
    Good,
    /// With the server's reason.
    Refused(Option<String>),
    /// The server could not be asked, or could not say.
    Unknown,
}

/// What became of a renewal.
pub(super) enum Renewed {
    Fresh(Granted),
    Refused(Option<String>),
    Unknown,
}

/// A device flow that has begun.
pub(super) struct Device {
    code: AttemptSecret,
    pub(super) user_code: String,
    pub(super) address: String,
    pub(super) expires_in_seconds: u64,
    pub(super) interval_seconds: u64,
}

/// What one question after a device flow brings.
pub(super) enum Polled {
    Granted(Box<Granted>),
    Pending,
    SlowDown,
}

#[derive(Deserialize)]
struct Token {
    id: String,
    token: String,
    expires_at: Timestamp,
    session_expires_at: Option<Timestamp>,
    user: User,
    cluster_name: String,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

/// A server, and the connection to it.
pub(super) struct Api {
    http: Http,
    server: Server,
}

impl Api {
    pub(super) fn new(server: &Server, authority: Option<&str>) -> Result<Self, Failure> {
        Ok(Self { http: Http::new(server, authority.map(str::as_bytes))?, server: server.clone() })
    }

    /// Redeems the code that the browser brought. Nothing, if the server knows no such code.
    pub(super) async fn redeem(
        &self,
        code: &AuthorizationCode,
        verifier: &AttemptSecret,
        redirect_uri: &str,
    ) -> Result<Option<Granted>, Failure> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("code_verifier", verifier.expose()),
            ("redirect_uri", redirect_uri),
        ];
        let reply = self.http.form("/cli/token", &form).await?;
        if reply.status == StatusCode::BAD_REQUEST && reply.error() == "invalid_grant" {
            return Ok(None);
        }
        self.granted(&reply).map(Some)
    }

    pub(super) async fn begin_device(&self, client_name: &str) -> Result<Device, Failure> {
        let reply = self.http.form("/device/code", &[("client_name", client_name)]).await?;
        if reply.status != StatusCode::OK {
            return Err(reply.failure(&self.server));
        }
        let answer: DeviceAnswer = serde_json::from_slice(&reply.body).map_err(|_| self.unusable())?;
        // What is printed is this server's own page, not one that an answer made up.
        let page = talk::plain(&answer.verification_uri, 600);
        let is_own = page.strip_prefix(self.server.origin()).is_some_and(|path| path.starts_with('/'));
        let address = if is_own { page } else { self.server.join("/device") };
        Ok(Device {
            code: AttemptSecret::new(answer.device_code),
            user_code: talk::plain(&answer.user_code, 32),
            address,
            expires_in_seconds: answer.expires_in,
            interval_seconds: answer.interval.unwrap_or(5).clamp(1, 60),
        })
    }

    pub(super) async fn poll_device(&self, device: &Device) -> Result<Polled, Failure> {
        let form = [("grant_type", DEVICE_GRANT), ("device_code", device.code.expose())];
        // A connection that fails once costs one round, not the sign-in: RFC 8628 section 3.5.
        let Ok(reply) = self.http.form("/device/token", &form).await else { return Ok(Polled::Pending) };
        if reply.status == StatusCode::OK {
            return Ok(Polled::Granted(Box::new(self.granted(&reply)?)));
        }
        match reply.error().as_str() {
            "authorization_pending" => Ok(Polled::Pending),
            "slow_down" => Ok(Polled::SlowDown),
            "access_denied" => Err(Failure::new(Exit::Refused, "The request was refused in the browser.")),
            "expired_token" => {
                Err(Failure::new(Exit::TooLate, "Nobody entered the code in time. Try again."))
            }
            _ if reply.status.is_server_error() => Ok(Polled::Pending),
            _ => Err(reply.failure(&self.server)),
        }
    }

    pub(super) async fn renew(&self, token: &CredentialSecret) -> Renewed {
        let Ok(reply) = self.http.with_token(Method::POST, "/cli/renew", token).await else {
            return Renewed::Unknown;
        };
        match reply.status {
            StatusCode::OK => self.granted(&reply).map_or(Renewed::Unknown, Renewed::Fresh),
            StatusCode::UNAUTHORIZED => Renewed::Refused(reply.sentence()),
            _ => Renewed::Unknown,
        }
    }

    pub(super) async fn check(&self, token: &CredentialSecret) -> Checked {
        match self.http.with_token(Method::GET, "/whoami", token).await {
            Ok(reply) if reply.status == StatusCode::OK => Checked::Good,
            Ok(reply) if reply.status == StatusCode::UNAUTHORIZED => {
                Checked::Refused(reply.sentence().map(|said| self.without_advice(said)))
            }
            _ => Checked::Unknown,
        }
    }

    /// Ends a token. One that the server does not know has ended already.
    pub(super) async fn revoke(&self, token: &CredentialSecret) -> Result<(), Failure> {
        let reply = self.http.with_token(Method::POST, "/cli/revoke", token).await?;
        if reply.status.is_success() || reply.status == StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        Err(reply.failure(&self.server))
    }

    /// Without `Sign in again: https://k8s.example.com/login`: that is for people without this program.
    fn without_advice(&self, said: String) -> String {
        match said.rsplit_once(". ") {
            Some((reason, advice)) if advice.contains(self.server.origin()) => format!("{reason}."),
            _ => said,
        }
    }

    fn granted(&self, reply: &Reply) -> Result<Granted, Failure> {
        if reply.status != StatusCode::OK {
            return Err(reply.failure(&self.server));
        }
        let token: Token = serde_json::from_slice(&reply.body).map_err(|_| self.unusable())?;
        let is_token = |text: &str| {
            !text.is_empty()
                && text.len() <= LONGEST_TOKEN
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let cluster_name = talk::plain(&token.cluster_name, LONGEST_NAME);
        if !is_token(&token.token) || cluster_name.is_empty() {
            return Err(self.unusable());
        }
        let authority = match token.certificate_authority_data.as_deref().filter(|data| !data.is_empty()) {
            Some(data) => Some(authority::from_base64(data).ok_or_else(|| self.unusable())?),
            None => None,
        };
        Ok(Granted {
            id: talk::plain(&token.id, LONGEST_NAME),
            token: CredentialSecret::new(token.token),
            expires_at: token.expires_at,
            session_expires_at: token.session_expires_at,
            username: talk::plain(&token.user.username, LONGEST_NAME),
            cluster_name,
            authority,
        })
    }

    fn unusable(&self) -> Failure {
        let origin = self.server.origin();
        Failure::failed(format!("{origin} gave an answer that this version of entrada does not understand."))
    }
}
