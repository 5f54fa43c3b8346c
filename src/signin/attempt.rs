//! One sign-in attempt, kept in the browser that makes it: a short-lived cookie each, so that several tabs work,
//! replicas share nothing and a flood of attempts costs no memory here.
//!
//! The cookie is bound to this host by its `__Host-` prefix and never readable by scripts; who changes it in their own
//! browser can only spoil their own sign-in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::clock::after;
use crate::identity::cookie;
use crate::secret::{AttemptSecret, random_base62};

/// Long enough for a second factor and a forgotten tab; Entra's own code lives ten minutes.
pub(super) const ATTEMPT_LIFETIME: Duration = Duration::from_secs(900);
/// More than this many open attempts are a loop or a prank; the oldest ones go.
pub(super) const MAX_ATTEMPTS: usize = 5;
/// All attempts' cookies together, so that they still fit, with others, into the 8 KiB that proxies in front of us often
/// allow a header; here, too, the oldest ones go.
const MAX_ATTEMPT_BYTES: usize = 6 * 1024;
const MAX_RETURN_TO_BYTES: usize = 1_280;
/// The one `/login` that is safe to come back to: it leads on to a dashboard's host, and not to Entra again.
const FOR_MOUNT: &str = "/login?mount=";
const ID_CHARS: usize = 8;
/// 256 bits; also a valid PKCE verifier (43 to 128 characters, RFC 7636 section 4.1).
const SECRET_CHARS: usize = 43;

/// What an attempt must remember until Entra sends the browser back.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Goes to Entra and comes back; its first characters name the cookie.
    pub(super) state: AttemptSecret,
    /// Comes back inside the ID token.
    pub(super) nonce: AttemptSecret,
    /// PKCE.
    pub(super) verifier: AttemptSecret,
    /// A path on our own origin.
    pub(super) return_to: String,
    /// Whether the AKS server was named.
    pub(super) step_up: bool,
    begun_at: i64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    s: String,
    n: String,
    v: String,
    r: String,
    u: bool,
    t: i64,
}

impl Attempt {
    /// A new attempt.
    #[must_use]
    pub(super) fn new(return_to: String, step_up: bool, now: Timestamp) -> Self {
        let secret = || AttemptSecret::new(random_base62(SECRET_CHARS));
        let state = AttemptSecret::new(random_base62(ID_CHARS + SECRET_CHARS));
        Self { state, nonce: secret(), verifier: secret(), return_to, step_up, begun_at: now.as_second() }
    }

    /// The cookies to set when it begins: its own, and removals of the oldest where too many are open.
    #[must_use]
    pub(super) fn cookies(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let wire = Wire {
            s: self.state.expose().to_owned(),
            n: self.nonce.expose().to_owned(),
            v: self.verifier.expose().to_owned(),
            r: self.return_to.clone(),
            u: self.step_up,
            t: self.begun_at,
        };
        let json = serde_json::to_vec(&wire).expect("strings and numbers are JSON");
        let value = URL_SAFE_NO_PAD.encode(json);
        let own = cookie_name(&self.state);
        let mut open: Vec<(i64, String, usize)> = cookie::all(headers)
            .filter(|(name, _)| name.starts_with(cookie::ATTEMPT_PREFIX) && is_plain(name))
            .map(|(name, value)| {
                let begun_at = decode(value).map_or(0, |attempt| attempt.begun_at);
                (begun_at, name.to_owned(), name.len() + value.len())
            })
            .collect();
        open.sort_unstable();
        let (mut count, mut bytes) = (1, own.len() + value.len());
        let fits = |(_, _, more): &&(i64, String, usize)| {
            (count, bytes) = (count + 1, bytes + more);
            count <= MAX_ATTEMPTS && bytes <= MAX_ATTEMPT_BYTES
        };
        let kept = open.iter().rev().take_while(fits).count();
        let removals = open[..open.len() - kept].iter().map(|(_, name, _)| cookie::remove(name));
        removals.chain([cookie::set(&own, &value, ATTEMPT_LIFETIME)]).collect()
    }

    /// The attempt that this browser began with `state`; `None` when it began none, or too long ago.
    #[must_use]
    pub(super) fn find(headers: &HeaderMap, state: &AttemptSecret, now: Timestamp) -> Option<Self> {
        if !is_plain(state.expose()) || state.expose().len() != ID_CHARS + SECRET_CHARS {
            return None;
        }
        let name = cookie_name(state);
        let (_, value) = cookie::all(headers).find(|(found, _)| *found == name)?;
        let attempt = decode(value)?;
        let same = attempt.state.expose().as_bytes().ct_eq(state.expose().as_bytes());
        let begun = Timestamp::from_second(attempt.begun_at).ok()?;
        (bool::from(same) && now < after(begun, ATTEMPT_LIFETIME)).then_some(attempt)
    }

    /// The `Set-Cookie` value that ends it: a state is good for one answer.
    #[must_use]
    pub(super) fn end(&self) -> HeaderValue {
        cookie::remove(&cookie_name(&self.state))
    }
}

