//! The table of public paths, and what can be known of a Kubernetes request from its head alone. Pure.

mod facts;
mod hosts;
mod reading;

use std::sync::Arc;

use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use http::request::Parts;

pub(crate) use self::facts::{Facts, Shape, method_name};
pub(crate) use self::hosts::{AtMount, Hosts, MountPath};
use crate::http::cors::preflighted;
use crate::http::headers::{list, trim};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// One of our own pages.
    Page(Page),
    /// A path of ours, but not with this method; holds the methods that are.
    WrongMethod(String),
    /// A configured origin's question whether its page may make a request.
    Preflight,
    /// On the host of a mounted dashboard.
    Mount(AtMount),
    /// It names two hosts, one of them a mounted dashboard's.
    TwoHosts,
    /// Everything else: the API server, as it came.
    Kubernetes(Arc<Facts>),
}

impl Route {
    /// Whether pages of configured origins may use what lies there, and read its answers.
    #[must_use]
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Kubernetes(_) | Self::Preflight => true,
            Self::Page(page) => page.is_shared(),
            Self::WrongMethod(_) | Self::Mount(_) | Self::TwoHosts => false,
        }
    }
}

/// Our own pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
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
    /// `GET /cli/authorize`
    AskBrowser,
    /// `POST /cli/authorize`
    AnswerBrowser,
    /// `POST /cli/token`
    RedeemCode,
    /// `POST /cli/renew`
    RenewToken,
    /// `POST /cli/revoke`
    RevokePresented,
    /// `GET /device`
    EnterCode,
    /// `POST /device`
    AskDevice,
    /// `POST /device/answer`
    AnswerDevice,
    /// `POST /device/code`
    DeviceCode,
    /// `POST /device/token`
    DeviceToken,
    /// Other paths below `/device/` and `/cli/`
    Reserved,
}

impl Page {
    /// Whether pages of configured origins may use it: what tells who is signed in, renews access, and signs out. Not what
    /// makes, lists or ends tokens, or ends other sessions: that outlives the page, and only our own pages ask for it.
    #[must_use]
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Whoami | Self::Refresh | Self::Logout)
    }

    /// Its name in metrics.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Login => "login",
            Self::Callback => "callback",
            Self::Logout => "logout",
            Self::LogoutEverywhere => "logout_everywhere",
            Self::FrontChannelLogout => "logout_frontchannel",
            Self::Whoami => "whoami",
            Self::Refresh => "refresh",
            Self::ListTokens | Self::CreateToken | Self::RevokeToken(_) => "tokens",
            Self::ArmTokens => "tokens_arm",
            Self::PluginKubeconfig | Self::CreateKubeconfig => "kubeconfig",
            Self::Asset(_) => "assets",
            Self::AskBrowser | Self::AnswerBrowser => "cli_authorize",
            Self::RedeemCode => "cli_token",
            Self::RenewToken => "cli_renew",
            Self::RevokePresented => "cli_revoke",
            Self::EnterCode | Self::AskDevice => "device",
            Self::AnswerDevice => "device_answer",
            Self::DeviceCode => "device_code",
            Self::DeviceToken => "device_token",
            Self::Reserved => "reserved",
        }
    }

    /// The pattern of its path, for traces.
    #[must_use]
    pub(crate) fn pattern(&self) -> Option<&'static str> {
        match self {
            Self::Portal => Some("/"),
            Self::RevokeToken(_) => Some("/tokens/{id}"),
            Self::Asset(_) => Some("/assets/{name}"),
            Self::Reserved => None,
            fixed => {
                let is_it = |(_, page): &(Method, Self)| page == fixed;
                TABLE.iter().find(|(_, methods)| methods.iter().any(is_it)).map(|(path, _)| *path)
            }
        }
    }
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
    ("/cli/authorize", &[(Method::GET, Page::AskBrowser), (Method::POST, Page::AnswerBrowser)]),
    ("/cli/token", &[(Method::POST, Page::RedeemCode)]),
    ("/cli/renew", &[(Method::POST, Page::RenewToken)]),
    ("/cli/revoke", &[(Method::POST, Page::RevokePresented)]),
    ("/device", &[(Method::GET, Page::EnterCode), (Method::POST, Page::AskDevice)]),
    ("/device/answer", &[(Method::POST, Page::AnswerDevice)]),
    ("/device/code", &[(Method::POST, Page::DeviceCode)]),
    ("/device/token", &[(Method::POST, Page::DeviceToken)]),
];

