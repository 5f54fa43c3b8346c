//! HTTP without meaning: header rules as pure functions, the body of our answers, the layers at the outer edge.

pub mod body;
pub mod forwarded;
pub mod framing;
pub mod headers;
pub mod stack;
