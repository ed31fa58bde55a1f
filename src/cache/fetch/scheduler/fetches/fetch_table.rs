//! The table of fetches: everything wanted, in flight and waited for, and the actions that follow.
//!
//! It keeps one promise, for every entry: **each chunk that a waiter misses is wanted at its priority,
//! or in flight.** So a fetch can be taken out at any time: what it has not brought is wanted as before.
//! Which fetch begins, and which one gives up its slot, is decided in
//! [`dispatch`](crate::cache::fetch::scheduler::dispatch).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::running_fetch::RunningFetch;
use super::slices::Slices;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::error::ReadError;
use crate::cache::fetch::scheduler::action::{Action, FetchId, FetchOrder, Priority, WaiterId, WaitsFor};
use crate::cache::fetch::scheduler::entry::entry_queue::{EntryQueue, Waiter};
use crate::cache::fetch::scheduler::entry::windows::WindowUpdate;
use crate::cache::fetch::scheduler::origins::origin_state::OriginNumber;
use crate::cache::fetch::scheduler::origins::queues::{EntryQueueMut, EntryQueues};
use crate::cache::key::EntryId;
use crate::origin::{Complaint, Load};

/// Everything wanted, in flight and waited for.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct FetchTable {
    pub(in crate::cache::fetch::scheduler) queues: EntryQueues,
    /// The entries of all fetches, which are in their queues.
    pub(in crate::cache::fetch::scheduler) fetches: HashMap<FetchId, EntryId>,
    /// The entries of all waiters.
    pub(in crate::cache::fetch::scheduler) waiters: HashMap<WaiterId, EntryId>,
    pub(in crate::cache::fetch::scheduler) actions: Vec<Action>,
    /// The blocked readers that wait for something else than before, and what for.
    pub(in crate::cache::fetch::scheduler) changed_waits: Vec<(WaiterId, WaitsFor)>,
    /// Counts the periods, which are shorter than a second.
    pub(in crate::cache::fetch::scheduler) period: u64,
    next_fetch: u64,
    /// Origins to include in the next dispatch, because an entry has changed whose fetches and queue are not at one
    /// origin.
    freed: Vec<OriginNumber>,
    /// Bytes between a fetch's position and a waiter's first byte from which on the waiter gets a
    /// fetch of its own.
    split_distance: u64,
    /// Of a tier that is asked first.
    pub(in crate::cache::fetch::scheduler) slices: Option<Slices>,
}

impl FetchTable {
    pub(in crate::cache::fetch::scheduler) fn new(
        queues: EntryQueues,
        split_distance: u64,
        slices: Option<Slices>,
    ) -> FetchTable {
        FetchTable {
            queues,
            next_fetch: 1,
            split_distance,
            slices,
            ..FetchTable::default()
        }
    }

    pub(in crate::cache::fetch::scheduler) fn fetch(&self, id: FetchId) -> Option<(&EntryQueue, &RunningFetch)> {
        let queue = self.queues.get(*self.fetches.get(&id)?)?;
        Some((queue, queue.fetch(id)?))
    }

