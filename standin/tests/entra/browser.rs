//! The scripted browser, between the stand-in Entra and a tiny app that signs in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Response};
use standin::pki::Ca;
use standin::serve::{Listener, full};

use super::desk::{Desk, query};

/// What the app saw at its callback and at its front-channel address.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// An app with `/login`, `/callback`, `/frontchannel` and `/`.
async fn app(desk: &Desk, ca: &Ca) -> (Listener, String, Seen) {
    let seen = Seen::default();
    let authorize = Arc::new(Mutex::new(String::new()));
    let (kept, target) = (Arc::clone(&seen), Arc::clone(&authorize));
    let tls = ca.issue(&[]).unwrap().server_config().unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::start(addr, tls, move |request| {
        let path = request.uri().path().to_owned();
        kept.lock().unwrap().push((request.uri().to_string(), request.headers().clone()));
        let answer = match path.as_str() {
            "/login" => Response::builder()
                .status(302)
                .header("location", target.lock().unwrap().clone())
                .header("set-cookie", "__Host-attempt=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
            "/callback" => Response::builder()
                .status(302)
                .header("location", "/")
                .header("set-cookie", "__Host-session=s; Path=/; Secure; HttpOnly; SameSite=Lax")
                .header("set-cookie", "__Host-attempt=; Path=/; Secure; Max-Age=0"),
            _ => Response::builder(),
        };
        std::future::ready(Ok(answer.body(full(path)).unwrap()))
    });
    let listener = listener.await.unwrap();
    let origin = format!("https://localhost:{}", listener.addr().port());
    let redirect = format!("{origin}/callback");
    desk.entra.set_redirect_uris(vec![redirect.clone(), format!("{origin}/")]);
    *authorize.lock().unwrap() = desk.authorize_url(&[("redirect_uri", &redirect)]);
    (listener, origin, seen)
}

#[tokio::test]
async fn a_person_signs_in_with_one_click_and_then_with_none() {
    // The form crosses from the tenant to the app, with the headers and cookies that a browser would send.
    let ca = Ca::new("both").unwrap();
    let desk = Desk::open_with(&ca).await;
    let (_listener, origin, seen) = app(&desk, &ca).await;
    let page = desk.browser.sign_in(&origin, "alice").await.unwrap();
    assert_eq!((page.url.as_str(), page.text().as_str()), (format!("{origin}/").as_str(), "/"));
    assert_eq!(desk.browser.cookie(&origin, "__Host-session").as_deref(), Some("s"));
    assert_eq!(desk.browser.cookie(&origin, "__Host-attempt"), None);
    let (uri, headers) = seen.lock().unwrap()[1].clone();
    assert!(uri.starts_with("/callback?code=1.A"), "{uri}");
    assert_eq!(headers["cookie"], "__Host-attempt=1");
    assert_eq!(headers["sec-fetch-site"], "cross-site");
    assert_eq!(headers["sec-fetch-mode"], "navigate");
    let again = desk.browser.navigate(&format!("{origin}/login")).await.unwrap();
    assert_eq!(again.hops.len(), 4, "login, authorize, callback, home: {:?}", again.hops);
    assert_eq!(query(&again.hops[2], "state").as_deref(), Some("s t+a/te&"));
}

#[tokio::test]
async fn an_unknown_user_cannot_be_picked() {
    // A mistake in a test must not look like a refusal.
    let ca = Ca::new("both").unwrap();
    let desk = Desk::open_with(&ca).await;
    let (_listener, origin, _seen) = app(&desk, &ca).await;
    assert!(desk.browser.sign_in(&origin, "mallory").await.is_err());
}

#[tokio::test]
async fn a_sign_out_at_the_tenant_tells_the_app_in_a_frame() {
    // The frame is a third party's: no cookie of the app comes along, only the session's id.
    let ca = Ca::new("both").unwrap();
    let desk = Desk::open_with(&ca).await;
    let (_listener, origin, seen) = app(&desk, &ca).await;
    desk.entra.set_frontchannel_logout_url(Some(&format!("{origin}/frontchannel")));
    let page = desk.browser.sign_in(&origin, "bob").await.unwrap();
    let callback = page.hops.iter().find(|hop| hop.path() == "/callback").unwrap();
    let sid = query(callback, "session_state").unwrap();
    let page = desk.browser.navigate(&desk.url("oauth2/v2.0/logout")).await.unwrap();
    let frames = desk.browser.load_frames(&page).await.unwrap();
    assert_eq!(frames.len(), 1);
    let (uri, headers) = seen.lock().unwrap().last().unwrap().clone();
    assert_eq!(uri, format!("/frontchannel?sid={sid}"));
    assert!(headers.get("cookie").is_none());
}
