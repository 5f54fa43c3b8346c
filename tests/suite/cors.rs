//! Pages of other origins, as what Entrada says to a browser about them. What a browser makes of it: `chromium/origins.rs`.

use http::{HeaderName, HeaderValue, Method};
use standin::apiserver::Fault;
use standin::browser::{Browser, Page};

use super::support::World;
use super::support::wire::Wire;

const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// A sibling of `localhost`, as a cookie sees it: the ports differ.
const CONSOLE: &str = "https://console.example.test";
const STRANGER: &str = "https://evil.example.test";

async fn world() -> World {
    World::start_with(|raw| raw.allowed_origins = Some(format!("https://other.example.test, {CONSOLE}")))
        .await
}

/// The answer to a script of this origin's page, which sends the cookie along.
async fn ask(world: &World, browser: &Browser, origin: &str, method: Method, path: &str) -> Page {
    let headers = [("origin", origin), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")];
    browser.request(method, &world.at(path), &headers, bytes::Bytes::new()).await.unwrap()
}

/// A preflight, as a browser sends it: without any credential.
async fn preflight(world: &World, origin: &str, path: &str, method: &str) -> Page {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "content-type,x-stream-protocol-version"),
    ];
    world.call_with(Method::OPTIONS, path, &headers).await
}

/// Everything that an answer says about origins.
fn told(page: &Page) -> Vec<String> {
    let about = |name: &str| name.starts_with("access-control-") || name == "vary";
    let lines = page.headers.iter().filter(|(name, _)| about(name.as_str()));
    lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

/// The answer may be read by the console's page.
#[track_caller]
fn assert_readable(page: &Page) {
    assert_eq!(page.header("access-control-allow-origin"), CONSOLE, "{page:?}");
    assert_eq!(page.header("access-control-allow-credentials"), "true");
    assert!(page.header("access-control-expose-headers").contains("Entrada-Reason"));
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(page.headers.get_all("vary").iter().any(|vary| vary == "Origin"));
}

#[track_caller]
fn assert_unreadable(page: &Page) {
    assert!(!told(page).iter().any(|line| line.starts_with("access-control-")), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_of_configured_origins_are_answered_without_a_session() {
    // Proves that a preflight, which never has a credential, gets its answer from us, and only where the page may go on.
    let world = world().await;
    let page = preflight(&world, CONSOLE, PODS, "DELETE").await;
    assert_eq!((page.status.as_u16(), page.text()), (204, String::new()));
    insta::assert_debug_snapshot!(told(&page));
    for (path, method) in [("/whoami", "GET"), ("/refresh", "POST"), ("/logout", "POST"), ("/", "GET")] {
        assert_readable(&preflight(&world, CONSOLE, path, method).await);
    }
    for (path, method) in [
        ("/tokens", "POST"),
        ("/kubeconfig", "POST"),
        ("/logout/everywhere", "POST"),
        ("/cli/authorize", "POST"),
    ] {
        let page = preflight(&world, CONSOLE, path, method).await;
        assert_eq!(page.status, 405, "{path}");
        assert_unreadable(&page);
    }
    for stranger in [STRANGER, "null", "https://console.example.test:8443", "http://console.example.test"] {
        let page = preflight(&world, stranger, PODS, "GET").await;
        assert_eq!(page.header("entrada-reason"), "no_credential", "{stranger}");
        assert_unreadable(&page);
    }
    assert!(world.api.requests().is_empty(), "a preflight went upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_a_configured_origin_can_be_read_there() {
    // Proves that answers of the API server, errors of its own, and errors of ours are readable where they were asked
    // for, and that no cache gives them to another.
    let world = world().await;
    let alice = world.signed_in("alice").await;
    let list = ask(&world, &alice, CONSOLE, Method::GET, PODS).await;
    assert_eq!(list.status, 200);
    assert_readable(&list);
    assert_eq!(list.header("content-security-policy"), "sandbox; frame-ancestors 'none'");
    for (method, path, status, reason) in [
        (Method::DELETE, "/api/v1/namespaces/team-a/pods/none", 404, ""),
        (Method::GET, "/api/v1/namespaces/team-a/services/web/proxy/", 403, "proxy_by_cookie"),
        (Method::GET, "/api/v1//pods", 403, "ambiguous_path"),
        (Method::POST, "/refresh", 200, ""),
    ] {
        let page = ask(&world, &alice, CONSOLE, method, path).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (status, reason), "{path}");
        assert_readable(&page);
    }
    let nobody = ask(&world, &world.browser(), CONSOLE, Method::GET, PODS).await;
    assert_eq!(nobody.header("entrada-reason"), "no_credential");
    assert_readable(&nobody);
    assert!(nobody.header("warning").contains("/login"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_anything() {
    // Proves that a sibling that is not configured is refused, and that no answer names it; nor one without an origin.
    let world = world().await;
    let alice = world.signed_in("alice").await;
    for (method, path) in
        [(Method::GET, PODS), (Method::POST, PODS), (Method::GET, "/whoami"), (Method::POST, "/logout")]
    {
        let page = ask(&world, &alice, STRANGER, method, path).await;
        assert_eq!(page.header("entrada-reason"), "cross_origin", "{path}");
        assert_unreadable(&page);
    }
    let own = alice.get(&world.at(PODS)).await.unwrap();
    assert_eq!((own.status.as_u16(), told(&own)), (200, vec!["vary: Origin".to_owned()]));
    let requests = world.api.requests();
    let pods: Vec<_> = requests.iter().filter(|request| request.target.starts_with(PODS)).collect();
    assert!(pods.len() == 1 && pods[0].method == "GET", "{pods:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_our_own_pages_some_can_be_used_from_elsewhere() {
    // Proves that a configured origin's page can say who is signed in, and sign out, but not make, see or end a credential.
    let world = world().await;
    let alice = world.signed_in("alice").await;
    let whoami = ask(&world, &alice, CONSOLE, Method::GET, "/whoami").await;
    assert_eq!(whoami.json().unwrap()["user"]["username"], "alice@contoso.example");
    assert_readable(&whoami);
    for (method, path) in [
        (Method::GET, "/tokens"),
        (Method::POST, "/tokens"),
        (Method::POST, "/tokens/arm"),
        (Method::DELETE, "/tokens/unknown"),
        (Method::GET, "/kubeconfig"),
        (Method::POST, "/kubeconfig"),
        (Method::GET, "/device"),
        (Method::POST, "/device/answer"),
        (Method::POST, "/cli/authorize"),
        (Method::POST, "/logout/everywhere"),
    ] {
        let page = ask(&world, &alice, CONSOLE, method, path).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"), "{path}");
        assert_unreadable(&page);
    }
    let out = ask(&world, &alice, CONSOLE, Method::POST, "/logout").await;
    assert_eq!(out.status, 303);
    assert_eq!(world.session_cookie(&alice), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_a_configured_origin_is_not_cached() {
    // Proves that a page may use a token instead of the cookie, and that the answer to a token is otherwise left alone.
    let world = world().await;
    let token = world.token(&world.signed_in("alice").await).await;
    world.api.fault(PODS, Fault::Header(HeaderName::from_static("x-frame"), HeaderValue::from_static("1")));
    let bearer = format!("Bearer {token}");
    let with = async |origin: &str| {
        let headers =
            [("authorization", bearer.as_str()), ("origin", origin), ("sec-fetch-site", "cross-site")];
        world.call_with(Method::GET, PODS, &headers).await
    };
    let page = with(CONSOLE).await;
    assert_eq!((page.status.as_u16(), page.header("x-frame")), (200, "1"));
    assert_readable(&page);
    let page = with(STRANGER).await;
    assert_eq!((page.status.as_u16(), page.header("x-frame")), (200, "1"));
    assert_eq!(told(&page), ["vary: Origin"]);
    assert_ne!(page.header("cache-control"), "no-store");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_has_no_say_about_origins() {
    // Proves that what the API server says about origins, or to the whole of ours, does not pass, upgrades included.
    let world = world().await;
    let alice = world.signed_in("alice").await;
    let token = world.token(&alice).await;
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-private-network", "true"),
        ("clear-site-data", "\"*\""),
        ("service-worker-allowed", "/"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h3=\":443\""),
        ("nel", "{}"),
        ("report-to", "{}"),
        ("reporting-endpoints", "a=\"https://evil.example.test\""),
    ] {
        world.api.fault("/", Fault::Header(HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    let removed = |head: &str| {
        let names = [
            "clear-site",
            "service-worker",
            "strict-transport",
            "alt-svc",
            "nel:",
            "report",
            "*",
            "private-network",
        ];
        !names.iter().any(|name| head.to_lowercase().contains(name))
    };
    let bearer = format!("Bearer {token}");
    let pages = [
        ask(&world, &alice, CONSOLE, Method::GET, PODS).await,
        alice.get(&world.at(PODS)).await.unwrap(),
        world.call_with(Method::GET, PODS, &[("authorization", &bearer), ("origin", STRANGER)]).await,
    ];
    for page in pages {
        assert_eq!(page.status, 200);
        let head: String = page.headers.iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
        assert!(removed(&head), "{head}");
    }
    let cookie = world.session_cookie(&alice).unwrap();
    for credential in [format!("cookie: __Host-entrada={cookie}"), format!("authorization: {bearer}")] {
        let mut tunnel = Wire::open(&world).await;
        let upgrade = "GET /standin/upgrade HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: x\r\n";
        tunnel.write(format!("{upgrade}origin: {CONSOLE}\r\n{credential}\r\n\r\n")).await;
        let head = tunnel.head().await;
        assert!(head.starts_with("HTTP/1.1 101") && removed(&head), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_is_said_about_origins() {
    // Proves that by default an answer is what it was, and that a program's own OPTIONS reaches the API server.
    let world = World::start().await;
    let alice = world.signed_in("alice").await;
    let page = ask(&world, &alice, CONSOLE, Method::GET, PODS).await;
    assert_eq!((page.header("entrada-reason"), told(&page)), ("cross_origin", vec![]));
    let own = alice.get(&world.at(PODS)).await.unwrap();
    assert_eq!((own.status.as_u16(), told(&own)), (200, vec![]));
    let bearer = format!("Bearer {}", world.token(&alice).await);
    let asks =
        [("authorization", bearer.as_str()), ("origin", CONSOLE), ("access-control-request-method", "GET")];
    world.call_with(Method::OPTIONS, PODS, &asks).await;
    assert_eq!(world.api.requests().last().unwrap().method, "OPTIONS");
}
