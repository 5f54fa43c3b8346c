//! What may stand in a login's way: guessed codes, Ctrl-C, a home that cannot be written, another process, a kubeconfig
//! that is full already.

use std::net::TcpStream as BlockingStream;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::super::super::support::World;
use super::super::super::support::home::{Home, visit};
use super::super::super::support::webdriver::Chromium;
use super::super::handover::called_back;
use super::{
    GET_PODS, allow, assert_pods, computer, finished, is_code, pick_alice, pods_in_terminal, word, world,
};

/// Where nobody can make a file, also not root.
const READ_ONLY: &str = "/sys";

/// Puts the portal's kubeconfig for the program, which holds no secret, into a file: its path.
async fn kubeconfig_of_the_portal(world: &World, home: &Home) -> String {
    let page = world.signed_in("alice").await.get(&world.at("/kubeconfig")).await.unwrap();
    home.write("from-the-portal.yaml", &page.text());
    home.path("from-the-portal.yaml").display().to_string()
}

fn parameter(address: &Url, name: &str) -> String {
    address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// Proves that nobody guesses a code, that the program waits on meanwhile, and that Ctrl-C ends it and leaves nothing;
/// and that kubectl says what to run where there is a person and no browser.
#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_codes_are_enough_and_ctrl_c_ends_the_wait() {
    let world = world().await;
    let home = Home::of(&world.url, world.ca.pem()).with("NO_COLOR", "1");
    let ca = home.path("ca.crt").display().to_string();
    let mut login = home.start_in_terminal(&["login", &world.url, "--ca-file", &ca]);
    let code = word(login.until("Waiting for the code").await, is_code);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.at("/device")).await;
    pick_alice(&world, &browser).await;
    for _ in 0..10 {
        browser.open(&world.at("/device")).await;
        browser.enter("input[name=user_code]", "BBBB-BBBB").await;
        browser.press("Go on").await;
        browser.sees("No computer waits with this code.").await;
    }
    browser.open(&world.at("/device")).await;
    browser.enter("input[name=user_code]", &code).await;
    browser.press("Go on").await;
    browser.sees("Wait five minutes").await;
    login.press_ctrl_c();
    login.ended().await.assert(130, "entrada: Interrupted.");
    assert_eq!(home.files(".kube"), ["cache"]);
    let left = home.files(".kube/cache/entrada");
    assert!(left.iter().all(|name| name.ends_with(".lock")), "{left:?}");

    let kubeconfig = kubeconfig_of_the_portal(&world, &home).await;
    let told = format!("entrada: You are not signed in. Run: entrada login {}\r\n", world.url);
    pods_in_terminal(&home.with("KUBECONFIG", kubeconfig)).ended().await.assert(1, &told);
}

/// Proves that Ctrl-C in a terminal ends kubectl and the program that it waits for, and that the next kubectl can sign in.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_kubectl_while_it_waits_for_the_browser() {
    let world = world().await;
    let home = computer(&world);
    let kubeconfig = kubeconfig_of_the_portal(&world, &home).await;
    let home = home.with("KUBECONFIG", kubeconfig);
    let mut kubectl = pods_in_terminal(&home);
    let address = home.opened().await;
    kubectl.press_ctrl_c();
    // Both have let go of the terminal then.
    kubectl.ended().await;
    let port = Url::parse(&parameter(&address, "redirect_uri")).unwrap().port().unwrap();
    assert!(BlockingStream::connect(("127.0.0.1", port)).is_err(), "the port is still open");
    let left = home.files(".kube/cache/entrada");
    assert!(left.iter().all(|name| name.ends_with(".lock")), "{left:?}");

    let kubectl = pods_in_terminal(&home);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(home.opened().await.as_str()).await;
    pick_alice(&world, &browser).await;
    allow(&browser).await;
    assert_pods(&kubectl.ended().await);
    world.keep_secret(home.token());
}

