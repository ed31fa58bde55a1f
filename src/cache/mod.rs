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
//! - [`readahead`] guesses what a reader will want next; [`quota`] keeps the whole to its size;
//! - [`around`] brings bytes past all this, in memory, while there is [`trouble`] with the folder.

mod around;
mod breadth;
mod catalogue;
pub mod chunk;
mod descriptors;
mod disk;
pub mod downloader;
pub mod entry;
mod error;
mod file_writer;
mod gathered;
pub mod index;
mod manager;
mod pace;
mod presence;
pub mod quota;
mod readahead;
mod reader;
pub mod resident;
mod residents;
pub mod scheduler;
mod sequential;
mod shortage;
pub mod store;
mod suspects;
mod tenancy;
mod trouble;
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

use around::Around;
pub use catalogue::{Catalogue, StoredFile, StoredListing};
pub use chunk::ChunkSize;
use downloader::{ChunkDownloader, OnResize};
pub use entry::{CacheEntry, Confirmed, EntryId, Settled, UrlKey};
pub use error::{CacheError, ReadError};
use index::ChunkIndex;
pub use index::{Holding, JobRow};
pub use manager::{ChunkManager, FetchControl, Fetcher, OnReady};
use quota::evictor::Evictor;
use quota::{Quota, QuotaConfig};
pub use reader::{Filled, Read, Reader, Span};
use residents::Residents;
use scheduler::Limits;
pub use scheduler::{OriginStatus, Priority, WaiterId};
pub use sequential::Sequential;
use shortage::Shortage;
use store::ChunkStore;
use tenancy::Tenancy;
use trouble::Trouble;
use versions::Versions;
pub use wishes::{Bringing, Evicted, JobTurn, Unpinned};

use crate::http::{Client, Origin, Throttle, Version};

/// What the cache goes by.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The folder that holds the index and the data files.
    pub folder: PathBuf,
    /// The size of the chunks of entries that are new. Default: 256 KiB.
    pub chunk_size: ChunkSize,
    /// What the cache may take.
    pub quota: QuotaConfig,
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
            quota: QuotaConfig::default(),
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

/// Entries that stay open after their last reader, so that opening them again asks neither SQLite
/// nor the file system. Each takes a file descriptor and three bits for each chunk.
const KEPT_OPEN: usize = 64;

