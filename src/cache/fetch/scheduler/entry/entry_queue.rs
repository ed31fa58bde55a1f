//! The queue of one entry: which of its chunks are wanted, in flight and waited for.
//!
//! What is left of a chunk's reasons decides how far a fetch goes. A waiter is satisfied when its own
//! bytes are in the data file, which may be in the middle of a chunk.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use rangemap::RangeSet;

use super::wanted_chunks::WantedChunks;
use super::windows::{StreamId, Windows};
use crate::cache::chunk::common;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::fetch::scheduler::action::{Action, FetchId, PRIORITIES, Priority, WaiterId, WaitsFor};
use crate::cache::fetch::scheduler::fetches::running_fetch::RunningFetch;
use crate::cache::fetch::scheduler::fetches::stalls::Stalls;
use crate::cache::fetch::scheduler::origins::origin_state::{OriginNumber, Rank};
use crate::cache::fetch::scheduler::origins::refusals::Refused;

/// All chunks.
const ALL: Range<u64> = 0..u64::MAX;

/// What is wanted, in flight and waited for of one entry.
#[derive(Debug)]
pub(in crate::cache::fetch::scheduler) struct EntryQueue {
    pub(in crate::cache::fetch::scheduler) entry: Arc<CacheEntry>,
    /// The origin whose connections its next fetch uses. Each fetch in flight has its own
    /// ([`RunningFetch::origin`]).
    pub(in crate::cache::fetch::scheduler) origin: OriginNumber,
    /// Whether that has changed, so that its fetches may have slots of several origins.
    pub(in crate::cache::fetch::scheduler) has_moved: bool,
    /// The reasons for which its chunks are wanted. Those of a chunk in flight stay until it has come,
    /// except for `Critical`: **a chunk in flight is not wanted at `Critical`**, since that priority
    /// lasts only as long as a waiter does.
    pub(in crate::cache::fetch::scheduler) wants: WantedChunks,
    /// What is in flight. **The ranges of chunks are disjoint.**
    pub(in crate::cache::fetch::scheduler) fetches: Vec<RunningFetch>,
    pub(in crate::cache::fetch::scheduler) waiters: Vec<Waiter>,
    /// The read-ahead windows of its streams. Dropped with the queue: by then everything has come.
    pub(in crate::cache::fetch::scheduler) windows: Windows,
    /// [`CacheEntry::chunk_losses`] at the last check of its waiters.
    pub(in crate::cache::fetch::scheduler) losses: u64,
    /// The number of its last fetch start.
    pub(in crate::cache::fetch::scheduler) turn: u64,
    /// The refusals of its requests since it last received a byte.
    pub(in crate::cache::fetch::scheduler) refused: Option<Refused>,
    /// **Nothing begins for it until [`Scheduler::rested`](crate::cache::fetch::scheduler::Scheduler::rested)
    /// clears this.**
    pub(in crate::cache::fetch::scheduler) rests_until: Option<Instant>,
    /// Its turns at a slot that were too slow.
    pub(in crate::cache::fetch::scheduler) stalls: Stalls,
}

#[derive(Debug)]
pub(in crate::cache::fetch::scheduler) struct Waiter {
    pub(in crate::cache::fetch::scheduler) id: WaiterId,
    /// The bytes it needs; may reach past the end of the file. The start moves up as they come.
    pub(in crate::cache::fetch::scheduler) bytes: Range<u64>,
    /// `Critical` for a reader that is blocked.
    pub(in crate::cache::fetch::scheduler) priority: Priority,
    /// True if a reader is blocked, at whatever priority; false for a part of a job.
    pub(in crate::cache::fetch::scheduler) is_read: bool,
    /// What it was last seen to wait for; `None` before the first look.
    pub(in crate::cache::fetch::scheduler) waits_for: Option<WaitsFor>,
}

