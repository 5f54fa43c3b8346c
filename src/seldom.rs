//! Waits that seldom end, beside work that goes on all the time.
//!
//! A connection's task is polled for each part of each request, and `select!` then polls whatever else is waited for, too:
//! timers, and the two stops of the process, which take a lock that all connections share. Here they are polled
//! when they themselves have been woken.

use std::future::{Future, pending};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// The same future, polled once, and from then on only after it has been woken.
///
/// It is moved to the heap, so that whoever awaits it does not grow with it.
pub(crate) fn seldom<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let mut alone = FuturesUnordered::new();
    // Boxed, because each set of futures has room for one more.
    alone.push(Box::pin(future));
    async move {
        match alone.next().await {
            Some(output) => output,
            // There is one.
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Poll;

    use tokio::sync::Notify;

    use super::*;

    /// However often its task is polled for something else, it is polled when it is first awaited, and when it is woken.
    #[tokio::test]
    async fn it_is_polled_when_it_was_woken() {
        let (polls, notify) = (Cell::new(0), Notify::new());
        let mut notified = pin!(notify.notified());
        let mut waits = pin!(seldom(std::future::poll_fn(|cx| {
            polls.set(polls.get() + 1);
            notified.as_mut().poll(cx)
        })));
        for turn in 0..100 {
            if turn == 50 {
                notify.notify_one();
            }
            let polled = std::future::poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx))).await;
            assert_eq!(polled.is_ready(), turn == 50, "{turn}");
            assert_eq!(polls.get(), if turn < 50 { 1 } else { 2 });
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
