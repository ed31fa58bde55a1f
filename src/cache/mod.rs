//! Remote files → bytes: the chunk cache.
//!
//! [`Cache`] is the door. [`Cache::open`] gives a [`Reader`] on a [`CacheEntry`]; [`Reader::read`]
//! says at once that a range is in the data file, or calls back when it is. Behind it:
//!
//! - [`ChunkManager`] decides what is fetched in which order and whom to wake ([`scheduler`]);
//! - [`ChunkDownloader`](downloader::ChunkDownloader) carries fetches out, over HTTP;
//! - [`ChunkStore`](store::ChunkStore) has the sparse data files, [`file_writer`] fills them;
//! - [`ChunkIndex`](index::ChunkIndex) records in SQLite what is in them;
//! - [`Catalogue`] keeps, in the same index, what origins have said of names and versions;
//! - [`readahead`] guesses what a reader will want next; [`eviction`] keeps the whole to its size.

mod catalogue;
pub mod chunk;
mod disk;
pub mod downloader;
pub mod entry;
mod error;
mod eviction;
mod file_writer;
mod gathered;
pub mod index;
mod manager;
mod pace;
mod presence;
mod readahead;
pub mod scheduler;
mod sequential;
pub mod store;
mod suspects;
mod tenancy;
pub mod upkeep;
mod versions;
mod wishes;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

pub use catalogue::{Catalogue, StoredFile, StoredListing};
pub use chunk::ChunkSize;
use downloader::{ChunkDownloader, OnResize};
pub use entry::{CacheEntry, Confirmed, EntryId, Settled, UrlKey};
pub use error::{CacheError, ReadError};
use eviction::Room;
use index::ChunkIndex;
pub use index::{Holding, JobRow};
pub use manager::{ChunkManager, FetchControl, Fetcher, OnReady};
use readahead::ReadAhead;
use scheduler::Limits;
pub use scheduler::{OriginStatus, Priority, WaiterId};
pub use sequential::Sequential;
use store::ChunkStore;
use tenancy::Tenancy;
use versions::Versions;
pub use wishes::{Evicted, Unpinned};

use crate::http::{Client, Origin, Throttle, Version};

/// What the cache goes by.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The folder that holds the index and the data files.
    pub folder: PathBuf,
    /// The size of the chunks of entries that are new. Default: 256 KiB.
    pub chunk_size: ChunkSize,
    /// Bytes that the cache may take, about; see [`eviction`]. Default: no limit.
    pub size_limit: Option<u64>,
    /// Fetches at once to one origin. Default: 16.
    pub max_connections: usize,
    /// Bytes per second, over all fetches. Default: no limit.
    pub bandwidth: Option<u64>,
    /// Tries after the first. Default: 3.
    pub retries: u32,
    /// How long a reader waits at most. Default: 2 minutes.
    pub read_timeout: Duration,
}

impl CacheConfig {
    /// The defaults, in this folder.
    pub fn in_folder(folder: &Path) -> CacheConfig {
        CacheConfig {
            folder: folder.to_owned(),
            chunk_size: chunk::DEFAULT_CHUNK_SIZE,
            size_limit: None,
            max_connections: 16,
            bandwidth: None,
            retries: 3,
            read_timeout: Duration::from_secs(120),
        }
    }
}

/// Bytes that one fetch asks for, at most. Shorter ones spend more of their time waiting for the first byte; longer ones
/// keep a sequential reader waiting for the one it is in. By the simulated line of the scheduler's tests (16 connections of
/// 20 MB/s and 50 ms), 4 GiB in sequence: 286 MB/s with 8 MiB, 294 with 12.
const FETCH_LEN: u64 = 12 << 20;

/// A reader does not wait for a fetch to get over more than this: at the 20 MB/s of a common
/// connection that takes as long as a round trip of 50 ms, which a fetch of its own takes too.
const SPLIT_DISTANCE: u64 = 1 << 20;

/// Files up to this size, in bytes, are fetched whole at the first read of them.
pub const SMALL_FILE: u64 = 1 << 20;

