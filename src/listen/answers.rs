//! Answers on their way to the client of one connection.
//!
//! An ordinary answer must make progress: one that stands still, because its client does not read or the API server does
//! not go on, is given up after `ENTRADA_STALL_TIMEOUT`, and with it all that it holds, above all a connection to the API
//! server. hyper cannot notice that by itself: while an HTTP/2 client keeps its window shut, nobody polls the body. Nor does
//! it then see that the answer was given up, and what it holds of it stays. So a client that does not even take the end of
//! an answer, for as long again, is told apart: its connection is to end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::phase::{Busy, Phase, Streaming};
use crate::http::body::Unhurried;
use crate::http::layers::ServedBody;

/// An answer that has not moved at so many looks in a row, and not since, stands still.
const LOOKS: u8 = 2;

/// What came of a look at the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    /// An answer was given up.
    GivenUp,
    /// The client does not even take the end of one that was given up.
    Deaf,
}

/// The ordinary answers of one connection that are being sent. A clone is another handle to the same.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Arc<Sending>>>>);

/// The body of an answer. Its connection is busy until it has been sent or given up.
pub(super) enum AnswerBody {
    /// Must make progress.
    Ordinary { sending: Arc<Sending>, answers: Answers },
    /// A stream, which may be silent for as long as it likes; or a body without bytes.
    Unhurried { body: ServedBody, _busy: Option<Busy>, _streaming: Option<Streaming> },
}

/// An ordinary answer, shared between hyper, which sends it, and whoever looks whether it moves.
pub(super) struct Sending {
    /// `None`: given up.
    rest: Mutex<Option<(ServedBody, Busy)>>,
    /// Looks since it last moved.
    looks: AtomicU8,
    reader: AtomicWaker,
}

impl Answers {
    /// Prepares an answer for hyper.
    pub(super) fn send(
        &self,
        mut response: Response<ServedBody>,
        busy: Busy,
        phase: &Phase,
    ) -> Response<AnswerBody> {
        let is_unhurried = response.extensions_mut().remove::<Unhurried>().is_some();
        response.map(|body| {
            if is_unhurried || body.is_end_stream() {
                let streaming = is_unhurried.then(|| phase.streaming());
                return AnswerBody::Unhurried { body, _busy: Some(busy), _streaming: streaming };
            }
            let (rest, reader) = (Mutex::new(Some((body, busy))), AtomicWaker::new());
            let sending = Arc::new(Sending { rest, looks: AtomicU8::new(0), reader });
            self.all().push(sending.clone());
            AnswerBody::Ordinary { sending, answers: self.clone() }
        })
    }

