//! The real `entrada login` with a real browser, an Entrada, and a real kubectl that runs `entrada credential`.

mod later;
mod troubles;

use super::super::support::World;
use super::super::support::home::{Ended, Home, Running, kubectl};
use super::super::support::webdriver::Chromium;
use super::{pick_alice, world};

/// What alice asks her kubectl for.
const GET_PODS: [&str; 4] = ["get", "pods", "-n", "team-a"];

/// Alice's computer, with nothing on it but the program.
fn computer(world: &World) -> Home {
    Home::of(&world.url, world.ca.pem()).with_browser()
}

/// A computer on which alice has logged in, and the browser that she did it with.
async fn logged_in(world: &World) -> (Home, Chromium) {
    let (home, browser) = (computer(world), Chromium::start(world.ca.pem(), "").await);
    let login = home.login(&[]);
    browser.open(home.opened().await.as_str()).await;
    pick_alice(world, &browser).await;
    allow(&browser).await;
    finished(world, &home, login).await;
    (home, browser)
}

/// A login comes to its good end.
async fn finished(world: &World, home: &Home, login: Running) {
    login.ended().await.assert(0, "Signed in to stand-in as alice@contoso.example.");
    world.keep_secret(home.token());
}

/// Says yes to the question that the browser shows.
async fn allow(browser: &Chromium) {
    browser.press("Allow").await;
    browser.sees("You can close this tab").await;
}

/// kubectl as a person starts it in a terminal.
fn pods_in_terminal(home: &Home) -> Running {
    home.in_terminal(&kubectl(), &GET_PODS)
}

#[track_caller]
fn assert_pods(ended: &Ended) {
    assert!(ended.code == Some(0) && ended.stdout.contains("web"), "{ended:?}");
}

fn is_number(word: &str) -> bool {
    word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_code(word: &str) -> bool {
    word.len() == 9 && word.as_bytes()[4] == b'-'
}

/// The word that looks like this in what a program has said.
fn word(said: &str, fits: impl Fn(&str) -> bool) -> String {
    said.split_whitespace().find(|word| fits(word)).unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// Proves that one command and one click lead to a kubectl that acts as the person, also in two processes at once, that
/// the kubeconfig holds no secret, and that a logout ends it.
#[tokio::test(flavor = "multi_thread")]
async fn login_by_browser_sets_kubectl_up() {
    let world = world().await;
    let (home, browser) = (computer(&world), Chromium::start(world.ca.pem(), "").await);
    let mut login = home.login(&[]);
    browser.open(home.opened().await.as_str()).await;
    pick_alice(&world, &browser).await;
    let number = word(login.until("address on this computer").await, is_number);
    browser.sees(&number).await;
    allow(&browser).await;
    finished(&world, &home, login).await;
    assert!(!home.read(".kube/config").contains("entrada_"), "the kubeconfig holds a token");

    let (first, second) = tokio::join!(home.kubectl(&GET_PODS), home.kubectl(&GET_PODS));
    assert_pods(&first);
    assert_pods(&second);

    home.run(&["logout"]).await.assert(0, "Signed out of https://127.0.0.1:");
    home.kubectl(&GET_PODS).await.assert(1, "You are not signed in. Run: entrada login https://127.0.0.1:");
}

/// Proves the same for a code that is typed elsewhere, on a computer that has no browser to open.
#[tokio::test(flavor = "multi_thread")]
async fn login_by_code_sets_kubectl_up() {
    let world = world().await;
    let home = Home::of(&world.url, world.ca.pem());
    let mut login = home.login(&[]);
    let code = word(login.until("Enter it only").await, is_code);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.at("/device")).await;
    pick_alice(&world, &browser).await;
    browser.enter("input[name=user_code]", &code).await;
    browser.press("Go on").await;
    browser.sees("Let this computer act as you").await;
    browser.press("Allow").await;
    finished(&world, &home, login).await;
    assert_pods(&home.kubectl(&GET_PODS).await);
}
