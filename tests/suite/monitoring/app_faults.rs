//! What Entrada itself is given, or made of, is at fault.

use std::panic::catch_unwind;
use std::time::Duration;

use jiff::ToSpan;
use jiff::tz::Offset;
use standin::entra::IdTokenFault;

use super::super::full_pipe::plain;
use super::super::support::program::{self, Program};
use super::super::support::{World, eventually};
use super::rule_test::Case;

/// The kubelet does not renew the token any more, which lives an hour.
const FIFTY_SEVEN_MINUTES: Duration = Duration::from_secs(57 * 60);
/// Files are looked at every few seconds.
const NEXT_LOOK: Duration = Duration::from_secs(6);

pub(super) async fn id_tokens_are_not_accepted() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    world.entra.spoil_id_tokens(Some(IdTokenFault::WrongAudience));
    let page = world.browser().sign_in(&world.url, "alice").await.unwrap();
    assert_eq!(page.header("entrada-reason"), "id_token_refused");
    case.after(&world).await;
    case.lasting().fires(&["EntradaSignInsFailing critical"])
}

pub(super) async fn the_federated_token_grows_old() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    world.advance_without_kubelet(FIFTY_SEVEN_MINUTES);
    case.after(&world).await;
    case.lasting().fires(&["EntradaFederatedTokenNotRenewed critical"])
}

pub(super) async fn the_federated_token_is_gone() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    std::fs::remove_file(world.dir.path().join("assertion")).unwrap();
    case.after(&world).await;
    case.lasting().fires(&["EntradaFederatedTokenNotRenewed critical"])
}

pub(super) async fn the_certificate_ends_in(days: i64, alerts: &'static [&'static str]) -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    let day = Offset::UTC.to_datetime(world.now() + (24 * days).hours()).date();
    let midnight = Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap();
    let ending = world.ca.issue_until(day).unwrap();
    std::fs::write(world.dir.path().join("tls.crt"), ending.cert_pem).unwrap();
    std::fs::write(world.dir.path().join("tls.key"), ending.key_pem).unwrap();
    world.advance(NEXT_LOOK);
    let ends = || world.metric(r#"entrada_certificate_expiry_timestamp_seconds{file="certificate"}"#);
    eventually("the new end", || async { ends().await == midnight.as_second() as f64 }).await;
    case.after(&world).await;
    case.lasting().fires(alerts)
}

pub(super) async fn a_renewed_certificate_is_broken() -> Case {
    let world = World::start().await;
    let successful = r#"entrada_last_reload_successful{file="certificate"}"#;
    eventually("the first look", || async { world.metric(successful).await == 1.0 }).await;
    let mut case = Case::before(&world).await;
    std::fs::write(world.dir.path().join("tls.crt"), "no certificate").unwrap();
    world.advance(NEXT_LOOK);
    eventually("the failure", || async { world.metric(successful).await == 0.0 }).await;
    case.after(&world).await;
    case.lasting().fires(&["EntradaReloadFailed warning"])
}

pub(super) async fn the_process_is_restarted() -> Case {
    let world = World::start().await;
    let settings = plain(&world);
    let first = program::start(&settings).await;
    let began = started(&first).await;
    let mut case = Case::before_text(&scrape(&first).await, world.now());
    first.signal("-KILL");
    first.ended().await;
    // The time is told in whole seconds.
    loop {
        let second = program::start(&settings).await;
        if started(&second).await != began {
            case.after_text(&scrape(&second).await, world.now());
            break;
        }
        second.signal("-KILL");
        second.ended().await;
    }
    case.fires(&["EntradaRestarted warning"])
}

async fn scrape(program: &Program) -> String {
    eventually("readiness", || async { program.probe("/readyz").await.contains(" 200 ") }).await;
    body(&program.probe("/metrics").await)
}

/// Of an answer with its head.
pub(super) fn body(answer: &str) -> String {
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn started(program: &Program) -> String {
    let text = program.probe("/metrics").await;
    text.lines().find(|line| line.starts_with("process_start_time_seconds ")).unwrap().to_owned()
}

pub(super) async fn it_panics() -> Case {
    let world = World::start().await;
    let mut case = Case::before(&world).await;
    assert!(catch_unwind(|| panic!("as a bug would")).is_err());
    case.after(&world).await;
    case.with_panics().fires(&["EntradaPanicked warning"])
}
