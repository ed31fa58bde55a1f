//! The available space: by the cache's size, and by the free space of its disk.
//!
//! A little is held back for what grows by itself: the index, and the file system's metadata of a
//! file's extents, which it allocates at write-back.

use nix::sys::statvfs::fstatvfs;

use super::Quota;
use super::config::free_bytes;

/// Held back for the index: more than it and its log grow by batches of records of several
/// processes before it is measured again.
const INDEX_GROWTH: u64 = 2 << 20;

/// Held back for the file system's metadata of extents: 4 KiB for each 340 extents, or for the
/// first five of a file. With chunks of 256 KiB that is 0.3 % at worst.
const EXTENTS: u64 = 256;
const MOST_EXTENTS: u64 = 64 << 20;

/// Fill levels of the cache.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    /// Eviction begins here.
    High,
    /// Eviction ends here.
    Low,
}

impl Mark {
    /// Distance of the mark below the maximum: enough that a round is worth its cost at any size,
    /// and at most a quarter of the maximum.
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

/// A smaller cache keeps the distance of one of this many bytes.
const SMALL: u64 = 20 << 20;

/// Maximum bytes by which the free space is kept above `min_free`.
const MOST_FREED_FOR_OTHERS: u64 = 256 << 20;

impl Quota {
    /// Maximum of the ledger's count.
    pub(super) fn most(&self) -> u64 {
        let limit = self.ledger.limit();
        limit.saturating_sub(INDEX_GROWTH + (limit / EXTENTS).min(MOST_EXTENTS))
    }

    /// Bytes to free to reach the mark.
    pub(in crate::cache) fn shortfall(&self, mark: Mark) -> u64 {
        let most = self.most();
        let slack = mark.slack(most);
        let over = self.ledger.total().saturating_sub(most - slack);
        let wanted_free = self.min_free.saturating_add(slack.min(MOST_FREED_FOR_OTHERS));
        // Bytes of other files can't be freed here.
        let missing = wanted_free.saturating_sub(self.free()).min(self.ledger.used());
        over.max(missing)
    }

    /// Bytes that data files can take before any of them has to be evicted for the next.
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

    /// Free bytes of the file system for this user.
    pub(super) fn free(&self) -> u64 {
        // After an error, assume enough: a write fails otherwise.
        fstatvfs(&self.folder).map_or(u64::MAX, |disk| free_bytes(&disk))
    }
}