/// Every fixed path of ours with its methods, for the test that drives them all.
pub fn fixed_paths() -> impl Iterator<Item = (&'static str, &'static Method)> {
    TABLE.iter().flat_map(|(path, methods)| methods.iter().map(move |(method, _)| (*path, method)))
}

/// Finds a request's route. `is_of_configured`: it comes from a page of a configured origin.
#[must_use]
pub(crate) fn route(parts: &Parts, hosts: &Hosts, is_of_configured: bool) -> Route {
    match hosts.mount(parts) {
        Ok(None) if is_of_configured => of_configured(parts),
        Ok(None) => at_public_url(parts),
        Ok(Some(mount)) if mount.path != MountPath::Dashboard && parts.method != Method::GET => {
            Route::WrongMethod("GET".to_owned())
        }
        Ok(Some(mount)) => Route::Mount(mount),
        Err(_) => Route::TwoHosts,
    }
}

fn at_public_url(parts: &Parts) -> Route {
    let path = parts.uri.path();
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    if path == "/" {
        let portal = *method == Method::GET && wants_page(&parts.headers) && !bears(&parts.headers);
        return if portal {
            Route::Page(Page::Portal)
        } else {
            Route::Kubernetes(Arc::new(Facts::of(parts)))
        };
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
    if path.starts_with("/device/") || path.starts_with("/cli/") {
        return Route::Page(Page::Reserved);
    }
    Route::Kubernetes(Arc::new(Facts::of(parts)))
}

/// Of a request from a page of a configured origin. Where such a page may use what it asks about, its preflight is ours
/// to answer; any other `OPTIONS` goes its usual way.
fn of_configured(parts: &Parts) -> Route {
    match preflighted(parts) {
        Some(asked) if at_public_url(&asked).is_shared() => Route::Preflight,
        _ => at_public_url(parts),
    }
}

/// Whether this is a browser that navigates: it can be sent elsewhere and shows a page. A script never is.
#[must_use]
pub(crate) fn is_navigation(parts: &Parts) -> bool {
    let gets = parts.method == Method::GET || parts.method == Method::HEAD;
    let mode = parts.headers.get("sec-fetch-mode");
    gets && wants_page(&parts.headers) && mode.is_none_or(|mode| mode == "navigate")
}

/// The same, into a window or tab, where no page of another host sees the answer: not into a frame.
#[must_use]
pub(crate) fn is_top_navigation(parts: &Parts) -> bool {
    let into = parts.headers.get("sec-fetch-dest");
    parts.method == Method::GET && is_navigation(parts) && into.is_none_or(|into| into == "document")
}

/// Whether the client would rather read a page than JSON.
#[must_use]
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn routed(method: &str, uri: &str, headers: &[(&str, &str)]) -> Route {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        route(&request.body(()).unwrap().into_parts().0, &Hosts::default(), false)
    }

    /// `/` is the portal for a browser without a bearer, and the API server's for everyone else.
    #[test]
    fn the_root_is_shared() {
        let html = ("accept", "text/html,application/xhtml+xml;q=0.9");
        assert!(matches!(routed("GET", "/", &[html]), Route::Page(Page::Portal)));
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

    /// A preflight is answered for the paths that configured origins may use, and for no other.
    #[test]
    fn preflights_are_answered_for_what_other_origins_may_use() {
        let routed = |path: &str, method: &str| {
            let request = Request::builder().method("OPTIONS").uri(path);
            let request = request.header("origin", "https://console.example.com");
            let request = request.header("access-control-request-method", method);
            route(&request.body(()).unwrap().into_parts().0, &Hosts::default(), true)
        };
        for (path, method) in
            [("/api/v1/pods", "PATCH"), ("/", "GET"), ("/refresh", "POST"), ("/logout", "POST")]
        {
            assert!(matches!(routed(path, method), Route::Preflight), "{path}");
        }
        for (path, method) in
            [("/tokens", "POST"), ("/tokens/abc", "DELETE"), ("/kubeconfig", "POST"), ("/whoami", "PUT")]
        {
            assert!(matches!(routed(path, method), Route::WrongMethod(_)), "{path}");
        }
    }

    /// A wrong method on a path of ours is said to be one.
    #[test]
    fn wrong_methods_are_told_the_right_ones() {
        let Route::WrongMethod(allowed) = routed("PUT", "/tokens", &[]) else { panic!("PUT is not ours") };
        assert_eq!(allowed, "GET, POST");
        assert!(matches!(routed("HEAD", "/whoami", &[]), Route::Page(Page::Whoami)));
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
