//! What kubectl is given.

use crate::fake::{Fake, Standing};
use crate::home::{Home, visit};

const HOUR: i64 = 3_600;

fn info(interactive: bool) -> String {
    format!(
        r#"{{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential","spec":{{"interactive":{interactive}}}}}"#
    )
}

#[tokio::test]
async fn a_good_token_is_given_without_a_question_to_the_server() {
    // Proves that the cache alone answers, in the version that was asked for, with an end before the real one.
    let fake = Fake::start().await;
    let home = Home::new(&fake).with("KUBERNETES_EXEC_INFO", info(false));
    home.keep(&fake.cached(12 * HOUR, 6 * HOUR));
    let given = home.run(&["credential", "--server", &fake.url]).await;
    assert_eq!(given.token(), home.token());
    assert!(given.stdout.contains("client.authentication.k8s.io/v1beta1"), "{given:?}");
    assert!(given.stdout.contains("expirationTimestamp") && given.said.is_empty(), "{given:?}");
    assert!(fake.state().calls.is_empty());
}

#[tokio::test]
async fn two_at_once_make_one_renewal() {
    // Proves that while one process renews, another goes on with the token that still works.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.keep(&fake.cached(12 * HOUR, 300));
    let old = home.token();
    fake.hold_renewals().await;
    let first = home.start(&["credential", "--server", &fake.url]);
    fake.renewal_asked().await;
    let second = home.run(&["credential", "--server", &fake.url]).await;
    assert_eq!(second.token(), old);
    fake.let_renewals_go();
    let new = first.ended().await;
    assert_ne!(new.token(), old);
    assert_eq!((new.said.as_str(), home.token()), ("", new.token()));
    assert_eq!(fake.calls("/cli/renew"), 1);
}

#[tokio::test]
async fn two_at_once_make_one_sign_in() {
    // Proves that one process opens the browser, and that the other waits for its token.
    let fake = Fake::start().await;
    let home = Home::new(&fake).with_browser().with("KUBERNETES_EXEC_INFO", info(true));
    let mut expired: serde_json::Value = serde_json::from_str(&fake.cached(HOUR, 1)).unwrap();
    expired["expires_at"] = "2020-01-01T00:00:00Z".into();
    home.keep(&expired.to_string());
    let first = home.start_in_terminal(&["credential", "--server", &fake.url]);
    let address = home.opened().await;
    let mut second = home.start_in_terminal(&["credential", "--server", &fake.url]);
    second.until("Another process is signing in").await;
    visit(&fake.allow(&address)).await;
    let (first, second) = (first.ended().await, second.ended().await);
    assert_eq!(first.token(), second.token());
    assert_eq!(fake.calls("/cli/token"), 1);
}

#[tokio::test]
async fn without_a_person_it_says_what_to_run() {
    // Proves exit code and sentence where kubectl has no terminal, for no token, a stale one and a broken file.
    let fake = Fake::start().await;
    let home = Home::new(&fake).with_browser().with("KUBERNETES_EXEC_INFO", info(false));
    let run = format!("Run: entrada login {}", fake.url);
    home.start_in_terminal(&["credential", "--server", &fake.url]).ended().await.assert(3, &run);
    for broken in ["", "{", "[]", "\u{0}", r#"{"server":"https://other.example","token":"x"}"#] {
        home.keep(broken);
        home.run(&["credential", "--server", &fake.url]).await.assert(3, &run);
    }
    let stale = fake.cached(HOUR, 600).replace("\"expires_at\":\"20", "\"expires_at\":\"19");
    home.keep(&stale);
    home.run(&["credential", "--server", &fake.url]).await.assert(3, "Your sign-in has expired.");
    assert!(fake.state().calls.is_empty());
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    assert_eq!(home.run(&["credential", "--server", &fake.url]).await.token(), home.token());
}

#[tokio::test]
async fn a_refused_token_is_not_given_for_ever() {
    // Proves that who asks twice is asking because of a 401: the server is asked, and its reason is passed on.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.keep(&fake.cached(12 * HOUR, 6 * HOUR));
    let arguments = ["credential", "--server", &fake.url];
    let token = home.run(&arguments).await.token();
    assert_eq!((home.run(&arguments).await.token(), fake.calls("/whoami")), (token.clone(), 1));

    fake.all_tokens_are(Standing::NeedsUser);
    let said = "Your organisation asks you to sign in again. Run: entrada login https://localhost:";
    home.run(&arguments).await.assert(3, said);
    // Its user has armed it on the portal.
    fake.all_tokens_are(Standing::Good);
    assert_eq!(home.run(&arguments).await.token(), token);
    fake.all_tokens_are(Standing::Revoked);
    home.run(&arguments).await.assert(3, "This token is unknown or was revoked. Run: entrada login");
}

#[tokio::test]
async fn a_person_before_kubectl_reads_why_it_was_refused() {
    // Proves with kubectl itself that a revoked token ends with our sentence, not with `Unauthorized` alone.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    fake.all_tokens_are(Standing::Revoked);
    let refused = home.kubectl(&["get", "--raw", "/version"]).await;
    refused.assert(1, "This token is unknown or was revoked. Run: entrada login");
    assert_eq!(fake.calls("/whoami"), 1);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_token_in_use() {
    // Proves that a server without renewals costs nothing, and is not asked at each command.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let closed = fake.cached(HOUR, 300).replace(&fake.url, "https://localhost:1");
    home.write(".kube/cache/entrada/localhost_1.json", &closed);
    let first = home.run(&["credential", "--server", "https://localhost:1"]).await;
    assert!(first.token().starts_with("entrada_") && first.said.is_empty(), "{first:?}");
    assert!(home.read(".kube/cache/entrada/localhost_1.json").contains("\"renewal_tried_at\":\"20"));
}

#[tokio::test]
async fn a_renewal_that_is_refused_needs_the_person() {
    // Proves that a session which has ended, or waits for its user, is told when the token would be renewed.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.keep(&fake.cached(HOUR, 300));
    fake.all_tokens_are(Standing::NeedsUser);
    home.run(&["credential", "--server", &fake.url])
        .await
        .assert(3, "Your organisation asks you to sign in again.");
}

#[tokio::test]
async fn a_home_that_cannot_be_written_costs_a_warning() {
    // Proves that a person can work there: each command signs in anew.
    let fake = Fake::start().await;
    let home = Home::new(&fake).with_browser().with("KUBERNETES_EXEC_INFO", info(true));
    let home = home.with("KUBECACHEDIR", "/dev/null/cache");
    let ca = serde_json::json!({"clusters": [{"name": "x", "cluster": {
        "server": fake.url, "certificate-authority-data": base64(fake.ca.pem())}}]});
    home.write(".kube/config", &ca.to_string());
    let running = home.start_in_terminal(&["credential", "--server", &fake.url]);
    visit(&fake.allow(&home.opened().await)).await;
    let given = running.ended().await;
    assert!(given.token().starts_with("entrada_"));
    given.assert(0, "The token cannot be kept in /dev/null/cache/entrada");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
