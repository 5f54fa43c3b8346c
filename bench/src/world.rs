//! What surrounds the proxies: a stand-in Entra with users, the API server, certificates in files.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use serde_json::json;
use standin::apiserver::Trust;
use standin::browser::Browser;
use standin::entra::{AKS_SERVER_APP, Entra, Options};
use standin::pki::Ca;
use standin::time::Time;
use tempfile::TempDir;

use crate::client::Dialer;
use crate::upstream::Upstream;

const SIGN_INS_AT_ONCE: usize = 8;

/// The stand-ins, and the files that proxies read.
pub struct World {
    /// Who signs users in.
    pub entra: Entra,
    /// What all proxies stand in front of.
    pub upstream: Upstream,
    /// Opens connections that trust the proxies' certificates.
    pub dialer: Dialer,
    /// Whatever a proxy reads or writes.
    pub dir: TempDir,
    ca: Ca,
}

/// A user, and how a client of theirs presents itself to a proxy.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user's name.
    pub name: String,
    /// The value of `Authorization`.
    pub authorization: HeaderValue,
}

impl World {
    /// Starts the stand-ins and writes the files.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start() -> anyhow::Result<Self> {
        // Both ends of every connection are in this process.
        rlimit::increase_nofile_limit(u64::MAX)?;
        let dir = TempDir::with_prefix("bench-")?;
        let ca = Ca::new("bench")?;
        let time = Time::default();
        let options = Options { keep_secrets: false, ..Options::default() };
        let entra = Entra::start(([127, 0, 0, 1], 0).into(), &ca, time.clone(), options).await?;
        // All measurements together renew one user's tokens more often than Entra lets pass.
        entra.set_loop_detector(false);
        let audience = AKS_SERVER_APP.to_owned();
        let trust = Trust { issuer: entra.aks_issuer(), audience, keys: entra.keyset() };
        let upstream = Upstream::start(&ca, time, trust).await?;
        let issued = ca.issue(&[])?;
        let world = Self { entra, upstream, dialer: Dialer::new(&ca)?, dir, ca };
        world.write("ca.pem", world.ca.pem())?;
        world.write("tls.crt", &issued.cert_pem)?;
        world.write("tls.key", &issued.key_pem)?;
        world.write("both.pem", &format!("{}{}", issued.cert_pem, issued.key_pem))?;
        world.write("assertion", &world.entra.assertion())?;
        Ok(world)
    }

    /// A file of the world's.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When it cannot.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Signs users in at an Entrada and makes each a token. Numbers make their names.
    ///
    /// # Errors
    /// When a sign-in fails.
    pub async fn sign_in(&self, url: &str, users: std::ops::Range<usize>) -> anyhow::Result<Vec<Account>> {
        let accounts = stream::iter(users).map(|n| self.account(url, format!("user{n:05}")));
        accounts.buffered(SIGN_INS_AT_ONCE).try_collect().await
    }

    async fn account(&self, url: &str, name: String) -> anyhow::Result<Account> {
        self.entra.add_user(&name);
        let browser = Browser::new(self.ca.pem())?;
        let page = browser.sign_in(url, &name).await?;
        ensure!(page.status == 200, "sign-in: {} {}", page.status, page.text());
        let page = browser.post_json(&format!("{url}/tokens"), &json!({}), &[("origin", url)]).await?;
        ensure!(page.status == 201, "token: {} {}", page.status, page.text());
        let token = page.json()?;
        let token = token["token"].as_str().context("a token")?;
        Ok(Account { name, authorization: HeaderValue::try_from(format!("Bearer {token}"))? })
    }
}
