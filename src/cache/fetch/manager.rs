//! `ChunkManager`: the one entry point to the bytes of remote files.
//!
//! Readers ask for a range and are notified when it is in the data file. The [`Scheduler`] decides
//! what to fetch, in which order, and whom to wake. The manager puts a lock around it and carries
//! out its actions: it starts and stops downloads, and calls waiters.
//!
//! **No lost wakeup.** A reader that finds a byte missing and then begins to wait could miss the
//! write in between. Two rules prevent this. [`Scheduler::wait`] checks the range again, under the
//! lock. A writer first marks a chunk present and then reports its progress, under the same lock.
//! So either the reader sees the chunk, or the writer sees the waiter.
//!
//! **Every wait ends**: with its bytes, with the error of the fetch that should have brought them,
//! at its deadline if it has one, or when the mount ends.

mod control;
mod wait_clock;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use control::FetchControl;
use wait_clock::{Awaited, WaitClock};
pub(crate) use wait_clock::{WaitReport, Waited};

use super::scheduler::{
    Action, AfterRefusal, EntryActivity, FetchId, FetchOrder, Limits, OriginStatus, Priority, Refusal, Scheduler,
    WaiterId, WaiterStatus, WaitsFor, WindowUpdate,
};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;
use crate::http::Origin;
use crate::stats::Phase;
use crate::util::events;
use crate::util::panic_guard::contained;

/// Time after which a fetch that brings nothing may no longer delay readers of other files: long
/// beside the pauses of a working connection, short beside a user's patience.
const STALL: Duration = Duration::from_millis(500);

/// Maximum wait of a scanner at a low priority. Then it waits like any reader: other readers may delay it, but not make
/// it fail.
const SCAN_PATIENCE: Duration = Duration::from_secs(5);

/// Called once, when a waiter's bytes are in the data file or never will be. Runs on the thread
/// that reported the event, with no lock held; it must not block.
pub(crate) type OnReady = Box<dyn FnOnce(Result<(), ReadError>) + Send>;

/// A read that waits for bytes.
#[derive(Debug, Clone)]
pub struct WaitingRead {
    /// The entry.
    pub entry: Arc<CacheEntry>,
    /// The bytes that it still needs; may reach past the end of the file.
    pub bytes: Range<u64>,
    /// What it waits for now.
    pub phase: Phase,
    /// For how long it has waited.
    pub waited: Duration,
    /// What for.
    pub(crate) so_far: Waited,
}

/// Carries out fetches: the downloader, or a fake in tests.
pub trait Fetcher: Send + Sync {
    /// Begins a fetch and returns at once. Progress and the end are reported to `manager`.
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>);
}

/// Owns the scheduler, its lock, and the waiters of one mount.
pub struct ChunkManager {
    /// Guards all decisions, for microseconds each. No I/O is done under it, and no lock is taken but those of reports and
    /// phases, which are held for moments. A read of present bytes does not take it.
    state: Mutex<State>,
    fetcher: Arc<dyn Fetcher>,
    /// Maximum time that a reader waits.
    read_timeout: Duration,
    /// Wakes [`ChunkManager::watch_waits`] when there is a waiter or due work again.
    is_busy: Notify,
}

struct State {
    scheduler: Scheduler,
    /// The waiters. Their numbers grow with time, so the first has waited longest.
    waiting: BTreeMap<WaiterId, Waiting>,
    controls: HashMap<FetchId, Arc<FetchControl>>,
    next_waiter: u64,
    /// True if [`ChunkManager::watch_waits`] checks again by itself.
    is_watched: bool,
    /// The time of its next check for due work, if there is one.
    next_look: Option<std::time::Instant>,
}

/// A waiter.
struct Waiting {
    began: Instant,
    /// When its wait ends at the latest; a blocked reader has one. Only that of a scanner may come before that of an earlier
    /// waiter.
    deadline: Option<Instant>,
    on_ready: OnReady,
    /// Of a blocked reader.
    clock: Option<WaitClock>,
}

