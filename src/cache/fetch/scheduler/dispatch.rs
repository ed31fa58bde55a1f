//! Dispatch: which fetch begins next, and which fetch has to give up its slot.

use std::sync::Arc;

use super::entry_queue::EntryQueue;
use super::fetch_plan::FetchPlan;
use super::queues::{EntryQueueMut, OriginNumber};
use super::running::Fetch;
use super::{Action, FetchId, FetchOrder, Priority, Scheduler};
use crate::cache::entry::cache_entry::Settled;
use crate::cache::key::EntryId;

impl Scheduler {
    /// Dispatches for an entry's origin, and for the other origins whose slots its fetches have.
    pub(super) fn dispatch_for(&mut self, id: EntryId) {
        if let Some(origin) = self.queues.get(id).map(|queue| queue.origin) {
            self.note_slots_elsewhere(id);
            self.dispatch(origin);
        }
    }

    /// Something has changed for an entry. If its fetches have slots of several origins, the next
    /// dispatch includes all of these.
    fn note_slots_elsewhere(&mut self, id: EntryId) {
        if let Some(queue) = self.queues.get(id).filter(|queue| queue.has_moved) {
            self.freed.extend(queue.fetches.iter().map(|fetch| fetch.origin));
        }
    }

    /// Fills the free slots of an origin with what is wanted, and those that `Critical` work may
    /// take. Includes the slots of other origins that became free by that.
    pub(super) fn dispatch(&mut self, origin: OriginNumber) {
        self.dispatch_one(origin);
        while let Some(origin) = self.freed.pop() {
            self.dispatch_one(origin);
        }
    }

    fn dispatch_one(&mut self, origin: OriginNumber) {
        if self.closed {
            return;
        }
        while let Some((priority, id)) = self.queues.next_wanted(origin) {
            if self.drop_if_moot(id, priority) {
                continue;
            }
            if self.queues.at(origin).rate.wait(self.now).is_some() {
                return;
            }
            let (running, all) = (self.queues.at(origin).running(), self.connections(origin));
            let is_critical = priority == Priority::Critical;
            let most = if is_critical {
                all
            } else {
                self.queues.at(origin).concurrency_probe.of(all)
            };
            if running >= most {
                let least_urgent = is_critical.then(|| self.least_urgent_fetch(origin)).flatten();
                if let Some(victim) = least_urgent {
                    self.preempt(victim);
                } else if let Some(stalled) = self.stalled_fetch(origin, priority, id) {
                    self.set_back(stalled);
                } else {
                    if is_critical {
                        self.let_some_give_way(origin);
                    }
                    return;
                }
            }
            self.start(id, priority);
            self.queues.rate_mut(origin).begins(self.now);
        }
    }

    /// Stops wanting the first chunk at a priority if it is present by now, or lies past the end.
    /// An entry is settled a moment before the scheduler receives [`Scheduler::settled`]. Another
    /// entry of the same file, or another mount, may have brought the chunk: **this is the last
    /// chance to wake a reader that waits for it.**
    pub(super) fn drop_if_moot(&mut self, id: EntryId, priority: Priority) -> bool {
        let Some(mut queue) = self.queues.get_mut(id) else {
            return false;
        };
        let first = queue.next_at(priority);
        let is_moot = |chunk: &u64| queue.is_present(*chunk) || *chunk >= queue.chunk_count();
        let Some(moot) = first.filter(is_moot) else {
            return false;
        };
        queue.wants.remove(moot..moot + 1);
        drop(queue);
        self.wake_satisfied(id);
        // Readers may no longer be blocked on the entry's fetches.
        self.note_slots_elsewhere(id);
        self.queues.forget_if_idle(id);
        true
    }

    /// Returns true if there are more files than connections.
    pub(super) fn is_crowd(&self, origin: OriginNumber) -> bool {
        self.queues.at(origin).queues() > self.connections(origin)
    }

    /// Maximum number of concurrent fetches to an origin.
    pub(super) fn connections(&self, origin: OriginNumber) -> usize {
        self.queues
            .at(origin)
            .connection_limit
            .connections(self.limits.fetches_per_origin)
    }

    /// Feeds the concurrency probe: a fetch is about to have written up to `watermark`.
    pub(super) fn feed_concurrency_probe(&mut self, fetch: FetchId, watermark: u64) {
        if let Some((_, fetch)) = self.fetch(fetch) {
            let (origin, bytes) = (fetch.origin, watermark.saturating_sub(fetch.watermark));
            let (running, all) = (self.queues.at(origin).running(), self.connections(origin));
            self.queues
                .concurrency_probe_mut(origin)
                .note(bytes, running, all, self.now);
        }
    }

