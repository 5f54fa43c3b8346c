//! What a browser calls itself, in a few words of ours: so that people know theirs in a list.

use http::HeaderMap;
use http::header::USER_AGENT;

/// What their `User-Agent` holds, and what people call them. The first that fits counts: Edge and Opera also say Chrome,
/// and Chrome also says Safari.
const BROWSERS: &[(&str, &str)] = &[
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];
/// Android also says Linux, and an iPhone Mac OS X.
const SYSTEMS: &[(&str, &str)] = &[
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// `Firefox on Linux`. Made of words of ours only, whatever the header holds.
pub(super) fn name(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(sign, _)| agent.contains(sign)).map(|(_, name)| *name)
    };
    let browser = find(BROWSERS).unwrap_or("Browser");
    find(SYSTEMS).map_or_else(|| browser.to_owned(), |system| format!("{browser} on {system}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Browsers that claim to be others are known all the same, and a stranger's words are not repeated.
    #[test]
    fn browsers_are_named_in_our_own_words() {
        let of = |agent: &'static str| {
            name(&HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(agent))]))
        };
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                    Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0";
        assert_eq!(of(edge), "Edge on Windows");
        let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                     Version/18.0 Mobile/15E148 Safari/604.1";
        assert_eq!(of(phone), "Safari on iPhone");
        assert_eq!(of("<script>alert(1)</script>"), "Browser");
        assert_eq!(name(&HeaderMap::new()), "Browser");
    }
}