/// A `return_to` that is safe to follow: a path on our own origin, and not one that would begin the circle anew.
#[must_use]
pub(super) fn safe_return_to(asked: Option<&str>) -> String {
    let is_safe = |path: &str| {
        let second = path.as_bytes().get(1);
        path.starts_with('/')
            && !matches!(second, Some(b'/' | b'\\'))
            && path.len() <= MAX_RETURN_TO_BYTES
            // Quotes and backslashes stand in no path that a browser sends, and would double in the cookie.
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
            && (path.starts_with(FOR_MOUNT)
                || !["/login", "/callback", "/logout"].iter().any(|own| path.starts_with(own)))
    };
    asked.filter(|path| is_safe(path)).unwrap_or("/").to_owned()
}

fn cookie_name(state: &AttemptSecret) -> String {
    format!("{}{}", cookie::ATTEMPT_PREFIX, &state.expose()[..ID_CHARS])
}

fn decode(value: &str) -> Option<Attempt> {
    let wire: Wire = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    Some(Attempt {
        state: AttemptSecret::new(wire.s),
        nonce: AttemptSecret::new(wire.n),
        verifier: AttemptSecret::new(wire.v),
        // The browser kept it: judged again.
        return_to: safe_return_to(Some(&wire.r)),
        step_up: wire.u,
        begun_at: wire.t,
    })
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::cookie::sent_back;

    /// The browser that began an attempt finds it again; another, or a later time, does not.
    #[test]
    fn an_attempt_belongs_to_its_browser_and_its_time() {
        let now = Timestamp::UNIX_EPOCH;
        let attempt = Attempt::new("/api/v1/pods".to_owned(), false, now);
        let headers = sent_back(&attempt.cookies(&HeaderMap::new()));
        let found = Attempt::find(&headers, &attempt.state, now).unwrap();
        assert_eq!(found.return_to, "/api/v1/pods");
        assert_eq!(found.verifier.expose(), attempt.verifier.expose());
        assert!(Attempt::find(&HeaderMap::new(), &attempt.state, now).is_none());
        assert!(Attempt::find(&headers, &attempt.state, after(now, ATTEMPT_LIFETIME)).is_none());
        let mut forged = attempt.state.expose().to_owned();
        forged.replace_range(20..21, if &forged[20..21] == "a" { "b" } else { "a" });
        assert!(Attempt::find(&headers, &AttemptSecret::new(forged), now).is_none());
    }

    /// A sixth attempt removes the oldest.
    #[test]
    fn at_most_five_attempts_are_kept() {
        let mut jar = Vec::new();
        for second in 0..6 {
            let now = Timestamp::from_second(second).unwrap();
            let set = Attempt::new("/".to_owned(), false, now).cookies(&sent_back(&jar));
            let removed: Vec<&str> = set[..set.len() - 1].iter().map(|c| c.to_str().unwrap()).collect();
            if second < 5 {
                assert!(removed.is_empty());
            } else {
                let oldest = jar[0].to_str().unwrap().split('=').next().unwrap();
                assert_eq!(removed.len(), 1);
                assert!(removed[0].starts_with(oldest));
            }
            jar.push(set.last().unwrap().clone());
        }
    }

    /// A browser with many attempts that come back to long paths still gets through a proxy that allows 8 KiB of header.
    #[test]
    fn long_paths_leave_room_for_fewer_attempts() {
        let path = format!("/{}", "a".repeat(MAX_RETURN_TO_BYTES - 1));
        assert_eq!(safe_return_to(Some(&path)), path);
        let mut jar: Vec<(String, String)> = Vec::new();
        for second in 0..8 {
            let now = Timestamp::from_second(second).unwrap();
            let sent: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, sent.join("; ").parse().unwrap());
            for set in Attempt::new(path.clone(), false, now).cookies(&headers) {
                let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
                let value = rest.split(';').next().unwrap();
                jar.retain(|(known, _)| known != name);
                if !value.is_empty() {
                    jar.push((name.to_owned(), value.to_owned()));
                }
            }
            let bytes: usize = jar.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(bytes <= MAX_ATTEMPT_BYTES && !jar.is_empty(), "{bytes}");
        }
        assert_eq!(jar.len(), 3);
    }

    /// Only a path on our own origin is followed.
    #[test]
    fn return_to_stays_on_our_origin() {
        for good in ["/", "/api/v1/pods?watch=1", "/a//b", "/login?mount=x&back=1"] {
            assert_eq!(safe_return_to(Some(good)), good);
        }
        for bad in [
            "//evil",
            "/\\evil",
            "https://evil",
            "evil",
            "",
            "/a\r\nb",
            "/ä",
            "/login?x",
            "/callback",
            "/logout",
        ] {
            assert_eq!(safe_return_to(Some(bad)), "/", "{bad}");
        }
    }

    proptest! {
        /// Whatever a browser sends, nothing panics, and a followed path resolves on our origin.
        #[test]
        fn any_return_to_stays_here(path in "[ -~]{0,80}", value in "[!-:<-~]{0,80}") {
            let base = url::Url::parse("https://k8s.example.com/").unwrap();
            let joined = base.join(&safe_return_to(Some(&path))).unwrap();
            prop_assert_eq!(joined.origin(), base.origin());
            let mut headers = HeaderMap::new();
            let cookie = format!("{}abcdefgh={value}", cookie::ATTEMPT_PREFIX);
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
            let state = AttemptSecret::new("abcdefgh".repeat(7)[..51].to_owned());
            prop_assert!(Attempt::find(&headers, &state, Timestamp::UNIX_EPOCH).is_none());
        }
    }
}