    pub(super) fn queue_of(&mut self, id: FetchId) -> Option<EntryQueueMut<'_>> {
        self.queues.get_mut(*self.fetches.get(&id)?)
    }

    /// The fetches that have slots of an origin.
    pub(in crate::cache::fetch::scheduler) fn fetches_to(
        &self,
        origin: OriginNumber,
    ) -> impl Iterator<Item = (&EntryQueue, &RunningFetch)> {
        self.queues.at(origin).fetches().filter_map(|id| self.fetch(id))
    }

    /// A fetch failed, perhaps because of too many requests to its origin: the complaint, with the load
    /// of that origin. The fetch itself does not count as served.
    pub(in crate::cache::fetch::scheduler) fn complaint(
        &self,
        failed: FetchId,
        is_said: bool,
        asked: Instant,
        now: Instant,
    ) -> Option<(OriginNumber, Complaint<EntryId>)> {
        let (queue, fetch) = self.fetch(failed)?;
        let (by, origin) = (queue.entry.id, fetch.origin);
        let load = |of: Option<EntryId>| {
            let here = || {
                let fetches = self.fetches_to(origin);
                fetches.filter(move |(queue, _)| of.is_none_or(|of| queue.entry.id == of))
            };
            let is_served = |fetch: &RunningFetch| fetch.id != failed && fetch.is_served(self.period);
            Load {
                running: here().count(),
                served: here().filter(|(_, fetch)| is_served(fetch)).count(),
            }
        };
        let complaint = Complaint {
            by,
            is_said,
            asked,
            now,
            load: load(None),
            own: load(Some(by)),
        };
        Some((origin, complaint))
    }

    /// Carries out a change of an entry's queue, if it has one.
    pub(in crate::cache::fetch::scheduler) fn change<A>(
        &mut self,
        id: EntryId,
        change: impl FnOnce(&mut EntryQueue) -> A,
    ) where
        A: IntoIterator<Item = Action>,
    {
        if let Some(mut queue) = self.queues.get_mut(id) {
            self.actions.extend(change(&mut queue));
        }
    }

    /// Applies changes to the windows of an entry's streams.
    pub(in crate::cache::fetch::scheduler) fn update_windows(
        &mut self,
        entry: &Arc<CacheEntry>,
        window_updates: &[WindowUpdate],
    ) {
        for update in window_updates {
            match update {
                WindowUpdate::Move { stream, keep, ask } => {
                    let whole = |bytes: &Range<u64>| self.slices.map_or(bytes.clone(), |slices| slices.widen(bytes));
                    let (keep, ask) = (whole(keep), whole(ask));
                    let mut queue = self.queues.open(entry);
                    self.actions.extend(queue.move_window(*stream, &keep, &ask));
                }
                WindowUpdate::Drop(stream) => self.change(entry.id, |queue| queue.drop_window(*stream)),
            }
        }
    }

    /// Registers a waiter. It is looked after by the next [`Self::look_after_waiters`].
    pub(in crate::cache::fetch::scheduler) fn add_waiter(&mut self, entry: &Arc<CacheEntry>, waiter: Waiter) {
        self.waiters.insert(waiter.id, entry.id);
        self.queues.open(entry).waiters.push(waiter);
    }

    /// Restores the guarantee that no waiter is forgotten, for every waiter of an entry. Each
    /// missing chunk is in flight and near, or wanted at its priority; a waiter that misses nothing
    /// is woken.
    pub(in crate::cache::fetch::scheduler) fn look_after_waiters(&mut self, id: EntryId) {
        // Taken before presence is checked: later losses are seen the next time.
        if let Some(mut queue) = self.queues.get_mut(id) {
            queue.losses = queue.entry.chunk_losses();
        }
        self.wake_satisfied(id);
        let distance = self.split_distance;
        self.change(id, |queue| queue.look_after_waiters(distance));
        // Another entry of the same file may have brought a chunk after the first check. Then it is
        // not wanted, so no fetch will wake its reader.
        self.wake_satisfied(id);
    }

    pub(in crate::cache::fetch::scheduler) fn looks_after_all(&self, id: EntryId) -> bool {
        self.queues.get(id).is_none_or(EntryQueue::looks_after_all)
    }

    /// Wakes the waiters that miss nothing any more.
    pub(in crate::cache::fetch::scheduler) fn wake_satisfied(&mut self, id: EntryId) {
        let satisfied = self.queues.get_mut(id).map(|mut queue| queue.satisfied());
        for waiter in satisfied.unwrap_or_default() {
            self.wake(id, waiter, Ok(()));
        }
    }

    /// Ends a wait without its bytes: what only this waiter wanted is not fetched.
    pub(in crate::cache::fetch::scheduler) fn fail_waiter(&mut self, id: EntryId, waiter: WaiterId, error: ReadError) {
        if let Some(gone) = self.wake(id, waiter, Err(error)) {
            self.change(id, |queue| {
                queue.withdraw(&queue.entry.chunks_of(&gone.bytes), gone.priority)
            });
        }
    }

    /// Fails the waiters that miss any of these chunks, and no others.
    fn fail_waiters(&mut self, id: EntryId, chunks: &Range<u64>, error: &ReadError) {
        let concerned = self.queues.get(id).map(|queue| queue.missing_any(chunks));
        for waiter in concerned.unwrap_or_default() {
            self.fail_waiter(id, waiter, error.clone());
        }
    }

    /// Fails all waiters of an entry. Nothing of it is wanted or in flight any more.
    pub(in crate::cache::fetch::scheduler) fn fail_entry(&mut self, id: EntryId, error: &ReadError) {
        let Some(mut queue) = self.queues.get_mut(id) else {
            return;
        };
        queue.wants.remove(0..u64::MAX);
        let waiters: Vec<_> = queue.waiters.iter().map(|waiter| waiter.id).collect();
        drop(queue);
        for waiter in waiters {
            self.wake(id, waiter, Err(error.clone()));
        }
        self.stop_all(id);
    }

    /// Wakes a waiter and forgets it. Returns it.
    fn wake(&mut self, id: EntryId, waiter: WaiterId, result: Result<(), ReadError>) -> Option<Waiter> {
        self.waiters.remove(&waiter);
        self.actions.push(Action::Wake(waiter, result));
        self.queues.get_mut(id)?.remove_waiter(waiter)
    }

    /// Begins a fetch of these chunks of an entry. `is_a_turn`: it is as long as one turn.
    pub(in crate::cache::fetch::scheduler) fn begin(
        &mut self,
        id: EntryId,
        chunks: Range<u64>,
        turn: u64,
        is_a_turn: bool,
    ) {
        let Some(queue) = self.queues.get(id) else { return };
        let (entry, origin, fetch) = (Arc::clone(&queue.entry), queue.origin, FetchId(self.next_fetch));
        self.next_fetch += 1;
        let size = entry.settled().map_or(u64::MAX, Settled::size);
        let bytes = entry.chunk.bytes_of(&chunks, size);
        let running = RunningFetch {
            id: fetch,
            origin,
            chunks: chunks.clone(),
            start: bytes.start,
            watermark: bytes.start,
            received: bytes.start,
            moved_in: None,
            served_in: None,
            began_in: self.period,
            answers_before: self.queues.at(origin).answers,
            marks: [bytes.start; 3],
            is_a_turn,
        };
        if let Some(mut queue) = self.queues.get_mut(id) {
            queue.wants.remove_at(chunks, Priority::Critical);
            queue.turn = turn;
            queue.fetches.push(running);
        }
        self.fetches.insert(fetch, id);
        self.queues.change(origin, |at| at.take_slot(fetch));
        // The entry's other fetch is not the only one of its stream any more.
        self.note_slots_elsewhere(id);
        self.actions.push(Action::Start(FetchOrder {
            id: fetch,
            entry,
            bytes,
        }));
        self.note_waits(id);
    }

    /// Notes which blocked readers of an entry wait for something else than before. Called whenever its fetches, or what
    /// they have yet to bring, have changed.
    pub(in crate::cache::fetch::scheduler) fn note_waits(&mut self, id: EntryId) {
        if self.queues.get(id).is_none_or(|queue| queue.waiters.is_empty()) {
            return;
        }
        if let Some(mut queue) = self.queues.get_mut(id) {
            self.changed_waits.extend(queue.take_changed_waits());
        }
    }

    /// A fetch has received everything up to `offset`. Returns its origin, and whether these are its first bytes.
    pub(in crate::cache::fetch::scheduler) fn received(
        &mut self,
        id: FetchId,
        offset: u64,
    ) -> Option<(OriginNumber, bool)> {
        let period = self.period;
        let mut queue = self.queue_of(id)?;
        let running = queue.fetch_mut(id)?;
        running.received = running.received.max(offset);
        running.served_in = Some(period);
        let is_first = running.moved_in.replace(period).is_none();
        Some((running.origin, is_first))
    }

    /// A fetch has written everything up to `watermark`. Returns its origin, the bytes that it has
    /// brought, and true if these are its first; `None` if it is over.
    pub(in crate::cache::fetch::scheduler) fn progress(
        &mut self,
        id: FetchId,
        watermark: u64,
    ) -> Option<(OriginNumber, u64, bool)> {
        let period = self.period;
        let mut queue = self.queue_of(id)?;
        let running = queue.fetch_mut(id)?;
        let (origin, brought) = (running.origin, watermark.saturating_sub(running.watermark));
        running.watermark += brought;
        running.received = running.received.max(running.watermark);
        running.served_in = Some(period);
        let is_first = running.moved_in.replace(period).is_none();
        // What the fetch has passed is no longer in flight. It is present now, or was evicted
        // since and has to be fetched again.
        let passed = queue.pass(id);
        let (entry, has_lost) = (queue.entry.id, queue.entry.next_missing(&passed).is_some());
        drop(queue);
        if has_lost {
            self.look_after_waiters(entry);
        }
        Some((origin, brought, is_first))
    }

    /// Notes that the server of a fetch has answered it, or that its answer was broken off.
    pub(in crate::cache::fetch::scheduler) fn note_served(&mut self, id: FetchId, is_served: bool) {
        let period = self.period;
        if let Some(mut queue) = self.queue_of(id)
            && let Some(running) = queue.fetch_mut(id)
        {
            running.served_in = is_served.then_some(period);
        }
    }

    /// A fetch brings its whole file, from byte 0. It takes over everything wanted of the entry, and
    /// the entry's other fetches end. Returns the entry; `None` if the fetch is over.
    pub(in crate::cache::fetch::scheduler) fn go_linear(&mut self, fetch: FetchId) -> Option<EntryId> {
        let mut queue = self.queue_of(fetch)?;
        let (id, all) = (queue.entry.id, 0..queue.entry.chunk_count());
        queue.wants.remove_at(all.clone(), Priority::Critical);
        let others = queue.fetches.iter().map(|other| other.id);
        let others: Vec<_> = others.filter(|&other| other != fetch).collect();
        drop(queue);
        others.into_iter().for_each(|other| self.replace(other));
        if let Some(mut queue) = self.queues.get_mut(id)
            && let Some(running) = queue.fetch_mut(fetch)
        {
            running.chunks = all;
            running.start = 0;
            (running.watermark, running.received) = (0, 0);
            running.marks = [0; 3];
        }
        Some(id)
    }

    /// A fetch has ended by itself. Returns its entry; `None` if the fetch is over already.
    pub(in crate::cache::fetch::scheduler) fn end(
        &mut self,
        fetch: FetchId,
        result: Result<(), ReadError>,
    ) -> Option<EntryId> {
        let (queue, ended) = self.fetch(fetch)?;
        let (id, failed_chunks) = (queue.entry.id, ended.left(&queue.entry));
        self.remove(fetch);
        match result {
            Ok(()) => {}
            // No fetch will bring bytes of this version any more.
            Err(error @ ReadError::Changed) => self.fail_entry(id, &error),
            Err(error) => self.fail_waiters(id, &failed_chunks, &error),
        }
        Some(id)
    }

    /// A period ends. What the fetches bring is counted by periods.
    pub(in crate::cache::fetch::scheduler) fn end_period(&mut self) {
        self.period += 1;
        for fetch in self.queues.fetches_mut() {
            fetch.marks = [fetch.received, fetch.marks[0], fetch.marks[1]];
        }
    }

    /// Gives a fetch a slot of an origin in place of its previous one, and returns the previous
    /// origin. The entry's wanted chunks move there, too.
    pub(in crate::cache::fetch::scheduler) fn move_slot(
        &mut self,
        id: FetchId,
        to: OriginNumber,
    ) -> Option<OriginNumber> {
        let (period, answers) = (self.period, self.queues.at(to).answers);
        let mut queue = self.queue_of(id)?;
        let fetch = queue.fetch_mut(id).filter(|fetch| fetch.origin != to)?;
        let from = std::mem::replace(&mut fetch.origin, to);
        // Its time with the slot begins anew.
        fetch.began_in = period;
        fetch.answers_before = answers;
        let entry = queue.entry.id;
        drop(queue);
        self.queues.change(from, |at| at.release_slot(id));
        self.queues.change(to, |at| at.take_slot(id));
        self.queues.redirect(entry, to);
        Some(from)
    }

    /// Something has changed for an entry. If its fetches have slots of several origins, the next
    /// dispatch includes all of these.
    pub(in crate::cache::fetch::scheduler) fn note_slots_elsewhere(&mut self, id: EntryId) {
        if let Some(queue) = self.queues.get(id).filter(|queue| queue.has_moved) {
            self.freed.extend(queue.fetches.iter().map(|fetch| fetch.origin));
        }
    }

    /// Something of an entry is wanted again, because a fetch of this origin brings less. If its bytes come from another
    /// origin now, that one's slots may be free: the current dispatch includes it.
    pub(in crate::cache::fetch::scheduler) fn note_wanted_elsewhere(&mut self, id: EntryId, origin: OriginNumber) {
        let now_at = self.queues.get(id).map(|queue| queue.origin);
        self.freed.extend(now_at.filter(|now_at| *now_at != origin));
    }

    /// The next origin that the current dispatch has to include.
    pub(in crate::cache::fetch::scheduler) fn take_freed(&mut self) -> Option<OriginNumber> {
        self.freed.pop()
    }

    /// Stops wanting the first chunk of an entry at a priority if it is present by now, or lies past the
    /// end. An entry is settled a moment before the scheduler receives
    /// [`Scheduler::settled`](crate::cache::fetch::scheduler::Scheduler::settled). Another entry of the
    /// same file, or another mount, may have brought the chunk: **this is the last chance to wake a
    /// reader that waits for it.**
    pub(in crate::cache::fetch::scheduler) fn drop_if_moot(&mut self, id: EntryId, priority: Priority) -> bool {
        let is_moot = self
            .queues
            .get_mut(id)
            .is_some_and(|mut queue| queue.drop_if_moot(priority));
        if is_moot {
            self.wake_satisfied(id);
            // Readers may no longer be blocked on the entry's fetches.
            self.note_slots_elsewhere(id);
            self.queues.forget_if_idle(id);
        }
        is_moot
    }

    /// Stops a fetch. What it has not brought is wanted as before.
    pub(in crate::cache::fetch::scheduler) fn preempt(&mut self, id: FetchId) {
        let Some(&entry) = self.fetches.get(&id) else { return };
        self.replace(id);
        // Its chunks were not wanted at `Critical`, but readers may be blocked on them.
        self.look_after_waiters(entry);
        self.note_slots_elsewhere(entry);
        self.queues.forget_if_idle(entry);
        debug_assert!(self.looks_after_all(entry), "a waiter of {entry:?} was lost");
    }

    /// Stops a fetch whose chunks another is about to bring.
    pub(in crate::cache::fetch::scheduler) fn replace(&mut self, id: FetchId) {
        self.release(id);
        self.actions.push(Action::Stop(id));
    }

    /// Forgets a fetch. What it has not brought is wanted as before.
    pub(in crate::cache::fetch::scheduler) fn release(&mut self, id: FetchId) {
        if let Some((entry, fetch)) = self.forget(id)
            && let Some(mut queue) = self.queues.get_mut(entry)
        {
            let (start, left) = (fetch.chunks.start, fetch.left(&queue.entry));
            queue.wants.remove(start..left.start.max(start));
            queue.drop_present(&left);
        }
    }

    /// Stops all fetches of an entry. What they have not brought is not wanted any more.
    pub(in crate::cache::fetch::scheduler) fn stop_all(&mut self, entry: EntryId) {
        let running = self.queues.get(entry).into_iter().flat_map(|queue| &queue.fetches);
        for fetch in running.map(|fetch| fetch.id).collect::<Vec<_>>() {
            self.remove(fetch);
            self.actions.push(Action::Stop(fetch));
        }
    }

    /// Forgets a fetch. What it has not brought is not wanted any more.
    fn remove(&mut self, id: FetchId) {
        if let Some((entry, fetch)) = self.forget(id)
            && let Some(mut queue) = self.queues.get_mut(entry)
        {
            queue.wants.remove(fetch.chunks);
        }
    }

    fn forget(&mut self, id: FetchId) -> Option<(EntryId, RunningFetch)> {
        let entry = self.fetches.remove(&id)?;
        let mut queue = self.queues.get_mut(entry)?;
        let index = queue.fetches.iter().position(|fetch| fetch.id == id)?;
        let (fetch, next) = (queue.fetches.remove(index), queue.origin);
        drop(queue);
        self.note_waits(entry);
        self.queues.change(fetch.origin, |at| at.release_slot(id));
        if fetch.origin != next {
            self.freed.extend([fetch.origin, next]);
        }
        Some((entry, fetch))
    }
}
