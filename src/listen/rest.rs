//! The rest of a request's body, when the answer is there first: how much of it is read, and for how long.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

use super::phase::Busy;

/// As Go's server: so much is read and dropped, so that the connection can take the next request. More than that closes
/// the connection, and says so in the answer.
const READ_BYTES: u64 = 256 * 1024;
/// For that rest to come.
const READ_TIME: Duration = Duration::from_secs(10);

/// Whether the whole rest may be read: its length is known and small. A client that waits to be told to go on
/// (`Expect: 100-continue`) is not: it has its answer, and sends no body.
pub(super) fn is_small(rest: &Incoming, waits_to_go_on: bool) -> bool {
    !waits_to_go_on && rest.size_hint().exact().is_some_and(|length| length <= READ_BYTES)
}

/// Reads the rest and drops it. `busy`: until then no new request is awaited.
pub(super) async fn read(mut rest: Incoming, busy: Option<Busy>) {
    let mut left = READ_BYTES;
    let read = async {
        // hyper says that the body has ended only with the next request, so its length is asked.
        while !rest.is_end_stream() {
            let Some(Ok(frame)) = rest.frame().await else { return };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    };
    let _late = tokio::time::timeout(READ_TIME, read).await;
    drop(busy);
}
