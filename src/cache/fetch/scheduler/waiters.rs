//! Waiters: what they miss is wanted, and they are woken when they miss nothing any more.

use std::ops::Range;

use rangemap::RangeSet;

use super::entry_queue::{EntryQueue, Waiter};
use super::running::Fetch;
use super::{Action, FetchId, Priority, Scheduler, WaiterId};
use crate::cache::chunk::common;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;

impl EntryQueue {
    /// The parts of these chunks that no waiter needs at this priority.
    fn unneeded(&self, chunks: &Range<u64>, priority: Priority) -> Vec<Range<u64>> {
        let waiters = self.waiters.iter().filter(|waiter| waiter.priority == priority);
        let needed: RangeSet<u64> = waiters
            .map(|waiter| self.touched(&waiter.bytes))
            .filter(|touched| !touched.is_empty())
            .collect();
        needed.gaps(chunks).collect()
    }

    /// Returns true if each chunk that a waiter misses is wanted at its priority, or in flight.
    ///
    /// It can't say that no waiter has everything: chunks also come by other entries of the same file.
    /// Such a waiter is woken by the end of a fetch, or when its wanted chunk turns out to be present.
    pub(super) fn looks_after_all(&self) -> bool {
        let in_flight: RangeSet<u64> = (self.fetches.iter())
            .map(|fetch| fetch.chunks.clone())
            .filter(|chunks| !chunks.is_empty())
            .collect();
        let is_looked_after = |waiter: &Waiter| {
            let touched = self.touched(&waiter.bytes);
            let mut covered = in_flight.clone();
            covered.extend(self.wants.at(waiter.priority).iter().cloned());
            touched.is_empty() || covered.gaps(&touched).all(|gap| self.next_missing(&gap).is_none())
        };
        // Chunks lost at this very moment are handled in the next event.
        self.waiters.iter().all(is_looked_after) || self.has_unseen_losses()
    }

