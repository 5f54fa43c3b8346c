//! The one-time code: who may use it, where, and how often.

use http::Method;
use standin::browser::{Browser, Page};
use url::Url;

use super::Mounted;

/// The headers of somebody who follows a link.
const NAVIGATION: [(&str, &str); 3] =
    [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

/// One hop of a navigation, as it stands.
async fn hop(browser: &Browser, url: &str) -> Page {
    browser.request(Method::GET, url, &NAVIGATION, bytes::Bytes::new()).await.unwrap()
}

/// The browser follows redirects from the first dashboard until it is given a code, which it does not follow.
async fn code(mounted: &Mounted, browser: &Browser, path: &str) -> Url {
    let to_login = hop(browser, &mounted.at(path)).await;
    assert_eq!(to_login.header("referrer-policy"), "no-referrer");
    assert_eq!(to_login.header("cache-control"), "no-store");
    let login = to_login.location().unwrap();
    let back = hop(browser, login.as_str()).await;
    assert_eq!(back.header("referrer-policy"), "no-referrer");
    let location = back.location().unwrap();
    assert!(location.as_str().starts_with(&mounted.at("/.entrada/enter?code=code_")), "{location}");
    let code = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    mounted.world.keep_secret(code);
    location
}

/// What a code that came to nothing leads to: an address without it.
async fn refused(mounted: &Mounted, browser: &Browser, url: &str) {
    let page = hop(browser, url).await;
    let location = page.location().unwrap();
    assert!(location.as_str().ends_with("/.entrada/enter"), "{location}");
    let page = hop(browser, location.as_str()).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (400, "not_entered"));
    assert!(page.text().contains("href=\"&#x2f;\">Sign in"), "{}", page.text());
    assert!(page.text().contains("/.entrada/assets/entrada.css"), "{}", page.text());
    let style = format!("{}/.entrada/assets/entrada.css", location.origin().ascii_serialization());
    assert_eq!(hop(browser, &style).await.status, 200);
    assert!(mounted.headlamp.seen().iter().all(|seen| !seen.target.contains(".entrada")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_outlives_the_sign_in() {
    // Proves that what our page's script keeps of an address is part of the way back, once.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.world.browser());
    let page = browser.navigate(&mounted.at("/dash?x")).await.unwrap();
    let policy = page.header("content-security-policy");
    assert!(policy.contains(&format!("script-src {}/assets/;", world.url)), "{policy}");
    let state = page.text().split("data-state=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // What the script does.
    let kept = format!("__Host-entrada-fragment-{state}=%2Fpods%3Fns%3Da; Path=/; Secure; SameSite=Lax");
    assert!(browser.set_cookie(&world.url, &kept));
    let page = browser.choose(super::on(&browser, &page).await, "alice").await.unwrap();
    assert_eq!(page.url.as_str(), mounted.at("/dash?x"));
    let enter = page.hops.iter().find(|hop| hop.path() == "/.entrada/enter").unwrap();
    assert_eq!(enter.fragment(), Some("/pods?ns=a"), "the browser takes it on to the page");
    assert_eq!(browser.cookie_names(&world.url), ["__Host-entrada"]);
    for at in [world.url.clone(), mounted.at("/")] {
        world.keep_secret(browser.cookie(&at, "__Host-entrada").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_cookies_does_not_go_round() {
    // Proves that who comes back from Entra without a session is told so, and not sent there again.
    let mounted = Mounted::start().await;
    let stranger = mounted.world.browser();
    let login = hop(&stranger, &mounted.at("/")).await.location().unwrap();
    let page = hop(&stranger, &format!("{login}&back=1")).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (401, "no_credential"));
    assert!(page.text().contains("Sign in"), "{}", page.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once() {
    // Proves that a code cannot be replayed, also not in the browser that it was made for.
    let mounted = Mounted::start().await;
    let browser = mounted.world.signed_in("alice").await;
    let enter = code(&mounted, &browser, "/deep?q=1").await;
    let page = hop(&browser, enter.as_str()).await;
    assert_eq!(page.location().unwrap().as_str(), mounted.at("/deep?q=1"));
    mounted.world.keep_secret(mounted.cookie(&browser).unwrap());
    refused(&mounted, &browser, enter.as_str()).await;
    assert_eq!(browser.get(&mounted.at("/")).await.unwrap().status, 200, "who is in stays in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_bound_to_browser_and_host() {
    // Proves that a code cannot be planted in another browser, and is of no use at another dashboard; that both end it.
    let mounted = Mounted::start().await;
    let (alice, bob) = (mounted.world.signed_in("alice").await, mounted.world.signed_in("bob").await);
    let enter = code(&mounted, &bob, "/").await;
    refused(&mounted, &alice, enter.as_str()).await;
    assert!(mounted.cookie(&alice).is_none(), "alice is not bob");
    refused(&mounted, &bob, enter.as_str()).await;

    let enter = code(&mounted, &alice, "/").await;
    let elsewhere = enter.as_str().replace("headlamp", "pods");
    refused(&mounted, &alice, &elsewhere).await;
    refused(&mounted, &alice, enter.as_str()).await;
    // The state of another attempt of the same browser does not fit either.
    let (first, second) = (code(&mounted, &alice, "/a").await, code(&mounted, &alice, "/b").await);
    let query =
        |url: &Url, name: &str| url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned();
    let mixed = mounted.at(&format!(
        "/.entrada/enter?code={}&state={}",
        query(&first, "code"),
        query(&second, "state")
    ));
    refused(&mounted, &alice, &mixed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_ends_after_a_minute_and_with_its_session() {
    // Proves both ends of a code that nobody used.
    let mounted = Mounted::start().await;
    let browser = mounted.world.signed_in("alice").await;
    let late = code(&mounted, &browser, "/").await;
    mounted.world.advance(std::time::Duration::from_secs(61));
    refused(&mounted, &browser, late.as_str()).await;
    let ended = code(&mounted, &browser, "/").await;
    let origin = [("origin", mounted.world.url.as_str())];
    browser.post_form(&mounted.world.at("/logout"), &[], &origin).await.unwrap();
    refused(&mounted, &browser, ended.as_str()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_given_to_navigations_alone() {
    // Proves that no script, frame or image of a sibling host gets a code, and that no address but a mount's does.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.world.signed_in("alice").await);
    let login = hop(&browser, &mounted.at("/")).await.location().unwrap();
    for (mode, into) in [("cors", "empty"), ("no-cors", "image"), ("navigate", "iframe")] {
        let headers = [
            ("accept", "text/html"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", into),
        ];
        let page = browser.request(Method::GET, login.as_str(), &headers, bytes::Bytes::new()).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"), "{mode}");
    }
    for (from, to) in [
        ("headlamp.localhost", "evil.localhost"),
        ("headlamp.localhost", "localhost"),
        ("challenge=", "challenge=x"),
        ("state=", "state=%2F"),
        ("mount=", "mount=x&mount="),
    ] {
        let page = hop(&browser, &login.as_str().replace(from, to)).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (400, "no_such_mount"), "{to}");
    }
    // In a frame a code is used up, and gives nothing.
    let enter = code(&mounted, &browser, "/").await;
    let frame = [NAVIGATION[0], NAVIGATION[1], ("sec-fetch-dest", "iframe")];
    let page = browser.request(Method::GET, enter.as_str(), &frame, bytes::Bytes::new()).await.unwrap();
    assert!(page.location().unwrap().as_str().ends_with("/.entrada/enter"), "{:?}", page.location());
    assert!(mounted.cookie(&browser).is_none());
    refused(&mounted, &browser, enter.as_str()).await;
    // A token signs nobody in there.
    let token = format!("Bearer {}", world.token(&browser).await);
    let headers = [NAVIGATION[0], ("authorization", token.as_str())];
    let page =
        world.browser().request(Method::GET, login.as_str(), &headers, bytes::Bytes::new()).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cookie_required"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_share_a_cookie_and_the_portal_lists_it() {
    // Proves that a browser has one cookie for a dashboard, that the portal lists it by the host, and can take it away.
    let mounted = Mounted::start().await;
    let (world, browser) = (&mounted.world, mounted.world.signed_in("alice").await);
    let (first, second) = (code(&mounted, &browser, "/a").await, code(&mounted, &browser, "/b").await);
    hop(&browser, first.as_str()).await;
    let cookie = mounted.cookie(&browser).unwrap();
    world.keep_secret(&cookie);
    assert_eq!(hop(&browser, second.as_str()).await.location().unwrap().as_str(), mounted.at("/b"));
    assert_eq!(mounted.cookie(&browser), Some(cookie));
    browser.get(&mounted.at("/")).await.unwrap();
    let bearer = mounted.headlamp.bearer(world);

    let portal = hop(&browser, &world.at("/")).await.text();
    assert!(portal.contains("headlamp.localhost"), "{portal}");
    assert_eq!(portal.matches("aria-label=\"Sign out of headlamp.localhost:").count(), 1, "{portal}");
    let tokens = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    assert_eq!(
        tokens["tokens"].as_array().unwrap().len(),
        0,
        "neither ticket nor bearer is a token: {tokens}"
    );
    let id = portal.split("name=\"browser\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let origin = [("origin", world.url.as_str())];
    let page = browser.post_form(&world.at("/logout"), &[("browser", &id)], &origin).await.unwrap();
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!(browser.get(&mounted.at("/")).await.unwrap().status, 401);
    assert_eq!(world.call(Method::GET, super::PODS, &bearer).await.status, 401, "and its bearer is gone");
    assert_eq!(world.with_cookie("/whoami", &world.session_cookie(&browser).unwrap()).await.status, 200);
}