impl ChunkManager {
    /// A manager whose fetches `fetcher` carries out. No reader waits longer than `read_timeout`.
    pub fn new(limits: Limits, read_timeout: Duration, fetcher: Arc<dyn Fetcher>) -> Arc<ChunkManager> {
        Arc::new(ChunkManager {
            state: Mutex::new(State {
                scheduler: Scheduler::new(limits),
                waiting: BTreeMap::new(),
                controls: HashMap::new(),
                next_waiter: 1,
                is_watched: false,
                next_look: None,
            }),
            fetcher,
            read_timeout,
            is_busy: Notify::new(),
        })
    }

    /// Requests bytes of an entry without waiting for them. `bytes` is half-open; the chunks that
    /// it touches are fetched in the order of their priorities.
    pub fn request(self: &Arc<Self>, entry: &Arc<CacheEntry>, bytes: Range<u64>, priority: Priority) {
        let chunks = entry.chunk.touched(&bytes);
        self.change(|state| state.scheduler.request(entry, chunks, priority));
    }

    /// Calls `on_ready` once `bytes` are in the data file; until then they are wanted at
    /// `Critical`. May call it before returning. `window_updates` updates the reader's windows in the same
    /// step, so that one fetch can bring both. `report` is complete when `on_ready` is called. Returns the waiter's number,
    /// for [`Self::cancel`].
    pub(crate) fn when_ready(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        window_updates: &[WindowUpdate],
        report: WaitReport,
        on_ready: OnReady,
    ) -> WaiterId {
        self.change(|state| {
            report.lock().was_in_flight = state.scheduler.is_in_flight(entry, &bytes);
            let deadline = Instant::now() + self.read_timeout;
            let waiter = state.new_waiter(Some(deadline), on_ready, Some(report));
            let scheduler = &mut state.scheduler;
            scheduler.wait(entry, bytes, Priority::Critical, window_updates, waiter);
            waiter
        })
    }

    /// As [`Self::when_ready`], for a scanner: at `Medium`, below all that other readers wait for or will need next, and for
    /// [`SCAN_PATIENCE`] at most. `ahead` is fetched too.
    pub(crate) fn when_scanned(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        ahead: &Range<u64>,
        report: WaitReport,
        on_ready: OnReady,
    ) -> WaiterId {
        self.change(|state| {
            report.lock().was_in_flight = state.scheduler.is_in_flight(entry, &bytes);
            let deadline = Instant::now() + SCAN_PATIENCE.min(self.read_timeout);
            let waiter = state.new_waiter(Some(deadline), on_ready, Some(report));
            state.scheduler.wait_for_scan(entry, bytes, ahead, waiter);
            waiter
        })
    }

    /// Cancels a wait: `on_ready` is called with [`ReadError::Cancelled`], unless it was called
    /// before. What only this waiter wanted is no longer fetched.
    pub fn cancel(self: &Arc<Self>, waiter: WaiterId) {
        self.change(|state| state.scheduler.give_up(waiter, ReadError::Cancelled));
    }

    /// Fetches `bytes` at `priority`, and calls `on_ready` once: when all of them have come, or
    /// with the first error that prevents some of them from coming.
    ///
    /// - It may call `on_ready` before it returns.
    /// - After an error, the rest is not fetched for this waiter.
    /// - It has no deadline: it may wait for as long as the mount lasts.
    /// - `bytes` may reach past the end of the file.
    /// - Until the end the chunks keep this priority, whatever else they are wanted for.
    pub fn when_fetched(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        priority: Priority,
        on_ready: OnReady,
    ) -> WaiterId {
        let job = Arc::clone(entry);
        job.jobs.fetch_add(1, Ordering::AcqRel);
        let on_ready: OnReady = Box::new(move |result| {
            job.jobs.fetch_sub(1, Ordering::AcqRel);
            on_ready(result);
        });
        self.change(|state| {
            let waiter = state.new_waiter(None, on_ready, None);
            state.scheduler.wait(entry, bytes, priority, &[], waiter);
            waiter
        })
    }

