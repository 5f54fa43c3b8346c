//! How the pages look.

use std::path::Path;

use serde_json::json;

use super::super::support::webdriver::Chromium;
use super::tour::tour;

/// What would differ from run to run: secrets, dates, and the real time that passes between two steps.
const STILL: &str = r##"
for (const token of document.querySelectorAll("#token")) token.textContent = "entrada_" + "Ab3".repeat(16) + "x";
for (const exact of document.querySelectorAll("#session ~ p .from")) exact.textContent = "4 Dec 2026, 07:00 UTC";
for (const id of document.querySelectorAll(".facts code")) {
  id.textContent = id.textContent.replace(/^[0-9a-f-]{36}$/, "00000000-0000-4000-8000-000000000000");
}
for (const lead of document.querySelectorAll(".lead")) {
  lead.textContent = lead.textContent.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, "00000000-0000-4000-8000-000000000000");
}
"##;

/// Proves that every page fits a desk and a phone, by day and by night. Leaves pictures of the page's whole length.
#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_every_screen() {
    tour(async |browser, name| pictures(browser, name).await).await;
}

/// Nothing may stick out to the side, not even on a narrow phone.
async fn pictures(browser: &Chromium, name: &str) {
    browser.run(STILL).await;
    for (screen, width) in [("desk", 1120), ("phone", 360)] {
        for scheme in ["light", "dark"] {
            show(browser, scheme, width, 640).await;
            let sticks_out = browser
                .run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                .await;
            assert_eq!(sticks_out, 0, "{name} on a {screen}");
            let height = browser.run("return document.documentElement.scrollHeight").await.as_u64().unwrap();
            show(browser, scheme, width, height).await;
            let file = format!("{name}-{screen}-{scheme}.png");
            browser.picture(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("tour").join(file)).await;
        }
    }
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
}

/// The page by day or by night, on a screen of this size.
pub(super) async fn show(browser: &Chromium, scheme: &str, width: u64, height: u64) {
    let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.devtools("Emulation.setEmulatedMedia", scheme).await;
    let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", screen).await;
}
