//! Dashboards that are down, slow, break off, or speak nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use standin::pki::Ca;
use standin::serve::{Listener, full};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::{Mounted, PODS, setting};
use crate::support::dashboard::Dashboard;
use crate::support::{World, eventually};

const HTML: [(&str, &str); 1] = [("accept", "text/html")];

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_in_trouble_is_told_of_and_the_api_goes_on() {
    // Proves our page and our JSON for each trouble, and that the API works beside it.
    let mounted = Mounted::start_with(|raw| raw.response_timeout = Some("300ms".to_owned())).await;
    let browser = mounted.entered("alice").await;
    let token = mounted.world.token(&browser).await;
    mounted.headlamp.bearer(&mounted.world);
    for (path, status, reason) in [
        ("/hang", 504, "dashboard_timeout"),
        ("/reset", 502, "dashboard_broken"),
        ("/", 503, "dashboard_unreachable"),
    ] {
        if path == "/" {
            mounted.headlamp.stop();
        }
        let page = browser.get_with(&mounted.at(path), &HTML).await.unwrap();
        assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (status, reason), "{path}");
        assert!(page.text().contains("The dashboard at headlamp.localhost"), "{}", page.text());
        let (text, portal) =
            (page.text().replace("&#x2f;", "/"), format!("href=\"{}/\">Open", mounted.world.url));
        assert!(text.contains(&portal), "{text}");
        let page = browser.get(&mounted.at(path)).await.unwrap();
        assert_eq!(page.json().unwrap()["code"], status);
        assert_eq!(mounted.world.call(Method::GET, PODS, &token).await.status, 200);
    }
    let page = browser.navigate(&format!("{}/", mounted.world.mount("pods"))).await.unwrap();
    assert_eq!(page.status, 200, "the other dashboard, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_never_holds_every_connection_to_a_dashboard() {
    // Proves that who opens streams without end is refused one, while another user gets through.
    let mounted = Mounted::start().await;
    let (alice, bob) = (mounted.entered("alice").await, mounted.entered("bob").await);
    let (mut open, mut told) = (Vec::new(), String::new());
    while told.is_empty() {
        assert!(open.len() <= 192, "three eighths of 512");
        let mut events = mounted.wire(&alice, "GET /events HTTP/1.1").await;
        let head = events.head().await;
        if head.starts_with("HTTP/1.1 200 ") {
            open.push(events);
        } else {
            told = head;
        }
    }
    assert!(
        told.starts_with("HTTP/1.1 429 ") && told.contains("entrada-reason: too_many_requests"),
        "{told}"
    );
    assert_eq!(bob.get(&mounted.at("/")).await.unwrap().status, 200);
    assert_eq!(mounted.world.metric(r#"entrada_limits_hit_total{limit="mount_connections"}"#).await, 1.0);
    drop(open);
    let works = || async { alice.get(&mounted.at("/")).await.unwrap().status == 200 };
    eventually("room", works).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_no_answer() {
    // Proves that a dashboard that does not speak HTTP is said to be broken.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let talking = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 smtp.example.com ESMTP\r\n\r\n").await.unwrap();
        }
    });
    let pods = Dashboard::start().await;
    let world = World::start_with(|raw| {
        raw.mounts = setting(raw, &[("headlamp", addr), ("pods", pods.addr)]);
    })
    .await;
    let browser = world.signed_in("alice").await;
    let page = browser.navigate(&format!("{}/", world.mount("headlamp"))).await.unwrap();
    assert_eq!(
        (page.status.as_u16(), page.header("entrada-reason")),
        (502, "dashboard_broken"),
        "{}",
        page.text()
    );
    world.keep_secret(browser.cookie(&world.mount("headlamp"), "__Host-entrada").unwrap());
    talking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_is_trusted_by_its_own_authority() {
    // Proves https to a dashboard: with the authority that signed its certificate it works, and without it nothing is sent.
    let ca = Ca::new("dashboards").unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let handler = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok(http::Response::new(full("over TLS"))) }
    };
    let tls = ca.issue(&[]).unwrap().server_config().unwrap();
    let listener = Listener::start("127.0.0.1:0".parse().unwrap(), tls, handler).await.unwrap();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ca.pem");
    let other = directory.path().join("other.pem");
    for file in [&file, &other] {
        std::fs::write(file, ca.pem()).unwrap();
    }
    let world = World::start_with(|raw| {
        let port = raw.public_url.as_deref().unwrap().rsplit(':').next().unwrap();
        let to = listener.addr();
        let mount = |name: &str, rest: &str| format!("https://{name}.localhost:{port}=https://{to}{rest}");
        let trusted = mount("headlamp", &format!(";ca={}", file.display()));
        let third = mount("third", &format!(";ca={}", other.display()));
        raw.mounts = Some(format!("{trusted},{},{third}", mount("pods", "")));
    })
    .await;
    let browser = world.signed_in("alice").await;
    let visit = async |name: &str| {
        let page = browser.navigate(&format!("{}/", world.mount(name))).await.unwrap();
        world.keep_secret(browser.cookie(&world.mount(name), "__Host-entrada").unwrap());
        page
    };
    let page = visit("pods").await;
    assert_eq!((page.status.as_u16(), page.header("entrada-reason")), (502, "dashboard_untrusted"));
    assert_eq!(served.load(Ordering::Relaxed), 0);
    let page = visit("headlamp").await;
    assert_eq!((page.status.as_u16(), page.text().as_str()), (200, "over TLS"));

    // A file that went bad is told of, whatever becomes of another's.
    let is_current =
        async |file: &str| world.metric(&format!("entrada_last_reload_successful{{file=\"{file}\"}}")).await;
    std::fs::write(&other, "rubbish").unwrap();
    std::fs::write(&file, format!("{}\n", ca.pem())).unwrap();
    world.advance(std::time::Duration::from_secs(6));
    eventually("the failure", || async { is_current("mount_ca_3").await == 0.0 }).await;
    assert_eq!(is_current("mount_ca").await, 1.0);
}
