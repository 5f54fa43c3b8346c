//! The life of one request. This is the only place that calls the stages, in this order: identify the user, permit the
//! request, admit it within the user's limits, delegate it (get the user's own AKS token), reserve a connection, forward it
//! to the API server.

mod mounts;

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};

use crate::broker::Broker;
use crate::http::body::Body;
use crate::http::cors;
use crate::http::detached::detach;
use crate::http::forwarded::{ForwardedHeaders, Forwarding};
use crate::http::framing::has_one_meaning;
use crate::http::layers::{HttpService, layered};
use crate::http::unread::Unread;
use crate::identity::Authenticator;
use crate::mounts::Mounts;
use crate::pages::{Pages, Visit};
use crate::policy::{self, origin::Origins};
use crate::problem::{Asker, Problem, advise_end, advise_sign_in, panicked};
use crate::quota::Quotas;
use crate::record::{AUDIT_ID, Record, Sinks, audit_id};
use crate::route::{Facts, Hosts, Route, Shape, route};
use crate::upstream::{Reserved, Upstream};
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
    /// Admits within the user's limits.
    pub(crate) quotas: Arc<Quotas>,
    /// Delegates: gets the user's AKS token.
    pub(crate) broker: Arc<Broker>,
    /// Forwards to the API server.
    pub(crate) upstream: Arc<Upstream>,
    /// Dashboards on hosts of their own, their host names, and what renders errors on these.
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) hosts: Hosts,
    pub(crate) mount_views: Vec<View>,
    /// Makes the `X-Forwarded-*` headers that upstream gets.
    pub(crate) forwarding: Forwarding,
    /// Renders errors.
    pub(crate) view: Arc<View>,
    /// Where it is recorded who did what, and what came of it.
    pub(crate) sinks: Sinks,
}

/// What the requests of one connection share.
struct Connection {
    stages: Arc<Stages>,
    direct: ForwardedHeaders,
    sinks: Arc<Sinks>,
}

/// A request that has come in, and what is known of it before the first stage.
struct Arrived {
    parts: Parts,
    route: Route,
    /// What upstream is told of its way here.
    forwarded_headers: ForwardedHeaders,
    record: Arc<Record>,
    /// What the form of an error depends on.
    asker: Asker,
    /// The configured origin that it comes from.
    other_origin: Option<HeaderValue>,
}

impl Stages {
    /// The application as one connection from `peer` sees it.
    pub(crate) fn serve(self: Arc<Self>, peer: IpAddr) -> impl HttpService {
        let (direct, sinks) = (self.forwarding.direct(peer), self.sinks.of_connection());
        let connection = Arc::new(Connection { stages: self, direct, sinks });
        let handle = move |request| {
            let connection = connection.clone();
            // Put together before there is a future: an async function has room twice for each value that it is given, and
            // none for what it borrows. Boxed, because each layer around would otherwise copy it as it hands it on.
            let (mut arrived, body) = connection.stages.receive(request, &connection);
            Box::pin(async move { connection.stages.exchange(&mut arrived, body).await })
        };
        layered(handle, panicked)
    }

    /// Reads the head of a request, and begins its record.
    fn receive(&self, request: Request<Incoming>, connection: &Connection) -> (Arrived, Incoming) {
        let (mut parts, body) = request.into_parts();
        let other_origin = self.origins.configured(&parts.headers).cloned();
        let route_of = |parts: &Parts| route(parts, &self.hosts, other_origin.is_some());
        let mut route = route_of(&parts);
        // What is kept of it for as long as the stream lasts shall not keep the connection's read buffer too: 8 KiB for
        // each watch on HTTP/1.1, as a heap profile showed.
        if matches!(&route, Route::Kubernetes(facts) if facts.shape != Shape::Plain) {
            detach(&mut parts);
            route = route_of(&parts);
        }
        let forwarded_headers = self.forwarded_headers(&route, &connection.direct, &parts.headers);
        let audit_id = audit_id(&mut parts.headers);
        let (client, sinks) = (forwarded_headers.client, connection.sinks.clone());
        let record = Arc::new(Record::begin(&parts, &route, audit_id, client, sinks));
        let asker = self.asker(&route, &mut parts);
        (Arrived { parts, route, forwarded_headers, record, asker, other_origin }, body)
    }

