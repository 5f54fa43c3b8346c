//! Who may pass: every route with every kind of credential.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::browser::{Browser, Page};

use super::support::World;
use super::support::wire::Wire;

const PODS: &str = "/api/v1/namespaces/team-a/pods";

/// What a route answers to each credential: none, one that is refused, a live token, a live cookie with our origin.
struct Row {
    method: Method,
    path: &'static str,
    none: u16,
    refused: u16,
    token: u16,
    cookie: u16,
}

const fn row(method: Method, path: &'static str, none: u16, refused: u16, token: u16, cookie: u16) -> Row {
    Row { method, path, none, refused, token, cookie }
}

/// Every route of ours, and some of the API server's. Cookie-only pages say 403 to a token.
const ROUTES: &[Row] = &[
    row(Method::GET, "/login", 302, 302, 302, 302),
    row(Method::GET, "/callback", 400, 400, 400, 400),
    row(Method::GET, "/logout/frontchannel", 200, 200, 200, 200),
    row(Method::GET, "/whoami", 401, 401, 200, 200),
    row(Method::POST, "/refresh", 401, 401, 200, 429),
    row(Method::GET, "/tokens", 401, 401, 403, 200),
    row(Method::POST, "/tokens", 401, 401, 403, 201),
    row(Method::POST, "/tokens/arm", 401, 401, 403, 200),
    row(Method::DELETE, "/tokens/unknown", 401, 401, 403, 404),
    row(Method::GET, "/kubeconfig", 401, 401, 403, 200),
    row(Method::POST, "/kubeconfig", 401, 401, 403, 200),
    row(Method::GET, "/assets/entrada.css", 200, 200, 200, 200),
    row(Method::GET, "/assets/nothing", 404, 404, 404, 404),
    row(Method::GET, "/cli/authorize", 400, 400, 400, 400),
    row(Method::POST, "/cli/authorize", 401, 401, 403, 400),
    row(Method::POST, "/cli/token", 400, 400, 400, 400),
    row(Method::POST, "/cli/renew", 401, 401, 403, 403),
    row(Method::GET, "/device", 401, 401, 403, 200),
    row(Method::POST, "/device", 401, 401, 403, 400),
    row(Method::POST, "/device/answer", 401, 401, 403, 400),
    row(Method::POST, "/device/code", 400, 400, 400, 400),
    row(Method::POST, "/device/token", 400, 400, 400, 400),
    row(Method::GET, "/device/other", 404, 404, 404, 404),
    row(Method::GET, PODS, 401, 401, 200, 200),
    row(Method::GET, "/version", 401, 401, 200, 200),
    row(Method::GET, "/", 401, 401, 403, 403),
    row(Method::DELETE, "/api/v1/namespaces/team-a/configmaps/none", 401, 401, 404, 404),
    // These end the credential, so they come last.
    row(Method::POST, "/cli/revoke", 401, 401, 204, 403),
    row(Method::POST, "/logout", 403, 403, 403, 303),
    row(Method::POST, "/logout/everywhere", 401, 401, 401, 401),
];

/// Nothing else stands in an answer of ours.
const OUR_HEADERS: &[&str] = &[
    "allow",
    "audit-id",
    "cache-control",
    "content-disposition",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "entrada-reason",
    "location",
    "permissions-policy",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "warning",
    "www-authenticate",
    "x-content-type-options",
];