    pub(super) fn start(&mut self, id: EntryId, priority: Priority) {
        let Some(queue) = self.queues.get(id) else {
            return;
        };
        let Some(first) = queue.next_at(priority) else {
            return;
        };
        let entry = Arc::clone(&queue.entry);
        let is_a_turn = self.is_crowd(queue.origin);
        let answers_before = self.queues.at(queue.origin).answers();
        // Wanted neighbours come with the same request, at any priority.
        let plan = FetchPlan {
            queue,
            at: self.queues.at(queue.origin),
            connections: self.connections(queue.origin),
            fetch_len: self.limits.fetch_len,
        };
        let mut chunks = plan.chunks(first);
        let mut others = Vec::new();
        if entry.ignores_range() {
            // This fetch also brings what the entry's other fetches were to bring.
            chunks = 0..queue.chunk_count();
            others.extend(queue.fetches.iter().map(|fetch| fetch.id));
        }
        if chunks.is_empty() {
            // The first chunk has become present at this moment.
            return;
        }
        others.into_iter().for_each(|other| self.preempt_for_another(other));
        let Some(mut queue) = self.queues.get_mut(id) else {
            return;
        };
        queue.wants.remove_at(chunks.clone(), Priority::Critical);
        queue.turn = self.turn;
        self.turn += 1;
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let origin = queue.origin;
        let size = entry.settled().map_or(u64::MAX, Settled::size);
        let bytes = entry.chunk.bytes_of(&chunks, size);
        queue.fetches.push(Fetch {
            id: fetch,
            origin,
            chunks,
            start: bytes.start,
            watermark: bytes.start,
            moved_in: None,
            served_in: None,
            began_in: self.period,
            answers_before,
            marks: [bytes.start; 3],
            is_a_turn,
        });
        drop(queue);
        self.fetches.insert(fetch, id);
        // The entry's other fetch is not the only one of its stream any more.
        self.note_slots_elsewhere(id);
        self.queues.take_slot(origin, fetch);
        self.actions.push(Action::Start(FetchOrder {
            id: fetch,
            entry,
            bytes,
        }));
    }

    /// The fetch that a `Critical` one may take the slot of: the least urgent; among equals, the
    /// longest. `None` if readers are blocked on all of
    /// them, or will be in a moment.
    pub(super) fn least_urgent_fetch(&self, origin: OriginNumber) -> Option<FetchId> {
        self.fetches_to(origin)
            .filter(|(queue, fetch)| !queue.is_waited_for(fetch) && !self.is_protected(queue, fetch))
            .max_by_key(|(queue, fetch)| {
                // First a fetch that its readers have left, or that has written everything: nothing
                // wants its bytes.
                let base = queue.base_of(fetch);
                (base.is_none(), base, fetch.chunks.end - fetch.chunks.start, fetch.id)
            })
            .map(|(_, fetch)| fetch.id)
    }

    /// With no fetch to preempt, cuts fetches that have had their turn at their next chunk edge,
    /// for readers that are blocked without a fetch. Those that have brought most are cut, as many
    /// as readers wait. Nothing that came is lost. A fetch that has not had its turn continues, so
    /// more streams than connections do not stop each other. A fetch as long as a turn ends by
    /// itself; to cut it would cost its connection.
    fn let_some_give_way(&mut self, origin: OriginNumber) {
        let at = self.queues.at(origin);
        let turn = at.fetch_size.turn_len().min(self.limits.fetch_len / 4 * 3);
        let mut waiting = at.wanting_at(Priority::Critical).take(at.running()).count();
        let mut have_had_theirs = Vec::new();
        for (queue, fetch) in self.fetches_to(origin) {
            let left = queue.left_of(fetch);
            let brought = fetch.watermark - fetch.start;
            if left.end - left.start <= 1 {
                waiting = waiting.saturating_sub(1);
            } else if (brought >= turn && !fetch.is_a_turn) || queue.is_slow(fetch) {
                have_had_theirs.push((brought, fetch.id));
            }
        }
        have_had_theirs.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in have_had_theirs.into_iter().take(waiting) {
            let cut = self
                .flight_of(id)
                .and_then(|mut queue| queue.cut_to_what_is_wanted(id, Priority::Critical));
            self.actions.extend(cut);
        }
    }

