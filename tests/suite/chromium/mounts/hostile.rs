//! A mounted page that has turned against its neighbours: same site, another host. It tries everything that a script of
//! its host can do, against the portal and against the other mount, in the browser of somebody who is signed in at all
//! three; and gets nothing.

use http::Method;
use serde_json::{Value, json};
use standin::dashboard::Kind;

use super::super::super::support::eventually;
use super::super::super::support::mounted::Mounted;
use super::super::super::support::webdriver::Chromium;
use super::super::PODS;
use super::keep_cookie;

/// What every script of the page has at hand.
const TOOLS: &str = r#"
const body = document.body;
const element = (tag, attributes) => body.appendChild(Object.assign(document.createElement(tag), attributes));
const loaded = (made) => new Promise((done) => { made.onload = () => done("loaded"); made.onerror = () => done("refused"); });
const load = (tag, attributes) => { const made = document.createElement(tag); const end = loaded(made); Object.assign(made, attributes); body.append(made); return end; };
const framed = (frame) => new Promise((done) => {
  frame.onload = () => { try { done(`read ${frame.contentWindow.location.href}`); } catch { done("unreadable"); } };
});
const post = (action) => {
  const frame = element("iframe", { name: `frame-${Math.random()}` });
  const end = framed(frame);
  element("form", { method: "post", action, target: frame.name }).submit();
  return end;
};
const connect = (url, ...protocols) => new Promise((done) => {
  const socket = new WebSocket(url.replace(/^http/, "ws"), protocols);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
});
"#;

/// Each with what the page gets to see of it.
const TRICKS: &[(&str, &str)] = &[
    // Forms, which no browser asks about first.
    ("return post(portal + '/logout')", "unreadable"),
    ("return post(portal + '/logout/everywhere')", "unreadable"),
    ("return post(portal + '/tokens')", "unreadable"),
    ("return post(portal + '/kubeconfig')", "unreadable"),
    ("return post(portal + pods)", "unreadable"),
    ("return post(victim + '/clusters/main' + pods)", "unreadable"),
    ("return post(victim + '/clusters/main/set-token')", "unreadable"),
    // Fetch, with the cookies that a sibling's requests carry, and without.
    ("return (await fetch(portal + pods, { credentials: 'include' })).status", "threw TypeError"),
    ("return (await fetch(portal + '/whoami', { credentials: 'include' })).status", "threw TypeError"),
    ("return (await fetch(portal + '/tokens', { credentials: 'omit' })).status", "threw TypeError"),
    ("return (await fetch(victim + '/config', { credentials: 'include' })).status", "threw TypeError"),
    ("return (await fetch(victim + '/', { credentials: 'omit' })).status", "threw TypeError"),
    (
        "return (await fetch(portal + pods, { mode: 'no-cors', credentials: 'include' })).type",
        "threw TypeError",
    ),
    (
        "return (await fetch(victim + '/', { mode: 'no-cors', credentials: 'include' })).type",
        "threw TypeError",
    ),
    (
        "const all = { method: 'POST', mode: 'no-cors', credentials: 'include' }; \
      const results = await Promise.allSettled([ \
        fetch(portal + '/tokens', { ...all, body: new URLSearchParams('name=theirs') }), \
        fetch(portal + '/logout/everywhere', { ...all, body: new URLSearchParams('') }), \
        fetch(portal + pods, { ...all, body: '{}' }), \
        fetch(victim + '/clusters/main' + pods, { ...all, body: '{}' }) ]); \
      return results.map((one) => one.status)",
        "rejected,rejected,rejected,rejected",
    ),
    (
        "return (await fetch(portal + pods, { method: 'DELETE', credentials: 'include' })).status",
        "threw TypeError",
    ),
    ("return navigator.sendBeacon(portal + '/logout/everywhere', new URLSearchParams(''))", "true"),
    // WebSockets, which know no such question at all.
    (
        "return connect(portal + pods + '/web/exec?container=c&command=id&stdout=1', 'v5.channel.k8s.io')",
        "refused",
    ),
    ("return connect(portal + pods + '?watch=1')", "refused"),
    ("return connect(victim + '/clusters/main' + pods + '?watch=1')", "refused"),
    ("return connect(victim + '/')", "refused"),
    // What a page can embed.
    ("return framed(element('iframe', { src: portal + '/' }))", "unreadable"),
    ("return framed(element('iframe', { src: victim + '/' }))", "unreadable"),
    ("return framed(element('iframe', { src: portal + pods }))", "unreadable"),
    ("return framed(element('iframe', { src: portal + '/login?return_to=/tokens' }))", "unreadable"),
    ("return load('img', { src: portal + pods })", "refused"),
    ("return load('img', { src: victim + '/' })", "refused"),
    ("return load('script', { src: portal + pods })", "refused"),
    ("return load('script', { src: victim + '/config' })", "refused"),
    ("return load('link', { rel: 'stylesheet', href: victim + '/' })", "refused"),
    ("return load('object', { data: victim + '/' })", "refused"),
    // A service worker would see each navigation to its host, and what comes with it.
    ("return (await navigator.serviceWorker.register('/worker.js')).scope", "threw TypeError"),
    ("return (await navigator.serviceWorker.register(victim + '/worker.js')).scope", "threw SecurityError"),
    // Other windows.
    (
        "const other = open(portal + '/'); await new Promise((done) => setTimeout(done, 300)); \
      try { return other.document.title; } finally { other.close(); }",
        "threw SecurityError|threw TypeError|",
    ),
    (
        "const other = open(victim + '/'); await new Promise((done) => setTimeout(done, 300)); \
      try { return other.location.href; } finally { other.close(); }",
        "threw SecurityError|about:blank",
    ),
];

