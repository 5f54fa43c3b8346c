use std::thread;

use super::*;

const AT_ONCE: Gathering = Gathering { time: Duration::ZERO, lines: 1 };
const LONG: Duration = Duration::from_secs(60);

fn counters() -> Counters {
    Counters {
        written: IntCounter::new("written", "x").unwrap(),
        dropped: IntCounter::new("dropped", "x").unwrap(),
        queued: IntGauge::new("queued", "x").unwrap(),
    }
}

fn lines_of(batch: &Batch) -> Vec<String> {
    String::from_utf8(batch.bytes.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// What has gathered is taken whole and in order, also where several producers pushed it.
#[test]
fn all_that_gathered_is_taken_at_once() {
    let (outbox, inbox) = outbox(1 << 20, AT_ONCE, counters());
    thread::scope(|scope| {
        for producer in 0..4 {
            let outbox = outbox.clone();
            scope.spawn(move || {
                for number in 0..1_000 {
                    assert!(outbox.push(format!("{producer} {number}\n").as_bytes()));
                }
            });
        }
    });
    let mut batch = Batch::default();
    assert!(inbox.next(&mut batch));
    assert_eq!((batch.lines, batch.dropped), (4_000, 0));
    for producer in 0..4 {
        let prefix = format!("{producer} ");
        let own = lines_of(&batch).into_iter().filter(|line| line.starts_with(&prefix));
        assert!(own.eq((0..1_000).map(|number| format!("{producer} {number}"))));
    }
    inbox.written(batch.bytes.len(), batch.lines);
    assert_eq!((inbox.shared.counters.written.get(), inbox.shared.counters.queued.get()), (4_000, 0));
}

/// The bound holds for what the writer has in hand, too; what does not fit is dropped whole, counted, and told with the
/// next batch; what must not be lost is accepted all the same.
#[test]
fn what_does_not_fit_is_dropped_and_told() {
    let (outbox, inbox) = outbox(8, AT_ONCE, counters());
    assert!(outbox.push(b"abc\n") && outbox.has_room(4, Room::Whole) && !outbox.has_room(5, Room::Whole));
    let mut batch = Batch::default();
    assert!(inbox.next(&mut batch));
    assert!(!outbox.push_within(&[b"\n"], Room::Half), "half of it is full");
    assert!(outbox.push(b"def\n"));
    assert!(!outbox.push(b"\n") && !outbox.push(b"ghi\n"));
    assert!(outbox.push_within(&[b"jkl\n"], Room::Beyond));
    assert_eq!(inbox.shared.counters.dropped.get(), 3);
    inbox.written(4, 1);
    assert!(inbox.next(&mut batch));
    assert_eq!((lines_of(&batch), batch.dropped), (vec!["def".to_owned(), "jkl".to_owned()], 3));
    inbox.lost(8, 2);
    assert!(inbox.next(&mut batch), "the loss is told, although there is no line");
    assert_eq!((batch.lines, batch.dropped), (0, 2));
    assert_eq!(inbox.shared.counters.dropped.get(), 5);
}

/// A large buffer stays while large batches come: to get it anew for each costs more than what it holds. Both buffers go
/// when none was needed for a while.
#[test]
fn large_buffers_are_given_back_after_a_while() {
    let mut batch = Batch::default();
    let mut written = |bytes: usize, large_for| {
        batch.bytes = vec![b'x'; bytes];
        batch.emptied(large_for).capacity() == bytes
    };
    assert!(written(10, Duration::ZERO), "small ones always stay");
    assert!(written(LARGE_BYTES + 1, LONG) && written(10, LONG) && written(LARGE_BYTES + 1, LONG));
    assert!(!written(10, Duration::ZERO) && !written(10, Duration::ZERO) && written(10, Duration::ZERO));
}

/// They go as well when nothing comes any more: both, whether their time is up before the writer waits or while it does.
#[test]
fn large_buffers_do_not_wait_for_the_next_line() {
    for large_for in [Duration::ZERO, Duration::from_millis(20)] {
        let (outbox, mut inbox) = outbox(1 << 24, AT_ONCE, counters());
        inbox.large_for = LONG;
        let large = [vec![b'x'; LARGE_BYTES], vec![b'\n']].concat();
        let mut batch = Batch::default();
        for _ in 0..3 {
            assert!(outbox.push(&large) && inbox.next(&mut batch));
            inbox.written(batch.bytes.len(), 1);
        }
        assert!(outbox.push(b"small\n") && inbox.next(&mut batch));
        inbox.written(6, 1);
        assert!(inbox.shared.lock().waiting.capacity() > LARGE_BYTES);
        inbox.large_for = large_for;
        thread::scope(|scope| {
            let waits = scope.spawn(|| inbox.next(&mut batch));
            while inbox.shared.lock().waiting.capacity() > 0 {
                thread::yield_now();
            }
            assert!(outbox.push(b"small\n") && waits.join().unwrap());
        });
    }
}

/// A writer that waits is woken by a line, and a close waits until all is written.
#[test]
fn a_close_waits_for_the_writer() {
    let rules = Gathering { time: LONG, lines: 3 };
    let (outbox, inbox) = outbox(1 << 20, rules, counters());
    let writer = thread::spawn(move || {
        let (mut batch, mut seen) = (Batch::default(), Vec::new());
        while inbox.next(&mut batch) {
            seen.push(batch.lines);
            inbox.written(batch.bytes.len(), batch.lines);
        }
        seen
    });
    for _ in 0..3 {
        assert!(outbox.push(b"enough of them are not waited with\n"));
    }
    while outbox.0.counters.written.get() < 3 {
        thread::yield_now();
    }
    assert!(outbox.push(b"too few to go, but for the close\n"));
    assert_eq!(outbox.close(LONG), 0);
    assert!(!outbox.push_within(&[b"too late\n"], Room::Beyond));
    assert_eq!(writer.join().unwrap(), [3, 1]);
}

/// Where the writer cannot write, a close gives up in time, says what is lost, and the writer gives up, too.
#[test]
fn a_close_does_not_wait_for_ever() {
    let (outbox, inbox) = outbox(1 << 20, AT_ONCE, counters());
    assert!(outbox.push(b"taken\n"));
    let mut batch = Batch::default();
    assert!(inbox.next(&mut batch));
    assert!(outbox.push(b"waiting\n"));
    assert_eq!(outbox.close(Duration::from_millis(1)), 2);
    assert_eq!(outbox.close(Duration::from_millis(1)), 0, "nothing is counted twice");
    assert!(!inbox.nap(LONG) && !inbox.next(&mut batch));
    inbox.written(6, 1);
    assert_eq!((outbox.0.counters.dropped.get(), outbox.0.counters.written.get()), (2, 0));
}

/// A nap is cut short by the close, so that a last attempt is made at once.
#[test]
fn a_close_ends_a_nap() {
    let (outbox, inbox) = outbox(1 << 20, AT_ONCE, counters());
    assert!(outbox.push(b"line\n"));
    let mut batch = Batch::default();
    assert!(inbox.next(&mut batch));
    let writer = thread::spawn(move || {
        assert!(inbox.nap(LONG), "there is time for an attempt");
        inbox.written(5, 1);
    });
    assert_eq!(outbox.close(LONG), 0);
    writer.join().unwrap();
}

/// Without a writer nothing is accepted: lines that nobody will write do not pile up.
#[test]
fn nothing_is_accepted_without_a_writer() {
    let (outbox, inbox) = outbox(1 << 20, AT_ONCE, counters());
    assert!(outbox.push(b"line\n"));
    drop(inbox);
    assert!(!outbox.push(b"line\n"));
    assert_eq!(outbox.close(LONG), 1);
}
