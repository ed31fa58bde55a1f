//! The way into the index: records are queued, and one thread commits many in one transaction.

pub(super) mod catalog_update;
pub(super) mod doubts;
pub(super) mod pending;
pub(super) mod record;
pub(super) mod tables;
pub(super) mod writer;
