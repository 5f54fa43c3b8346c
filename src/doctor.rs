//! `entrada doctor`: looks, once, at everything that must be right before a user can be served, and says what is wrong.
//!
//! What it says must be what the server does, so each check uses the server's own code: the settings' checks, the client
//! of Entra, the connections to the API server and the store, the loading of the certificate. It opens no port, and it
//! leaves nothing behind in the store or at Entra.
//!
//! One fault is told once: what cannot be judged before another fault is gone is skipped, not failed. Nothing that it
//! prints is a secret: of tokens it tells issuer, subject, audience and expiry.

mod api_server;
mod app_registration;
mod authority;
mod certificate;
mod federated_token;
mod file_limit;
mod finding;
mod report;
mod settings;
mod store;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::authority::Authority;
use self::finding::{Check, Finding};
pub(crate) use self::report::Report;
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, RawConfig, StoreAuth, StoreConfig};
use crate::entra::Entra;
use crate::metrics::Metrics;

/// For one call. Where each waits for the one before, and nobody answers, all checks together take half a minute at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a check of several steps: discovery and keys; connect and answer; the servers of a cluster.
const LONGER: Duration = Duration::from_secs(8);

/// Looks at everything.
pub(crate) async fn examine(raw: &RawConfig, clock: &Clock) -> Report {
    let mut checks = Vec::new();
    match Config::from_raw(raw) {
        Err(faults) => {
            checks.extend(settings::faults(raw, &faults));
            let others = NAMES.iter().filter(|name| !checks.iter().any(|check| check.name == **name));
            let others: Vec<Check> = others.map(|name| Check::skipped(name, "settings")).collect();
            checks.extend(others);
        }
        Ok(mut config) => {
            checks.push(Check::fine("settings", "each is known and has a value that it may have"));
            config.entra.timeout = config.entra.timeout.min(PATIENCE);
            config.limits.connect = config.limits.connect.min(PATIENCE);
            config.limits.response = config.limits.response.min(PATIENCE);
            checks.extend(Examination { raw, config: &config, clock }.run().await);
        }
    }
    Report::new(checks)
}

/// All but the settings, in the order in which they are told.
const NAMES: [&str; 10] = [
    federated_token::NAME,
    authority::CLOCK,
    authority::NAME,
    app_registration::ASSERTION,
    app_registration::REDIRECT_URI,
    app_registration::PERMISSION,
    api_server::NAME,
    store::NAME,
    certificate::NAME,
    file_limit::NAME,
];

struct Examination<'a> {
    raw: &'a RawConfig,
    config: &'a Config,
    clock: &'a Clock,
}

/// What the checks of Entra found, and what others build on.
struct EntraSide {
    checks: Vec<Check>,
    entra: Option<Arc<Entra>>,
    /// The true time, where Entra told it.
    now: Timestamp,
    knows_us: bool,
}

impl Examination<'_> {
    async fn run(&self) -> Vec<Check> {
        let config = self.config;
        let waits_for_entra = matches!(&config.store, StoreConfig::Redis(redis) if matches!(redis.auth, StoreAuth::Entra { .. }));
        let early = async { if waits_for_entra { None } else { Some(self.store(None).await) } };
        let api_server = within(api_server::NAME, LONGER, api_server::check(config));
        let (entra, api_server, early) = tokio::join!(self.entra(), api_server, early);
        let store = match early {
            Some(checks) => checks,
            None if entra.knows_us => self.store(entra.entra.as_ref()).await,
            None => vec![Check::skipped(store::NAME, app_registration::ASSERTION)],
        };
        let mut checks = entra.checks;
        checks.push(api_server);
        checks.extend(store);
        checks.push(certificate::check(config, entra.now));
        checks.push(file_limit::check(&config.limits));
        checks
    }

    async fn entra(&self) -> EntraSide {
        let config = self.config;
        let redirect_uri = config.public_url.join("/callback");
        let entra =
            Entra::new(config.entra.clone(), redirect_uri, self.clock.clone(), Arc::new(Metrics::default()));
        let entra = match entra {
            Ok(entra) => Arc::new(entra),
            // The settings' check could read the trust root; this one could not use it.
            Err(error) => return self.without_entra(&format!("{error:#}")),
        };
        let looked = tokio::time::timeout(LONGER, entra.look()).await.ok();
        let seen = Authority::new(&config.entra, looked, self.clock.now(), &self.raw.environment);
        let (token, claims) = federated_token::check(&config.entra.federated_token_file, &seen);
        let may_ask = seen.check.is_fine();
        let (assertion, registration) = tokio::join!(
            async { if may_ask && token.is_fine() { Some(entra.prove_identity().await) } else { None } },
            async { if may_ask { Some(entra.look_for_redirect_uri().await) } else { None } },
        );
        let blocker = if may_ask { federated_token::NAME } else { authority::NAME };
        let of_app = app_registration::App {
            config: &config.entra,
            claims,
            consent_url: entra.admin_consent_url(),
            redirect_uri: config.public_url.join("/callback"),
            clock_is_right: !seen.clock.is_fault(),
        };
        let [assertion, permission] = of_app.assertion(assertion, blocker);
        let redirect_uri = of_app.redirect_uri(registration, &assertion);
        let (now, knows_us) = (seen.now, assertion.is_fine());
        let checks = vec![token, seen.clock, seen.check, assertion, redirect_uri, permission];
        EntraSide { checks, entra: Some(entra), now, knows_us }
    }

    fn without_entra(&self, why: &str) -> EntraSide {
        let fault = Check::fault(authority::NAME, why, "correct ENTRADA_ENTRA_CA_FILE");
        let skipped = |name| Check::skipped(name, authority::NAME);
        let [token, clock, _, assertion, redirect_uri, permission, ..] = NAMES;
        let checks = vec![
            skipped(token),
            skipped(clock),
            fault,
            skipped(assertion),
            skipped(redirect_uri),
            skipped(permission),
        ];
        EntraSide { checks, entra: None, now: self.clock.now(), knows_us: false }
    }

    async fn store(&self, entra: Option<&Arc<Entra>>) -> Vec<Check> {
        let StoreConfig::Redis(redis) = &self.config.store else {
            return vec![Check::fine(
                store::NAME,
                "in memory: for one replica, and a restart signs everybody out",
            )];
        };
        let login = app::store_login(redis, entra);
        let examined = tokio::time::timeout(LONGER, store::check(redis, login)).await;
        examined.unwrap_or_else(|_| vec![too_slow(store::NAME, LONGER)])
    }
}

async fn within(name: &'static str, limit: Duration, check: impl Future<Output = Finding>) -> Check {
    match tokio::time::timeout(limit, check).await {
        Ok(finding) => Check { name, finding },
        Err(_) => too_slow(name, limit),
    }
}

fn too_slow(name: &'static str, limit: Duration) -> Check {
    let seen = format!("no answer within {} s", limit.as_secs());
    Check::fault(name, seen, "look at the network in between: NetworkPolicy, firewall, DNS")
}
