//! The decisions of the chunk manager: which bytes are fetched next. No locks, threads or
//! connections.
//!
//! The scheduler knows which chunks of which entries are **wanted** and how urgently, which
//! **fetches** run and how far each has come, and which **waiters** (blocked reads) wait for which
//! bytes. The manager reports each event by a method call; each call adds to a list of [`Action`]s
//! that the manager carries out. So a test can play through every interleaving.
//!
//! An event first changes the `FetchTable`, which holds all of that and keeps each waiter looked
//! after, whatever is taken out of it. Then the `Dispatcher` gives the slots of origins to fetches.
//!
//! What holds after each call:
//! - **A present chunk may be evicted at any time.** A chunk that a fetch has brought counts as
//!   present only while it is in the chunk bitmap.
//! - **No byte is in flight twice.** The fetches of an entry cover disjoint ranges of chunks, and none
//!   begins with a chunk that is in flight. A present chunk is not requested either. A fetch that was cut
//!   short or stopped may still write what it has read, so presence is checked before a fetch
//!   starts.
//! - **No waiter is forgotten.** Each chunk that it misses is wanted at its priority, or in flight;
//!   that includes chunks evicted since the wait began. When nothing is left to fetch for a waiter,
//!   it is woken, whatever the reason. There is no other state.
//! - **No slot is idle while something is wanted of its origin.** Exceptions are entries that
//!   rest after a refusal, and entries that are set back.
//! - **`Critical` work takes slots from less urgent work.** When all slots of an origin are taken,
//!   the least urgent fetch is stopped. What it has brought stays; the rest is wanted again.
//! - **Some fetches are protected from that:** a fetch that a reader is blocked on; a fetch that
//!   ends within a round trip; and the only fetch of an entry that is read in sequence. The latter
//!   two are protected only while their bytes come. The reader of such a stream was woken a moment
//!   ago and blocks again as soon as it has read them. With more such readers than slots, they
//!   would stop each other's fetches after one chunk each.
//! - **Slots rotate as fetches end**, to the entry served least recently. A fetch that has brought
//!   enough to pay for its round trip has had its turn: while a reader waits for a slot, it ends at
//!   its next chunk edge.
//! - **A stalled fetch loses its slot.** A fetch that brings next to nothing for about a second
//!   gives its slot to another entry that waits for one, even if a reader is blocked on it
//!   (`fetches::stalls`).
//! - **A chunk wanted for several reasons stays wanted until the last reason ends.** A chunk that
//!   was both read ahead and requested by the user is still fetched when the reader has gone. Only
//!   a failure ends all reasons, and wakes the waiters with the error.
//! - **Read-ahead belongs to a stream** (see `entry::windows`). What a stream gives up is
//!   dropped, unless another stream wants it.
//! - **A fetch has a slot of the origin that its bytes come from**, behind redirects too
//!   (`origins::redirects`).
//! - **A reader far ahead of a fetch does not wait for it.** The fetch is cut short before the
//!   reader's bytes, and those get a fetch of their own.

mod action;
mod dispatch;
mod entry;
mod fetches;
mod origins;
mod scans;
mod status;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;
use crate::http::{HttpErrorKind, Origin};
pub use action::{Action, FetchId, FetchOrder, Priority, WaiterId, WaitsFor};
use dispatch::Dispatcher;
use entry::entry_queue::{EntryQueue, Waiter};
pub use entry::windows::{StreamId, WindowUpdate};
use fetches::fetch_table::FetchTable;
use fetches::slices::Slices;
use origins::origin_state::OriginNumber;
use origins::queues::EntryQueues;
use origins::refusals::Refused;
pub use origins::refusals::{AfterRefusal, Refusal};
pub use status::{EntryActivity, OriginStatus, WaiterStatus};

