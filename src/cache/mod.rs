//! The chunk cache: remote files in, bytes out.
//!
//! [`Cache`] is the door. [`Cache::reader`] opens a [`CacheEntry`]; a [`ReadAt`] of it copies bytes out of the data file at once, or
//! calls back when they are there, and [`Reader::read_at`] blocks until they are. Behind it:
//!
//! - [`ChunkManager`] decides what is fetched in which order and whom to wake ([`fetch::scheduler`]);
//! - [`ChunkDownloader`](fetch::downloader::ChunkDownloader) carries out fetches, over HTTP;
//! - [`ChunkStore`](storage::chunk_store::ChunkStore) holds the sparse data files ([`storage::data_file`]),
//!   `fetch::file_writer` fills them;
//! - [`ChunkIndex`](index::ChunkIndex) records in SQLite what is in them;
//! - [`Catalog`] keeps, in the same index, what origins have said of names and versions;
//! - `fetch::readahead` predicts what a reader needs next;
//! - [`quota`] counts space and [`eviction`] frees it: together they keep the cache within its
//!   size;
//! - `bypass` reads in memory while the directory is in trouble, or not open yet
//!   (`entry::cache_dir`).

mod bypass;
mod catalog;
pub mod chunk;
mod config;
pub mod entry;
mod error;
pub mod eviction;
pub mod fetch;
mod handle;
pub mod index;
pub mod key;
pub mod lifecycle;
pub mod quota;
pub mod sharing;
pub mod storage;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rangemap::RangeSet;
use url::Url;

use bypass::Bypass;
pub use catalog::{Catalog, ShownFile, StoredFile, StoredListing};
pub use chunk::ChunkSize;
pub use config::CacheConfig;
use entry::cache_dir::CacheDir;
pub use entry::cache_entry::{CacheEntry, Confirmed, OnResize, Settled};
use entry::cached_file::Hold;
use entry::idle_files::IdleFiles;
use entry::version_store::VersionStore;
pub use error::{CacheError, ReadError};
use eviction::evictor::Evictor;
use fetch::downloader::ChunkDownloader;
pub use fetch::manager::{ChunkManager, Fetcher};
pub use fetch::scheduler::{OriginStatus, Priority, WaiterId};
pub use handle::read_at::{ReadAt, Step};
pub use handle::reader::Reader;
pub use handle::sequential::Sequential;
pub use index::JobRow;
pub use lifecycle::pins::{Evicted, JobLease, Unpinned};
use sharing::dir_lock::DirLock;
pub use storage::disk::STAT_BLOCK;

use crate::http::{Origin, Version};
use crate::origin::{Content, ListedSize, Sample};

/// Files up to this size, in bytes, are fetched whole at the first read of them.
pub const SMALL_FILE: u64 = 1 << 20;

/// Maximum bytes by which the index grows for a file of one chunk; measured by
/// `the_index_grows_by_no_more_for_a_file_of_one_chunk_than_is_counted_for_it`.
pub const ROWS_OF_FILE: u64 = 1 << 10;

/// The chunk cache of one mount.
pub struct Cache {
    manager: Arc<ChunkManager>,
    downloader: Arc<ChunkDownloader>,
    patience: Duration,
    cache_dir: Arc<CacheDir>,
    bypass: Bypass,
    folder: PathBuf,
    catalogue: Catalog,
    /// False if there is no origin to fetch ahead from.
    is_online: bool,
    chunk_size: ChunkSize,
    idle_files: Arc<IdleFiles>,
    /// The guards of the open directory.
    occupied: OnceLock<OpenFolder>,
}

/// The guards of an open directory.
struct OpenFolder {
    dir_lock: DirLock,
    /// Ends with the cache.
    _evictor: Evictor,
}

/// A version of which the cache holds some bytes.
#[derive(Debug, Clone)]
pub struct Held {
    /// The version.
    pub version: Version,
    /// When the remote file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    chunk: ChunkSize,
}

impl Cache {
    fn versions(&self) -> &Arc<VersionStore> {
        self.cache_dir.versions()
    }

    /// Returns true if the directory could not be opened yet: then nothing can be kept.
    pub fn is_fallback(&self) -> bool {
        self.cache_dir.is_fallback()
    }

    /// Why reads bypass the cache now, if they do: a sentence without its end.
    pub fn trouble(&self) -> Option<String> {
        self.versions().trouble.told()
    }

    /// The stored names and versions.
    pub fn catalogue(&self) -> &Catalog {
        &self.catalogue
    }

    /// The current version of a URL, as its origin last gave it, if the cache holds any of it. One
    /// query.
    pub fn newest(&self, url: &Url) -> Option<Held> {
        let row = self.versions().index.newest(&self.versions().url_key(url))?;
        Some(Held {
            version: row.version,
            modified: row.modified,
            chunk: row.chunk,
        })
    }

    /// An entry for a version that is known to be current. Some system calls and a query.
    ///
    /// # Errors [`ReadError::Store`] if it has too many chunks.
    pub fn entry(&self, mut content: Content, origin: Origin, held: &Held) -> Result<Arc<CacheEntry>, ReadError> {
        let versions = self.versions();
        let settled = versions.open(content.url(), held.chunk, &held.version, held.modified)?;
        // The listing's size may be another version's.
        content.size = ListedSize::Exact(held.version.size);
        let entry = CacheEntry::unsettled(content, origin, held.chunk);
        entry.settle(settled);
        Ok(Arc::new(entry))
    }

