//! One Entrada with its surroundings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use entrada::app::{self, Running, Sockets};
use entrada::clock::Clock;
use entrada::config::{Config, RawConfig};
use http::Method;
use serde_json::{Value, json};
use standin::apiserver::{ApiServer, People, Trust, default_rules};
use standin::browser::{Browser, Page};
use standin::entra::{AKS_SERVER_APP, Entra, Options};
use standin::pki::Ca;
use standin::time::Time;
use tempfile::{NamedTempFile, TempDir};
use tokio::net::TcpListener;

use super::{eventually, log};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Entrada, started in this process, between the stand-ins.
pub(crate) struct World {
    pub(crate) entra: Entra,
    pub(crate) api: ApiServer,
    pub(crate) entrada: Running,
    pub(crate) ca: Ca,
    pub(crate) dir: TempDir,
    /// The public URL, without a trailing slash.
    pub(crate) url: String,
    clock: Clock,
    time: Time,
    log_mark: usize,
    secrets: Mutex<Vec<String>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with settings changed by `change`, and waits until Entrada is ready.
    pub(crate) async fn start_with(change: impl FnOnce(&mut RawConfig)) -> Self {
        let world = Self::start_unready(change).await;
        eventually("readiness", || async { world.admin("/readyz").await.0 == 200 }).await;
        world
    }

    pub(crate) async fn start_unready(change: impl FnOnce(&mut RawConfig)) -> Self {
        log::init();
        let log_mark = log::mark();
        let dir = TempDir::new().unwrap();
        let ca = Ca::new("stand-in").unwrap();
        let time = Time::default();
        let sockets = Sockets {
            public: TcpListener::bind(LOOPBACK).await.unwrap(),
            admin: TcpListener::bind(LOOPBACK).await.unwrap(),
        };
        let url = format!("https://localhost:{}", sockets.public.local_addr().unwrap().port());
        let options = Options { redirect_uris: vec![format!("{url}/callback")], ..Options::default() };
        let entra = Entra::start(LOOPBACK, &ca, time.clone(), options).await.unwrap();
        let trust =
            Trust { issuer: entra.aks_issuer(), audience: AKS_SERVER_APP.to_owned(), keys: entra.keyset() };
        let api = ApiServer::start(LOOPBACK, &ca, time.clone(), trust).await.unwrap();
        let subject = |name: &str| entra.user(name).unwrap().kubernetes_name().to_owned();
        api.set_rules(default_rules(&People {
            alice: subject("alice"),
            bob: subject("bob"),
            carol: "carol@contoso.example".to_owned(),
        }));
        let mut raw = settings(dir.path(), &ca, &url, &entra, &api);
        change(&mut raw);
        let config = Config::from_raw(&raw).unwrap();
        let clock = Clock::movable();
        let entrada = app::start(&config, clock.clone(), sockets).unwrap();
        let secrets = Mutex::default();
        Self { entra, api, entrada, ca, dir, url, clock, time, log_mark, secrets }
    }

    /// Moves everybody's clock; the kubelet keeps our projected token fresh meanwhile.
    pub(crate) fn advance(&self, by: Duration) {
        // Before the clocks move, and good until an hour after that: a renewal that is under way just then is refused for the
        // old one, and finds one that works when it reads the file again.
        let later = i64::try_from(by.as_secs()).unwrap();
        let assertion = self.entra.assertion_with(|claims| {
            claims["exp"] = json!(claims["exp"].as_i64().unwrap() + later);
        });
        // Replaced as a whole, as the kubelet does it.
        let (file, newer) = (self.dir.path().join("assertion"), NamedTempFile::new_in(&self.dir).unwrap());
        std::fs::write(&newer, assertion).unwrap();
        newer.persist(file).unwrap();
        self.advance_without_kubelet(by);
    }

    pub(crate) fn advance_without_kubelet(&self, by: Duration) {
        self.time.advance(by);
        self.clock.advance(by);
    }

