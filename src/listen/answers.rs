//! Answers on their way to the client of one connection.
//!
//! An ordinary answer must make progress: one that stands still, because its client does not read or the API server does
//! not go on, is given up after `ENTRADA_STALL_TIMEOUT`, and with it all that it holds, above all a connection to the API
//! server. hyper cannot notice that by itself: while an HTTP/2 client keeps its window shut, nobody polls the body.
//!
//! A stream may be silent for as long as it likes, until it is over: its credential has ended, or the process stops. A client
//! that does not even take the end of its answer, be it given up or over, loses its connection after the same time again:
//! otherwise what hyper holds of the answer would be held for ever, and no limit would count it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::phase::{Busy, Phase, Streaming};
use crate::http::body::Unhurried;
use crate::http::layers::ServedBody;

/// An answer that has not moved at so many looks in a row, and not since, stands still.
const LOOKS: u8 = 2;

/// The answers of one connection that are being sent. A clone is another handle to the same.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Arc<Sending>>>>);

/// The body of an answer. Its connection is busy until it has been sent or given up.
pub(super) enum AnswerBody {
    /// Must make progress.
    Ordinary(Listed),
    /// A stream, which may be silent for as long as it likes until it is over.
    Stream { body: ServedBody, _busy: Busy, _streaming: Streaming, _listed: Listed },
    /// Without bytes. That of a tunnel keeps its connection busy by itself.
    Empty { body: ServedBody, _busy: Option<Busy> },
}

/// What came of a look at the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    /// An answer was given up.
    GivenUp,
    /// The client does not even take the end of an answer.
    Deaf,
}

/// An answer in its connection's list, until it is dropped.
pub(super) struct Listed {
    sending: Arc<Sending>,
    answers: Answers,
}

/// An answer, shared between hyper, which sends it, and whoever looks whether it moves.
struct Sending {
    /// `None`: given up, or a stream's, whose body is its own.
    rest: Mutex<Option<(ServedBody, Busy)>>,
    /// Of a stream.
    unhurried: Option<Unhurried>,
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
        let unhurried = response.extensions_mut().remove::<Unhurried>();
        response.map(|body| match unhurried {
            Some(unhurried) => {
                let (_streaming, _listed) = (phase.streaming(), self.list(None, Some(unhurried)));
                AnswerBody::Stream { body, _busy: busy, _streaming, _listed }
            }
            None if body.is_end_stream() => AnswerBody::Empty { body, _busy: Some(busy) },
            None => AnswerBody::Ordinary(self.list(Some((body, busy)), None)),
        })
    }

    fn list(&self, rest: Option<(ServedBody, Busy)>, unhurried: Option<Unhurried>) -> Listed {
        let (rest, looks, reader) = (Mutex::new(rest), AtomicU8::new(0), AtomicWaker::new());
        let sending = Arc::new(Sending { rest, unhurried, looks, reader });
        self.all().push(sending.clone());
        Listed { sending, answers: self.clone() }
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

    fn give_up_stalled(&self) -> Option<Stalled> {
        let is_hurried = |answer: &&Arc<Sending>| answer.unhurried.as_ref().is_none_or(Unhurried::is_over);
        let stands_still = |answer: &&Arc<Sending>| answer.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS;
        let stalled: Vec<_> = self.all().iter().filter(is_hurried).filter(stands_still).cloned().collect();
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
        Self::Empty { body, _busy: None }
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
            Self::Stream { body, .. } | Self::Empty { body, .. } => Pin::new(body).poll_frame(cx),
            Self::Ordinary(Listed { sending, .. }) => {
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
            Self::Stream { body, .. } | Self::Empty { body, .. } => body.is_end_stream(),
            Self::Ordinary(Listed { sending, .. }) => {
                sending.rest().as_ref().is_some_and(|(body, _)| body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream { body, .. } | Self::Empty { body, .. } => body.size_hint(),
            Self::Ordinary(Listed { sending, .. }) => {
                sending.rest().as_ref().map_or_else(SizeHint::default, |(body, _)| body.size_hint())
            }
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.answers.all().retain(|other| !Arc::ptr_eq(other, &self.sending));
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
        stream.extensions_mut().insert(Unhurried::default());
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

    /// Who does not even take the end is told apart from who was slow, and not before they had as long again: of an answer that
    /// was given up, and of a stream that is over.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_the_end_is_deaf() {
        let (answers, phase) = (Answers::default(), Phase::default());
        let (_frames, receiver) = tokio::sync::mpsc::channel(1);
        let given_up = answers.send(answer(receiver), phase.busy(), &phase);
        assert_eq!(answers.stalled(STALL).await, Stalled::GivenUp);
        let began = Instant::now();
        assert_eq!(answers.stalled(STALL).await, Stalled::Deaf);
        assert!(began.elapsed() >= STALL, "{:?}", began.elapsed());
        drop(given_up);

        let (_frames, receiver) = tokio::sync::mpsc::channel(1);
        let (mut stream, unhurried) = (answer(receiver), Unhurried::default());
        stream.extensions_mut().insert(unhurried.clone());
        let stream = answers.send(stream, phase.busy(), &phase);
        assert!(tokio::time::timeout(STALL * 9, answers.stalled(STALL)).await.is_err(), "it is not over");
        unhurried.end();
        let began = Instant::now();
        assert_eq!(answers.stalled(STALL).await, Stalled::Deaf);
        assert!(began.elapsed() >= STALL, "{:?}", began.elapsed());
        drop(stream);
        assert!(answers.all().is_empty());
    }
}
