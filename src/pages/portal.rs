//! The portal: who you are, how long, what stands in the way, your tokens.

use http::{Response, StatusCode};
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use super::kubeconfig::file_name;
use super::sessions::whole;
use super::tokens::Fresh;
use super::{Pages, Visit};
use crate::clock::{in_words, until};
use crate::entra::Class;
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::Problem;
use crate::session::Session;

/// Whether the user can use the cluster, in a sentence.
#[derive(Serialize)]
struct Access {
    state: &'static str,
    sentence: String,
    href: Option<&'static str>,
    label: Option<&'static str>,
}

impl Pages {
    /// `GET /`
    pub(super) async fn portal(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.portal_page(&identity, None).await
    }

    pub(super) async fn portal_page(
        &self,
        identity: &Identity,
        fresh: Option<Fresh>,
    ) -> Result<Response<Body>, Problem> {
        let session = identity.session();
        let tokens = self.listed(identity, true).await?;
        let now = self.clock.now();
        let page = context! {
            cluster => self.settings.cluster_name.as_str(),
            file_name => file_name(&self.settings.cluster_name),
            public_url => self.view.public_url().origin(),
            user => context! {
                name => session.name.as_str(),
                username => session.username.as_str(),
                oid => &*session.user.oid,
            },
            session => context! {
                expires_at => whole(session.expires_at),
                expires_in => in_words(until(now, session.expires_at)),
            },
            access => Serde(self.access(session)),
            tokens => Serde(tokens),
            fresh => Serde(fresh),
            rearm => self.settings.rearm,
            max_lifetime_days => self.settings.lifetimes.token.as_secs() / 86_400,
        };
        Ok(self.view.page(StatusCode::OK, "portal.html", page))
    }

    fn access(&self, session: &Session) -> Access {
        let Some(fault) = self.broker.last_fault(session) else {
            let sentence = "You can use this cluster.".to_owned();
            return Access { state: "ready", sentence, href: None, label: None };
        };
        let (state, href, label) = match fault.class {
            Class::Transient => ("unknown", None, None),
            Class::StepUp => ("blocked", Some("/login"), Some("Continue")),
            _ => ("blocked", Some("/login"), Some("Try again")),
        };
        let code = fault.code.map_or_else(String::new, |code| format!("AADSTS{code}, "));
        let sentence = format!("{} ({code}correlation id {})", fault.sentence, fault.correlation_id);
        Access { state, sentence, href, label }
    }
}
