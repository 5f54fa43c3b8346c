//! The cookie jar.

use jiff::{SignedDuration, Timestamp};
use url::Url;

use crate::time::Time;

/// One cookie and what decides where it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) value: String,
    host: String,
    path: String,
    secure: bool,
    same_site: SameSite,
    expires: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SameSite {
    Strict,
    /// Also where the attribute is missing.
    Lax,
    None,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The same site, or the address bar.
    Itself,
    /// A top-level navigation from another site; true for a GET.
    OtherSite(bool),
    /// A frame in another site's page.
    ThirdParty,
}

pub(crate) struct Jar {
    time: Time,
    cookies: Vec<Cookie>,
}

impl SameSite {
    fn parse(value: &str) -> Self {
        match value.trim().to_ascii_lowercase().as_str() {
            "strict" => Self::Strict,
            "none" => Self::None,
            _ => Self::Lax,
        }
    }

    fn allows(self, from: From) -> bool {
        match self {
            Self::None => true,
            Self::Lax => matches!(from, From::Itself | From::OtherSite(true)),
            Self::Strict => from == From::Itself,
        }
    }
}

impl Jar {
    pub(crate) fn new(time: Time) -> Self {
        Self { time, cookies: Vec::new() }
    }

    /// The cookies for this address, expired ones left out.
    pub(crate) fn matching<'a>(&'a self, url: &'a Url) -> impl Iterator<Item = &'a Cookie> {
        let (host, now) = (host(url), self.time.now());
        self.cookies.iter().filter(move |cookie| {
            cookie.host == host
                && path_matches(&cookie.path, url.path())
                && (!cookie.secure || url.scheme() == "https")
                && cookie.expires.is_none_or(|expires| expires > now)
        })
    }

    /// The `Cookie` header for this address, by `SameSite` and where the request comes from.
    pub(crate) fn header(&self, url: &Url, from: From) -> Option<String> {
        let sent = self.matching(url).filter(|cookie| cookie.same_site.allows(from));
        let pairs: Vec<String> = sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Keeps, replaces or removes a cookie by its `Set-Cookie` line. False when the line is refused.
    pub(crate) fn keep(&mut self, url: &Url, line: &str) -> bool {
        let Some((cookie, has_domain)) = parse(url, line, self.time.now()) else { return false };
        if !prefix_holds(&cookie, has_domain) {
            return false;
        }
        self.cookies.retain(|known| {
            (&known.name, &known.host, &known.path) != (&cookie.name, &cookie.host, &cookie.path)
        });
        if cookie.expires.is_none_or(|expires| expires > self.time.now()) {
            self.cookies.push(cookie);
        }
        true
    }

    pub(crate) fn clear(&mut self, url: &Url) {
        let host = host(url);
        self.cookies.retain(|cookie| cookie.host != host);
    }
}

/// The cookie of a `Set-Cookie` line, and whether it names a domain. RFC 6265bis, section 5.6, less its rare corners.
fn parse(url: &Url, line: &str, now: Timestamp) -> Option<(Cookie, bool)> {
    let mut attributes = line.split(';').map(str::trim);
    let (name, value) = attributes.next()?.split_once('=')?;
    let mut cookie = Cookie {
        name: name.trim().to_owned(),
        value: value.trim().to_owned(),
        host: host(url),
        path: default_path(url.path()),
        secure: false,
        same_site: SameSite::Lax,
        expires: None,
    };
    let (mut max_age, mut has_domain) = (None, false);
    for attribute in attributes {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => cookie.path = value.to_owned(),
            "secure" => cookie.secure = true,
            "domain" => has_domain = true,
            "samesite" => cookie.same_site = SameSite::parse(value),
            "max-age" => max_age = value.trim().parse::<i64>().ok(),
            "expires" => {
                let time = jiff::fmt::rfc2822::parse(value.trim()).ok();
                cookie.expires = time.map(|time| time.timestamp());
            }
            _ => {}
        }
    }
    if let Some(seconds) = max_age {
        // A browser keeps nothing for longer than 400 days.
        let kept = SignedDuration::from_secs(seconds.clamp(0, 400 * 86_400));
        cookie.expires = Some(now + kept);
    }
    (!cookie.name.is_empty()).then_some((cookie, has_domain))
}

/// `__Host-` needs Secure, Path=/ and no Domain; `__Secure-` needs Secure. RFC 6265bis, section 4.1.3.
fn prefix_holds(cookie: &Cookie, has_domain: bool) -> bool {
    let name = cookie.name.to_ascii_lowercase();
    if name.starts_with("__host-") {
        return cookie.secure && cookie.path == "/" && !has_domain;
    }
    !name.starts_with("__secure-") || cookie.secure
}

fn path_matches(cookie: &str, path: &str) -> bool {
    path == cookie
        || path.strip_prefix(cookie).is_some_and(|rest| cookie.ends_with('/') || rest.starts_with('/'))
}

fn default_path(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(end) => path[..end].to_owned(),
    }
}

fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Url {
        Url::parse(text).expect("the test's addresses are well-formed")
    }

    fn jar_after(lines: &[&str]) -> (Jar, Url) {
        let url = address("https://localhost:8443/a/b");
        let mut jar = Jar::new(Time::default());
        for line in lines {
            jar.keep(&url, line);
        }
        (jar, url)
    }

    #[test]
    fn a_malformed_host_cookie_is_refused() {
        // Each line breaks one rule of the prefix.
        for line in
            ["__Host-a=1; Path=/", "__Host-a=1; Secure", "__Host-a=1; Secure; Path=/; Domain=localhost"]
        {
            assert_eq!(jar_after(&[line]).0.cookies.len(), 0, "{line}");
        }
        assert_eq!(jar_after(&["__Host-a=1; Secure; Path=/; HttpOnly"]).0.cookies.len(), 1);
    }

    #[test]
    fn a_cookie_is_replaced_and_removed_by_its_name_and_path() {
        // The last value counts, and an end in the past takes it away.
        let (jar, url) = jar_after(&["a=1; Path=/", "a=2; Path=/", "b=3; Path=/"]);
        assert_eq!(jar.header(&url, From::Itself).as_deref(), Some("a=2; b=3"));
        for removal in ["a=; Path=/; Max-Age=0", "a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"] {
            let (jar, url) = jar_after(&["a=1; Path=/", removal]);
            assert_eq!(jar.header(&url, From::Itself), None, "{removal}");
        }
    }

    #[test]
    fn a_cookie_goes_only_to_its_port_and_path() {
        // Another port is another site here, and a path matches whole segments.
        let (jar, url) = jar_after(&["a=1; Path=/a", "strict=1; Path=/; SameSite=Strict"]);
        assert_eq!(jar.header(&url, From::OtherSite(true)).as_deref(), Some("a=1"));
        assert_eq!(jar.header(&url, From::OtherSite(false)), None);
        assert_eq!(jar.header(&url, From::ThirdParty), None);
        assert_eq!(jar.header(&url, From::Itself).as_deref(), Some("a=1; strict=1"));
        let other = |text: &str| jar.header(&address(text), From::Itself);
        assert_eq!(other("https://localhost:8443/ab").as_deref(), Some("strict=1"));
        assert_eq!(other("https://localhost:9443/a"), None);
    }
}
