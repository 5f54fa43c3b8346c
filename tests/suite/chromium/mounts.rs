//! Dashboards on hosts of their own, as a real browser opens them.

use super::super::support::World;
use super::super::support::dashboard::Dashboard;
use super::super::support::webdriver::Chromium;

/// Proves that the fragment of an address outlives the pages of a sign-in, and a bounce without one; that nothing is left of
/// it; and that a dashboard's page registers no service worker, which would see the one-time code.
#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_comes_through_and_a_service_worker_does_not() {
    let (headlamp, pods) = (Dashboard::start().await, Dashboard::start().await);
    let mut origins = Vec::new();
    let mut world = World::start_with(|raw| {
        let url = raw.public_url.as_deref().unwrap().to_owned();
        origins =
            ["headlamp", "pods"].map(|name| url.replace("localhost", &format!("{name}.localhost"))).to_vec();
        let (first, second) = (&origins[0], &origins[1]);
        let (to, other) = (headlamp.addr, pods.addr);
        raw.mounts = Some(format!("{first}=http://{to};insecure,{second}=http://{other};insecure"));
        raw.public_url = Some(url.replace("localhost", "127.0.0.1"));
    })
    .await;
    world.url = world.url.replace("localhost", "127.0.0.1");
    world.entra.set_redirect_uris(vec![world.at("/callback")]);
    let browser = Chromium::start(world.ca.pem(), "").await;
    let cookie = async || world.keep_secret(browser.cookie("__Host-entrada").await.unwrap());

    let asked = format!("{}/dash?x=1&&y#/workloads?namespace=team%20a", origins[0]);
    browser.open(&asked).await;
    browser.click("button[value=alice]").await;
    browser.comes_to(&asked).await;
    browser.sees("dashboard: GET /dash?x=1&&y").await;
    assert!(headlamp.seen().iter().any(|seen| seen.target == "/dash?x=1&&y"), "byte for byte");
    headlamp.bearer(&world);
    cookie().await;
    assert_eq!(browser.run("return document.cookie").await, "", "a script can read a cookie of ours");

    let register = "const done = arguments[0]; navigator.serviceWorker.register('/sw.js').then(
        () => done('registered'), (error) => done(error.name));";
    assert_ne!(browser.run_async(register).await, "registered");
    assert!(headlamp.seen().iter().all(|seen| seen.target != "/sw.js"));

    let asked = format!("{}/#/pods", origins[1]);
    browser.open(&asked).await;
    browser.comes_to(&asked).await;
    browser.sees("dashboard: GET /").await;
    pods.bearer(&world);
    cookie().await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    cookie().await;
    assert_eq!(browser.run("return document.cookie").await, "", "the fragment is kept no longer");
    browser.sees("headlamp.localhost").await;
}
