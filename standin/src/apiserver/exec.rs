//! To come.
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use serde_json::Value;

use super::call::{Answer, Call};
use super::cluster::Cluster;
use super::status::Failure;
use super::tunnel::Tunnels;

pub(crate) fn answer(
    _cluster: &Arc<Cluster>,
    _call: &Call,
    _pod: &Value,
    _tunnels: &Tunnels,
    _upgrade: OnUpgrade,
) -> Answer {
    Err(Failure::bad_request("Upgrade request required"))
}