    /// Returns true if a reader is blocked on the fetch, or it is wanted for another reason.
    pub fn is_wanted(&self, id: FetchId) -> bool {
        let is_wanted =
            |(queue, fetch): (&EntryQueue, &Fetch)| queue.base_of(fetch).is_some() || queue.is_waited_for(fetch);
        self.fetch(id).is_some_and(is_wanted)
    }

    /// Returns true if stopping the fetch costs more than it gains, although no reader is blocked
    /// on it. Its bytes are coming, and it is either the only fetch of its entry's readers, or it
    /// ends before another fetch could bring its first byte.
    pub(super) fn is_protected(&self, queue: &EntryQueue, fetch: &Fetch) -> bool {
        let left = queue.left_of(fetch);
        if left.is_empty() || !fetch.is_moving(self.period) {
            return false;
        }
        let keeps_a_stream_going = queue.base_of(fetch) == Some(Priority::High) && queue.fetches.len() == 1;
        let due = queue.bytes_to(fetch, &left);
        keeps_a_stream_going || due <= self.queues.at(fetch.origin).fetch_size.round_trip()
    }

    pub(super) fn fetch(&self, id: FetchId) -> Option<(&EntryQueue, &Fetch)> {
        let queue = self.queues.get(*self.fetches.get(&id)?)?;
        Some((queue, queue.fetch(id)?))
    }

    pub(super) fn flight_of(&mut self, id: FetchId) -> Option<EntryQueueMut<'_>> {
        self.queues.get_mut(*self.fetches.get(&id)?)
    }

    /// The fetches that have slots of an origin.
    pub(super) fn fetches_to(&self, origin: OriginNumber) -> impl Iterator<Item = (&EntryQueue, &Fetch)> {
        self.queues.fetches_to(origin).filter_map(|id| self.fetch(id))
    }

    /// Stops a fetch. What it has not brought is wanted as before.
    pub(super) fn preempt(&mut self, id: FetchId) {
        let Some(&entry) = self.fetches.get(&id) else { return };
        self.preempt_for_another(id);
        // Its chunks were not wanted at `Critical`, but readers may be blocked on them.
        self.look_after_waiters(entry);
        self.note_slots_elsewhere(entry);
        self.queues.forget_if_idle(entry);
        debug_assert!(self.looks_after_all(entry), "a waiter of {entry:?} was lost");
    }

    /// Stops a fetch whose chunks another is about to bring.
    pub(super) fn preempt_for_another(&mut self, id: FetchId) {
        self.release(id);
        self.actions.push(Action::Stop(id));
    }

    /// Forgets a fetch. What it has not brought is wanted as before.
    pub(super) fn release(&mut self, id: FetchId) {
        if let Some(mut queue) = self.flight_of(id)
            && let Some(fetch) = queue.fetch(id)
        {
            let (chunks, left) = (fetch.chunks.clone(), queue.left_of(fetch));
            queue.wants.remove(chunks.start..left.start.max(chunks.start));
            queue.drop_present(&left);
        }
        self.forget(id);
    }

    /// Stops all fetches of an entry. What they have not brought is not wanted any more.
    pub(super) fn stop_all(&mut self, entry: EntryId) {
        let running = self.queues.get(entry).into_iter().flat_map(|queue| &queue.fetches);
        for fetch in running.map(|fetch| fetch.id).collect::<Vec<_>>() {
            self.remove(fetch);
            self.actions.push(Action::Stop(fetch));
        }
    }

    /// Forgets a fetch. What it has not brought is not wanted any more.
    pub(super) fn remove(&mut self, id: FetchId) {
        if let Some(mut queue) = self.flight_of(id)
            && let Some(fetch) = queue.fetch(id)
        {
            let chunks = fetch.chunks.clone();
            queue.wants.remove(chunks);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: FetchId) {
        let Some(entry) = self.fetches.remove(&id) else { return };
        let Some(mut queue) = self.queues.get_mut(entry) else {
            return;
        };
        let Some(index) = queue.fetches.iter().position(|fetch| fetch.id == id) else {
            return;
        };
        let (from, next) = (queue.fetches.remove(index).origin, queue.origin);
        drop(queue);
        self.queues.give_back_slot(from, id);
        if from != next {
            self.freed.extend([from, next]);
        }
    }
}
