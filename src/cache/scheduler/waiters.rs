//! Looking after waiters: what they miss is wanted, and they are woken when they miss nothing any more.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::flight::{Flight, more_urgent};
use super::{Action, FetchId, Priority, Scheduler, WaiterId};
use crate::cache::entry::{CacheEntry, EntryId};
use crate::cache::error::ReadError;

impl Scheduler {
    pub(super) fn want(&mut self, id: EntryId, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        let flight = self.flights.entry(id).or_insert_with(|| Flight::new(Arc::clone(entry)));
        let chunks = chunks.start..chunks.end.min(flight.chunk_count());
        let mut missing = RangeSet::from_iter((!chunks.is_empty()).then(|| chunks.clone()));
        for fetch in &flight.fetches {
            let Some(running) = self.fetches.get_mut(fetch) else {
                continue;
            };
            let shared = running.chunks.start.max(chunks.start)..running.chunks.end.min(chunks.end);
            if !shared.is_empty() {
                missing.remove(shared);
                running.base = more_urgent(running.base, priority);
            }
        }
        for run in missing.iter() {
            for part in flight.missing_in(run) {
                flight.want(part, priority);
            }
        }
    }

    /// Makes the second promise of the module true for every waiter of an entry: each missing chunk
    /// is in flight and near, or wanted at `Critical`; and who misses nothing is woken.
    pub(super) fn look_after_waiters(&mut self, id: EntryId) {
        self.wake_satisfied(id);
        let Some(flight) = self.flights.get(&id) else { return };
        let entry = Arc::clone(&flight.entry);
        let ranges: Vec<_> = flight.waiters.iter().map(|waiter| waiter.bytes.clone()).collect();
        for bytes in ranges {
            let Some(flight) = self.flights.get(&id) else { return };
            // A fetch that brings the waiter's nearer bytes brings the further ones soon enough.
            let mut near = None;
            for chunk in flight.touched(&bytes) {
                if self.has(id, chunk, &bytes) {
                    continue;
                }
                match self.fetch_of(id, chunk) {
                    Some(fetch) if near == Some(fetch) => {}
                    Some(fetch) => {
                        self.split_if_far(fetch, chunk, bytes.start);
                        near = Some(fetch);
                    }
                    None => self.want(id, &entry, chunk..chunk + 1, Priority::Critical),
                }
            }
        }
    }

    /// Whether the part of `bytes` that lies in `chunk` is in the data file.
    pub(super) fn has(&self, id: EntryId, chunk: u64, bytes: &Range<u64>) -> bool {
        let Some(flight) = self.flights.get(&id) else {
            return false;
        };
        if flight.is_present(chunk) {
            return true;
        }
        // Before an entry is settled there is no data file that could hold anything.
        let Some(settled) = flight.entry.settled() else {
            return false;
        };
        let needed = bytes
            .end
            .min(flight.entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size()).end);
        self.fetch_of(id, chunk)
            .and_then(|fetch| self.fetches.get(&fetch))
            .is_some_and(|f| f.watermark >= needed)
    }

    pub(super) fn fetch_of(&self, id: EntryId, chunk: u64) -> Option<FetchId> {
        let fetches = &self.flights.get(&id)?.fetches;
        fetches
            .iter()
            .copied()
            .find(|fetch| self.fetches.get(fetch).is_some_and(|f| f.chunks.contains(&chunk)))
    }

    /// Cuts a fetch short before `chunk` when it is too far from it to be waited for.
    pub(super) fn split_if_far(&mut self, id: FetchId, chunk: u64, first_byte: u64) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        let Some(flight) = self.flights.get_mut(&fetch.entry) else {
            return;
        };
        let entry = &flight.entry;
        let chunk_start = chunk * entry.chunk.bytes();
        let distance = first_byte.max(chunk_start).saturating_sub(fetch.watermark);
        let has_begun_chunk = fetch.watermark > chunk_start || fetch.chunks.start == chunk;
        if distance <= self.limits.split_distance || has_begun_chunk || entry.ignores_range() {
            return;
        }
        let tail = chunk + 1..fetch.chunks.end;
        fetch.chunks.end = chunk;
        self.actions.push(Action::Trim {
            fetch: id,
            end: chunk_start,
        });
        flight.want(chunk..chunk + 1, Priority::Critical);
        if let Some(base) = fetch.base {
            flight.want(tail.clone(), base);
        }
        // Others may have waited for what comes after it.
        for index in 0..flight.waiters.len() {
            let touched = flight.touched(&flight.waiters[index].bytes);
            let needed = touched.start.max(tail.start)..touched.end.min(tail.end);
            flight.want(needed, Priority::Critical);
        }
    }

    /// Waiters that gave up leave `Critical` chunks behind that nobody is blocked on.
    pub(super) fn drop_unneeded_critical(&mut self, id: EntryId) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        let mut needed = RangeSet::new();
        for waiter in &flight.waiters {
            let touched = flight.touched(&waiter.bytes);
            if !touched.is_empty() {
                needed.insert(touched);
            }
        }
        let critical = &mut flight.wanted[Priority::Critical as usize];
        let unneeded: Vec<_> = critical
            .iter()
            .flat_map(|run| needed.gaps(run).collect::<Vec<_>>())
            .collect();
        unneeded.into_iter().for_each(|run| critical.remove(run));
    }

    /// Wakes who misses nothing any more.
    pub(super) fn wake_satisfied(&mut self, id: EntryId) {
        let Some(flight) = self.flights.get(&id) else { return };
        // While the size is not known, only who needs no byte at all misses nothing.
        let satisfied: Vec<_> = flight
            .waiters
            .iter()
            .filter(|waiter| {
                flight
                    .touched(&waiter.bytes)
                    .all(|chunk| self.has(id, chunk, &waiter.bytes))
            })
            .map(|waiter| waiter.id)
            .collect();
        satisfied.into_iter().for_each(|waiter| self.wake(id, waiter, Ok(())));
    }

    pub(super) fn wake(&mut self, id: EntryId, waiter: WaiterId, result: Result<(), ReadError>) {
        self.waiters.remove(&waiter);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.waiters.retain(|other| other.id != waiter);
        }
        self.actions.push(Action::Wake(waiter, result));
    }

    /// Fails the waiters that miss any of these chunks; nobody else is concerned.
    pub(super) fn fail_waiters(&mut self, id: EntryId, chunks: &Range<u64>, error: &ReadError) {
        let Some(flight) = self.flights.get(&id) else { return };
        let concerned: Vec<_> = flight
            .waiters
            .iter()
            .filter(|waiter| {
                let touched = flight.touched(&waiter.bytes);
                let shared = touched.start.max(chunks.start)..touched.end.min(chunks.end);
                shared.into_iter().any(|chunk| !flight.is_present(chunk))
            })
            .map(|waiter| waiter.id)
            .collect();
        concerned
            .into_iter()
            .for_each(|waiter| self.wake(id, waiter, Err(error.clone())));
        self.drop_unneeded_critical(id);
    }

    pub(super) fn fail_entry(&mut self, id: EntryId, error: &ReadError) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        flight.unwant(0..u64::MAX);
        let waiters: Vec<_> = flight.waiters.iter().map(|waiter| waiter.id).collect();
        let fetches = flight.fetches.clone();
        waiters
            .into_iter()
            .for_each(|waiter| self.wake(id, waiter, Err(error.clone())));
        fetches.into_iter().for_each(|fetch| self.stop(fetch));
    }
}