/// A hostile page, open in the browser of alice, who is signed in at the portal, at Headlamp and at its own host.
pub(super) struct Trap {
    pub(super) mounted: Mounted,
    pub(super) browser: Chromium,
}

impl Trap {
    pub(super) async fn set() -> Self {
        let page = Kind::Page("<title>A prize</title><link rel=icon href=data:,><h1>A prize</h1>".to_owned());
        let mounted = Mounted::start(&[("headlamp", Kind::Headlamp), ("prize", page)]).await;
        mounted.world.api.put_pod("team-a", "web");
        mounted.world.entra.sign_in_directly(Some("alice"));
        let browser = mounted.chromium().await;
        for (url, text) in [
            (mounted.world.at("/"), "Alice Admin"),
            (mounted.at("headlamp", "/"), "watching:"),
            (mounted.at("prize", "/"), "A prize"),
        ] {
            browser.open(&url).await;
            browser.sees(text).await;
            keep_cookie(&mounted, &browser).await;
        }
        // Headlamp's watch has ended with its page.
        mounted.streams(0).await;
        Self { mounted, browser }
    }

    /// Runs a script in the hostile page; what it got, as text.
    pub(super) async fn run(&self, script: &str) -> String {
        let (portal, victim) = (&self.mounted.world.url, self.mounted.at("headlamp", ""));
        let script = format!(
            "const [done] = arguments, portal = '{portal}', victim = '{victim}', pods = '{PODS}'; {TOOLS}\n\
             (async () => {{ {script} }})().then((got) => done(String(got)), (error) => done(`threw ${{error.name}}`));"
        );
        match self.browser.run_async(&script).await {
            Value::String(got) => got,
            other => panic!("{script}: {other}"),
        }
    }

    /// Takes the cookie of a mount's host out of the browser.
    pub(super) async fn forget(&self, name: &str) {
        let cookie = json!({ "name": "__Host-entrada", "url": self.mounted.at(name, "/") });
        self.browser.devtools("Network.deleteCookies", cookie).await;
    }

    pub(super) async fn keep_cookie(&self) {
        keep_cookie(&self.mounted, &self.browser).await;
    }

    /// How much has come to the victim's dashboard and to the API server.
    fn reached(&self) -> (usize, usize) {
        (self.mounted.dashboard("headlamp").heard().len(), self.mounted.world.api.requests().len())
    }

    /// Alice is still signed in where she was, and has no token that she did not make.
    pub(super) async fn assert_untouched(&self) {
        self.browser.open(&self.mounted.world.url).await;
        self.browser.sees("Alice Admin").await;
        self.browser.sees("None yet.").await;
        self.browser.open(&self.mounted.at("headlamp", "/")).await;
        self.browser.sees("signed in as").await;
        self.browser.sees("pods: web.").await;
    }
}

