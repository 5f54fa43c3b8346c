//! A limit that is used up, and an audit log that takes no more, as a [`Problem`].

use http::StatusCode;

use super::{Limit, Problem, Side};
use crate::audit::{NotRecorded, RATE_LIMITED};
use crate::quota::OverQuota;

/// The buckets fill, and requests end, all the time. kubectl and client-go wait so long and try again, up to ten times.
const RETRY_AFTER_SECONDS: u32 = 1;

impl From<OverQuota> for Problem {
    fn from(over: OverQuota) -> Self {
        let (reason, limit, sentence) = match over {
            OverQuota::Rate => (RATE_LIMITED, Limit::Rate, "You send more requests than one user may."),
            OverQuota::Requests => (
                "too_many_requests",
                Limit::RequestsPerUser,
                "You have more requests under way than one user may.",
            ),
            OverQuota::Dashboards => (
                "too_many_requests",
                Limit::MountConnections,
                "You have more requests to dashboards under way than one user may.",
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

/// A full disk or a collector that is away may take a while; whoever waits for it is told soon.
const AUDIT_RETRY_AFTER_SECONDS: u32 = 5;

impl From<NotRecorded> for Problem {
    fn from(error: NotRecorded) -> Self {
        let sentence = "The audit log cannot record your request, so it was refused.";
        Self {
            log: error.to_string(),
            retry_after_seconds: Some(AUDIT_RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", Side::Us, sentence)
        }
    }
}
