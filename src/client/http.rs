//! Calls to an Entrada: HTTPS alone, no redirects, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::server::Server;
use super::{Failure, authority, talk};
use crate::secret::CredentialSecret;
use crate::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first look-up to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A token with a certificate authority of a few certificates is about 10 KB.
const MAX_REPLY_BYTES: usize = 256 * 1024;

/// Through the proxy that the environment names, or straight to the server.
enum Connections {
    Direct(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Tunnelled(Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

pub(super) struct Http {
    connections: Connections,
    server: Server,
}

/// An answer, whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// What a refusal says: an OAuth error, or the API's `Status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
    message: String,
}

impl Http {
    /// Trusts what the system trusts, and the certificates of `authority`.
    pub(super) fn new(server: &Server, authority: Option<&[u8]>) -> Result<Self, Failure> {
        let roots = authority::roots(authority)?;
        let tls =
            tls::client(roots).map_err(|error| Failure::failed(format!("TLS cannot be used: {error:#}.")))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1();
        let client = Client::builder(TokioExecutor::new());
        // `HTTPS_PROXY` and `NO_PROXY`, as for kubectl.
        let address = server.origin().parse().ok();
        let proxy = address.and_then(|address| Matcher::from_env().intercept(&address));
        let connections = match proxy {
            None => Connections::Direct(client.build(https.wrap_connector(tcp))),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(password) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(password.clone());
                }
                Connections::Tunnelled(client.build(https.wrap_connector(tunnel)))
            }
        };
        Ok(Self { connections, server: server.clone() })
    }

    /// Posts a form.
    pub(super) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Result<Reply, Failure> {
        let form = serde_urlencoded::to_string(fields).unwrap_or_default();
        let request =
            self.request(Method::POST, path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.call(request, Bytes::from(form)).await
    }

    /// A call as whom the token belongs to.
    pub(super) async fn with_token(
        &self,
        method: Method,
        path: &str,
        token: &CredentialSecret,
    ) -> Result<Reply, Failure> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| Failure::failed("The token has characters that no token has."))?;
        bearer.set_sensitive(true);
        self.call(self.request(method, path).header(AUTHORIZATION, bearer), Bytes::new()).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(self.server.join(path))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("entrada/", env!("CARGO_PKG_VERSION")))
    }

    async fn call(&self, request: http::request::Builder, body: Bytes) -> Result<Reply, Failure> {
        let origin = self.server.origin();
        let unreachable = |what: String| Failure::failed(format!("{origin} cannot be reached: {what}."));
        let request = request.body(Full::new(body)).map_err(|error| unreachable(error.to_string()))?;
        let exchange = async {
            let response = match &self.connections {
                Connections::Direct(client) => client.request(request).await,
                Connections::Tunnelled(client) => client.request(request).await,
            };
            let response = response.map_err(|error| self.broken(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await;
            let body = body.map_err(|error| unreachable(chain(&*error)))?.to_bytes();
            Ok(Reply { status: head.status, body })
        };
        let late = || unreachable(format!("no answer within {} seconds", CALL_TIMEOUT.as_secs()));
        tokio::time::timeout(CALL_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let (origin, why) = (self.server.origin(), chain(error));
        if why.contains("UnknownIssuer") {
            return Failure::failed(format!(
                "This computer does not trust the certificate of {origin}. If it comes from an authority of your \
                 own, name that: entrada login {origin} --ca-file ca.crt",
            ));
        }
        Failure::failed(format!("{origin} cannot be reached: {why}."))
    }
}

impl Reply {
    /// The OAuth error, like `authorization_pending`; empty where there is none.
    pub(super) fn error(&self) -> String {
        talk::plain(&self.refusal().error, 64)
    }

    /// The sentence of a refusal, where it has one.
    pub(super) fn sentence(&self) -> Option<String> {
        let Refusal { error_description, message, .. } = self.refusal();
        let said = talk::plain(if error_description.is_empty() { &message } else { &error_description }, 400);
        (!said.is_empty()).then_some(said)
    }

    /// A failure that passes on what the server said.
    pub(super) fn failure(&self, server: &Server) -> Failure {
        let said = self.sentence().unwrap_or_else(|| match self.status {
            StatusCode::NOT_FOUND => format!("{} has no such page. Is it an Entrada?", server.origin()),
            status => format!("{} answered {status}.", server.origin()),
        });
        Failure::failed(said)
    }

    fn refusal(&self) -> Refusal {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    talk::plain(&tls::chain(error), 400)
}
