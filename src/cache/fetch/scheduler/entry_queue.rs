//! The queue of one entry: which of its chunks are wanted, in flight and waited for.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;
use std::time::Instant;

use super::overload::Refused;
use super::queues::OriginNumber;
use super::wanted_chunks::WantedChunks;
use super::windows::Windows;
use super::{FetchId, Priority, WaiterId};
use crate::cache::chunk::clip;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::key::EntryId;

/// What is wanted, in flight and waited for of one entry.
#[derive(Debug)]
pub(super) struct EntryQueue {
    pub(super) entry: Arc<CacheEntry>,
    /// The origin whose connections its next fetch uses. Each fetch in flight has its own
    /// ([`Fetch::origin`]).
    pub(super) origin: OriginNumber,
    /// Whether that has changed, so that its fetches may have slots of several origins.
    pub(super) has_moved: bool,
    /// Chunks to be fetched. **None of them is in flight.**
    pub(super) wants: WantedChunks,
    pub(super) fetches: Vec<FetchId>,
    pub(super) waiters: Vec<Waiter>,
    /// The read-ahead windows of its streams. Dropped with the queue: by then everything has come.
    pub(super) windows: Windows,
    /// [`ChunkBitmap::losses`](crate::cache::entry::chunk_bitmap::ChunkBitmap::losses) at the last
    /// check of its waiters.
    pub(super) losses: u64,
    /// The number of its last fetch start.
    pub(super) turn: u64,
    /// The refusals of its requests since it last received a byte.
    pub(super) refused: Option<Refused>,
    /// **Nothing begins for it until [`Scheduler::rested`](super::Scheduler::rested) clears this.**
    pub(super) rests_until: Option<Instant>,
    /// The period until which it is set back, after a fetch of it was too slow to keep its slot.
    /// **Nothing begins for it until this is cleared** (see [`super::stalls`]).
    pub(super) set_back_until: Option<u64>,
    /// Maximum number of its concurrent fetches, if it is the only entry that was refused more.
    pub(super) share: Option<usize>,
    /// Its fetches since one last brought anything.
    pub(super) fruitless: Fruitless,
}

/// Turns at a slot that brought nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fruitless {
    /// Number of consecutive ones.
    pub(super) turns: u32,
    /// How many of them passed while the origin answered nothing else either, so that it may be
    /// slow with everything.
    pub(super) unanswered: u32,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    /// The bytes it needs; may reach past the end of the file. The start moves up as they come.
    pub(super) bytes: Range<u64>,
    /// `Critical` for a reader that is blocked.
    pub(super) priority: Priority,
}

/// A running fetch.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) entry: EntryId,
    /// The origin whose slot it has: the one that its bytes come from, as far as known (see
    /// [`super::redirects`]).
    pub(super) origin: OriginNumber,
    pub(super) chunks: Range<u64>,
    /// Byte offset from which on it brings bytes.
    pub(super) start: u64,
    /// Byte offset up to which it has written. **Not before `start`.**
    pub(super) watermark: u64,
    /// The period in which it last brought anything; `None` while nothing has come.
    pub(super) moved_in: Option<u64>,
    /// The period in which its server last answered it, or sent anything; `None` before the first
    /// answer.
    pub(super) served_in: Option<u64>,
    /// The period in which it got its slot.
    pub(super) began_in: u64,
    /// The number of answers of its origin at that time.
    pub(super) answers_before: u64,
    /// Its watermark at the beginning of this period and of the two before it.
    pub(super) marks: [u64; 3],
    /// True if it was cut to end at its next chunk edge for others.
    pub(super) gives_way: bool,
    /// True if it began with more files than connections, and so has the length of one turn.
    pub(super) is_a_turn: bool,
    /// What its chunks are wanted for when no reader is blocked on them. **None at `Critical`**:
    /// that priority lasts only as long as a waiter does.
    pub(super) wants: WantedChunks,
}

impl EntryQueue {
    pub(super) fn new(entry: Arc<CacheEntry>, origin: OriginNumber) -> EntryQueue {
        EntryQueue {
            entry,
            origin,
            has_moved: false,
            wants: WantedChunks::default(),
            fetches: Vec::new(),
            waiters: Vec::new(),
            windows: Windows::default(),
            losses: 0,
            turn: 0,
            refused: None,
            rests_until: None,
            set_back_until: None,
            share: None,
            fruitless: Fruitless::default(),
        }
    }

    /// Number of chunks of the file. At least one before the entry is settled: fetching it settles
    /// the entry.
    pub(super) fn chunk_count(&self) -> u64 {
        let count = self.entry.chunk.count(self.entry.size());
        if self.entry.settled().is_some() {
            count
        } else {
            count.max(1)
        }
    }