    /// Changes the windows of an entry's streams: more or less is fetched ahead.
    pub fn update_windows(self: &Arc<Self>, entry: &Arc<CacheEntry>, window_updates: &[WindowUpdate]) {
        self.change(|state| state.scheduler.update_windows(entry, window_updates));
    }

    /// One reader of the entry has stopped reading, or seems to. Read-ahead for it alone is not
    /// fetched.
    pub fn leave(self: &Arc<Self>, entry: EntryId, reader: u64) {
        self.change(|state| state.scheduler.leave(entry, reader));
    }

    /// All readers of the entry have stopped, or seem to. Read-ahead for them is not fetched, and
    /// what is in flight for it stops at its next chunk edge.
    pub fn end_read_ahead(self: &Arc<Self>, entry: EntryId) {
        self.change(|state| state.scheduler.end_read_ahead(entry));
    }

    /// Scanners were the only readers of the entry, and have gone or get no more of it. What is in flight for them stops at its
    /// next chunk edge, and at once if the server sends the whole file.
    pub fn end_scan(self: &Arc<Self>, entry: &CacheEntry, at_once: bool) {
        let at_once = at_once && entry.ignores_range();
        self.change(|state| state.scheduler.end_scan(entry.id, at_once));
    }

    /// For fetches of `entry`: everything up to `watermark` is written, and its whole chunks are
    /// marked present.
    pub fn progress(self: &Arc<Self>, entry: EntryId, fetch: FetchId, watermark: u64) {
        self.change(|state| state.scheduler.progress(entry, fetch, watermark));
    }

    /// What fetches of `entry` have written of chunks that are not whole is lost.
    pub fn lost(self: &Arc<Self>, entry: EntryId) {
        self.change(|state| state.scheduler.lost(entry));
    }

    /// For fetches: reports another event to the scheduler. It runs under the lock, so it must not block.
    pub(super) fn report<T>(self: &Arc<Self>, event: impl FnOnce(&mut Scheduler) -> T) -> T {
        self.change(|state| event(&mut state.scheduler))
    }

    /// For fetches: a request to this origin failed before it brought a byte. Returns what the fetch
    /// must do.
    pub fn refused(self: &Arc<Self>, fetch: FetchId, origin: &Origin, refusal: &Refusal<'_>) -> AfterRefusal {
        let (next, is_news) = self.change(|state| state.scheduler.refused(fetch, origin, refusal));
        if is_news {
            log::warn!(
                event = events::CONNECTIONS_REDUCED;
                "{origin}: {}, possibly because of too many parallel requests; using fewer connections (`fetchfs \
                 status` shows how many)",
                refusal.kind
            );
        }
        next
    }

    /// For fetches: the answer to the request sent at `asked` was broken off.
    pub fn broken_off(self: &Arc<Self>, fetch: FetchId, origin: &Origin, asked: std::time::Instant) {
        if self.change(|state| state.scheduler.broken_off(fetch, asked)) {
            log::info!(
                event = events::CONNECTIONS_REDUCED;
                "{origin} breaks off responses; using fewer connections for a while"
            );
        }
    }

    /// For fetches: returns true if its remaining bytes are wanted.
    pub fn is_wanted(&self, fetch: FetchId) -> bool {
        self.state.lock().scheduler.is_wanted(fetch)
    }

    /// For fetches: the fetch has ended, with or without an error.
    pub fn ended(self: &Arc<Self>, fetch: FetchId, result: Result<(), ReadError>) {
        self.change(|state| {
            state.controls.remove(&fetch);
            state.scheduler.ended(fetch, result);
        });
    }

