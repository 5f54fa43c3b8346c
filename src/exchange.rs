//! The life of one request. This is the only place that calls the stages, in this order: identify the user, permit the
//! request, delegate it (get the user's own AKS token), forward it to the API server.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::http::body::Body;
use crate::http::forwarded::{ForwardedHeaders, Forwarding};
use crate::http::framing::has_one_meaning;
use crate::http::layers::{HttpService, layered};
use crate::identity::Authenticator;
use crate::metrics::Metrics;
use crate::pages::{Pages, Visit};
use crate::policy::{self, origin::Origins};
use crate::problem::{Asker, Problem, advise_end, advise_sign_in, panicked};
use crate::record::{AUDIT_ID, Record, audit_id};
use crate::route::{Facts, Route, route};
use crate::upstream::Upstream;
use crate::view::View;

/// The stages that a request walks through, and what is needed to answer where one of them refuses.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Our own paths.
    pub(crate) pages: Pages,
    /// Identifies the user by the presented credential.
    pub(crate) authenticator: Authenticator,
    /// For the permit: the origins whose pages may act with a cookie.
    pub(crate) origins: Origins,
    /// Delegates: gets the user's AKS token.
    pub(crate) broker: Arc<Broker>,
    /// Forwards to the API server.
    pub(crate) upstream: Upstream,
    /// Makes the `X-Forwarded-*` headers that upstream gets.
    pub(crate) forwarding: Forwarding,
    /// Renders errors.
    pub(crate) view: Arc<View>,
    /// Time.
    pub(crate) clock: Clock,
    /// Counts.
    pub(crate) metrics: Arc<Metrics>,
}

impl Stages {
    /// The application as one connection from `peer` sees it.
    pub(crate) fn serve(self: Arc<Self>, peer: IpAddr) -> HttpService {
        let direct = Arc::new(self.forwarding.direct(peer));
        let handle = move |request| {
            let (stages, direct) = (self.clone(), direct.clone());
            async move { stages.exchange(request, &direct).await }
        };
        layered(handle, panicked)
    }

    /// One request, from its head to its answer's head. Every error becomes an answer here.
    async fn exchange(&self, request: Request<Incoming>, direct: &ForwardedHeaders) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let forwarded_headers = self.forwarding.of(direct, &parts.headers);
        let audit_id = audit_id(&mut parts.headers);
        let route = route(&parts);
        let record = Record::begin(&parts, &route, audit_id, forwarded_headers.client);
        let asker = Asker::of(&parts);
        let handled = self.handle(route, Request::from_parts(parts, body), &forwarded_headers, &record).await;
        let mut reason = None;
        let mut response = handled.unwrap_or_else(|problem| {
            reason = Some(problem.reason());
            problem.note(&record, &self.metrics);
            problem.respond(&asker, &self.view)
        });
        response.headers_mut().entry(AUDIT_ID).or_insert_with(|| record.audit_id().clone());
        record.end(response.status(), reason, &self.metrics);
        response
    }

    async fn handle(
        &self,
        route: Route,
        request: Request<Incoming>,
        forwarded_headers: &ForwardedHeaders,
        record: &Record,
    ) -> Result<Response<Body>, Problem> {
        if !has_one_meaning(request.headers()) {
            return Err(Problem::ambiguous_framing());
        }
        match route {
            // Boxed, so that its large future is not part of every Kubernetes request's.
            Route::Page(page) => Box::pin(self.pages.visit(page, Visit::new(request, record))).await,
            Route::WrongMethod(allowed) => Err(Problem::wrong_method(allowed)),
            Route::Kubernetes(facts) => self.kubernetes(facts, request, forwarded_headers, record).await,
        }
    }

    /// Identify, permit, delegate, forward.
    async fn kubernetes(
        &self,
        facts: Facts,
        request: Request<Incoming>,
        forwarded_headers: &ForwardedHeaders,
        record: &Record,
    ) -> Result<Response<Body>, Problem> {
        let identity = self.authenticator.identify(request.headers()).await?;
        record.identified(identity.credential());
        let ends_soon = identity.ends_soon(self.clock.now());
        let (parts, body) = request.into_parts();
        let permit = policy::permit(identity, facts, &parts, &self.origins)?;
        self.authenticator.note_use(permit.identity(), forwarded_headers.client);
        let delegated = self.broker.delegate(permit).await?;
        let request = Request::from_parts(parts, body);
        let mut forwarded = self.upstream.forward(delegated, request, forwarded_headers).await?;
        let headers = forwarded.response.headers_mut();
        if forwarded.refused_user {
            advise_sign_in(headers, &self.view);
        } else if let Some((what, left)) = ends_soon {
            advise_end(headers, &self.view, what, left);
        }
        Ok(forwarded.response)
    }
}