    /// The most urgent priority of what may begin for it.
    pub(super) fn next_priority(&self) -> Option<Priority> {
        let is_full = self.share.is_some_and(|share| self.fetches.len() >= share);
        let may_begin = self.rests_until.is_none() && self.set_back_until.is_none() && !is_full;
        self.wants.most_urgent().filter(|_| may_begin)
    }

    pub(super) fn is_present(&self, chunk: u64) -> bool {
        self.entry
            .settled()
            .is_some_and(|settled| settled.presence.contains(chunk))
    }

    /// The existing chunks that these bytes touch. For bytes past the end that a listing gave it is
    /// the first chunk: fetching it shows where the end really is.
    pub(super) fn touched(&self, bytes: &Range<u64>) -> Range<u64> {
        let size = self.entry.size();
        let touched = self.entry.chunk.touched(&clip(bytes, size));
        if touched.is_empty() && !bytes.is_empty() && self.entry.settled().is_none() {
            return 0..1;
        }
        touched
    }

    /// The first of these chunks that is missing.
    pub(super) fn next_missing(&self, chunks: &Range<u64>) -> Option<u64> {
        match self.entry.settled() {
            Some(settled) => settled.presence.next_missing(chunks),
            None => (!chunks.is_empty()).then_some(chunks.start),
        }
    }

    /// The runs of chunks in `chunks` that are missing.
    pub(super) fn missing_in(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        let Some(settled) = self.entry.settled() else {
            return vec![chunks.clone()];
        };
        let mut runs = Vec::new();
        let mut at = chunks.start;
        while let Some(start) = settled.presence.next_missing(&(at..chunks.end)) {
            at = settled
                .presence
                .next_present(&(start..chunks.end))
                .unwrap_or(chunks.end);
            runs.push(start..at);
        }
        runs
    }

    /// The next chunk of those wanted at a priority: ahead of the stream that moved last, or else
    /// the first.
    pub(super) fn next_at(&self, priority: Priority) -> Option<u64> {
        let wanted = self.wants.at(priority);
        let ahead_of = |window: &Range<u64>| {
            let run = wanted.overlapping(window).next()?;
            Some(run.start.max(window.start))
        };
        let ahead = (priority == Priority::High).then(|| self.windows.live().find_map(ahead_of));
        ahead.flatten().or_else(|| wanted.first().map(|run| run.start))
    }

    /// The parts of these chunks that no waiter needs at this priority.
    pub(super) fn unneeded(&self, chunks: &Range<u64>, priority: Priority) -> Vec<Range<u64>> {
        let waiters = self.waiters.iter().filter(|waiter| waiter.priority == priority);
        let needed: RangeSet<u64> = waiters
            .map(|waiter| self.touched(&waiter.bytes))
            .filter(|touched| !touched.is_empty())
            .collect();
        needed.gaps(chunks).collect()
    }

    /// Number of losses of its chunks so far.
    pub(super) fn losses_now(&self) -> u64 {
        self.entry.settled().map_or(0, |settled| settled.presence.losses())
    }

    /// Returns true if a waiter needs chunks of it and some were lost since the last check.
    pub(super) fn has_unseen_losses(&self) -> bool {
        !self.waiters.is_empty() && self.losses != self.losses_now()
    }

    /// The first of these chunks that is missing and wanted at any priority.
    pub(super) fn next_wanted(&self, chunks: Range<u64>) -> Option<u64> {
        let mut rest = chunks;
        while let Some(wanted) = self.wants.next_from(rest.start).filter(|&next| next < rest.end) {
            let run = wanted..(wanted + self.wants.in_a_row(wanted)).min(rest.end);
            rest.start = run.end;
            if let Some(missing) = self.next_missing(&run) {
                return Some(missing);
            }
        }
        None
    }

    pub(super) fn is_idle(&self) -> bool {
        self.wants.most_urgent().is_none() && self.fetches.is_empty() && self.waiters.is_empty()
    }
}

impl Fetch {
    /// Its priority without blocked readers; `None` if nothing else wants it.
    pub(super) fn base(&self) -> Option<Priority> {
        self.wants.most_urgent()
    }

    /// Bytes brought in this period and the two before it, so within a second at least.
    pub(super) fn lately(&self) -> u64 {
        self.watermark.saturating_sub(self.marks[2])
    }

    pub(super) fn has_begun(&self) -> bool {
        self.moved_in.is_some()
    }

    /// Returns true if its server has answered it, or sent anything, in this period or the last.
    pub(super) fn is_served(&self, period: u64) -> bool {
        self.served_in.is_some_and(|served| served + 1 >= period)
    }

    /// Returns true if it has brought anything in this period or the last.
    pub(super) fn is_moving(&self, period: u64) -> bool {
        self.moved_in.is_some_and(|moved| moved + 1 >= period)
    }
}
