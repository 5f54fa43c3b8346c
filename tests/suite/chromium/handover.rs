//! A hand-over through a real browser: what its policies let through cannot be known otherwise.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::super::support::PATIENCE;
use super::super::support::webdriver::Chromium;
use super::{assert_no_complaint, pick_alice, picture, world};

const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The program's own listener: the first line of the first request to its callback.
pub(super) async fn called_back(listener: &TcpListener) -> String {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n\
                    <!doctype html><link rel=icon href=data:,><p>You can close this page.";
        // Chromium opens connections ahead, which may be gone by then.
        let _sent = stream.write_all(page.as_bytes()).await;
        if line.starts_with("GET /callback") {
            return line;
        }
    }
}

/// A person says yes or no to the computer that listens here; what the computer is told.
async fn hand_over(at: SocketAddr, press: &str, pictured: bool) -> String {
    let world = world().await;
    let listener = TcpListener::bind(at).await.unwrap();
    let redirect = format!("http://{}/callback", listener.local_addr().unwrap());
    let query = serde_urlencoded::to_string([
        ("response_type", "code"),
        ("redirect_uri", redirect.as_str()),
        ("state", "0123456789abcdefghij-_"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("client_name", "alice-laptop"),
    ]);
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.at(&format!("/cli/authorize?{}", query.unwrap()))).await;
    pick_alice(&world, &browser).await;
    browser.sees("6924").await;
    if pictured {
        browser.picture(&picture("handover.png")).await;
    }
    let called = tokio::time::timeout(PATIENCE, called_back(&listener));
    let (line, ()) = tokio::join!(called, browser.press(press));
    let line = line.expect("the browser comes to the computer");
    browser.sees("You can close this page.").await;
    assert_no_complaint(&world, &browser).await;
    line
}

/// Proves that Chromium follows the answer to the computer, although it holds redirects after a form to `form-action`.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_reaches_the_computer() {
    let line = hand_over(([127, 0, 0, 1], 0).into(), "Allow", true).await;
    assert!(line.starts_with("GET /callback?code=code_"), "{line}");
    let line = hand_over(([127, 0, 0, 1], 0).into(), "Refuse", false).await;
    assert!(line.starts_with("GET /callback?error=access_denied&state="), "{line}");
}

/// Proves the same for IPv6, which a content security policy cannot name.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_reaches_the_computer_by_ipv6() {
    let line = hand_over("[::1]:0".parse().unwrap(), "Allow", false).await;
    assert!(line.starts_with("GET /callback?code=code_"), "{line}");
}

/// Proves that a person types the code, sees who asks, and says yes.
#[tokio::test(flavor = "multi_thread")]
async fn a_typed_code_signs_a_computer_in() {
    let world = world().await;
    let fields = [("client_name", "build-box")];
    let codes =
        world.browser().post_form(&world.at("/device/code"), &fields, &[]).await.unwrap().json().unwrap();
    let browser = Chromium::start(world.ca.pem(), "").await;
    browser.open(&world.at("/device")).await;
    pick_alice(&world, &browser).await;
    browser.enter("input[name=user_code]", "BBBB-BBBB").await;
    browser.press("Go on").await;
    browser.sees("No computer waits with this code.").await;
    browser.picture(&picture("device.png")).await;
    browser.enter("input[name=user_code]", codes["user_code"].as_str().unwrap()).await;
    browser.press("Go on").await;
    browser.sees("build-box").await;
    browser.picture(&picture("device-question.png")).await;
    browser.press("Allow").await;
    browser.sees("“build-box” is signed in as you").await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let fields = [("grant_type", grant), ("device_code", codes["device_code"].as_str().unwrap())];
    let page = world.browser().post_form(&world.at("/device/token"), &fields, &[]).await.unwrap();
    assert_eq!(page.status, 200, "{}", page.text());
    world.keep_secret(page.json().unwrap()["token"].as_str().unwrap());
}