    /// Sets Entrada's clock back, and nobody else's: as where a machine's time was ahead and is put right.
    pub(crate) fn set_back(&self, by: Duration) {
        self.clock.set_back(by);
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// The time that the stand-ins have.
    pub(crate) fn true_now(&self) -> jiff::Timestamp {
        self.time.now()
    }

    /// The origin of the dashboard that is mounted under this name.
    pub(crate) fn mount(&self, name: &str) -> String {
        self.url.replace("localhost", &format!("{name}.localhost"))
    }

    /// A browser without cookies.
    pub(crate) fn browser(&self) -> Browser {
        Browser::with_time(self.ca.pem(), self.time.clone()).unwrap()
    }

    /// A browser in which `user` has signed in.
    pub(crate) async fn signed_in(&self, user: &str) -> Browser {
        let browser = self.browser();
        let page = browser.sign_in(&self.url, user).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        self.keep_secret(self.session_cookie(&browser).unwrap());
        browser
    }

    pub(crate) fn session_cookie(&self, browser: &Browser) -> Option<String> {
        browser.cookie(&self.url, "__Host-entrada")
    }

    /// Has it searched for in the log.
    pub(crate) fn keep_secret(&self, secret: impl Into<String>) {
        self.secrets.lock().unwrap().push(secret.into());
    }

    /// Has the browser's user make a proxy token.
    pub(crate) async fn token(&self, browser: &Browser) -> String {
        self.new_token(browser, json!({})).await["token"].as_str().unwrap().to_owned()
    }

    /// `POST /tokens` with this body; its answer.
    pub(crate) async fn new_token(&self, browser: &Browser, body: Value) -> Value {
        let origin = [("origin", self.url.as_str())];
        let page = browser.post_json(&self.at("/tokens"), &body, &origin).await.unwrap();
        assert_eq!(page.status, 201, "{}", page.text());
        let answer = page.json().unwrap();
        self.keep_secret(answer["token"].as_str().unwrap());
        answer
    }

    /// Has the browser's user download a kubeconfig; its path.
    pub(crate) async fn kubeconfig(&self, browser: &Browser) -> PathBuf {
        let origin = [("origin", self.url.as_str())];
        let page = browser.post_form(&self.at("/kubeconfig"), &[], &origin).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let token = text.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
        self.keep_secret(token.trim_matches('"'));
        let file = self.dir.path().join(format!("{}.yaml", entrada::secret::random_guid()));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// One request with a proxy token, and nothing else of a browser's.
    pub(crate) async fn call(&self, method: Method, path: &str, token: &str) -> Page {
        let bearer = format!("Bearer {token}");
        self.call_with(method, path, &[("authorization", &bearer)]).await
    }

    /// One request with these headers, without cookies.
    pub(crate) async fn call_with(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Page {
        self.browser().request(method, &self.at(path), headers, bytes::Bytes::new()).await.unwrap()
    }

    /// One GET with this session cookie, and nothing else of a browser's.
    pub(crate) async fn with_cookie(&self, path: &str, value: &str) -> Page {
        self.call_with(Method::GET, path, &[("cookie", &format!("__Host-entrada={value}"))]).await
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Status and body of a page of the management listener.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(self.entrada.admin_addr).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let request = http::Request::get(path).header("host", "admin");
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let exchange = async {
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        tokio::select! {
            answer = exchange => answer,
            ended = connection => panic!("the management listener hung up: {ended:?}"),
        }
    }

    /// The log lines of this world (and of those beside it) that hold `text`.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        log::lines_with(self.log_mark, text)
    }

    /// A metric's value, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Nothing that reached the API server was without the right user's token, and nothing of ours was in it.
    fn assert_upstream_is_clean(&self) {
        let secrets = self.secrets.lock().unwrap();
        let issued = self.entra.secrets();
        for request in self.api.requests() {
            let bearer = request.header_values("authorization");
            // The one program of ours that asks without a user, and must have no credential to ask with.
            let agent = request.header_values("user-agent");
            if bearer.is_empty() && agent.iter().any(|agent| agent.starts_with("entrada-doctor/")) {
                assert_eq!(request.target, "/version");
                continue;
            }
            assert_eq!(bearer.len(), 1, "{} {}", request.method, request.target);
            assert!(!bearer[0].contains("entrada"), "{} {}", request.method, request.target);
            // A token that the API server itself does not take any more is the user's all the same; of a request that
            // was cut off before the API server had judged it, the token is looked up where it was issued.
            let issued = || issued.iter().any(|token| bearer[0].strip_prefix("Bearer ") == Some(token));
            let known = match (&request.user, request.status) {
                (Some(_), _) | (None, Some(401)) => true,
                (None, status) => status.is_none() && issued(),
            };
            assert!(known, "nobody's: {} {}", request.method, request.target);
            for (name, value) in &request.headers {
                let value = String::from_utf8_lossy(value);
                let mut pairs = value.split(';').map(|pair| pair.trim_matches(' '));
                assert!(!pairs.any(|pair| pair.starts_with("__Host-entrada")), "{name}: {value}");
                assert!(!secrets.iter().any(|secret| value.contains(secret.as_str())), "{name}");
                assert!(!name.starts_with("x-remote-"), "{name}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.assert_upstream_is_clean();
        assert!(!self.entra.loop_detected(), "Entra's loop detector has tripped");
        let mut secrets = self.entra.secrets();
        secrets.append(&mut self.secrets.lock().unwrap());
        log::assert_no_secrets(secrets, self.log_mark);
    }
}

fn settings(dir: &Path, ca: &Ca, url: &str, entra: &Entra, api: &ApiServer) -> RawConfig {
    let names = ["k8s.example.com", "headlamp.localhost", "pods.localhost", "*.contoso.example"];
    let issued = ca.issue(&names).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path.to_str().unwrap().to_owned())
    };
    let ca_file = file("ca.pem", ca.pem());
    RawConfig {
        public_url: Some(url.to_owned()),
        tls_cert_file: file("tls.crt", &issued.cert_pem),
        tls_key_file: file("tls.key", &issued.key_pem),
        api_server_url: Some(api.url()),
        api_server_ca_file: ca_file.clone(),
        azure_tenant_id: Some(entra.tenant_id()),
        azure_client_id: Some(entra.client_id()),
        azure_federated_token_file: file("assertion", &format!("{}\n", entra.assertion())),
        azure_authority_host: Some(entra.authority_host()),
        entra_ca_file: ca_file.clone(),
        public_ca_file: ca_file,
        cluster_name: Some("stand-in".to_owned()),
        ..RawConfig::default()
    }
}