    /// Allows this many concurrent fetches to each origin from now on.
    pub(crate) fn set_most_connections(self: &Arc<Self>, most: usize) {
        self.change(|state| state.scheduler.set_most_connections(most));
    }

    /// Sets whether bodies are slowed down here, so that a slow one says nothing about its server.
    pub(crate) fn set_throttled(self: &Arc<Self>, is_throttled: bool) {
        self.change(|state| state.scheduler.set_throttled(is_throttled));
    }

    /// The state of each origin.
    pub fn status(&self) -> Vec<OriginStatus> {
        self.state.lock().scheduler.status()
    }

    /// The reads that wait now, the longest first.
    pub fn waiting_reads(&self) -> Vec<WaitingRead> {
        let (state, now) = (self.state.lock(), Instant::now());
        let waiting = state.deadlines().filter_map(|(waiter, waiting, _)| {
            let WaiterStatus {
                entry,
                bytes,
                waits_for,
            } = state.scheduler.waiter(waiter)?;
            let phase = match state.awaited(waits_for) {
                Awaited::Phase(phase) => phase,
                Awaited::Fetch(control) => control.phase().get(),
            };
            Some(WaitingRead {
                entry,
                bytes,
                phase,
                so_far: waiting.clock.as_ref().map(WaitClock::so_far).unwrap_or_default(),
                waited: now.saturating_duration_since(waiting.began),
            })
        });
        waiting.collect()
    }

    /// What goes on in an entry.
    pub fn activity(&self, entry: &CacheEntry) -> EntryActivity {
        self.state.lock().scheduler.activity(entry.id)
    }

    /// Bytes ahead of one reader that all connections to an entry's origin can make use of.
    pub fn useful_window(&self, entry: &CacheEntry) -> u64 {
        self.state.lock().scheduler.useful_window(entry)
    }

    /// Returns true if any fetch from an origin is in flight.
    pub fn is_fetching_from(&self, origin: &Origin) -> bool {
        self.state.lock().scheduler.is_fetching_from(origin)
    }

    /// Returns true if more files are read from an entry's origin than it gets connections.
    pub fn is_crowded(&self, entry: &CacheEntry) -> bool {
        self.state.lock().scheduler.is_crowded(entry)
    }

    /// Ends everything: each waiter gets an error, each fetch is stopped, and nothing new begins.
    pub fn close(self: &Arc<Self>) {
        self.change(|state| state.scheduler.close());
    }

    /// Wakes waiters when their deadline passes, and has the scheduler notice stalled fetches. Runs
    /// for as long as the mount does.
    pub async fn watch_waits(self: Arc<Self>) {
        let mut period_ends = Instant::now() + STALL;
        loop {
            let first = {
                let mut state = self.state.lock();
                state.is_watched = !state.scheduler.is_idle();
                state.next_look = state.scheduler.next_due();
                let deadline = state.deadlines().next().map(|(_, _, deadline)| deadline);
                state.is_watched.then_some((deadline, state.next_look))
            };
            let Some((deadline, due)) = first else {
                self.is_busy.notified().await;
                period_ends = Instant::now() + STALL;
                continue;
            };
            let times = [deadline, due.map(Instant::from_std)].into_iter().flatten();
            let next = times.fold(period_ends, Instant::min);
            // Something may have become due sooner meanwhile.
            let _ = tokio::time::timeout_at(next, self.is_busy.notified()).await;
            let has_passed = Instant::now() >= period_ends;
            if has_passed {
                period_ends = Instant::now() + STALL;
            }
            let watched = contained("ending timed-out reads", || {
                self.change(|state| {
                    state.end_late_waits(self.read_timeout);
                    if has_passed {
                        state.scheduler.period_passed();
                    } else {
                        state.scheduler.time_passed();
                    }
                });
            });
            if watched.is_none() {
                // A panic in each round must not occupy a core.
                tokio::time::sleep(STALL).await;
            }
        }
    }

