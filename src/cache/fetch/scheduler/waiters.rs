//! Waiters: what they miss is wanted, and they are woken when they miss nothing any more.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::entry_queue::{EntryQueue, Waiter};
use super::{Action, FetchId, Priority, Scheduler, WaiterId};
use crate::cache::chunk::common;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;

impl Scheduler {
    pub(super) fn want(&mut self, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        let mut flight = self.queues.open(entry);
        let chunks = chunks.start..chunks.end.min(flight.chunk_count());
        let mut missing = RangeSet::from_iter((!chunks.is_empty()).then(|| chunks.clone()));
        for fetch in &flight.fetches {
            let Some(running) = self.fetches.get_mut(fetch) else {
                continue;
            };
            let shared = common(&running.chunks, &chunks);
            if !shared.is_empty() {
                missing.remove(shared.clone());
                if priority != Priority::Critical {
                    running.wants.add(shared, priority);
                }
            }
        }
        for run in missing.iter() {
            for part in flight.missing_in(run) {
                flight.wants.add(part, priority);
            }
        }
    }

    /// Restores the guarantee that no waiter is forgotten, for every waiter of an entry. Each
    /// missing chunk is in flight and near, or wanted at its priority; a waiter that misses nothing
    /// is woken.
    pub(super) fn look_after_waiters(&mut self, id: EntryId) {
        // Taken before presence is checked: later losses are seen the next time.
        if let Some(mut flight) = self.queues.get_mut(id) {
            flight.losses = flight.losses_now();
        }
        self.wake_satisfied(id);
        let Some(flight) = self.queues.get(id) else { return };
        let entry = Arc::clone(&flight.entry);
        let needs = flight
            .waiters
            .iter()
            .map(|waiter| (waiter.bytes.clone(), waiter.priority));
        for (bytes, priority) in needs.collect::<Vec<_>>() {
            if priority == Priority::Critical {
                self.split_far_fetches(id, &bytes);
            }
            let Some(flight) = self.queues.get(id) else { return };
            self.want(&entry, flight.touched(&bytes), priority);
        }
        // Another entry of the same file may have brought a chunk after the first check. Then it is
        // not wanted, so no fetch will wake its reader.
        self.wake_satisfied(id);
    }

    /// Returns true if each chunk that a waiter of an entry misses is wanted at its priority, or in
    /// flight.
    ///
    /// It can't say that no waiter has everything: chunks also come by other entries of the same file.
    /// Such a waiter is woken by the end of a fetch, or when its wanted chunk turns out to be present.
    pub(super) fn looks_after_all(&self, id: EntryId) -> bool {
        let Some(flight) = self.queues.get(id) else {
            return true;
        };
        let fetches = flight.fetches.iter().filter_map(|fetch| self.fetches.get(fetch));
        let in_flight: RangeSet<u64> = fetches
            .map(|fetch| fetch.chunks.clone())
            .filter(|chunks| !chunks.is_empty())
            .collect();
        let is_looked_after = |waiter: &Waiter| {
            let touched = flight.touched(&waiter.bytes);
            let mut covered = in_flight.clone();
            covered.extend(flight.wants.at(waiter.priority).iter().cloned());
            touched.is_empty() || covered.gaps(&touched).all(|gap| flight.next_missing(&gap).is_none())
        };
        // Chunks lost at this very moment are handled in the next event.
        flight.waiters.iter().all(is_looked_after) || flight.has_unseen_losses()
    }

    /// The first chunk whose part of `bytes` is not in the data file.
    fn first_lacking(&self, flight: &EntryQueue, bytes: &Range<u64>) -> Option<u64> {
        let mut touched = flight.touched(bytes);
        while let Some(missing) = flight.next_missing(&touched) {
            if !self.is_written_as_needed(flight, missing, bytes) {
                return Some(missing);
            }
            touched.start = missing + 1;
        }
        None
    }

