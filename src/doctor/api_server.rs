//! The API server: reached over the server's own connection pool, with the same trust. The request bears no credential
//! at all; a 401 is as good an answer as any.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};

use super::finding::Finding;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::route::Shape;
use crate::shutdown::Shutdown;
use crate::transport::{Outgoing, Sent, Timeouts, Transport, TransportError};

pub(super) const NAME: &str = "api_server";

pub(super) async fn check(config: &Config) -> Finding {
    let (server, limits) = (&config.api_server, &config.limits);
    let authority = &server.authority;
    let timeouts = Timeouts { connect: limits.connect, response: limits.response, stall: limits.stall };
    let (metrics, shutdown) = (Arc::new(Metrics::default()), Shutdown::default());
    let transport = match Transport::new(server.into(), 1, timeouts, metrics, shutdown) {
        Ok(transport) => transport,
        Err(error) => return Finding::fault(format!("{error:#}"), "correct ENTRADA_API_SERVER_CA_FILE"),
    };
    match ask(&transport).await {
        Ok((status, kind)) if is_kubernetes(status, &kind) => {
            let anonymous = if status == StatusCode::OK { "answers" } else { "refuses" };
            Finding::fine(format!("{authority} is who its CA says, and {anonymous} a request without a user"))
        }
        Ok((status, kind)) => Finding::fault(
            format!("{authority} answers /version with {status} and {kind}: that is no API server"),
            "correct ENTRADA_API_SERVER_URL: nothing may stand in front of the API server",
        ),
        Err(error @ TransportError::Untrusted(_)) => Finding::fault(
            format!("{authority}: {error}"),
            "ENTRADA_API_SERVER_CA_FILE must hold the cluster's CA, and the certificate must name the host of \
             ENTRADA_API_SERVER_URL",
        ),
        Err(error) => Finding::fault(
            format!("{authority}: {error}"),
            "correct ENTRADA_API_SERVER_URL, or allow the pod to reach it (NetworkPolicy, authorized IP ranges)",
        ),
    }
}

async fn ask(transport: &Transport) -> Result<(StatusCode, String), TransportError> {
    let head = || {
        let request = Request::get(format!("https://{}/version", transport.authority()))
            .header(HOST, transport.authority().as_str())
            .header(USER_AGENT, concat!("entrada-doctor/", env!("CARGO_PKG_VERSION")));
        let request = request.body(()).map_err(|_| TransportError::BadTarget)?;
        Ok(request.into_parts().0)
    };
    let lease = transport.lease(NAME, ()).await?;
    let leased = transport.send(lease, NAME, head, (Outgoing::Empty, Sent::NOTHING), Shape::Plain).await?;
    let response = leased.response();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    Ok((response.status(), kind.unwrap_or("no content type").to_owned()))
}

/// The version for those who may see it without a name, or a `Status` for those who may not.
fn is_kubernetes(status: StatusCode, kind: &str) -> bool {
    matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && kind.contains("json")
}
