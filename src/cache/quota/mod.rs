//! The cache's size: a hard quota.
//!
//! **Room is reserved before bytes are written** ([`Quota::reserve`]) and counted by blocks of the disk, in a [`ledger`]
//! that all processes share which use the folder. What counts is everything in it: data files, index, folders. When the count
//! nears the limit, or the file system's free space the `min_free` of its own, the [`evictor`]'s thread makes room
//! ahead of need, by the rules of the [`policy`]. A writer that finds none waits for it; one for whom none can be made
//! gets [`ReadError::NoRoom`].
//!
//! A little is held back for what grows without being asked: the index, and the file system's own records of where
//! a file's extents are, which it makes when it writes them out.

mod audit;
pub mod evictor;
pub mod ledger;
pub mod locks;
pub mod policy;
mod recency;
mod victims;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};
use parking_lot::Mutex;

use super::error::{CacheError, ReadError};
use super::resident::Resident;
use super::store::allocated_at;
use ledger::Ledger;
use policy::{Moment, TICK};
pub use recency::{Recency, SEGMENT};

/// A part of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of its size.
    Percent(u8),
}

impl Share {
    fn of(self, total: u64) -> u64 {
        match self {
            Share::Bytes(bytes) => bytes,
            Share::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// What the user wants; what he does not say follows from the file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuotaConfig {
    /// What the cache may take. Default: half of what is free or the cache's already when it is opened.
    pub size: Option<Share>,
    /// What is to stay free. Default: a twentieth of the file system, 1 GiB at most.
    pub min_free: Option<Share>,
    /// Chunks that were not used for so long go. Default: they stay.
    pub max_age: Option<Duration>,
}

/// The default of `min_free`, at most: enough for a system to go on.
const MIN_FREE: u64 = 1 << 30;

/// Held back for the index: more than the batches of records of several processes make it and its log grow before it is
/// looked at again.
const INDEX_GROWTH: u64 = 2 << 20;

/// The index is looked at whenever so many bytes have come in: that costs some microseconds.
const LOOK_AT_INDEX: u64 = 128 << 10;

/// Held back for the file system's records of extents: 4 KiB are needed for each 340 extents, or for the first five of a
/// file. Of chunks of 256 KiB that is 0.3 % at worst.
const EXTENTS: u64 = 256;
const MOST_EXTENTS: u64 = 64 << 20;

/// How long a writer waits for room that might be made yet: what is in the way is in use at the moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks whether what was in the way is so no longer; there is no event for that.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long other processes are given to make room when this one can't: what they have open, say.
const OTHERS_TURN: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Quota {
    ledger: Ledger,
    /// A file in the cache folder, to ask its file system for what is free.
    folder: File,
    /// Bytes.
    min_free: u64,
    /// The database and what SQLite keeps beside it.
    index_files: [PathBuf; 3],
    /// Block size of the file system, in bytes: what is allocated is a multiple of it.
    block: u64,
    max_age: Option<Duration>,
    /// Guards the count of rounds, for moments. Nothing is taken under it.
    rounds: Mutex<Rounds>,
    /// Files in which fetches have left bytes of chunks that never became whole. Nothing is taken under the lock.
    leftovers: Mutex<Vec<Arc<Resident>>>,
}

/// Rounds of the evictor: who asks for one is told how the first one that begins afterwards ends.
#[derive(Debug, Default)]
struct Rounds {
    asked: u64,
    /// All that were asked for up to this number are over.
    over: u64,
    last: Option<Outcome>,
    is_closed: bool,
}

/// How a round of eviction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes were freed, or there was room.
    Relieved,
    /// Nothing could go, but some of it only for the moment: it is being read, or filled.
    Busy,
    /// Nothing can go.
    Exhausted,
}

impl Quota {
    /// Joins those who use the folder. `recorded` are the bytes that the index has recorded.
    ///
    /// # Errors
    /// When the folder can't be asked for its size, or its ledger not be used.
    pub fn open(folder: &Path, config: &QuotaConfig, recorded: u64) -> Result<Arc<Quota>, CacheError> {
        let failed = |reason: String| CacheError::Folder {
            path: folder.display().to_string(),
            reason,
        };
        let opened = File::open(folder).map_err(|error| failed(error.to_string()))?;
        let disk = fstatvfs(&opened).map_err(|error| failed(error.to_string()))?;
        let total = disk.blocks() * disk.fragment_size();
        let size = config
            .size
            .map_or((free_bytes(&disk) + recorded) / 2, |share| share.of(total));
        let min_free = config
            .min_free
            .map_or(MIN_FREE.min(total / 20), |share| share.of(total));
        let quota = Quota {
            ledger: Ledger::join(folder, size, recorded)?,
            folder: opened,
            min_free,
            index_files: ["index.db", "index.db-wal", "index.db-shm"].map(|name| folder.join(name)),
            block: disk.fragment_size().max(512),
            max_age: config.max_age,
            rounds: Mutex::default(),
            leftovers: Mutex::default(),
        };
        quota.measure_index();
        Ok(Arc::new(quota))
    }