/// Complete entries that stay open after their last reader, so that opening them again asks neither SQLite
/// nor the file system. (An unfinished one is let go of: it is locked against other mounts.) Each takes a file descriptor and a bit for each chunk.
const KEPT_OPEN: usize = 64;

/// See the module.
pub struct Cache {
    manager: Arc<ChunkManager>,
    downloader: Arc<ChunkDownloader>,
    patience: Duration,
    versions: Arc<Versions>,
    tenancy: Tenancy,
    catalogue: Catalogue,
    /// Whether there is anybody to fetch ahead from.
    is_online: bool,
    chunk_size: ChunkSize,
    /// The most recently opened entries, the latest last. Nothing is taken under the lock.
    kept_open: Mutex<VecDeque<Arc<CacheEntry>>>,
}

/// A version that the cache holds some of.
#[derive(Debug, Clone)]
pub struct Held {
    /// The version.
    pub version: Version,
    /// When the remote file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    chunk: ChunkSize,
}

impl Cache {
    /// Opens the cache, and starts its threads and tasks on `runtime`.
    ///
    /// # Errors
    /// When the folder or the index in it can't be used.
    pub fn open(
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
        on_resize: OnResize,
    ) -> Result<Arc<Cache>, CacheError> {
        Cache::over(Folder::open(&config.folder)?, config, client, runtime, on_resize)
    }

    fn over(
        folder: Folder,
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
        on_resize: OnResize,
    ) -> Result<Arc<Cache>, CacheError> {
        let Folder { tenancy, store, index } = folder;
        let room = config.size_limit.map(|limit| Arc::new(Room::new(limit)));
        let versions = Arc::new(Versions {
            store,
            index: Arc::new(index),
            restoring: Mutex::default(),
        });
        let writers = file_writer::start(&versions, room.clone()).map_err(|error| CacheError::Folder {
            path: config.folder.display().to_string(),
            reason: format!("no thread to write with: {error}"),
        })?;
        let catalogue = Catalogue::new(Arc::clone(&versions.index));
        let is_online = !client.is_offline();
        let downloader = Arc::new(ChunkDownloader {
            runtime: runtime.clone(),
            client,
            throttle: Throttle::new(config.bandwidth),
            retries: config.retries,
            versions: Arc::clone(&versions),
            writers,
            on_resize,
        });
        let limits = Limits {
            fetches_per_origin: config.max_connections,
            fetch_len: FETCH_LEN,
            split_distance: SPLIT_DISTANCE,
        };
        let manager = ChunkManager::new(limits, config.read_timeout, Arc::clone(&downloader) as _);
        runtime.spawn(Arc::clone(&manager).watch_waits());
        let cache = Arc::new(Cache {
            manager,
            downloader,
            patience: config.read_timeout,
            versions: Arc::clone(&versions),
            tenancy,
            catalogue,
            is_online,
            chunk_size: config.chunk_size,
            kept_open: Mutex::default(),
        });
        if let Some(room) = room {
            let weak = Arc::downgrade(&cache);
            let let_go = move || {
                let kept = weak.upgrade().map(|cache| std::mem::take(&mut *cache.kept_open.lock()));
                // Closing their files takes system calls, and is not for under the lock.
                drop(kept);
            };
            runtime.spawn(eviction::keep(room, versions, let_go));
        }
        Ok(cache)
    }

    /// What is kept of names and versions.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The current version of a URL, as far as its origin has told, if the cache holds any of it. One query.
    pub fn newest(&self, url: &Url) -> Option<Held> {
        let row = self.versions.index.newest(&UrlKey::new(url))?;
        Some(Held {
            version: row.version,
            modified: row.modified,
            chunk: row.chunk,
        })
    }

    /// An entry for a version that is known to be the current one. Some system calls and a query.
    ///
    /// # Errors
    /// [`ReadError::Store`] when its data file can't be opened.
    pub fn entry(&self, url: &Url, origin: Origin, tag: u64, held: &Held) -> Result<Arc<CacheEntry>, ReadError> {
        let settled = self.versions.open(url, held.chunk, &held.version, held.modified)?;
        let entry = CacheEntry::unsettled(url.clone(), origin, held.chunk, tag, held.version.size);
        entry.settle(settled);
        Ok(Arc::new(entry))
    }

