//! The decisions of the chunk manager: which bytes are fetched next. No locks, threads or
//! connections.
//!
//! The scheduler knows which chunks of which entries are **wanted** and how urgently, which
//! **fetches** run and how far each has come, and which **waiters** (blocked reads) wait for which
//! bytes. The manager reports each event by a method call; each call adds to a list of [`Action`]s
//! that the manager carries out. So a test can play through every interleaving.
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
//!   (`stalls`).
//! - **A chunk wanted for several reasons stays wanted until the last reason ends.** A chunk that
//!   was both read ahead and requested by the user is still fetched when the reader has gone. Only
//!   a failure ends all reasons, and wakes the waiters with the error.
//! - **Read-ahead belongs to a stream** (see `windows`). What a stream gives up is
//!   dropped, unless another stream wants it.
//! - **A fetch has a slot of the origin that its bytes come from**, behind redirects too
//!   (`redirects`).
//! - **A reader far ahead of a fetch does not wait for it.** The fetch is cut short before the
//!   reader's bytes, and those get a fetch of their own.

mod dispatch;
mod entry_queue;
mod fetch_plan;
mod overload;
mod queues;
mod redirects;
mod running;
mod stalls;
mod status;
mod waiters;
mod wanted_chunks;
mod windows;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;
use crate::http::Origin;
use entry_queue::{EntryQueue, Waiter};
pub use overload::{AfterRefusal, Refusal};
use queues::{EntryQueues, OriginNumber};
pub use status::OriginStatus;
pub use windows::{StreamId, WindowUpdate};

/// How urgently a chunk is wanted, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A reader is blocked on it.
    Critical,
    /// Read-ahead of a live cursor.
    High,
    /// Requested by the user.
    Medium,
    /// Background fill.
    Low,
}

const PRIORITIES: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

/// The number of a fetch, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// The number of a waiter, unique within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

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
}

/// One HTTP Range request to be made.
#[derive(Debug, Clone)]
pub struct FetchOrder {
    /// Its number.
    pub id: FetchId,
    /// The entry whose bytes are fetched.
    pub entry: Arc<CacheEntry>,
    /// Byte range in the file, from one chunk edge to another or to the end of the file. Before the
    /// entry is settled it always ends at a chunk edge, because the size that a listing gave may be
    /// wrong.
    pub bytes: Range<u64>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action {
    /// Begin a fetch.
    Start(FetchOrder),
    /// End a running fetch before this byte.
    Trim {
        /// The fetch.
        fetch: FetchId,
        /// Byte offset in the file, exclusive.
        end: u64,
    },
    /// End a running fetch now. The scheduler has forgotten it and ignores its later reports.
    Stop(FetchId),
    /// Wake a waiter: its bytes are in the data file, or will never be, for this reason.
    Wake(WaiterId, Result<(), ReadError>),
}

/// The state: everything wanted, in flight and waited for.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    queues: EntryQueues,
    /// The entries of all fetches, which are in their queues.
    fetches: HashMap<FetchId, EntryId>,
    /// The entries of all waiters.
    waiters: HashMap<WaiterId, EntryId>,
    next_fetch: u64,
    /// Counts the starts of fetches. The entry with the lowest number is served first.
    turn: u64,
    /// Counts the calls of [`Scheduler::period_passed`].
    period: u64,
    /// Entries that are [set back](stalls), in the order in which that began.
    set_back: Vec<EntryId>,
    /// Origins to include in the next dispatch, because an entry has changed whose queue has moved to
    /// another origin.
    freed: Vec<OriginNumber>,
    /// Bytes that fetches have brought.
    brought: u64,
    /// The current time, set by [`Scheduler::set_now`].
    now: Instant,
    closed: bool,
    actions: Vec<Action>,
}

