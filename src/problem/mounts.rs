//! Why somebody does not get to a dashboard, or its answer does not get to them, as a [`Problem`].

use http::StatusCode;

use super::causes::{SHORTLY, SOON};
use super::{Help, Limit, Problem, Side};
use crate::mounts::MountError;
use crate::transport::TransportError;
use crate::upstream::UpstreamError;

impl From<MountError> for Problem {
    fn from(error: MountError) -> Self {
        let log = error.to_string();
        match error {
            MountError::TooManyStreams => UpstreamError::TooManyStreams.into(),
            MountError::Ended(refused) => refused.into(),
            MountError::Stopping => UpstreamError::Stopping.into(),
            MountError::Transport { host, error } => of_dashboard(&host, &error, log),
        }
    }
}

fn of_dashboard(host: &str, error: &TransportError, log: String) -> Problem {
    let problem = |status, reason, sentence: String| Problem {
        log: log.clone(),
        ..Problem::new(status, reason, Side::Upstream, sentence)
    };
    let broken = |sentence| problem(StatusCode::BAD_GATEWAY, "dashboard_broken", sentence);
    match error {
        TransportError::Unreachable(_) => Problem {
            retry_after_seconds: Some(SHORTLY),
            ..problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "dashboard_unreachable",
                format!("The dashboard at {host} cannot be reached. The cluster itself may be fine."),
            )
        },
        TransportError::Untrusted(_) => problem(
            StatusCode::BAD_GATEWAY,
            "dashboard_untrusted",
            format!("The certificate of the dashboard at {host} is not trusted; nothing was sent to it."),
        ),
        TransportError::Busy => Problem {
            limit: Some(Limit::MountConnections),
            retry_after_seconds: Some(SOON),
            ..problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "dashboard_busy",
                format!("All connections to the dashboard at {host} are in use."),
            )
        },
        TransportError::HungUp(_) => broken(format!("The dashboard at {host} broke off before it answered.")),
        TransportError::Broken(_) => {
            broken(format!("The answer of the dashboard at {host} could not be read."))
        }
        TransportError::Timeout => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "dashboard_timeout",
            format!("The dashboard at {host} did not answer in time."),
        ),
        TransportError::ClientGone(text) => TransportError::ClientGone(text.clone()).into(),
        TransportError::ClientStalled => TransportError::ClientStalled.into(),
        TransportError::BadTarget => TransportError::BadTarget.into(),
    }
}

impl Problem {
    /// Two host names, one of them a dashboard's: whoever stands in front of us may have judged the other one.
    #[must_use]
    pub(crate) fn two_hosts() -> Self {
        let sentence = "The request names two hosts, and can be read in more than one way.";
        Self { closes: true, ..Self::new(StatusCode::BAD_REQUEST, "two_hosts", Side::Client, sentence) }
    }

    /// A sign-in for a dashboard that nobody offers, or whose parameters are none of ours.
    #[must_use]
    pub(crate) fn no_such_mount() -> Self {
        let sentence =
            "There is no such dashboard here, or the address is not whole. Open the dashboard again.";
        Self::new(StatusCode::BAD_REQUEST, "no_such_mount", Side::Client, sentence)
    }

    /// A one-time code that does not fit this browser, was used, or is too old.
    #[must_use]
    pub(crate) fn not_entered() -> Self {
        let sentence = "This sign-in was not begun in this browser, was used already, or took too long.";
        let new = Self::new(StatusCode::BAD_REQUEST, "not_entered", Side::Client, sentence);
        Self { help: Help::SignIn, ..new }.on_a_page("/".to_owned(), Vec::new())
    }
}
