//! The life of one request on the host of a mounted dashboard: identify the browser by that host's cookie, permit the
//! request, admit it within the user's rate, forward it to the dashboard.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Response};
use hyper::body::{Body as _, Incoming};

use super::Stages;
use crate::http::body::Body;
use crate::http::forwarded::ForwardedHeaders;
use crate::mounts::Mount;
use crate::pages::Visit;
use crate::policy;
use crate::problem::{Asker, Problem};
use crate::quota::AdmittedPassage;
use crate::record::Record;
use crate::route::{AtMount, MountPath, Route, is_top_navigation};
use crate::view::View;

impl Stages {
    /// What upstream, or a dashboard, is told of the request's way here.
    pub(super) fn forwarded_headers(
        &self,
        route: &Route,
        direct: &ForwardedHeaders,
        headers: &HeaderMap,
    ) -> ForwardedHeaders {
        match self.mount_of(route) {
            None => self.forwarding.of(direct, headers),
            Some(mount) => {
                let forwarding = mount.forwarding();
                forwarding.of(&forwarding.direct(direct.client), headers)
            }
        }
    }

    /// Reads what the form of an error depends on. On a mount's host `Authorization` is the dashboard's own, and goes
    /// nowhere: what it holds is removed here.
    pub(super) fn asker(&self, route: &Route, parts: &mut Parts) -> Asker {
        if matches!(route, Route::Mount(_)) {
            parts.headers.remove(AUTHORIZATION);
        }
        Asker::of(parts)
    }

    /// What renders errors on the host of the request.
    pub(super) fn view_of(&self, route: &Route) -> &View {
        match route {
            Route::Mount(at) => self.mount_views.get(at.index).unwrap_or(&self.view),
            _ => &self.view,
        }
    }

    fn mount_of(&self, route: &Route) -> Option<&Mount> {
        let Route::Mount(at) = route else { return None };
        self.mounts.at(at.index)
    }

    /// The answer, and the request's body where nobody wanted it.
    pub(super) async fn at_mount(
        &self,
        at: &AtMount,
        parts: &mut Parts,
        mut body: Incoming,
        forwarded_headers: &ForwardedHeaders,
        record: &Arc<Record>,
    ) -> (Result<Response<Body>, Problem>, Option<Incoming>) {
        let Some(mount) = self.mounts.at(at.index) else { return (Err(Problem::not_found()), Some(body)) };
        match &at.path {
            MountPath::Reserved => (Err(Problem::not_found()), Some(body)),
            MountPath::Asset(name) => (self.pages.asset(name), Some(body)),
            MountPath::Enter => {
                let visit = Visit::new(false, parts, &mut body, forwarded_headers, record);
                (self.pages.enter_mount(mount, &visit).await, Some(body))
            }
            MountPath::Dashboard => match self.prepare_passage(mount, parts, record).await {
                Err(problem) if problem.leads_to_sign_in() && is_top_navigation(parts) => {
                    (Ok(self.pages.to_sign_in(mount, parts)), Some(body))
                }
                Err(problem) => (Err(problem), Some(body)),
                Ok(admitted) => {
                    let has_body = !body.is_end_stream();
                    let forwarded = mount.forward(admitted, parts, body, forwarded_headers, record).await;
                    let closing = |error| Problem::from(error).closing_connection_if(has_body);
                    (forwarded.map_err(closing), None)
                }
            },
        }
    }

    /// Identify, permit, admit.
    async fn prepare_passage(
        &self,
        mount: &Mount,
        parts: &Parts,
        record: &Record,
    ) -> Result<AdmittedPassage, Problem> {
        let identity = self.authenticator.identify_at_mount(mount.url().origin(), &parts.headers).await?;
        record.identified(identity.credential(), identity.session());
        self.sinks.metrics.credential_lookups.count(identity.was_known());
        let passage = policy::permit_passage(identity, parts, mount.origins())?;
        self.authenticator.note_use(passage.identity(), record.client());
        if is_top_navigation(parts) {
            // A person who is about to see nothing but errors is told why, or led to what helps.
            self.pages.must_be_of_use(passage.identity()).await?;
        }
        Ok(self.quotas.admit_passage(passage).await?)
    }
}