    /// Returns true if a fetch in the middle of this chunk has written the part of `bytes` that
    /// lies in it.
    fn is_written_as_needed(&self, flight: &EntryQueue, chunk: u64, bytes: &Range<u64>) -> bool {
        // Before an entry is settled it has no data file.
        let Some(settled) = flight.entry.settled() else {
            return false;
        };
        let chunk_end = flight.entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size()).end;
        let needed = bytes.end.min(chunk_end);
        let mut fetches = flight.fetches.iter().filter_map(|fetch| self.fetches.get(fetch));
        fetches.any(|fetch| fetch.chunks.contains(&chunk) && fetch.watermark >= needed)
    }

    /// Cuts each fetch short that is too far from the bytes that a reader is blocked on. A fetch
    /// that brings the nearer ones of them brings the further ones soon enough.
    fn split_far_fetches(&mut self, id: EntryId, bytes: &Range<u64>) {
        let Some(flight) = self.queues.get(id) else { return };
        let touched = flight.touched(bytes);
        for fetch in flight.fetches.clone() {
            let (Some(flight), Some(running)) = (self.queues.get(id), self.fetches.get(&fetch)) else {
                return;
            };
            let shared = common(&touched, &running.chunks);
            let at = shared.start * flight.entry.chunk.bytes();
            if !shared.is_empty()
                && let Some(chunk) = self.first_lacking(flight, &(bytes.start.max(at)..bytes.end))
                && chunk < shared.end
            {
                self.split_if_far(fetch, chunk, bytes.start);
            }
        }
    }

    /// Cuts a fetch short before `chunk` if the chunk is too far ahead to wait for.
    fn split_if_far(&mut self, id: FetchId, chunk: u64, first_byte: u64) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        let Some(mut flight) = self.queues.get_mut(fetch.entry) else {
            return;
        };
        let entry = &flight.entry;
        let chunk_start = chunk * entry.chunk.bytes();
        // A reader may have read chunks of this fetch whose progress was not reported yet.
        let told = entry.chunk.index(fetch.watermark);
        let missing = entry
            .settled()
            .map(|settled| settled.presence.next_missing(&(told..chunk)));
        let reached = missing.map_or(0, |missing| missing.unwrap_or(chunk)) * entry.chunk.bytes();
        let distance = first_byte.max(chunk_start).saturating_sub(fetch.watermark.max(reached));
        let has_begun_chunk = fetch.watermark > chunk_start || fetch.chunks.start == chunk;
        if distance <= self.limits.split_distance || has_begun_chunk || entry.ignores_range() {
            return;
        }
        let tail = chunk..fetch.chunks.end;
        fetch.chunks.end = chunk;
        self.actions.push(Action::Trim {
            fetch: id,
            end: chunk_start,
        });
        flight.wants.add_all(fetch.wants.take(&tail));
        // Other waiters may have waited for what comes after it, too.
        for index in 0..flight.waiters.len() {
            let waiter = &flight.waiters[index];
            let (touched, priority) = (flight.touched(&waiter.bytes), waiter.priority);
            let needed = common(&touched, &tail);
            flight.wants.add(needed, priority);
        }
    }

    /// Removes one reason to want these chunks: those that no other waiter needs at this priority
    /// are not wanted at it any more. A fetch that only this reason kept in flight ends at the next
    /// chunk edge.
    pub(super) fn withdraw(&mut self, id: EntryId, chunks: &Range<u64>, priority: Priority) {
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        let fetches = flight.fetches.clone();
        let mut cut = Vec::new();
        for run in flight.unneeded(chunks, priority) {
            flight.wants.remove_at(run.clone(), priority);
            for &fetch in &fetches {
                let running = self.fetches.get_mut(&fetch);
                if running.is_some_and(|running| running.wants.remove_at(run.clone(), priority)) {
                    cut.push(fetch);
                }
            }
        }
        drop(flight);
        cut.into_iter()
            .for_each(|fetch| self.cut_to_what_is_wanted(fetch, Priority::Low));
    }

    /// Ends a fetch after the last chunk that is wanted at this priority or a more urgent one, but
    /// not within the chunk that it has begun. Later chunks, wanted less urgently, are wanted
    /// again.
    pub(super) fn cut_to_what_is_wanted(&mut self, id: FetchId, at_least: Priority) {
        let waited_for = self.last_waited_for(id).map(|chunk| chunk + 1);
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        let Some(mut flight) = self.queues.get_mut(fetch.entry) else {
            return;
        };
        let entry = &flight.entry;
        let next_edge = entry.chunk.count(fetch.watermark).max(fetch.chunks.start + 1);
        let end = next_edge.max(waited_for.max(fetch.wants.end(at_least)).unwrap_or(0));
        if end < fetch.chunks.end && !entry.ignores_range() {
            let at = end * entry.chunk.bytes();
            flight.wants.add_all(fetch.wants.take(&(end..fetch.chunks.end)));
            fetch.chunks.end = end;
            self.actions.push(Action::Trim { fetch: id, end: at });
        }
    }

    /// Wakes the waiters that miss nothing any more.
    pub(super) fn wake_satisfied(&mut self, id: EntryId) {
        let Some(flight) = self.queues.get(id) else { return };
        let chunk = flight.entry.chunk;
        // While the size is not known, only a waiter that needs no bytes misses nothing.
        let lacking: Vec<_> = flight
            .waiters
            .iter()
            .map(|waiter| (waiter.id, self.first_lacking(flight, &waiter.bytes)))
            .collect();
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        for (waiter, (_, lacking)) in flight.waiters.iter_mut().zip(&lacking) {
            // Bytes that have come are not checked again: a waiter for a terabyte is checked often.
            let first = lacking.map_or(0, |chunk_index| chunk_index * chunk.bytes());
            waiter.bytes.start = waiter.bytes.start.max(first);
        }
        drop(flight);
        let satisfied = lacking.into_iter().filter(|(_, lacking)| lacking.is_none());
        satisfied.for_each(|(waiter, _)| self.wake(id, waiter, Ok(())));
    }

    pub(super) fn wake(&mut self, id: EntryId, waiter: WaiterId, result: Result<(), ReadError>) {
        self.forget_waiter(id, waiter);
        self.actions.push(Action::Wake(waiter, result));
    }

    /// Removes a waiter and returns it.
    pub(super) fn forget_waiter(&mut self, id: EntryId, waiter: WaiterId) -> Option<Waiter> {
        self.waiters.remove(&waiter);
        let mut flight = self.queues.get_mut(id)?;
        let index = flight.waiters.iter().position(|other| other.id == waiter)?;
        Some(flight.waiters.remove(index))
    }

    /// Fails the waiters that miss any of these chunks, and no others. What only they wanted is not
    /// fetched.
    pub(super) fn fail_waiters(&mut self, id: EntryId, chunks: &Range<u64>, error: &ReadError) {
        let Some(flight) = self.queues.get(id) else { return };
        let concerned: Vec<_> = flight
            .waiters
            .iter()
            .filter(|waiter| {
                let touched = flight.touched(&waiter.bytes);
                let shared = common(&touched, chunks);
                flight.next_missing(&shared).is_some()
            })
            .map(|waiter| waiter.id)
            .collect();
        for waiter in concerned {
            self.end_wait(id, waiter);
            self.actions.push(Action::Wake(waiter, Err(error.clone())));
        }
    }

    /// Removes a waiter without its bytes: what only it wanted is not fetched.
    pub(super) fn end_wait(&mut self, id: EntryId, waiter: WaiterId) {
        if let Some(gone) = self.forget_waiter(id, waiter)
            && let Some(flight) = self.queues.get(id)
        {
            let touched = flight.touched(&gone.bytes);
            self.withdraw(id, &touched, gone.priority);
        }
    }

    pub(super) fn fail_entry(&mut self, id: EntryId, error: &ReadError) {
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        flight.wants.remove(0..u64::MAX);
        let waiters: Vec<_> = flight.waiters.iter().map(|waiter| waiter.id).collect();
        let fetches = flight.fetches.clone();
        drop(flight);
        waiters
            .into_iter()
            .for_each(|waiter| self.wake(id, waiter, Err(error.clone())));
        fetches.into_iter().for_each(|fetch| self.stop(fetch));
    }
}