    /// The first chunk whose part of `bytes` is not in the data file.
    fn first_lacking(&self, bytes: &Range<u64>) -> Option<u64> {
        let mut touched = self.touched(bytes);
        while let Some(missing) = self.next_missing(&touched) {
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

    /// The last chunk that a fetch has yet to bring and that a reader is blocked on.
    pub(super) fn last_waited_for(&self, fetch: &Fetch) -> Option<u64> {
        let left = self.left_of(fetch);
        let last_of = |waiter: &Waiter| {
            let shared = common(&self.touched(&waiter.bytes), &left);
            (!shared.is_empty()).then(|| shared.end - 1)
        };
        let waiters = self.waiters.iter();
        let blocked = waiters.filter(|waiter| waiter.priority == Priority::Critical);
        blocked.filter_map(last_of).max()
    }

    pub(super) fn is_waited_for(&self, fetch: &Fetch) -> bool {
        self.last_waited_for(fetch).is_some()
    }

    /// Cuts each fetch short that is further than `distance` bytes from the bytes that a reader is
    /// blocked on. A fetch that brings the nearer ones of them brings the further ones soon enough.
    fn split_far_fetches(&mut self, bytes: &Range<u64>, distance: u64) -> Vec<Action> {
        let touched = self.touched(bytes);
        let mut cuts = Vec::new();
        for index in 0..self.fetches.len() {
            let shared = common(&touched, &self.fetches[index].chunks);
            let at = shared.start * self.entry.chunk.bytes();
            if !shared.is_empty()
                && let Some(chunk) = self.first_lacking(&(bytes.start.max(at)..bytes.end))
                && chunk < shared.end
                && self.is_far(&self.fetches[index], chunk, bytes.start, distance)
            {
                let fetch = &mut self.fetches[index];
                let tail = chunk..std::mem::replace(&mut fetch.chunks.end, chunk);
                cuts.push(Action::Trim {
                    fetch: fetch.id,
                    end: chunk * self.entry.chunk.bytes(),
                });
                // Other waiters may have waited for what comes after it, too.
                let waiters = self.waiters.iter();
                let needs = waiters.map(|waiter| (common(&self.touched(&waiter.bytes), &tail), waiter.priority));
                for (needed, priority) in needs.collect::<Vec<_>>() {
                    self.wants.add(needed, priority);
                }
            }
        }
        cuts
    }

    /// Returns true if `chunk` is too far ahead in a fetch to wait for.
    fn is_far(&self, fetch: &Fetch, chunk: u64, first_byte: u64, distance: u64) -> bool {
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

    /// Removes one reason to want these chunks: those that no other waiter needs at this priority
    /// are not wanted at it any more. A fetch that only this reason kept in flight ends at the next
    /// chunk edge.
    pub(super) fn withdraw(&mut self, chunks: &Range<u64>, priority: Priority) -> Vec<Action> {
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

    /// Ends a fetch after the last chunk that is wanted at this priority or a more urgent one, but
    /// not within the chunk that it has begun. Later chunks, wanted less urgently, are no longer in
    /// flight.
    pub(super) fn cut_to_what_is_wanted(&mut self, id: FetchId, at_least: Priority) -> Option<Action> {
        let fetch = self.fetch(id)?;
        let waited_for = self.last_waited_for(fetch).map(|chunk| chunk + 1);
        let chunk = self.entry.chunk;
        let next_edge = chunk.count(fetch.watermark).max(fetch.chunks.start + 1);
        let wanted = waited_for.max(self.wants.end(&fetch.chunks, at_least));
        let end = next_edge.max(wanted.unwrap_or(0));
        if end >= fetch.chunks.end || self.entry.ignores_range() {
            return None;
        }
        self.fetch_mut(id)?.chunks.end = end;
        let end = end * chunk.bytes();
        Some(Action::Trim { fetch: id, end })
    }
}

impl Scheduler {
    /// Restores the guarantee that no waiter is forgotten, for every waiter of an entry. Each
    /// missing chunk is in flight and near, or wanted at its priority; a waiter that misses nothing
    /// is woken.
    pub(super) fn look_after_waiters(&mut self, id: EntryId) {
        // Taken before presence is checked: later losses are seen the next time.
        if let Some(mut queue) = self.queues.get_mut(id) {
            queue.losses = queue.losses_now();
        }
        self.wake_satisfied(id);
        let Some(mut queue) = self.queues.get_mut(id) else {
            return;
        };
        let waiters = queue.waiters.iter();
        let needs = waiters.map(|waiter| (waiter.bytes.clone(), waiter.priority));
        for (bytes, priority) in needs.collect::<Vec<_>>() {
            if priority == Priority::Critical {
                let cuts = queue.split_far_fetches(&bytes, self.limits.split_distance);
                self.actions.extend(cuts);
            }
            let touched = queue.touched(&bytes);
            queue.want(&touched, priority);
        }
        drop(queue);
        // Another entry of the same file may have brought a chunk after the first check. Then it is
        // not wanted, so no fetch will wake its reader.
        self.wake_satisfied(id);
    }

    /// Wakes the waiters that miss nothing any more.
    pub(super) fn wake_satisfied(&mut self, id: EntryId) {
        let Some(mut queue) = self.queues.get_mut(id) else {
            return;
        };
        // While the size is not known, only a waiter that needs no bytes misses nothing.
        let mut satisfied = Vec::new();
        for index in 0..queue.waiters.len() {
            let chunk = queue.entry.chunk.bytes();
            let lacking = queue.first_lacking(&queue.waiters[index].bytes);
            let waiter = &mut queue.waiters[index];
            match lacking {
                // Bytes that have come are not checked again: a waiter for a terabyte is checked
                // often.
                Some(first) => waiter.bytes.start = waiter.bytes.start.max(first * chunk),
                None => satisfied.push(waiter.id),
            }
        }
        drop(queue);
        satisfied.into_iter().for_each(|waiter| self.wake(id, waiter, Ok(())));
    }

    pub(super) fn wake(&mut self, id: EntryId, waiter: WaiterId, result: Result<(), ReadError>) {
        self.forget_waiter(id, waiter);
        self.actions.push(Action::Wake(waiter, result));
    }

    /// Removes a waiter and returns it.
    fn forget_waiter(&mut self, id: EntryId, waiter: WaiterId) -> Option<Waiter> {
        self.waiters.remove(&waiter);
        let mut queue = self.queues.get_mut(id)?;
        let index = queue.waiters.iter().position(|other| other.id == waiter)?;
        Some(queue.waiters.remove(index))
    }

    /// Fails the waiters that miss any of these chunks, and no others. What only they wanted is not
    /// fetched.
    pub(super) fn fail_waiters(&mut self, id: EntryId, chunks: &Range<u64>, error: &ReadError) {
        let Some(queue) = self.queues.get(id) else { return };
        let is_concerned = |waiter: &&Waiter| {
            let shared = common(&queue.touched(&waiter.bytes), chunks);
            queue.next_missing(&shared).is_some()
        };
        let concerned = queue.waiters.iter().filter(is_concerned).map(|waiter| waiter.id);
        for waiter in concerned.collect::<Vec<_>>() {
            self.end_wait(id, waiter);
            self.actions.push(Action::Wake(waiter, Err(error.clone())));
        }
    }

    /// Removes a waiter without its bytes: what only it wanted is not fetched.
    pub(super) fn end_wait(&mut self, id: EntryId, waiter: WaiterId) {
        if let Some(gone) = self.forget_waiter(id, waiter)
            && let Some(mut queue) = self.queues.get_mut(id)
        {
            let touched = queue.touched(&gone.bytes);
            self.actions.extend(queue.withdraw(&touched, gone.priority));
        }
    }

    pub(super) fn fail_entry(&mut self, id: EntryId, error: &ReadError) {
        let Some(mut queue) = self.queues.get_mut(id) else {
            return;
        };
        queue.wants.remove(0..u64::MAX);
        let waiters: Vec<_> = queue.waiters.iter().map(|waiter| waiter.id).collect();
        drop(queue);
        waiters
            .into_iter()
            .for_each(|waiter| self.wake(id, waiter, Err(error.clone())));
        self.stop_all(id);
    }
}
