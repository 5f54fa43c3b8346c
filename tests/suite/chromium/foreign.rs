//! Hostile pages, in the browser in which alice has signed in.

use super::super::support::World;
use super::super::support::webdriver::{Answer, Chromium};
use super::PODS;
use super::sites::{PORTAL, SIBLING, STRANGER, Site, world};

/// Fires everything at Entrada that a page of another origin can, and says "done". The fetches that hide their answers
/// (`no-cors`) are the ones that a browser sends without asking the other side first.
const ATTACKS: &str = r#"
// A cookie for all hosts of the domain would come beside ours, or in its place. The second one has no name, and reads the
// same on the wire.
for (const cookie of ["__Host-entrada=theirs", "=__Host-entrada=theirs"]) {
  for (const domain of ["; Domain=example.com", ""]) document.cookie = cookie + domain + "; Path=/; Secure";
}
const hidden = { mode: "no-cors", credentials: "include" };
const form = { "content-type": "application/x-www-form-urlencoded" };
const socket = new WebSocket(target.replace("https", "wss") + pods + "/web/exec?container=c&command=id&stdout=1");
const loaded = (name, attribute, by, more) => new Promise((done) => {
  const element = Object.assign(document.createElement(name), more);
  element.onload = element.onerror = done;
  element.setAttribute(attribute, target + pods + "/" + by);
  document.head.append(element);
});
const read = (by, init) => fetch(target + pods + "/" + by, { credentials: "include", ...init });
Promise.allSettled([
  read("fetch"),
  read("json", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }),
  read("delete", { method: "DELETE" }),
  fetch(target + "/whoami", { credentials: "include" }),
  fetch(target + pods + "/hidden", hidden),
  fetch(target + pods + "/post", { ...hidden, method: "POST", body: "{}" }),
  fetch(target + "/tokens", { ...hidden, method: "POST", headers: form, body: "name=theirs" }),
  fetch(target + "/logout/everywhere", { ...hidden, method: "POST", headers: form, body: "" }),
  Promise.resolve(navigator.sendBeacon(target + pods + "/beacon", "{}")),
  loaded("img", "src", "image"),
  loaded("script", "src", "script"),
  loaded("link", "href", "style", { rel: "stylesheet" }),
  loaded("link", "href", "prefetch", { rel: "prefetch" }),
  new Promise((done) => { const events = new EventSource(target + pods + "/events", { withCredentials: true });
                          events.onerror = () => { events.close(); done(); }; }),
  new Promise((done) => { socket.onopen = () => done("open"); socket.onerror = () => done("refused"); }),
  navigator.serviceWorker.register(target + pods + "/worker"),
]).then((results) => {
  const read = results.slice(0, 4).filter((result) => result.status === "fulfilled").length;
  say(`done: ${read} read, socket ${results[14].value}, worker ${results[15].status}`);
});
"#;

/// What a browser embeds; each is a page or a picture of its own, and none may show anything.
const EMBEDDED: &str = "<iframe src=\"TARGET/frame\"></iframe><object data=\"TARGET/object\"></object>\
                        <embed src=\"TARGET/embed\"><video src=\"TARGET/video\"></video>";

/// A site with one page: it attacks the portal by itself, and once more when its button is pressed.
async fn site(world: &World) -> Site {
    let form = format!("<form method=post action={}/logout><button>Win a prize</button></form>", world.url);
    let embedded = EMBEDDED.replace("TARGET", &world.at(PODS));
    Site::start(&format!("{form}{embedded}"), ATTACKS).await
}

/// Status and reason of the answer to the request for this path.
fn refusal<'a>(world: &World, answers: &'a [Answer], path: &str) -> Option<(u64, &'a str)> {
    let answer = answers.iter().find(|answer| answer.url == world.at(path));
    answer.map(|answer| (answer.status, answer.header("entrada-reason")))
}