/// Proves that a home in which nothing can be kept is told before anybody is bothered, that kubectl works there with one
/// click for each command, and that the variable which the message names is the way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_home_costs_a_click_or_a_variable() {
    let world = world().await;
    let home = computer(&world).with("HOME", READ_ONLY);
    let told = "The token cannot be kept in /sys/.kube/cache/entrada: ";
    let refused = home.login(&[]).ended().await.assert(1, told);
    assert!(refused.said.contains("KUBECACHEDIR=") && !refused.said.contains("authorize"), "{refused:?}");

    let kubeconfig = kubeconfig_of_the_portal(&world, &home).await;
    let home = home.with("KUBECONFIG", kubeconfig);
    let kubectl = pods_in_terminal(&home);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(home.opened().await.as_str()).await;
    pick_alice(&world, &browser).await;
    allow(&browser).await;
    let ended = kubectl.ended().await.assert(0, "The token cannot be kept in /sys/.kube/cache/entrada");
    assert_pods(&ended);

    let folder = home.path(".kube/cache").display().to_string();
    let home = home.with("KUBECACHEDIR", folder);
    let login = home.login(&[]);
    browser.open(home.opened().await.as_str()).await;
    allow(&browser).await;
    finished(&world, &home, login).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
}

/// Proves that a process of somebody else's on this computer, who sees the address in the list of processes, neither ends
/// the wait nor gets a token; also not when the program is gone and its port is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_that_another_process_tries_to_take_brings_it_nothing() {
    let world = world().await;
    let (home, browser) = (computer(&world), Chromium::start(world.ca.pem(), "").await);
    let login = home.login(&[]);
    let address = home.opened().await;
    let (callback, state) = (parameter(&address, "redirect_uri"), parameter(&address, "state"));
    let port = Url::parse(&callback).unwrap().port().unwrap();
    for (query, answer) in [
        ("code=code_forged&state=guessed".to_owned(), "HTTP/1.1 404"),
        ("error=access_denied&state=guessed".to_owned(), "HTTP/1.1 404"),
        (format!("code=code_forged&state={state}"), "That did not work"),
    ] {
        let answered = visit(&Url::parse(&format!("{callback}?{query}")).unwrap()).await;
        assert!(answered.contains(answer), "{query}: {answered}");
    }
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    browser.open(address.as_str()).await;
    pick_alice(&world, &browser).await;
    allow(&browser).await;
    finished(&world, &home, login).await;
    drop(silent);

    let login = home.login(&[]);
    let address = home.opened().await;
    drop(login);
    let callback = parameter(&address, "redirect_uri");
    let thief =
        TcpListener::bind(("127.0.0.1", Url::parse(&callback).unwrap().port().unwrap())).await.unwrap();
    browser.open(address.as_str()).await;
    let (line, ()) = tokio::join!(called_back(&thief), browser.press("Allow"));
    let code = line.split(['=', '&']).nth(1).unwrap();
    world.keep_secret(code);
    let guessed = "x".repeat(64);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", guessed.as_str()),
        ("redirect_uri", callback.as_str()),
    ];
    let page = world.browser().post_form(&world.at("/cli/token"), &fields, &[]).await.unwrap();
    assert_eq!((page.status.as_u16(), &page.json().unwrap()["error"]), (400, &"invalid_grant".into()));
    browser.open(&world.url).await;
    browser.sees("Alice Admin").await;
    let tokens = browser.run("return document.querySelector('tbody').rows.length").await;
    assert_eq!(tokens, 1, "the first login's token, and no other: {}", browser.text().await);
    assert_pods(&home.kubectl(&GET_PODS).await);
}

