//! What is asked of the index, by who asks: opening a file, eviction, the catalog, pins, and `fetchfs cache`.

pub(super) mod catalog;
pub(super) mod entries;
pub(super) mod eviction;
pub(super) mod pins;
pub(super) mod stats;
