//! The root of a tree: what the user named, and the first nodes.

pub(super) mod root_builder;
mod stored_kind;
pub(super) mod top;