impl Scheduler {
    /// A scheduler with no entries.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler {
            limits,
            queues: EntryQueues::default(),
            fetches: HashMap::new(),
            waiters: HashMap::new(),
            next_fetch: 1,
            turn: 1,
            period: 0,
            set_back: Vec::new(),
            freed: Vec::new(),
            brought: 0,
            now: Instant::now(),
            closed: false,
            actions: Vec::new(),
        }
    }

    /// Sets the current time for all events reported from now on.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Takes the actions since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Wants chunks at a priority. Present chunks are skipped; chunks wanted or in flight already
    /// are promoted if this priority is more urgent.
    pub fn request(&mut self, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        if self.closed {
            return;
        }
        self.queues.open(entry).want(&chunks, priority);
        self.follow_up(entry.id);
    }

    /// Registers a reader that is blocked on these bytes of the entry. It is woken, perhaps at
    /// once, when they are in the data file. Bytes past the end of the file need not come. `window_updates`
    /// updates the windows of the reader's streams in the same step, so that one fetch can bring
    /// what it reads next.
    pub fn wait(
        &mut self,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        window_updates: &[WindowUpdate],
        waiter: WaiterId,
    ) {
        self.begin_wait(entry, bytes, Priority::Critical, window_updates, waiter);
    }

    /// Registers a waiter that is in no hurry. Its bytes are wanted at `priority` for as long as it
    /// waits. It is woken as a reader is: when all of them have come, or with the first error that
    /// prevents one from coming.
    pub fn wait_patiently(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, priority: Priority, waiter: WaiterId) {
        self.begin_wait(entry, bytes, priority, &[], waiter);
    }

    fn begin_wait(
        &mut self,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        priority: Priority,
        window_updates: &[WindowUpdate],
        waiter: WaiterId,
    ) {
        if self.closed {
            self.actions.push(Action::Wake(waiter, Err(ReadError::ShuttingDown)));
            return;
        }
        self.queues.open(entry).waiters.push(Waiter {
            id: waiter,
            bytes,
            priority,
        });
        self.waiters.insert(waiter, entry.id);
        self.apply(entry, window_updates);
        self.look_after_waiters(entry.id);
        self.follow_up(entry.id);
    }

    /// Ends a wait, because its deadline has passed for example. The waiter is woken with this
    /// error unless it was woken before. What only it wanted is no longer fetched.
    pub fn give_up(&mut self, waiter: WaiterId, error: ReadError) {
        let Some(&id) = self.waiters.get(&waiter) else { return };
        self.actions.push(Action::Wake(waiter, Err(error)));
        self.end_wait(id, waiter);
        // The fetch that it was blocked on may have to give way now.
        self.follow_up(id);
    }

    /// A fetch of this entry has written everything up to `watermark` (a byte offset in the file).
    /// If the fetch was stopped meanwhile, the chunks that it completed count all the same.
    pub fn progress(&mut self, entry: EntryId, fetch: FetchId, watermark: u64) {
        self.feed_concurrency_probe(fetch, watermark);
        let (mut has_just_begun, mut has_lost) = (None, false);
        if let Some(mut queue) = self.queues.get_mut(entry)
            && let Some(running) = queue.fetch_mut(fetch)
        {
            self.brought += watermark.saturating_sub(running.watermark);
            running.watermark = running.watermark.max(watermark);
            running.served_in = Some(self.period);
            let has_begun_before = running.moved_in.replace(self.period).is_some();
            has_just_begun = (!has_begun_before).then_some(running.origin);
            // What the fetch has passed is no longer in flight. It is present now, or was evicted
            // since and has to be fetched again.
            let passed = queue.pass(fetch);
            has_lost = queue.next_missing(&passed).is_some();
        }
        if let Some(origin) = has_just_begun {
            self.has_begun(entry, origin);
        }
        if has_lost {
            self.look_after_waiters(entry);
        }
        self.wake_satisfied(entry);
        // Readers may no longer be blocked on the fetch, and it may have to give way now.
        self.follow_up(entry);
    }

    /// What fetches of this entry have written of incomplete chunks is lost. No waiter is woken for
    /// it any more, and new fetches begin these chunks again.
    pub fn lost(&mut self, entry: EntryId) {
        self.stop_all(entry);
        self.look_after_waiters(entry);
        self.follow_up(entry);
    }

    /// Ends a period, within which a fetch should have brought something. A fetch that has brought
    /// nothing from the start of this period to its end is stalled, and no longer protected.
    pub fn period_passed(&mut self) {
        self.period += 1;
        for fetch in self.queues.fetches_mut() {
            fetch.marks = [fetch.watermark, fetch.marks[0], fetch.marks[1]];
        }
        self.look_after_losses();
        self.end_set_backs();
        self.queues.origins().for_each(|origin| self.dispatch(origin));
    }

    /// The earliest time at which delayed work may begin, if there is any.
    pub fn next_due(&self) -> Option<Instant> {
        let origins = self.queues.origins().map(|origin| self.queues.at(origin));
        let waiting = origins.filter(|at| !at.is_served());
        waiting.filter_map(|at| at.rate.wait(self.now)).min()
    }

    /// Begins the work whose time has come.
    pub fn time_passed(&mut self) {
        self.queues.origins().for_each(|origin| self.dispatch(origin));
    }

    /// Chunks have been evicted, or their bytes were lost: those that a waiter needs are wanted
    /// again.
    pub fn look_after_losses(&mut self) {
        let concerned: Vec<_> = self.queues.with_unseen_losses().collect();
        concerned.into_iter().for_each(|id| self.follow_up(id));
    }

    /// Ends each event that concerns an entry. **From here on each missing chunk of a waiter is
    /// wanted or in flight.** Eviction doesn't take the scheduler's lock, so this is restored
    /// before anything else is decided.
    fn follow_up(&mut self, id: EntryId) {
        if self.queues.get(id).is_some_and(EntryQueue::has_unseen_losses) {
            self.look_after_waiters(id);
        }
        self.dispatch_for(id);
        self.queues.forget_if_idle(id);
        debug_assert!(self.looks_after_all(id), "a waiter of {id:?} was lost");
    }

    fn looks_after_all(&self, id: EntryId) -> bool {
        self.queues.get(id).is_none_or(EntryQueue::looks_after_all)
    }

    /// An origin answered after `latency`, and sent `bytes` of the body in `time`.
    pub fn measured(&mut self, origin: &Origin, latency: Duration, bytes: u64, time: Duration, now: Instant) {
        let origin = self.queues.number(origin);
        let running = self.queues.at(origin).running();
        self.queues.note_answer(origin);
        self.queues.fetch_size_mut(origin).note(latency, bytes, time);
        self.queues.connection_limit_mut(origin).answered(running, now);
        self.sync_share(origin);
    }

    /// An origin serves this many connections at a time. Further fetches would only wait for one
    /// another, so those that no reader waits for are stopped.
    pub fn serves(&mut self, origin: &Origin, connections: usize) {
        let origin = self.queues.number(origin);
        if !self.queues.connection_limit_mut(origin).serves(connections) {
            return;
        }
        while self.queues.at(origin).running() > self.connections(origin)
            && let Some(victim) = self.least_urgent_fetch(origin)
        {
            self.preempt(victim);
        }
        self.dispatch(origin);
    }

    /// Bytes ahead of one reader that all connections to an entry's origin can make use of: the
    /// longest fetch for each connection, and a third of that as a reserve.
    pub fn useful_window(&mut self, entry: &CacheEntry) -> u64 {
        let origin = self.queues.origin_of(entry);
        let longest = self.queues.at(origin).fetch_size.fetch_len(u64::MAX, 1);
        let longest = longest.min(self.limits.fetch_len);
        longest * self.connections(origin) as u64 / 3 * 4
    }

    /// Returns true if any fetch from an origin is in flight.
    pub fn is_fetching_from(&mut self, origin: &Origin) -> bool {
        let origin = self.queues.number(origin);
        self.queues.at(origin).running() > 0
    }

    /// Returns true if more files of an entry's origin have something wanted than it gets connections.
    pub fn is_crowded(&mut self, entry: &CacheEntry) -> bool {
        let origin = self.queues.origin_of(entry);
        self.is_crowd(origin)
    }

    /// The entry's version, and with it its true size, is known now.
    pub fn settled(&mut self, entry: EntryId) {
        let Some(mut queue) = self.queues.get_mut(entry) else {
            return;
        };
        let count = queue.chunk_count();
        queue.wants.remove(count..u64::MAX);
        // Their requests end there by themselves; what is left of them must not be wanted again.
        for running in &mut queue.fetches {
            running.chunks.end = running.chunks.end.min(count.max(running.chunks.start));
        }
        // The version is known now, and with it the chunks that an earlier mount had fetched.
        for run in queue.wants.runs().cloned().collect::<Vec<_>>() {
            queue.drop_present(&run);
        }
        drop(queue);
        self.look_after_waiters(entry);
        self.follow_up(entry);
    }

    /// The server ignores Range: this fetch brings the whole file, from byte 0. It takes over
    /// everything wanted of the entry, and the entry's other fetches end. Returns false if the
    /// fetch is no longer wanted.
    pub fn goes_linear(&mut self, fetch: FetchId) -> bool {
        let Some(mut queue) = self.flight_of(fetch) else {
            return false;
        };
        let (id, all) = (queue.entry.id, 0..queue.chunk_count());
        queue.wants.remove_at(all.clone(), Priority::Critical);
        let others = queue.fetches.iter().map(|other| other.id);
        let others: Vec<_> = others.filter(|&other| other != fetch).collect();
        drop(queue);
        others.into_iter().for_each(|other| self.preempt_for_another(other));
        if let Some(mut queue) = self.queues.get_mut(id)
            && let Some(running) = queue.fetch_mut(fetch)
        {
            running.chunks = all;
            running.start = 0;
            running.watermark = 0;
            running.marks = [0; 3];
        }
        self.look_after_waiters(id);
        self.follow_up(id);
        true
    }

    /// A fetch has ended by itself: with all its bytes, or with an error for its waiters.
    pub fn ended(&mut self, fetch: FetchId, result: Result<(), ReadError>) {
        let Some((queue, ended)) = self.fetch(fetch) else {
            return;
        };
        let (id, failed_chunks) = (queue.entry.id, queue.left_of(ended));
        self.remove(fetch);
        match result {
            Ok(()) => {}
            // No fetch will bring bytes of this version any more.
            Err(error @ ReadError::Changed) => self.fail_entry(id, &error),
            Err(error) => self.fail_waiters(id, &failed_chunks, &error),
        }
        self.look_after_waiters(id);
        self.follow_up(id);
    }

    /// Closes the scheduler when the mount ends. Every waiter is woken with an error, now and from
    /// now on; every fetch ends.
    pub fn close(&mut self) {
        self.closed = true;
        let ids: Vec<_> = self.queues.ids().collect();
        for id in ids {
            self.fail_entry(id, &ReadError::ShuttingDown);
            self.queues.forget_if_idle(id);
        }
    }

    /// Returns true if nothing is wanted, in flight or waited for.
    pub fn is_idle(&self) -> bool {
        self.queues.is_empty() && self.fetches.is_empty() && self.waiters.is_empty()
    }
}

#[cfg(test)]
mod tests;
