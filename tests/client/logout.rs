//! Signing out.

use crate::fake::Fake;
use crate::home::Home;

#[tokio::test]
async fn the_token_is_revoked_and_forgotten() {
    // Proves that the only sign-in is found without its address, and that kubectl then says what to run.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.run(&["logout"]).await.assert(64, "Nobody is signed in");
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    home.kubectl(&["get", "--raw", "/version"]).await.assert(0, "");
    home.run(&["logout"]).await.assert(0, "Signed out of https://localhost:");
    assert_eq!(fake.calls("/cli/revoke"), 1);
    assert!(!home.path(&home.token_file()).exists());
    home.kubectl(&["get", "--raw", "/version"]).await.assert(1, "You are not signed in. Run: entrada login");
    assert!(home.read(".kube/config").contains(&fake.url));
    home.run(&["logout", &fake.url]).await.assert(0, "There was no token");
}

#[tokio::test]
async fn a_renewal_under_way_leaves_no_token_behind() {
    // Proves that what another process brings at that moment is revoked and forgotten, too.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.keep(&fake.cached(12 * 3_600, 300));
    let old = home.token();
    fake.hold_renewals().await;
    let renewal = home.start(&["credential", "--server", &fake.url]);
    fake.renewal_asked().await;
    let mut logout = home.start(&["logout"]);
    logout.until("Another process is renewing the token, or signing in").await;
    fake.let_renewals_go();
    let new = renewal.ended().await.token();
    logout.ended().await.assert(0, "Signed out of");
    assert!(!home.path(&home.token_file()).exists());
    assert_ne!(new, old);
    assert!(fake.knows(&old) && !fake.knows(&new), "the old one ends by itself");
}

#[tokio::test]
async fn the_context_goes_where_that_is_asked_for() {
    // Proves that only the entries of that server go, and that nobody guesses between two sign-ins.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let mine = "apiVersion: v1\nkind: Config\nclusters:\n- name: mine\n  cluster:\n    server: https://mine\n\
                contexts:\n- name: mine\n  context:\n    cluster: mine\n    user: me\nusers:\n- name: me\n  user: {}\n";
    home.write(".kube/config", mine);
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    home.write(
        ".kube/cache/entrada/other.json",
        &fake.cached(60, 60).replace(&fake.url, "https://other.example"),
    );
    home.run(&["logout"]).await.assert(64, "https://localhost:");
    home.run(&["logout", &fake.url, "--remove-context"]).await.assert(0, "Signed out");
    assert_eq!(home.read(".kube/config"), format!("{mine}current-context: \"\"\n"));
}

#[tokio::test]
async fn a_server_that_is_gone_does_not_keep_the_token_here() {
    // Proves that the token is forgotten all the same, and that the person is told that it was not revoked.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.write(
        ".kube/cache/entrada/localhost_1.json",
        &fake.cached(60, 60).replace(&fake.url, "https://localhost:1"),
    );
    home.run(&["logout"]).await.assert(1, "not revoked: do that at https://localhost:1");
    assert!(!home.path(".kube/cache/entrada/localhost_1.json").exists());
}