    /// Changes the state under the lock, and carries out the resulting actions without the lock.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut wakes = Vec::new();
        let mut starts = Vec::new();
        let changed = {
            let mut state = self.state.lock();
            state.scheduler.set_now(std::time::Instant::now());
            let changed = change(&mut state);
            for action in state.scheduler.take_actions() {
                match action {
                    Action::Wake(waiter, result) => {
                        let waiting = state.waiting.remove(&waiter);
                        wakes.extend(waiting.map(|waiting| {
                            waiting.clock.into_iter().for_each(WaitClock::end);
                            (waiting.on_ready, result)
                        }));
                    }
                    Action::Start(order) => {
                        let control = Arc::new(FetchControl::new(order.bytes.end));
                        state.controls.insert(order.id, Arc::clone(&control));
                        starts.push((order, control));
                    }
                    Action::Trim { fetch, end } => {
                        state.controls.get(&fetch).inspect(|control| control.lower_end(end));
                    }
                    Action::Stop(fetch) => {
                        state.controls.remove(&fetch).inspect(|control| control.lower_end(0));
                    }
                }
            }
            state.turn_clocks();
            let due = state.scheduler.next_due();
            let is_sooner = due.is_some_and(|due| state.next_look.is_none_or(|next| due < next));
            if is_sooner || (!state.is_watched && !state.scheduler.is_idle()) {
                state.next_look = due;
                state.is_watched = true;
                self.is_busy.notify_one();
            }
            changed
        };
        for (on_ready, result) in wakes {
            // A panic in one callback must not prevent the other callbacks and the fetches.
            contained("waking a reader", || on_ready(result));
        }
        for (order, control) in starts {
            Arc::clone(&self.fetcher).start(Arc::clone(self), order, control);
        }
        changed
    }
}

impl State {
    fn new_waiter(&mut self, deadline: Option<Instant>, on_ready: OnReady, report: Option<WaitReport>) -> WaiterId {
        let waiter = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        let waiting = Waiting {
            began: Instant::now(),
            deadline,
            on_ready,
            clock: report.map(WaitClock::new),
        };
        self.waiting.insert(waiter, waiting);
        waiter
    }

    /// The waiters with a deadline, in the order in which they began to wait.
    fn deadlines(&self) -> impl Iterator<Item = (WaiterId, &Waiting, Instant)> {
        let all = self.waiting.iter();
        all.filter_map(|(&waiter, waiting)| Some((waiter, waiting, waiting.deadline?)))
    }

    /// What a reader waits for, with the control of its fetch.
    fn awaited(&self, waits_for: WaitsFor) -> Awaited {
        match waits_for {
            WaitsFor::Rest => Awaited::Phase(Phase::BackingOff),
            WaitsFor::Slot => Awaited::Phase(Phase::Queued),
            WaitsFor::Fetch(fetch) => match self.controls.get(&fetch) {
                Some(control) => Awaited::Fetch(Arc::clone(control)),
                None => Awaited::Phase(Phase::Queued),
            },
        }
    }

    /// The clocks of readers that wait for something else than before turn to that.
    fn turn_clocks(&mut self) {
        for (waiter, waits_for) in self.scheduler.take_changed_waits() {
            let awaited = self.awaited(waits_for);
            let clock = self.waiting.get_mut(&waiter).and_then(|waiting| waiting.clock.as_mut());
            if let Some(clock) = clock {
                clock.turn_to(awaited);
            }
        }
    }

    fn end_late_waits(&mut self, read_timeout: Duration) {
        let now = Instant::now();
        let late = self.deadlines().filter(|(_, _, deadline)| *deadline <= now);
        for waiter in late.map(|(waiter, ..)| waiter).collect::<Vec<_>>() {
            self.scheduler.give_up(waiter, ReadError::DeadlinePassed(read_timeout));
        }
    }
}

#[cfg(test)]
mod tests;
