//! HTTP without users or rules of ours: which headers pass, the body of an answer, the layers around the application.

pub(crate) mod body;
pub(crate) mod forwarded;
pub(crate) mod framing;
pub(crate) mod headers;
pub(crate) mod layers;