    /// In the place of one over a folder that can't be opened: there is no room.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn standing_in(config: &QuotaConfig) -> Result<Arc<Quota>, CacheError> {
        let failed = |error: std::io::Error| CacheError::Folder {
            path: "in memory".to_owned(),
            reason: error.to_string(),
        };
        let size = config.size.map_or(0, |share| share.of(0));
        let ledger = Ledger::of_nobody_else(size)?;
        Ok(Arc::new(Quota {
            folder: ledger.file().map_err(failed)?,
            ledger,
            min_free: u64::MAX,
            index_files: Default::default(),
            block: 512,
            max_age: None,
            rounds: Mutex::default(),
            leftovers: Mutex::default(),
        }))
    }

    /// Reserves room for bytes that are about to be written to one file, waiting for room to be made if need be. Blocks for
    /// five seconds at most.
    ///
    /// # Errors
    /// [`ReadError::NoRoom`] when none can be made.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, ReadError> {
        // What begins or ends within a block takes all of it.
        let bytes = bytes.next_multiple_of(self.block) + self.block;
        let (deadline, others_turn) = (Instant::now() + PATIENCE, Instant::now() + OTHERS_TURN);
        let mut ticket = None;
        loop {
            let relieved = self.ledger.relieved();
            // Looked at first: what goes afterwards makes room.
            let is_empty = self.ledger.used() == 0;
            if self.try_reserve(bytes) {
                if self.shortfall(Mark::High) > 0 {
                    self.ask();
                }
                return Ok(Reservation {
                    quota: Arc::clone(self),
                    bytes,
                });
            }
            if is_empty {
                // Others fill the disk, and nothing of ours could make room on it.
                return Err(ReadError::NoRoom);
            }
            let asked = *ticket.get_or_insert_with(|| self.ask());
            let wait = match self.outcome_after(asked) {
                None => PATIENCE,
                Some(Outcome::Relieved) => {
                    ticket = None;
                    Duration::ZERO
                }
                Some(Outcome::Busy) => {
                    ticket = None;
                    LOOK_AGAIN
                }
                Some(Outcome::Exhausted) if self.has_others() && Instant::now() < others_turn => {
                    ticket = None;
                    LOOK_AGAIN
                }
                Some(Outcome::Exhausted) => return Err(ReadError::NoRoom),
            };
            if Instant::now() >= deadline {
                return Err(ReadError::NoRoom);
            }
            self.ledger.wait_relieved(relieved, wait);
        }
    }

    fn try_reserve(&self, bytes: u64) -> bool {
        let before = self.ledger.clock();
        if self.free() < self.min_free.saturating_add(bytes) || !self.ledger.try_reserve(bytes, self.most()) {
            return false;
        }
        // A look at the index now and then: it grows with what comes in.
        if before / LOOK_AT_INDEX != self.ledger.clock() / LOOK_AT_INDEX {
            self.measure_index();
        }
        true
    }

    /// The most that the ledger may count.
    fn most(&self) -> u64 {
        let limit = self.ledger.limit();
        limit.saturating_sub(INDEX_GROWTH + (limit / EXTENTS).min(MOST_EXTENTS))
    }

    /// Bytes to be freed so that there is as much room as the mark says.
    pub(super) fn shortfall(&self, mark: Mark) -> u64 {
        let most = self.most();
        let slack = mark.slack(most);
        let over = self.ledger.total().saturating_sub(most - slack);
        let wanted_free = self.min_free.saturating_add(slack.min(MOST_FREED_FOR_OTHERS));
        // What is not ours can't be freed by us.
        let missing = wanted_free.saturating_sub(self.free()).min(self.ledger.used());
        over.max(missing)
    }

    /// Bytes that data files can take before the first of them has to make room for the next.
    pub fn room(&self) -> u64 {
        let most = self.most();
        let slack = Mark::High.slack(most);
        let beside_data = self
            .ledger
            .total()
            .saturating_sub(self.ledger.used() + self.ledger.reserved());
        let by_size = most.saturating_sub(slack + beside_data);
        let wanted_free = self.min_free.saturating_add(slack.min(MOST_FREED_FOR_OTHERS));
        let by_disk = self
            .ledger
            .used()
            .saturating_add(self.free())
            .saturating_sub(wanted_free);
        by_size.min(by_disk)
    }

    /// Bytes that the file system has for us.
    fn free(&self) -> u64 {
        // If it can't be told, writing will tell.
        fstatvfs(&self.folder).map_or(u64::MAX, |disk| free_bytes(&disk))
    }

    fn measure_index(&self) {
        self.ledger
            .set_index(self.index_files.iter().map(|file| allocated_at(file)).sum());
    }

    /// Whether the index may grow by so many bytes: not by more than is free of the cache's size. They count until it is looked
    /// at again.
    pub(super) fn has_room_in_index(&self, bytes: u64) -> bool {
        self.measure_index();
        let fits = self.ledger.total().saturating_add(bytes) <= self.most();
        if fits {
            self.ledger.set_index(self.ledger.index().saturating_add(bytes));
        }
        if self.shortfall(Mark::High) > 0 {
            self.ask();
        }
        fits
    }

    /// Asks for a round of eviction, here and from all others. The number is for [`Self::outcome_after`].
    fn ask(&self) -> u64 {
        let mut rounds = self.rounds.lock();
        rounds.asked += 1;
        let asked = rounds.asked;
        drop(rounds);
        self.ledger.want();
        asked
    }

    /// How the round ended that was asked for, if it is over.
    fn outcome_after(&self, asked: u64) -> Option<Outcome> {
        let rounds = self.rounds.lock();
        if rounds.is_closed {
            return Some(Outcome::Exhausted);
        }
        (rounds.over >= asked).then_some(rounds.last).flatten()
    }

    /// The cache is being closed: who waits for room gets none.
    pub(super) fn close(&self) {
        self.rounds.lock().is_closed = true;
        self.ledger.want();
        self.ledger.relieve();
    }

    fn is_closed(&self) -> bool {
        self.rounds.lock().is_closed
    }

    /// Has the evictor look at once whether there is anything to do.
    pub(super) fn wake_evictor(&self) {
        self.ledger.want();
    }

    /// What is counted is known to be wrong.
    pub(super) fn demand_audit(&self) {
        self.ledger.demand_audit();
    }

    /// Counts what was found to have changed on disk: bytes more, or fewer.
    pub(super) fn adjust(&self, by: i64) {
        self.ledger.adjust(by);
    }

    /// Counts a folder that is about to be made for data files.
    pub(super) fn add_folder(&self) {
        self.ledger.add_folder(self.block);
    }

    /// A fetch has left bytes in this file that are to go.
    pub(super) fn note_leftovers(&self, resident: &Arc<Resident>) {
        if !self.is_closed() {
            self.leftovers.lock().push(Arc::clone(resident));
            self.ask();
        }
    }

    /// This moment, for a use by a handle.
    pub fn moment(&self, handle: u64) -> Moment {
        Moment {
            clock: self.ledger.clock() / TICK,
            seconds: seconds_now(),
            handle: handle as u16,
            cache: self.ticks(),
        }
    }

    /// The size of the cache in ticks of the policy's clock.
    fn ticks(&self) -> u64 {
        self.ledger.limit() / TICK
    }

    /// Bytes, the most that is worth having in the cache ahead of one reader: more of it might be evicted before it is read.
    pub fn most_ahead(&self) -> u64 {
        self.ledger.limit() / 32
    }

    /// Bytes that the cache may take.
    pub fn size(&self) -> u64 {
        self.ledger.limit()
    }

    /// What is allocated is a multiple of this, in bytes.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// What was not used for so long goes.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Whether other mounts use the folder at this moment.
    pub fn has_others(&self) -> bool {
        self.ledger.has_others()
    }
}

