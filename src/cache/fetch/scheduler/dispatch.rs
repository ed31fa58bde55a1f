//! Dispatch: which fetch begins next, and which one has to give up its slot.

use std::time::Instant;

use super::action::{FetchId, Priority};
use super::entry::entry_queue::EntryQueue;
use super::fetches::fetch_plan::FetchPlan;
use super::fetches::fetch_table::FetchTable;
use super::fetches::running_fetch::RunningFetch;
use super::origins::origin_state::OriginNumber;
use crate::cache::key::EntryId;

/// Gives the slots of origins to fetches.
#[derive(Debug)]
pub(super) struct Dispatcher {
    /// The current time.
    pub(super) now: Instant,
    /// Maximum bytes of one fetch in usual circumstances.
    pub(super) fetch_len: u64,
    /// True if this mount slows bodies down, so that a slow fetch says nothing about its server.
    pub(super) is_throttled: bool,
    /// Counts the starts of fetches. The entry with the lowest number is served first.
    turn: u64,
    /// Entries that are [set back](super::fetches::stalls), in the order in which that began.
    set_back: Vec<EntryId>,
}

impl Dispatcher {
    pub(super) fn new(fetch_len: u64, is_throttled: bool) -> Dispatcher {
        Dispatcher {
            now: Instant::now(),
            fetch_len,
            is_throttled,
            turn: 1,
            set_back: Vec::new(),
        }
    }

    /// Dispatches for an entry's origin, and for the other origins whose slots its fetches have.
    pub(super) fn dispatch_for(&mut self, table: &mut FetchTable, id: EntryId) {
        if let Some(origin) = table.queues.get(id).map(|queue| queue.origin) {
            table.note_slots_elsewhere(id);
            self.dispatch(table, origin);
        }
    }

    /// Dispatches for all origins.
    pub(super) fn dispatch_all(&mut self, table: &mut FetchTable) {
        table.queues.origins().for_each(|origin| self.dispatch(table, origin));
    }

    /// Fills the free slots of an origin with what is wanted, and those that `Critical` work may
    /// take. Includes the slots of other origins that became free by that.
    pub(super) fn dispatch(&mut self, table: &mut FetchTable, origin: OriginNumber) {
        self.dispatch_one(table, origin);
        while let Some(origin) = table.take_freed() {
            self.dispatch_one(table, origin);
        }
    }

    fn dispatch_one(&mut self, table: &mut FetchTable, origin: OriginNumber) {
        while let Some((priority, id)) = table.queues.at(origin).next_wanted() {
            if table.drop_if_moot(id, priority) {
                continue;
            }
            let at = table.queues.at(origin);
            if at.rate.wait(self.now).is_some() {
                return;
            }
            let is_critical = priority == Priority::Critical;
            let most = if is_critical {
                at.connections()
            } else {
                at.background_connections()
            };
            if at.running() >= most {
                let holders = SlotHolders { table, origin };
                if let Some(victim) = is_critical.then(|| holders.least_urgent()).flatten() {
                    table.preempt(victim);
                } else if let Some(stalled) = holders.stalled(priority, id, self.is_throttled) {
                    self.set_back(table, stalled);
                } else {
                    if is_critical {
                        self.let_some_give_way(table, origin);
                    }
                    return;
                }
            }
            self.start(table, id, priority);
            table.queues.change(origin, |at| at.rate.begins(self.now));
        }
    }

    fn start(&mut self, table: &mut FetchTable, id: EntryId, priority: Priority) {
        let Some(queue) = table.queues.get(id) else { return };
        let Some(first) = queue.next_at(priority) else { return };
        let at = table.queues.at(queue.origin);
        let is_a_turn = at.is_crowded();
        let (mut chunks, mut others) = (0..queue.entry.chunk_count(), Vec::new());
        if queue.entry.ignores_range() {
            // This fetch also brings what the entry's other fetches were to bring.
            others.extend(queue.fetches.iter().map(|fetch| fetch.id));
        } else {
            // Wanted neighbours come with the same request, at any priority.
            let fetch_len = self.fetch_len;
            let plan = FetchPlan {
                queue,
                at,
                fetch_len,
                slices: table.slices,
            };
            chunks = plan.chunks(first);
        }
        if chunks.is_empty() {
            // The first chunk has become present at this moment.
            return;
        }
        others.into_iter().for_each(|other| table.replace(other));
        table.begin(id, chunks, self.turn, is_a_turn);
        self.turn += 1;
    }

    /// With no fetch to preempt, cuts fetches that have had their turn at their next chunk edge, for
    /// readers that are blocked without a fetch: those that have brought most, as many as readers
    /// wait. Nothing that came is lost.
    fn let_some_give_way(&self, table: &mut FetchTable, origin: OriginNumber) {
        for id in (SlotHolders { table, origin }).have_had_their_turn(self.fetch_len) {
            if let Some(&entry) = table.fetches.get(&id) {
                table.change(entry, |queue| queue.cut_to_what_is_wanted(id, Priority::Critical));
                table.note_wanted_elsewhere(entry, origin);
            }
        }
    }

    /// Takes a fetch's slot away, and sets its entry back.
    fn set_back(&mut self, table: &mut FetchTable, id: FetchId) {
        let Some((queue, fetch)) = table.fetch(id) else { return };
        let (entry, has_come, period) = (queue.entry.id, fetch.lately() > 0, table.period);
        let others_were_answered = table.queues.at(fetch.origin).answers > fetch.answers_before;
        if let Some(mut queue) = table.queues.get_mut(entry) {
            queue.stalls.set_back(period, has_come, others_were_answered);
        }
        if !self.set_back.contains(&entry) {
            self.set_back.push(entry);
        }
        table.preempt(id);
    }

