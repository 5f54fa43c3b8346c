//! HTML from templates, with security headers.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use minijinja::Environment;
use serde::Serialize;

use crate::clock::{ago_in_words, in_words, until};
use crate::config::{KubeconfigTemplates, PLUGIN, PublicUrl, TOKEN};
use crate::http::body::Body;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Templates and the headers of our own pages.
#[derive(Debug)]
pub(crate) struct View {
    templates: Environment<'static>,
    public_url: PublicUrl,
    /// For pages on the host of a mounted dashboard.
    mount: Option<PublicUrl>,
    policy: HeaderValue,
}

/// A page that says one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    /// Heading.
    pub(crate) title: &'a str,
    /// What happened and what to do.
    pub(crate) sentence: &'a str,
    /// Facts for support, as label and value.
    pub(crate) details: &'a [(&'a str, String)],
    /// Where to go next.
    pub(crate) action: Action,
}

/// A link that looks like a button.
#[derive(Debug, Serialize)]
pub(crate) struct Action {
    /// Its text.
    pub(crate) label: &'static str,
    /// Its address.
    pub(crate) href: String,
}

/// A point in time as pages show it: how far from now, and exactly.
#[derive(Debug, Serialize)]
pub(crate) struct Moment {
    /// RFC 3339 in UTC, for programs.
    iso: String,
    /// `in 7 days`, `2 hours ago`
    words: String,
    /// `4 Dec 2026, 07:02 UTC`
    exact: String,
}

impl Moment {
    /// `at`, seen from `now`.
    #[must_use]
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            words: if at > now { in_words(until(now, at)) } else { ago_in_words(until(at, now)) },
            exact: at.strftime("%-d %b %Y, %H:%M UTC").to_string(),
        }
    }
}

impl View {
    /// `authority` is the origin of Entra's sign-in host, where a sign-out form may end.
    ///
    /// # Panics
    /// Never: the pages are part of the program, and the settings were checked.
    #[must_use]
    pub(crate) fn new(public_url: PublicUrl, authority: &str, kubeconfigs: &KubeconfigTemplates) -> Self {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for (name, source) in [
            ("base.html", include_str!("pages/templates/base.html")),
            ("portal.html", include_str!("pages/templates/portal.html")),
            ("mount.html", include_str!("pages/templates/mount.html")),
            ("message.html", include_str!("pages/templates/message.html")),
            ("handover.html", include_str!("pages/templates/handover.html")),
            ("device.html", include_str!("pages/templates/device.html")),
        ] {
            templates.add_template(name, source).expect("the templates in the program are well-formed");
        }
        for (name, source) in [(TOKEN, &kubeconfigs.token), (PLUGIN, &kubeconfigs.plugin)] {
            let added = templates.add_template_owned(name, source.clone());
            added.expect("these templates were tried out at the start");
        }
        // Proxied paths are 'self' too, so scripts and styles are named by their own path, and the one path that a script
        // of ours calls. Chromium holds redirects after a form to `form-action` as well, and a sign-out form may lead on
        // to Entra.
        let (assets, kubeconfig) = (public_url.join("/assets/"), public_url.join("/kubeconfig"));
        let policy = format!(
            "default-src 'none'; script-src {assets}; style-src {assets}; img-src {assets}; connect-src {kubeconfig}; \
             form-action 'self' {authority}; frame-ancestors 'none'; base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).expect("a URL's origin is ASCII");
        templates.add_global("assets", safe("/assets"));
        templates.add_global("home", safe("/"));
        Self { templates, public_url, mount: None, policy }
    }

    /// The same pages on the host of a mounted dashboard, where all paths but `/.entrada/…` are the dashboard's.
    ///
    /// # Panics
    /// Never: an origin is ASCII.
    #[must_use]
    pub(crate) fn at_mount(&self, mount: PublicUrl) -> Self {
        let mut templates = self.templates.clone();
        templates.add_global("assets", safe("/.entrada/assets"));
        templates.add_global("home", safe(self.public_url.join("/")));
        let assets = mount.join("/.entrada/assets/");
        let policy = format!(
            "default-src 'none'; style-src {assets}; img-src {assets}; form-action 'none'; frame-ancestors 'none'; \
             base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).expect("a URL's origin is ASCII");
        Self { templates, public_url: self.public_url.clone(), mount: Some(mount), policy }
    }

    /// The portal, as a link on this host's pages.
    #[must_use]
    pub(crate) fn home(&self) -> String {
        if self.mount.is_some() { self.public_url.join("/") } else { "/".to_owned() }
    }

    /// Where to sign in, for a client that reads no pages.
    #[must_use]
    pub(crate) fn login(&self) -> String {
        self.mount.as_ref().map_or_else(|| self.public_url.join("/login"), |mount| mount.join("/"))
    }

    /// Whether its pages are on the host of a mounted dashboard, each path of which leads to the sign-in by itself.
    #[must_use]
    pub(crate) fn is_at_mount(&self) -> bool {
        self.mount.is_some()
    }

    /// The origin that users see.
    #[must_use]
    pub(crate) fn public_url(&self) -> &PublicUrl {
        &self.public_url
    }

    /// A kubeconfig from one of its templates, [`TOKEN`] or [`PLUGIN`].
    ///
    /// # Errors
    /// When an administrator's template stumbles over these values, although it took the sample's.
    pub(crate) fn kubeconfig(
        &self,
        template: &str,
        context: minijinja::Value,
    ) -> Result<String, minijinja::Error> {
        self.templates.get_template(template)?.render(context)
    }

    /// An HTML page.
    ///
    /// # Panics
    /// When the context lacks what the template needs, which the tests of each page would show.
    pub(crate) fn page(
        &self,
        status: StatusCode,
        template: &str,
        context: minijinja::Value,
    ) -> Response<Body> {
        let rendered = self.templates.get_template(template).and_then(|template| template.render(context));
        let rendered = rendered.expect("every page is given what its template needs");
        let mut response = Response::new(Body::from(rendered));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers
            .insert(PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=()"));
        protect(headers);
        response
    }

    /// A page that says one thing.
    pub(crate) fn message(&self, status: StatusCode, message: &Message<'_>) -> Response<Body> {
        self.page(status, "message.html", minijinja::value::Serde(message).into())
    }
}

/// An address of ours: it needs no escaping.
fn safe(address: impl Into<String>) -> minijinja::Value {
    minijinja::Value::from_safe_string(address.into())
}

/// Headers of our own answers, except the two that are written without them: the answer to a panic, and the 408 of a
/// slow head.
pub(crate) fn protect(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // `no-referrer` would make our own forms say `Origin: null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}
