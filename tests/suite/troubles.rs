//! Everything that Entra can say, and what the user then reads: each row of the error table, from the stand-in to the
//! user's eyes.

use std::time::Duration;

use entrada::entra::{Class, error_table};
use http::Method;
use standin::browser::Page;

use super::support::kubectl::Kubectl;
use super::support::{World, eventually};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const HOUR: Duration = Duration::from_secs(3_600);

/// What a class of errors looks like to its user.
struct Look {
    status: u16,
    reason: &'static str,
    outcome: &'static str,
    /// Whether a browser is sent to sign in instead of reading a page.
    redirects: bool,
}

fn look(class: Class) -> Look {
    let look = |status, reason, outcome, redirects| Look { status, reason, outcome, redirects };
    match class {
        Class::SignIn | Class::Revoked => look(401, "session_ended", "sign_in", true),
        Class::StepUp => look(401, "step_up_required", "step_up", true),
        Class::Blocked => look(403, "blocked_by_policy", "blocked", false),
        Class::Admin | Class::AdminForUser => look(503, "administrator_required", "admin", false),
        Class::Transient => look(503, "entra_unavailable", "transient", false),
    }
}

fn calls(outcome: &str) -> String {
    format!("entrada_entra_token_calls_total{{grant=\"refresh_token\",outcome=\"{outcome}\"}}")
}

/// A page's text, as far as sentences go.
fn unescaped(page: &Page) -> String {
    page.text().replace("&quot;", "\"").replace("&#x27;", "'").replace("&#x2f;", "/").replace("&amp;", "&")
}

/// A world whose tokens live an hour, and alice's kubeconfig in it, two hours after she signed in.
async fn two_hours_later(world: &World) -> (standin::browser::Browser, String) {
    world.entra.set_refused_with("alice", None);
    let browser = world.signed_in("alice").await;
    let token = world.token(&browser).await;
    world.advance(2 * HOUR);
    (browser, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_the_table_reaches_its_user() {
    // Proves status, reason, warning, page, metric and log line of each code that the table lists.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    for (codes, class, sentence) in error_table() {
        let look = look(*class);
        for code in *codes {
            let (browser, token) = two_hours_later(&world).await;
            world.entra.set_refused_with("alice", Some(*code));
            let before = world.metric(&calls(look.outcome)).await;
            let page = world.call(Method::GET, PODS, &token).await;
            assert_eq!(
                (page.status.as_u16(), page.header("entrada-reason")),
                (look.status, look.reason),
                "{code}"
            );
            assert_eq!(page.json().unwrap()["code"], look.status);
            let told =
                if *class == Class::Transient { page.text() } else { page.header("warning").to_owned() };
            assert!(told.replace('\\', "").contains(sentence), "{code}: {told}");
            let waits = matches!(page.header("retry-after").parse(), Ok(1..=5_u32));
            assert_eq!(
                waits,
                *class == Class::Transient,
                "{code}: waiting helps only where it passes by itself"
            );
            assert_eq!(world.metric(&calls(look.outcome)).await, before + 1.0, "{code}");
            assert!(!world.logged(&format!("\"code\":{code},")).is_empty(), "{code} is not in the log");

            let html = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
            let page = browser.get_with(&world.at(PODS), &html).await.unwrap();
            assert_eq!(page.status == 302, look.redirects, "{code}: {}", page.text());
            assert!(look.redirects || unescaped(&page).contains(sentence), "{code}: {}", page.text());
        }
    }
    assert!(!world.entra.loop_detected());
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_prints_the_sentence_of_every_row() {
    // Proves that a user of kubectl reads what to do, whatever Entra said.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    for (codes, class, sentence) in error_table().iter().filter(|(_, class, _)| *class != Class::Transient) {
        world.entra.set_refused_with("alice", None);
        let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
        world.advance(2 * HOUR);
        world.entra.set_refused_with("alice", Some(codes[0]));
        let told = kubectl.run(&["get", "pods", "-n", "team-a"]).await;
        assert_eq!(told.code, Some(1), "{class:?}");
        assert!(told.stderr.contains(&format!("Warning: {sentence}")), "{codes:?}: {}", told.stderr);
        assert!(told.stderr.contains(&world.url), "{codes:?}: no address in {}", told.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_waits_for_an_entra_that_comes_back() {
    // Proves that what passes by itself costs a user of kubectl nothing but the wait.
    let world = World::start().await;
    world.entra.set_access_token_lifetime(Some(HOUR));
    world.api.put_pod("team-a", "web");
    let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
    world.advance(2 * HOUR);
    world.entra.kill().await;
    let waits = kubectl.run(&["get", "pods", "-n", "team-a"]);
    let recovers = async {
        let failed = "entrada_problems_total{reason=\"entra_unavailable\"}";
        eventually("a failure", || async { world.metric(failed).await >= 1.0 }).await;
        world.entra.revive().await.unwrap();
        world.advance(Duration::from_secs(61));
    };
    let (told, ()) = tokio::join!(waits, recovers);
    assert!(told.code == Some(0) && told.stdout.contains("web"), "{told:?}");
}

/// kubectl's words with what differs from run to run made plain, and without the lines of its own log.
fn plain(world: &World, text: &str) -> String {
    let text = text
        .replace(&world.url, "https://k8s.example.com")
        .replace(&world.entra.origin(), "https://login.microsoftonline.com")
        .replace(&world.entra.tenant_id(), "<tenant>")
        .replace(&world.entra.client_id(), "<client>");
    let lines = text.lines().filter(|line| !line.contains("memcache.go"));
    let ids_hidden = lines.map(|line| match line.split_once("correlation id ") {
        Some((before, rest)) => format!("{before}correlation id …{}", &rest[rest.find(')').unwrap()..]),
        None => line.to_owned(),
    });
    ids_hidden.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_troubleshooting_page_shows_what_kubectl_prints() {
    // Proves that docs/troubleshooting.md is true: each case is made, and kubectl's words stand there as they came.
    let document = std::fs::read_to_string("docs/troubleshooting.md").unwrap();
    let mut missing = Vec::new();
    for (title, make) in CASES {
        let world = World::start().await;
        world.entra.set_access_token_lifetime(Some(HOUR));
        let kubectl = Kubectl::new(&world.kubeconfig(&world.signed_in("alice").await).await);
        world.advance(2 * HOUR);
        make(&world);
        let told = plain(&world, &kubectl.run(&["get", "pods", "-n", "team-a"]).await.stderr);
        if !document.contains(&format!("$ kubectl get pods\n{told}\n")) {
            missing.push(format!("## {title}\n\n$ kubectl get pods\n{told}\n"));
        }
    }
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks:\n\n{}", missing.join("\n"));
}

type Case = (&'static str, fn(&World));

const CASES: &[Case] = &[
    ("Consent was withdrawn", |world| world.entra.set_admin_consent(false)),
    ("A user is not assigned", |world| world.entra.set_assigned("alice", false)),
    ("The federated credential is wrong", |world| {
        let issuer = world.entra.cluster_issuer();
        world.entra.set_federated_credential(Some((&issuer, "system:serviceaccount:other:other")));
    }),
    ("The assertion has expired", |world| world.advance_without_kubelet(2 * HOUR)),
    ("The device is blocked", |world| world.entra.set_refused_with("alice", Some(53000))),
    ("The user was disabled or revoked", |world| world.entra.revoke_sessions("alice")),
];
