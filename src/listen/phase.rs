//! What a connection is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Its first request's head is awaited, or a request's head has begun to come.
    AwaitingHead,
    /// Nothing, between two requests.
    Nothing,
    /// A request is being answered, or what comes belongs to others.
    Answering,
}

/// What the connection is doing. Shared between its bytes and its requests.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    /// Requests that are being answered. On HTTP/1.1 two at most: hyper may take up the next one before the body of the
    /// last is dropped.
    busy: AtomicUsize,
    /// Requests so far; it may wrap.
    requests: AtomicUsize,
    /// Whether a head is awaited or has begun; of interest while no request is being answered.
    head: AtomicBool,
    /// The connection has become a tunnel, or is HTTP/2: what is read from it belongs to others.
    is_handed_over: AtomicBool,
    /// Streams that are being sent: their client may be as slow as it likes. On HTTP/1.1 one at most.
    streams: AtomicUsize,
}

/// A request that is being answered, dropped with its answer's body; or a request's body that is still being read.
#[derive(Debug)]
pub(super) struct Busy(Phase);

/// A stream that is being sent.
#[derive(Debug)]
pub(super) struct Streaming(Phase);

impl Default for Phase {
    /// A new connection: its first head is awaited.
    fn default() -> Self {
        Self(Arc::new(State {
            busy: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            head: AtomicBool::new(true),
            is_handed_over: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
        }))
    }
}

impl Phase {
    /// A request has come whole.
    pub(super) fn busy(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::AcqRel);
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        self.0.head.store(false, Ordering::Release);
        Busy(self.clone())
    }

    /// The same for its body, as long as somebody reads it.
    pub(super) fn reading(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// Its answer is a stream.
    pub(super) fn streaming(&self) -> Streaming {
        self.0.streams.fetch_add(1, Ordering::AcqRel);
        Streaming(self.clone())
    }

    /// Whether a stream is being sent, or a tunnel is open, on a connection that is not HTTP/2.
    pub(super) fn is_streaming(&self) -> bool {
        self.0.streams.load(Ordering::Acquire) > 0
    }

    /// From now on no read of this connection times out: it has become a tunnel, or it is HTTP/2, which has PINGs.
    pub(super) fn hand_over(&self) {
        self.0.is_handed_over.store(true, Ordering::Release);
    }

    /// Whether it was handed over.
    pub(super) fn is_handed_over(&self) -> bool {
        self.0.is_handed_over.load(Ordering::Acquire)
    }

    /// The next request's first bytes have come.
    pub(super) fn head_begins(&self) {
        self.0.head.store(true, Ordering::Release);
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire) > 0
    }

    /// Resolves when no request has been answered, and none has begun to come, for `idle` or up to half as long again. It
    /// looks now and then, since nothing wakes a connection whose last answer has been sent.
    pub(super) async fn unused(&self, idle: Duration) {
        let mut looks = tokio::time::interval(idle / 2);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut unchanged) = (None, 0);
        while unchanged < 2 {
            looks.tick().await;
            let is_free = !self.is_busy() && !self.0.head.load(Ordering::Acquire);
            let requests = is_free.then(|| self.0.requests.load(Ordering::Acquire));
            unchanged = if requests.is_some() && requests == seen { unchanged + 1 } else { 0 };
            seen = requests;
        }
    }

    /// What it is doing.
    pub(super) fn now(&self) -> Doing {
        if self.is_handed_over() || self.is_busy() {
            Doing::Answering
        } else if self.0.head.load(Ordering::Acquire) {
            Doing::AwaitingHead
        } else {
            Doing::Nothing
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(180);

    /// A connection is unused once nothing has been asked on it for three minutes; neither while an answer is on its way,
    /// nor when one came and went meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_unused_after_a_while() {
        let phase = Phase::default();
        let busy = phase.busy();
        let longer = IDLE_TIMEOUT * 10;
        assert!(tokio::time::timeout(longer, phase.unused(IDLE_TIMEOUT)).await.is_err(), "it is busy");
        drop(busy);
        let asks_now_and_then = async {
            let mut pause = tokio::time::interval(IDLE_TIMEOUT * 9 / 10);
            for _ in 0..10 {
                pause.tick().await;
                drop(phase.busy());
            }
        };
        tokio::select! {
            () = phase.unused(IDLE_TIMEOUT) => panic!("it was used"),
            () = asks_now_and_then => {}
        }
        let began = tokio::time::Instant::now();
        phase.unused(IDLE_TIMEOUT).await;
        assert!(began.elapsed() >= IDLE_TIMEOUT && began.elapsed() <= IDLE_TIMEOUT * 3 / 2);
    }
}
