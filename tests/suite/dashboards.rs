//! What a dashboard that writes everything down has to show for a day.

use std::time::Duration;

use http::Method;
use serde_json::json;
use standin::browser::Browser;
use standin::dashboard::Kind;

use super::support::mounted::{Mounted, OWN_PAGE};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const STEP: Duration = Duration::from_secs(20 * 60);
const STEPS_PER_HOUR: usize = 3;

/// One person's day at both dashboards.
struct Person {
    browser: Browser,
    user: &'static str,
    /// Every cookie of ours that the browser ever had.
    cookies: Vec<String>,
}

impl Person {
    async fn arrive(&mut self, mounted: &Mounted) {
        for name in ["headlamp", "pods"] {
            let page = self.browser.navigate(&mounted.at(name, "/")).await.unwrap();
            // The page that keeps a fragment, where nobody is signed in.
            let page = match page
                .text()
                .replace("&#x2f;", "/")
                .replace("&amp;", "&")
                .split_once("id=\"go\" href=\"")
            {
                Some((_, href)) => {
                    let next = page.url.join(href.split('"').next().unwrap()).unwrap();
                    let page = self.browser.navigate(next.as_str()).await.unwrap();
                    self.browser.choose(page, self.user).await.unwrap()
                }
                None => page,
            };
            assert_eq!((page.status.as_u16(), page.url.as_str()), (200, mounted.at(name, "/").as_str()));
        }
        for url in [mounted.world.at("/"), mounted.at("headlamp", "/"), mounted.at("pods", "/")] {
            let cookie = self.browser.cookie(&url, "__Host-entrada").unwrap();
            mounted.world.keep_secret(&cookie);
            self.cookies.push(cookie);
        }
    }

    /// What pages do all day: look, ask who is there, list, and change something.
    async fn work(&self, mounted: &Mounted) {
        let namespace = if self.user == "alice" { "team-a" } else { "team-b" };
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        for url in [mounted.at("headlamp", &format!("/clusters/main{pods}")), mounted.at("pods", &pods)] {
            let same_origin = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
            let page = self.browser.get_with(&url, &same_origin).await.unwrap();
            assert_eq!(page.status, 200, "{}: {}", self.user, page.text());
        }
        let origin = mounted.at("headlamp", "");
        let review = json!({ "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1" });
        let url = format!("{origin}/clusters/main/apis/authentication.k8s.io/v1/selfsubjectreviews");
        let page = self.browser.post_json(&url, &review, &[("origin", &origin)]).await.unwrap();
        let name = page.json().unwrap()["status"]["userInfo"]["username"].clone();
        assert_eq!(name, mounted.world.entra.user(self.user).unwrap().kubernetes_name());
        self.browser.get(&mounted.at("pods", "/")).await.unwrap();
    }
}

async fn status(mounted: &Mounted, method: Method, path: &str, bearer: &str) -> u16 {
    mounted.world.call(method, path, bearer).await.status.as_u16()
}

async fn assert_good_for_the_api_alone(mounted: &Mounted, bearer: &str) {
    assert_eq!(status(mounted, Method::GET, "/version", bearer).await, 200, "a new one works");
    let own_paths = [
        (Method::GET, "/whoami"),
        (Method::GET, "/tokens"),
        (Method::POST, "/tokens"),
        (Method::POST, "/logout"),
    ];
    for (method, path) in own_paths {
        let status = status(mounted, method, path, bearer).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
}

/// In no header that a dashboard ever got was one of these, a cookie of ours, or another bearer than theirs.
fn assert_never_seen(mounted: &Mounted, secrets: &[String]) {
    let heard = [mounted.dashboard("headlamp").heard(), mounted.dashboard("pods").heard()].concat();
    assert!(heard.len() > 24 * STEPS_PER_HOUR * 6, "{}", heard.len());
    for heard in &heard {
        let bearers: Vec<_> = heard.values("authorization").collect();
        assert!(bearers.len() == 1 && bearers[0].starts_with("Bearer entradam_"), "{heard:?}");
        assert!(!heard.target.contains(".entrada"), "{heard:?}");
        for (name, value) in &heard.headers {
            assert!(!value.contains("__Host-entrada"), "{name}: {value}");
            assert!(!secrets.iter().any(|secret| value.contains(secret.as_str())), "{name}");
        }
    }
}

/// Proves that in a day of two people's work, with a sign-out at noon, dashboards that keep every header they ever got have
/// never seen a token of Entra's or a cookie of ours; and that none of the bearers they kept works after its hour, after the
/// sign-out, or anywhere but at the API.
#[tokio::test(flavor = "multi_thread")]
async fn a_day_at_a_dashboard_that_writes_everything_down() {
    let page = Kind::Page(OWN_PAGE.to_owned());
    let mounted = Mounted::start(&[("headlamp", Kind::Headlamp), ("pods", page)]).await;
    let person = |user| Person { browser: mounted.world.browser(), user, cookies: Vec::new() };
    let (mut alice, mut bob) = (person("alice"), person("bob"));
    alice.arrive(&mounted).await;
    bob.arrive(&mounted).await;
    let kept = || [mounted.dashboard("headlamp").bearers(), mounted.dashboard("pods").bearers()].concat();
    let mut known: Vec<String> = Vec::new();
    let mut by_step: Vec<Vec<String>> = vec![kept()];
    for step in 1..=24 * STEPS_PER_HOUR {
        mounted.world.advance(STEP);
        alice.work(&mounted).await;
        bob.work(&mounted).await;
        known.extend(by_step[step - 1].iter().cloned());
        let fresh: Vec<_> = kept().into_iter().filter(|bearer| !known.contains(bearer)).collect();
        by_step.push(fresh.clone());
        for bearer in &fresh {
            assert_good_for_the_api_alone(&mounted, bearer).await;
        }
        if step >= STEPS_PER_HOUR {
            for bearer in &by_step[step - STEPS_PER_HOUR] {
                assert_eq!(status(&mounted, Method::GET, PODS, bearer).await, 401, "after its hour");
            }
        }
        if step == 12 * STEPS_PER_HOUR {
            let origin = [("origin", mounted.world.url.as_str())];
            let page = alice.browser.post_form(&mounted.world.at("/logout"), &[], &origin).await.unwrap();
            assert_eq!(page.status, 303);
            let mut working = 0;
            for bearer in &kept() {
                match status(&mounted, Method::GET, PODS, bearer).await {
                    401 => {}
                    // Bob's, who may not see alice's pods.
                    403 => working += 1,
                    other => panic!("{other}: it works after the sign-out"),
                }
            }
            assert!(working > 0, "bob has signed out too");
            alice.arrive(&mounted).await;
        }
    }
    mounted.world.advance(Duration::from_secs(3_600));
    let all = kept();
    assert!(
        all.len() > 2 * 2 * 24 * STEPS_PER_HOUR,
        "two people at two dashboards, and a new one each time: {}",
        all.len()
    );
    for bearer in &all {
        assert_eq!(status(&mounted, Method::GET, PODS, bearer).await, 401, "the day after");
    }

    let mut secrets = mounted.world.entra.secrets();
    secrets.extend([alice.cookies, bob.cookies].concat());
    assert_never_seen(&mounted, &secrets);
}
