//! Interprets responses with pure functions: the head as values, content codings, validators, and validation against
//! the request. `origin`'s client calls it for each response.

pub(crate) mod coding;
pub(crate) mod disposition;
pub(crate) mod head;
pub(crate) mod link;
pub(crate) mod location;
pub(crate) mod malformed_head;
pub(crate) mod validation;
pub(crate) mod version;