    /// An entry for a file of which only a listing's word is known: `size_hint` bytes.
    pub fn unsettled(&self, url: &Url, origin: Origin, tag: u64, size_hint: u64) -> Arc<CacheEntry> {
        Arc::new(CacheEntry::unsettled(
            url.clone(),
            origin,
            self.chunk_size,
            tag,
            size_hint,
        ))
    }

    /// What [`Self::entry`] takes, for a version that was just learnt from the origin.
    pub fn current(&self, url: &Url, version: Version, modified: Option<SystemTime>) -> Held {
        // An entry that an earlier mount began keeps the chunk size that it has.
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

    /// Opens a file whose size nobody can tell. It is not cached.
    ///
    /// # Errors
    /// As the server's answer or its absence asks.
    pub async fn sequential(&self, url: &Url) -> Result<Sequential, ReadError> {
        Ok(Sequential::open(Arc::clone(&self.downloader), url, self.patience).await?)
    }

    /// Opens an entry for reading.
    pub fn reader(self: &Arc<Self>, entry: Arc<CacheEntry>) -> Reader {
        entry.readers.fetch_add(1, Ordering::AcqRel);
        let mut kept = self.kept_open.lock();
        kept.retain(|other| other.id != entry.id);
        kept.push_back(Arc::clone(&entry));
        let crowded_out = (kept.len() > KEPT_OPEN).then(|| kept.pop_front());
        drop(kept);
        // Closing its file is a system call, and not for under the lock.
        drop(crowded_out);
        Reader {
            cache: Arc::clone(self),
            entry,
            ahead: Mutex::default(),
        }
    }

    /// Keeps an entry open no longer than its readers do.
    fn let_go_of(&self, id: EntryId) {
        let mut kept = self.kept_open.lock();
        let at = kept.iter().position(|entry| entry.id == id);
        let entry = at.and_then(|at| kept.remove(at));
        drop(kept);
        // As above: closing it is not for under the lock.
        drop(entry);
    }

    /// Bytes that the cache holds.
    pub fn cached_bytes(&self) -> u64 {
        self.versions.index.cached_bytes()
    }

    /// The chunk manager, for requests that no reader makes.
    pub fn manager(&self) -> &Arc<ChunkManager> {
        &self.manager
    }

    /// Wakes all readers with an error, ends all fetches, and returns when all chunks that are whole
    /// by then are recorded. A buffer that is still being written may miss that; it is fetched again.
    pub fn close(&self) {
        self.manager.close();
        self.versions.index.sync();
    }

    /// To be called after [`Self::close`], when nobody waits for this process any more: ends recording, and if no other
    /// process uses the folder, sees to it that nothing has to be verified after a reboot. May take a moment.
    pub fn leave(&self) {
        self.versions.index.finish();
        self.tenancy.leave(&self.versions.index);
    }
}

/// A cache folder that is open.
struct Folder {
    tenancy: Tenancy,
    store: ChunkStore,
    index: ChunkIndex,
}

impl Folder {
    /// Enters the folder, making what is missing in it.
    fn open(folder: &Path) -> Result<Folder, CacheError> {
        let store = ChunkStore::open(folder)?;
        let tenancy = Tenancy::enter(folder);
        let index = open_index(folder, &store)?;
        Ok(Folder { tenancy, store, index })
    }
}

/// Opens the index; one that is damaged is replaced by an empty one, and the data files that it knew are deleted.
fn open_index(folder: &Path, store: &ChunkStore) -> Result<ChunkIndex, CacheError> {
    match ChunkIndex::open(folder) {
        Err(CacheError::Index {
            path, is_damaged: true, ..
        }) => {
            ChunkIndex::set_aside(folder).map_err(|error| CacheError::Folder {
                path,
                reason: error.to_string(),
            })?;
            store.remove_all_unused();
            ChunkIndex::open(folder)
        }
        opened => opened,
    }
}

/// One open handle on a cache entry.
pub struct Reader {
    cache: Arc<Cache>,
    entry: Arc<CacheEntry>,
    /// Taken for the moment of a decision; nothing is taken under it.
    ahead: Mutex<ReadAhead>,
}

/// What became of a read.
pub enum Read {
    /// These bytes are in the data file, for [`Reader::fill`].
    Ready(Range<u64>),
    /// The callback will be called, or has been. The number is for [`Reader::cancel`].
    Waiting(WaiterId),
}

impl Reader {
    /// The entry.
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }

