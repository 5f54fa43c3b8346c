//! Dashboards on hosts of their own.

mod elsewhere;
mod entry;
mod guards;
mod troubles;

use std::net::SocketAddr;
use std::time::Duration;

use entrada::config::RawConfig;
use http::Method;
use standin::browser::{Browser, Page};
use tokio::io::AsyncReadExt as _;

use super::support::dashboard::Dashboard;
use super::support::wire::Wire;
use super::support::{PATIENCE, World};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const SECOND: Duration = Duration::from_secs(1);

/// Entrada with two dashboards, `headlamp` and `pods`.
struct Mounted {
    world: World,
    headlamp: Dashboard,
    pods: Dashboard,
}

/// The setting for dashboards of these names at these addresses.
fn setting(raw: &RawConfig, mounts: &[(&str, SocketAddr)]) -> Option<String> {
    let port = raw.public_url.as_deref().unwrap().rsplit(':').next().unwrap();
    let mount =
        |(name, addr): &(&str, SocketAddr)| format!("https://{name}.localhost:{port}=http://{addr};insecure");
    Some(mounts.iter().map(mount).collect::<Vec<_>>().join(","))
}

/// Clicks on the page that keeps a fragment, which a browser with scripts leaves by itself.
async fn on(browser: &Browser, page: &Page) -> Page {
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text().replace("&#x2f;", "/").replace("&amp;", "&");
    let href = text.split("id=\"go\" href=\"").nth(1).unwrap_or_else(|| panic!("{text}"));
    let next = page.url.join(href.split('"').next().unwrap()).unwrap();
    browser.navigate(next.as_str()).await.unwrap()
}

