//! The queries of the index, by caller: opening a file, eviction, the catalog, pins, and `fetchfs
//! cache`.

pub(super) mod catalog;
pub(super) mod entries;
pub(super) mod eviction;
pub(super) mod pins;
pub(super) mod stats;
