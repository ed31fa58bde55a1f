//! Storage: one sparse data file for each cache entry, how it is written, and how a failing disk
//! shows.
//!
//! Callers are `entry` (open, read) and `fetch` (write). Nothing here knows which chunks are
//! present.

pub(crate) mod chunk_store;
pub(crate) mod data_file;
pub(super) mod descriptor_budget;
pub(super) mod descriptor_exhaustion;
pub(super) mod disk;
pub(super) mod disk_health;
pub(super) mod write_buffer;
