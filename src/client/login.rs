//! `entrada login`: signs in, keeps the token, and makes the kubeconfig entry that uses it.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use url::Url;

use super::api::{Api, Granted};
use super::browser::Browser;
use super::cache::{Cache, Known};
use super::kubeconfig::{Kubeconfig, Wanted};
use super::loopback::{Attempt, Brought, Loopback, Page};
use super::server::Server;
use super::talk::{self, Talk};
use super::{Exit, Failure, authority, device};
use crate::clock::Clock;

/// As long as the server waits.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);
const LONGEST_CLIENT_NAME: usize = 64;

/// What `entrada login` is asked for.
pub(crate) struct Login {
    pub(crate) server: String,
    /// By a code on another device.
    pub(crate) device: bool,
    /// The address is printed and not opened.
    pub(crate) no_browser: bool,
    /// The context's name, instead of the cluster's.
    pub(crate) context: Option<String>,
    /// Instead of the files that kubectl would take.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The authority of the server's certificate, in PEM, where the system does not know it.
    pub(crate) ca_file: Option<PathBuf>,
    /// Instead of five minutes.
    pub(crate) wait: Option<Duration>,
}

/// How the token is handed over.
pub(super) enum Way {
    Device,
    /// The browser is opened where there is one to open; its address is printed in any case.
    Loopback(Option<Browser>),
}

/// Signs in, and leaves a kubeconfig whose current context is the cluster.
pub(crate) fn login(login: Login) -> Result<(), Failure> {
    let (server, talk) = (Server::parse(&login.server)?, Talk::new());
    let ca = login.ca_file.as_deref().map(authority::from_file).transpose()?;
    let cache = Cache::of(&server)?;
    let kubeconfig = Kubeconfig::find(login.kubeconfig)?;
    // What would fail afterwards is better known before a person is bothered.
    kubeconfig.check()?;
    cache.can_keep().map_err(|error| not_kept(&cache, &error))?;
    let known = ca
        .or_else(|| cache.read().and_then(|known| known.authority))
        .or_else(|| kubeconfig.authority(&server));
    super::run(async {
        let api = Api::new(&server, known.as_deref())?;
        let timeout = login.wait.unwrap_or(TIMEOUT).min(TIMEOUT);
        let granted = match way(login.device, login.no_browser) {
            Way::Device => device::sign_in(&api, timeout, talk).await?,
            Way::Loopback(browser) => by_loopback(&api, &server, browser.as_ref(), timeout, talk).await?,
        };
        let mut token = Known::new(granted, Clock::system().now());
        token.authority = token.authority.or(known);
        let lock = cache.settled(talk).await;
        let kept = cache.write(&token);
        drop(lock);
        if let Err(error) = kept {
            // A token that nobody will use is not left behind.
            let _ends_by_itself = api.revoke(&token.token).await;
            return Err(not_kept(&cache, &error));
        }
        let wanted = Wanted {
            server: server.origin().to_owned(),
            host: server.host(),
            cluster_name: token.cluster_name.clone(),
            context: login.context,
            ca_data: token.authority.as_deref().map(authority::to_base64),
        };
        let context = kubeconfig.merge(&wanted, talk).await?;
        talk.say(format!(
            "Signed in to {} as {}. The current context is {context}.\nTry: kubectl get namespaces",
            talk.bold(&token.cluster_name),
            talk.bold(&token.username),
        ));
        Ok(())
    })
}

fn way(device: bool, no_browser: bool) -> Way {
    if device {
        return Way::Device;
    }
    match Browser::at_hand() {
        _ if no_browser => Way::Loopback(None),
        None => Way::Device,
        found => Way::Loopback(found),
    }
}

