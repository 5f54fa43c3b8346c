//! Hand-overs over the memory backend and a clock that is moved by hand.

use super::*;
use crate::session::backend::Memory;
use crate::session::{UserKey, UserTag};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "http://127.0.0.1:51234/callback";
const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const SECOND: Duration = Duration::from_secs(1);

fn desk() -> (Handover, Arc<Memory>, Clock) {
    let (memory, clock) = (Arc::new(Memory::default()), Clock::movable());
    let desk = Handover::new(memory.clone(), "https://k8s.example.com", clock.clone(), Arc::default());
    (desk, memory, clock)
}

fn user(name: &str) -> UserTag {
    UserKey { tid: "t".into(), oid: name.into() }.tag()
}

async fn left(desk: &Handover) -> (CredentialSecret, String) {
    let ticket = CredentialSecret::new_token();
    let code = desk.leave(Way::Loopback, &ticket, CHALLENGE, REDIRECT).await.unwrap();
    (ticket, code.expose().to_owned())
}

/// A code gives its ticket once, for its verifier and address, within a minute.
#[tokio::test]
async fn a_code_is_redeemed_once() {
    let (desk, _, clock) = desk();
    let (ticket, code) = left(&desk).await;
    clock.advance(CODE_LIVES - SECOND);
    let Redeemed::Ticket(redeemed) = desk.redeem(Way::Loopback, &code, VERIFIER, REDIRECT).await.unwrap()
    else {
        panic!("it fits")
    };
    assert_eq!(redeemed.expose(), ticket.expose());
    assert!(matches!(
        desk.redeem(Way::Loopback, &code, VERIFIER, REDIRECT).await.unwrap(),
        Redeemed::Unknown
    ));
    let (_, code) = left(&desk).await;
    clock.advance(CODE_LIVES);
    assert!(matches!(
        desk.redeem(Way::Loopback, &code, VERIFIER, REDIRECT).await.unwrap(),
        Redeemed::Unknown
    ));
}

/// Whoever presents a code without its verifier, or for another address, ends it for everybody.
#[tokio::test]
async fn a_wrong_verifier_burns_the_code() {
    let (desk, _, _) = desk();
    let other = "http://127.0.0.1:51235/callback";
    for (verifier, redirect) in [("", REDIRECT), ("x", REDIRECT), (CHALLENGE, REDIRECT), (VERIFIER, other)] {
        let (_, code) = left(&desk).await;
        assert!(matches!(
            desk.redeem(Way::Loopback, &code, verifier, redirect).await.unwrap(),
            Redeemed::Burned(_)
        ));
        assert!(matches!(
            desk.redeem(Way::Loopback, &code, VERIFIER, REDIRECT).await.unwrap(),
            Redeemed::Unknown
        ));
    }
    for nonsense in ["", "code_", CredentialSecret::new_code().expose(), &"x".repeat(10_000)] {
        assert!(matches!(
            desk.redeem(Way::Loopback, nonsense, VERIFIER, REDIRECT).await.unwrap(),
            Redeemed::Unknown
        ));
    }
}

/// A thief of the store finds neither code nor ticket, and nothing that a computer said of itself.
#[tokio::test]
async fn the_store_sees_no_code_and_no_ticket() {
    let (desk, memory, _) = desk();
    let (ticket, code) = left(&desk).await;
    let codes = desk.ask("alice-laptop", FROM).await.unwrap().unwrap();
    let asked = desk.claim(&codes.user_code).await.unwrap().unwrap();
    let second = CredentialSecret::new_token();
    desk.answer(&asked, Some(&second)).await.unwrap();
    let open = desk.ask("bob-laptop", FROM).await.unwrap().unwrap();
    let dump = memory.dump();
    let user_code = open.user_code.replace('-', "");
    for secret in [
        ticket.expose(),
        &code,
        second.expose(),
        codes.device_code.expose(),
        open.device_code.expose(),
        &open.user_code,
        &user_code,
        "bob-laptop",
        "192.0.2.7",
    ] {
        assert!(!dump.contains(secret), "{secret}");
    }
}

/// A computer waits, its person answers once, and the computer is told once, at another replica, too.
#[tokio::test]
async fn a_device_is_told_once_what_its_person_said() {
    let (desk, memory, clock) = desk();
    let other = Handover::new(memory, "https://k8s.example.com", clock.clone(), Arc::default());
    let codes = desk.ask("alice-laptop", FROM).await.unwrap().unwrap();
    let device_code = codes.device_code.expose();
    assert!(matches!(desk.poll(device_code).await.unwrap(), Poll::Pending));
    clock.advance(SECOND);
    assert!(matches!(other.poll(device_code).await.unwrap(), Poll::TooFast), "at any replica");
    clock.advance(POLL_INTERVAL);
    assert!(matches!(desk.poll(device_code).await.unwrap(), Poll::Pending));
    let typed = format!(" {} ", codes.user_code.replace('-', "").to_lowercase());
    let asked = other.asked(&typed).await.unwrap().unwrap();
    assert_eq!((asked.name.as_str(), asked.from), ("alice-laptop", FROM));
    let claims = futures_util::future::join(desk.claim(&typed), other.claim(&typed)).await;
    let claims: Vec<Asked> = [claims.0, claims.1].into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(claims.len(), 1, "of two who answer at once, one does");
    let ticket = CredentialSecret::new_token();
    desk.answer(&claims[0], Some(&ticket)).await.unwrap();
    let Poll::Ticket(told) = other.poll(device_code).await.unwrap() else { panic!("it was allowed") };
    assert_eq!(told.expose(), ticket.expose());
    assert!(matches!(desk.poll(device_code).await.unwrap(), Poll::Expired));
    assert!(desk.asked(&typed).await.unwrap().is_none());
}

