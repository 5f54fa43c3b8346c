//! HTTP without meaning: header rules as pure functions, the body of our answers, the layers at the outer edge.

pub(crate) mod body;
pub(crate) mod forwarded;
pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod layers;
