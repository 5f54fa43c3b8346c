//! The table of public paths, and what can be known of a Kubernetes request from its head alone. Pure.

mod reading;

use http::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use http::request::Parts;
use http::{Method, Uri};

use crate::http::headers::{is_upgrade, list, trim};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// One of our own pages.
    Page(Page),
    /// A path of ours, but not with this method; holds the methods that are.
    WrongMethod(String),
    /// Everything else: the API server, as it came.
    Kubernetes(Facts),
}

/// Our own pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// `GET /`
    Portal,
    /// `GET /login`
    Login,
    /// `GET /callback`
    Callback,
    /// `POST /logout`
    Logout,
    /// `POST /logout/everywhere`
    LogoutEverywhere,
    /// `GET /logout/frontchannel`
    FrontChannelLogout,
    /// `GET /whoami`
    Whoami,
    /// `POST /refresh`
    Refresh,
    /// `GET /tokens`
    ListTokens,
    /// `POST /tokens`
    CreateToken,
    /// `POST /tokens/arm`
    ArmTokens,
    /// `DELETE /tokens/{id}`, and `POST` of a form that says so
    RevokeToken(String),
    /// `GET /kubeconfig`
    PluginKubeconfig,
    /// `POST /kubeconfig`
    CreateKubeconfig,
    /// `GET /assets/…`
    Asset(String),
    /// `/device…` and `/cli/…`: in the contract, not there yet
    NotBuilt,
}

/// What a Kubernetes request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How long its answer may take and live.
    pub shape: Shape,
    /// A path that a pod or node answers instead of the API server.
    pub is_proxy: bool,
    /// The path means the same to every reader: nothing encoded or doubled that changes its segments.
    pub one_reading: bool,
}

/// The three ways to treat an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Ends by itself.
    Plain,
    /// A watch: its end is an everyday event for the client.
    Watch,
    /// `logs -f` and whatever a pod streams: its end must look like a break.
    Follow,
    /// Leaves HTTP: exec, attach, port-forward.
    Upgrade,
}

/// Fixed paths of ours with the methods that they have. `HEAD` counts as `GET`.
const TABLE: &[(&str, &[(Method, Page)])] = &[
    ("/login", &[(Method::GET, Page::Login)]),
    ("/callback", &[(Method::GET, Page::Callback)]),
    ("/logout", &[(Method::POST, Page::Logout)]),
    ("/logout/everywhere", &[(Method::POST, Page::LogoutEverywhere)]),
    ("/logout/frontchannel", &[(Method::GET, Page::FrontChannelLogout)]),
    ("/whoami", &[(Method::GET, Page::Whoami)]),
    ("/refresh", &[(Method::POST, Page::Refresh)]),
    ("/tokens", &[(Method::GET, Page::ListTokens), (Method::POST, Page::CreateToken)]),
    ("/tokens/arm", &[(Method::POST, Page::ArmTokens)]),
    ("/kubeconfig", &[(Method::GET, Page::PluginKubeconfig), (Method::POST, Page::CreateKubeconfig)]),
];

/// Every fixed path of ours with its methods, for the test that drives them all.
pub fn fixed_paths() -> impl Iterator<Item = (&'static str, &'static Method)> {
    TABLE.iter().flat_map(|(path, methods)| methods.iter().map(move |(method, _)| (*path, method)))
}

/// Finds a request's route.
#[must_use]
pub fn route(parts: &Parts) -> Route {
    let path = parts.uri.path();
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    if path == "/" {
        let portal = *method == Method::GET && wants_page(&parts.headers) && !bears(&parts.headers);
        return if portal { Route::Page(Page::Portal) } else { Route::Kubernetes(facts(parts)) };
    }
    if let Some((_, methods)) = TABLE.iter().find(|(own, _)| *own == path) {
        let page = methods.iter().find(|(own, _)| own == method);
        return page.map_or_else(|| wrong_method(methods), |(_, page)| Route::Page(page.clone()));
    }
    if let Some(id) = path.strip_prefix("/tokens/").filter(|id| is_id(id)) {
        let revokes = *method == Method::DELETE || *method == Method::POST;
        let page = Route::Page(Page::RevokeToken(id.to_owned()));
        return if revokes { page } else { Route::WrongMethod("DELETE".to_owned()) };
    }
    if let Some(name) = path.strip_prefix("/assets/") {
        let page = Route::Page(Page::Asset(name.to_owned()));
        return if *method == Method::GET { page } else { Route::WrongMethod("GET".to_owned()) };
    }
    if path == "/device" || path.starts_with("/device/") || path.starts_with("/cli/") {
        return Route::Page(Page::NotBuilt);
    }
    Route::Kubernetes(facts(parts))
}

/// Whether this is a browser that navigates: it can be sent elsewhere and shows a page. A script never is.
#[must_use]
pub fn is_navigation(parts: &Parts) -> bool {
    let gets = parts.method == Method::GET || parts.method == Method::HEAD;
    let mode = parts.headers.get("sec-fetch-mode");
    gets && wants_page(&parts.headers) && mode.is_none_or(|mode| mode == "navigate")
}

