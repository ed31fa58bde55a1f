//! The available space: by the cache's size, and by the free space of its disk.
//!
//! A little is held back for what grows by itself: the index, and the file system's metadata of a
//! file's extents, which it allocates at write-back.

use crate::cache::sharing::Space;

/// Held back for the index: more than it and its log grow by batches of records of several
/// processes before it is measured again.
const INDEX_GROWTH: u64 = 2 << 20;

/// Held back for the file system's metadata of extents: 4 KiB for each 340 extents, or for the
/// first five of a file. With chunks of 256 KiB that is 0.3 % at worst.
const EXTENTS: u64 = 256;
const MOST_EXTENTS: u64 = 64 << 20;

/// Fill levels of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
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

/// What the room depends on, in bytes.
pub(super) struct Usage {
    /// What all processes of the cache use.
    pub(super) space: Space,
    /// Free bytes of the file system.
    pub(super) free: u64,
    /// Bytes that must stay free there.
    pub(super) min_free: u64,
}

/// Maximum of the [total](Space::total) in a cache of at most `limit` bytes.
pub(super) fn most(limit: u64) -> u64 {
    limit.saturating_sub(INDEX_GROWTH + (limit / EXTENTS).min(MOST_EXTENTS))
}

impl Usage {
    /// Bytes to free to reach the mark.
    pub(super) fn shortfall(&self, mark: Mark) -> u64 {
        let most = most(self.space.limit);
        let slack = mark.slack(most);
        let over = self.space.total().saturating_sub(most - slack);
        // Bytes of other files can't be freed here.
        let missing = self.wanted_free(slack).saturating_sub(self.free).min(self.space.used);
        over.max(missing)
    }

    /// Bytes that data files can take before any of them has to be evicted for the next.
    pub(super) fn room(&self) -> u64 {
        let most = most(self.space.limit);
        let slack = Mark::High.slack(most);
        let beside_data = self.space.total().saturating_sub(self.space.used + self.space.reserved);
        let by_size = most.saturating_sub(slack + beside_data);
        let by_disk = self
            .space
            .used
            .saturating_add(self.free)
            .saturating_sub(self.wanted_free(slack));
        by_size.min(by_disk)
    }

    /// The most of the [total](Space::total) up to which nothing has to be evicted; `None` if these bytes would leave too
    /// little free on the disk.
    pub(super) fn most_without_eviction(&self, bytes: u64) -> Option<u64> {
        let most = most(self.space.limit);
        let slack = Mark::High.slack(most);
        let is_free = self.free >= self.wanted_free(slack).saturating_add(bytes);
        is_free.then(|| most - slack)
    }

    fn wanted_free(&self, slack: u64) -> u64 {
        self.min_free.saturating_add(slack.min(MOST_FREED_FOR_OTHERS))
    }
}
