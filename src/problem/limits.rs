//! A user's or an address's limit that is used up, as a [`Problem`].

use http::StatusCode;

use super::{Limit, Problem, Side};
use crate::quota::OverQuota;

/// The buckets fill, and requests end, all the time. kubectl and client-go wait so long and try again, up to ten times.
const RETRY_AFTER_SECONDS: u32 = 1;

impl From<OverQuota> for Problem {
    fn from(over: OverQuota) -> Self {
        let (reason, limit, sentence) = match over {
            OverQuota::Rate => ("rate_limited", Limit::Rate, "You send more requests than one user may."),
            OverQuota::Requests => (
                "too_many_requests",
                Limit::RequestsPerUser,
                "You have more requests under way than one user may.",
            ),
            OverQuota::SignIns => (
                "rate_limited",
                Limit::SignInRate,
                "There were too many sign-ins from your address. Try again in a moment.",
            ),
        };
        Self {
            log: over.to_string(),
            limit: Some(limit),
            retry_after_seconds: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, reason, Side::Client, sentence)
        }
    }
}