    /// One request, to its answer's head. Every error becomes an answer here.
    async fn exchange(&self, arrived: &mut Arrived, body: Incoming) -> Response<Body> {
        let (handled, rest) = self.handle(arrived, body).await;
        let Arrived { route, record, asker, other_origin, .. } = arrived;
        let mut refusal = None;
        let mut response = handled.unwrap_or_else(|problem| {
            refusal = Some(problem.refusal());
            problem.note(record, &self.sinks.metrics);
            problem.respond(asker, self.view_of(route))
        });
        response.headers_mut().entry(AUDIT_ID).or_insert_with(|| record.audit_id().clone());
        if self.origins.has_configured() && route.is_shared() {
            cors::share(response.headers_mut(), other_origin.as_ref());
        }
        if let Some(rest) = rest {
            Unread::attach(rest, &mut response);
        }
        record.answered(response.status(), refusal);
        response
    }

    /// The answer, and the request's body where nobody wanted it, or not all of it.
    async fn handle(
        &self,
        arrived: &mut Arrived,
        mut body: Incoming,
    ) -> (Result<Response<Body>, Problem>, Option<Incoming>) {
        let Arrived { parts, route, forwarded_headers, record, .. } = arrived;
        if !has_one_meaning(&parts.headers) {
            record.unidentified(parts);
            return (Err(Problem::ambiguous_framing()), Some(body));
        }
        match route {
            Route::Page(page) => {
                // Boxed, so that its large future is not part of every Kubernetes request's.
                let visit = Visit::new(page.is_shared(), parts, &mut body, forwarded_headers, record);
                let visit = Box::pin(self.pages.visit(page.clone(), visit));
                (visit.await, Some(body))
            }
            Route::Preflight => (Ok(cors::preflight_answer(&parts.headers)), Some(body)),
            Route::WrongMethod(allowed) => (Err(Problem::wrong_method(allowed.clone())), Some(body)),
            Route::TwoHosts => (Err(Problem::two_hosts()), Some(body)),
            Route::Mount(at) => Box::pin(self.at_mount(at, parts, body, forwarded_headers, record)).await,
            Route::Kubernetes(facts) => match self.prepare(facts, parts, forwarded_headers, record).await {
                Err(problem) => (Err(problem), Some(body)),
                Ok(reserved) => (self.forward(reserved, parts, body, forwarded_headers).await, None),
            },
        }
    }

    /// Identify, permit, admit, delegate, reserve.
    async fn prepare(
        &self,
        facts: &Arc<Facts>,
        parts: &Parts,
        forwarded_headers: &ForwardedHeaders,
        record: &Arc<Record>,
    ) -> Result<Reserved, Problem> {
        let identified = self.authenticator.identify(&parts.headers).await;
        let identity = identified.inspect_err(|_| record.unidentified(parts))?;
        record.identified(identity.credential(), identity.session());
        record.received(parts)?;
        self.sinks.metrics.credential_lookups.count(identity.was_known());
        let permit = policy::permit(identity, facts.clone(), parts, &self.origins)?;
        let admitted = self.quotas.admit(permit).await?;
        self.authenticator.note_use(admitted.identity(), forwarded_headers.client);
        let delegated = self.broker.delegate(admitted).await?;
        self.sinks.metrics.aks_tokens.count(delegated.was_cached());
        Ok(self.upstream.reserve(delegated, record).await?)
    }

    async fn forward(
        &self,
        reserved: Reserved,
        parts: &mut Parts,
        body: Incoming,
        forwarded_headers: &ForwardedHeaders,
    ) -> Result<Response<Body>, Problem> {
        let ends_soon = reserved.identity().ends_soon();
        let has_body = !body.is_end_stream();
        let forwarded = self.upstream.forward(reserved, parts, body, forwarded_headers).await;
        // What was left of the body is gone with the request, and the connection must go with it.
        let mut forwarded =
            forwarded.map_err(|error| Problem::from(error).closing_connection_if(has_body))?;
        let headers = forwarded.response.headers_mut();
        if forwarded.refused_user {
            advise_sign_in(headers, &self.view);
        } else if let Some((what, left)) = ends_soon {
            advise_end(headers, &self.view, what, left);
        }
        Ok(forwarded.response)
    }
}
