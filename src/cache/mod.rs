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
//! - [`around`] brings bytes past all this, in memory, while there is [`trouble`] with the folder, or none yet ([`home`]).

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
mod home;
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
mod tolerance;
mod trouble;
pub mod upkeep;
mod versions;
mod wishes;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rangemap::RangeSet;
use tokio::runtime::Handle;
use url::Url;

use around::Around;
pub use catalogue::{Catalogue, StoredFile, StoredListing};
pub use chunk::ChunkSize;
pub use disk::STAT_BLOCK;
use downloader::{ChunkDownloader, OnResize};
pub use entry::{CacheEntry, Confirmed, EntryId, Settled, UrlKey};
pub use error::{CacheError, ReadError};
use home::{Folder, Home};
pub use index::{Holding, JobRow};
pub use manager::{ChunkManager, FetchControl, Fetcher, OnReady};
use quota::evictor::Evictor;
use quota::{QuotaConfig, Share};
pub use reader::{Filled, Read, Reader, Span};
use scheduler::Limits;
pub use scheduler::{OriginStatus, Priority, WaiterId};
pub use sequential::Sequential;
use shortage::Shortage;
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

impl CacheConfig {
    /// Bytes that the cache has to take at least: two chunks for each connection.
    fn least_size(&self) -> u64 {
        2 * self.max_connections as u64 * self.chunk_size.bytes()
    }