/// Signs in by a browser on this computer.
pub(super) async fn by_loopback(
    api: &Api,
    server: &Server,
    browser: Option<&Browser>,
    timeout: Duration,
    talk: Talk,
) -> Result<Granted, Failure> {
    let attempt = Attempt::new();
    let mut loopback = Loopback::open(attempt.state.clone()).await?;
    let address = authorize_url(server, &attempt, &loopback.redirect_uri);
    talk.say(format!("The browser must show this number: {}\n", talk.bold(&attempt.number())));
    match browser.map(|browser| browser.open(&address)) {
        Some(true) => {
            talk.say(format!("If no browser opens, open this address on this computer:\n\n    {address}\n"))
        }
        Some(false) => {
            talk.say(format!("No browser could be started. Open this address:\n\n    {address}\n"))
        }
        None => talk.say(format!("Open this address in a browser on this computer:\n\n    {address}\n")),
    }
    let countdown = Countdown { what: "Waiting for the browser", timeout, talk };
    let result = countdown.during(await_code(api, &attempt, &mut loopback, talk)).await;
    loopback.close().await;
    result.unwrap_or_else(|| {
        Err(too_late("Nobody answered in the browser")
            .with("Without a browser on this computer, use --device."))
    })
}

async fn await_code(
    api: &Api,
    attempt: &Attempt,
    loopback: &mut Loopback,
    talk: Talk,
) -> Result<Granted, Failure> {
    let redirect_uri = loopback.redirect_uri.clone();
    loop {
        let Some(visit) = loopback.visit().await else {
            return Err(Failure::failed("The port for the browser was closed."));
        };
        match &visit.brought {
            Brought::Denied => {
                visit.show(Page::Refused);
                return Err(Failure::new(Exit::Refused, "The request was refused in the browser."));
            }
            Brought::Error(said) => {
                let failure = Failure::failed(format!("The sign-in failed: {said}"));
                visit.show(Page::Failed);
                return Err(failure);
            }
            Brought::Code(code) => match api.redeem(code, &attempt.verifier, &redirect_uri).await {
                Ok(Some(granted)) => {
                    visit.show(Page::SignedIn);
                    return Ok(granted);
                }
                // Others on this computer may have read the address, and with it our state, from the list of processes.
                // They have no code for us, and cannot end the wait for the real one.
                Ok(None) => {
                    visit.show(Page::Failed);
                    talk.say("A code came that the server does not know. Still waiting for the right one.");
                }
                Err(failure) => {
                    visit.show(Page::Failed);
                    return Err(failure);
                }
            },
        }
    }
}

fn authorize_url(server: &Server, attempt: &Attempt, redirect_uri: &str) -> String {
    let parameters = [
        ("response_type", "code"),
        ("redirect_uri", redirect_uri),
        ("state", attempt.state.expose()),
        ("code_challenge", &attempt.challenge),
        ("code_challenge_method", "S256"),
        ("client_name", &client_name()),
    ];
    let address = Url::parse_with_params(&server.join("/cli/authorize"), parameters);
    address.map(String::from).unwrap_or_default()
}

/// How the page names this computer: `alice-laptop`.
pub(super) fn client_name() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_default();
    let host = gethostname::gethostname();
    let host = host.to_string_lossy();
    let name = if user.is_empty() { host.into_owned() } else { format!("{user}@{host}") };
    let name = talk::plain(&name, LONGEST_CLIENT_NAME);
    if name.is_empty() { "a computer".to_owned() } else { name }
}

/// A wait that shows how long it still lasts.
pub(super) struct Countdown {
    pub(super) what: &'static str,
    pub(super) timeout: Duration,
    pub(super) talk: Talk,
}

impl Countdown {
    /// Nothing, if `work` has not ended in time.
    pub(super) async fn during<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let clock = Clock::system();
        let began = clock.instant();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut work = pin!(work);
        loop {
            tokio::select! {
                result = &mut work => {
                    self.talk.clear();
                    return Some(result);
                }
                _ = ticks.tick() => {
                    let left = self.timeout.saturating_sub(clock.instant().duration_since(began));
                    if left.is_zero() {
                        self.talk.clear();
                        return None;
                    }
                    // Rounded, so that it begins with the whole time.
                    let seconds = left.as_millis().div_ceil(1_000);
                    self.talk.progress(&format!("{}… {}:{:02} left", self.what, seconds / 60, seconds % 60));
                }
            }
        }
    }
}

pub(super) fn too_late(what: &str) -> Failure {
    Failure::new(Exit::TooLate, format!("{what} in time. Try again."))
}

fn not_kept(cache: &Cache, error: &std::io::Error) -> Failure {
    Failure::failed(format!(
        "The token cannot be kept in {}: {error}. Make that directory writable, or name another one: \
         KUBECACHEDIR=/path/to/a/directory",
        cache.folder().display(),
    ))
}