/// Half of the file system that a folder is on, or is to be made on; nothing if that can't be told.
pub fn half_of_disk(folder: &Path) -> u64 {
    let disk = folder.ancestors().find_map(|place| statvfs(place).ok());
    disk.map_or(0, |disk| disk.blocks() * disk.fragment_size() / 2)
}

/// Marks of how full the cache is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    /// From here on room is made.
    High,
    /// Until here.
    Low,
}

impl Mark {
    /// How far below the most that may be used it is: enough that a round is worth its cost, whatever the size; and not half
    /// of what is there.
    fn slack(self, most: u64) -> u64 {
        self.of(most).max(self.of(SMALL).min(most / 4))
    }

    fn of(self, limit: u64) -> u64 {
        match self {
            Mark::High => limit / 20,
            Mark::Low => limit / 10,
        }
    }
}

/// A cache of fewer bytes is kept as far below its limit as one of so many would be.
const SMALL: u64 = 20 << 20;

/// Bytes by which the free space is kept above what has to stay free, at most.
const MOST_FREED_FOR_OTHERS: u64 = 256 << 20;

/// Room for bytes that are about to be written. Dropped without being settled, it is given back.
#[derive(Debug)]
pub struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    /// The bytes were written, and the file takes so many more on disk than when it was last looked at.
    pub fn settle(mut self, grown: i64) {
        let bytes = std::mem::take(&mut self.bytes);
        self.quota.ledger.settle(bytes, grown);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.ledger.settle(self.bytes, 0);
    }
}

fn free_bytes(disk: &Statvfs) -> u64 {
    disk.blocks_available() * disk.fragment_size()
}

/// Seconds since 1970; until 2106.
fn seconds_now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u32::try_from(now.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
