//! A token handed over to a person's computer: through its browser, by a code, and what the program does with it later.

pub(crate) mod device;
mod elsewhere;
mod later;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use standin::browser::{Browser, Page};

use super::support::World;

const PODS: &str = "/api/v1/namespaces/team-a/pods";
const STATE: &str = "0123456789abcdefghij-_";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const REDIRECT: &str = "http://127.0.0.1:51234/callback";
/// printf 'entrada number:<challenge>' | sha256sum
const NUMBER: &str = "6924";

/// What `entrada login` asks for.
fn request() -> Vec<(&'static str, String)> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, VERIFIER.as_bytes());
    vec![
        ("response_type", "code".to_owned()),
        ("redirect_uri", REDIRECT.to_owned()),
        ("state", STATE.to_owned()),
        ("code_challenge", URL_SAFE_NO_PAD.encode(digest)),
        ("code_challenge_method", "S256".to_owned()),
        ("client_name", "alice-laptop".to_owned()),
    ]
}

/// The address that it opens.
fn address(world: &World) -> String {
    world.at(&format!("/cli/authorize?{}", serde_urlencoded::to_string(request()).unwrap()))
}

/// A form of a program, which has no cookie; it answers in JSON that nobody keeps.
async fn post(world: &World, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
    let page = world.browser().post_form(&world.at(path), fields, &[]).await.unwrap();
    assert_eq!(page.header("cache-control"), "no-store", "{path}");
    assert_eq!(page.header("content-type"), "application/json", "{path}: {}", page.text());
    (page.status.as_u16(), page.json().unwrap())
}

/// The person's answer to the request, changed so; redirects are not followed.
async fn answered(world: &World, browser: &Browser, answer: &str, origin: &str) -> Page {
    let mut fields = request();
    fields.push(("answer", answer.to_owned()));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.post_form(&world.at("/cli/authorize"), &fields, &[("origin", origin)]).await.unwrap()
}

/// The code that the browser brings to the computer after its person said yes.
async fn code(world: &World, browser: &Browser) -> String {
    let page = answered(world, browser, "allow", &world.url).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let location = page.location().unwrap();
    assert!(location.as_str().starts_with(REDIRECT), "{location}");
    let query = |name: &str| location.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned();
    assert_eq!(query("state"), STATE);
    let code = query("code");
    world.keep_secret(&code);
    code
}

async fn redeem(world: &World, code: &str, verifier: &str) -> (u16, Value) {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", verifier),
        ("redirect_uri", REDIRECT),
    ];
    post(world, "/cli/token", &fields).await
}

/// A whole hand-over; what the computer gets.
pub(crate) async fn handed_over(world: &World, browser: &Browser) -> Value {
    let code = code(world, browser).await;
    let (status, answer) = redeem(world, &code, VERIFIER).await;
    assert_eq!(status, 200, "{answer}");
    world.keep_secret(answer["token"].as_str().unwrap());
    answer
}

/// The tokens of the browser's user.
async fn tokens(world: &World, browser: &Browser) -> Vec<Value> {
    let list = browser.get(&world.at("/tokens")).await.unwrap().json().unwrap();
    list["tokens"].as_array().unwrap().clone()
}

