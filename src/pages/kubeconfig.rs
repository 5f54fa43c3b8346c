//! Kubeconfigs: with a fresh proxy token in it, or for the credential plugin and without a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use minijinja::{Value, context};

use super::{Pages, Visit, body};
use crate::audit::{Act, Outcome};
use crate::config::{PLUGIN, TOKEN};
use crate::http::body::Body;
use crate::identity::Identity;
use crate::problem::Problem;
use crate::view::protect;

impl Pages {
    /// `GET /kubeconfig`
    pub(super) async fn plugin_kubeconfig(&self, visit: &Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser(visit).await?;
        self.kubeconfig(&identity, PLUGIN, context! {})
    }

    /// `POST /kubeconfig`
    pub(super) async fn create_kubeconfig(&self, visit: Visit<'_>) -> Result<Response<Body>, Problem> {
        let identity = self.browser_within_rate(&visit).await?;
        let request =
            body::token_request(&visit.parts.headers, visit.body, self.settings.max_body_bytes).await?;
        let fresh = self.make_token(&identity, &request, "kubeconfig").await?;
        visit.record.tell_act(&Act::TokenMade(&fresh.id), &Outcome::of(200));
        let secret = context! { token => fresh.token, expires_at => fresh.expires_at };
        self.kubeconfig(&identity, TOKEN, secret)
    }

    /// Cluster and context are named after the cluster, and the user after both, so that files of two clusters merge.
    fn kubeconfig(&self, whose: &Identity, template: &str, more: Value) -> Result<Response<Body>, Problem> {
        let username = &whose.session().username;
        let cluster = &self.settings.cluster_name;
        let values = context! {
            cluster,
            public_url => self.view.public_url().origin(),
            ca_data => self.settings.public_ca_pem.as_ref().map(|pem| STANDARD.encode(pem)),
            user => format!("{username}@{cluster}"),
            username,
            namespace => (),
            ..more
        };
        let file = self.view.kubeconfig(template, values).map_err(|error| Problem::bad_template(&error))?;
        let mut response = Response::new(Body::from(file));
        protect(response.headers_mut());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        let disposition = format!("attachment; filename=\"{}\"", file_name(cluster));
        if let Ok(disposition) = HeaderValue::from_str(&disposition) {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        Ok(response)
    }
}

/// The downloaded file's name: the cluster's, in letters that any system takes.
pub(super) fn file_name(cluster: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let plain: String = cluster.chars().map(plain).collect();
    format!("{plain}.yaml")
}
