//! The quota: a hard limit of the cache's size.
//!
//! **Space is reserved before bytes are written** (`reservation`) and counted in blocks of the
//! disk, together with all processes that share the directory ([`Peers`]). Everything in the directory
//! counts: data files, index, directories. The [`evictor`](crate::cache::eviction::evictor) frees space ahead of need, by the rules
//! of the [`policy`], when the count nears the limit, or the file system's free space nears
//! `min_free`. A writer without space waits for it; if none can be freed it gets
//! [`ReadError::NoRoom`](super::ReadError::NoRoom). `room` computes how much space there is, and
//! how much of it is held back.

pub(super) mod config;
pub(crate) mod policy;
pub(super) mod recency;
pub(crate) mod reservation;
pub(super) mod room;
pub(super) mod rounds;

use std::fmt::Debug;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::statvfs::fstatvfs;
use parking_lot::Mutex;

use super::error::CacheError;
use super::sharing::{Alone, Bell, Overhead, Peers, join};
use super::storage::chunk_store::allocated_at;
use super::storage::disk::STAT_BLOCK;
use crate::util::clock;
use config::free_bytes;
pub(crate) use config::{QuotaConfig, Share, half_of_disk};
use policy::{Moment, TICK};
pub(crate) use recency::{Recency, SEGMENT};
use room::{Mark, Usage};
use rounds::Rounds;

/// The quota of one cache directory.
#[derive(Debug)]
pub struct Quota {
    /// The processes that share the directory, and the space that they use.
    pub(super) peers: Box<dyn Peers>,
    /// The cache directory, for the free space of its file system. `None` if it can't be opened: nothing is free then.
    pub(super) folder: Option<File>,
    /// Bytes that must stay free on the file system.
    pub(super) min_free: AtomicU64,
    /// The database and SQLite's files beside it.
    pub(super) index_files: [PathBuf; 3],
    /// Block size of the file system, in bytes: allocations are multiples of it.
    pub(super) block: u64,
    pub(super) max_age: Option<Duration>,
    pub(super) rounds: Rounds,
    /// Files with bytes of chunks that fetches have left incomplete. No other lock is taken under
    /// it.
    pub(super) leftovers: Mutex<Vec<Arc<dyn Debug + Send + Sync>>>,
}

impl Quota {
    /// Joins the processes that use the directory. `recorded` are the recorded bytes of the index.
    ///
    /// # Errors
    /// If the file system's size is unknown, or the processes can't be joined.
    pub fn open(folder: &Path, config: &QuotaConfig, recorded: u64) -> Result<Arc<Quota>, CacheError> {
        let failed = |reason: String| CacheError::Folder {
            path: folder.display().to_string(),
            reason,
        };
        let opened = File::open(folder).map_err(|error| failed(error.to_string()))?;
        let disk = fstatvfs(&opened).map_err(|error| failed(error.to_string()))?;
        let (size, min_free) = (config.size_on(&disk, recorded), config.min_free_on(&disk));
        let quota = Quota {
            peers: join(folder, size, recorded)?,
            folder: Some(opened),
            min_free: AtomicU64::new(min_free),
            index_files: ["index.db", "index.db-wal", "index.db-shm"].map(|name| folder.join(name)),
            block: disk.fragment_size().max(STAT_BLOCK),
            max_age: config.max_age,
            rounds: Rounds::default(),
            leftovers: Mutex::default(),
        };
        quota.measure_index();
        Ok(Arc::new(quota))
    }

    /// A fallback for a directory that can't be opened: it has no space.
    pub fn fallback(config: &QuotaConfig) -> Arc<Quota> {
        Arc::new(Quota {
            peers: Box::new(Alone::new(config.size_on_nothing())),
            folder: None,
            min_free: AtomicU64::new(u64::MAX),
            index_files: Default::default(),
            block: STAT_BLOCK,
            max_age: None,
            rounds: Rounds::default(),
            leftovers: Mutex::default(),
        })
    }

    /// A quota of `size` bytes without a cache directory.
    #[cfg(test)]
    pub(super) fn alone(size: u64) -> Arc<Quota> {
        let quota = Arc::into_inner(Quota::fallback(&QuotaConfig::default())).unwrap();
        Arc::new(Quota {
            peers: Box::new(Alone::new(size)),
            folder: File::open("/").ok(),
            min_free: AtomicU64::new(0),
            ..quota
        })
    }

    pub(super) fn min_free(&self) -> u64 {
        self.min_free.load(Ordering::Relaxed)
    }