    /// Ends the set-backs that have lasted long enough, and all of an origin that has a slot left
    /// over.
    pub(super) fn end_set_backs(&mut self, table: &mut FetchTable) {
        for id in std::mem::take(&mut self.set_back) {
            let Some(queue) = table.queues.get(id) else { continue };
            let at = table.queues.at(queue.origin);
            let is_left_over = at.is_served() && at.running() < at.connections();
            if !queue.stalls.is_over(table.period) && !is_left_over {
                self.set_back.push(id);
                continue;
            }
            if let Some(mut queue) = table.queues.get_mut(id) {
                queue.stalls.end_set_back();
            }
            self.dispatch_for(table, id);
        }
    }

    /// A fetch has come to an origin by a redirect. It may stay if it could have begun there; a less
    /// urgent one makes room for it. Returns true if it does.
    pub(super) fn make_room_for(&self, table: &mut FetchTable, fetch: FetchId, origin: OriginNumber) -> bool {
        let at = table.queues.at(origin);
        if at.rate.wait(self.now).is_some() {
            return false;
        }
        let is_waited_for = |(queue, fetch): (&EntryQueue, &RunningFetch)| queue.is_waited_for(fetch);
        if !table.fetch(fetch).is_some_and(is_waited_for) {
            return at.running() <= at.background_connections();
        }
        if at.running() > at.connections() {
            let Some(victim) = (SlotHolders { table, origin }).least_urgent() else {
                return false;
            };
            table.preempt(victim);
        }
        true
    }

    /// Stops fetches beyond the number of connections that an origin serves, but none that a reader is
    /// blocked on.
    pub(super) fn preempt_surplus(&self, table: &mut FetchTable, origin: OriginNumber) {
        while table.queues.at(origin).running() > table.queues.at(origin).connections()
            && let Some(victim) = (SlotHolders { table, origin }).least_urgent()
        {
            table.preempt(victim);
        }
    }
}

/// The fetches that have slots of an origin: which of them gives its slot up.
struct SlotHolders<'a> {
    table: &'a FetchTable,
    origin: OriginNumber,
}

impl SlotHolders<'_> {
    /// The fetch that a `Critical` one may take the slot of: the least urgent; among equals, the
    /// longest. `None` if readers are blocked on all of them, or will be in a moment.
    fn least_urgent(&self) -> Option<FetchId> {
        self.table
            .fetches_to(self.origin)
            .filter(|(queue, fetch)| !queue.is_waited_for(fetch) && !self.is_protected(queue, fetch))
            .max_by_key(|(queue, fetch)| {
                // First a fetch that its readers have left, or that has written everything: nothing
                // wants its bytes.
                let base = queue.base_of(fetch);
                (base.is_none(), base, fetch.chunks.end - fetch.chunks.start, fetch.id)
            })
            .map(|(_, fetch)| fetch.id)
    }

    /// Returns true if stopping the fetch costs more than it gains, although no reader is blocked
    /// on it. Its bytes are coming, and it is either the only fetch of its entry's readers, or it
    /// ends before another fetch could bring its first byte.
    fn is_protected(&self, queue: &EntryQueue, fetch: &RunningFetch) -> bool {
        let left = fetch.left(&queue.entry);
        if left.is_empty() || !fetch.is_moving(self.table.period) {
            return false;
        }
        let keeps_a_stream_going = queue.base_of(fetch) == Some(Priority::High) && queue.fetches.len() == 1;
        let due = fetch.bytes_to(left.end, &queue.entry);
        keeps_a_stream_going || due <= self.table.queues.at(self.origin).fetch_size().round_trip()
    }

    /// The fetch that gives its slot to `by`, which wants something at `priority`: of the fetches
    /// that are no more urgent and too slow, the slowest.
    fn stalled(&self, priority: Priority, by: EntryId, is_throttled: bool) -> Option<FetchId> {
        let (period, usual) = (self.table.period, self.table.queues.at(self.origin).fetch_size());
        self.table
            .fetches_to(self.origin)
            .filter(|(queue, fetch)| {
                let stalls = &queue.stalls;
                queue.entry.id != by && stalls.is_stalled(fetch, &queue.entry, period, usual, is_throttled)
            })
            .filter(|(queue, fetch)| {
                priority == Priority::Critical
                    || (!queue.is_waited_for(fetch) && queue.base_of(fetch).is_none_or(|base| base >= priority))
            })
            .map(|(_, fetch)| fetch)
            .min_by_key(|fetch| (fetch.lately(), fetch.id))
            .map(|fetch| fetch.id)
    }

    /// The fetches that give way to blocked readers, those that have brought most first, as many as
    /// readers wait. A fetch that has not had its turn continues, so more streams than connections do
    /// not stop each other. A fetch as long as a turn ends by itself; to cut it would cost its
    /// connection.
    fn have_had_their_turn(&self, fetch_len: u64) -> impl Iterator<Item = FetchId> + use<> {
        let at = self.table.queues.at(self.origin);
        let turn = at.fetch_size().turn_len().min(fetch_len / 4 * 3);
        let mut waiting = at.waiting_critical(at.running());
        let mut have_had_theirs = Vec::new();
        for (queue, fetch) in self.table.fetches_to(self.origin) {
            let left = fetch.left(&queue.entry);
            let brought = fetch.watermark - fetch.start;
            if left.end - left.start <= 1 {
                waiting = waiting.saturating_sub(1);
            } else if (brought >= turn && !fetch.is_a_turn) || fetch.is_slow(&queue.entry) {
                have_had_theirs.push((brought, fetch.id));
            }
        }
        have_had_theirs.sort_unstable_by(|a, b| b.cmp(a));
        have_had_theirs.into_iter().take(waiting).map(|(_, id)| id)
    }
}