/// Ten clusters in the styles in which people and programs write them. The last is this Entrada, with a token of its own.
fn ten_contexts(world: &World, token: &str) -> String {
    let mut text = String::from(
        "kind: Config\napiVersion: v1\npreferences: {}\ncurrent-context: c3\nclusters:\n\
         - {name: c0, cluster: {server: 'https://c0.example', insecure-skip-tls-verify: true}}\n\
         -   \"name\": \"c1\"\n    cluster: {\"server\": \"https://c1.example\", \"tls-server-name\": \"on\"}\n",
    );
    for name in ["c2", "c3", "c4", "c5", "c6", "c7", "c8"] {
        text += &format!("- cluster:\n    server: https://{name}.example:6443/k8s/a#b\n  name: {name}\n");
    }
    text += &format!(
        "- name: c9\n  cluster:\n    certificate-authority: {}\n    server: {}\n    proxy-url: \"\"\n",
        "ca.crt", world.url
    );
    text += "contexts:\n";
    for number in 0..10 {
        let namespace = if number % 2 == 0 { "" } else { ", namespace: \"007\"" };
        text +=
            &format!("- {{name: c{number}, context: {{cluster: c{number}, user: u{number}{namespace}}}}}\n");
    }
    text += "users:\n\
        - name: u0\n  user: {token: '012'}\n\
        - name: u1\n  user:\n    username: \"yes\"\n    password: 'p: \"#{[&*!|>%@`'' '\n\
        - name: u2\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1beta1\n      command: kubelogin\n\
        \x20     args: [get-token, --server-id, 6dae42f8-4368-4678-94ff-3960e28e3630, '1e3']\n\
        \x20     env: [{name: A, value: \"null\"}]\n      provideClusterInfo: false\n\
        - name: u3\n  user:\n    client-certificate-data: |\n      LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n      Cg==\n\
        \x20   client-key-data: >-\n      LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t\n\
        - name: u4\n  user:\n    auth-provider:\n      name: azure\n      config: {expires-on: \"1700000000\", x: ''}\n\
        - name: u5\n  user:\n    client-certificate: ../c5.crt\n    client-key: c5.key\n\
        - name: u6\n  user: {}\n- name: u7\n  user: {as: system:admin, as-groups: [a, b]}\n\
        - name: u8\n  user: {tokenFile: /var/run/token}\n";
    text + &format!("- name: u9\n  user:\n    token: {token}\n")
}

/// The entries of a kubeconfig by kind and name, as kubectl understands them.
async fn entries(home: &Home) -> Vec<(String, Value)> {
    let view = home.kubectl(&["config", "view", "--raw", "-o", "json"]).await.assert(0, "");
    let view: Value = serde_json::from_str(&view.stdout).unwrap();
    let lists = ["clusters", "contexts", "users"].into_iter();
    let entries =
        lists.flat_map(|list| view[list].as_array().unwrap().iter().map(move |entry| (list, entry)));
    entries.map(|(list, entry)| (format!("{list}/{}", entry["name"]), entry.clone())).collect()
}

/// Proves that each of ten contexts means to kubectl what it meant before, and that the one which works goes on working;
/// and that no browser needs to be there for the program to find.
#[tokio::test(flavor = "multi_thread")]
async fn ten_contexts_mean_the_same_after_a_login() {
    let world = world().await;
    let home = Home::of(&world.url, world.ca.pem());
    let token = world.token(&world.signed_in("alice").await).await;
    home.write(".kube/config", &ten_contexts(&world, &token));
    home.write(".kube/ca.crt", world.ca.pem());
    let before = entries(&home).await;
    assert_eq!(before.len(), 30);

    let mut login = home.login(&["--no-browser"]);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(login.address().await.as_str()).await;
    pick_alice(&world, &browser).await;
    allow(&browser).await;
    login.ended().await.assert(0, "The current context is stand-in.");
    world.keep_secret(home.token());
    let after = entries(&home).await;
    let (old, new): (Vec<_>, Vec<_>) = after.into_iter().partition(|entry| before.contains(entry));
    assert_eq!(old.len(), before.len(), "{old:#?}");
    let names: Vec<_> = new.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [r#"clusters/"stand-in""#, r#"contexts/"stand-in""#, r#"users/"entrada@stand-in""#];
    assert_eq!(names, expected);
    assert_pods(&home.kubectl(&GET_PODS).await);
    assert_pods(&home.kubectl(&[&["--context", "c9"], GET_PODS.as_slice()].concat()).await);
}
