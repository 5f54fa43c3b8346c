//! Entrada: an authenticating reverse proxy for the Kubernetes API of an AKS cluster.
//!
//! The path of one request through the modules ("rooms"), in this order and never back:
//!
//! ```text
//! socket → listen → exchange → route ─┬─ our own path: pages → signin
//!                                     └─ Kubernetes:   identity → policy → broker → upstream → transport → API server
//!                                                      who?       may?     as them  the API    connections,
//!                                                                                   server     tunnels
//! ```
//!
//! Each stage returns evidence that the next one demands: `Identity` → `Permit` → `Delegated`. Their fields are private
//! and each is made in one place, so a request that skipped a stage does not compile. An error goes back to `exchange`,
//! where `problem` turns it into an answer.
//!
//! What always holds:
//!
//! - `upstream` takes nothing but a `Delegated`: no request leaves without its user's own AKS token, and there is no
//!   credential of the proxy's own that it could leave with instead.
//! - A credential that is presented and refused ends the matter; there is no second try with another one.
//! - `policy` and `route` are pure: no I/O, no `async`, no clock.
//! - `http`, `transport` and `listen` know no user and no rule; `entra` knows no session.
//! - Nobody but `app` names a store: all others hold a `dyn SessionStore`, whose records are plain data.
//! - What ends, here or on another replica, is published once, as `session::Ended`; open streams and cached tokens go by
//!   that event alone.
//! - No secret has a `Display`; its `Debug` says nothing. Queries are never logged.
//! - A store or an Entra that does not answer is never mistaken for "signed out".
//! - Nothing is buffered without a bound, and no stream has a total time limit.
//! - Every error text of ours stands in `problem`. (Of a request that hyper cannot parse, hyper says so itself.)

pub mod app;
pub mod cmd;

mod listen;

mod exchange;
mod record;

mod http;
pub mod route;

mod identity;
mod policy;

mod broker;
mod upstream;

mod streams;
mod transport;

mod pages;
mod signin;

mod problem;
mod view;

pub mod entra;
mod session;

mod admin;
mod upkeep;

mod budget;
pub mod clock;
pub mod config;
pub mod log;
mod metrics;
mod reload;
pub mod secret;
mod shutdown;
mod tls;