impl EntryQueue {
    pub(in crate::cache::fetch::scheduler) fn new(entry: Arc<CacheEntry>, origin: OriginNumber) -> EntryQueue {
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
            stalls: Stalls::default(),
        }
    }

    /// Its place in its origin's order; `None` if nothing may begin for it. `share`: maximum number of
    /// its concurrent fetches, if it has a limit of its own.
    pub(in crate::cache::fetch::scheduler) fn rank(&self, share: Option<usize>) -> Option<Rank> {
        let is_full = share.is_some_and(|share| self.fetches.len() >= share);
        if is_full || self.rests_until.is_some() || self.stalls.is_set_back() {
            return None;
        }
        let is_pending = |&priority: &Priority| self.next_at(priority).is_some();
        let priority = PRIORITIES.into_iter().find(is_pending)?;
        Some(Rank {
            priority,
            is_fetching_ahead: priority == Priority::High && !self.fetches.is_empty(),
            turn: self.turn,
        })
    }

    pub(in crate::cache::fetch::scheduler) fn is_idle(&self) -> bool {
        self.wants.is_empty() && self.fetches.is_empty() && self.waiters.is_empty()
    }

    pub(in crate::cache::fetch::scheduler) fn fetch(&self, id: FetchId) -> Option<&RunningFetch> {
        self.fetches.iter().find(|fetch| fetch.id == id)
    }

    pub(in crate::cache::fetch::scheduler) fn fetch_mut(&mut self, id: FetchId) -> Option<&mut RunningFetch> {
        self.fetches.iter_mut().find(|fetch| fetch.id == id)
    }

    /// The first chunk that is wanted at this priority and not in flight.
    pub(in crate::cache::fetch::scheduler) fn next_at(&self, priority: Priority) -> Option<u64> {
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

    /// The first of these chunks that is missing, wanted at any priority, and not in flight.
    pub(in crate::cache::fetch::scheduler) fn next_wanted(&self, chunks: Range<u64>) -> Option<u64> {
        let mut rest = chunks;
        loop {
            let pending = PRIORITIES
                .into_iter()
                .filter_map(|priority| self.next_pending(priority, &rest));
            let first = pending.min()?;
            rest.start = (first + self.pending_in_a_row(first)).min(rest.end);
            if let Some(missing) = self.entry.next_missing(&(first..rest.start)) {
                return Some(missing);
            }
        }
    }

    /// Number of consecutive chunks from this one on that are wanted, at any priority, and not in
    /// flight.
    pub(in crate::cache::fetch::scheduler) fn pending_in_a_row(&self, first: u64) -> u64 {
        let ahead = self.in_flight().filter(|chunks| chunks.end > first);
        let in_flight = ahead.map(|chunks| chunks.start.saturating_sub(first)).min();
        self.wants.in_a_row(first).min(in_flight.unwrap_or(u64::MAX))
    }

    /// Number of chunks that are wanted and not in flight.
    pub(in crate::cache::fetch::scheduler) fn pending(&self) -> u64 {
        let mut all: RangeSet<u64> = self.wants.runs().cloned().collect();
        self.in_flight().for_each(|chunks| all.remove(chunks));
        all.iter().map(|run| run.end - run.start).sum()
    }

    fn in_flight(&self) -> impl Iterator<Item = Range<u64>> {
        let in_flight = self.fetches.iter().map(|fetch| fetch.chunks.clone());
        in_flight.filter(|chunks| !chunks.is_empty())
    }

    /// Wants chunks at a priority, as far as they are missing. Those in flight get one more reason.
    pub(in crate::cache::fetch::scheduler) fn want(&mut self, chunks: &Range<u64>, priority: Priority) {
        let chunks = chunks.start..chunks.end.min(self.entry.chunk_count());
        let mut rest = RangeSet::from_iter((!chunks.is_empty()).then(|| chunks.clone()));
        self.in_flight().for_each(|run| rest.remove(run));
        if priority != Priority::Critical {
            for fetch in &self.fetches {
                self.wants.add(common(&fetch.chunks, &chunks), priority);
            }
        }
        for part in rest.iter().flat_map(|run| self.entry.missing_in(run)) {
            self.wants.add(part, priority);
        }
    }

    /// Stops wanting those of these chunks that are present.
    pub(in crate::cache::fetch::scheduler) fn drop_present(&mut self, chunks: &Range<u64>) {
        if chunks.is_empty() {
            return;
        }
        let mut present = RangeSet::from_iter([chunks.clone()]);
        let missing = self.entry.missing_in(chunks);
        missing.into_iter().for_each(|run| present.remove(run));
        present.into_iter().for_each(|run| self.wants.remove(run));
    }

    /// Stops wanting the first chunk at a priority if it is present by now, or lies past the end.
    /// Returns true if it did.
    pub(in crate::cache::fetch::scheduler) fn drop_if_moot(&mut self, priority: Priority) -> bool {
        let first = self.next_at(priority);
        let is_moot = |chunk: &u64| self.entry.is_present(*chunk) || *chunk >= self.entry.chunk_count();
        let Some(moot) = first.filter(is_moot) else {
            return false;
        };
        self.wants.remove(moot..moot + 1);
        true
    }

    /// Its version is known now, and with it the true size and the chunks that an earlier mount had
    /// fetched.
    pub(in crate::cache::fetch::scheduler) fn settle(&mut self) {
        let count = self.entry.chunk_count();
        self.wants.remove(count..u64::MAX);
        // Their requests end there by themselves; what is left of them must not be wanted again.
        for running in &mut self.fetches {
            running.chunks.end = running.chunks.end.min(count.max(running.chunks.start));
        }
        for run in self.wants.runs().cloned().collect::<Vec<_>>() {
            self.drop_present(&run);
        }
    }

    /// Chunks that a fetch has completed are no longer in flight, and not wanted. Returns them.
    pub(in crate::cache::fetch::scheduler) fn pass(&mut self, id: FetchId) -> Range<u64> {
        let entry = Arc::clone(&self.entry);
        let Some(fetch) = self.fetch_mut(id) else { return 0..0 };
        let passed = fetch.chunks.start..fetch.left(&entry).start;
        fetch.chunks.start = passed.end;
        self.wants.remove(passed.clone());
        passed
    }

    /// The priority of a fetch without blocked readers; `None` if nothing else wants it.
    pub(in crate::cache::fetch::scheduler) fn base_of(&self, fetch: &RunningFetch) -> Option<Priority> {
        self.wants.most_urgent(&fetch.chunks)
    }

    /// Returns true if a waiter needs chunks of it and some were lost since the last check.
    pub(in crate::cache::fetch::scheduler) fn has_unseen_losses(&self) -> bool {
        !self.waiters.is_empty() && self.losses != self.entry.chunk_losses()
    }

    /// Returns true if each chunk that a waiter misses is wanted at its priority, or in flight.
    ///
    /// It can't say that no waiter has everything: chunks also come by other entries of the same file.
    /// Such a waiter is woken by the end of a fetch, or when its wanted chunk turns out to be present.
    pub(in crate::cache::fetch::scheduler) fn looks_after_all(&self) -> bool {
        let in_flight: RangeSet<u64> = self.in_flight().collect();
        let is_looked_after = |waiter: &Waiter| {
            let touched = self.entry.chunks_of(&waiter.bytes);
            let mut covered = in_flight.clone();
            covered.extend(self.wants.at(waiter.priority).iter().cloned());
            touched.is_empty()
                || covered
                    .gaps(&touched)
                    .all(|gap| self.entry.next_missing(&gap).is_none())
        };
        // Chunks lost at this very moment are handled in the next event.
        self.waiters.iter().all(is_looked_after) || self.has_unseen_losses()
    }

    /// Wants what its waiters miss. Where a reader is blocked on bytes too far ahead in a fetch, that
    /// fetch is cut short before them.
    pub(in crate::cache::fetch::scheduler) fn look_after_waiters(&mut self, split_distance: u64) -> Vec<Action> {
        let mut cuts = Vec::new();
        let waiters = self.waiters.iter();
        let needs = waiters.map(|waiter| (waiter.bytes.clone(), waiter.priority));
        for (bytes, priority) in needs.collect::<Vec<_>>() {
            if priority == Priority::Critical {
                cuts.extend(self.split_far_fetches(&bytes, split_distance));
            }
            self.want(&self.entry.chunks_of(&bytes), priority);
        }
        cuts
    }

    /// The waiters that miss nothing any more. While the size is not known, only a waiter that needs no
    /// bytes misses nothing.
    pub(in crate::cache::fetch::scheduler) fn satisfied(&mut self) -> Vec<WaiterId> {
        let mut satisfied = Vec::new();
        for index in 0..self.waiters.len() {
            let lacking = self.first_lacking(&self.waiters[index].bytes);
            let waiter = &mut self.waiters[index];
            match lacking {
                // Bytes that have come are not checked again: a waiter for a terabyte is checked
                // often.
                Some(first) => waiter.bytes.start = waiter.bytes.start.max(first * self.entry.chunk.bytes()),
                None => satisfied.push(waiter.id),
            }
        }
        satisfied
    }

    /// The waiters that miss any of these chunks.
    pub(in crate::cache::fetch::scheduler) fn missing_any(&self, chunks: &Range<u64>) -> Vec<WaiterId> {
        let misses = |waiter: &&Waiter| {
            let shared = common(&self.entry.chunks_of(&waiter.bytes), chunks);
            self.entry.next_missing(&shared).is_some()
        };
        self.waiters.iter().filter(misses).map(|waiter| waiter.id).collect()
    }

    /// What a waiter waits for now.
    pub(in crate::cache::fetch::scheduler) fn waits_for(&self, waiter: &Waiter) -> WaitsFor {
        let chunks = self.entry.chunks_of(&waiter.bytes);
        let first = self.entry.next_missing(&chunks).unwrap_or(chunks.start);
        let fetch = self.fetches.iter().find(|fetch| fetch.chunks.contains(&first));
        match fetch {
            Some(fetch) => WaitsFor::Fetch(fetch.id),
            None if self.rests_until.is_some() => WaitsFor::Rest,
            None => WaitsFor::Slot,
        }
    }

    /// The blocked readers that wait for something else than at the last look.
    pub(in crate::cache::fetch::scheduler) fn take_changed_waits(&mut self) -> Vec<(WaiterId, WaitsFor)> {
        let mut changed = Vec::new();
        for index in 0..self.waiters.len() {
            if !self.waiters[index].is_read {
                continue;
            }
            let now = self.waits_for(&self.waiters[index]);
            let waiter = &mut self.waiters[index];
            if waiter.waits_for.replace(now) != Some(now) {
                changed.push((waiter.id, now));
            }
        }
        changed
    }

    pub(in crate::cache::fetch::scheduler) fn remove_waiter(&mut self, id: WaiterId) -> Option<Waiter> {
        let index = self.waiters.iter().position(|waiter| waiter.id == id)?;
        Some(self.waiters.remove(index))
    }

    /// The first chunk whose part of `bytes` is not in the data file.
    fn first_lacking(&self, bytes: &Range<u64>) -> Option<u64> {
        let mut touched = self.entry.chunks_of(bytes);
        while let Some(missing) = self.entry.next_missing(&touched) {
            if !self.is_written_as_needed(missing, bytes) {
                return Some(missing);
            }
            touched.start = missing + 1;
        }
        None
    }

    /// Returns true if a fetch in the middle of this chunk has written the part of `bytes` that
    /// lies in it.
    fn is_written_as_needed(&self, chunk: u64, bytes: &Range<u64>) -> bool {
        // Before an entry is settled it has no data file.
        let Some(settled) = self.entry.settled() else {
            return false;
        };
        let chunk_end = self.entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size()).end;
        let needed = bytes.end.min(chunk_end);
        let mut fetches = self.fetches.iter();
        fetches.any(|fetch| fetch.chunks.contains(&chunk) && fetch.watermark >= needed)
    }

    /// The end of the chunks that a fetch has yet to bring and that a reader is blocked on, exclusive;
    /// `None` if there are none.
    fn waited_for_end(&self, fetch: &RunningFetch) -> Option<u64> {
        let left = fetch.left(&self.entry);
        let waiters = self.waiters.iter();
        let blocked = waiters.filter(|waiter| waiter.priority == Priority::Critical);
        let shared = blocked.map(|waiter| common(&self.entry.chunks_of(&waiter.bytes), &left));
        shared
            .filter(|shared| !shared.is_empty())
            .map(|shared| shared.end)
            .max()
    }

    /// Returns true if a reader is blocked on what a fetch has yet to bring.
    pub(in crate::cache::fetch::scheduler) fn is_waited_for(&self, fetch: &RunningFetch) -> bool {
        self.waited_for_end(fetch).is_some()
    }

    /// Cuts each fetch short that is further than `distance` bytes from the bytes that a reader is
    /// blocked on. A fetch that brings the nearer ones of them brings the further ones soon enough.
    fn split_far_fetches(&mut self, bytes: &Range<u64>, distance: u64) -> Vec<Action> {
        let (touched, chunk_size) = (self.entry.chunks_of(bytes), self.entry.chunk.bytes());
        let mut cuts = Vec::new();
        for index in 0..self.fetches.len() {
            let shared = common(&touched, &self.fetches[index].chunks);
            let at = shared.start * chunk_size;
            if !shared.is_empty()
                && let Some(chunk) = self.first_lacking(&(bytes.start.max(at)..bytes.end))
                && chunk < shared.end
                && self.is_far(&self.fetches[index], chunk, bytes.start, distance)
            {
                let fetch = &mut self.fetches[index];
                let tail = chunk..std::mem::replace(&mut fetch.chunks.end, chunk);
                cuts.push(Action::Trim {
                    fetch: fetch.id,
                    end: chunk * chunk_size,
                });
                // Other waiters may have waited for what comes after it, too.
                for waiter in &self.waiters {
                    let needed = common(&self.entry.chunks_of(&waiter.bytes), &tail);
                    self.wants.add(needed, waiter.priority);
                }
            }
        }
        cuts
    }

    /// Returns true if `chunk` is too far ahead in a fetch to wait for.
    fn is_far(&self, fetch: &RunningFetch, chunk: u64, first_byte: u64, distance: u64) -> bool {
        let entry = &self.entry;
        let chunk_start = chunk * entry.chunk.bytes();
        // A reader may have read chunks of this fetch whose progress was not reported yet.
        let reported = entry.chunk.index(fetch.watermark);
        let missing = entry
            .settled()
            .map(|settled| settled.presence.next_missing(&(reported..chunk)));
        let reached = missing.map_or(0, |missing| missing.unwrap_or(chunk)) * entry.chunk.bytes();
        let has_begun_chunk = fetch.watermark > chunk_start || fetch.chunks.start == chunk;
        first_byte.max(chunk_start).saturating_sub(fetch.watermark.max(reached)) > distance
            && !has_begun_chunk
            && !entry.ignores_range()
    }

    /// Moves a stream's window, in bytes, and requests `ask` of it. What leaves the window is withdrawn.
    pub(in crate::cache::fetch::scheduler) fn move_window(
        &mut self,
        stream: StreamId,
        keep: &Range<u64>,
        ask: &Range<u64>,
    ) -> Vec<Action> {
        let left = self.windows.move_to(stream, self.entry.chunk.touched(keep));
        self.want(&self.entry.chunk.touched(ask), Priority::High);
        // Most often nothing: a window moves on at its end, and what is behind has come.
        left.iter().flat_map(|chunks| self.leave_window(chunks)).collect()
    }

    pub(in crate::cache::fetch::scheduler) fn drop_window(&mut self, stream: StreamId) -> Vec<Action> {
        let left = self.windows.take(stream);
        left.map_or_else(Vec::new, |chunks| self.leave_window(&chunks))
    }

    /// Drops the windows of a reader, or of all readers.
    pub(in crate::cache::fetch::scheduler) fn drop_windows(&mut self, reader: Option<u64>) -> Vec<Action> {
        let streams = self.windows.streams_of(reader).into_iter();
        streams.flat_map(|stream| self.drop_window(stream)).collect()
    }

    /// Chunks leave a window.
    fn leave_window(&mut self, chunks: &Range<u64>) -> Vec<Action> {
        let left = self.windows.outside(chunks);
        left.iter().flat_map(|run| self.withdraw(run, Priority::High)).collect()
    }

    /// Removes one reason to want these chunks: those that no other waiter needs at this priority
    /// are not wanted at it any more. A fetch that only this reason kept in flight ends at the next
    /// chunk edge.
    pub(in crate::cache::fetch::scheduler) fn withdraw(
        &mut self,
        chunks: &Range<u64>,
        priority: Priority,
    ) -> Vec<Action> {
        let mut concerned = Vec::new();
        for run in self.unneeded(chunks, priority) {
            for fetch in &self.fetches {
                let shared = common(&run, &fetch.chunks);
                if self.wants.within(priority, &shared).next().is_some() {
                    concerned.push(fetch.id);
                }
            }
            self.wants.remove_at(run, priority);
        }
        concerned
            .into_iter()
            .filter_map(|fetch| self.cut_to_what_is_wanted(fetch, Priority::Low))
            .collect()
    }

    /// The parts of these chunks that no waiter needs at this priority.
    fn unneeded(&self, chunks: &Range<u64>, priority: Priority) -> Vec<Range<u64>> {
        let waiters = self.waiters.iter().filter(|waiter| waiter.priority == priority);
        let needed: RangeSet<u64> = waiters
            .map(|waiter| self.entry.chunks_of(&waiter.bytes))
            .filter(|touched| !touched.is_empty())
            .collect();
        needed.gaps(chunks).collect()
    }

    /// Ends a fetch after the last chunk that is wanted at this priority or a more urgent one, but
    /// not within the chunk that it has begun. Later chunks, wanted less urgently, are no longer in
    /// flight.
    pub(in crate::cache::fetch::scheduler) fn cut_to_what_is_wanted(
        &mut self,
        id: FetchId,
        at_least: Priority,
    ) -> Option<Action> {
        let fetch = self.fetch(id)?;
        let chunk = self.entry.chunk;
        let next_edge = chunk.count(fetch.watermark).max(fetch.chunks.start + 1);
        let wanted = self.waited_for_end(fetch).max(self.wants.end(&fetch.chunks, at_least));
        let end = next_edge.max(wanted.unwrap_or(0));
        if end >= fetch.chunks.end || self.entry.ignores_range() {
            return None;
        }
        self.fetch_mut(id)?.chunks.end = end;
        let end = end * chunk.bytes();
        Some(Action::Trim { fetch: id, end })
    }
}