/// The scheduler's configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of concurrent fetches to one origin.
    pub fetches_per_origin: usize,
    /// Maximum bytes of one fetch, at least one chunk. The actual length depends on how the origin
    /// answers.
    pub fetch_len: u64,
    /// Bytes between a fetch's position and a waiter's first byte from which on the waiter gets a
    /// fetch of its own.
    pub split_distance: u64,
    /// True if `--bwlimit` throttles the bodies. A slow fetch then says nothing about its server.
    pub is_throttled: bool,
    /// Bytes of the slices that a tier fetches and keeps, if one is asked first.
    pub slice: Option<u64>,
}

/// Takes events, and adds to the list of actions that follow from them.
#[derive(Debug)]
pub struct Scheduler {
    table: FetchTable,
    dispatcher: Dispatcher,
    closed: bool,
}

impl Scheduler {
    /// A scheduler with no entries.
    pub fn new(limits: Limits) -> Scheduler {
        let queues = EntryQueues::new(limits.fetches_per_origin);
        let slices = limits.slice.map(|bytes| Slices { bytes });
        Scheduler {
            table: FetchTable::new(queues, limits.split_distance, slices),
            dispatcher: Dispatcher::new(limits.fetch_len, limits.is_throttled),
            closed: false,
        }
    }

    /// Sets the current time for all events reported from now on.
    pub fn set_now(&mut self, now: Instant) {
        self.dispatcher.now = now;
    }

    /// Allows this many concurrent fetches to each origin from now on. Those in flight go on.
    pub fn set_most_connections(&mut self, most: usize) {
        self.table.queues.set_most_connections(most);
        self.dispatcher.dispatch_all(&mut self.table);
    }

    /// Sets [`Limits::is_throttled`].
    pub fn set_throttled(&mut self, is_throttled: bool) {
        self.dispatcher.is_throttled = is_throttled;
    }