    /// Samples of a version's present bytes. Some system calls and a query.
    pub fn samples(&self, content: Content, origin: Origin, held: &Held) -> Vec<Sample> {
        self.entry(content, origin, held)
            .map_or_else(|_| Vec::new(), |entry| entry.samples())
    }

    /// An entry for a file of which only the source's word is known. If there are more bytes than that, `on_resize` is
    /// called.
    pub fn unsettled(&self, content: Content, origin: Origin, on_resize: OnResize) -> Arc<CacheEntry> {
        let entry = CacheEntry::unsettled(content, origin, self.chunk_size);
        Arc::new(entry.on_resize(on_resize))
    }

    /// The argument of [`Self::entry`] for a version just learnt from the origin.
    pub fn current(&self, url: &Url, version: Version, modified: Option<SystemTime>) -> Held {
        // An entry of an earlier mount keeps its chunk size.
        let chunk = self
            .newest(url)
            .filter(|held| held.version == version)
            .map_or(self.chunk_size, |held| held.chunk);
        Held {
            version,
            modified,
            chunk,
        }
    }

    /// Opens a file of unknown size. It is not cached.
    ///
    /// # Errors As the server's answer or its absence requires.
    pub async fn sequential(&self, url: &Url) -> Result<Sequential, ReadError> {
        Ok(Sequential::open(Arc::clone(&self.downloader), url, self.patience).await?)
    }

    /// Opens an entry for reading.
    pub fn reader(self: &Arc<Self>, entry: Arc<CacheEntry>) -> Arc<Reader> {
        entry.readers.fetch_add(1, Ordering::AcqRel);
        self.idle_files.keep(&entry);
        Arc::new(Reader::new(Arc::clone(self), entry))
    }

    /// Bytes in the cache.
    pub fn cached_bytes(&self) -> u64 {
        self.versions().index.cached_bytes()
    }

    /// Bytes that the cache may take on the disk.
    pub fn limit(&self) -> u64 {
        if self.is_fallback() {
            return 0;
        }
        self.versions().quota.size()
    }

    /// Bytes of these parts of a file of `size` bytes on the disk: their chunks, in whole blocks.
    pub fn on_disk<'a>(&self, parts: impl Iterator<Item = &'a Range<u64>>, size: u64) -> u64 {
        let block = self.versions().quota.block();
        let chunks: RangeSet<u64> = parts.map(|bytes| self.chunk_size.touched(bytes)).collect();
        let bytes = chunks.iter().map(|chunks| self.chunk_size.bytes_of(chunks, size));
        bytes
            .map(|bytes| (bytes.end - bytes.start).next_multiple_of(block))
            .sum()
    }

    /// Bytes that can be in the cache without evicting any of them. Some system calls.
    pub fn room(&self) -> u64 {
        if self.is_fallback() {
            return 0;
        }
        self.versions().quota.room()
    }

    /// Returns true if other mounts use the directory now.
    pub fn is_shared(&self) -> bool {
        self.versions().quota.has_others()
    }

    /// Learns what other mounts have recorded of these bytes of an entry. A query.
    pub fn learn(&self, entry: &CacheEntry, bytes: &Range<u64>) {
        if let Some(settled) = entry.settled() {
            let (cached_file, chunks) = (&settled.cached_file, entry.chunk.touched(bytes));
            let recorded = || self.versions().index.committed_chunks(&cached_file.key, &chunks);
            cached_file.learn(|| recorded().unwrap_or_default());
        }
    }

    /// Lets the kernel read the file by itself; see [`VersionStore::hold_for_kernel`].
    pub fn hold_for_kernel(&self, entry: &CacheEntry) -> Option<Hold> {
        self.versions().hold_for_kernel(entry)
    }

    /// Returns true if the directory can't be written, as far as is known: then nothing is fetched
    /// ahead.
    pub fn is_in_trouble(&self) -> bool {
        self.versions().trouble.is_on()
    }

    /// The chunk manager, for requests without a reader.
    pub fn manager(&self) -> &Arc<ChunkManager> {
        &self.manager
    }

    /// Wakes all readers with an error, ends all fetches, and returns when all chunks complete by
    /// then are recorded. A buffer that is still being written may miss that; it is fetched again.
    pub fn close(&self) {
        self.manager.close();
        self.bypass.close();
        self.versions().index.sync();
    }

    /// Call it after [`Self::close`], when no process waits for this one any more. Ends recording.
    /// If no other process uses the directory, makes the data durable, so that nothing has to be
    /// verified after a reboot. May take a moment.
    pub fn leave(&self) {
        self.versions().index.finish();
        if let Some(occupied) = self.occupied.get() {
            let index = &self.versions().index;
            if let Some(session) = index.session().filter(|_| occupied.dir_lock.sync_if_last()) {
                index.set_clean(session);
            }
        }
    }
}

#[cfg(test)]
mod tests;
