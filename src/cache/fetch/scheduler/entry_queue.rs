//! The queue of one entry: which of its chunks are wanted, in flight and waited for.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;
use std::time::Instant;

use super::overload::Refused;
use super::queues::OriginNumber;
use super::running::Fetch;
use super::wanted_chunks::WantedChunks;
use super::windows::Windows;
use super::{FetchId, PRIORITIES, Priority, WaiterId};
use crate::cache::chunk::{clip, common};
use crate::cache::entry::cache_entry::CacheEntry;

/// All chunks.
const ALL: Range<u64> = 0..u64::MAX;

/// What is wanted, in flight and waited for of one entry.
#[derive(Debug)]
pub(super) struct EntryQueue {
    pub(super) entry: Arc<CacheEntry>,
    /// The origin whose connections its next fetch uses. Each fetch in flight has its own
    /// ([`Fetch::origin`]).
    pub(super) origin: OriginNumber,
    /// Whether that has changed, so that its fetches may have slots of several origins.
    pub(super) has_moved: bool,
    /// The reasons for which its chunks are wanted. Those of a chunk in flight stay until it has come,
    /// except for `Critical`: **a chunk in flight is not wanted at `Critical`**, since that priority
    /// lasts only as long as a waiter does.
    pub(super) wants: WantedChunks,
    /// What is in flight. **The ranges of chunks are disjoint.**
    pub(super) fetches: Vec<Fetch>,
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
        let mut priorities = PRIORITIES.into_iter().filter(|_| may_begin);
        priorities.find(|&priority| self.next_at(priority).is_some())
    }

    pub(super) fn fetch(&self, id: FetchId) -> Option<&Fetch> {
        self.fetches.iter().find(|fetch| fetch.id == id)
    }

    pub(super) fn fetch_mut(&mut self, id: FetchId) -> Option<&mut Fetch> {
        self.fetches.iter_mut().find(|fetch| fetch.id == id)
    }

    /// The first chunk that is wanted at this priority and not in flight.
    pub(super) fn next_at(&self, priority: Priority) -> Option<u64> {
        self.next_pending(priority, &ALL)
    }

    /// The first of these chunks that is wanted at this priority and not in flight.
    fn next_pending(&self, priority: Priority, within: &Range<u64>) -> Option<u64> {
        let mut rest = within.clone();
        loop {
            let next = self.wants.within(priority, &rest).next()?;
            rest.start = next.start;
            let in_flight = self.fetches.iter().find(|fetch| fetch.chunks.contains(&rest.start));
            match in_flight {
                Some(fetch) => rest.start = fetch.chunks.end,
                None => return Some(rest.start),
            }
        }
    }

    /// Number of consecutive chunks from this one on that are wanted, at any priority, and not in
    /// flight.
    pub(super) fn pending_in_a_row(&self, first: u64) -> u64 {
        let ends = self
            .fetches
            .iter()
            .filter(|fetch| fetch.chunks.end > first && !fetch.chunks.is_empty());
        let in_flight = ends.map(|fetch| fetch.chunks.start.saturating_sub(first)).min();
        self.wants.in_a_row(first).min(in_flight.unwrap_or(u64::MAX))
    }

    /// Number of chunks that are wanted and not in flight.
    pub(super) fn pending(&self) -> u64 {
        let mut all: RangeSet<u64> = self.wants.runs().cloned().collect();
        self.remove_in_flight(&mut all);
        all.iter().map(|run| run.end - run.start).sum()
    }

    fn remove_in_flight(&self, chunks: &mut RangeSet<u64>) {
        let in_flight = self.fetches.iter().map(|fetch| fetch.chunks.clone());
        in_flight
            .filter(|run| !run.is_empty())
            .for_each(|run| chunks.remove(run));
    }

    /// Wants chunks at a priority, as far as they are missing. Those in flight get one more reason.
    pub(super) fn want(&mut self, chunks: &Range<u64>, priority: Priority) {
        let chunks = chunks.start..chunks.end.min(self.chunk_count());
        let mut rest = RangeSet::from_iter((!chunks.is_empty()).then(|| chunks.clone()));
        self.remove_in_flight(&mut rest);
        if priority != Priority::Critical {
            for fetch in &self.fetches {
                self.wants.add(common(&fetch.chunks, &chunks), priority);
            }
        }
        for part in rest.iter().flat_map(|run| self.missing_in(run)).collect::<Vec<_>>() {
            self.wants.add(part, priority);
        }
    }

    /// Stops wanting those of these chunks that are present.
    pub(super) fn drop_present(&mut self, chunks: &Range<u64>) {
        if chunks.is_empty() {
            return;
        }
        let mut present = RangeSet::from_iter([chunks.clone()]);
        self.missing_in(chunks).into_iter().for_each(|run| present.remove(run));
        present.into_iter().for_each(|run| self.wants.remove(run));
    }

    /// Returns true if a fetch has been bringing bytes for a second, and needs at least another.
    pub(super) fn is_slow(&self, fetch: &Fetch) -> bool {
        fetch.marks[2] > fetch.start && fetch.lately() < self.bytes_to(fetch, &self.left_of(fetch))
    }

    /// The priority of a fetch without blocked readers; `None` if nothing else wants it.
    pub(super) fn base_of(&self, fetch: &Fetch) -> Option<Priority> {
        self.wants.most_urgent(&fetch.chunks)
    }

    /// The chunks that a fetch has yet to complete.
    pub(super) fn left_of(&self, fetch: &Fetch) -> Range<u64> {
        let end = fetch.chunks.end.min(self.chunk_count());
        let is_at_end = self.entry.settled().is_some() && fetch.watermark >= self.entry.size();
        let first = if is_at_end {
            end
        } else {
            self.entry.chunk.index(fetch.watermark)
        };
        first.min(end)..end
    }

    /// Chunks that a fetch has completed are no longer in flight, and not wanted. Returns them.
    pub(super) fn pass(&mut self, id: FetchId) -> Range<u64> {
        let Some(fetch) = self.fetch(id) else { return 0..0 };
        let passed = fetch.chunks.start..self.left_of(fetch).start;
        if let Some(fetch) = self.fetch_mut(id) {
            fetch.chunks.start = passed.end;
        }
        self.wants.remove(passed.clone());
        passed
    }

    /// Bytes that a fetch has yet to bring until it has completed `chunks`.
    pub(super) fn bytes_to(&self, fetch: &Fetch, chunks: &Range<u64>) -> u64 {
        let end = self.entry.chunk.bytes_of(chunks, self.entry.size()).end;
        end.saturating_sub(fetch.watermark)
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

    /// Number of losses of its chunks so far.
    pub(super) fn losses_now(&self) -> u64 {
        self.entry.settled().map_or(0, |settled| settled.presence.losses())
    }

    /// Returns true if a waiter needs chunks of it and some were lost since the last check.
    pub(super) fn has_unseen_losses(&self) -> bool {
        !self.waiters.is_empty() && self.losses != self.losses_now()
    }

    /// The first of these chunks that is missing, wanted at any priority, and not in flight.
    pub(super) fn next_wanted(&self, chunks: Range<u64>) -> Option<u64> {
        let mut rest = chunks;
        loop {
            let pending = PRIORITIES
                .into_iter()
                .filter_map(|priority| self.next_pending(priority, &rest));
            let first = pending.min()?;
            rest.start = (first + self.pending_in_a_row(first)).min(rest.end);
            if let Some(missing) = self.next_missing(&(first..rest.start)) {
                return Some(missing);
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.fetches.is_empty() && self.waiters.is_empty()
    }
}
