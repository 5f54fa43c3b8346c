//! A browser on its way into a mounted dashboard, kept in that browser: a short-lived cookie of the mount's host for each
//! attempt, so that several tabs work and replicas share nothing.
//!
//! It holds a verifier, whose digest goes along to the public URL: the one-time code that comes back is good only together
//! with it. So nobody can plant a code of their own session in another's browser, or use one that they have seen.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use url::form_urlencoded::Serializer;

use crate::clock::after;
use crate::config::PublicUrl;
use crate::identity::cookie;
use crate::secret::{AttemptSecret, random_base62};

/// Longer than a sign-in may take, in which the browser is away.
const LIVES: Duration = Duration::from_secs(1_200);
/// More than this many at once are a loop or a prank; the oldest ones go. Together they fit into the 8 KiB that proxies in
/// front of us often allow a header.
const MAX_ENTRIES: usize = 4;
const MAX_TARGET_BYTES: usize = 1_400;
const ID_CHARS: usize = 8;
const VERIFIER_CHARS: usize = 43;
const PREFIX: &str = "__Host-entrada-enter-";

/// One attempt.
#[derive(Debug)]
pub(crate) struct Entry {
    id: String,
    verifier: AttemptSecret,
    /// The path and query that were asked for.
    target: String,
    begun_at: i64,
}

impl Entry {
    /// A new attempt to get to this path and query; what cannot be kept leads to `/`.
    #[must_use]
    pub(crate) fn new(target: &str, now: Timestamp) -> Self {
        Self {
            id: random_base62(ID_CHARS),
            verifier: AttemptSecret::new(random_base62(VERIFIER_CHARS)),
            target: kept(target).to_owned(),
            begun_at: now.as_second(),
        }
    }

    /// Where it leads: to the public URL's sign-in, which comes back to `mount`.
    #[must_use]
    pub(crate) fn location(&self, public_url: &PublicUrl, mount: &PublicUrl) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.expose().as_bytes()));
        let mut query = Serializer::new(String::new());
        query.append_pair("mount", mount.origin());
        query.append_pair("challenge", &challenge).append_pair("state", &self.id);
        public_url.join(&format!("/login?{}", query.finish()))
    }

    /// The cookies to set when it begins: its own, and removals of the oldest where too many are open.
    #[must_use]
    pub(crate) fn cookies(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let mut open: Vec<(i64, &str)> = cookie::all(headers)
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX).filter(|id| is_id(id))?, value)))
            .map(|(id, value)| (decode(id, value).map_or(0, |entry| entry.begun_at), id))
            .collect();
        open.sort_unstable();
        let surplus = (open.len() + 1).saturating_sub(MAX_ENTRIES);
        let removals = open.iter().take(surplus).map(|(_, id)| cookie::remove(&name(id)));
        let target = URL_SAFE_NO_PAD.encode(&self.target);
        let value = format!("{}.{}.{target}", self.verifier.expose(), self.begun_at);
        removals.chain([cookie::set(&name(&self.id), &value, LIVES)]).collect()
    }

    /// The attempt of this browser that the `state` names; `None` when it began none, or too long ago.
    #[must_use]
    pub(crate) fn find(headers: &HeaderMap, state: &str, now: Timestamp) -> Option<Self> {
        let wanted = name(Some(state).filter(|id| is_id(id))?);
        let mut found = cookie::all(headers).filter(|(name, _)| *name == wanted);
        let (Some((_, value)), None) = (found.next(), found.next()) else { return None };
        let entry = decode(state, value)?;
        let begun = Timestamp::from_second(entry.begun_at).ok()?;
        (now < after(begun, LIVES)).then_some(entry)
    }

    /// What proves that the browser that comes back is the one that went.
    #[must_use]
    pub(crate) fn verifier(&self) -> &str {
        self.verifier.expose()
    }

    /// The path and query that were asked for.
    #[must_use]
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The `Set-Cookie` value that ends it.
    #[must_use]
    pub(crate) fn end(&self) -> HeaderValue {
        cookie::remove(&name(&self.id))
    }
}

fn name(id: &str) -> String {
    format!("{PREFIX}{id}")
}

/// A state as [`Entry::new`] makes them.
#[must_use]
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn decode(id: &str, value: &str) -> Option<Entry> {
    let mut parts = value.splitn(3, '.');
    let (verifier, begun_at) = (parts.next()?, parts.next()?.parse().ok()?);
    let target = String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
    // The browser kept it: judged again.
    let target = kept(&target).to_owned();
    Some(Entry { id: id.to_owned(), verifier: AttemptSecret::new(verifier), target, begun_at })
}

fn kept(target: &str) -> &str {
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic());
    if target.starts_with('/') && is_plain && target.len() <= MAX_TARGET_BYTES { target } else { "/" }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::identity::cookie::sent_back;

    /// The browser that began finds its attempt again, with the path as it was; another, or a later time, does not.
    #[test]
    fn an_entry_belongs_to_its_browser_and_its_time() {
        let now = Timestamp::UNIX_EPOCH;
        let target = "/c/main/pods?namespace=a%2Fb&x=\"1\"&&y";
        let entry = Entry::new(target, now);
        let headers = sent_back(&entry.cookies(&HeaderMap::new()));
        let found = Entry::find(&headers, &entry.id, now).unwrap();
        assert_eq!((found.target(), found.verifier()), (target, entry.verifier()));
        assert!(Entry::find(&HeaderMap::new(), &entry.id, now).is_none());
        assert!(Entry::find(&headers, "00000000", now).is_none());
        assert!(Entry::find(&headers, &entry.id, after(now, LIVES)).is_none());
    }

    /// What cannot be kept leads to the dashboard's first page, also where a script of the dashboard wrote the cookie.
    #[test]
    fn odd_targets_lead_to_the_first_page() {
        for odd in ["evil", "", "/ä", "/a\r\nb", &format!("/{}", "x".repeat(MAX_TARGET_BYTES))] {
            assert_eq!(Entry::new(odd, Timestamp::UNIX_EPOCH).target(), "/", "{odd}");
        }
        let forged = format!("{}.0.{}", "v".repeat(43), URL_SAFE_NO_PAD.encode("https://evil.example"));
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(&format!("{PREFIX}abcdefgh={forged}")).unwrap());
        let found = Entry::find(&headers, "abcdefgh", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(found.target(), "/");
    }

    /// One more than fit removes the oldest.
    #[test]
    fn few_entries_are_kept() {
        let mut jar = Vec::new();
        for second in 0..5 {
            let now = Timestamp::from_second(second).unwrap();
            let set = Entry::new("/", now).cookies(&sent_back(&jar));
            assert_eq!(set.len(), if second < 4 { 1 } else { 2 });
            if second == 4 {
                let oldest = jar[0].to_str().unwrap().split('=').next().unwrap();
                assert!(set[0].to_str().unwrap().starts_with(oldest));
            }
            jar.push(set.last().unwrap().clone());
        }
    }
}
