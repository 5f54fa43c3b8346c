//! Pure header rules, bodies and tower layers; no I/O, no user data.

pub(crate) mod body;
pub(crate) mod cors;
pub(crate) mod detached;
pub(crate) mod forwarded;
pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod layers;
pub(crate) mod unread;