/// A refusal is told once; what nobody answers ends after five minutes.
#[tokio::test]
async fn a_refusal_and_an_end_are_told_apart() {
    let (desk, _, clock) = desk();
    let codes = desk.ask("a", FROM).await.unwrap().unwrap();
    let asked = desk.claim(&codes.user_code).await.unwrap().unwrap();
    desk.answer(&asked, None).await.unwrap();
    assert!(matches!(desk.poll(codes.device_code.expose()).await.unwrap(), Poll::Refused));
    assert!(matches!(desk.poll(codes.device_code.expose()).await.unwrap(), Poll::Expired));
    let codes = desk.ask("a", FROM).await.unwrap().unwrap();
    clock.advance(DEVICE_CODE_LIVES);
    assert!(matches!(desk.poll(codes.device_code.expose()).await.unwrap(), Poll::Expired));
    assert!(desk.asked(&codes.user_code).await.unwrap().is_none());
    assert!(matches!(desk.poll("code_x").await.unwrap(), Poll::Expired));
    for nonsense in ["", "BCDF-GHJ", "BCDF-GHJA", "BCDF-GHJKL", &"-".repeat(10_000)] {
        assert!(desk.asked(nonsense).await.unwrap().is_none(), "{nonsense}");
    }
}

/// A flood of strangers meets a bound, takes nothing from those who wait, and is over when its codes end.
#[tokio::test]
async fn a_flood_of_device_codes_has_a_bound() {
    let (desk, _, clock) = desk();
    let codes = desk.ask("mine", FROM).await.unwrap().unwrap();
    let until = after(clock.now(), DEVICE_CODE_LIVES);
    for _ in 1..MAX_DEVICE_CODES {
        desk.waiting.lock().unwrap().push_back(until);
    }
    assert!(desk.ask("one too many", FROM).await.unwrap().is_none());
    assert_eq!(desk.asked(&codes.user_code).await.unwrap().unwrap().name, "mine");
    clock.advance(DEVICE_CODE_LIVES);
    assert!(desk.ask("next", FROM).await.unwrap().is_some());
}

/// Ten wrong codes a user, however many are tried at once and at how many replicas; a right one costs nothing.
#[tokio::test]
async fn a_user_has_ten_tries() {
    let (desk, memory, clock) = desk();
    let other = Handover::new(memory, "https://k8s.example.com", clock.clone(), Arc::default());
    for _ in 0..20 {
        assert!(desk.take_try(user("alice")).await.unwrap());
        desk.give_try_back(user("alice")).await.unwrap();
    }
    let tries = (0..30).map(|n| if n % 2 == 0 { &desk } else { &other }.take_try(user("alice")));
    let taken = futures_util::future::join_all(tries).await;
    assert_eq!(taken.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 10);
    assert!(desk.take_try(user("bob")).await.unwrap());
    clock.advance(DEVICE_CODE_LIVES);
    assert!(desk.take_try(user("alice")).await.unwrap());
    // And all users together have a bound at each replica.
    for _ in 0..1_000 {
        desk.note_wrong_code();
    }
    assert!(!desk.take_try(user("carol")).await.unwrap());
    clock.advance(DEVICE_CODE_LIVES);
    assert!(desk.take_try(user("carol")).await.unwrap());
}

/// What somebody writes into the store opens nothing: neither one's record in another's place, nor a made-up one.
#[tokio::test]
async fn forged_records_open_nothing() {
    let (desk, memory, clock) = desk();
    let until = after(clock.now(), DEVICE_CODE_LIVES);
    let (_, code) = left(&desk).await;
    let (_, theirs) = left(&desk).await;
    let place = |code: &str| Place::code(code_key(code).unwrap().digest());
    let moved = memory.take(&place(&theirs)).await.unwrap().unwrap();
    memory.take(&place(&code)).await.unwrap();
    memory.put(&place(&code), &moved, until).await.unwrap();
    assert!(matches!(
        desk.redeem(Way::Loopback, &code, VERIFIER, REDIRECT).await.unwrap(),
        Redeemed::Unknown
    ));
    let codes = desk.ask("a", FROM).await.unwrap().unwrap();
    let device = place::hex(codes.device_code.key().digest().as_bytes());
    for forged in [&b"refuse"[..], &[0; 79], &[0; 80], &[0; 200]] {
        memory.put(&Place::answer(&device), forged, until).await.unwrap();
        assert!(matches!(desk.poll(codes.device_code.expose()).await.unwrap(), Poll::Expired));
    }
    let (_, asked) = desk.typed(&codes.user_code).await.unwrap().unwrap();
    memory.take(&asked).await.unwrap();
    memory.put(&asked, &[0; 300], until).await.unwrap();
    assert!(desk.asked(&codes.user_code).await.unwrap().is_none());
}