impl Mounted {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut RawConfig)) -> Self {
        let (headlamp, pods) = (Dashboard::start().await, Dashboard::start().await);
        let world = World::start_with(|raw| {
            raw.mounts = setting(raw, &[("headlamp", headlamp.addr), ("pods", pods.addr)]);
            change(raw);
        })
        .await;
        Self { world, headlamp, pods }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.world.mount("headlamp"))
    }

    /// A browser in which the user has signed in on the way to the first dashboard.
    async fn entered(&self, user: &str) -> Browser {
        let browser = self.world.browser();
        let page = browser.navigate(&self.at("/")).await.unwrap();
        let page = on(&browser, &page).await;
        let page = browser.choose(page, user).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(page.url.as_str(), self.at("/"));
        self.world.keep_secret(self.world.session_cookie(&browser).unwrap());
        self.world.keep_secret(self.cookie(&browser).unwrap());
        browser
    }

    /// The browser's cookie for the first dashboard.
    fn cookie(&self, browser: &Browser) -> Option<String> {
        browser.cookie(&self.at("/"), "__Host-entrada")
    }

    /// A request on the first dashboard's host, written by hand.
    async fn wire(&self, browser: &Browser, head: &str) -> Wire {
        let mut wire = Wire::open(&self.world).await;
        let host = self.world.mount("headlamp").replace("https://", "");
        let cookie = self.cookie(browser).unwrap();
        wire.write(format!("{head}\r\nhost: {host}\r\ncookie: __Host-entrada={cookie}\r\n\r\n")).await;
        wire
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_visit_signs_in_and_comes_back() {
    // Proves the way in: to Entra, back to the page that was asked for, and into the next dashboard without a click.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.world.browser());
    let asked = mounted.at("/c/main/pods?namespace=team%2Da&&x");
    let page = on(&browser, &browser.navigate(&asked).await.unwrap()).await;
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!((page.status.as_u16(), page.url.as_str()), (200, asked.as_str()), "{}", page.text());
    assert!(page.text().starts_with("dashboard: GET /c/main/pods?namespace=team%2Da&&x"), "{}", page.text());
    let cookie = mounted.cookie(&browser).unwrap();
    world.keep_secret(&cookie);
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_ne!(Some(cookie), world.session_cookie(&browser), "each host has its own");
    assert_eq!(browser.cookie_names(&asked), ["__Host-entrada"], "nothing else is left there");

    // The dashboard acts as alice with what it got.
    let bearer = mounted.headlamp.bearer(world);
    let list = world.call(Method::GET, PODS, &bearer).await;
    assert_eq!(list.status, 200, "{}", list.text());
    assert_eq!(
        world.api.requests().last().unwrap().user,
        world.entra.user("alice").map(|user| user.kubernetes_name().to_owned())
    );

    let page = browser.navigate(&format!("{}/x?y", world.mount("pods"))).await.unwrap();
    assert_eq!((page.status.as_u16(), page.text().as_str()), (200, "dashboard: GET /x?y "));
    assert!(
        page.hops.iter().all(|hop| hop.host_str() != Some("127.0.0.1")),
        "not by way of Entra: {:?}",
        page.hops
    );
    let other = mounted.pods.bearer(world);
    assert_ne!(other, bearer, "each dashboard has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboards_bearer_opens_the_api_and_nothing_else() {
    // Proves that what a dashboard holds is of no use but for the API, ends within an hour, and is renewed with use.
    let mounted = Mounted::start().await;
    let world = &mounted.world;
    let browser = mounted.entered("alice").await;
    let bearer = mounted.headlamp.bearer(world);
    for path in ["/whoami", "/tokens", "/kubeconfig", "/device"] {
        let page = world.call(Method::GET, path, &bearer).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "api_only"), "{path}");
    }
    for (path, reason) in [
        ("/refresh", "api_only"),
        ("/cli/renew", "api_only"),
        ("/tokens", "api_only"),
        ("/cli/revoke", "unknown_token"),
        ("/logout/everywhere", "api_only"),
    ] {
        let page = world.call(Method::POST, path, &bearer).await;
        assert_eq!(page.header("entrada-reason"), reason, "{path}: {}", page.text());
    }
    // Not as a cookie, on either host; not as a token; not as a bearer on the dashboard's own host.
    let raw =
        world.call_with(Method::GET, "/whoami", &[("cookie", &format!("__Host-entrada={bearer}"))]).await;
    assert_eq!((raw.status.as_u16(), raw.header("entrada-reason")), (401, "unknown_cookie"));
    let stranger = world.browser();
    let page =
        stranger.get_with(&mounted.at("/"), &[("authorization", &format!("Bearer {bearer}"))]).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "no_credential"));
    let cookie = mounted.cookie(&browser).unwrap();
    assert_eq!(world.with_cookie("/whoami", &cookie).await.status, 401, "the mount's cookie opens no portal");
    let own = format!("__Host-entrada={cookie}");
    let own = [("cookie", own.as_str())];
    assert_eq!(stranger.get_with(&mounted.at("/"), &own).await.unwrap().status, 200);
    let elsewhere = format!("{}/", world.mount("pods"));
    assert_eq!(stranger.get_with(&elsewhere, &own).await.unwrap().status, 401, "nor another dashboard");
    let portal = world.session_cookie(&browser).unwrap();
    let page = stranger
        .get_with(&mounted.at("/"), &[("cookie", &format!("__Host-entrada={portal}"))])
        .await
        .unwrap();
    assert_eq!(page.status, 401, "nor the portal's the mount");

    world.advance(Duration::from_secs(3_601));
    let page = world.call(Method::GET, PODS, &bearer).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "expired_token"));
    assert_eq!(browser.get(&mounted.at("/again")).await.unwrap().status, 200);
    let renewed = mounted.headlamp.bearer(world);
    assert_ne!(renewed, bearer);
    assert_eq!(world.call(Method::GET, PODS, &renewed).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_all_mounts_at_once() {
    // Proves that event stream, tunnel and bearer of a dashboard end within a second of the portal's sign-out.
    let mounted = Mounted::start().await;
    let world = &mounted.world;
    let browser = mounted.entered("alice").await;
    let mut events = mounted.wire(&browser, "GET /events HTTP/1.1").await;
    events.read_to(b"data: 1\n\n\r\n").await;
    let origin = world.mount("headlamp");
    let upgrade =
        format!("GET /ws HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\norigin: {origin}");
    let mut tunnel = mounted.wire(&browser, &upgrade).await;
    assert!(tunnel.head().await.starts_with("HTTP/1.1 101 "));
    tunnel.write("ping").await;
    tunnel.read_to(b"ping").await;
    let bearer = mounted.headlamp.bearer(world);
    let watch = format!("GET {PODS}?watch=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\n\r\n");
    let mut watching = Wire::open(world).await;
    watching.write(watch).await;
    watching.read_to(b"\r\n\r\n").await;
    // A watch that was opened with a bearer outlives it, as the API server's own do.
    world.advance(Duration::from_secs(2 * 3_600));

    let out = [("origin", world.url.as_str())];
    assert_eq!(browser.post_form(&world.at("/logout"), &[], &out).await.unwrap().status, 303);
    let began = std::time::Instant::now();
    let mut rest = Vec::new();
    let ends = async {
        let _broken = events.0.read_to_end(&mut rest).await;
        let _broken = tunnel.0.read_to_end(&mut rest).await;
        watching.read_to(b"\r\n0\r\n\r\n").await;
    };
    tokio::time::timeout(PATIENCE, ends).await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(world.call(Method::GET, PODS, &bearer).await.status, 401);
    let page = browser.get(&mounted.at("/api")).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "unknown_cookie"));
    let page = browser.navigate(&mounted.at("/")).await.unwrap();
    assert!(page.hops[1].as_str().starts_with(&world.at("/login?mount=")), "{:?}", page.hops);
    let page = on(&browser, &page).await;
    assert!(page.text().contains("alice"), "Entra asks who it is: {}", page.text());
}