/// Proves, trick by trick, that the page reads nothing, and that nothing of it reaches the cluster or the other dashboard.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_page_reads_nothing_and_changes_nothing() {
    let trap = Trap::set().await;
    let mut faults = Vec::new();
    for (script, expected) in TRICKS {
        let before = trap.reached();
        let got = trap.run(script).await;
        if !expected.split('|').any(|one| one == got) {
            faults.push(format!("{script}: {got:?}, not {expected:?}"));
        }
        // What a window of its own shows is its person's to see.
        if !script.contains("open(") && trap.reached() != before {
            faults.push(format!("{script}: it came through"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let requests = trap.mounted.world.api.requests();
    let changes = requests.iter().filter(|own| own.method != Method::GET && own.target.starts_with(PODS));
    assert_eq!(changes.count(), 0);
    trap.assert_untouched().await;
}

/// Proves that cookies which the page sets for the whole domain count nowhere: not those that look like ours, and not many
/// of them.
#[tokio::test(flavor = "multi_thread")]
async fn tossed_cookies_count_nowhere() {
    let trap = Trap::set().await;
    let names = [
        "__Host-entrada",
        "__host-entrada",
        " __Host-entrada",
        "\\u2000__Host-entrada",
        "=__Host-entrada",
        "__Host-entrada-enter-abcdefgh",
    ];
    for name in names {
        for rest in [
            "Domain=contoso.example; Path=/; Secure",
            "Domain=contoso.example; Path=/",
            "Domain=contoso.example; Path=/clusters; Secure",
        ] {
            let script = format!("document.cookie = '{name}=' + 'x'.repeat(43) + '; {rest}'; return 'set'");
            assert_eq!(trap.run(&script).await, "set");
        }
    }
    let many = "for (let at = 0; at < 40; at++) document.cookie = `tossed${at}=${'x'.repeat(20)}; Domain=contoso.example; Path=/; Secure`; return document.cookie.split('; ').filter((one) => one.startsWith('tossed')).length";
    assert_eq!(trap.run(many).await, "40");
    trap.assert_untouched().await;
    // Those with other names are the dashboards' own business. One that is named as ours went nowhere.
    let headlamp = trap.mounted.dashboard("headlamp");
    let heard = headlamp.heard();
    let cookies: Vec<_> = heard.last().unwrap().values("cookie").collect();
    assert!(cookies.iter().any(|cookie| cookie.contains("tossed0=")), "{cookies:?}");
    let pairs = heard.iter().flat_map(|heard| heard.values("cookie")).flat_map(|line| line.split(';'));
    let ours: Vec<_> = pairs.filter(|pair| pair.trim_matches(' ').starts_with("__Host-entrada")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Proves that the way into a mount leaves its one-time code nowhere that a script or a server of that mount can look.
#[tokio::test(flavor = "multi_thread")]
async fn the_one_time_code_is_nowhere_to_be_read() {
    let trap = Trap::set().await;
    // A window that goes through the sign-in once more, under the eyes of the page that opened it.
    trap.forget("prize").await;
    let opened = trap.browser.tab().await;
    let seen = trap
        .run(
            "const seen = [], other = open('/again'); \
             for (let end = Date.now() + 4000, there = false; Date.now() < end && !there;) { \
               try { seen.push(other.location.href, other.document.referrer); there = other.location.pathname === '/again' && other.document.title; } \
               catch (error) { seen.push(error.name); } \
               await new Promise((done) => setTimeout(done)); } \
             return JSON.stringify(seen)",
        )
        .await;
    eventually("the other window", async || {
        trap.mounted.dashboard("prize").heard().iter().any(|own| own.target == "/again")
    })
    .await;
    assert!(!seen.contains("code="), "{seen}");
    for tab in trap.browser.tabs().await {
        trap.browser.look_at(&tab).await;
        trap.browser.sees("A prize").await;
        let url = trap.browser.url().await;
        assert_eq!(url, trap.mounted.at("prize", if tab == opened { "/" } else { "/again" }));
        let told = trap
            .run(
                "return JSON.stringify([location.href, document.referrer, history.length, \
                   ...performance.getEntries(), ...(window.navigation?.entries() ?? []).map((entry) => entry.url)])",
            )
            .await;
        assert!(told.contains(&url) && !told.contains("code="), "{told}");
        keep_cookie(&trap.mounted, &trap.browser).await;
    }
    let heard = trap.mounted.dashboard("prize").heard();
    for heard in &heard {
        let all = format!("{heard:?}");
        assert!(!all.contains("code=") && !all.contains(".entrada"), "{all}");
    }
}
