//! The chunk cache: remote files in, bytes out.
//!
//! [`Cache`] is the door. [`Cache::reader`] opens a [`CacheEntry`]; a [`ReadAt`] of it copies bytes out of the data file at once, or
//! calls back when they are there, and [`Reader::read_at`] blocks until they are. Behind it:
//!
//! - [`ChunkManager`](fetch::manager::ChunkManager) decides what is fetched in which order and whom to wake ([`fetch::scheduler`]);
//! - [`ChunkDownloader`](fetch::downloader::ChunkDownloader) carries out fetches, over HTTP;
//! - [`ChunkStore`](storage::chunk_store::ChunkStore) holds the sparse data files ([`storage::data_file`]),
//!   `fetch::file_writer` fills them;
//! - [`ChunkIndex`](index::ChunkIndex) records in SQLite what is in them;
//! - [`Catalog`] keeps, in the same index, what origins have said of names and versions;
//! - `fetch::readahead` predicts what a reader needs next;
//! - [`quota`] counts space and [`eviction`] frees it: together they keep the cache within its
//!   size;
//! - [`integrity`] compares complete files with the hashes that their sources publish;
//! - `entry::memory_store` takes what is fetched while the directory is in trouble, or not open
//!   yet (`entry::cache_dir`).

mod catalog;
pub(crate) mod chunk;
mod config;
pub(crate) mod entry;
mod error;
pub(crate) mod eviction;
mod facade;
pub(crate) mod fetch;
mod handle;
pub(crate) mod index;
pub(crate) mod integrity;
pub(crate) mod key;
pub(crate) mod lifecycle;
pub(crate) mod quota;
mod settings;
pub(crate) mod sharing;
pub(crate) mod storage;

pub(crate) use catalog::{Catalog, ShownFile, StoredFile, StoredListing};
pub use chunk::ChunkSize;
pub use config::CacheConfig;
pub use entry::cache_entry::CacheEntry;
pub(crate) use entry::cache_entry::{Confirmed, Settled};
pub(crate) use error::{CacheError, ReadError};
pub use facade::Cache;
pub(crate) use facade::Held;
pub(crate) use fetch::manager::WaitingRead;
pub use fetch::scheduler::Priority;
pub(crate) use fetch::scheduler::{OriginStatus, WaiterId};
pub(crate) use handle::open_readers::{OpenReader, OpenReaders};
pub(crate) use handle::read_at::{ReadAt, Step};
pub(crate) use handle::reader::{Reader, SMALL_FILE};
pub(crate) use handle::scan::{Allowance, ReadBy, Scan};
pub(crate) use handle::sequential::Sequential;
pub(crate) use index::{JobRow, ROWS_OF_FILE};
pub(crate) use lifecycle::pins::{Evicted, Unpinned};
pub(crate) use settings::NewSize;
pub(crate) use sharing::JobLease;
pub(crate) use storage::disk::STAT_BLOCK;

#[cfg(test)]
mod tests;
