//! A dashboard on an origin of its own, which can set no header on a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use standin::browser::Browser;

use super::super::support::World;
use super::sites::{STRANGER, Site};
use super::{PODS, world};

/// Runs `echo hello` in a pod and shows what comes of it.
const DASHBOARD: &str = r#"
const socket = new WebSocket(
  target.replace("https", "wss") + pods + "/web/exec?container=c&command=echo&command=hello&stdout=1",
  ["v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io." + bearer]);
socket.binaryType = "arraybuffer";
let said = "";
socket.onmessage = (event) => { said += new TextDecoder().decode(new Uint8Array(event.data).slice(1)); };
socket.onclose = () => { document.querySelector("pre").textContent = `closed: ${socket.protocol} ${said}`; };
"#;

async fn token(world: &World) -> String {
    let browser: Browser = world.signed_in("alice").await;
    world.token(&browser).await
}

/// Proves that a WebSocket of a real page bears a token in its subprotocol, that exec answers through it, and that the
/// API server sees the user's own token and never ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_pages_websocket_bears_a_token_in_its_subprotocol() {
    let world = world().await;
    world.api.put_pod("team-a", "web");
    let token = token(&world).await;
    let bearer = URL_SAFE_NO_PAD.encode(&token);
    world.keep_secret(bearer.as_str());
    let script = format!("const bearer = \"{bearer}\";{DASHBOARD}");
    let site = Site::start("", &script).await;
    let browser = site.browser(&world).await;
    browser.open(&site.page(STRANGER, &world)).await;
    browser.sees("closed: v5.channel.k8s.io hello").await;
    let seen = world.api.requests().into_iter().find(|request| request.target.starts_with(PODS)).unwrap();
    assert_eq!(seen.header_values("sec-websocket-protocol"), ["v5.channel.k8s.io"]);
    assert_eq!(seen.user.as_deref(), Some(world.entra.user("alice").unwrap().kubernetes_name()));
}

/// Proves that the same page with a token of nobody's gets no tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_pages_websocket_with_a_foreign_token_is_refused() {
    let world = world().await;
    let script = format!("const bearer = \"bm9ib2R5\";{DASHBOARD}");
    let site = Site::start("", &script).await;
    let browser = site.browser(&world).await;
    browser.open(&site.page(STRANGER, &world)).await;
    browser.sees("closed:").await;
    assert!(world.api.requests().is_empty());
}