    /// Looks twice in each `stall` for answers that stand still, and gives them up; resolves when there was one.
    pub(super) async fn stalled(&self, stall: Duration) -> Stalled {
        let period = stall / u32::from(LOOKS);
        let mut looks = interval_at(Instant::now() + period, period);
        // After a pause of the whole machine nothing could have moved.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(stalled) = self.give_up_stalled() {
                return stalled;
            }
        }
    }

    /// Gives up whatever stands still, one after the other, and tells each time: other streams of the connection go on, which
    /// may be other people's where a proxy stands before us. A client that does not take the end of an answer is to
    /// `leave`, so that new requests come on another connection; resolves when it is still there after as long again.
    pub(super) async fn look_after(&self, stall: Duration, leave: &Notify, tell: impl Fn()) {
        let mut is_asked = false;
        loop {
            let stalled = self.stalled(stall).await;
            tell();
            if stalled == Stalled::Deaf {
                if is_asked {
                    return;
                }
                is_asked = true;
                leave.notify_one();
            }
        }
    }

    fn give_up_stalled(&self) -> Option<Stalled> {
        let stands_still = |answer: &&Arc<Sending>| answer.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS;
        let stalled: Vec<_> = self.all().iter().filter(stands_still).cloned().collect();
        let mut worst = None;
        for answer in &stalled {
            // Its client has as long again to take the end.
            answer.looks.store(0, Ordering::Relaxed);
            let rest = answer.rest().take();
            worst = if rest.is_none() { Some(Stalled::Deaf) } else { worst.or(Some(Stalled::GivenUp)) };
            // Without the lock: much may hang on it.
            drop(rest);
            answer.reader.wake();
        }
        worst
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Sending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerBody {
    /// For an answer without a body, whose connection becomes a tunnel.
    pub(super) fn of_tunnel(body: ServedBody) -> Self {
        Self::Unhurried { body, _busy: None, _streaming: None }
    }
}

impl Sending {
    fn rest(&self) -> MutexGuard<'_, Option<(ServedBody, Busy)>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tower::BoxError>>> {
        match self.get_mut() {
            Self::Unhurried { body, .. } => Pin::new(body).poll_frame(cx),
            Self::Ordinary { sending, .. } => {
                sending.reader.register(cx.waker());
                let mut rest = sending.rest();
                let Some((body, _)) = &mut *rest else {
                    return Poll::Ready(Some(Err("the answer stood still for too long".into())));
                };
                let frame = Pin::new(body).poll_frame(cx);
                if frame.is_ready() {
                    sending.looks.store(0, Ordering::Relaxed);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unhurried { body, .. } => body.is_end_stream(),
            Self::Ordinary { sending, .. } => {
                sending.rest().as_ref().is_some_and(|(body, _)| body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unhurried { body, .. } => body.size_hint(),
            Self::Ordinary { sending, .. } => {
                sending.rest().as_ref().map_or_else(SizeHint::default, |(body, _)| body.size_hint())
            }
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Self::Ordinary { sending, answers } = self {
            answers.all().retain(|other| !Arc::ptr_eq(other, sending));
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// An answer whose frames come from `frames`.
    fn answer(frames: tokio::sync::mpsc::Receiver<&'static str>) -> Response<ServedBody> {
        let frames = futures_util::stream::unfold(frames, async |mut frames| {
            let frame = frames.recv().await?;
            Some((Ok::<_, tower::BoxError>(Frame::data(Bytes::from(frame))), frames))
        });
        Response::new(ServedBody::new(StreamBody::new(Box::pin(frames))))
    }

    /// What nobody polls for a minute is given up: its bytes, and its mark that the connection is busy.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (answers, phase) = (Answers::default(), Phase::default());
        let (frames, receiver) = tokio::sync::mpsc::channel(1);
        let mut sent = answers.send(answer(receiver), phase.busy(), &phase);
        let began = Instant::now();
        assert_eq!(answers.stalled(STALL).await, Stalled::GivenUp);
        assert!(began.elapsed() >= STALL && began.elapsed() <= STALL * 3 / 2);
        assert!(frames.is_closed(), "what it held is gone, though its body is still there");
        assert!(!phase.is_busy());
        let began = Instant::now();
        assert_eq!(answers.stalled(STALL).await, Stalled::Deaf, "nor does it take the end");
        assert!(began.elapsed() >= STALL, "{:?}", began.elapsed());
        assert!(sent.body_mut().frame().await.unwrap().is_err(), "its reader sees that it is not whole");
        drop(sent);
        assert!(answers.all().is_empty());
    }

    /// However slowly, what moves goes on; and so does a stream that does not.
    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_and_a_silent_stream_go_on() {
        let (answers, phase) = (Answers::default(), Phase::default());
        let (frames, receiver) = tokio::sync::mpsc::channel(1);
        let (_silent, never) = tokio::sync::mpsc::channel(1);
        let mut stream = answer(never);
        stream.extensions_mut().insert(Unhurried);
        let _stream = answers.send(stream, phase.busy(), &phase);
        let mut slow = answers.send(answer(receiver), phase.busy(), &phase);
        let reads = async {
            let mut pause = tokio::time::interval(STALL * 9 / 10);
            for _ in 0..10 {
                pause.tick().await;
                frames.send("some").await.unwrap();
                slow.body_mut().frame().await.unwrap().unwrap();
            }
        };
        tokio::select! {
            stalled = answers.stalled(STALL) => panic!("{stalled:?}"),
            () = reads => {}
        }
    }
}
