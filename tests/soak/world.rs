//! What surrounds the proxies: a stand-in Entra with many users, the API server of these tests, and clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;

use futures_util::{StreamExt, stream};
use serde_json::json;
use standin::apiserver::Trust;
use standin::browser::{Browser, Page};
use standin::entra::{AKS_SERVER_APP, Entra, Options};
use standin::pki::Ca;
use standin::time::Time;
use tempfile::TempDir;

use super::client::{Dialer, Front};
use super::process::Program;
use super::upstream::Upstream;

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Sign-ins at the same time.
const SIGN_INS_AT_ONCE: usize = 8;

pub(crate) struct World {
    entra: Entra,
    pub(crate) upstream: Upstream,
    pub(crate) dialer: Dialer,
    pub(crate) dir: TempDir,
    ca: Ca,
    settings: BTreeMap<&'static str, String>,
    callbacks: Mutex<Vec<String>>,
}

/// A user who has signed in, and a proxy token of theirs.
#[derive(Clone)]
pub(crate) struct Account {
    /// Also the name of the one namespace that the API server lets this user into.
    pub(crate) name: String,
    pub(crate) token: String,
}

/// A user at their browser.
pub(crate) struct Visitor {
    pub(crate) account: Account,
    pub(crate) token_id: String,
    pub(crate) browser: Browser,
}

impl World {
    pub(crate) async fn start() -> Self {
        // Both ends of every connection are in this process.
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        let dir = TempDir::new().unwrap();
        let ca = Ca::new("stand-in").unwrap();
        let time = Time::default();
        let options = Options { keep_secrets: false, ..Options::default() };
        let entra = Entra::start(LOOPBACK, &ca, time.clone(), options).await.unwrap();
        let trust =
            Trust { issuer: entra.aks_issuer(), audience: AKS_SERVER_APP.to_owned(), keys: entra.keyset() };
        let upstream = Upstream::start(&ca, time, trust).await;
        let settings = settings(dir.path(), &ca, &entra, &upstream);
        let dialer = Dialer::new(&ca);
        Self { entra, upstream, dialer, dir, ca, settings, callbacks: Mutex::default() }
    }

    /// Registers the callback of a proxy at this URL.
    pub(crate) fn expect_callback(&self, url: &str) {
        let mut callbacks = self.callbacks.lock().unwrap();
        callbacks.push(format!("{url}/callback"));
        self.entra.set_redirect_uris(callbacks.clone());
    }

    pub(crate) fn settings(&self) -> &BTreeMap<&'static str, String> {
        &self.settings
    }

    /// Starts another proxy, which has nothing else to do, and signs one user in there.
    pub(crate) async fn idle(&self) -> (Program, Front) {
        let program = Program::start(self, &[]).await;
        let account = self.accounts(&program, 1).await.remove(0);
        let front = Front { addr: program.addr, account };
        (program, front)
    }

    /// Signs `count` users in at this proxy and makes each a token.
    pub(crate) async fn accounts(&self, program: &Program, count: usize) -> Vec<Account> {
        let visitors = self.visitors(&program.url, count).await;
        visitors.into_iter().map(|visitor| visitor.account).collect()
    }

    /// Signs `count` users in at this public URL and makes each a token.
    pub(crate) async fn visitors(&self, url: &str, count: usize) -> Vec<Visitor> {
        let visitor =
            async |n| self.sign_in(url, &format!("user{n:03}")).await.unwrap().map_err(|page| page.text());
        let visitors = stream::iter(0..count).map(visitor).buffered(SIGN_INS_AT_ONCE);
        visitors.map(Result::unwrap).collect().await
    }

    /// Signs a user in with a browser of their own and makes them a token. Instead of that, the page that says why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn sign_in(&self, url: &str, name: &str) -> anyhow::Result<Result<Visitor, Page>> {
        self.entra.add_user(name);
        let browser = Browser::new(self.ca.pem())?;
        let page = browser.sign_in(url, name).await?;
        if page.status != 200 {
            return Ok(Err(page));
        }
        let page = browser.post_json(&format!("{url}/tokens"), &json!({}), &[("origin", url)]).await?;
        if page.status != 201 {
            return Ok(Err(page));
        }
        let answer = page.json()?;
        let text = |field: &str| answer[field].as_str().unwrap().to_owned();
        let (account, token_id) = (Account { name: name.to_owned(), token: text("token") }, text("id"));
        Ok(Ok(Visitor { account, token_id, browser }))
    }
}

impl Account {
    /// A small list.
    pub(crate) fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.name)
    }

    /// A list of 10 MB.
    pub(crate) fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.name)
    }

    pub(crate) fn watch(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps?watch=true", self.name)
    }

    /// A tunnel of this protocol of the API server's: `echo` or `through`.
    pub(crate) fn tunnel(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/web/exec", self.name)
    }
}

fn settings(dir: &Path, ca: &Ca, entra: &Entra, upstream: &Upstream) -> BTreeMap<&'static str, String> {
    let issued = ca.issue(&[]).unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca_file = file("ca.pem", ca.pem());
    BTreeMap::from([
        ("ENTRADA_TLS_CERT_FILE", file("tls.crt", &issued.cert_pem)),
        ("ENTRADA_TLS_KEY_FILE", file("tls.key", &issued.key_pem)),
        ("ENTRADA_API_SERVER_URL", upstream.url()),
        ("ENTRADA_API_SERVER_CA_FILE", ca_file.clone()),
        ("ENTRADA_ENTRA_CA_FILE", ca_file),
        ("AZURE_TENANT_ID", entra.tenant_id()),
        ("AZURE_CLIENT_ID", entra.client_id()),
        ("AZURE_AUTHORITY_HOST", entra.authority_host()),
        ("AZURE_FEDERATED_TOKEN_FILE", file("assertion", &entra.assertion())),
    ])
}
