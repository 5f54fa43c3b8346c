//! A way in that begins at one replica and ends at another, and a sign-in that a policy interrupts.

use std::time::{Duration, Instant};

use http::Method;
use standin::redis::Redis;
use tempfile::TempDir;

use super::{Mounted, PODS, SECOND, setting};
use crate::support::dashboard::Dashboard;
use crate::support::events::AuditLog;
use crate::support::program::{settings, start};
use crate::support::wire::Wire;
use crate::support::{PATIENCE, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_at_one_replica_goes_on_at_another() {
    // Proves that code, cookie and bearer of one replica are good at the other, and that a sign-out here ends streams there.
    let (directory, dashboard) = (TempDir::new().unwrap(), Dashboard::start().await);
    let redis = Redis::start(directory.path()).await.unwrap();
    let store = format!("redis://{}", redis.address());
    let world = World::start_with(|raw| {
        raw.store = Some(store.clone());
        raw.mounts = setting(raw, &[("headlamp", dashboard.addr)]);
    })
    .await;
    let mut of_other = settings(&world);
    of_other.insert("ENTRADA_STORE", store);
    let mount = world.mount("headlamp");
    of_other.insert("ENTRADA_MOUNTS", format!("{mount}=http://{};insecure", dashboard.addr));
    let other = start(&of_other).await;
    eventually("readiness", || async { other.probe("/readyz").await.starts_with("HTTP/1.1 200") }).await;
    let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
    let there = format!("https://headlamp.localhost:{}", port(&other.addr));

    let browser = world.signed_in("alice").await;
    let html = [("accept", "text/html")];
    let get = async |url: &str| browser.request(Method::GET, url, &html, bytes::Bytes::new()).await.unwrap();
    let login = get(&mount).await.location().unwrap();
    let enter = get(login.as_str()).await.location().unwrap();
    let code = enter.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    world.keep_secret(code);
    // The stand-in browser keeps cookies apart by port, which real ones do not.
    let names = browser.cookie_names(&mount);
    let pair = format!("{}={}", names[0], browser.cookie(&mount, &names[0]).unwrap());
    let headers = [html[0], ("cookie", pair.as_str())];
    let target = &enter[url::Position::BeforePath..];
    let stranger = world.browser();
    let page = stranger.get_with(&format!("{there}{target}"), &headers).await.unwrap();
    assert_eq!(page.location().unwrap().as_str(), format!("{mount}/"), "{}", page.text());
    let cookie = stranger.cookie(&there, "__Host-entrada").unwrap();
    world.keep_secret(&cookie);

    let cookie = format!("__Host-entrada={cookie}");
    let page = stranger.get_with(&mount, &[("cookie", &cookie)]).await.unwrap();
    assert_eq!(page.status, 200, "the cookie of there is good here");
    let bearer = format!("Bearer {}", dashboard.bearer(&world));
    let path = format!("https://{}{PODS}", other.addr);
    assert_eq!(stranger.get_with(&path, &[("authorization", &bearer)]).await.unwrap().status, 200);

    let mut events = Wire::open_at(&world, other.addr.parse().unwrap(), b"http/1.1").await;
    let head = "GET /events HTTP/1.1\r\nhost: headlamp.localhost\r\ncookie: ";
    events.write(format!("{head}{cookie}\r\n\r\n")).await;
    events.read_to(b"data: 1\n\n\r\n").await;
    let origin = [("origin", world.url.as_str())];
    browser.post_form(&world.at("/logout"), &[], &origin).await.unwrap();
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, events.rest()).await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let refused = stranger.get_with(&path, &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(refused.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_entered_and_what_the_dashboard_did() {
    // Proves the events of a way in, and that a dashboard's calls are told as its user's, its own pages not at all.
    let log = AuditLog::new();
    let mounted = Mounted::start_with(|raw| raw.audit = Some(log.setting())).await;
    let (world, browser) = (&mounted.world, mounted.entered("alice").await);
    browser.get(&mounted.at("/own?token=x")).await.unwrap();
    world.call(Method::GET, PODS, &mounted.headlamp.bearer(world)).await;
    browser.get(&mounted.at("/.entrada/enter?code=code_x&state=y")).await.unwrap();
    world.entrada.kill().await;
    let told = |event: &serde_json::Value| {
        let (object, extra) = (&event["objectRef"], &event["user"]["extra"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&extra["entrada.io/credential-kind"][0]);
        let code = &event["responseStatus"]["code"];
        format!(
            "{} {} {} {kind} {code}",
            text(&event["requestURI"]),
            text(&event["verb"]),
            text(&object["resource"])
        )
    };
    let events = log.events();
    let complete = events.iter().filter(|event| event["stage"] == "ResponseComplete");
    let events: Vec<_> = complete.map(told).filter(|event| !event.starts_with("/callback")).collect();
    let handed = "/login create handovers cookie 302";
    let pods = format!("{PODS} list pods dashboard 200");
    let (entered, refused) =
        ("/.entrada/enter create mounts token 302", "/.entrada/enter create mounts  400");
    assert_eq!(events, [handed, entered, &pods, refused]);
    assert!(!log.text().contains("/own"), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_of_a_policy_is_met_on_the_way_to_the_dashboard() {
    // Proves that who opens a dashboard whose session waits for a step-up is led to it, and comes back with what they had.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.entered("alice").await);
    let cookie = mounted.cookie(&browser);
    world.entra.set_mfa_required(true);
    world.advance(Duration::from_secs(2 * 3_600));
    browser.get(&mounted.at("/")).await.unwrap();
    let call = world.call(Method::GET, PODS, &mounted.headlamp.bearer(world)).await;
    assert_eq!((call.status.as_u16(), call.header("entrada-reason")), (401, "step_up_required"));

    let page = browser.navigate(&mounted.at("/deep?x")).await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!(
        (page.status.as_u16(), page.url.as_str()),
        (200, mounted.at("/deep?x").as_str()),
        "{}",
        page.text()
    );
    world.keep_secret(world.session_cookie(&browser).unwrap());
    assert_eq!(mounted.cookie(&browser), cookie, "the dashboard's cookie has moved to the new session");
    let call = world.call(Method::GET, PODS, &mounted.headlamp.bearer(world)).await;
    assert_eq!(call.status, 200, "{}", call.text());
}
