//! How the pages look.

use serde_json::json;

use super::super::support::World;
use super::super::support::webdriver::Chromium;
use super::{pick_alice, picture, token_by_form};

/// Proves that portal and error page fit a wide and a narrow screen, by day and by night. Leaves pictures to look at.
#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_every_screen() {
    let mut world = World::start_with(|raw| {
        raw.public_url = Some("https://k8s.example.com".to_owned());
        raw.cluster_name = Some("production".to_owned());
    })
    .await;
    let address = world.url.replace("https://", "");
    world.url = "https://k8s.example.com".to_owned();
    world.entra.set_redirect_uris(vec![world.at("/callback")]);
    let browser = Chromium::start(world.ca.pem(), &format!("MAP k8s.example.com {address}")).await;
    browser.open(&world.url).await;
    pick_alice(&world, &browser).await;
    token_by_form(&world, &browser, "laptop").await;
    pictures(&browser, "token").await;
    browser.open(&world.url).await;
    pictures(&browser, "portal").await;
    browser.open(&world.at("/api/v1/namespaces/team-a/services/web/proxy/")).await;
    browser.sees("Not allowed").await;
    pictures(&browser, "error").await;
}

/// Pictures of the page on a desk, at night, and on a phone; nothing may stick out to the side.
async fn pictures(browser: &Chromium, name: &str) {
    for (suffix, width, scheme) in [("", 1000, "light"), ("-night", 1000, "dark"), ("-phone", 360, "light")] {
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.devtools("Emulation.setEmulatedMedia", scheme).await;
        let screen =
            |height| json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools("Emulation.setDeviceMetricsOverride", screen(600)).await;
        let height = browser.run("return document.documentElement.scrollHeight").await;
        browser.devtools("Emulation.setDeviceMetricsOverride", screen(height.as_u64().unwrap())).await;
        let sticks_out = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
        assert_eq!(sticks_out, 0, "{name}{suffix}");
        browser.picture(&picture(&format!("{name}{suffix}.png"))).await;
    }
}
