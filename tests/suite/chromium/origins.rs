//! A page of a configured origin: a console that somebody wrote for their own cluster.

use super::super::support::World;
use super::super::support::webdriver::Chromium;
use super::PODS;
use super::sites::{CONSOLE, PORTAL, SIBLING, STRANGER, Site, world};

/// Does what a console does, and writes down what comes of it, one line each.
const PAGE: &str = r#"
const call = (path, init) => fetch(target + path, { credentials: "include", ...init });
const merge = { "content-type": "application/merge-patch+json" };
const labels = JSON.stringify({ metadata: { labels: { seen: "yes" } } });
const attempt = async (name, what) => {
  try { say(`${name}: ${await what()}`); } catch (error) { say(`${name}: ${error.name}`); }
};
const told = async (answer) => `${answer.status} ${answer.headers.get("entrada-reason")}`;
(async () => {
  await attempt("list", async () => (await (await call(pods)).json()).items.map((pod) => pod.metadata.name));
  await attempt("patch", async () => (await call(pods + "/web", { method: "PATCH", headers: merge, body: labels })).status);
  await attempt("delete", async () => (await call(pods + "/none", { method: "DELETE" })).status);
  await attempt("proxy", async () => told(await call(pods + "/web/proxy/")));
  await attempt("who", async () => (await (await call("/whoami")).json()).user.username);
  await attempt("renewed", async () => (await call("/refresh", { method: "POST" })).status);
  await attempt("tokens", async () => (await call("/tokens")).status);
  await attempt("token", async () => (await call("/tokens", { method: "POST" })).status);
  await attempt("everywhere", async () => (await call("/logout/everywhere", { method: "POST" })).status);
  await attempt("hidden", async () => (await call(pods, { mode: "no-cors" })).type);
  await attempt("watch", async () => {
    const answer = await call(pods + "?watch=1&resourceVersion=0");
    watch(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    return answer.status;
  });
  await attempt("exec", () => new Promise((done, failed) => {
    const socket = new WebSocket(
      target.replace("https", "wss") + pods + "/web/exec?container=c&command=echo&command=hello&stdout=1",
      ["v5.channel.k8s.io"]);
    socket.binaryType = "arraybuffer";
    let said = "";
    socket.onmessage = (event) => { said += new TextDecoder().decode(new Uint8Array(event.data).slice(1)); };
    socket.onerror = () => failed(new Error());
    socket.onclose = () => done(said.split("\\n")[0]);
  }));
  say("done");
})();
async function watch(reader) {
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
      if (text.includes("\"newcomer\"")) { say("watch: newcomer"); text = ""; }
    }
  } catch (error) { /* A watch may also end by a break. */ }
  say("watch: ended");
  await attempt("after", async () => {
    const answer = await call(pods);
    return `${await told(answer)} ${answer.headers.get("warning")}`;
  });
}
"#;

/// A world in which the console's page is welcome.
async fn welcoming(site: &Site) -> World {
    let origins = site.origin(CONSOLE);
    let world = world(|raw| raw.allowed_origins = Some(origins)).await;
    world.api.put_pod("team-a", "web");
    world
}

async fn assert_says(browser: &Chromium, lines: &[&str]) {
    browser.sees("done").await;
    let text = browser.text().await;
    for line in lines {
        assert!(text.lines().any(|said| said == *line), "{line} is missing in:\n{text}");
    }
}

/// Proves that a configured origin's page can list, change, watch and open a tunnel as its visitor, that it reads why it
/// is refused, and that neither tokens nor pods' pages come into its hands.
#[tokio::test(flavor = "multi_thread")]
async fn a_configured_page_acts_as_its_visitor() {
    let site = Site::start("", PAGE).await;
    let world = welcoming(&site).await;
    let browser = site.alice(&world).await;
    browser.open(&site.page(CONSOLE, &world)).await;
    let said = [
        "list: web",
        "patch: 200",
        "delete: 404",
        "proxy: 403 proxy_by_cookie",
        "who: alice@contoso.example",
        "renewed: 200",
        "tokens: TypeError",
        "token: TypeError",
        "everywhere: TypeError",
        "hidden: TypeError",
        "watch: 200",
        "exec: hello",
    ];
    assert_says(&browser, &said).await;
    let pod = world.api.get("pods", "team-a", "web").unwrap();
    assert_eq!(pod["metadata"]["labels"]["seen"], "yes");
    world.api.assert_only_users(&[world.entra.user("alice").unwrap().kubernetes_name()]);
    world.api.put_pod("team-a", "newcomer");
    browser.sees("watch: newcomer").await;
    // The sign-out in another tab ends the watch, and the page can read what has happened.
    let console = browser.tab().await;
    browser.new_tab().await;
    browser.open(&world.url).await;
    browser.press("Sign out").await;
    browser.sees("You are signed out").await;
    browser.look_at(&console).await;
    browser.sees("watch: ended").await;
    browser.sees("after: 401").await;
    let text = browser.text().await;
    assert!(text.contains(&format!("Sign in again: {}", world.at("/login"))), "{text}");
}

/// Proves that being welcome is exact: neither a sibling nor a stranger nor another port can do any of it.
#[tokio::test(flavor = "multi_thread")]
async fn being_welcome_is_exact() {
    let site = Site::start("", PAGE).await;
    let world = welcoming(&site).await;
    let browser = site.alice(&world).await;
    for host in [SIBLING, PORTAL, STRANGER] {
        browser.open(&site.page(host, &world)).await;
        let names =
            ["list", "patch", "delete", "proxy", "who", "renewed", "tokens", "token", "everywhere", "watch"];
        let refused: Vec<String> = names.iter().map(|name| format!("{name}: TypeError")).collect();
        let refused: Vec<&str> = refused.iter().map(String::as_str).chain(["exec: Error"]).collect();
        assert_says(&browser, &refused).await;
    }
    let requests = world.api.requests();
    assert!(!requests.iter().any(|request| request.target.starts_with(PODS)), "{requests:?}");
}

/// Proves what the documentation says of a configured origin on another site: the browser keeps the cookie from it, so that
/// it needs a token, and with one it may read.
#[tokio::test(flavor = "multi_thread")]
async fn a_configured_page_of_another_site_needs_a_token() {
    let script = r#"
      const call = async (headers) => {
        const answer = await fetch(target + pods, { credentials: "include", headers });
        say(`${answer.status} ${answer.headers.get("entrada-reason")}`);
      };
      document.querySelector("button").onclick = () => {
        call({ authorization: `Bearer ${document.querySelector("input").value}` });
      };
      call({});
    "#;
    let site = Site::start("<input><button>Go</button>", script).await;
    let origins = site.origin(STRANGER);
    let world = world(|raw| raw.allowed_origins = Some(origins)).await;
    let browser = site.alice(&world).await;
    let token = super::token_by_form(&world, &browser, "page").await;
    browser.open(&site.page(STRANGER, &world)).await;
    browser.sees("401 no_credential").await;
    browser.enter("input", &token).await;
    browser.press("Go").await;
    browser.sees("200 null").await;
}