/// See the module.
pub struct Cache {
    manager: Arc<ChunkManager>,
    downloader: Arc<ChunkDownloader>,
    patience: Duration,
    versions: Arc<Versions>,
    around: Around,
    tenancy: Tenancy,
    folder: PathBuf,
    catalogue: Catalogue,
    /// Whether there is anybody to fetch ahead from.
    is_online: bool,
    chunk_size: ChunkSize,
    /// The most recently opened entries, the latest last. Nothing is taken under the lock.
    kept_open: Arc<Mutex<VecDeque<Arc<CacheEntry>>>>,
    /// Ends with the cache.
    _evictor: Evictor,
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
        // The index would have to look at all of its entries. It is asked if nobody has left a count, or one that may not have
        // reached the disk before the machine went down.
        let counted = quota::ledger::counted(&config.folder).filter(|_| index.is_of_this_boot());
        let quota = Quota::open(
            &config.folder,
            &config.quota,
            counted.unwrap_or_else(|| index.cached_bytes()),
        )?;
        let least = 2 * config.max_connections as u64 * config.chunk_size.bytes();
        if quota.size() < least {
            let size = quota.size();
            return Err(CacheError::TooSmall { size, least });
        }
        let no_thread = |error: std::io::Error| CacheError::Folder {
            path: config.folder.display().to_string(),
            reason: format!("no thread to write with: {error}"),
        };
        let trouble = Arc::new(Trouble::none_in(&config.folder));
        let has_holes = store.has_holes();
        if !has_holes {
            log::warn!(
                "{}: its file system can't give back parts of files, so nothing is cached there: files are read around it; choose \
                 another place with --cache-dir",
                config.folder.display()
            );
        }
        let versions = Arc::new(Versions {
            has_holes,
            store,
            index: Arc::new(index),
            residents: Residents::default(),
            quota,
            restoring: Mutex::default(),
            trouble,
        });
        let writers = file_writer::start(&versions).map_err(no_thread)?;
        let catalogue = Catalogue::new(Arc::clone(&versions.index), Arc::clone(&versions.quota));
        let is_online = !client.is_offline();
        let kept_open: Arc<Mutex<VecDeque<Arc<CacheEntry>>>> = Arc::default();
        let kept = Arc::clone(&kept_open);
        // Closing files takes system calls, and is not for under the lock.
        let let_go = move || drop(std::mem::take(&mut *kept.lock()));
        let downloader = Arc::new(ChunkDownloader {
            runtime: runtime.clone(),
            client,
            throttle: Throttle::new(config.bandwidth),
            retries: config.retries,
            versions: Arc::clone(&versions),
            writers,
            on_resize,
            shortage: Shortage::new(let_go.clone()),
        });
        let limits = Limits {
            fetches_per_origin: config.max_connections,
            fetch_len: FETCH_LEN,
            split_distance: SPLIT_DISTANCE,
        };
        let around = Around::new(Arc::clone(&downloader), config.max_connections, config.read_timeout);
        let manager = ChunkManager::new(limits, config.read_timeout, Arc::clone(&downloader) as _);
        runtime.spawn(Arc::clone(&manager).watch_waits());
        let evictor = Evictor::start(Arc::clone(&versions), let_go).map_err(no_thread)?;
        Ok(Arc::new(Cache {
            manager,
            downloader,
            patience: config.read_timeout,
            versions,
            around,
            tenancy,
            folder: config.folder,
            catalogue,
            is_online,
            chunk_size: config.chunk_size,
            kept_open,
            _evictor: evictor,
        }))
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
    /// [`ReadError::Store`] when it has too many chunks.
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
        // An earlier version is not kept for anybody: it is to go first, and what is open is ranked by its use alone.
        let of_file: VecDeque<_>;
        (of_file, *kept) = std::mem::take(&mut *kept)
            .into_iter()
            .partition(|other| other.url == entry.url);
        kept.push_back(Arc::clone(&entry));
        let crowded_out = (kept.len() > KEPT_OPEN).then(|| kept.pop_front());
        drop(kept);
        // Closing files takes system calls, and is not for under the lock.
        drop((of_file, crowded_out));
        Reader::new(Arc::clone(self), entry)
    }

    /// Does not keep an entry open: the next one who opens it gets another.
    fn let_go_of(&self, entry: EntryId) {
        self.kept_open.lock().retain(|kept| kept.id != entry);
    }

    /// Bytes that the cache holds.
    pub fn cached_bytes(&self) -> u64 {
        self.versions.index.cached_bytes()
    }

    /// Bytes that the cache may take on the disk.
    pub fn limit(&self) -> u64 {
        self.versions.quota.size()
    }

    /// Bytes that can be in the cache without any of them having to make room again. Some system calls.
    pub fn room(&self) -> u64 {
        self.versions.quota.room()
    }

    /// Whether other mounts use the folder at this moment.
    pub fn is_shared(&self) -> bool {
        self.versions.quota.has_others()
    }

    /// Takes over what other mounts have recorded of these bytes of an entry. A query.
    pub fn learn(&self, entry: &CacheEntry, bytes: &Range<u64>) {
        if let Some(settled) = entry.settled() {
            let (resident, chunks) = (&settled.resident, entry.chunk.touched(bytes));
            resident.learn(|| self.versions.index.committed_chunks(&resident.key, &chunks));
        }
    }

    /// Whether the folder can't be written, as far as is known: then nothing is to be fetched ahead of need.
    pub fn is_in_trouble(&self) -> bool {
        self.versions.trouble.is_on()
    }

    /// The chunk manager, for requests that no reader makes.
    pub fn manager(&self) -> &Arc<ChunkManager> {
        &self.manager
    }

    /// Wakes all readers with an error, ends all fetches, and returns when all chunks that are whole
    /// by then are recorded. A buffer that is still being written may miss that; it is fetched again.
    pub fn close(&self) {
        self.manager.close();
        self.around.close();
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
        Err(CacheError::Index { is_damaged: true, .. }) => ChunkIndex::begin_anew(folder, store),
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
