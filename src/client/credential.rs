//! `entrada credential`: the token for kubectl. From the cache where there is a good one, else renewed, else by a new
//! sign-in where a person can see a browser.

use std::time::Duration;

use super::api::{Api, Checked, Renewed};
use super::browser::Browser;
use super::cache::{Cache, Known, Lock, Locking};
use super::exec::Asked;
use super::handed::Handed;
use super::kubeconfig::Kubeconfig;
use super::login::by_loopback;
use super::server::Server;
use super::talk::Talk;
use super::{Exit, Failure};
use crate::clock::Clock;

const TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Another process renews, or its user signs in: where a person waits, as long as that may take.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_OF_A_PERSON: Duration = Duration::from_secs(5 * 60 + 30);

/// Everything that one call works with.
struct Call<'a> {
    server: &'a Server,
    cache: &'a Cache,
    handed: &'a Handed,
    clock: Clock,
    talk: Talk,
    browser: Option<Browser>,
}

/// Answers kubectl on standard output.
pub(crate) fn credential(server: &str) -> Result<(), Failure> {
    let server = Server::parse(server)?;
    let asked = Asked::read()?;
    let cache = Cache::of(&server)?;
    let (handed, clock) = (Handed::read(&cache), Clock::system());
    let known = match cache.read() {
        Some(known) if is_good(&known, &handed, &clock) => known,
        known => {
            let talk = Talk::new();
            let browser = if asked.interactive && talk.is_terminal() { Browser::at_hand() } else { None };
            let call =
                Call { server: &server, cache: &cache, handed: &handed, clock: clock.clone(), talk, browser };
            call.obtain(known)?
        }
    };
    asked.answer(&known.token, known.told_end(clock.now()))?;
    handed.note(&known.id, &cache);
    Ok(())
}

/// May be given without a question to the server.
fn is_good(known: &Known, handed: &Handed, clock: &Clock) -> bool {
    let now = clock.now();
    known.is_valid(now) && !known.wants_renewal(now) && !known.refused && !handed.was_given(&known.id)
}

impl Call<'_> {
    fn obtain(&self, known: Option<Known>) -> Result<Known, Failure> {
        let usable = |known: &Known| known.is_valid(self.clock.now()) && !known.refused;
        let lock = match self.cache.lock_now() {
            Locking::Busy => match known {
                // Another process is renewing it: this one still works.
                Some(known) if usable(&known) && !self.handed.was_given(&known.id) => return Ok(known),
                _ => self.wait()?,
            },
            Locking::Held(lock) => Some(lock),
            // Without a directory to write in, each process is on its own.
            Locking::Impossible(_) => None,
        };
        // Another process may have brought a new one meanwhile.
        let known = self.cache.read();
        if let Some(known) = known {
            if is_good(&known, self.handed, &self.clock) {
                return Ok(known);
            }
            return super::run(self.refresh_or_sign_in(Some(known), lock));
        }
        super::run(self.refresh_or_sign_in(None, lock))
    }

    fn wait(&self) -> Result<Option<Lock>, Failure> {
        let patience = if self.browser.is_some() { PATIENCE_OF_A_PERSON } else { PATIENCE };
        if self.browser.is_some() {
            self.talk.say("Another process is signing in. Waiting for it.");
        }
        match self.cache.lock_within(patience) {
            Locking::Held(lock) => Ok(Some(lock)),
            Locking::Impossible(_) => Ok(None),
            Locking::Busy => Err(self.sign_in_needed("Another process is still signing in.")),
        }
    }

    async fn refresh_or_sign_in(&self, known: Option<Known>, _lock: Option<Lock>) -> Result<Known, Failure> {
        let authority = known.as_ref().and_then(|known| known.authority.clone());
        let authority = authority.or_else(|| Kubeconfig::find(None).ok()?.authority(self.server));
        let api = Api::new(self.server, authority.as_deref())?;
        let mut why = "You are not signed in.".to_owned();
        let was_refused = known.as_ref().is_some_and(|known| self.handed.was_given(&known.id));
        if let Some(known) = known {
            if known.is_valid(self.clock.now()) {
                match self.refresh(&api, known).await {
                    Ok(good) => return Ok(good),
                    Err(said) => why = said.unwrap_or_else(|| "Your sign-in has ended.".to_owned()),
                }
            } else {
                "Your sign-in has expired.".clone_into(&mut why);
            }
        }
        let browser = self.browser.as_ref().filter(|_| !self.handed.has_failed(self.clock.now()));
        let Some(browser) = browser else { return Err(self.sign_in_needed(&why)) };
        self.talk.say(&why);
        let granted = by_loopback(&api, self.server, Some(browser), TIMEOUT, self.talk).await;
        let granted = granted.inspect_err(|_| self.handed.note_failure(self.clock.now(), self.cache))?;
        let mut fresh = Known::new(granted, self.clock.now());
        fresh.authority = fresh.authority.or(authority);
        self.talk.say(format!("Signed in as {}.", self.talk.bold(&fresh.username)));
        if was_refused {
            // kubectl brings the next request with the new token, but does not repeat the one that was refused.
            self.talk.say("If kubectl still says that you must be logged in, run the same command again.");
        }
        self.keep(&fresh);
        Ok(fresh)
    }

    /// Asks the server about a token that may have been refused, and for a new one where this one ends soon. An error
    /// is the server's reason why its user has to sign in.
    async fn refresh(&self, api: &Api, mut known: Known) -> Result<Known, Option<String>> {
        if known.refused || self.handed.was_given(&known.id) {
            match api.check(&known.token).await {
                Checked::Good if known.refused => {
                    known.refused = false;
                    self.keep(&known);
                }
                // kubectl will say that the server cannot be reached.
                Checked::Good | Checked::Unknown => {}
                Checked::Refused(said) => return Err(self.mark_refused(known, said)),
            }
        }
        if !known.wants_renewal(self.clock.now()) {
            return Ok(known);
        }
        match api.renew(&known.token).await {
            Renewed::Fresh(granted) => {
                let mut fresh = Known::new(granted, self.clock.now());
                fresh.authority = fresh.authority.or(known.authority);
                self.keep(&fresh);
                Ok(fresh)
            }
            Renewed::Refused(said) => Err(self.mark_refused(known, said)),
            Renewed::Unknown => {
                known.renewal_tried_at = Some(self.clock.now());
                self.keep(&known);
                Ok(known)
            }
        }
    }

    /// It stays in the cache: its user may arm it on the portal, and then it works again.
    fn mark_refused(&self, mut known: Known, said: Option<String>) -> Option<String> {
        if !known.refused {
            known.refused = true;
            self.keep(&known);
        }
        said
    }

    fn keep(&self, known: &Known) {
        if let Err(error) = self.cache.write(known) {
            let folder = self.cache.folder().display();
            self.talk
                .say(format!("The token cannot be kept in {folder} ({error}): you will be asked again."));
        }
    }

    fn sign_in_needed(&self, why: &str) -> Failure {
        Failure::new(Exit::SignInNeeded, format!("{why} Run: entrada login {}", self.server.origin()))
    }
}