    /// Reads `len` bytes from `offset`. Bytes that are present cost neither SQL nor a lock that
    /// anybody else holds; otherwise `later` makes the callback that is called when they are.
    pub fn read(&self, offset: u64, len: u64, later: impl FnOnce() -> OnReady) -> Read {
        let settled = self.entry.settled();
        let size = self.entry.size();
        let bytes = offset.min(size)..offset.saturating_add(len).min(size);
        if settled.is_some_and(|settled| settled.presence.is_complete()) {
            return Read::Ready(bytes);
        }
        let is_here = self.entry.has_byte_range(&bytes);
        let ahead = self.ahead.lock().note(&bytes, size, !is_here);
        let ahead = ahead.filter(|_| self.cache.is_online);
        if is_here {
            if let Some(ahead) = ahead {
                self.cache.manager.request(&self.entry, ahead, Priority::High);
            }
            return Read::Ready(bytes);
        }
        let ahead = if size <= SMALL_FILE { Some(0..size) } else { ahead };
        // Unclipped: if the listing had the size wrong, the bytes past it count too.
        let bytes = offset..offset.saturating_add(len);
        Read::Waiting(self.cache.manager.when_ready(&self.entry, bytes, ahead, later()))
    }

    /// Ends a wait: the callback is called with [`ReadError::Cancelled`], unless it was called before.
    pub fn cancel(&self, waiter: WaiterId) {
        self.cache.manager.cancel(waiter);
    }

    /// Clips a range that the callback was called for to the file, by its true size.
    pub fn clip(&self, bytes: Range<u64>) -> Range<u64> {
        let size = self.entry.size();
        bytes.start.min(size)..bytes.end.min(size)
    }

    /// Fills `buf` with bytes that are present, from `offset`.
    ///
    /// # Errors
    /// [`ReadError::Lost`] when they turn out to be gone: they are forgotten, and another [`Self::read`] fetches them.
    /// [`ReadError::Store`] when the data file can't be read.
    pub fn fill(&self, buf: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let Some(settled) = self.entry.settled() else {
            // An empty range of a file that nobody has asked for yet.
            return if buf.is_empty() {
                Ok(())
            } else {
                Err(ReadError::Store("no data file yet".into()))
            };
        };
        let bytes = offset..offset + buf.len() as u64;
        let was_present = self.entry.has_byte_range(&bytes);
        match settled.data.read_exact_at(buf, offset) {
            // Cut off, found out and made whole by another thread meanwhile, it would have given zeros.
            Ok(()) if was_present && !self.entry.has_byte_range(&bytes) => Err(ReadError::Lost),
            Ok(()) => Ok(()),
            Err(error) if self.cache.versions.recover(&self.entry, settled, &bytes, &error) => Err(ReadError::Lost),
            Err(error) => Err(ReadError::Store(error.to_string())),
        }
    }

    /// The reader has gone, or seems to: nothing more is read ahead for it.
    pub fn end_read_ahead(&self) {
        self.ahead.lock().forget();
        if self.entry.readers.load(Ordering::Acquire) <= 1 {
            self.cache.manager.end_read_ahead(self.entry.id);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Counted down first: of two readers that go at once, the second one sees that it is the last.
        if self.entry.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.cache.manager.end_read_ahead(self.entry.id);
            let is_complete = self
                .entry
                .settled()
                .is_some_and(|settled| settled.presence.is_complete());
            if !is_complete {
                // Only complete files are shared with other mounts: an unfinished one is not to be held without need.
                self.cache.let_go_of(self.entry.id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