/// Alice, signed in, comes to a page of this host's that attacks: each attack is refused with the expected status and
/// reason, and her session, her tokens and the cluster stay untouched.
async fn assert_powerless(host: &str, expected: (u64, &str)) {
    let world = world(|_| {}).await;
    let site = site(&world).await;
    let browser = site.alice(&world).await;
    let _earlier = browser.answers().await;
    browser.open(&site.page(host, &world)).await;
    browser.sees("done: 0 read, socket refused, worker rejected").await;
    let mut answers = browser.answers().await;
    browser.press("Win a prize").await;
    browser.sees("Not allowed").await;
    answers.extend(browser.answers().await);
    let requests = world.api.requests();
    let reached: Vec<_> = requests.iter().filter(|request| request.target.starts_with(PODS)).collect();
    assert!(reached.is_empty(), "{reached:?}");
    assert_eq!(refusal(&world, &answers, "/logout"), Some((403, "cross_origin")));
    for by in ["fetch", "hidden", "post", "beacon", "image", "script", "style", "prefetch", "events", "video"]
    {
        assert_eq!(refusal(&world, &answers, &format!("{PODS}/{by}")), Some(expected), "{by}");
    }
    for by in ["frame", "object", "embed"] {
        // Frames of another site have a log of their own in the browser; this is ours.
        let refused = world.logged(&format!("{PODS}/{by}\""));
        assert!(refused.iter().any(|line| line.contains(expected.1)), "{by}: {refused:?}");
    }
    // The browser asks first, and gets no leave.
    for by in ["json", "delete"] {
        let refused = refusal(&world, &answers, &format!("{PODS}/{by}"));
        assert_eq!(refused, Some((401, "no_credential")), "{by}");
    }
    for path in ["/tokens", "/logout/everywhere", "/whoami"] {
        assert_eq!(refusal(&world, &answers, path), Some(expected), "{path}");
    }
    assert!(answers.iter().all(|answer| answer.header("access-control-allow-origin").is_empty()));
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    browser.sees("None yet.").await;
}

/// Proves that a sibling host, to which the browser sends the cookie, can neither act nor read with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_sibling_host_is_powerless() {
    assert_powerless(SIBLING, (403, "cross_origin")).await;
}

/// Proves the same of another port of our own host.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_port_is_powerless() {
    assert_powerless(PORTAL, (403, "cross_origin")).await;
}

/// Proves that a page of another site can neither act nor read with the cookie.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_is_powerless() {
    assert_powerless(STRANGER, (401, "no_credential")).await;
}

/// Proves that a link from elsewhere leads to what it names, and that the page which opened it sees nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_elsewhere_leads_there_and_tells_nothing() {
    let world = world(|_| {}).await;
    let site = Site::start(
        "<button>Look</button>",
        r#"document.querySelector("button").onclick = () => {
             const other = window.open(target + pods);
             const peek = (what) => { try { return what(); } catch (error) { return error.name; } };
             setInterval(() => {
               document.querySelector("pre").textContent = [
                 peek(() => other.document.body.textContent), peek(() => other.location.href),
                 peek(() => other.frames.length)].join(" ");
             }, 20);
           };"#,
    )
    .await;
    let browser = site.alice(&world).await;
    for host in [SIBLING, STRANGER] {
        browser.open(&site.page(host, &world)).await;
        let here = browser.tab().await;
        browser.press("Look").await;
        let there = opened(&browser, &here).await;
        browser.look_at(&there).await;
        browser.sees("\"PodList\"").await;
        browser.look_at(&here).await;
        browser.sees("SecurityError SecurityError 0").await;
        browser.look_at(&there).await;
        browser.close().await;
        browser.look_at(&here).await;
    }
}

/// The tab that a page has opened.
async fn opened(browser: &Chromium, opener: &str) -> String {
    browser.until("another tab", || async { browser.tabs().await.len() == 2 }).await;
    browser.tabs().await.into_iter().find(|tab| tab != opener).unwrap()
}
