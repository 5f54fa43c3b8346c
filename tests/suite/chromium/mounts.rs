//! Dashboards on hosts of their own, in a real Chromium: the portal and two or three mounts, which are one site for it.

mod astray;
mod hostile;
mod own_page;

use std::time::Instant;

use entrada::config::RawConfig;
use standin::dashboard::{Kind, Mood};

use super::super::support::mounted::Mounted;
use super::super::support::webdriver::Chromium;

/// Opens an address of a mount without any session, and picks this user at Entra.
async fn enter(mounted: &Mounted, browser: &Chromium, url: &str, user: &str) {
    browser.open(url).await;
    browser.comes_to(&mounted.world.entra.origin()).await;
    browser.click(&format!("button[value={user}]")).await;
    browser.comes_to(url).await;
    keep_cookie(mounted, browser).await;
}

/// Has the log searched for the cookie of the host that is looked at.
async fn keep_cookie(mounted: &Mounted, browser: &Chromium) {
    if let Some(cookie) = browser.cookie("__Host-entrada").await {
        mounted.world.keep_secret(cookie);
    }
}

fn kubernetes_name(mounted: &Mounted, user: &str) -> String {
    mounted.world.entra.user(user).unwrap().kubernetes_name().to_owned()
}

/// Proves that who opens a dashboard is signed in, lands on the page that was asked for, query and fragment included, and
/// is themselves there; that watches and terminals work; and that a sign-out in the portal ends all that within a second.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_visit_signs_in_and_the_sign_out_ends_everything() {
    let kinds = [("headlamp", Kind::Headlamp), ("dashboard", Kind::KubernetesDashboard)];
    let mounted = Mounted::start(&kinds).await;
    mounted.world.api.put_pod("team-a", "web");
    let browser = mounted.chromium().await;
    let asked = mounted.at("headlamp", "/c/main/pods?namespace=team-a&filter=a%2Fb#row-2");
    enter(&mounted, &browser, &asked, "alice").await;
    assert_eq!(browser.url().await, asked);
    browser.sees("at /c/main/pods?namespace=team-a&filter=a%2Fb#row-2").await;
    browser.sees(&format!("signed in as {}", kubernetes_name(&mounted, "alice"))).await;
    browser.sees("pods: web.").await;
    browser.sees("hello from exec").await;
    browser.sees("watching:").await;
    mounted.world.api.put_pod("team-a", "fresh");
    browser.sees("watching: ADDED fresh").await;
    assert_eq!(
        browser.run("return document.cookie").await,
        "theme=dark",
        "the dashboard's own cookie, and no other"
    );

    // The second one, and the portal, ask nobody any more.
    let first = browser.tab().await;
    browser.new_tab().await;
    let asked = mounted.at("dashboard", "/?namespace=team-a#/workloads");
    browser.open(&asked).await;
    browser.sees("authenticated by the header").await;
    assert_eq!(browser.url().await, asked);
    browser.sees("hello from exec").await;
    keep_cookie(&mounted, &browser).await;
    browser.open(&mounted.world.url).await;
    browser.sees("Alice Admin").await;
    keep_cookie(&mounted, &browser).await;
    assert_eq!(
        browser.run("return document.cookie").await,
        "",
        "the fragment was kept, and is kept no longer"
    );

    mounted.streams(1).await;
    let began = Instant::now();
    browser.press("Sign out").await;
    mounted.streams_end_within_a_second(began).await;
    browser.sees("You are signed out").await;
    browser.look_at(&first).await;
    browser.sees("the watch has ended").await;
    for name in ["headlamp", "dashboard"] {
        browser.open(&mounted.at(name, "/")).await;
        browser.comes_to(&mounted.world.entra.origin()).await;
        assert!(browser.url().await.contains("prompt=select_account"), "{}", browser.url().await);
    }
}

/// Proves that two people at the same dashboard at the same time are each themselves, and see what is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_are_each_themselves() {
    let mounted = Mounted::start(&[("headlamp", Kind::Headlamp)]).await;
    mounted.world.api.put_pod("team-a", "web");
    mounted.world.api.put_pod("team-b", "bobs");
    let alices = mounted.chromium().await;
    enter(&mounted, &alices, &mounted.at("headlamp", "/?namespace=team-a"), "alice").await;
    alices.sees("watching:").await;
    let bobs = mounted.chromium_beside(&alices).await;
    enter(&mounted, &bobs, &mounted.at("headlamp", "/?namespace=team-b"), "bob").await;
    bobs.sees(&format!("signed in as {}", kubernetes_name(&mounted, "bob"))).await;
    bobs.sees("pods: api bobs.").await;
    alices.open(&mounted.at("headlamp", "/?namespace=team-a&again")).await;
    alices.sees(&format!("signed in as {}", kubernetes_name(&mounted, "alice"))).await;
    alices.sees("pods: web.").await;
    // All that the pages ask for has arrived, so that it is known from whom it came.
    alices.sees("watching:").await;
    alices.sees("hello from exec").await;
    bobs.sees("watching:").await;
    assert_eq!(mounted.dashboard("headlamp").bearers().len(), 2);
    let names = ["alice", "bob"].map(|user| kubernetes_name(&mounted, user));
    mounted.world.api.assert_only_users(&[&names[0], &names[1]]);
}

/// Proves that a dashboard that is away, slow or speaks nonsense is told of on a page of ours, that the API and the other
/// dashboard answer meanwhile, that it is there again when it is, and that half of an answer is seen to be half.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dashboard_fails_to_say_is_told_on_a_page_of_ours() {
    let kinds = [("headlamp", Kind::Headlamp), ("page", Kind::Page("<h1>A page</h1>".to_owned()))];
    let patience = |raw: &mut RawConfig| raw.response_timeout = Some("2s".to_owned());
    let mounted = Mounted::start_with(&kinds, patience).await;
    let browser = mounted.chromium().await;
    let (page, dashboard) = (mounted.at("page", "/"), mounted.dashboard("page"));
    enter(&mounted, &browser, &page, "alice").await;
    browser.sees("A page").await;
    browser.open(&mounted.at("headlamp", "/")).await;
    browser.sees("signed in as").await;
    keep_cookie(&mounted, &browser).await;
    let beside = async |sentence: &str| {
        browser.open(&page).await;
        browser.sees(sentence).await;
        let answers = browser.answers().await;
        let answer = answers.iter().find(|answer| answer.url == page).unwrap();
        assert!(answer.status >= 500, "{sentence}: {}", answer.status);
        assert!(answer.header("entrada-reason").starts_with("dashboard_"), "{sentence}");
        browser.open(&mounted.at("headlamp", "/")).await;
        browser.sees("signed in as").await;
    };
    let _earlier = browser.answers().await;
    dashboard.set_mood(Mood::Nonsense("what is this\r\n\r\n".into()));
    beside("could not be read").await;
    dashboard.set_mood(Mood::Slow);
    beside("did not answer in time").await;
    dashboard.kill().await;
    beside("cannot be reached").await;
    dashboard.revive().await.unwrap();
    dashboard.set_mood(Mood::Well);
    browser.open(&page).await;
    browser.sees("A page").await;
    // The head is there when it breaks off: what remains is not to let half of an answer pass for a whole one.
    dashboard.set_mood(Mood::Breaks);
    let half = "const [done] = arguments; \
                fetch('/').then((answer) => answer.text()).then(() => done('whole'), () => done('broken'));";
    assert_eq!(browser.run_async(half).await, "broken");
}
