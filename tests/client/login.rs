//! Signing in.

use protocol::number;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::fake::Fake;
use crate::home::{Home, visit};

/// The number of the protocol, computed here on its own.
mod protocol {
    pub(super) fn number(challenge: &str) -> String {
        let text = format!("entrada number:{challenge}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let first = u32::from_be_bytes(digest.as_ref()[..4].try_into().unwrap());
        format!("{:04}", first % 10_000)
    }
}

fn parameter(address: &Url, name: &str) -> String {
    address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

#[tokio::test]
async fn a_person_signs_in_with_the_browser_and_kubectl_works() {
    // Proves the whole way: the browser is opened, the number stands in the terminal, kubectl uses the token.
    let fake = Fake::start().await;
    let home = Home::new(&fake).with_browser();
    let mut login = home.login(&[]);
    let address = home.opened().await;
    assert_eq!(address.as_str().split('?').next(), Some(format!("{}/cli/authorize", fake.url).as_str()));
    assert!(parameter(&address, "client_name").starts_with("alice@"), "{address}");
    login.until(&number(&parameter(&address, "code_challenge"))).await;

    let page = visit(&fake.allow(&address)).await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("You can close this tab"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    assert!(page.contains("referrer-policy: no-referrer") && !page.contains("<script"), "{page}");
    let ended = login.ended().await.assert(0, "Signed in to prod as alice@contoso.example");
    assert_eq!(ended.stdout, "");
    assert!(!ended.said.contains('\x1b'), "colours without a terminal: {ended:?}");

    assert_eq!(home.mode(".kube/config"), 0o600);
    assert_eq!(home.mode(".kube/cache/entrada"), 0o700);
    assert_eq!(home.mode(&home.token_file()), 0o600);
    let (config, token) = (home.read(".kube/config"), home.token());
    assert!(token.starts_with("entrada_") && !config.contains(&token));
    let seen = home.kubectl(&["get", "--raw", "/version"]).await.assert(0, "");
    assert!(seen.stdout.contains("v1.34.0"), "{seen:?}");

    // Once more: the same entries, so the file stays, to the byte.
    home.write(".kube/config", &format!("# mine\n{config}"));
    home.logged_in(&fake, &[]).await.assert(0, "Signed in");
    assert_eq!(home.read(".kube/config"), format!("# mine\n{config}"));
}

#[tokio::test]
async fn another_process_that_takes_the_port_gets_nothing() {
    // Proves that wrong states, other paths and invented codes neither bring a token nor end the wait.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let mut login = home.login(&["--no-browser"]);
    let address = login.address().await;
    let right = fake.allow(&address);
    let port = right.port().unwrap();
    let state = parameter(&right, "state");
    for bad in [
        "callback?code=x&state=wrong".to_owned(),
        "callback?code=x".to_owned(),
        "callback?error=access_denied&state=wrong".to_owned(),
        format!("other?code=x&state={state}"),
        format!("callback?code=x&code=y&state={state}"),
    ] {
        let answer = visit(&Url::parse(&format!("http://127.0.0.1:{port}/{bad}")).unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{bad}: {answer}");
    }
    assert_eq!(fake.calls("/cli/token"), 0);
    // Somebody who has read the address from the list of processes knows the state, but no code.
    let answer =
        visit(&Url::parse(&format!("http://127.0.0.1:{port}/callback?code=x&state={state}")).unwrap()).await;
    assert!(answer.contains("That did not work"), "{answer}");
    login.until("Still waiting").await;
    assert!(visit(&right).await.contains("You can close this tab"));
    login.ended().await.assert(0, "Signed in");
}

#[tokio::test]
async fn a_refusal_and_a_silence_end_it() {
    // Proves that each end has its exit code and sentence, and that nothing is left on the computer.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    let mut login = home.login(&["--no-browser"]);
    let mut answer = fake.allow(&login.address().await);
    let state = parameter(&answer, "state");
    answer.query_pairs_mut().clear().append_pair("error", "access_denied").append_pair("state", &state);
    assert!(visit(&answer).await.contains("Your computer was given nothing"));
    login.ended().await.assert(4, "refused in the browser");

    let late = home.login(&["--no-browser", "--wait", "1s"]).ended().await;
    late.assert(5, "Nobody answered in the browser in time. Try again. Without a browser on this computer");
    assert!(!home.path(".kube/config").exists());
    assert!(!home.path(&home.token_file()).exists());
}

#[tokio::test]
async fn ctrl_c_ends_it_and_leaves_nothing() {
    // Proves the exit code of an interrupted program, and that neither lock nor half a file stays behind.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    for way in ["--no-browser", "--device"] {
        let ca = home.path("ca.crt").display().to_string();
        let mut login = home.start_in_terminal(&["login", &fake.url, "--ca-file", &ca, way]);
        login.until(if way == "--device" { "BCDF-GHJK" } else { "/cli/authorize?" }).await;
        login.press_ctrl_c();
        login.ended().await.assert(130, "Interrupted");
    }
    assert_eq!(home.files(".kube"), ["cache"]);
    assert_eq!(home.files(".kube/cache/entrada").len(), 1, "{:?}", home.files(".kube/cache/entrada"));
}

#[tokio::test]
async fn a_code_typed_on_another_device_signs_in() {
    // Proves the device flow with patience, and that the printed page is the server's own whatever its answer says.
    let fake = Fake::start().await;
    fake.state().device.extend(["authorization_pending", "slow_down"]);
    let home = Home::new(&fake).with("SSH_CONNECTION", "1").with("DISPLAY", ":0");
    let mut login = home.login(&[]);
    let said = login.until("BCDF-GHJK").await;
    assert!(said.contains(&format!("{}/device\n", fake.url)) && !said.contains("elsewhere"), "{said}");
    login.ended().await.assert(0, "Signed in to prod");
    assert_eq!(fake.calls("/device/token"), 3);

    for (error, code, words) in [("access_denied", 4, "refused"), ("expired_token", 5, "in time")] {
        fake.state().device.push_back(error);
        home.login(&["--device"]).ended().await.assert(code, words);
    }
}

#[tokio::test]
async fn what_would_fail_afterwards_is_told_before() {
    // Proves that a home that cannot be written, a broken kubeconfig and an unknown authority bother nobody first.
    let fake = Fake::start().await;
    // Below a file there is no directory, whoever one is: tests may run as root.
    let home = Home::new(&fake).with("KUBECACHEDIR", "/dev/null/cache");
    home.login(&[]).ended().await.assert(1, "KUBECACHEDIR=");

    let home = Home::new(&fake);
    home.write(".kube/config", "apiVersion: v1\ncontexts: [\n");
    home.login(&[]).ended().await.assert(1, "is left alone: it cannot be understood (line ");
    assert_eq!(home.read(".kube/config"), "apiVersion: v1\ncontexts: [\n");

    let home = Home::new(&fake);
    home.run(&["login", &fake.url, "--device"]).await.assert(1, "--ca-file ca.crt");
    home.run(&["login", "http://localhost"]).await.assert(64, "does not begin with https://");
    assert!(fake.state().calls.is_empty());
    home.run(&["login", "https://localhost:1", "--device"]).await.assert(1, "cannot be reached");
}

#[tokio::test]
async fn a_terminal_shows_how_long_it_waits() {
    // Proves that the progress is there on a terminal, and that NO_COLOR takes the colours away, not the text.
    let fake = Fake::start().await;
    for (name, has_colour) in [("NO_COLOR", false), ("OTHER", true)] {
        let home = Home::new(&fake).with_browser().with(name, "1").with("TERM", "xterm");
        let ca = home.path("ca.crt").display().to_string();
        let mut login = home.start_in_terminal(&["login", &fake.url, "--ca-file", &ca]);
        login.until("Waiting for the browser… 5:00 left").await;
        visit(&fake.allow(&home.opened().await)).await;
        let ended = login.ended().await.assert(0, "Signed in to ");
        assert_eq!(ended.said.contains("\x1b[1m"), has_colour, "{ended:?}");
    }
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() {
    // Proves that HTTPS_PROXY leads the way, as it does for kubectl, and that the server is verified behind it.
    let fake = Fake::start().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://user:secret@{}", proxy.local_addr().unwrap());
    let home = Home::new(&fake).with("HTTPS_PROXY", address);
    let to = fake.addr();
    let tunnels = tokio::spawn(async move {
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(
                head.starts_with("CONNECT k8s.example.test:443 ") && head.contains("Basic dXNlcjpzZWNyZXQ="),
                "{head}"
            );
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let ca = home.path("ca.crt").display().to_string();
    let ended = home.run(&["login", "k8s.example.test", "--device", "--ca-file", &ca]).await;
    ended.assert(0, "Signed in to prod");
    assert!(!tunnels.is_finished(), "the proxy met something else");
}

#[tokio::test]
async fn a_renewal_under_way_does_not_replace_a_new_sign_in() {
    // Proves that who has just signed in as somebody else does not go on as who was renewed at that moment.
    let fake = Fake::start().await;
    let home = Home::new(&fake);
    home.keep(&fake.cached(12 * 3_600, 300));
    fake.hold_renewals().await;
    let renewal = home.start(&["credential", "--server", &fake.url]);
    fake.renewal_asked().await;
    let mut login = home.login(&["--no-browser"]);
    let address = login.address().await;
    visit(&fake.allow(&address)).await;
    login.until("Another process is renewing the token, or signing in").await;
    fake.let_renewals_go();
    let renewed = renewal.ended().await.token();
    login.ended().await.assert(0, "Signed in to prod");
    assert_ne!(home.token(), renewed);
}
