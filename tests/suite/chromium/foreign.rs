//! Pages of other origins, in the same browser.

use http::{Request, Response};
use hyper::body::Incoming;
use standin::serve::{Listener, full};

use super::super::support::World;
use super::{PODS, alice, world};

/// Fires everything at Entrada that a page of another origin can, and says "done". The fetches that hide their answers
/// (`no-cors`) are the ones that a browser sends without asking the other side first.
const ATTACKS: &str = r#"
const hidden = { mode: "no-cors", credentials: "include" };
const form = { "content-type": "application/x-www-form-urlencoded" };
const socket = new WebSocket(target.replace("https", "wss") + pods + "/web/exec?container=c&command=id&stdout=1");
const loaded = (element) => new Promise((done) => { element.onload = element.onerror = done; });
const image = new Image();
image.src = target + pods + "?by=image";
const script = document.createElement("script");
script.src = target + pods + "?by=script";
document.head.append(script);
Promise.allSettled([
  fetch(target + pods + "?by=fetch", { credentials: "include" }),
  fetch(target + pods + "?by=hidden", hidden),
  fetch(target + pods + "?by=post", { ...hidden, method: "POST", body: "{}" }),
  fetch(target + "/tokens", { ...hidden, method: "POST", headers: form, body: "name=theirs" }),
  fetch(target + "/logout/everywhere", { ...hidden, method: "POST", headers: form, body: "" }),
  new Promise((done) => { socket.onopen = () => done("open"); socket.onerror = () => done("refused"); }),
  loaded(image),
  loaded(script),
]).then((results) => {
  document.querySelector("pre").textContent = `done: ${results[0].status}, socket ${results[5].value}`;
});
"#;

/// A site with one page: it attacks `target` by itself, and once more when its button is pressed.
async fn site(world: &World) -> Listener {
    let form = format!("<form method=post action={}/logout><button>Win a prize</button></form>", world.url);
    serve(world, &form, ATTACKS).await
}

/// A site with one page: this HTML, a `pre` to write into, and a script that knows `target` and `pods`.
pub(super) async fn serve(world: &World, html: &str, script: &str) -> Listener {
    let target = world.url.clone();
    let page = format!(
        "<!doctype html><title>Another site</title><link rel=icon href=data:,>{html}<pre></pre>\
         <script>const target = \"{target}\", pods = \"{PODS}\";{script}</script>"
    );
    let tls = world.ca.issue(&[]).unwrap().server_config().unwrap();
    let answer = move |_: Request<Incoming>| {
        let page = Response::builder().header("content-type", "text/html").body(full(page.clone()));
        async { Ok(page?) }
    };
    Listener::start(([127, 0, 0, 1], 0).into(), tls, answer).await.unwrap()
}

/// Alice, signed in, comes to a page of this host's that attacks: each attack is refused with the expected status and
/// reason, and her session, her tokens and the cluster stay untouched.
async fn assert_powerless(host: &str, expected: (u64, &str)) {
    let world = world().await;
    let browser = alice(&world).await;
    let site = site(&world).await;
    let _earlier = browser.answers().await;
    browser.open(&format!("https://{host}:{}/", site.addr().port())).await;
    browser.sees("done: rejected, socket refused").await;
    let requests = world.api.requests();
    let reached: Vec<_> = requests.iter().filter(|request| request.target.starts_with(PODS)).collect();
    assert!(reached.is_empty(), "{reached:?}");
    browser.press("Win a prize").await;
    browser.sees("Not allowed").await;
    let answers = browser.answers().await;
    let refusal = |path: &str| {
        let answer = answers.iter().find(|answer| answer.url == world.at(path));
        answer.map(|answer| (answer.status, answer.header("entrada-reason")))
    };
    assert_eq!(refusal("/logout"), Some((403, "cross_origin")));
    for by in ["fetch", "hidden", "post", "image", "script"] {
        assert_eq!(refusal(&format!("{PODS}?by={by}")), Some(expected), "{by}");
    }
    for path in ["/tokens", "/logout/everywhere"] {
        assert_eq!(refusal(path), Some(expected), "{path}");
    }
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    browser.sees("None yet.").await;
}

/// Proves that another port of our own host, to which the browser sends the cookie, can neither act nor read with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_same_site_is_powerless() {
    assert_powerless("127.0.0.1", (403, "cross_origin")).await;
}

/// Proves that a page of another site can neither act nor read with the cookie.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_is_powerless() {
    assert_powerless("localhost", (401, "no_credential")).await;
}
