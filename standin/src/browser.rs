//! A person's browser, scripted: cookies, redirects, and the form of the sign-in page.
//!
//! Like a real one it keeps cookies by their attributes, refuses malformed `__Host-` cookies, follows redirects of
//! navigations and sends `Sec-Fetch-*`. Unlike one, it keeps cookies apart by port, and calls two ports of `localhost`
//! two sites: so that the stand-in Entra is as foreign to the proxy as the real one is. It runs no script and loads
//! nothing that a page embeds, except by [`Browser::load_frames`]. Hosts below `.localhost`, `.example` and `.test`
//! are this machine.

mod form;
mod jar;
mod navigation;
mod page;

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

pub use page::Page;

use crate::time::Time;
use form::PageForm;
use jar::{From, Jar};
use navigation::Navigation;

/// Longest chain of redirects that a navigation follows.
const HOPS_MAX: usize = 20;
/// What Entra says of an account that the tenant does not have.
const UNKNOWN_ACCOUNT: &str = "AADSTS50034";

/// A browser with a cookie jar of its own. Each request opens a connection of its own.
pub struct Browser {
    tls: TlsConnector,
    jar: Mutex<Jar>,
}

impl Browser {
    /// A browser that trusts the certificates of this authority (PEM) and no others.
    ///
    /// # Errors
    /// When the PEM holds no certificate.
    pub fn new(ca_pem: &str) -> anyhow::Result<Self> {
        Self::with_time(ca_pem, Time::default())
    }

    /// A browser whose cookies expire by this clock.
    ///
    /// # Errors
    /// When the PEM holds no certificate.
    pub fn with_time(ca_pem: &str, time: Time) -> anyhow::Result<Self> {
        Ok(Self { tls: crate::pki::trusting(ca_pem)?, jar: Mutex::new(Jar::new(time)) })
    }

    /// One GET, redirects not followed. Cookies are sent and kept.
    ///
    /// # Errors
    /// When the URL is not https, or no answer comes.
    pub async fn get(&self, url: &str) -> anyhow::Result<Page> {
        self.get_with(url, &[]).await
    }

    /// One GET with these headers beside the cookies.
    ///
    /// # Errors
    /// As [`Browser::get`], or when a header is malformed.
    pub async fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Page> {
        self.request(Method::GET, url, headers, Bytes::new()).await
    }

