//! A fetch in flight: its chunks, and what it has brought.

use std::ops::Range;

use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::scheduler::action::FetchId;
use crate::cache::fetch::scheduler::origins::origin_state::OriginNumber;

/// A running fetch.
#[derive(Debug)]
pub(in crate::cache::fetch::scheduler) struct RunningFetch {
    pub(in crate::cache::fetch::scheduler) id: FetchId,
    /// The origin whose slot it has: the one that its bytes come from, as far as known (see
    /// [`redirects`](crate::cache::fetch::scheduler::origins::redirects)).
    pub(in crate::cache::fetch::scheduler) origin: OriginNumber,
    /// The chunks in flight: those that it has not brought yet, and the one that it is in.
    pub(in crate::cache::fetch::scheduler) chunks: Range<u64>,
    /// Byte offset from which on it brings bytes.
    pub(in crate::cache::fetch::scheduler) start: u64,
    /// Byte offset up to which it has written. **Not before `start`.**
    pub(in crate::cache::fetch::scheduler) watermark: u64,
    /// Byte offset up to which bytes have come. **Not before `watermark`**; after it while they can't be written yet,
    /// because more has to come before they can be verified.
    pub(super) received: u64,
    /// The period in which it last brought anything; `None` while nothing has come.
    pub(in crate::cache::fetch::scheduler) moved_in: Option<u64>,
    /// The period in which its server last answered it, or sent anything; `None` before the first
    /// answer.
    pub(super) served_in: Option<u64>,
    /// The period in which it got its slot.
    pub(in crate::cache::fetch::scheduler) began_in: u64,
    /// The number of answers of its origin at that time.
    pub(in crate::cache::fetch::scheduler) answers_before: u64,
    /// What it had received at the beginning of this period and of the two before it.
    pub(super) marks: [u64; 3],
    /// True if it began with more files than connections, and so has the length of one turn.
    pub(in crate::cache::fetch::scheduler) is_a_turn: bool,
}

impl RunningFetch {
    /// The chunks of its entry that it has yet to complete.
    pub(in crate::cache::fetch::scheduler) fn left(&self, entry: &CacheEntry) -> Range<u64> {
        let end = self.chunks.end.min(entry.chunk_count());
        let is_at_end = entry.settled().is_some() && self.watermark >= entry.size();
        let first = if is_at_end {
            end
        } else {
            entry.chunk.index(self.watermark)
        };
        first.min(end)..end
    }

    /// Bytes that it has yet to bring until it has completed the chunks before `end`.
    pub(in crate::cache::fetch::scheduler) fn bytes_to(&self, end: u64, entry: &CacheEntry) -> u64 {
        let end = end.saturating_mul(entry.chunk.bytes()).min(entry.size());
        end.saturating_sub(self.received)
    }

    /// Bytes brought in this period and the two before it, so within a second at least.
    pub(in crate::cache::fetch::scheduler) fn lately(&self) -> u64 {
        self.received.saturating_sub(self.marks[2])
    }

    /// Returns true if it has been bringing bytes for a second, and needs at least another.
    pub(in crate::cache::fetch::scheduler) fn is_slow(&self, entry: &CacheEntry) -> bool {
        self.marks[2] > self.start && self.lately() < self.bytes_to(self.left(entry).end, entry)
    }

    pub(super) fn has_begun(&self) -> bool {
        self.moved_in.is_some()
    }

    /// Returns true if its server has answered it, or sent anything, in this period or the last.
    pub(in crate::cache::fetch::scheduler) fn is_served(&self, period: u64) -> bool {
        self.served_in.is_some_and(|served| served + 1 >= period)
    }

    /// Returns true if it has brought anything in this period or the last.
    pub(in crate::cache::fetch::scheduler) fn is_moving(&self, period: u64) -> bool {
        self.moved_in.is_some_and(|moved| moved + 1 >= period)
    }
}