    /// Takes the actions since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.table.actions)
    }

    /// The blocked readers that wait for something else than at the last call, and what for, in the order of the changes.
    pub fn take_changed_waits(&mut self) -> Vec<(WaiterId, WaitsFor)> {
        std::mem::take(&mut self.table.changed_waits)
    }

    /// Returns true if a fetch in flight brings the first missing one of these bytes.
    pub fn is_in_flight(&self, entry: &CacheEntry, bytes: &Range<u64>) -> bool {
        let first = entry.next_missing(&entry.chunks_of(bytes));
        let queue = self.table.queues.get(entry.id).zip(first);
        queue.is_some_and(|(queue, first)| queue.fetches.iter().any(|fetch| fetch.chunks.contains(&first)))
    }

    /// Wants chunks at a priority. Present chunks are skipped; chunks wanted or in flight already
    /// are promoted if this priority is more urgent.
    pub fn request(&mut self, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        if self.closed {
            return;
        }
        self.table.queues.open(entry).want(&chunks, priority);
        self.follow_up(entry.id);
    }

    /// Registers a waiter for these bytes of the entry. They are wanted at `priority` for as long as it
    /// waits; for a reader that is blocked, that is `Critical`.
    ///
    /// It is woken, perhaps at once, when they are in the data file, or with the first error that
    /// prevents some of them from coming. Bytes past the end of the file need not come.
    /// `window_updates` updates the windows of the reader's streams in the same step, so that one fetch
    /// can bring what it reads next.
    pub fn wait(
        &mut self,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        priority: Priority,
        window_updates: &[WindowUpdate],
        id: WaiterId,
    ) {
        if self.closed {
            let error = Err(ReadError::ShuttingDown);
            self.table.actions.push(Action::Wake(id, error));
            return;
        }
        let waiter = Waiter {
            id,
            bytes,
            priority,
            is_read: priority == Priority::Critical,
            waits_for: None,
        };
        self.table.add_waiter(entry, waiter);
        self.table.update_windows(entry, window_updates);
        self.look_after(entry.id);
    }

    /// Ends a wait, because its deadline has passed for example. The waiter is woken with this
    /// error unless it was woken before. What only it wanted is no longer fetched.
    pub fn give_up(&mut self, waiter: WaiterId, error: ReadError) {
        let Some(&id) = self.table.waiters.get(&waiter) else {
            return;
        };
        self.table.fail_waiter(id, waiter, error);
        // The fetch that it was blocked on may have to give way now.
        self.follow_up(id);
    }

    /// Applies changes to the windows of an entry's streams.
    pub fn update_windows(&mut self, entry: &Arc<CacheEntry>, window_updates: &[WindowUpdate]) {
        if self.closed || window_updates.is_empty() {
            return;
        }
        self.table.update_windows(entry, window_updates);
        self.follow_up(entry.id);
    }

    /// The readers of an entry have gone, or seem to. Read-ahead that has not begun is dropped, and
    /// a fetch for read-ahead alone ends at the next chunk edge.
    pub fn end_read_ahead(&mut self, id: EntryId) {
        self.table.change(id, |queue| queue.drop_windows(None));
        // Chunks requested at this priority without a window: a small file that is likely to be
        // opened next.
        self.table
            .change(id, |queue| queue.withdraw(&(0..u64::MAX), Priority::High));
        // The fetch that kept a stream going may have to give way now.
        self.follow_up(id);
    }

    /// One of an entry's readers has gone, or seems to. What the others want stays wanted.
    pub fn leave(&mut self, id: EntryId, reader: u64) {
        self.table.change(id, |queue| queue.drop_windows(Some(reader)));
        self.follow_up(id);
    }

    /// A redirect leads a fetch to this origin, which is about to be asked. Returns false if the
    /// fetch has lost its slot, and is over.
    pub fn leads_to(&mut self, fetch: FetchId, origin: &Origin) -> bool {
        let to = self.table.queues.number(origin);
        if let Some(from) = self.table.move_slot(fetch, to) {
            if self.dispatcher.make_room_for(&mut self.table, fetch, to) {
                self.table.queues.change(to, |at| at.rate.begins(self.dispatcher.now));
            } else {
                self.table.preempt(fetch);
            }
            self.dispatcher.dispatch(&mut self.table, from);
            self.dispatcher.dispatch(&mut self.table, to);
        }
        self.table.fetches.contains_key(&fetch)
    }

    /// This origin has answered a fetch, or refused it.
    fn heard_from(&mut self, fetch: FetchId, origin: &Origin) {
        let to = self.table.queues.number(origin);
        if let Some(from) = self.table.move_slot(fetch, to) {
            self.dispatcher.dispatch(&mut self.table, from);
            self.dispatcher.dispatch(&mut self.table, to);
        }
    }

    /// The head of an answer has come from this origin, and its body follows.
    pub fn answered(&mut self, fetch: FetchId, origin: &Origin) {
        self.heard_from(fetch, origin);
        self.table.note_served(fetch, true);
        self.line_is_of_a_tier(origin, false);
    }

    /// The head of an answer has come from a tier, in place of this origin.
    pub fn answered_by_tier(&mut self, origin: &Origin) {
        self.line_is_of_a_tier(origin, true);
    }

    fn line_is_of_a_tier(&mut self, origin: &Origin, is_of_a_tier: bool) {
        let origin = self.table.queues.number(origin);
        self.table
            .queues
            .change(origin, |at| at.lines.is_of_a_tier = is_of_a_tier);
    }

    /// An origin answered after `latency`, and sent `bytes` of the body in `time`.
    pub fn measured(&mut self, origin: &Origin, latency: Duration, bytes: u64, time: Duration) {
        let origin = self.table.queues.number(origin);
        self.table.queues.change(origin, |at| {
            at.answers += 1;
            at.lines.own.note(latency, bytes, time);
            at.fetch_limit.answered(at.running(), self.dispatcher.now);
        });
    }

    /// A tier answered in place of this origin. Says nothing of how much the origin itself accepts.
    pub fn measured_by_tier(&mut self, origin: &Origin, latency: Duration, bytes: u64, time: Duration) {
        let origin = self.table.queues.number(origin);
        self.table.queues.change(origin, |at| {
            at.answers += 1;
            at.lines.of_tier.note(latency, bytes, time);
        });
    }

    /// An origin serves this many connections at a time. Further fetches would only wait for one
    /// another, so those that no reader waits for are stopped.
    pub fn serves(&mut self, origin: &Origin, connections: usize) {
        let origin = self.table.queues.number(origin);
        let has_changed = self
            .table
            .queues
            .change(origin, |at| at.fetch_limit.serves(connections));
        if has_changed {
            self.dispatcher.preempt_surplus(&mut self.table, origin);
            self.dispatcher.dispatch(&mut self.table, origin);
        }
    }

    /// The entry's version, and with it its true size, is known now.
    pub fn settled(&mut self, id: EntryId) {
        let Some(mut queue) = self.table.queues.get_mut(id) else {
            return;
        };
        queue.settle();
        drop(queue);
        self.look_after(id);
    }

    /// The server ignores Range: this fetch brings the whole file, from byte 0. It takes over
    /// everything wanted of the entry, and the entry's other fetches end. Returns false if the
    /// fetch is no longer wanted.
    pub fn goes_linear(&mut self, fetch: FetchId) -> bool {
        let Some(id) = self.table.go_linear(fetch) else {
            return false;
        };
        self.look_after(id);
        true
    }

    /// A fetch of this entry has written everything up to `watermark` (a byte offset in the file).
    /// If the fetch was stopped meanwhile, the chunks that it completed count all the same.
    pub fn progress(&mut self, entry: EntryId, fetch: FetchId, watermark: u64) {
        if let Some((origin, brought, is_first)) = self.table.progress(fetch, watermark) {
            self.table.queues.change(origin, |at| {
                let (running, all) = (at.running(), at.connections());
                // What a tier has comes over another line than what it has to fetch.
                if at.lines.is_of_a_tier {
                    return;
                }
                at.concurrency_probe.note(brought, running, all, self.dispatcher.now);
            });
            if is_first {
                self.has_begun(entry, origin);
            }
        }
        self.table.wake_satisfied(entry);
        // Readers may no longer be blocked on the fetch, and it may have to give way now.
        self.follow_up(entry);
    }

    /// A fetch of this entry has received everything up to `offset`, which can't be written before more has come. So it
    /// is not stalled; for its readers nothing changes.
    pub fn received(&mut self, entry: EntryId, fetch: FetchId, offset: u64) {
        if let Some((origin, true)) = self.table.received(fetch, offset) {
            self.has_begun(entry, origin);
        }
    }

    /// A fetch has brought bytes for the first time, from this origin.
    fn has_begun(&mut self, id: EntryId, origin: OriginNumber) {
        let Some(mut queue) = self.table.queues.get_mut(id) else {
            return;
        };
        queue.stalls.forget_turns();
        let was_refused = queue.refused.take().is_some();
        drop(queue);
        let fetches = self.table.fetches_to(origin);
        let served = fetches.filter(|(_, fetch)| fetch.is_served(self.table.period)).count();
        self.table.queues.change(origin, |at| {
            at.rate.note_answer(was_refused, self.dispatcher.now);
            if !at.lines.is_of_a_tier {
                at.fetch_limit.served_at_once(served);
            }
        });
    }

    /// What fetches of this entry have written of incomplete chunks is lost. No waiter is woken for
    /// it any more, and new fetches begin these chunks again.
    pub fn lost(&mut self, entry: EntryId) {
        self.table.stop_all(entry);
        self.look_after(entry);
    }

    /// A fetch has ended by itself: with all its bytes, or with an error for its waiters.
    pub fn ended(&mut self, fetch: FetchId, result: Result<(), ReadError>) {
        if let Some(id) = self.table.end(fetch, result) {
            self.look_after(id);
        }
    }

    /// An answer to a fetch was broken off, perhaps because of too many requests at once. Returns true
    /// if this is the first sign that the origin serves only a limited number of requests.
    pub fn broken_off(&mut self, fetch: FetchId, asked: Instant) -> bool {
        self.table.note_served(fetch, false);
        let Some((origin, complaint)) = self.table.complaint(fetch, false, asked, self.dispatcher.now) else {
            return false;
        };
        self.table.queues.change(origin, |at| at.fetch_limit.refused(complaint))
    }

    /// A request of a fetch was refused by this origin, or failed there. Also returns true if this is
    /// the first sign that the origin serves only a limited number of requests.
    pub fn refused(&mut self, fetch: FetchId, origin: &Origin, refusal: &Refusal<'_>) -> (AfterRefusal, bool) {
        self.heard_from(fetch, origin);
        let now = self.dispatcher.now;
        let is_said = matches!(refusal.kind, HttpErrorKind::Status { .. });
        let Some((origin, complaint)) = self.table.complaint(fetch, is_said, refusal.asked, now) else {
            return (AfterRefusal::Fail, false);
        };
        let (id, queues) = (complaint.by, &mut self.table.queues);
        let before = queues.get(id).and_then(|queue| queue.refused.clone());
        let (next, is_news) = queues.change(origin, |at| refusal.note(complaint, before, origin, at));
        let (refused, until) = next.unzip();
        let is_of_the_origin = refused.as_ref().is_some_and(Refused::is_of_the_origin);
        if let Some(mut queue) = queues.get_mut(id) {
            // After the last try nothing is remembered: a later request starts with all its tries.
            queue.refused = refused;
        }
        let can_yield = !refusal.kind.is_connect_failure() && queues.at(origin).is_wanted_by_another(id);
        let next = match until {
            None => AfterRefusal::Fail,
            Some(_) if is_of_the_origin && !can_yield => AfterRefusal::WaitForOrigin,
            Some(until) if is_of_the_origin => AfterRefusal::YieldUntil(self.rest(fetch, id, until)),
            Some(until) => AfterRefusal::RestUntil(self.rest(fetch, id, until)),
        };
        (next, is_news)
    }

    /// The server is preparing what a fetch has requested (202). Nothing begins for the entry
    /// before `until`, and its slot goes to others. Returns when to call [`Self::rested`].
    pub fn not_ready(&mut self, fetch: FetchId, until: Instant) -> Option<Instant> {
        let id = *self.table.fetches.get(&fetch)?;
        Some(self.rest(fetch, id, until))
    }

    /// Takes a fetch's slot away and wants its remaining chunks again, after the entry has rested.
    /// Returns the end of the rest.
    fn rest(&mut self, fetch: FetchId, id: EntryId, until: Instant) -> Instant {
        let mut rests_until = until;
        if let Some(mut queue) = self.table.queues.get_mut(id) {
            rests_until = queue.rests_until.map_or(until, |earlier| earlier.max(until));
            queue.rests_until = Some(rests_until);
        }
        self.table.release(fetch);
        self.look_after(id);
        rests_until
    }

    /// The rest of an entry has ended at this time, and it may be requested again.
    pub fn rested(&mut self, id: EntryId, until: Instant) {
        if let Some(mut queue) = self.table.queues.get_mut(id) {
            queue.rests_until.take_if(|rests_until| *rests_until == until);
        }
        self.follow_up(id);
    }

    /// Ends a period, within which a fetch should have brought something. A fetch that has brought
    /// nothing from the start of this period to its end is stalled, and no longer protected.
    pub fn period_passed(&mut self) {
        self.table.end_period();
        self.look_after_losses();
        self.dispatcher.end_set_backs(&mut self.table);
        self.dispatcher.dispatch_all(&mut self.table);
    }

    /// The earliest time at which delayed work may begin, if there is any.
    pub fn next_due(&self) -> Option<Instant> {
        let queues = &self.table.queues;
        let origins = queues.origins().map(|origin| queues.at(origin));
        let waiting = origins.filter(|at| !at.is_served());
        waiting.filter_map(|at| at.rate.wait(self.dispatcher.now)).min()
    }

    /// Begins the work whose time has come.
    pub fn time_passed(&mut self) {
        self.dispatcher.dispatch_all(&mut self.table);
    }

    /// Chunks have been evicted, or their bytes were lost: those that a waiter needs are wanted
    /// again.
    pub fn look_after_losses(&mut self) {
        let concerned: Vec<_> = self.table.queues.with_unseen_losses().collect();
        concerned.into_iter().for_each(|id| self.follow_up(id));
    }

    /// Ends an event after which an entry's waiters may miss something else than before.
    fn look_after(&mut self, id: EntryId) {
        self.table.look_after_waiters(id);
        self.follow_up(id);
    }

    /// Ends each event that concerns an entry. **From here on each missing chunk of a waiter is
    /// wanted or in flight.** Eviction doesn't take the scheduler's lock, so this is restored
    /// before anything else is decided.
    fn follow_up(&mut self, id: EntryId) {
        if self.table.queues.get(id).is_some_and(EntryQueue::has_unseen_losses) {
            self.table.look_after_waiters(id);
        }
        self.dispatcher.dispatch_for(&mut self.table, id);
        self.table.note_waits(id);
        self.table.queues.forget_if_idle(id);
        debug_assert!(self.table.looks_after_all(id), "a waiter of {id:?} was lost");
    }

    /// Closes the scheduler when the mount ends. Every waiter is woken with an error, now and from
    /// now on; every fetch ends.
    pub fn close(&mut self) {
        self.closed = true;
        let ids: Vec<_> = self.table.queues.ids().collect();
        for id in ids {
            self.table.fail_entry(id, &ReadError::ShuttingDown);
            self.table.queues.forget_if_idle(id);
        }
    }

    /// Returns true if nothing is wanted, in flight or waited for.
    pub fn is_idle(&self) -> bool {
        let table = &self.table;
        table.queues.is_empty() && table.fetches.is_empty() && table.waiters.is_empty()
    }

    /// Returns true if a reader is blocked on the fetch, or it is wanted for another reason.
    pub fn is_wanted(&self, id: FetchId) -> bool {
        let fetch = self.table.fetch(id);
        fetch.is_some_and(|(queue, fetch)| queue.base_of(fetch).is_some() || queue.is_waited_for(fetch))
    }

    /// Bytes ahead of one reader that all connections to an entry's origin can make use of: the
    /// longest fetch for each connection, and a third of that as a reserve.
    pub fn useful_window(&mut self, entry: &CacheEntry) -> u64 {
        let origin = self.table.queues.origin_of(entry);
        let at = self.table.queues.at(origin);
        let longest = at.fetch_size().fetch_len(u64::MAX, 1).min(self.dispatcher.fetch_len);
        longest * at.connections() as u64 / 3 * 4
    }

    /// Returns true if any fetch from an origin is in flight.
    pub fn is_fetching_from(&mut self, origin: &Origin) -> bool {
        let origin = self.table.queues.number(origin);
        self.table.queues.at(origin).running() > 0
    }

    /// Returns true if more files of an entry's origin have something wanted than it gets connections.
    pub fn is_crowded(&mut self, entry: &CacheEntry) -> bool {
        let origin = self.table.queues.origin_of(entry);
        self.table.queues.at(origin).is_crowded()
    }

    /// The state of all origins that were ever requested, ordered by name.
    pub fn status(&self) -> Vec<OriginStatus> {
        OriginStatus::of_all(&self.table.queues)
    }

    /// What goes on in an entry.
    pub fn activity(&self, id: EntryId) -> EntryActivity {
        self.table.queues.get(id).map(EntryActivity::of).unwrap_or_default()
    }

    /// What a waiter waits for; `None` if it was woken.
    pub fn waiter(&self, id: WaiterId) -> Option<WaiterStatus> {
        let queue = self.table.queues.get(*self.table.waiters.get(&id)?)?;
        let waiter = queue.waiters.iter().find(|waiter| waiter.id == id)?;
        Some(WaiterStatus::of(queue, waiter))
    }
}

#[cfg(test)]
mod tests;
