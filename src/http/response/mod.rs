//! Answers: the head reduced to values, content codings, validators, and what an answer to a range request means.

pub(crate) mod coding;
pub(crate) mod disposition;
pub(crate) mod head;
pub(crate) mod location;
pub(crate) mod malformed_head;
pub(crate) mod validation;
pub(crate) mod version;
