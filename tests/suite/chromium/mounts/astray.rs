//! Addresses that would lead a browser astray: to another host after a sign-in, or into somebody else's session.

use std::time::Duration;

use http::Method;

use super::super::super::support::World;
use super::hostile::Trap;

/// The digest of a verifier that the attacker knows (it is empty), and a name for their attempt.
const ATTEMPT: &str = "challenge=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU&state=abcdefgh";

/// Proves that no `return_to`, however it is written, leads from the sign-in to another host.
#[tokio::test(flavor = "multi_thread")]
async fn no_return_to_leads_to_another_host() {
    let trap = Trap::set().await;
    let prize = trap.mounted.at("prize", "/").replace("https://", "");
    for written in [
        format!("https://{prize}"),
        format!("//{prize}"),
        format!("///{prize}"),
        format!("/%5C{prize}"),
        format!("%5C%5C{prize}"),
        format!("/%09/{prize}"),
        format!("%09//{prize}"),
        format!("/%0A/{prize}"),
        format!("//k8s.contoso.example@{prize}"),
        format!("/%2F{prize}"),
        format!("https:{prize}"),
        format!("javascript:location='https://{prize}'"),
        format!("/login?return_to=//{prize}"),
        format!("/login?mount=https://{prize}"),
    ] {
        // Entra refuses a browser that signs in this often within minutes.
        trap.mounted.world.advance(Duration::from_secs(60));
        trap.browser.open(&trap.mounted.world.at(&format!("/login?return_to={written}"))).await;
        let url = trap.browser.url().await;
        assert!(url.starts_with(&trap.mounted.world.at("/")), "{written} led to {url}");
    }
    trap.assert_untouched().await;
}

/// Proves that a code is made for nobody but the mounts of the settings, and leads nowhere but to their own entrance.
#[tokio::test(flavor = "multi_thread")]
async fn no_mount_but_those_of_the_settings_is_led_to() {
    let trap = Trap::set().await;
    let (world, victim) = (&trap.mounted.world, trap.mounted.at("headlamp", ""));
    let port = world.url.rsplit(':').next().unwrap();
    for written in [
        "https://evil.example".to_owned(),
        format!("https://evil.contoso.example:{port}"),
        format!("https://headlamp.contoso.example.evil.example:{port}"),
        format!("https://headlamp.contoso.example@evil.example:{port}"),
        format!("{victim}@evil.example"),
        format!("{victim}%23@evil.example"),
        format!("{victim}/"),
        format!("{victim}%5C@evil.example"),
        format!("http://headlamp.contoso.example:{port}"),
        world.url.clone(),
        "javascript:1".to_owned(),
    ] {
        trap.browser.open(&world.at(&format!("/login?mount={written}&{ATTEMPT}"))).await;
        trap.browser.sees("There is no such dashboard here").await;
        assert!(trap.browser.url().await.starts_with(&world.at("/login?")), "{written}");
    }
    // With a verifier that the attacker knows: the code goes to the victim's host, where this browser began no such
    // attempt, and is used up.
    let heard = trap.mounted.dashboard("headlamp").heard().len();
    trap.browser.open(&world.at(&format!("/login?mount={victim}&{ATTEMPT}"))).await;
    trap.browser.sees("This sign-in was not begun in this browser").await;
    assert_eq!(trap.browser.url().await, format!("{victim}/.entrada/enter"));
    assert_eq!(trap.mounted.dashboard("headlamp").heard().len(), heard);
    // A path that begins like a host is a path.
    trap.forget("headlamp").await;
    let path = format!("{victim}//evil.example/%5C@evil.example");
    trap.browser.open(&path).await;
    trap.browser.sees("signed in as").await;
    assert_eq!(trap.browser.url().await, path);
    trap.keep_cookie().await;
    trap.assert_untouched().await;
}

/// Proves that bob's code, planted in alice's browser by a page of a sibling, makes nobody bob: not where she is signed in,
/// and not where she is not yet.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_be_made_somebody_else() {
    let trap = Trap::set().await;
    trap.mounted.world.entra.sign_in_directly(None);
    for is_signed_in in [true, false] {
        let planted = code_of_bob(&trap.mounted.world, &trap.mounted.at("headlamp", "/")).await;
        trap.browser.open(&trap.mounted.at("prize", "/")).await;
        if !is_signed_in {
            trap.forget("headlamp").await;
        }
        trap.run(&format!("setTimeout(() => {{ location = '{planted}'; }}); return 1")).await;
        trap.browser.sees("This sign-in was not begun in this browser").await;
        trap.browser.open(&trap.mounted.at("headlamp", "/")).await;
        trap.browser.sees("signed in as alice@contoso.example").await;
        trap.keep_cookie().await;
    }
    trap.assert_untouched().await;
}

/// The address with a fresh one-time code of bob's for the mount, which bob's browser does not follow.
async fn code_of_bob(world: &World, mount: &str) -> String {
    let bob = world.signed_in("bob").await;
    let mut url = mount.to_owned();
    for _ in 0..2 {
        let headers =
            [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        let hop = bob.request(Method::GET, &url, &headers, bytes::Bytes::new()).await.unwrap();
        url = hop.location().unwrap().to_string();
    }
    assert!(url.contains("/.entrada/enter?code="), "{url}");
    let code = url.split(['=', '&']).nth(1).unwrap();
    world.keep_secret(code);
    url
}
