//! How much room there is: by the cache's size, and by what is free on its disk.
//!
//! A little is held back for what grows without being asked: the index, and the file system's own records of where
//! a file's extents are, which it makes when it writes them out.

use nix::sys::statvfs::fstatvfs;

use super::Quota;
use super::config::free_bytes;

/// Held back for the index: more than the batches of records of several processes make it and its log grow before it is
/// looked at again.
const INDEX_GROWTH: u64 = 2 << 20;

/// Held back for the file system's records of extents: 4 KiB are needed for each 340 extents, or for the first five of a
/// file. Of chunks of 256 KiB that is 0.3 % at worst.
const EXTENTS: u64 = 256;
const MOST_EXTENTS: u64 = 64 << 20;

/// Marks of how full the cache is.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
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

impl Quota {
    /// The most that the ledger may count.
    pub(super) fn most(&self) -> u64 {
        let limit = self.ledger.limit();
        limit.saturating_sub(INDEX_GROWTH + (limit / EXTENTS).min(MOST_EXTENTS))
    }

    /// Bytes to be freed so that there is as much room as the mark says.
    pub(in crate::cache) fn shortfall(&self, mark: Mark) -> u64 {
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
    pub(super) fn free(&self) -> u64 {
        // If it can't be told, writing will tell.
        fstatvfs(&self.folder).map_or(u64::MAX, |disk| free_bytes(&disk))
    }
}
