//! How many codes are redeemed at once: anyone can bring a code, and none of it may drown Entra, us, or an honest sign-in.

use std::time::Duration;

use http::Method;
use standin::entra::{Endpoint, Hold};

use super::support::wire::Wire;
use super::support::{World, eventually};

/// As in `src/entra/redemptions.rs`.
const AT_ONCE: usize = 32;
const WAIT: Duration = Duration::from_secs(5);

/// A callback with a code that nobody gave, and an attempt that one request to `/login` made.
struct Flood {
    target: String,
    cookie: String,
}

impl Flood {
    async fn of(world: &World) -> Self {
        let login = world.call_with(Method::GET, "/login", &[]).await;
        let cookie = login.header("set-cookie").split(';').next().unwrap().to_owned();
        let state = login.location().unwrap();
        let state = state.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        Self {
            target: format!("/callback?code=made-up-by-somebody-who-has-no-account&state={state}"),
            cookie,
        }
    }

    /// One more of these callbacks, on a connection of its own, not yet answered.
    async fn send(&self, world: &World) -> Wire {
        let mut wire = Wire::open(world).await;
        let Self { target, cookie } = self;
        wire.write(format!("GET {target} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n")).await;
        wire
    }

    /// As many as are redeemed at once, all of them at Entra, which holds them.
    async fn fill(&self, world: &World) -> (Hold, Vec<Wire>) {
        let hold = world.entra.hold(Endpoint::TokenCode);
        let mut wires = Vec::new();
        for _ in 0..AT_ONCE {
            wires.push(self.send(world).await);
        }
        hold.arrived(AT_ONCE).await;
        (hold, wires)
    }
}

async fn waiting(world: &World, count: usize) {
    let metric = r#"entrada_redemptions{state="waiting"}"#;
    eventually("those who wait", || async {
        world.metric(metric).await == f64::from(u32::try_from(count).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_codes_are_redeemed_at_once_than_the_bound_says() {
    // Proves the bound, and the answer to who waited in vain: a 503 that can be repeated, since the code was not spent.
    let world = World::start().await;
    let flood = Flood::of(&world).await;
    let (hold, _wires) = flood.fill(&world).await;
    let mut late = flood.send(&world).await;
    waiting(&world, 1).await;
    world.advance(WAIT);
    let head = late.head().await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("entrada-reason: sign_in_busy"), "{head}");
    assert!(head.contains("retry-after: 5") && head.contains("content-type: text/html"), "{head}");
    assert!(!head.contains("__Host-entrada-login-"), "the attempt stands: {head}");
    assert_eq!(hold.count(), AT_ONCE, "Entra was not asked");
    waiting(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_turn_gets_it() {
    // Proves that an honest sign-in in the middle of a flood is served as soon as a turn is free, before those who came later.
    let world = World::start().await;
    let flood = Flood::of(&world).await;
    let browser = world.browser();
    world.entra.sign_in_directly(Some("alice"));
    let to_entra = browser.get(&world.at("/login")).await.unwrap().location().unwrap();
    let callback = browser.get(to_entra.as_str()).await.unwrap().location().unwrap();
    let (hold, _wires) = flood.fill(&world).await;
    let signed_in = async {
        let page = browser.get(callback.as_str()).await.unwrap();
        assert_eq!(page.status, 302, "{}", page.text());
        world.keep_secret(world.session_cookie(&browser).unwrap());
    };
    let rest = async {
        waiting(&world, 1).await;
        let later = flood.send(&world).await;
        waiting(&world, 2).await;
        hold.release();
        later
    };
    let ((), mut later) = tokio::join!(signed_in, rest);
    assert!(later.head().await.starts_with("HTTP/1.1 400"), "Entra refused a code that it had not given");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_whose_browser_has_gone_is_not_redeemed() {
    // Proves that a client which leaves before its turn costs no call to Entra, while one that is under way is finished.
    let world = World::start().await;
    let flood = Flood::of(&world).await;
    let before = world.entra.calls().token_code;
    let (hold, wires) = flood.fill(&world).await;
    let gone = flood.send(&world).await;
    waiting(&world, 1).await;
    drop((gone, wires));
    eventually("the end of all connections", || async { world.metric("entrada_connections").await == 0.0 })
        .await;
    hold.release();
    waiting(&world, 0).await;
    eventually("the end of all redemptions", || async {
        world.metric(r#"entrada_redemptions{state="under_way"}"#).await == 0.0
    })
    .await;
    assert_eq!(world.entra.calls().token_code - before, AT_ONCE);
}
