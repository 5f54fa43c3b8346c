//! Entrada: an authenticating reverse proxy for the Kubernetes API of an AKS cluster.
//!
//! The path of one request through the modules ("rooms"):
//!
//! ```text
//! socket
//!   listen        TLS, HTTP/1.1 or HTTP/2
//!   exchange      calls the stages below; turns their errors into answers, with `problem`
//!   route         whose host and path is it?
//!     ours:       pages      which use signin, identity, broker and session
//!     Kubernetes: identity   whose credential is it?               → Identity
//!                 policy     may a browser's cookie do this?       → Permit
//!                 quota      is it within the user's limits?       → Admitted
//!                 broker     gets the user's AKS token             → Delegated
//!                 upstream   sends the request as the user, cleans the answer's head
//!                 transport  connections and tunnels to the API server
//!     a dashboard's host:
//!                 identity   by that host's own cookie             → Identity
//!                 policy     may a page of this origin do this?    → Passage
//!                 quota      is it within the user's limits?       → AdmittedPassage
//!                 mounts     sends it to the dashboard, with a bearer for the API; over a transport of its own
//! ```
//!
//! Each stage returns evidence that the next one demands: `Identity` → `Permit` → `Admitted` → `Delegated` → `Reserved`
//! (what `upstream` needs to send it). Their fields are private and each is made in one module, so a request that skipped
//! a stage does not compile. There is one step back: after a 401 of the API server `upstream` asks the broker once for a
//! newer token.
//!
//! Beside all that stands `client`: what runs on a user's computer. It uses the clock, the secrets and the TLS client,
//! and nothing of the server, and is all that is built for Windows.
//!
//! What always holds:
//!
//! - `upstream` takes nothing but a `Delegated`: no request leaves without its user's own AKS token, and there is no
//!   credential of the proxy's own that it could leave with instead. (`doctor`, another process, asks the API server for
//!   its version with no credential at all.)
//! - `mounts` takes nothing but an `AdmittedPassage`, and no dashboard gets an AKS token, a cookie of ours, or a bearer that opens
//!   anything but the Kubernetes API.
//! - A credential that is presented and refused ends the matter; there is no second try with another one.
//! - `policy` and `route` are pure: no I/O, no `async`, no clock.
//! - `http`, `transport` and `listen` hold no rule about users; `transport` holds a stream's registration, which says
//!   when the stream must end. `entra` knows no session.
//! - Nobody but `app` names a store: all others hold a `dyn SessionStore`, whose records are plain data. What a backend
//!   keeps is sealed to the credentials; it holds no key.
//! - What this replica knows lets in; a refusal is always the store's.
//! - What ends, here or on another replica, is published once, as `session::Ended`. Cached tokens are dropped and open
//!   streams end on that event. Streams also end at their credential's deadline, when `upkeep` finds that the user has
//!   lost access or that a cookie went idle, and (watches) at a graceful stop.
//! - Nobody waits for the log or the audit log: both are written by threads of their own. In strict mode of the audit
//!   log, what cannot be recorded is refused before anything is done for it.
//! - One user never holds every connection to the API server, and no ordinary answer or body may stand still for ever.
//! - No secret type has a `Display`, and its `Debug` prints nothing of it. Queries are never logged.
//! - A store or an Entra that does not answer is never mistaken for "signed out".
//! - Nothing is buffered without a bound, and no stream has a total time limit.
//! - Every error answer of ours to a client is made in `problem`. What its sentence says of Entra stands in
//!   `entra::fault`, of a page's request body in `pages`. (To a request that hyper cannot parse, hyper answers itself.)

// The server runs on Unix alone; what a user's computer needs is built everywhere.

#[cfg(unix)]
pub mod app;
mod client;
pub mod cmd;
#[cfg(unix)]
mod doctor;

#[cfg(unix)]
mod listen;

#[cfg(unix)]
mod exchange;
#[cfg(unix)]
mod record;

#[cfg(unix)]
mod http;
#[cfg(unix)]
pub mod route;

#[cfg(unix)]
mod identity;
#[cfg(unix)]
mod policy;
#[cfg(unix)]
mod quota;

#[cfg(unix)]
mod broker;
#[cfg(unix)]
mod upstream;

#[cfg(unix)]
mod mounts;

#[cfg(unix)]
mod streams;
#[cfg(unix)]
mod transport;

#[cfg(unix)]
mod pages;
#[cfg(unix)]
mod signin;

#[cfg(unix)]
mod problem;
#[cfg(unix)]
mod view;

#[cfg(unix)]
pub mod entra;
#[cfg(unix)]
mod session;

#[cfg(unix)]
mod audit;

#[cfg(unix)]
mod admin;
#[cfg(unix)]
mod upkeep;

#[cfg(test)]
mod simulation;

#[cfg(unix)]
mod budget;
pub mod clock;
#[cfg(unix)]
pub mod config;
#[cfg(unix)]
mod json;
#[cfg(unix)]
pub mod log;
#[cfg(unix)]
mod metrics;
#[cfg(unix)]
mod outbox;
#[cfg(unix)]
mod reload;
pub mod secret;
#[cfg(unix)]
mod seldom;
#[cfg(unix)]
mod shutdown;
mod tls;
#[cfg(unix)]
mod trace;