    /// The size that another configuration gives; `None` if the file system can't be asked.
    pub(super) fn size_of(&self, config: &QuotaConfig) -> Option<u64> {
        let disk = fstatvfs(self.folder.as_ref()?).ok()?;
        Some(config.size_on(&disk, self.peers.space().used))
    }

    /// Takes another configuration over, for this process. What is too much is evicted.
    pub(super) fn resize(&self, config: &QuotaConfig) {
        let disk = self.folder.as_ref().and_then(|folder| fstatvfs(folder).ok());
        let Some(disk) = disk else { return };
        self.min_free.store(config.min_free_on(&disk), Ordering::Relaxed);
        self.peers.set_limit(config.size_on(&disk, self.peers.space().used));
        self.ask();
    }

    pub(super) fn measure_index(&self) {
        let bytes = self.index_files.iter().map(|file| allocated_at(file)).sum();
        self.peers.note_overhead(Overhead::Index(bytes));
    }

    /// Returns true if the index may grow by `bytes` bytes within the cache's free space. They
    /// count until the index is measured again.
    pub(super) fn has_room_in_index(&self, bytes: u64) -> bool {
        self.measure_index();
        let space = self.peers.space();
        let fits = space.total().saturating_add(bytes) <= room::most(space.limit);
        if fits {
            self.peers
                .note_overhead(Overhead::Index(space.index.saturating_add(bytes)));
        }
        if self.shortfall(Mark::High) > 0 {
            self.ask();
        }
        fits
    }

    fn usage(&self) -> Usage {
        Usage {
            space: self.peers.space(),
            free: self.free(),
            min_free: self.min_free(),
        }
    }

    /// Bytes to free to reach the mark.
    pub(super) fn shortfall(&self, mark: Mark) -> u64 {
        self.usage().shortfall(mark)
    }

    /// Bytes that data files can take before any of them has to be evicted for the next.
    pub fn room(&self) -> u64 {
        self.usage().room()
    }

    /// Free bytes of the file system for this user.
    pub(super) fn free(&self) -> u64 {
        // After an error, assume enough: a write fails otherwise.
        let disk = self.folder.as_ref().map(fstatvfs);
        disk.map_or(0, |disk| disk.map_or(u64::MAX, |disk| free_bytes(&disk)))
    }

    /// Requests a round of eviction, here and from all other processes. Returns the number for
    /// [`Rounds::outcome_after`].
    pub(super) fn ask(&self) -> u64 {
        let asked = self.rounds.ask();
        self.peers.ring(Bell::Wanted);
        asked
    }

    /// The cache is being closed: writers waiting for space get none.
    pub(super) fn close(&self) {
        self.rounds.close();
        self.peers.ring(Bell::Wanted);
        self.peers.ring(Bell::Relieved);
    }

    /// Wakes the evictor to check at once for work.
    pub(super) fn wake_evictor(&self) {
        self.peers.ring(Bell::Wanted);
    }

    /// Makes an audit due, because the count is wrong.
    pub(super) fn demand_audit(&self) {
        self.peers.demand_audit();
    }

    /// Counts a change found on disk: bytes more, or fewer.
    pub(super) fn adjust(&self, by: i64) {
        if by != 0 {
            self.peers.settle(0, by);
        }
    }

    /// Counts a directory that is about to be created for data files.
    pub(super) fn add_folder(&self) {
        self.peers.note_overhead(Overhead::NewDirectory(self.block));
    }

    /// A fetch has left bytes in this file that are to be freed.
    pub(super) fn note_leftovers(&self, file: Arc<dyn Debug + Send + Sync>) {
        if !self.rounds.is_closed() {
            self.leftovers.lock().push(file);
            self.ask();
        }
    }

    /// The current moment, for a use by a handle.
    pub fn moment(&self, handle: u64) -> Moment {
        let seconds = seconds_now();
        let (clock, limit) = self.peers.recent(seconds);
        Moment {
            clock: clock / TICK,
            seconds,
            handle: handle as u16,
            cache: limit / TICK,
        }
    }

    /// Maximum bytes worth having in the cache ahead of one reader: more might be evicted before it
    /// is read.
    pub fn most_ahead(&self) -> u64 {
        self.size() / 32
    }

    /// Bytes that the cache may take.
    pub fn size(&self) -> u64 {
        self.peers.space().limit
    }

    /// Allocations are multiples of this, in bytes.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Chunks unused for this long are evicted.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Returns true if other mounts use the directory now.
    pub fn has_others(&self) -> bool {
        self.peers.has_others()
    }
}

/// Seconds since 1970 by [`clock`]; until 2106.
pub(super) fn seconds_now() -> u32 {
    let now = clock::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}
