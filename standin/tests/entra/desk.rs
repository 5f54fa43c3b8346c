//! A running stand-in, a browser, and the shortest ways to ask it things.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use standin::browser::{Browser, Page};
use standin::entra::{AKS_SERVER_APP, Entra, Options};
use standin::pki::Ca;
use standin::time::Time;
use url::Url;

pub(crate) const REDIRECT: &str = "https://app.example/callback";
pub(crate) const OIDC: &str = "openid profile offline_access";
/// 43 characters, as a verifier must have at least.
pub(crate) const VERIFIER: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

pub(crate) struct Desk {
    pub(crate) entra: Entra,
    pub(crate) browser: Browser,
    pub(crate) time: Time,
    ca_pem: String,
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::open_with(&Ca::new("test").unwrap()).await
    }

    pub(crate) async fn open_with(ca: &Ca) -> Self {
        let time = Time::default();
        let options = Options { redirect_uris: vec![REDIRECT.to_owned()], ..Options::default() };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let entra = Entra::start(addr, ca, time.clone(), options).await.unwrap();
        let browser = Browser::with_time(ca.pem(), time.clone()).unwrap();
        Self { entra, browser, time, ca_pem: ca.pem().to_owned() }
    }

    pub(crate) fn other_browser(&self) -> Browser {
        Browser::with_time(&self.ca_pem, self.time.clone()).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{}/{path}", self.entra.origin(), self.entra.tenant_id())
    }

    /// An authorization request with these parameters beside (or instead of) the usual ones. `""` leaves one out.
    pub(crate) fn authorize_url(&self, more: &[(&str, &str)]) -> String {
        let client = self.entra.client_id();
        let challenge = challenge(VERIFIER);
        let usual = [
            ("client_id", client.as_str()),
            ("response_type", "code"),
            ("redirect_uri", REDIRECT),
            ("scope", OIDC),
            ("state", "s t+a/te&"),
            ("nonce", "n-1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let kept = usual.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        let pairs: Vec<_> = kept.chain(more).filter(|(_, value)| !value.is_empty()).collect();
        format!("{}?{}", self.url("oauth2/v2.0/authorize"), serde_urlencoded::to_string(pairs).unwrap())
    }

    /// The redirect that answers an authorization request of this user, without a page.
    pub(crate) async fn authorize(&self, user: &str, more: &[(&str, &str)]) -> Page {
        let mut all = more.to_vec();
        all.push(("standin_user", user));
        self.browser.get(&self.authorize_url(&all)).await.unwrap()
    }

    /// Presses a button (`("user", "alice")`, `("cancel", "1")`) of the chooser that this request shows.
    pub(crate) async fn press(&self, authorize_url: &str, button: (&str, &str)) -> Page {
        let request = authorize_url.split_once('?').unwrap().1;
        let fields = [("request", request), button];
        self.browser.post_form(&self.url("login"), &fields, &[]).await.unwrap()
    }

    pub(crate) async fn code(&self, user: &str, more: &[(&str, &str)]) -> String {
        let page = self.authorize(user, more).await;
        query(&page.location().unwrap(), "code").unwrap_or_else(|| panic!("no code: {page:?}"))
    }

    pub(crate) async fn token(&self, fields: &[(&str, &str)]) -> Page {
        let assertion = self.entra.assertion();
        self.token_as(&assertion, fields).await
    }

    pub(crate) async fn token_as(&self, assertion: &str, fields: &[(&str, &str)]) -> Page {
        let client = self.entra.client_id();
        let usual = [
            ("client_id", client.as_str()),
            ("client_info", "1"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        let kept = usual.iter().filter(|(name, _)| !fields.iter().any(|(other, _)| other == name));
        let pairs: Vec<_> = kept.chain(fields).filter(|(_, value)| !value.is_empty()).copied().collect();
        self.browser.post_form(&self.url("oauth2/v2.0/token"), &pairs, &[]).await.unwrap()
    }

    pub(crate) async fn redeem(&self, code: &str, more: &[(&str, &str)]) -> Page {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("scope", OIDC),
        ];
        let kept = usual.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        self.token(&kept.chain(more).copied().collect::<Vec<_>>()).await
    }

    /// Signs the user in and returns the token answer.
    pub(crate) async fn signed_in(&self, user: &str) -> Value {
        let code = self.code(user, &[]).await;
        let page = self.redeem(&code, &[]).await;
        assert_eq!(page.status, 200, "{}", page.text());
        page.json().unwrap()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Page {
        let scope = aks_scope();
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token), ("scope", &scope)]).await
    }
}

pub(crate) fn aks_scope() -> String {
    format!("{AKS_SERVER_APP}/.default {OIDC}")
}

pub(crate) fn refresh_token(answer: &Value) -> String {
    answer["refresh_token"].as_str().unwrap().to_owned()
}

pub(crate) fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sum)
}

pub(crate) fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The decoded part of a JWT: 0 header, 1 claims.
pub(crate) fn part(token: &str, index: usize) -> Value {
    use base64::Engine as _;
    let text = token.split('.').nth(index).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Asserts the shape of a token endpoint's error, and returns its code.
pub(crate) fn refused(page: &Page, status: u16, error: &str, code: u64) -> Value {
    let body = page.json().unwrap();
    assert_eq!((page.status.as_u16(), body["error"].as_str()), (status, Some(error)), "{body}");
    assert_eq!(body["error_codes"], serde_json::json!([code]));
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
    for word in ["Trace ID: ", "Correlation ID: ", "Timestamp: "] {
        assert!(description.contains(word), "{description}");
    }
    for field in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
        assert!(body[field].is_string(), "{field}");
    }
    body
}