    /// One POST of a form. No header is added but the content type: an `Origin` is the caller's to give.
    ///
    /// # Errors
    /// As [`Browser::get_with`].
    pub async fn post_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        let body = serde_urlencoded::to_string(fields)?;
        self.request(Method::POST, url, &all, body.into()).await
    }

    /// One POST of JSON.
    ///
    /// # Errors
    /// As [`Browser::get_with`].
    pub async fn post_json(
        &self,
        url: &str,
        body: &serde_json::Value,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.request(Method::POST, url, &all, body.to_string().into()).await
    }

    /// One DELETE.
    ///
    /// # Errors
    /// As [`Browser::get_with`].
    pub async fn delete(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Page> {
        self.request(Method::DELETE, url, headers, Bytes::new()).await
    }

    /// One request of any method, redirects not followed. Cookies are sent and kept.
    ///
    /// # Errors
    /// As [`Browser::get_with`].
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Page> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name)?, HeaderValue::from_str(value)?);
        }
        self.send(method, Url::parse(url)?, map, body, From::Itself).await
    }

    /// Types an address and follows its redirects, at most 20, as a browser does.
    ///
    /// # Errors
    /// As [`Browser::get`], or when the redirects do not end.
    pub async fn navigate(&self, url: &str) -> anyhow::Result<Page> {
        let url = Url::parse(url)?;
        self.follow(Navigation { method: Method::GET, url, fields: Vec::new(), site: "none", origin: None })
            .await
    }

    /// Sends the first form of a page with these fields besides its hidden ones, and follows the redirects.
    ///
    /// # Errors
    /// When the page has no form, and as [`Browser::navigate`].
    pub async fn submit(&self, page: &Page, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let form = form::all(&page.text()).into_iter().next().context("the page has no form")?;
        self.send_form(page, form, fields).await
    }

    /// Like [`Browser::submit`], for the form whose `action` is exactly this text.
    ///
    /// # Errors
    /// When the page has no such form, and as [`Browser::navigate`].
    pub async fn submit_to(
        &self,
        page: &Page,
        action: &str,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        let mut forms = form::all(&page.text()).into_iter();
        let form = forms.find(|form| form.action == action);
        let form = form.with_context(|| format!("the page has no form for {action}"))?;
        self.send_form(page, form, fields).await
    }

    /// Opens `{entrada_url}/login`, picks the user on the stand-in Entra's page (if it asks), and ends where that leads.
    ///
    /// # Errors
    /// When there is no such user, and as [`Browser::navigate`].
    pub async fn sign_in(&self, entrada_url: &str, user: &str) -> anyhow::Result<Page> {
        let page = self.navigate(&format!("{}/login", entrada_url.trim_end_matches('/'))).await?;
        self.choose(page, user).await
    }

    /// Picks the user, listed or not, if the page is the stand-in Entra's chooser; returns any other page as it is.
    ///
    /// # Errors
    /// When there is no such user, and as [`Browser::navigate`].
    pub async fn choose(&self, page: Page, user: &str) -> anyhow::Result<Page> {
        if !form::all(&page.text()).iter().any(PageForm::is_chooser) {
            return Ok(page);
        }
        let page = self.submit(&page, &[("user", user)]).await?;
        // A mistake in a test must not look like a refusal of the app's.
        ensure!(!page.text().contains(UNKNOWN_ACCOUNT), "the stand-in Entra knows no {user}");
        Ok(page)
    }

    /// Loads what a page holds in frames, as a browser does by itself: with frame headers, from another site, and so
    /// with none of the cookies that a browser keeps from third parties.
    ///
    /// # Errors
    /// When a frame's address is malformed, and as [`Browser::get`].
    pub async fn load_frames(&self, page: &Page) -> anyhow::Result<Vec<Page>> {
        let mut loaded = Vec::new();
        for source in form::frames(&page.text()) {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
            headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
            headers.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
            headers.insert("sec-fetch-dest", HeaderValue::from_static("iframe"));
            let url = page.url.join(&source)?;
            loaded.push(self.send(Method::GET, url, headers, Bytes::new(), From::ThirdParty).await?);
        }
        Ok(loaded)
    }

    /// The value of the cookie of this name that would be sent to this address.
    #[must_use]
    pub fn cookie(&self, url: &str, name: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        self.jar().matching(&url).find(|cookie| cookie.name == name).map(|cookie| cookie.value.clone())
    }

    /// The names of all cookies that would be sent to this address.
    #[must_use]
    pub fn cookie_names(&self, url: &str) -> Vec<String> {
        let Ok(url) = Url::parse(url) else { return Vec::new() };
        self.jar().matching(&url).map(|cookie| cookie.name.clone()).collect()
    }

    /// Puts a cookie into the jar, as if this address had set it with this `Set-Cookie` line. False: it was refused.
    pub fn set_cookie(&self, url: &str, line: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.jar().keep(&url, line))
    }

    /// Forgets every cookie of this address' host and port.
    pub fn clear_cookies(&self, url: &str) {
        if let Ok(url) = Url::parse(url) {
            self.jar().clear(&url);
        }
    }

    async fn send_form(&self, page: &Page, form: PageForm, fields: &[(&str, &str)]) -> anyhow::Result<Page> {
        let url = page.url.join(&form.action)?;
        let mut all = form.hidden;
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let site = if url.origin() == page.url.origin() { "same-origin" } else { "cross-site" };
        let origin = Some(page.url.origin().ascii_serialization());
        self.follow(Navigation { method: Method::POST, url, fields: all, site, origin }).await
    }

    async fn follow(&self, mut at: Navigation) -> anyhow::Result<Page> {
        let mut hops = Vec::new();
        for _ in 0..HOPS_MAX {
            hops.push(at.url.clone());
            let (headers, body) = at.request()?;
            let from = if at.site == "cross-site" {
                From::OtherSite(at.method == Method::GET)
            } else {
                From::Itself
            };
            let mut page = self.send(at.method.clone(), at.url.clone(), headers, body, from).await?;
            let Some(next) = page.location().filter(|_| page.status.is_redirection()) else {
                page.hops = hops;
                return Ok(page);
            };
            at.redirect(page.status, next);
        }
        bail!("more than {HOPS_MAX} redirects: {hops:?}")
    }

    async fn send(
        &self,
        method: Method,
        mut url: Url,
        mut headers: HeaderMap,
        body: Bytes,
        from: From,
    ) -> anyhow::Result<Page> {
        url.set_fragment(None);
        let host = url.host_str().context("the address has no host")?.to_owned();
        let port = url.port_or_known_default().context("the address has no port")?;
        if url.scheme() != "https" {
            bail!("{url} is not https");
        }
        if let Some(cookies) = self.jar().header(&url, from) {
            headers.insert(COOKIE, HeaderValue::from_str(&cookies)?);
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, HeaderValue::from_str(&format!("{host}:{port}"))?);
        }
        let stream = TcpStream::connect((address_of(&host), port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(host)?, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let target = &url[url::Position::BeforePath..];
        let mut request = Request::builder().method(method).uri(target).body(Full::new(body))?;
        *request.headers_mut() = headers;
        let answer = sender.send_request(request).await?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        for line in parts.headers.get_all(SET_COOKIE) {
            self.jar().keep(&url, line.to_str()?);
        }
        Ok(Page { hops: vec![url.clone()], url, status: parts.status, headers: parts.headers, body })
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of `localhost` and of the domains reserved for examples and tests are this machine.
fn address_of(host: &str) -> &str {
    let ours = [".localhost", ".example", ".test"].iter().any(|end| host.ends_with(end));
    if ours { "127.0.0.1" } else { host }
}
