//! What every keeper of hand-overs must do, for both backends.

use std::future::Future;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::*;
use crate::clock::{Clock, after};
use crate::session::handover::{Handovers, Place};

/// Runs a check over both backends; it may name no other expiry than this, a minute from now.
async fn over_both<F: Future<Output = ()>>(check: impl Fn(Arc<dyn Handovers>, Timestamp) -> F) {
    let endings = Endings::default();
    let until = after(Clock::system().now(), Duration::from_secs(60));
    let (store, _task) = running(Memory::default(), &endings).await;
    check(store, until).await;
    let (_directory, server) = redis_server().await;
    let (store, _task) = running(at(&server), &endings).await;
    check(store, until).await;
}

/// A record is put where none is, read as it was written, and taken once.
#[tokio::test]
async fn a_record_is_put_once_and_taken_once() {
    over_both(|store, until| async move {
        let (place, record) = (Place::test("a"), &b"\x00\xff sealed"[..]);
        assert_eq!(store.peek(&place).await.unwrap(), None);
        assert!(store.put(&place, record, until).await.unwrap());
        assert!(!store.put(&place, b"another", until).await.unwrap());
        assert_eq!(store.peek(&place).await.unwrap().as_deref(), Some(record));
        let taken = join_all((0..16).map(|_| store.take(&place))).await;
        let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(taken, [record]);
        assert!(store.put(&place, b"another", until).await.unwrap(), "the place is free again");
    })
    .await;
}

/// Of many who exchange a record at once one does; whoever expects another record changes nothing.
#[tokio::test]
async fn a_record_is_exchanged_by_one() {
    over_both(|store, until| async move {
        let place = Place::test("a");
        assert!(!store.exchange(&place, b"", b"1", until).await.unwrap(), "nothing is there");
        store.put(&place, b"0", until).await.unwrap();
        assert!(!store.exchange(&place, b"1", b"2", until).await.unwrap());
        let records: Vec<[u8; 1]> = (1..17).map(|n| [n]).collect();
        let tried = records.iter().map(|record| store.exchange(&place, b"0", record, until));
        let done = join_all(tried).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(done.iter().filter(|done| **done).count(), 1);
        let winner = done.iter().position(|done| *done).unwrap();
        assert_eq!(store.peek(&place).await.unwrap().as_deref(), Some(&records[winner][..]));
    })
    .await;
}

/// Nothing stays for ever: Redis forgets by itself, also what was exchanged, and memory when it is swept.
#[tokio::test]
async fn a_record_is_forgotten_after_its_time() {
    let (place, now) = (Place::test("a"), Clock::system().now());
    let (store, _task) = running(Memory::default(), &Endings::default()).await;
    store.put(&place, b"1", after(now, Duration::from_secs(1))).await.unwrap();
    store.sweep(now).await.unwrap();
    assert!(store.peek(&place).await.unwrap().is_some());
    store.sweep(after(now, Duration::from_secs(1))).await.unwrap();
    assert!(store.peek(&place).await.unwrap().is_none());

    let (_directory, server) = redis_server().await;
    let (store, _task) = running(at(&server), &Endings::default()).await;
    let soon = after(Clock::system().now(), Duration::from_millis(300));
    store.put(&place, b"1", soon).await.unwrap();
    assert!(store.exchange(&place, b"1", b"2", soon).await.unwrap());
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    let gone = tokio::time::timeout(PATIENCE, async {
        while store.peek(&place).await.unwrap().is_some() {
            poll.tick().await;
        }
    });
    gone.await.expect("Redis forgets it");
}
