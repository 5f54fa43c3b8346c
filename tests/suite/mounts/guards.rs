//! What passes between a browser and a dashboard, and what does not.

use http::Method;

use super::Mounted;

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_told_what_it_may_know() {
    // Proves which headers a dashboard gets, and which of its own reach the browser.
    let mounted = Mounted::start().await;
    let browser = mounted.entered("alice").await;
    let host = mounted.world.mount("headlamp").replace("https://", "");
    let headers = [
        ("authorization", "Basic YWxpY2U6YWxpY2U="),
        ("cookie", "theme=dark; __Host-entrada-x=1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-remote-user", "admin"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("x-own", "2"),
    ];
    let cookie = format!("__Host-entrada={}; {}", mounted.cookie(&browser).unwrap(), headers[1].1);
    let mut all = headers;
    all[1].1 = &cookie;
    let stranger = mounted.world.browser();
    let page = stranger.get_with(&mounted.at("/headers"), &all).await.unwrap();
    assert_eq!(page.status, 200);
    mounted.headlamp.bearer(&mounted.world);
    let seen = mounted.headlamp.last().headers;
    let value = |name: &str| seen.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!((value("cookie"), value("host"), value("x-forwarded-host")), ("theme=dark", &*host, &*host));
    assert_eq!((value("x-forwarded-for"), value("x-forwarded-proto")), ("127.0.0.1", "https"));
    assert_eq!((value("x-remote-user"), value("x-secret"), value("x-own")), ("", "", "2"));

    let cookies: Vec<_> = page.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["theme=dark; Path=/"]);
    for name in [
        "clear-site-data",
        "strict-transport-security",
        "report-to",
        "service-worker-allowed",
        "access-control-allow-origin",
        "www-authenticate",
        "entrada-reason",
    ] {
        assert!(!page.headers.contains_key(name), "{name}");
    }
    assert_eq!(page.header("content-security-policy"), "default-src 'self'", "the dashboard's own stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_dashboards_own_pages_may_write_to_it() {
    // Proves the origin rule of a mount's host: neither the portal, nor another mount, nor a stranger may write there.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.entered("alice").await);
    let own = world.mount("headlamp");
    let post = async |headers: &[(&str, &str)]| {
        let page = browser.request(Method::POST, &mounted.at("/save"), headers, "x=1".into()).await.unwrap();
        (page.status.as_u16(), page.header("entrada-reason").to_owned())
    };
    assert_eq!(post(&[("origin", &own)]).await, (200, String::new()));
    assert_eq!(post(&[("sec-fetch-site", "same-origin")]).await.0, 200);
    let refused = (403, "cross_origin".to_owned());
    assert_eq!(post(&[]).await, refused);
    for origin in [world.url.as_str(), &world.mount("pods"), "null", "https://evil.example"] {
        assert_eq!(post(&[("origin", origin)]).await, refused, "{origin}");
    }
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("origin", &world.mount("pods"))];
    let page = browser.get_with(&mounted.at("/ws"), &upgrade).await.unwrap();
    assert_eq!(page.status, 403);
    let image = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    assert_eq!(browser.get_with(&mounted.at("/logo"), &image).await.unwrap().status, 403);
    let worker = [("service-worker", "script"), ("sec-fetch-site", "same-origin")];
    let page = browser.get_with(&mounted.at("/sw.js"), &worker).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "service_worker"));
    // Nor may a mount's page write to the portal.
    let page = browser.post_form(&world.at("/tokens"), &[], &[("origin", &own)]).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"));
    let written = mounted.headlamp.seen().iter().filter(|seen| seen.method == Method::POST).count();
    assert_eq!(written, 2, "the dashboard saw no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_without_a_session_gets_a_401() {
    // Proves what a dashboard's script reads when nobody is signed in, and that no path of the portal is there.
    let mounted = Mounted::start().await;
    let (world, stranger) = (&mounted.world, mounted.world.browser());
    for path in ["/api/v1/pods", "/whoami", "/login", "/"] {
        let page = stranger.get_with(&mounted.at(path), &[("accept", "application/json")]).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "no_credential"), "{path}");
        let status = page.json().unwrap();
        assert_eq!(status["code"], 401);
        let told = format!("You are not signed in. Sign in again: {}/", world.mount("headlamp"));
        assert_eq!(status["message"], told);
    }
    assert_eq!(stranger.get(&mounted.at("/.entrada/other")).await.unwrap().status, 404);
    let posted = stranger.post_form(&mounted.at("/.entrada/enter"), &[], &[]).await.unwrap();
    assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, "GET"));
    assert!(mounted.headlamp.seen().is_empty());
    // One path is the dashboard's under its own host and the portal's under the public one.
    let browser = mounted.entered("alice").await;
    assert_eq!(browser.get(&mounted.at("/whoami")).await.unwrap().text(), "dashboard: GET /whoami ");
    let two = [("host", "headlamp.localhost"), ("host", "localhost")];
    let page = world.call_with(Method::GET, "/", &two).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (400, "two_hosts"));
}
