//! Stand-ins for what Entrada talks to, on loopback with real TLS: used by the tests and the demo, never shipped.
//!
//! - [`entra`]: a Microsoft Entra tenant that verifies what the real one verifies and refuses what it refuses.
//! - [`apiserver`]: a Kubernetes API server with a small memory of objects and real RBAC decisions.
//! - [`browser`]: a person's browser reduced to a cookie jar and the sign-in page's form.
//! - [`collector`]: a web server that audit events are posted to.
//! - [`dashboard`]: dashboards that ask an API server as the user whose bearer they are given.
//! - [`redis`]: no stand-in, but real Redis servers, started and broken.
//!
//! Invariants: a stand-in never trusts its caller (every token and assertion is verified by signature); it records
//! what it saw; time comes from one [`time::Time`] that a test may move.

pub mod apiserver;
pub mod browser;
pub mod collector;
pub mod dashboard;
pub mod entra;
pub mod pki;
pub mod redis;
pub mod serve;
pub mod time;

use std::sync::Arc;

/// Where a verifier finds the public key of a `kid`: in the stand-in Entra, its current key set.
pub type KeySource = Arc<dyn Fn(&str) -> Option<jsonwebtoken::DecodingKey> + Send + Sync>;
