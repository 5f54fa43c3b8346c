//! HTML from templates, with security headers.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use minijinja::Environment;
use serde::Serialize;

use crate::config::PublicUrl;
use crate::http::body::Body;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Templates and the headers of our own pages.
#[derive(Debug)]
pub(crate) struct View {
    templates: Environment<'static>,
    public_url: PublicUrl,
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

impl View {
    /// `authority` is the origin of Entra's sign-in host, where a sign-out form may end.
    ///
    /// # Panics
    /// Never: the templates are part of the program, and a test renders each.
    #[must_use]
    pub(crate) fn new(public_url: PublicUrl, authority: &str) -> Self {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for (name, source) in [
            ("base.html", include_str!("pages/templates/base.html")),
            ("portal.html", include_str!("pages/templates/portal.html")),
            ("message.html", include_str!("pages/templates/message.html")),
            ("handover.html", include_str!("pages/templates/handover.html")),
            ("device.html", include_str!("pages/templates/device.html")),
            ("token.yaml", include_str!("../kubeconfig-templates/token.yaml")),
        ] {
            templates.add_template(name, source).expect("the templates in the program are well-formed");
        }
        // Proxied paths are 'self' too, so scripts and styles are named by their own path. Chromium holds redirects
        // after a form to `form-action` as well, and a sign-out form may lead on to Entra.
        let assets = public_url.join("/assets/");
        let policy = format!(
            "default-src 'none'; script-src {assets}; style-src {assets}; img-src {assets}; \
             form-action 'self' {authority}; frame-ancestors 'none'; base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).expect("a URL's origin is ASCII");
        Self { templates, public_url, policy }
    }

    /// The origin that users see.
    #[must_use]
    pub(crate) fn public_url(&self) -> &PublicUrl {
        &self.public_url
    }

    /// Renders a template as text.
    ///
    /// # Panics
    /// When the context lacks what the template needs, which the tests of each page would show.
    pub(crate) fn render(&self, template: &str, context: minijinja::Value) -> String {
        let rendered = self.templates.get_template(template).and_then(|template| template.render(context));
        rendered.expect("every page is given what its template needs")
    }

    /// An HTML page.
    pub(crate) fn page(
        &self,
        status: StatusCode,
        template: &str,
        context: minijinja::Value,
    ) -> Response<Body> {
        let mut response = Response::new(Body::from(self.render(template, context)));
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
