//! The kubeconfig that `login` leaves behind.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;

use crate::fake::Fake;
use crate::home::Home;

/// Ten clusters, one of which has the name that Entrada's has, as `az aks get-credentials` leaves it.
fn ten_contexts() -> String {
    let mut text = "# my clusters\napiVersion: v1\nkind: Config\npreferences: {}\n".to_owned();
    let names: Vec<_> = (0..9).map(|number| format!("c{number}")).chain(["prod".to_owned()]).collect();
    text.push_str("clusters:\n");
    for name in &names {
        writeln!(text, "- cluster:\n    server: https://{name}.example\n    x-mine: \"yes\"\n  name: {name}")
            .unwrap();
    }
    text.push_str("contexts:\n");
    for name in &names {
        writeln!(text, "- context:\n    cluster: {name}\n    user: {name}\n  name: {name}").unwrap();
    }
    text.push_str("current-context: c3\nusers:\n");
    for name in &names {
        writeln!(text, "- name: {name}\n  user:\n    token: \"012{name}\"").unwrap();
    }
    text
}

#[tokio::test]
async fn ten_contexts_stay_and_an_eleventh_comes() {
    // Proves that others' entries stay as they were, also one of the same name, and that the loss of comments is told.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let before = ten_contexts();
    home.write(".kube/config", &before);
    let ended = home.logged_in(&fake, &[]).await.assert(0, "The current context is prod-entrada.");
    let backup = home.path(".kube/config.entrada-backup");
    assert!(
        ended.said.contains(&format!("has comments, which are lost now; {} keeps", backup.display())),
        "{ended:?}"
    );
    assert_eq!(
        (home.read(".kube/config.entrada-backup"), home.mode(".kube/config.entrada-backup")),
        (before, 0o600)
    );

    let after = home.read(".kube/config");
    assert!(after.contains("    token: \"012c3\"") && after.contains("    x-mine: \"yes\""), "{after}");
    let contexts = home.kubectl(&["config", "get-contexts", "-o", "name"]).await.assert(0, "");
    assert_eq!(contexts.stdout.lines().count(), 11, "{contexts:?}");
    let current = home.kubectl(&["config", "current-context"]).await;
    assert_eq!(current.stdout, "prod-entrada\n");
    home.kubectl(&["get", "--raw", "/version"]).await.assert(0, "");
    let old =
        home.kubectl(&["config", "view", "--raw", "-o", "jsonpath={.users[?(@.name==\"prod\")].user.token}"]);
    assert_eq!(old.await.stdout, "012prod");
    assert_eq!(home.files(".kube"), ["cache", "config", "config.entrada-backup"]);
}

#[tokio::test]
async fn what_a_person_added_to_our_entries_stays() {
    // Proves that a namespace set with kubectl outlives the next sign-in, and that a context can be named.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.logged_in(&fake, &["--context", "work"]).await.assert(0, "The current context is work.");
    home.kubectl(&["config", "set-context", "--current", "--namespace", "team-a"]).await.assert(0, "");
    home.kubectl(&["config", "unset", "current-context"]).await.assert(0, "");
    home.logged_in(&fake, &["--context", "work"]).await.assert(0, "The current context is work.");
    let context = home
        .kubectl(&["config", "view", "--minify", "-o", "jsonpath={.contexts[0].context.namespace}"])
        .await;
    assert_eq!(context.stdout, "team-a", "{context:?}");
    home.write(".kube/config", &ten_contexts());
    home.logged_in(&fake, &["--context", "c1"]).await.assert(1, "Choose a name: --context NAME");
    assert_eq!(home.read(".kube/config"), ten_contexts());
}

#[tokio::test]
async fn lists_of_files_and_links_are_followed_as_kubectl_does() {
    // Proves that a new entry goes to the first file that is there, an old one stays in its file, and a link stays one.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let list = ["missing", "first", "second"].map(|name| home.path(name).display().to_string()).join(":");
    let home = home.with("KUBECONFIG", list);
    home.write("real", "current-context: other\n");
    symlink("real", home.path("first")).unwrap();
    home.write("second", "");
    home.logged_in(&fake, &[]).await.assert(0, "The current context is prod.");
    assert!(home.path("first").is_symlink() && home.read("real").contains(&fake.url));
    assert_eq!((home.read("second"), home.path("missing").exists()), (String::new(), false));
    home.kubectl(&["get", "--raw", "/version"]).await.assert(0, "");

    let entries = home.read("real");
    home.write("second", &entries);
    home.write("real", "current-context: other\n");
    home.logged_in(&fake, &[]).await.assert(0, "The current context is prod.");
    assert_eq!((home.read("real").as_str(), home.read("second")), ("current-context: prod\n", entries));
}

#[tokio::test]
async fn a_file_that_is_locked_is_waited_for() {
    // Proves that kubectl's own lock is respected, with a sentence when nobody ever takes it away.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.write(".kube/config.lock", "");
    home.logged_in(&fake, &[]).await.assert(1, "config.lock. If none does, remove that file");
    assert!(home.path(".kube/config.lock").exists() && !home.path(".kube/config").exists());
}

#[tokio::test]
async fn names_of_a_server_cannot_break_the_file() {
    // Proves that a cluster's name is text, whatever a server calls it.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    fake.state().cluster_name = Some("a: [b]\n\u{1b}]0;x\u{7}\u{202e}# \"c\" 'd'");
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    let contexts = home.kubectl(&["config", "get-contexts", "-o", "name"]).await;
    assert_eq!(contexts.stdout, "a: [b]  ]0;x  # \"c\" 'd'\n");
    home.kubectl(&["get", "--raw", "/version"]).await.assert(0, "");
}