    /// Whether the size that the user has asked for is enough.
    fn check_size(&self) -> Result<(), CacheError> {
        let least = self.least_size();
        match self.quota.size {
            Some(Share::Bytes(size)) if size < least => Err(CacheError::TooSmall { size, least }),
            _ => Ok(()),
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

/// Bytes that the index grows by for a file of one chunk, at most; measured by
/// `the_index_grows_by_no_more_for_a_file_of_one_chunk_than_is_counted_for_it`.
pub const ROWS_OF_FILE: u64 = 1 << 10;

/// Entries that stay open after their last reader, so that opening them again asks neither SQLite
/// nor the file system. Each takes a file descriptor and three bits for each chunk.
const KEPT_OPEN: usize = 64;

/// See the module.
pub struct Cache {
    manager: Arc<ChunkManager>,
    downloader: Arc<ChunkDownloader>,
    patience: Duration,
    home: Arc<Home>,
    around: Around,
    folder: PathBuf,
    catalogue: Catalogue,
    /// Whether there is anybody to fetch ahead from.
    is_online: bool,
    chunk_size: ChunkSize,
    /// The most recently opened entries, the latest last. Nothing is taken under the lock.
    kept_open: Arc<Mutex<VecDeque<Arc<CacheEntry>>>>,
    /// What goes with the open folder.
    occupied: OnceLock<Occupied>,
}

/// See [`Cache::occupied`].
struct Occupied {
    tenancy: Tenancy,
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
    /// Opens the cache, and starts its threads and tasks on `runtime`. If its disk is full or read-only for now, that is told to the
    /// log, and files are read around the cache until the folder can be opened.
    ///
    /// # Errors
    /// When the folder or the index in it can't be used, and not because of the disk.
    pub fn open(
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
        on_resize: OnResize,
    ) -> Result<Arc<Cache>, CacheError> {
        config.check_size()?;
        let trouble = Arc::new(Trouble::none_in(&config.folder));
        let opened =
            Folder::open_or_make_way(&config.folder).and_then(|folder| folder.occupy(&config, Arc::clone(&trouble)));
        let (tenancy, versions) = match opened {
            Ok((tenancy, versions)) => (Some(tenancy), versions),
            Err(error) => {
                let why = home::may_pass(&config, &error).ok_or(error)?;
                trouble.folder_is_shut(&why);
                (None, Versions::standing_in(&config, trouble)?)
            }
        };
        Cache::with(versions, tenancy, config, client, runtime, on_resize)
    }

    /// Over a folder that is open.
    #[cfg(test)]
    fn over(
        folder: Folder,
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
        on_resize: OnResize,
    ) -> Result<Arc<Cache>, CacheError> {
        let trouble = Arc::new(Trouble::none_in(&config.folder));
        let occupied = folder.occupy(&config, trouble)?;
        Cache::with(occupied.1, Some(occupied.0), config, client, runtime, on_resize)
    }

    /// Over what is open, or what stands in for it.
    fn with(
        versions: Arc<Versions>,
        tenancy: Option<Tenancy>,
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
        on_resize: OnResize,
    ) -> Result<Arc<Cache>, CacheError> {
        let home = Home::new(versions);
        let writers = file_writer::start(&home).map_err(|error| no_thread(&config, &error))?;
        let is_online = !client.is_offline();
        let kept_open: Arc<Mutex<VecDeque<Arc<CacheEntry>>>> = Arc::default();
        let downloader = Arc::new(ChunkDownloader {
            runtime: runtime.clone(),
            client,
            throttle: Throttle::new(config.bandwidth),
            retries: config.retries,
            home: Arc::clone(&home),
            writers,
            on_resize,
            shortage: Shortage::new(closing(&kept_open)),
        });
        let limits = Limits {
            fetches_per_origin: config.max_connections,
            fetch_len: FETCH_LEN,
            split_distance: SPLIT_DISTANCE,
        };
        let around = Around::new(Arc::clone(&downloader), config.max_connections, config.read_timeout);
        let manager = ChunkManager::new(limits, config.read_timeout, Arc::clone(&downloader) as _);
        runtime.spawn(Arc::clone(&manager).watch_waits());
        let cache = Arc::new(Cache {
            manager,
            downloader,
            patience: config.read_timeout,
            around,
            folder: config.folder.clone(),
            catalogue: Catalogue::new(Arc::clone(&home)),
            home,
            is_online,
            chunk_size: config.chunk_size,
            kept_open,
            occupied: OnceLock::new(),
        });
        match tenancy {
            Some(tenancy) => cache.hold(tenancy, &config)?,
            None => home::keep_trying(&cache, config, runtime),
        }
        Ok(cache)
    }

    /// What belongs to an open folder, from now on.
    fn hold(&self, tenancy: Tenancy, config: &CacheConfig) -> Result<(), CacheError> {
        let evictor = Evictor::start(Arc::clone(self.versions()), closing(&self.kept_open));
        let _evictor = evictor.map_err(|error| no_thread(config, &error))?;
        // There is one folder for a cache.
        let _ = self.occupied.set(Occupied { tenancy, _evictor });
        Ok(())
    }

    /// Opens the folder that could not be opened when the cache was; true if that is done, and need not be tried again.
    fn moves_in(&self, config: &CacheConfig) -> bool {
        let trouble = Arc::clone(&self.versions().trouble);
        let opened =
            Folder::open_or_make_way(&config.folder).and_then(|folder| folder.occupy(config, Arc::clone(&trouble)));
        match opened {
            Ok((tenancy, versions)) => {
                self.home.moves_in(versions);
                if let Err(error) = self.hold(tenancy, config) {
                    log::warn!("no room is made in the cache: {error}");
                }
                trouble.folder_is_open();
                true
            }
            Err(error) => {
                log::debug!("{error}");
                false
            }
        }
    }

    fn versions(&self) -> &Arc<Versions> {
        self.home.versions()
    }

    /// Whether the folder could not be opened yet: then nothing can be kept.
    pub fn is_standing_in(&self) -> bool {
        self.home.is_standing_in()
    }

    /// What is kept of names and versions.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The current version of a URL, as far as its origin has told, if the cache holds any of it. One query.
    pub fn newest(&self, url: &Url) -> Option<Held> {
        let row = self.versions().index.newest(&UrlKey::new(url))?;
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
        let settled = self.versions().open(url, held.chunk, &held.version, held.modified)?;
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
        self.versions().index.cached_bytes()
    }

    /// Bytes that the cache may take on the disk.
    pub fn limit(&self) -> u64 {
        if self.is_standing_in() {
            return 0;
        }
        self.versions().quota.size()
    }

    /// Bytes that parts of a file of `size` bytes take on the disk: their chunks, in whole blocks.
    pub fn on_disk<'a>(&self, parts: impl Iterator<Item = &'a Range<u64>>, size: u64) -> u64 {
        let block = self.versions().quota.block();
        let chunks: RangeSet<u64> = parts.map(|bytes| self.chunk_size.touched(bytes)).collect();
        let bytes = chunks.iter().map(|chunks| self.chunk_size.bytes_of(chunks, size));
        bytes
            .map(|bytes| (bytes.end - bytes.start).next_multiple_of(block))
            .sum()
    }

    /// Bytes that can be in the cache without any of them having to make room again. Some system calls.
    pub fn room(&self) -> u64 {
        if self.is_standing_in() {
            return 0;
        }
        self.versions().quota.room()
    }

    /// Whether other mounts use the folder at this moment.
    pub fn is_shared(&self) -> bool {
        self.versions().quota.has_others()
    }

    /// Takes over what other mounts have recorded of these bytes of an entry. A query.
    pub fn learn(&self, entry: &CacheEntry, bytes: &Range<u64>) {
        if let Some(settled) = entry.settled() {
            let (resident, chunks) = (&settled.resident, entry.chunk.touched(bytes));
            resident.learn(|| self.versions().index.committed_chunks(&resident.key, &chunks));
        }
    }

    /// Whether the folder can't be written, as far as is known: then nothing is to be fetched ahead of need.
    pub fn is_in_trouble(&self) -> bool {
        self.versions().trouble.is_on()
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
        self.versions().index.sync();
    }

    /// To be called after [`Self::close`], when nobody waits for this process any more: ends recording, and if no other
    /// process uses the folder, sees to it that nothing has to be verified after a reboot. May take a moment.
    pub fn leave(&self) {
        self.versions().index.finish();
        if let Some(occupied) = self.occupied.get() {
            occupied.tenancy.leave(&self.versions().index);
        }
    }
}

/// What closes the files that are kept open without need.
fn closing(kept_open: &Arc<Mutex<VecDeque<Arc<CacheEntry>>>>) -> impl Fn() + Send + Sync + use<> {
    let kept = Arc::clone(kept_open);
    // Closing files takes system calls, and is not for under the lock.
    move || drop(std::mem::take(&mut *kept.lock()))
}

fn no_thread(config: &CacheConfig, error: &std::io::Error) -> CacheError {
    CacheError::Folder {
        path: config.folder.display().to_string(),
        reason: format!("no thread to write with: {error}"),
    }
}

#[cfg(test)]
mod tests;