/// Whether the client would rather read a page than JSON.
#[must_use]
pub fn wants_page(headers: &HeaderMap) -> bool {
    let scripted = headers.contains_key("x-requested-with");
    let accept = list(headers, &ACCEPT);
    !scripted
        && accept
            .map(|entry| trim(entry.split(|byte| *byte == b';').next().unwrap_or_default()))
            .any(|kind| kind.eq_ignore_ascii_case(b"text/html"))
}

fn bears(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

fn wrong_method(methods: &[(Method, Page)]) -> Route {
    let allowed: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
    Route::WrongMethod(allowed.join(", "))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn facts(parts: &Parts) -> Facts {
    let reading = reading::read(parts.uri.path());
    let shape = if is_upgrade(parts.version, &parts.headers) {
        Shape::Upgrade
    } else if reading.is_watch || asks(&parts.uri, "watch") {
        Shape::Watch
    } else if reading.is_proxy || reading.is_log && asks(&parts.uri, "follow") {
        Shape::Follow
    } else {
        Shape::Plain
    };
    Facts { shape, is_proxy: reading.is_proxy, one_reading: reading.is_one }
}

/// Whether a boolean query parameter is set, as the API server reads it: anything but `false` and `0`.
fn asks(uri: &Uri, name: &str) -> bool {
    let Some(query) = uri.query() else { return false };
    let value = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    value.is_some_and(|(_, value)| !value.eq_ignore_ascii_case("false") && value != "0")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn routed(method: &str, uri: &str, headers: &[(&str, &str)]) -> Route {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        route(&request.body(()).unwrap().into_parts().0)
    }

    fn shape(uri: &str) -> Shape {
        match routed("GET", uri, &[]) {
            Route::Kubernetes(facts) => facts.shape,
            other => panic!("{uri} went to {other:?}"),
        }
    }

    /// `/` is the portal for a browser without a bearer, and the API server's for everyone else.
    #[test]
    fn the_root_is_shared() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9");
        assert_eq!(routed("GET", "/", &[html]), Route::Page(Page::Portal));
        assert!(matches!(routed("GET", "/", &[]), Route::Kubernetes(_)));
        assert!(matches!(routed("GET", "/", &[html, ("authorization", "Bearer x")]), Route::Kubernetes(_)));
        assert!(matches!(routed("POST", "/", &[html]), Route::Kubernetes(_)));
    }

    /// Paths that merely look like ours go upstream as they came.
    #[test]
    fn only_exact_paths_are_ours() {
        for path in
            ["/Login", "/login/", "/%6cogin", "//login", "/tokens/", "/tokens/a/b", "/devices", "/asset"]
        {
            assert!(matches!(routed("GET", path, &[]), Route::Kubernetes(_)), "{path}");
        }
    }

    /// A wrong method on a path of ours is said to be one.
    #[test]
    fn wrong_methods_are_told_the_right_ones() {
        assert_eq!(routed("PUT", "/tokens", &[]), Route::WrongMethod("GET, POST".to_owned()));
        assert_eq!(routed("HEAD", "/whoami", &[]), Route::Page(Page::Whoami));
    }

    /// Streams are known by what the API server takes for one.
    #[test]
    fn streams_are_recognised() {
        assert_eq!(shape("/api/v1/pods?watch=true"), Shape::Watch);
        assert_eq!(shape("/api/v1/pods?limit=1&watch=1"), Shape::Watch);
        assert_eq!(shape("/api/v1/pods?watch"), Shape::Watch);
        assert_eq!(shape("/api/v1/pods?w%61tch=true"), Shape::Watch);
        assert_eq!(shape("/api/v1/pods?watch=FALSE"), Shape::Plain);
        assert_eq!(shape("/api/v1/watch/pods"), Shape::Watch);
        assert_eq!(shape("/api/v1/namespaces/a/pods/web/log?follow=true"), Shape::Follow);
        assert_eq!(shape("/api/v1/namespaces/a/pods/web/log"), Shape::Plain);
        assert_eq!(shape("/api/v1/namespaces/a/services/web/proxy/events"), Shape::Follow);
        let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let Route::Kubernetes(facts) = routed("POST", "/api/v1/namespaces/a/pods/web/exec", &upgrade) else {
            panic!("exec is the API server's")
        };
        assert_eq!(facts.shape, Shape::Upgrade);
    }

    /// A script's request is no navigation, even when it would take HTML.
    #[test]
    fn scripts_do_not_navigate() {
        let parts = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(()).unwrap().into_parts().0
        };
        assert!(is_navigation(&parts(&[("accept", "text/html")])));
        assert!(is_navigation(&parts(&[("accept", "text/html"), ("sec-fetch-mode", "navigate")])));
        assert!(!is_navigation(&parts(&[("accept", "text/html"), ("sec-fetch-mode", "cors")])));
        assert!(!is_navigation(&parts(&[("accept", "application/json, */*")])));
    }
}