async fn ask(world: &World, row: &Row, headers: &[(&str, &str)]) -> Page {
    let page = world.call_with(row.method.clone(), row.path, headers).await;
    if !row.path.starts_with("/api") && row.path != "/version" && row.path != "/" {
        for name in page.headers.keys() {
            assert!(OUR_HEADERS.contains(&name.as_str()), "{} {}: {name}", row.method, row.path);
        }
    }
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_knows_every_credential() {
    // Proves that no route is open by accident, and that a refused credential is never better than none.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let cookie = format!("__Host-entrada={}", world.session_cookie(&browser).unwrap());
    let bearer = format!("Bearer {}", world.token(&browser).await);
    let revoked = world.new_token(&browser, json!({})).await;
    let origin = [("origin", world.url.as_str())];
    let id = revoked["id"].as_str().unwrap();
    let gone = browser.delete(&world.at(&format!("/tokens/{id}")), &origin).await.unwrap();
    assert_eq!(gone.status, 204);
    let foreign = entrada::secret::CredentialSecret::new_token();
    let refused = [
        format!("Bearer {}", revoked["token"].as_str().unwrap()),
        format!("Bearer {}", foreign.expose()),
        "Bearer entrada_short".to_owned(),
        "Basic YWxpY2U6YWxpY2U=".to_owned(),
    ];
    for row in ROUTES {
        let told = format!("{} {}", row.method, row.path);
        assert_eq!(ask(&world, row, &[]).await.status, row.none, "{told} without a credential");
        for value in &refused {
            let page = ask(&world, row, &[("authorization", value)]).await;
            assert_eq!(page.status, row.refused, "{told} with {value}");
            // A good cookie beside a bad bearer changes nothing.
            let both = [("authorization", value.as_str()), ("cookie", &cookie), ("origin", &world.url)];
            let page = ask(&world, row, &both).await;
            let expected = if row.path == "/logout" { 303 } else { row.refused };
            assert_eq!(page.status, expected, "{told} with {value} and a good cookie");
        }
        assert_eq!(
            ask(&world, row, &[("authorization", &bearer)]).await.status,
            row.token,
            "{told} with a token"
        );
        let good = [("cookie", cookie.as_str()), ("origin", &world.url)];
        assert_eq!(ask(&world, row, &good).await.status, row.cookie, "{told} with a cookie");
    }
    let table: BTreeSet<(&str, &str)> = ROUTES.iter().map(|row| (row.path, row.method.as_str())).collect();
    for (path, method) in entrada::route::fixed_paths() {
        assert!(table.contains(&(path, method.as_str())), "{method} {path} is not in the table");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_statuses_with_the_way_back() {
    // Proves the form of an error on a Kubernetes path, to a script and to a browser.
    let world = World::start().await;
    let page = world.call_with(Method::GET, PODS, &[]).await;
    let status = page.json().unwrap();
    let message = format!("You are not signed in. Sign in again: {}/login", world.url);
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Unauthorized", "code": 401,
    });
    assert_eq!(status, expected);
    assert_eq!(page.header("warning"), format!("299 - \"{message}\""));
    assert_eq!(page.header("entrada-reason"), "no_credential");
    assert_eq!(page.header("content-type"), "application/json");

    let html = ("accept", "text/html,*/*;q=0.8");
    let navigation = world.call_with(Method::GET, PODS, &[html]).await;
    assert_eq!(navigation.status, 302);
    let login = navigation.location().unwrap();
    assert!(login.as_str().ends_with("/login?return_to=%2Fapi%2Fv1%2Fnamespaces%2Fteam-a%2Fpods"), "{login}");
    for headers in [[html, ("x-requested-with", "XMLHttpRequest")], [html, ("sec-fetch-mode", "cors")]] {
        assert_eq!(
            world.call_with(Method::GET, PODS, &headers).await.status,
            401,
            "a script is not redirected"
        );
    }
    assert_eq!(world.call_with(Method::POST, PODS, &[html]).await.status, 401, "a POST would lose its body");
    let with_host = world.call_with(Method::GET, PODS, &[html, ("host", "evil.example")]).await;
    assert!(with_host.location().unwrap().as_str().starts_with(&world.url), "links come from the public URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorizations_are_a_400() {
    // Proves that a request whose credential is ambiguous is refused whole.
    let world = World::start().await;
    let bearer = format!("Bearer {}", world.token(&world.signed_in("alice").await).await);
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    let page = world.call_with(Method::GET, PODS, &twice).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (400, "two_authorizations"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_end_by_their_own_clock() {
    // Proves token expiry, cookie idleness and the session's cap, each apart from the others.
    let world = World::start_with(|raw| raw.session_lifetime = Some("48h".to_owned())).await;
    let browser = world.signed_in("alice").await;
    let cookie = world.session_cookie(&browser).unwrap();
    let short = world.new_token(&browser, json!({ "name": "short", "lifetime_seconds": 60 })).await;
    let short = short["token"].as_str().unwrap();
    let long = world.token(&browser).await;
    let reason = async |token: &str| {
        world.call(Method::GET, "/whoami", token).await.header("entrada-reason").to_owned()
    };
    assert_eq!(reason(short).await, "");
    world.advance(Duration::from_secs(61));
    assert_eq!(reason(short).await, "expired_token");
    // Each use keeps a cookie for another day; a day without one ends it, and the session goes on for the token.
    world.advance(Duration::from_secs(23 * 3_600));
    assert_eq!(world.with_cookie("/whoami", &cookie).await.status, 200);
    world.advance(Duration::from_secs(24 * 3_600 - 120));
    assert_eq!(world.with_cookie("/whoami", &cookie).await.status, 200);
    assert_eq!(reason(&long).await, "");
    world.advance(Duration::from_secs(3_700));
    assert_eq!(reason(&long).await, "session_ended");
    assert_eq!(world.with_cookie("/whoami", &cookie).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_named_and_bounded() {
    // Proves the JSON of the token pages, and that a token's wishes are checked.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let made = world.new_token(&browser, json!({ "name": "laptop", "lifetime_seconds": 43_200 })).await;
    assert_eq!(made["name"], "laptop");
    world.call(Method::GET, "/whoami", made["token"].as_str().unwrap()).await;
    let list = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    let entry = &list["tokens"][0];
    assert_eq!((entry["id"].clone(), entry["state"].clone()), (made["id"].clone(), json!("active")));
    let fields: BTreeSet<&String> = entry.as_object().unwrap().keys().collect();
    let expected = ["created_at", "expires_at", "id", "last_used_at", "name", "state"].map(str::to_owned);
    assert_eq!(fields, expected.iter().collect());
    assert!(entry["last_used_at"].is_string());

    let origin = [("origin", world.url.as_str())];
    for body in [
        json!({ "lifetime_seconds": 0 }),
        json!({ "lifetime_seconds": 31 * 86_400 }),
        json!({ "lifetime_seconds": -1 }),
        json!({ "name": "x".repeat(65) }),
        json!({ "name": "a\nb" }),
        json!([]),
    ] {
        let page = browser.post_json(&world.at("/tokens"), &body, &origin).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (400, "bad_body"), "{body}");
    }
    let huge = json!({ "name": "x".repeat(100_000) });
    assert_eq!(browser.post_json(&world.at("/tokens"), &huge, &origin).await.unwrap().status, 413);

    // A body that breaks off is not called too large.
    let mut wire = Wire::open(&world).await;
    let (cookie, origin) = (world.session_cookie(&browser).unwrap(), &world.url);
    let head = format!(
        "POST /tokens HTTP/1.1\r\nhost: x\r\ncookie: __Host-entrada={cookie}\r\norigin: {origin}\r\n"
    );
    wire.write(head + "transfer-encoding: chunked\r\n\r\nnonsense\r\n").await;
    let told = wire.head().await;
    assert!(told.starts_with("HTTP/1.1 400 ") && told.contains("entrada-reason: body_unreadable"), "{told}");
}

async fn post(world: &World, browser: &Browser, path: &str, headers: &[(&str, &str)]) -> Page {
    browser.post_form(&world.at(path), &[], headers).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_pages_cannot_act_with_the_cookie() {
    // Proves the guard of unsafe methods on own pages and Kubernetes paths alike, and that a bearer needs none.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let before = world.api.requests().len();
    let evil = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    for path in ["/tokens", "/kubeconfig", "/refresh", "/logout", "/logout/everywhere", PODS] {
        for headers in [&evil[..], &evil[1..], &[]] {
            let page = post(&world, &browser, path, headers).await;
            assert_eq!(
                (page.status.as_u16(), page.header("entrada-reason")),
                (403, "cross_origin"),
                "{path}"
            );
        }
    }
    let image = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    assert_eq!(browser.get_with(&world.at(PODS), &image).await.unwrap().status, 403);
    let proxy = browser.get(&world.at("/api/v1/namespaces/team-a/pods/web/proxy/")).await.unwrap();
    assert_eq!((proxy.status.as_u16(), proxy.header("entrada-reason")), (403, "proxy_by_cookie"));
    let odd = browser.get(&world.at("/api/v1/namespaces/team-a%2fpods")).await.unwrap();
    assert_eq!((odd.status.as_u16(), odd.header("entrada-reason")), (403, "ambiguous_path"));
    assert_eq!(world.api.requests().len(), before, "something reached the API server");

    let pods = browser.get(&world.at(PODS)).await.unwrap();
    assert_eq!(pods.header("content-security-policy"), "sandbox; frame-ancestors 'none'");
    assert_eq!(pods.header("cache-control"), "no-store");
    let bearer = format!("Bearer {}", world.token(&browser).await);
    let worker = [("service-worker", "script"), ("authorization", bearer.as_str())];
    assert_eq!(world.call_with(Method::GET, PODS, &worker).await.header("entrada-reason"), "service_worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn dormant_tokens_work_again_after_one_click() {
    // Proves that a kubeconfig survives a natural sign-out, never by itself, and not a deliberate end.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    let origin = [("origin", world.url.as_str())];
    let status = async || world.call(Method::GET, "/whoami", &token).await.status.as_u16();
    post(&world, &browser, "/logout", &origin).await;
    assert_eq!(status().await, 401);
    browser.sign_in(&world.url, "alice").await.unwrap();
    assert_eq!(status().await, 401, "not without the click");
    let url = world.at("/tokens/arm");
    let armed = browser.request(Method::POST, &url, &origin, bytes::Bytes::new()).await.unwrap();
    assert_eq!(armed.json().unwrap()["tokens"][0]["state"], "active");
    assert_eq!(status().await, 200);
    post(&world, &browser, "/logout/everywhere", &origin).await;
    browser.sign_in(&world.url, "alice").await.unwrap();
    browser.post_json(&world.at("/tokens/arm"), &json!({}), &origin).await.unwrap();
    assert_eq!(status().await, 401, "ended for ever");
    world.keep_secret(world.session_cookie(&browser).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_ids_than_a_user_may_have_tokens_are_refused() {
    // Proves the bound on what one request asks to arm, as JSON and as a form; what is named is armed, and nothing else.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let (one, other) = (world.new_token(&browser, json!({})).await, world.token(&browser).await);
    let origin = [("origin", world.url.as_str())];
    post(&world, &browser, "/logout", &origin).await;
    browser.sign_in(&world.url, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&browser).unwrap());
    let ids = |count: usize| -> Vec<String> {
        let own = one["id"].as_str().unwrap().to_owned();
        std::iter::once(own).chain((1..count).map(|n| format!("unknown{n}"))).collect()
    };
    let url = world.at("/tokens/arm");
    let many = browser.post_json(&url, &json!({ "ids": ids(1_001) }), &origin).await.unwrap();
    assert_eq!((many.status.as_u16(), many.header("entrada-reason")), (400, "bad_body"), "{}", many.text());
    assert!(many.text().contains("At most 1000 tokens"), "{}", many.text());
    let (all, mut form) = (ids(1_001), Vec::new());
    form.extend(all.iter().map(|id| ("ids", id.as_str())));
    assert_eq!(browser.post_form(&url, &form, &origin).await.unwrap().status, 400);
    let token = one["token"].as_str().unwrap();
    assert_eq!(world.call(Method::GET, "/whoami", token).await.status, 401, "nothing was armed");
    let most = browser.post_json(&url, &json!({ "ids": ids(1_000) }), &origin).await.unwrap();
    assert_eq!(most.status, 200, "{}", most.text());
    assert_eq!(world.call(Method::GET, "/whoami", token).await.status, 200);
    assert_eq!(world.call(Method::GET, "/whoami", &other).await.status, 401, "it was not named");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_keeps_no_cookie_from_going_idle() {
    // Proves that only what passes the guards counts as use: a sibling site's images send the cookie, too.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let cookie = format!("__Host-entrada={}", world.session_cookie(&browser).unwrap());
    let site = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    for path in ["/whoami", "/tokens", PODS] {
        world.advance(Duration::from_secs(6 * 3_600));
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(site);
        assert_eq!(world.call_with(Method::GET, path, &headers).await.status, 403, "{path}");
    }
    assert_eq!(world.call_with(Method::POST, "/refresh", &[("cookie", &cookie)]).await.status, 403);
    world.advance(Duration::from_secs(6 * 3_600 + 60));
    let idle = world.call_with(Method::GET, "/whoami", &[("cookie", &cookie)]).await;
    assert_eq!((idle.status.as_u16(), idle.header("entrada-reason")), (401, "expired_cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn entras_front_channel_ends_its_sessions() {
    // Proves that the frame needs no cookie, tells nothing, may be framed, and believes no foreign issuer.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let entra_sid = |page: &Page| {
        page.hops.iter().find_map(|hop| {
            hop.query_pairs().find(|(name, _)| name == "session_state").map(|(_, sid)| sid.into_owned())
        })
    };
    let again = world.browser();
    let page = again.sign_in(&world.url, "alice").await.unwrap();
    world.keep_secret(world.session_cookie(&again).unwrap());
    let sid = entra_sid(&page).unwrap();
    let foreign = format!("/logout/frontchannel?sid={sid}&iss=https://evil.example/");
    assert_eq!(world.call_with(Method::GET, &foreign, &[]).await.status, 200);
    assert_eq!(again.get(&world.at("/whoami")).await.unwrap().status, 200);
    let frame = world.call_with(Method::GET, &format!("/logout/frontchannel?sid={sid}"), &[]).await;
    assert_eq!(frame.status, 200);
    assert_eq!(frame.header("x-frame-options"), "");
    assert!(!frame.header("content-security-policy").contains("frame-ancestors"));
    assert_eq!(again.get(&world.at("/whoami")).await.unwrap().status, 401);
    assert_eq!(browser.get(&world.at("/whoami")).await.unwrap().status, 200, "another session of Entra's");
}
