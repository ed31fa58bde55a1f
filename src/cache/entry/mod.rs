//! One version of one remote file in the cache: its entry, the handles on it, and which of its
//! chunks are present.
//!
//! A handle opens a [`cache_entry`]. The `version_store` finds or creates the [`cached_file`]
//! with its data file and `chunk_bitmap`. Presence of a chunk is decided only here: `storage`
//! holds bytes, `index` holds rows, and both follow.

pub(super) mod cache_dir;
pub(crate) mod cache_entry;
pub(crate) mod cached_file;
pub(super) mod cached_files;
pub(super) mod chunk_bitmap;
pub(super) mod idle_files;
pub(super) mod memory_store;
pub(super) mod position;
pub(super) mod unverified;
pub(super) mod version_store;
