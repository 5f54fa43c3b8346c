//! Entrada: an authenticating reverse proxy for the Kubernetes API of an AKS cluster.
//!
//! The path of one request, and the rooms that it walks through:
//!
//! ```text
//! socket → listen (TLS, h1/h2) → route ─┬─ own page → pages (sign-in, portal, tokens, kubeconfig)
//!                                       └─ Kubernetes → identity → policy → broker → upstream → API server
//!                                                        who?       may?     as them   forward or tunnel
//! ```
//!
//! Each stage returns evidence that the next demands: [`identity::Identity`] → [`policy::Permit`] →
//! [`broker::Delegated`]. Their fields are private and each is made in one place, so a request that skipped a stage
//! does not compile.
//!
//! What always holds:
//!
//! - `upstream` takes nothing but a `Delegated`: no request leaves without its user's own AKS token, and there is no
//!   credential of the proxy's own that it could leave with instead.
//! - A credential that is presented and refused ends the matter; there is no second try with another one.
//! - `policy` and `route` are pure: no I/O, no `async`, no clock.
//! - `http` and `listen` know no user and no rule; `entra` knows no session.
//! - No secret has a `Display`; its `Debug` says nothing. Queries are never logged.
//! - A store or an Entra that does not answer is never mistaken for "signed out".
//! - Nothing is buffered without a bound, and no stream has a total time limit.
//! - `problem` alone turns errors into responses.

mod exchange;
mod listen;

mod http;
pub mod route;

mod identity;
mod policy;

mod broker;
mod upstream;

mod pages;
mod signin;

mod problem;
mod view;

pub mod entra;
mod session;
mod streams;
mod transport;

mod admin;
pub mod app;
mod budget;
pub mod clock;
pub mod cmd;
pub mod config;
pub mod log;
mod metrics;
mod record;
mod reload;
pub mod secret;
mod shutdown;
mod tls;
mod upkeep;