fn error(answer: &(u16, Value)) -> (u16, &str) {
    assert!(answer.1["error_description"].as_str().unwrap().ends_with('.'), "{}", answer.1);
    (answer.0, answer.1["error"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computer_gets_a_token_through_its_browser() {
    // Proves the way from the address that the program opens to a token that works, once, and to nothing left beside it.
    let world = World::start().await;
    let browser = world.browser();
    // Without a session it leads through the sign-in, and comes back with all that it had.
    let page = browser.navigate(&address(&world)).await.unwrap();
    let page = browser.choose(page, "alice").await.unwrap();
    assert_eq!(page.url.as_str(), address(&world));
    world.keep_secret(world.session_cookie(&browser).unwrap());
    for text in [NUMBER, "alice-laptop", "127.0.0.1", "alice@contoso.example", "12 hours", "stand-in"] {
        assert!(page.text().contains(text), "{text}: {}", page.text());
    }
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http://127.0.0.1:51234 "), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");

    let code = code(&world, &browser).await;
    let (status, answer) = redeem(&world, &code, VERIFIER).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["token"].as_str().unwrap();
    world.keep_secret(token);
    let who = world.call(Method::GET, "/whoami", token).await.json().unwrap();
    assert_eq!(answer["user"], who["user"]);
    assert_eq!(answer["session_expires_at"], who["session"]["expires_at"]);
    assert_eq!((&answer["id"], &answer["name"]), (&who["credential"]["id"], &json!("alice-laptop")));
    assert_eq!(answer["expires_at"], who["credential"]["expires_at"]);
    assert_eq!(
        (&answer["cluster_name"], who["credential"]["kind"].as_str()),
        (&json!("stand-in"), Some("token"))
    );
    let ca = STANDARD.decode(answer["certificate_authority_data"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(ca).unwrap(), world.ca.pem());
    let ends: jiff::Timestamp = answer["expires_at"].as_str().unwrap().parse().unwrap();
    let lives = ends.duration_since(world.now()).as_secs();
    assert!((12 * 3_600 - 60..=12 * 3_600).contains(&lives), "{lives} s");
    assert_eq!(world.call(Method::GET, PODS, token).await.status, 200);

    assert_eq!(error(&redeem(&world, &code, VERIFIER).await), (400, "invalid_grant"), "a code works once");
    let left = tokens(&world, &browser).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["id"], answer["id"]);
    for (step, count) in [("allowed", 1.0), ("fetched", 1.0), ("burned", 0.0)] {
        let metric = format!(r#"entrada_handovers_total{{way="loopback",step="{step}"}}"#);
        let other = format!(r#"entrada_handovers_total{{step="{step}",way="loopback"}}"#);
        assert_eq!(world.metric(&metric).await.max(world.metric(&other).await), count, "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_takes_is_void() {
    // Proves that a code which somebody else presents is good for nobody, and leaves no token behind.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let stolen = code(&world, &browser).await;
    assert_eq!(error(&redeem(&world, &stolen, "another-verifier").await), (400, "invalid_grant"));
    assert_eq!(error(&redeem(&world, &stolen, VERIFIER).await), (400, "invalid_grant"));
    assert_eq!(tokens(&world, &browser).await, Vec::<Value>::new());
    // Without a verifier at all, too.
    let stolen = code(&world, &browser).await;
    let fields = [("grant_type", "authorization_code"), ("code", &stolen), ("redirect_uri", REDIRECT)];
    assert_eq!(error(&post(&world, "/cli/token", &fields).await), (400, "invalid_grant"));
    assert_eq!(error(&redeem(&world, &stolen, VERIFIER).await), (400, "invalid_grant"));
    // And a minute later it is too late.
    let late = code(&world, &browser).await;
    world.advance(Duration::from_secs(61));
    assert_eq!(error(&redeem(&world, &late, VERIFIER).await), (400, "invalid_grant"));
    assert_eq!(tokens(&world, &browser).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_goes_to_the_computer_and_leaves_nothing() {
    // Proves that no is an answer, too.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    let page = answered(&world, &browser, "refuse", &world.url).await;
    let expected = format!("{REDIRECT}?error=access_denied&state={STATE}");
    assert_eq!((page.status.as_u16(), page.header("location")), (303, expected.as_str()));
    assert_eq!(answered(&world, &browser, "perhaps", &world.url).await.status, 400);
    assert_eq!(tokens(&world, &browser).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_page_and_no_token_answers_for_the_person() {
    // Proves that yes is said on our own page, with the cookie alone, and that nothing leads off this computer.
    let world = World::start().await;
    let browser = world.signed_in("alice").await;
    for origin in ["https://evil.example", "null", REDIRECT] {
        let page = answered(&world, &browser, "allow", origin).await;
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"), "{origin}");
    }
    let frame =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
    let page = browser.get_with(&address(&world), &frame).await.unwrap();
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cross_origin"));
    let token = world.token(&browser).await;
    let path = address(&world).replace(&world.url, "");
    let page = world.call(Method::GET, &path, &token).await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (403, "cookie_required"));
    let html = [("accept", "text/html")];
    for elsewhere in [
        "http://127.0.0.1.evil.com:51234/callback",
        "http://u@127.0.0.1:51234/callback",
        "https://evil.example/",
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(elsewhere.as_bytes()).collect();
        let ours: String = url::form_urlencoded::byte_serialize(REDIRECT.as_bytes()).collect();
        let page = browser.get_with(&address(&world).replace(&ours, &encoded), &html).await.unwrap();
        assert_eq!(
            (page.status.as_u16(), page.header("entrada-reason")),
            (400, "bad_handover"),
            "{elsewhere}"
        );
        assert!(
            page.header("location").is_empty() && page.text().contains("redirect_uri"),
            "{}",
            page.text()
        );
    }
    let page = browser.get_with(&address(&world).replace("127.0.0.1", "localhost"), &html).await.unwrap();
    assert_eq!(page.status, 400, "{}", page.text());
    let page =
        browser.get_with(&address(&world).replacen("127.0.0.1%3A", "localhost%3A", 1), &html).await.unwrap();
    assert!(page.text().contains("may lead to another computer"), "{}", page.text());
    assert_eq!(tokens(&world, &browser).await.len(), 1, "the one made above");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_form_are_told_so() {
    // Proves the answers to what no program of ours sends: other methods, grants, bodies, and far too much of one.
    let world = World::start().await;
    for path in ["/cli/token", "/cli/renew", "/cli/revoke", "/device/code", "/device/answer", "/device/token"]
    {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let page = world.call_with(method.clone(), path, &[]).await;
            assert_eq!((page.status.as_u16(), page.header("allow")), (405, "POST"), "{method} {path}");
        }
    }
    for path in ["/cli/authorize", "/device"] {
        let page = world.call_with(Method::PUT, path, &[]).await;
        assert_eq!((page.status.as_u16(), page.header("allow")), (405, "GET, POST"), "{path}");
    }
    assert_eq!(world.call_with(Method::GET, "/cli/other", &[]).await.status, 404);
    for path in ["/cli/token", "/device/token"] {
        let other = post(&world, path, &[("grant_type", "password")]).await;
        assert_eq!(error(&other), (400, "unsupported_grant_type"));
        let large = "x".repeat(5_000);
        assert_eq!(error(&post(&world, path, &[("code", &large)]).await), (413, "invalid_request"));
        let page = world.browser().post_json(&world.at(path), &json!({}), &[]).await.unwrap();
        assert_eq!((page.status.as_u16(), &page.json().unwrap()["error"]), (400, &json!("invalid_request")));
    }
    let grant = ("grant_type", "authorization_code");
    let twice = [grant, ("code", "a"), ("code", "b"), ("redirect_uri", REDIRECT)];
    assert_eq!(error(&post(&world, "/cli/token", &twice).await), (400, "invalid_request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_turned_off_says_so_and_names_the_other() {
    // Proves both switches, to the program and to the person.
    let world = World::start_with(|raw| {
        raw.loopback_login = Some("off".to_owned());
        raw.device_login = Some("off".to_owned());
    })
    .await;
    let browser = world.signed_in("alice").await;
    for path in ["/cli/token", "/cli/renew", "/device/code", "/device/token"] {
        let told = post(&world, path, &[]).await;
        assert_eq!(error(&told), (404, "unsupported_grant_type"), "{path}");
        assert!(told.1["error_description"].as_str().unwrap().contains("turned off"), "{}", told.1);
    }
    for path in [address(&world), world.at("/device")] {
        let page = browser.get_with(&path, &[("accept", "text/html")]).await.unwrap();
        assert_eq!(page.status, 404);
        assert!(page.text().contains("Use a kubeconfig from the portal."), "{}", page.text());
    }
    let world = World::start_with(|raw| raw.loopback_login = Some("off".to_owned())).await;
    let told = post(&world, "/cli/token", &[]).await;
    assert!(
        told.1["error_description"].as_str().unwrap().contains("Use entrada login --device."),
        "{}",
        told.1
    );
    assert_eq!(post(&world, "/device/code", &[("client_name", "x")]).await.0, 200);
}
