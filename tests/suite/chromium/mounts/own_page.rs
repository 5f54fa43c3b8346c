//! The page for those who write their own, as a mount.

use standin::dashboard::Kind;

use super::super::super::support::mounted::{Mounted, OWN_PAGE};
use super::{enter, keep_cookie};

/// Proves that the example lists pods, watches them by both ways, and opens a terminal that keeps its state; and that it
/// tells who is signed out how to come back.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_page_lists_watches_and_opens_a_terminal() {
    let mounted = Mounted::start(&[("pods", Kind::Page(OWN_PAGE.to_owned()))]).await;
    mounted.world.api.put_pod("team-a", "web");
    let browser = mounted.chromium().await;
    let by = |way: &str| mounted.at("pods", &format!("/?namespace=team-a&watch={way}"));
    enter(&mounted, &browser, &by("fetch"), "alice").await;
    browser.sees("web").await;
    for way in ["fetch", "websocket"] {
        browser.open(&by(way)).await;
        mounted.streams(1).await;
        let name = format!("by-{way}");
        mounted.world.api.put_pod("team-a", &name);
        browser.sees(&name).await;
        mounted.world.api.delete("pods", "team-a", &name);
        browser.until("its removal", async || !browser.text().await.contains(&name)).await;
    }
    browser.enter("input[name=pod]", "web").await;
    browser.enter("input[name=line]", "echo hello").await;
    browser.press("Run").await;
    browser.sees("hello").await;
    mounted.streams(2).await;
    browser.enter("input[name=line]", "; echo once more; exit 3").await;
    browser.press("Run").await;
    browser.sees("once more\n[closed]").await;

    let page = browser.tab().await;
    browser.new_tab().await;
    browser.open(&mounted.world.url).await;
    browser.press("Sign out").await;
    browser.sees("You are signed out").await;
    browser.look_at(&page).await;
    browser.sees("Signed out. Sign in").await;
    browser.press("Sign in").await;
    browser.comes_to(&mounted.world.entra.origin()).await;
    browser.click("button[value=alice]").await;
    browser.comes_to(&mounted.at("pods", "/")).await;
    keep_cookie(&mounted, &browser).await;
}
