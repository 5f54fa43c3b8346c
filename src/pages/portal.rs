//! The portal: the cluster and whether it answers, who you are to it, for how long, your tokens and browsers.

use std::time::Duration;

use http::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use super::cluster::Seen;
use super::kubeconfig::file_name;
use super::tokens::{Fresh, host};
use super::{Pages, Visit};
use crate::clock::length_in_words;
use crate::entra::Class;
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::Problem;
use crate::session::{CredentialKind, Session};
use crate::view::{Action, Message, Moment};

/// Rows that the portal shows of a list before "Show all"; and groups, all of which kubectl lists. They keep a page below
/// 50 KB.
const FIRST_ROWS: usize = 8;
const MAX_GROUPS: usize = 60;

/// Whether the user can use the cluster: in a word, and in a sentence.
#[derive(Serialize)]
struct Access {
    state: &'static str,
    word: &'static str,
    sentence: String,
    href: Option<&'static str>,
    label: Option<&'static str>,
}

/// Who the user is to the cluster.
#[derive(Serialize)]
struct Subject {
    username: String,
    groups: Vec<String>,
    more_groups: usize,
}

/// A link to a dashboard.
#[derive(Serialize)]
struct Dashboard<'a> {
    host: &'a str,
    href: &'a str,
}

impl Pages {
    /// `GET /`
    pub(super) async fn portal(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        match self.browser(visit).await {
            Ok(identity) => self.portal_page(&identity, visit, None).await,
            Err(problem) if visit.query().starts_with("signed-out") && problem.asks_to_sign_in() => {
                Ok(self.signed_out_page(visit.query() == "signed-out=everywhere"))
            }
            Err(problem) => Err(problem),
        }
    }

    pub(super) async fn portal_page(
        &self,
        identity: &Identity,
        visit: &Visit<'_>,
        fresh: Option<Fresh>,
    ) -> Result<Response<Body>, Problem> {
        let session = identity.session();
        // So that a use of a moment ago is shown, too.
        self.uses.flush().await?;
        let (seen, tokens, browsers) = tokio::try_join!(
            self.seen_by_cluster(visit),
            self.listed(identity, CredentialKind::Token),
            self.browsers(identity),
        )?;
        let shown = if visit.query() == "all" { usize::MAX } else { FIRST_ROWS };
        let now = self.clock.now();
        let page = context! {
            cluster => self.settings.cluster_name.as_str(),
            file_name => file_name(&self.settings.cluster_name),
            public_url => self.view.public_url().origin(),
            user => context! {
                name => session.name.as_str(),
                username => session.username.as_str(),
                oid => &*session.user.oid,
                tid => &*session.user.tid,
            },
            session => Serde(Moment::new(session.expires_at, now)),
            access => Serde(self.access(session, &seen)),
            subject => Serde(subject(seen)),
            dormant => tokens.iter().filter(|token| token.is_dormant()).count(),
            tokens_in_all => tokens.len(),
            tokens => Serde(newest(tokens, shown)),
            browsers_in_all => browsers.len(),
            browsers => Serde(newest(browsers, shown)),
            dashboards => Serde(self.dashboards()),
            fresh_ends => fresh.as_ref().map(|fresh| Serde(Moment::new(fresh.ends, now))),
            fresh => Serde(fresh),
            rearm => self.settings.rearm,
            lifetimes => lifetimes(self.settings.lifetimes.token.as_secs()),
        };
        Ok(self.view.page(StatusCode::OK, "portal.html", page))
    }

    fn dashboards(&self) -> Vec<Dashboard<'_>> {
        let urls = self.mounts.iter().map(|mount| mount.url());
        urls.map(|url| Dashboard { host: host(url.origin()), href: url.origin() }).collect()
    }

    fn access(&self, session: &Session, seen: &Seen) -> Access {
        if let Some(fault) = self.broker.last_fault(session) {
            let (state, href, label) = match fault.class {
                Class::Transient => ("unknown", None, None),
                Class::StepUp => ("blocked", Some("/login"), Some("Continue")),
                _ => ("blocked", Some("/login"), Some("Try again")),
            };
            let code = fault.code.map_or_else(String::new, |code| format!("AADSTS{code}, "));
            let sentence = format!("{} ({code}correlation id {})", fault.sentence, fault.correlation_id);
            return Access { state, word: "No access", sentence, href, label };
        }
        let (state, word, sentence) = match seen {
            Seen::As(_) | Seen::Silent => ("ready", "Reachable", "You can use this cluster."),
            Seen::Away => ("away", "Not reachable", "The cluster does not answer right now."),
            Seen::NotAsked => ("unknown", "Not known", "The cluster could not be asked right now."),
            Seen::Refused => ("blocked", "No access", "The cluster does not accept your sign-in."),
        };
        let is_refused = matches!(seen, Seen::Refused);
        let (href, label) = (is_refused.then_some("/login"), is_refused.then_some("Sign in again"));
        Access { state, word, sentence: sentence.to_owned(), href, label }
    }

    fn signed_out_page(&self, everywhere: bool) -> Response<Body> {
        let sentence = if everywhere {
            "All your browsers are signed out, and all your tokens have ended."
        } else {
            "This browser is signed out. Its tokens are dormant until you sign in and arm them again."
        };
        let action = Action { label: "Sign in again", href: "/login".to_owned() };
        let message = Message { title: "You are signed out", sentence, details: &[], action };
        self.view.message(StatusCode::OK, &message)
    }
}

/// `None` where the cluster did not say.
fn subject(seen: Seen) -> Option<Subject> {
    let Seen::As(user) = seen else { return None };
    let mut groups = user.groups;
    groups.sort_unstable();
    let more_groups = groups.len().saturating_sub(MAX_GROUPS);
    groups.truncate(MAX_GROUPS);
    Some(Subject { username: user.username, groups, more_groups })
}

/// Those made last, newest first.
fn newest<T>(mut oldest_first: Vec<T>, count: usize) -> Vec<T> {
    oldest_first.reverse();
    oldest_first.truncate(count);
    oldest_first
}

/// What a form offers, longest last: in seconds and in words.
fn lifetimes(max_seconds: u64) -> Vec<(u64, String)> {
    let shorter = [43_200, 7 * 86_400, 30 * 86_400].into_iter().filter(|seconds| *seconds < max_seconds);
    let offered = shorter.chain([max_seconds]);
    offered.map(|seconds| (seconds, length_in_words(Duration::from_secs(seconds)))).collect()
}
