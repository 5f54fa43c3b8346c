//! What a browser keeps of a person, on disk and behind its Back button.

use std::path::Path;

use super::super::support::webdriver::Chromium;
use super::{PODS, alice, world};

/// Everything in the files of this folder, one after the other.
fn everything(folder: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).unwrap_or_default()).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Fetches this as a script of our own page would; its status.
async fn fetch(browser: &Chromium, path: &str) -> u64 {
    let script =
        format!("const done = arguments[0]; fetch('{path}').then(a => a.text().then(() => done(a.status)));");
    browser.run_async(&script).await.as_u64().unwrap()
}

/// Proves that nothing personal is written to disk, whereas a style sheet is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_written_to_disk() {
    let world = world().await;
    world.api.put_pod("team-a", "payroll-7f9c");
    let browser = alice(&world).await;
    browser.open(&world.at(PODS)).await;
    browser.sees("payroll-7f9c").await;
    browser.open(&world.at("/api/v1/namespaces/team-a/services/web/proxy/")).await;
    browser.sees("kubectl port-forward").await;
    // Our own pages fetch nothing: their policy forbids it, which is set aside here.
    browser.devtools("Page.setBypassCSP", serde_json::json!({ "enabled": true })).await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    for path in ["/whoami", "/tokens", "/api/v1/namespaces/team-a/pods?limit=7"] {
        assert_eq!(fetch(&browser, path).await, 200, "{path}");
    }
    // Written behind the browser's back: what came before is there when the last is.
    assert_eq!(fetch(&browser, "/assets/icon.svg?last").await, 200);
    browser
        .until("the last file on disk", || async { holds(&everything(&browser.cache()), "icon.svg?last") })
        .await;
    let kept = everything(&browser.cache());
    assert!(holds(&kept, "/assets/entrada.css"), "the cache is elsewhere");
    let oid = world.entra.user("alice").unwrap().oid;
    for personal in
        ["Alice Admin", "alice@contoso.example", "payroll-7f9c", oid.as_str(), "limit=7", "/whoami"]
    {
        assert!(!holds(&kept, personal), "{personal} is on disk");
    }
}

/// Proves that after a sign-out the Back button brings back neither the portal nor what the cluster answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_back_button_brings_nothing_back() {
    let world = world().await;
    world.api.put_pod("team-a", "payroll-7f9c");
    let browser = alice(&world).await;
    browser.open(&world.at(PODS)).await;
    browser.sees("payroll-7f9c").await;
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    browser.press("Sign out").await;
    browser.sees("You are signed out").await;
    let (asked, visits) = (world.api.requests().len(), world.entra.authorize_calls().len());
    // To the portal, and then to the list: each is asked for anew, and leads to Entra.
    for visit in 1..=2 {
        browser.run("history.back()").await;
        browser.until("Entra", || async { world.entra.authorize_calls().len() == visits + visit }).await;
        browser.sees("Pick an account").await;
        assert!(!browser.text().await.contains("payroll-7f9c"));
    }
    assert_eq!(world.api.requests().len(), asked);
}
