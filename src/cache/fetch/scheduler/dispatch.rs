//! Dispatch: which fetch begins next, how long it is, and which fetch has to give up its slot.

use std::ops::Range;
use std::sync::Arc;

use super::entry_queue::{EntryQueue, Fetch, Waiter};
use super::queues::OriginNumber;
use super::{Action, FetchId, FetchOrder, Priority, Scheduler};
use crate::cache::chunk::common;
use crate::cache::entry::cache_entry::Settled;
use crate::cache::key::EntryId;

/// Number of connections from which on a long fetch on one of them does not hold up the others.
const MANY: usize = 8;

impl Scheduler {
    /// Dispatches for an entry's origin, and for the other origins whose slots its fetches have.
    pub(super) fn dispatch_for(&mut self, id: EntryId) {
        if let Some(origin) = self.queues.get(id).map(|flight| flight.origin) {
            self.note_slots_elsewhere(id);
            self.dispatch(origin);
        }
    }

    /// Something has changed for an entry. If its fetches have slots of several origins, the next
    /// dispatch includes all of these.
    fn note_slots_elsewhere(&mut self, id: EntryId) {
        if let Some(flight) = self.queues.get(id).filter(|flight| flight.has_moved) {
            let fetches = flight.fetches.iter().filter_map(|fetch| self.fetches.get(fetch));
            self.freed.extend(fetches.map(|fetch| fetch.origin));
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
                self.queues.at(origin).breadth.of(all)
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
        let Some(mut flight) = self.queues.get_mut(id) else {
            return false;
        };
        let first = flight.next_at(priority);
        let is_moot = |chunk: &u64| flight.is_present(*chunk) || *chunk >= flight.chunk_count();
        let Some(moot) = first.filter(is_moot) else {
            return false;
        };
        flight.wants.remove(moot..moot + 1);
        drop(flight);
        self.wake_satisfied(id);
        self.queues.forget_if_idle(id);
        true
    }

    /// Number of consecutive wanted chunks from `first` on that one fetch brings.
    fn next_len(&self, flight: &EntryQueue, first: u64) -> u64 {
        let (chunk, in_a_row) = (flight.entry.chunk.bytes(), flight.wants.in_a_row(first));
        let helpers = self.helpers(flight, first + in_a_row);
        let pace = &self.queues.at(flight.origin).pace;
        let len = pace.fetch_len(in_a_row * chunk, helpers);
        let len = in_a_row.min((len.min(self.longest_fetch(flight.origin)) / chunk).max(1));
        if helpers <= 1 && pace.takes_along((in_a_row - len) * chunk) {
            in_a_row
        } else {
            len
        }
    }

    /// The chunks of a fetch that begins at `first`: consecutive wanted chunks, and wanted chunks
    /// beyond gaps that are cheaper to fetch than a new request. Present chunks in a gap are
    /// overwritten with the same bytes.
    fn run_from(&self, flight: &EntryQueue, first: u64) -> Range<u64> {
        let mut chunks = first..first + self.next_len(flight, first);
        let Some(settled) = flight.entry.settled() else {
            return chunks;
        };
        let missing_end = |run: Range<u64>| settled.presence.next_present(&run).unwrap_or(run.end);
        chunks.end = missing_end(chunks.clone());
        let (at, chunk) = (self.queues.at(flight.origin), flight.entry.chunk.bytes());
        // The fetch itself takes one.
        let free = self.connections(flight.origin).saturating_sub(at.running() + 1);
        let longest = at.pace.fetch_len(u64::MAX, 1).min(self.longest_fetch(flight.origin));
        let most = first + longest / chunk;
        while let Some(next) = flight.next_wanted(chunks.end..most) {
            let gap = chunks.end..next;
            let is_in_flight = |id| self.fetches.get(id).is_some_and(|fetch| overlap(&fetch.chunks, &gap));
            if gap.is_empty()
                || !at.pace.bridges((gap.end - gap.start) * chunk, free)
                || flight.fetches.iter().any(is_in_flight)
            {
                break;
            }
            chunks.end = missing_end(next..(next + flight.wants.in_a_row(next)).min(most));
        }
        chunks
    }

    /// Number of connections that share a run of wanted chunks: the free ones, or, if the run
    /// reaches the end of the file, the entry's share of all. After any other run more work
    /// follows. At the end, a few long fetches would bring the rest while the other connections run
    /// out of work.
    fn helpers(&self, flight: &EntryQueue, run_end: u64) -> usize {
        let at = self.queues.at(flight.origin);
        let all = at.breadth.of(self.connections(flight.origin));
        let free = all.saturating_sub(at.running());
        if run_end >= flight.chunk_count() {
            free.max(all / at.queues().max(1))
        } else {
            free
        }
    }

    /// Maximum bytes of a fetch. Twice the usual length where there are about as many files as
    /// connections: each reader then has its own connection, and no reader waits for a far position
    /// on another. Not with a few connections, where a long fetch delays the others. With more
    /// files than connections, only what pays for the round trip, for the same reason.
    fn longest_fetch(&self, origin: OriginNumber) -> u64 {
        if self.is_crowd(origin) {
            return self
                .limits
                .fetch_len
                .min(self.queues.at(origin).pace.crowded_turn_len());
        }
        let sharers = self.queues.at(origin).queues();
        let connections = self.connections(origin);
        let is_shared = connections >= MANY && sharers * 2 >= connections;
        self.limits.fetch_len * if is_shared { 2 } else { 1 }
    }

    /// Returns true if there are more files than connections.
    pub(super) fn is_crowd(&self, origin: OriginNumber) -> bool {
        self.queues.at(origin).queues() > self.connections(origin)
    }

    /// Maximum number of concurrent fetches to an origin.
    pub(super) fn connections(&self, origin: OriginNumber) -> usize {
        self.queues
            .at(origin)
            .tolerance
            .connections(self.limits.fetches_per_origin)
    }

    /// Feeds the concurrency probe: a fetch is about to have written up to `watermark`.
    pub(super) fn note_breadth(&mut self, fetch: FetchId, watermark: u64) {
        if let Some(fetch) = self.fetches.get(&fetch) {
            let (origin, bytes) = (fetch.origin, watermark.saturating_sub(fetch.watermark));
            let (running, all) = (self.queues.at(origin).running(), self.connections(origin));
            self.queues.breadth_mut(origin).note(bytes, running, all, self.now);
        }
    }

    pub(super) fn start(&mut self, id: EntryId, priority: Priority) {
        let Some(flight) = self.queues.get(id) else {
            return;
        };
        let Some(first) = flight.next_at(priority) else {
            return;
        };
        let entry = Arc::clone(&flight.entry);
        let is_a_turn = self.is_crowd(flight.origin);
        // Wanted neighbours come with the same request, at any priority.
        let mut chunks = self.run_from(flight, first);
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        let mut others = Vec::new();
        if entry.ignores_range() {
            // This fetch also brings what the entry's other fetches were to bring.
            chunks = 0..flight.chunk_count();
            others.clone_from(&flight.fetches);
        }
        if chunks.is_empty() {
            // The first chunk has become present at this moment.
            return;
        }
        let mut wants = flight.wants.take(&chunks);
        for other in &others {
            if let Some(other) = self.fetches.get_mut(other) {
                wants.add_all(std::mem::take(&mut other.wants));
            }
        }
        wants.remove_at(chunks.clone(), Priority::Critical);
        flight.turn = self.turn;
        self.turn += 1;
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        flight.fetches.push(fetch);
        let origin = flight.origin;
        drop(flight);
        others.into_iter().for_each(|other| self.stop(other));
        let size = entry.settled().map_or(u64::MAX, Settled::size);
        let bytes = entry.chunk.bytes_of(&chunks, size);
        self.fetches.insert(
            fetch,
            Fetch {
                entry: id,
                origin,
                chunks,
                start: bytes.start,
                watermark: bytes.start,
                moved_in: None,
                served_in: None,
                began_in: self.period,
                answers_before: self.queues.at(origin).answers(),
                marks: [bytes.start; 3],
                gives_way: false,
                is_a_turn,
                wants,
            },
        );
        self.queues.take_slot(origin, fetch);
        self.actions.push(Action::Start(FetchOrder {
            id: fetch,
            entry,
            bytes,
        }));
    }

    /// The fetch that a `Critical` one may take the slot of: the least urgent; among equals, one
    /// that has brought nothing yet, or else the longest. `None` if readers are blocked on all of
    /// them, or will be in a moment.
    pub(super) fn least_urgent_fetch(&self, origin: OriginNumber) -> Option<FetchId> {
        self.queues
            .fetches_to(origin)
            .filter_map(|id| Some((id, self.fetches.get(&id)?)))
            .filter(|(id, fetch)| !self.is_waited_for(*id) && !self.is_protected(fetch))
            .max_by_key(|(id, fetch)| {
                // A fetch that has written everything is about to end, and loses nothing. Next
                // comes a fetch that its readers have left: nothing wants its bytes.
                (
                    self.left_of(fetch).is_empty(),
                    fetch.base().is_none(),
                    fetch.base(),
                    !fetch.has_begun(),
                    fetch.chunks.end - fetch.chunks.start,
                    *id,
                )
            })
            .map(|(id, _)| id)
    }

    /// With no fetch to preempt, cuts fetches that have had their turn at their next chunk edge,
    /// for readers that are blocked without a fetch. Those that have brought most are cut, as many
    /// as readers wait. Nothing that came is lost. A fetch that has not had its turn continues, so
    /// more streams than connections do not stop each other. A fetch as long as a turn ends by
    /// itself; to cut it would cost its connection.
    fn let_some_give_way(&mut self, origin: OriginNumber) {
        let at = self.queues.at(origin);
        let turn = at.pace.turn_len().min(self.limits.fetch_len / 4 * 3);
        let mut waiting = at.wanting_at(Priority::Critical).take(at.running()).count();
        let mut have_had_theirs = Vec::new();
        for id in self.queues.fetches_to(origin) {
            let Some(fetch) = self.fetches.get(&id) else { continue };
            let left = self.left_of(fetch);
            let brought = fetch.watermark - fetch.start;
            if left.end - left.start <= 1 {
                waiting = waiting.saturating_sub(1);
            } else if (brought >= turn && !fetch.is_a_turn) || self.has_had_a_second(fetch) {
                have_had_theirs.push((brought, id));
            }
        }
        have_had_theirs.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in have_had_theirs.into_iter().take(waiting) {
            self.cut_to_what_is_wanted(id, Priority::Critical);
            if let Some(fetch) = self.fetches.get_mut(&id) {
                fetch.gives_way = true;
            }
        }
    }

    /// Returns true if a reader is blocked on the fetch, or it is wanted for another reason.
    pub fn is_wanted(&self, id: FetchId) -> bool {
        self.fetches.get(&id).is_some_and(|fetch| fetch.base().is_some()) || self.is_waited_for(id)
    }

    /// Returns true if stopping the fetch costs more than it gains, although no reader is blocked
    /// on it. Its bytes are coming, and it is either the only fetch of its entry's readers, or it
    /// ends before another fetch could bring its first byte.
    pub(super) fn is_protected(&self, fetch: &Fetch) -> bool {
        let Some(flight) = self.queues.get(fetch.entry) else {
            return false;
        };
        let left = self.left_of(fetch);
        if left.is_empty() || !fetch.is_moving(self.period) {
            return false;
        }
        let keeps_a_stream_going = fetch.base() == Some(Priority::High) && flight.fetches.len() == 1;
        let end = flight.entry.chunk.bytes_of(&left, flight.entry.size()).end;
        let due = end.saturating_sub(fetch.watermark);
        keeps_a_stream_going || fetch.gives_way || due <= self.queues.at(fetch.origin).pace.round_trip()
    }

    pub(super) fn is_waited_for(&self, id: FetchId) -> bool {
        self.last_waited_for(id).is_some()
    }

    /// The last chunk that the fetch has yet to bring and that a reader is blocked on.
    pub(super) fn last_waited_for(&self, id: FetchId) -> Option<u64> {
        let fetch = self.fetches.get(&id)?;
        let flight = self.queues.get(fetch.entry)?;
        let left = self.left_of(fetch);
        let last_of = |waiter: &Waiter| {
            let touched = flight.touched(&waiter.bytes);
            let shared = common(&touched, &left);
            (!shared.is_empty()).then(|| shared.end - 1)
        };
        let blocked = flight
            .waiters
            .iter()
            .filter(|waiter| waiter.priority == Priority::Critical);
        blocked.filter_map(last_of).max()
    }

    /// The chunks that a fetch has yet to complete.
    pub(super) fn left_of(&self, fetch: &Fetch) -> Range<u64> {
        let Some(flight) = self.queues.get(fetch.entry) else {
            return fetch.chunks.end..fetch.chunks.end;
        };
        let end = fetch.chunks.end.min(flight.chunk_count());
        let size = flight.entry.size();
        let is_at_end = flight.entry.settled().is_some() && fetch.watermark >= size;
        let first = if is_at_end {
            end
        } else {
            flight.entry.chunk.index(fetch.watermark)
        };
        first.min(end)..end
    }

    /// Stops a fetch and wants again what it has not brought.
    pub(super) fn preempt(&mut self, id: FetchId) {
        let Some(entry) = self.fetches.get(&id).map(|fetch| fetch.entry) else {
            return;
        };
        self.want_again(id);
        self.stop(id);
        // The wants of a fetch do not include what readers were blocked on.
        self.look_after_waiters(entry);
        self.note_slots_elsewhere(entry);
        self.queues.forget_if_idle(entry);
        debug_assert!(self.looks_after_all(entry), "a waiter of {entry:?} is forgotten");
    }

    /// Wants the remaining chunks of a fetch again, at their priorities.
    pub(super) fn want_again(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        let (entry, left) = (fetch.entry, self.left_of(fetch));
        let Some(mut flight) = self.queues.get_mut(entry) else {
            return;
        };
        if let Some(fetch) = self.fetches.get_mut(&id) {
            for run in flight.missing_in(&left) {
                flight.wants.add_all(fetch.wants.take(&run));
            }
        }
    }

    pub(super) fn stop(&mut self, id: FetchId) {
        self.remove(id);
        self.actions.push(Action::Stop(id));
    }

    pub(super) fn remove(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.remove(&id) else { return };
        self.queues.give_back_slot(fetch.origin, id);
        if let Some(mut flight) = self.queues.get_mut(fetch.entry) {
            flight.fetches.retain(|&other| other != id);
            if flight.origin != fetch.origin {
                self.freed.extend([fetch.origin, flight.origin]);
            }
        }
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
