//! Why there is no answer of the API server, as a [`Problem`].

use http::StatusCode;

use super::causes::{SHORTLY, SOON};
use super::{Limit, Problem, Side};
use crate::broker::BrokerError;
use crate::transport::TransportError;
use crate::upstream::UpstreamError;

impl From<UpstreamError> for Problem {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Transport(error) => error.into(),
            UpstreamError::Stopping => BrokerError::Stopping.into(),
            UpstreamError::TooManyStreams => Self {
                limit: Some(Limit::StreamsPerUser),
                retry_after_seconds: Some(SHORTLY),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_streams",
                    Side::Client,
                    "You have too many watches and tunnels open.",
                )
            },
            UpstreamError::Ended(refused) => refused.into(),
        }
    }
}

impl From<TransportError> for Problem {
    fn from(error: TransportError) -> Self {
        let problem = |status, reason, sentence| Self {
            log: error.to_string(),
            ..Self::new(status, reason, Side::Upstream, sentence)
        };
        let broken = |sentence| problem(StatusCode::BAD_GATEWAY, "upstream_broken", sentence);
        match error {
            TransportError::Unreachable(_) => Self {
                retry_after_seconds: Some(SOON),
                ..problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_unreachable",
                    "The cluster's API server cannot be reached.",
                )
            },
            TransportError::Untrusted(_) => problem(
                StatusCode::BAD_GATEWAY,
                "upstream_untrusted",
                "The API server's certificate is not trusted; nothing was sent to it. Tell an administrator.",
            ),
            TransportError::Busy => Self {
                limit: Some(Limit::UpstreamConnections),
                retry_after_seconds: Some(SOON),
                ..problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "upstream_busy",
                    "All connections to the cluster's API server are in use.",
                )
            },
            TransportError::ClientGone(_) => Self {
                log: error.to_string(),
                ..Self::new(
                    StatusCode::BAD_REQUEST,
                    "client_gone",
                    Side::Client,
                    "The request's body broke off.",
                )
            },
            TransportError::ClientStalled => Self {
                limit: Some(Limit::Stall),
                ..Self::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body_too_slow",
                    Side::Client,
                    "The request's body stood still for too long.",
                )
            },
            TransportError::HungUp(_) => broken("The API server broke off before it answered."),
            TransportError::Broken(_) => broken("The API server's response could not be read."),
            TransportError::Timeout => problem(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "The API server did not answer in time.",
            ),
            TransportError::BadTarget => Self::new(
                StatusCode::BAD_REQUEST,
                "bad_target",
                Side::Client,
                "The request's target cannot be forwarded.",
            ),
        }
    }
}
