//! What a browser makes of answers that come from the cluster.

use http::{HeaderName, HeaderValue};
use standin::apiserver::Fault;

use super::sites::{Site, world};
use super::{PODS, alice};

/// A page that a pod, or whoever fills a ConfigMap, may have written.
const HOSTILE: &str = r#"<!doctype html><title>quiet</title><p>hello</p>
<script>document.title = "ran"; fetch("/tokens", { method: "POST" });</script>
<img src=x onerror="document.title = 'ran'"><iframe src="javascript:parent.document.title='ran'"></iframe>
<form method=post action=/logout/everywhere><button>Next</button></form>
<meta http-equiv=refresh content="0;url=/logout/frontchannel?sid=1">"#;
const PICTURE: &str = r#"<svg xmlns="http://www.w3.org/2000/svg"><title>quiet</title><text y="20">hello</text>
<script>document.title = "ran"; document.querySelector("title").textContent = "ran";</script></svg>"#;

/// This text as a whole answer of the API server.
fn answer(kind: &str, text: &str) -> Fault {
    Fault::Garbage(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    ))
}

/// Proves that a page which the cluster serves is text on a screen: it runs nothing, sends nothing, and is nobody's origin.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_the_cluster_can_do_nothing() {
    let world = super::world().await;
    let browser = alice(&world).await;
    for (path, kind, text) in
        [("/standin/page", "text/html", HOSTILE), ("/standin/svg", "image/svg+xml", PICTURE)]
    {
        world.api.fault(path, answer(kind, text));
        let _earlier = browser.answers().await;
        browser.open(&world.at(path)).await;
        browser.until("the page", || async { said(&browser).await.contains("hello") }).await;
        assert_eq!(browser.run("return self.origin").await, "null");
        assert_eq!(browser.run("return document.querySelector('title').textContent").await, "quiet");
        if kind == "text/html" {
            browser.press("Next").await;
        }
        let answers = browser.answers().await;
        // The icon the browser seeks by itself.
        let expected = |url: &str| url.contains("/standin/") || url.ends_with("/favicon.ico");
        let ours: Vec<_> = answers.iter().filter(|answer| !expected(&answer.url)).collect();
        assert!(ours.is_empty(), "it sent something: {ours:?}");
        let page = answers.iter().find(|answer| answer.url == world.at(path)).unwrap();
        for (name, value) in [
            ("content-security-policy", "sandbox; frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(page.header(name), value, "{name}");
        }
    }
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    browser.sees("None yet.").await;
}

/// The whole text, of pictures, too.
async fn said(browser: &super::Chromium) -> String {
    let text = browser.run("return document.documentElement.textContent").await;
    text.as_str().unwrap_or_default().to_owned()
}

/// Proves that with a cookie neither a page that a pod answers nor a path of two readings opens, typed or linked.
#[tokio::test(flavor = "multi_thread")]
async fn pods_pages_and_paths_of_two_readings_do_not_open() {
    let world = super::world().await;
    let browser = alice(&world).await;
    for (path, reason, sentence) in [
        ("/api/v1/namespaces/team-a/services/web/proxy/", "proxy_by_cookie", "kubectl port-forward"),
        ("/api/v1/namespaces/team-a/pods/web:80/proxy", "proxy_by_cookie", "kubectl port-forward"),
        ("/api/v1/nodes/node/proxy/logs/", "proxy_by_cookie", "kubectl port-forward"),
        ("/api/v1/namespaces/team-a%2Fpods", "ambiguous_path", "Not allowed"),
        ("/api/v1//namespaces/team-a/services/web/proxy/", "ambiguous_path", "Not allowed"),
        ("/api/v1/namespaces/team-a/services/web/%70roxy/", "proxy_by_cookie", "kubectl port-forward"),
    ] {
        let _earlier = browser.answers().await;
        browser.open(&world.at(path)).await;
        browser.sees(sentence).await;
        let answers = browser.answers().await;
        let refused = answers.iter().find(|answer| answer.header("entrada-reason") == reason);
        assert_eq!(refused.map(|answer| answer.status), Some(403), "{path}: {answers:?}");
    }
    let requests = world.api.requests();
    assert!(requests.iter().all(|request| !request.target.contains("roxy")), "{requests:?}");
}

/// Proves that no service worker comes from the cluster, even where the page's own policy would let one.
#[tokio::test(flavor = "multi_thread")]
async fn no_service_worker_comes_from_the_cluster() {
    let world = super::world().await;
    world
        .api
        .fault("/standin/worker.js", answer("text/javascript", "// a worker that would see all requests"));
    let browser = alice(&world).await;
    let register = "const done = arguments[0];\
        navigator.serviceWorker.register('/standin/worker.js', { scope: '/standin/' })\
            .then(() => done('registered'), (error) => done(error.name));";
    // Our own pages allow no worker at all.
    assert_ne!(browser.run_async(register).await, "registered");
    assert!(browser.answers().await.iter().all(|answer| !answer.url.ends_with("worker.js")));
    browser.devtools("Page.setBypassCSP", serde_json::json!({ "enabled": true })).await;
    browser.open(&world.url).await;
    assert_ne!(browser.run_async(register).await, "registered");
    let requests = world.api.requests();
    assert!(requests.iter().all(|request| !request.target.contains("worker")), "{requests:?}");
    let refused = world.metric("entrada_problems_total{reason=\"service_worker\"}").await;
    assert_eq!(refused, 1.0, "the browser did not ask");
}

/// Proves that an answer of the cluster's cannot speak for our whole origin: no other page may read it, and the browser
/// neither forgets its cookies nor remembers anything for us.
#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_does_not_speak_for_our_origin() {
    let script =
        "fetch(target + pods, { credentials: 'include' }).then(() => say('read'), () => say('unreadable'));";
    let site = Site::start("", script).await;
    let world = world(|_| {}).await;
    let sibling = site.origin(super::sites::SIBLING);
    for (name, value) in [
        ("access-control-allow-origin", sibling.as_str()),
        ("access-control-allow-credentials", "true"),
        ("clear-site-data", "\"*\""),
        ("service-worker-allowed", "/"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("alt-svc", "h3=\"evil.example.com:443\"; ma=86400"),
        ("nel", r#"{"report_to":"default","max_age":86400,"success_fraction":1}"#),
        (
            "report-to",
            r#"{"group":"default","max_age":86400,"endpoints":[{"url":"https://evil.example.com"}]}"#,
        ),
        ("reporting-endpoints", "default=\"https://evil.example.com\""),
        ("set-cookie", "planted=1; Path=/"),
        ("www-authenticate", "Basic realm=\"type your password\""),
    ] {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        world.api.fault(PODS, Fault::Header(name, value));
    }
    let browser = site.alice(&world).await;
    let _earlier = browser.answers().await;
    browser.open(&world.at(PODS)).await;
    browser.sees("\"PodList\"").await;
    let answers = browser.answers().await;
    let list = answers.iter().find(|answer| answer.url == world.at(PODS)).unwrap();
    for name in [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "clear-site-data",
        "service-worker-allowed",
        "strict-transport-security",
        "alt-svc",
        "nel",
        "report-to",
        "reporting-endpoints",
        "set-cookie",
        "www-authenticate",
    ] {
        assert_eq!(list.header(name), "", "{name}");
    }
    browser.open(&site.page(super::sites::SIBLING, &world)).await;
    browser.sees("unreadable").await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    assert_eq!(browser.cookie("planted").await, None);
}
