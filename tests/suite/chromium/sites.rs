//! Hosts as they are in life: the portal at one, and pages of siblings and strangers at others, all of them this machine.

use entrada::config::RawConfig;
use http::{Request, Response};
use hyper::body::Incoming;
use standin::pki::Ca;
use standin::serve::{Listener, full};

use super::super::support::World;
use super::super::support::webdriver::Chromium;
use super::{PODS, pick_alice};

/// Where the portal is.
pub(super) const PORTAL: &str = "k8s.example.com";
/// The same site as the portal, and so sent its cookie.
pub(super) const SIBLING: &str = "evil.example.com";
/// The same, but welcome.
pub(super) const CONSOLE: &str = "console.example.com";
/// Another site.
pub(super) const STRANGER: &str = "evil.example.org";

const HOSTS: &str = "MAP *.example.com 127.0.0.1, MAP *.example.org 127.0.0.1";

/// One page, at all of these hosts.
pub(super) struct Site {
    listener: Listener,
    ca: Ca,
}

impl Site {
    /// A page of this HTML, with a `pre` to write into, and of a script that knows `target` and `pods`.
    pub(super) async fn start(html: &str, script: &str) -> Self {
        let page = format!(
            "<!doctype html><title>Another site</title><link rel=icon href=data:,>{html}<pre></pre><script>\
             const target = new URLSearchParams(location.search).get(\"of\"), pods = \"{PODS}\";\
             const say = (text) => {{ document.querySelector(\"pre\").textContent += text + \"\\n\"; }};\
             {script}</script>"
        );
        let ca = Ca::new("another authority").unwrap();
        let tls = ca.issue(&[PORTAL, SIBLING, CONSOLE, STRANGER]).unwrap().server_config().unwrap();
        let answer = move |_: Request<Incoming>| {
            let page = Response::builder().header("content-type", "text/html").body(full(page.clone()));
            async { Ok(page?) }
        };
        let listener = Listener::start(([127, 0, 0, 1], 0).into(), tls, answer).await.unwrap();
        Self { listener, ca }
    }

    pub(super) fn origin(&self, host: &str) -> String {
        format!("https://{host}:{}", self.listener.addr().port())
    }

    /// The page's address at this host, about this world's Entrada.
    pub(super) fn page(&self, host: &str, world: &World) -> String {
        format!("{}/?of={}", self.origin(host), world.url)
    }

    /// A browser without a user that finds all of them.
    pub(super) async fn browser(&self, world: &World) -> Chromium {
        Chromium::start(&format!("{}{}", world.ca.pem(), self.ca.pem()), HOSTS).await
    }

    /// The same, in which alice has signed in.
    pub(super) async fn alice(&self, world: &World) -> Chromium {
        let browser = self.browser(world).await;
        browser.open(&world.url).await;
        pick_alice(world, &browser).await;
        browser
    }
}

/// A world whose portal is at [`PORTAL`].
pub(super) async fn world(change: impl FnOnce(&mut RawConfig)) -> World {
    let named = |url: &str| url.replace("localhost", PORTAL);
    let mut world = World::start_with(|raw| {
        raw.public_url = raw.public_url.as_deref().map(named);
        change(raw);
    })
    .await;
    world.url = named(&world.url);
    world.entra.set_redirect_uris(vec![world.at("/callback")]);
    world
}
