//! How the API server sees the user, for the portal: one `SelfSubjectReview`, which says who they are to it, and with it
//! that it answers at all.
//!
//! The question goes through the same stages as any other request, with the user's own token. The page does not wait long
//! for it: it is shown all the same, and says what it does not know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{Request, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{Pages, Visit};
use crate::broker::{BrokerError, Delegated};
use crate::policy;
use crate::problem::Problem;
use crate::record::Record;
use crate::route::Facts;

/// Longer than any API server in good health takes.
const PATIENCE: Duration = Duration::from_secs(1);
/// Since Kubernetes 1.28.
const PATH: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEW: &[u8] = br#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

/// What the API server said.
#[derive(Debug)]
pub(super) enum Seen {
    /// Who the user is to it.
    As(UserInfo),
    /// It answers, but does not say: it is too old, or its rules forbid the question.
    Silent,
    /// It does not accept the user's token.
    Refused,
    /// It did not answer in time.
    Away,
    /// It was not asked, because there is no token for it, or not in time.
    NotAsked,
}

/// Of the `status.userInfo` of a `SelfSubjectReview`.
#[derive(Debug, Deserialize)]
pub(super) struct UserInfo {
    /// The name that role bindings know.
    pub(super) username: String,
    /// Of AKS, mostly object ids of Entra's groups.
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

impl Pages {
    /// Asks the API server who the visitor is to it.
    ///
    /// # Errors
    /// When the visitor's session turns out to have ended.
    pub(super) async fn seen_by_cluster(&self, visit: &Visit<'_>) -> Result<Seen, Problem> {
        let deadline = Instant::now() + PATIENCE;
        let mut question = question();
        let record = Arc::new(visit.record.question(&mut question));
        let delegated = match timeout_at(deadline, self.delegate_own(visit, &question, &record)).await {
            Ok(Err(Some(ended))) => return Err(ended),
            Ok(Err(None)) | Err(_) => return Ok(Seen::NotAsked),
            Ok(Ok(delegated)) => delegated,
        };
        let body = Bytes::from_static(REVIEW);
        let asked = self.upstream.ask(delegated, &question, body, visit.forwarded_headers, &record);
        Ok(match timeout_at(deadline, asked).await {
            Ok(Ok((StatusCode::UNAUTHORIZED, _))) => Seen::Refused,
            Ok(Ok((status, _))) if status.is_server_error() => Seen::Away,
            Ok(Ok((_, answer))) => read(&answer).map_or(Seen::Silent, Seen::As),
            Ok(Err(error)) => {
                tracing::info!(cause = %error, "the portal got no answer of the API server");
                Seen::Away
            }
            Err(_) => Seen::Away,
        })
    }

    /// The question as its user's. The error holds what the visitor is to be told, where that is more than a page with a gap.
    async fn delegate_own(
        &self,
        visit: &Visit<'_>,
        question: &Parts,
        record: &Record,
    ) -> Result<Delegated, Option<Problem>> {
        let identity = self.authenticator.identify(visit.headers()).await.map_err(|_| None)?;
        record.identified(identity.credential(), identity.session());
        record.received(question).map_err(|_| None)?;
        let permit = policy::permit(identity, Arc::new(Facts::of(question)), question, &self.origins)
            .map_err(|_| None)?;
        let admitted = self.quotas.admit(permit).await.map_err(|_| None)?;
        self.broker.delegate(admitted).await.map_err(|error| match error {
            BrokerError::SessionEnded => Some(error.into()),
            // The portal says what stands in the way.
            _ => None,
        })
    }
}

fn question() -> Parts {
    let request = Request::post(PATH)
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, REVIEW.len())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("entrada/", env!("CARGO_PKG_VERSION")))
        // The visit itself has passed the guard against other sites' pages, and this question changes nothing.
        .header("sec-fetch-site", "same-origin");
    request.body(()).expect("names and values are fixed and well-formed").into_parts().0
}

fn read(answer: &[u8]) -> Option<UserInfo> {
    #[derive(Deserialize)]
    struct Review {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        user_info: UserInfo,
    }
    serde_json::from_slice(answer).ok().map(|review: Review| review.status.user_info)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anything but a review says nothing, a forbidden one included.
    #[test]
    fn only_a_review_names_somebody() {
        let review =
            br#"{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"ada","groups":["g1"]}}}"#;
        let seen = read(review).unwrap();
        assert_eq!((seen.username.as_str(), seen.groups.len()), ("ada", 1));
        assert!(read(br#"{"status":{"userInfo":{"username":"ada"}}}"#).unwrap().groups.is_empty());
        assert!(read(br#"{"kind":"Status","status":"Failure","code":403}"#).is_none());
        assert!(read(b"<html>").is_none());
    }
}
