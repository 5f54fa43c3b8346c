//! A server that speaks the hand-over protocol, and counts what it is asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entrada::secret::CredentialSecret;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use standin::pki::Ca;
use standin::serve::{Body, Listener, full};
use tokio::sync::Semaphore;
use url::Url;

pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) ca: Ca,
    state: Arc<Shared>,
    listener: Listener,
}

struct Shared {
    state: Mutex<State>,
    ca_data: String,
    /// What a renewal waits for.
    renewals: Semaphore,
    /// One permit for each renewal that has been asked for.
    asked: Semaphore,
}

#[derive(Default)]
pub(crate) struct State {
    /// Calls by path.
    pub(crate) calls: BTreeMap<String, u32>,
    /// Codes that were approved, with challenge and redirect URI.
    codes: HashMap<String, (String, String)>,
    /// What each token is good for; one that is missing is unknown.
    tokens: HashMap<String, Standing>,
    /// What the next questions after a device flow are answered with; then a token.
    pub(crate) device: VecDeque<&'static str>,
    pub(crate) lifetime: Option<SignedDuration>,
    pub(crate) cluster_name: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked,
    NeedsUser,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new("Test authority").unwrap();
        let tls = ca.issue(&["k8s.example.test"]).unwrap().server_config().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            ca_data: STANDARD.encode(ca.pem()),
            renewals: Semaphore::new(1_000),
            asked: Semaphore::new(0),
        });
        let state = Arc::clone(&shared);
        let listener = Listener::start(([127, 0, 0, 1], 0).into(), tls, move |request| {
            let state = Arc::clone(&state);
            async move { Ok(state.answer(request).await) }
        });
        let listener = listener.await.unwrap();
        let url = format!("https://localhost:{}", listener.addr().port());
        Self { url, ca, state: shared, listener }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.state.lock().unwrap()
    }

    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.listener.addr()
    }

    pub(crate) fn calls(&self, path: &str) -> u32 {
        self.state().calls.get(path).copied().unwrap_or_default()
    }

    /// The person in the browser allows what this address asks for: where the browser goes then.
    pub(crate) fn allow(&self, address: &Url) -> Url {
        let asked: HashMap<_, _> = address.query_pairs().into_owned().collect();
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(!asked["client_name"].is_empty());
        let code = CredentialSecret::new_token().expose().to_owned();
        let redirect_uri = asked["redirect_uri"].clone();
        self.state().codes.insert(code.clone(), (asked["code_challenge"].clone(), redirect_uri.clone()));
        Url::parse_with_params(&redirect_uri, [("code", &code), ("state", &asked["state"])]).unwrap()
    }

    /// Every token there is gets this standing.
    pub(crate) fn all_tokens_are(&self, standing: Standing) {
        self.state().tokens.values_mut().for_each(|old| *old = standing);
    }

    /// A token that it gave, and that was not revoked since.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.state().tokens.contains_key(token)
    }

    /// The next renewal waits until it is let go.
    pub(crate) async fn hold_renewals(&self) {
        self.state.renewals.acquire_many(1_000).await.unwrap().forget();
    }

    pub(crate) async fn renewal_asked(&self) {
        self.state.asked.acquire().await.unwrap().forget();
    }

    pub(crate) fn let_renewals_go(&self) {
        self.state.renewals.add_permits(1_000);
    }

    /// A cached token of such a lifetime, of which so much is left: the file's text.
    pub(crate) fn cached(&self, lifetime_seconds: i64, left_seconds: i64) -> String {
        let token = CredentialSecret::new_token().expose().to_owned();
        self.state().tokens.insert(token.clone(), Standing::Good);
        let end = now() + SignedDuration::from_secs(left_seconds);
        json!({
            "server": self.url, "id": "cached", "token": token, "username": "alice@contoso.example",
            "obtained_at": end - SignedDuration::from_secs(lifetime_seconds), "expires_at": end,
            "cluster_name": "prod", "certificate_authority": self.ca.pem(),
        })
        .to_string()
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has it in the address.
        let host = host.or(request.uri().authority().map(|host| host.as_str())).unwrap().to_owned();
        let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let form: HashMap<String, String> = serde_urlencoded::from_bytes(&body).unwrap_or_default();
        *self.state.lock().unwrap().calls.entry(path.clone()).or_default() += 1;
        if path == "/cli/renew" {
            self.asked.add_permits(1);
            let _go = self.renewals.acquire().await.unwrap();
        }
        let mut state = self.state.lock().unwrap();
        match path.as_str() {
            "/cli/token" => match state.redeem(&form) {
                true => self.token(&mut state),
                false => error("invalid_grant", "This code is unknown, was used, or has expired."),
            },
            "/device/code" => json_answer(
                StatusCode::OK,
                &json!({"device_code": "device-secret", "user_code": "BCDF-GHJK", "expires_in": 300, "interval": 1,
                        "verification_uri": "https://elsewhere.example/device"}),
            ),
            "/device/token" => {
                assert_eq!(form["device_code"], "device-secret");
                match state.device.pop_front() {
                    Some(code) => error(code, "Not yet."),
                    None => self.token(&mut state),
                }
            }
            _ => self.as_user(&mut state, &host, &path, &bearer),
        }
    }

    /// What needs a token.
    fn as_user(&self, state: &mut State, host: &str, path: &str, bearer: &str) -> Response<Body> {
        let standing = state.tokens.get(bearer).copied();
        if path == "/cli/revoke" && standing.is_some() {
            state.tokens.remove(bearer);
            return json_answer(StatusCode::NO_CONTENT, &Value::Null);
        }
        let message = match standing {
            Some(Standing::Good) => {
                return match path {
                    "/cli/renew" => self.token(state),
                    "/whoami" => json_answer(StatusCode::OK, &json!({"user": {"name": "Alice"}})),
                    path => json_answer(StatusCode::OK, &json!({"path": path, "gitVersion": "v1.34.0"})),
                };
            }
            Some(Standing::NeedsUser) => "Your organisation asks you to sign in again.",
            Some(Standing::Revoked) | None => "This token is unknown or was revoked.",
        };
        if path == "/cli/renew" {
            let told = json!({"error": "invalid_token", "error_description": message});
            return json_answer(StatusCode::UNAUTHORIZED, &told);
        }
        let message = format!("{message} Sign in again: https://{host}/login");
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "Unauthorized", "code": 401});
        json_answer(StatusCode::UNAUTHORIZED, &status)
    }

    fn token(&self, state: &mut State) -> Response<Body> {
        let token = CredentialSecret::new_token().expose().to_owned();
        state.tokens.insert(token.clone(), Standing::Good);
        let lifetime = state.lifetime.unwrap_or(SignedDuration::from_hours(12));
        json_answer(
            StatusCode::OK,
            &json!({
                "id": format!("id{}", state.tokens.len()), "name": "alice-laptop", "token": token,
                "expires_at": now() + lifetime, "session_expires_at": now() + SignedDuration::from_hours(100),
                "user": {"oid": "o", "tid": "t", "name": "Alice\u{1b}[2J", "username": "alice@contoso.example"},
                "cluster_name": state.cluster_name.unwrap_or("prod"), "certificate_authority_data": self.ca_data,
            }),
        )
    }
}

impl State {
    fn redeem(&mut self, form: &HashMap<String, String>) -> bool {
        let Some((challenge, redirect_uri)) = self.codes.remove(&form["code"]) else { return false };
        assert_eq!(form["grant_type"], "authorization_code");
        let verified = URL_SAFE_NO_PAD.encode(digest(&form["code_verifier"])) == challenge;
        verified && form["redirect_uri"] == redirect_uri && form["code_verifier"].len() >= 43
    }
}

fn digest(text: &str) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

pub(crate) fn now() -> Timestamp {
    entrada::clock::Clock::movable().now()
}

fn error(code: &str, description: &str) -> Response<Body> {
    json_answer(StatusCode::BAD_REQUEST, &json!({"error": code, "error_description": description}))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let text = if value.is_null() { String::new() } else { value.to_string() };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
