//! Who gets which bytes next: the decisions of the chunk manager, without its locks, threads and
//! connections.
//!
//! The scheduler knows which chunks of which entries are **wanted** and how urgently, which
//! **fetches** run and how far each has come, and which **waiters** (blocked reads) wait for which
//! bytes. Everything that happens is told to it by a method; each adds to a list of [`Action`]s
//! that the caller carries out. So every interleaving can be played through in a test.
//!
//! What holds after each call:
//! - **No byte is in flight twice**: the fetches of an entry cover disjoint ranges of chunks, and a
//!   wanted chunk is not in flight. Nor is it asked for when it is present: a fetch that was cut
//!   short or stopped may still write what it has read, so that is looked at before a fetch starts.
//! - **Every waiter is looked after**: each chunk that it misses is wanted, at `Critical`, or in
//!   flight. When nothing is left to fetch for it, it is woken, whatever the reason; there is no
//!   other state, so no waiter can be forgotten.
//! - **No slot is idle while something is wanted** of its origin.
//! - **`Critical` waits for nothing lower**: with all slots of an origin taken, the least urgent
//!   fetch loses its slot to it. What that fetch has brought stays; the rest is wanted again. A fetch
//!   whose last reader was woken is no longer protected from this.
//! - A waiter that needs bytes far ahead of where a fetch stands does not wait for it to get there:
//!   the fetch is cut short before them, and they get a fetch of their own.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rangemap::RangeSet;

use super::entry::{CacheEntry, EntryId, Settled};
use super::error::ReadError;
use super::pace::Paces;
use crate::http::Origin;

/// How urgently a chunk is wanted. The first is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A reader is blocked on it.
    Critical,
    /// Read-ahead of a live cursor.
    High,
    /// The user asked for it.
    Medium,
    /// Background fill.
    Low,
}

const PRIORITIES: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

/// The number of a fetch within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchId(pub u64);

/// The number of a waiter within this mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// What the scheduler goes by.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Fetches at once to one origin.
    pub fetches_per_origin: usize,
    /// Bytes that one fetch may ask for, at most (at least one chunk). How many it asks for depends on
    /// how the origin answers.
    pub fetch_len: u64,
    /// Bytes between a fetch's position and a waiter's first byte from which on the waiter gets a
    /// fetch of its own.
    pub split_distance: u64,
}

/// One HTTP Range request to be made.
#[derive(Debug, Clone)]
pub struct FetchOrder {
    /// Its number.
    pub id: FetchId,
    /// Whose bytes.
    pub entry: Arc<CacheEntry>,
    /// Which bytes, from one chunk edge to another or to the end of the file. Before the entry is
    /// settled always to a chunk edge: the end that a listing gave may not be the true one.
    pub bytes: Range<u64>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action {
    /// Begin a fetch.
    Start(FetchOrder),
    /// Let a running fetch end before this byte.
    Trim {
        /// The fetch.
        fetch: FetchId,
        /// Byte offset in the file, exclusive.
        end: u64,
    },
    /// End a running fetch now. It is no longer known here; what it reports is ignored.
    Stop(FetchId),
    /// Tell a waiter that its bytes are in the data file, or why they never will be.
    Wake(WaiterId, Result<(), ReadError>),
}

/// The state: all that is wanted, in flight and waited for.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    paces: Paces,
    /// The entries for which anything is wanted, in flight or waited for.
    flights: BTreeMap<EntryId, Flight>,
    fetches: HashMap<FetchId, Fetch>,
    waiters: HashMap<WaiterId, EntryId>,
    next_fetch: u64,
    /// Counts starts of fetches: who has started longest ago is served first.
    turn: u64,
    closed: bool,
    actions: Vec<Action>,
}

/// What goes on for one entry.
#[derive(Debug)]
struct Flight {
    entry: Arc<CacheEntry>,
    /// Chunks to be fetched, by priority. **The four sets are disjoint.**
    wanted: [RangeSet<u64>; 4],
    fetches: Vec<FetchId>,
    waiters: Vec<Waiter>,
    /// When it last started a fetch.
    turn: u64,
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    /// The bytes it needs; may reach past the end of the file.
    bytes: Range<u64>,
}

/// A running fetch.
#[derive(Debug)]
struct Fetch {
    entry: EntryId,
    chunks: Range<u64>,
    /// Byte offset up to which it has written.
    watermark: u64,
    /// Whether any byte has come.
    has_begun: bool,
    /// How urgent it is when nobody is blocked on it; `None` when nobody wants it then.
    base: Option<Priority>,
}

impl Flight {
    fn new(entry: Arc<CacheEntry>) -> Flight {
        Flight {
            entry,
            wanted: Default::default(),
            fetches: Vec::new(),
            waiters: Vec::new(),
            turn: 0,
        }
    }

    /// How many chunks the file has. Before it is settled at least one: that is fetched to find out.
    fn chunk_count(&self) -> u64 {
        let count = self.entry.chunk.count(self.entry.size());
        if self.entry.settled().is_some() {
            count
        } else {
            count.max(1)
        }
    }

    fn is_present(&self, chunk: u64) -> bool {
        self.entry
            .settled()
            .is_some_and(|settled| settled.presence.contains(chunk))
    }

    /// The chunks that these bytes touch, of those that the file has. For bytes past the end that a
    /// listing gave it is the first chunk: it tells where the end really is.
    fn touched(&self, bytes: &Range<u64>) -> Range<u64> {
        let size = self.entry.size();
        let touched = self.entry.chunk.touched(&(bytes.start.min(size)..bytes.end.min(size)));
        if touched.is_empty() && !bytes.is_empty() && self.entry.settled().is_none() {
            return 0..1;
        }
        touched
    }

    /// The runs of chunks in `chunks` that are missing.
    fn missing_in(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        let Some(settled) = self.entry.settled() else {
            return vec![chunks.clone()];
        };
        let mut runs = Vec::new();
        let mut at = chunks.start;
        while let Some(start) = settled.presence.next_missing(&(at..chunks.end)) {
            at = (start..chunks.end)
                .find(|&chunk| settled.presence.contains(chunk))
                .unwrap_or(chunks.end);
            runs.push(start..at);
        }
        runs
    }

    fn want(&mut self, chunks: Range<u64>, priority: Priority) {
        if chunks.is_empty() {
            return;
        }
        let mut parts = RangeSet::from_iter([chunks.clone()]);
        for urgent in PRIORITIES.into_iter().take_while(|&urgent| urgent < priority) {
            for part in self.wanted[urgent as usize].overlapping(&chunks) {
                parts.remove(part.clone());
            }
        }
        for part in parts.iter() {
            for set in &mut self.wanted {
                set.remove(part.clone());
            }
            self.wanted[priority as usize].insert(part.clone());
        }
    }

    fn unwant(&mut self, chunks: Range<u64>) {
        if !chunks.is_empty() {
            self.wanted.iter_mut().for_each(|set| set.remove(chunks.clone()));
        }
    }

    fn wanted_at(&self, chunk: u64) -> Option<Priority> {
        PRIORITIES
            .into_iter()
            .find(|&p| self.wanted[p as usize].contains(&chunk))
    }

    /// How many chunks in a row are wanted from this one on, however urgently.
    fn wanted_in_a_row(&self, first: u64) -> u64 {
        let mut end = first;
        while let Some(run) = self.wanted.iter().find_map(|set| set.get(&end)) {
            end = run.end;
        }
        end - first
    }

    fn most_urgent(&self) -> Option<Priority> {
        PRIORITIES.into_iter().find(|&p| !self.wanted[p as usize].is_empty())
    }

    fn is_idle(&self) -> bool {
        self.most_urgent().is_none() && self.fetches.is_empty() && self.waiters.is_empty()
    }
}

impl Scheduler {
    /// A scheduler that knows of nothing yet.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler {
            limits,
            paces: Paces::default(),
            flights: BTreeMap::new(),
            fetches: HashMap::new(),
            waiters: HashMap::new(),
            next_fetch: 1,
            turn: 1,
            closed: false,
            actions: Vec::new(),
        }
    }

    /// Takes what there is to do since the last call, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Wants chunks at a priority. What is present stays as it is; what is wanted or in flight
    /// already is promoted if this is more urgent.
    pub fn request(&mut self, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        if self.closed {
            return;
        }
        self.want(entry.id, entry, chunks, priority);
        self.dispatch(&entry.origin);
        self.forget_if_idle(entry.id);
    }

    /// A reader is blocked on these bytes of the entry. It is woken, perhaps at once, when they are
    /// in the data file; bytes past the end of the file need not come.
    /// `ahead` are chunks that it will want next, for one fetch to bring both.
    pub fn wait(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, ahead: Option<Range<u64>>, waiter: WaiterId) {
        if self.closed {
            self.actions.push(Action::Wake(waiter, Err(ReadError::ShuttingDown)));
            return;
        }
        let flight = self
            .flights
            .entry(entry.id)
            .or_insert_with(|| Flight::new(Arc::clone(entry)));
        flight.waiters.push(Waiter { id: waiter, bytes });
        self.waiters.insert(waiter, entry.id);
        if let Some(chunks) = ahead {
            self.want(entry.id, entry, chunks, Priority::High);
        }
        self.look_after_waiters(entry.id);
        self.dispatch(&entry.origin);
        self.forget_if_idle(entry.id);
    }

    /// The waiter no longer waits: its deadline has passed, say. It is woken with this error unless
    /// it was woken before.
    pub fn give_up(&mut self, waiter: WaiterId, error: ReadError) {
        let Some(&id) = self.waiters.get(&waiter) else { return };
        self.wake(id, waiter, Err(error));
        self.drop_unneeded_critical(id);
        // The fetch that it was blocked on may have to give way now.
        self.dispatch_for(id);
        self.forget_if_idle(id);
    }

    /// The readers of an entry have gone, or seem to: read-ahead that has not begun is dropped, and
    /// what is in flight for them alone ends at the next chunk edge.
    pub fn end_read_ahead(&mut self, id: EntryId) {
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        flight.wanted[Priority::High as usize].clear();
        let (entry, fetches) = (Arc::clone(&flight.entry), flight.fetches.clone());
        for fetch in fetches {
            let Some(running) = self.fetches.get_mut(&fetch) else {
                continue;
            };
            if running.base != Some(Priority::High) || entry.ignores_range() {
                continue;
            }
            running.base = None;
            let next_edge = entry.chunk.count(running.watermark).max(running.chunks.start + 1);
            let needed = self
                .last_waited_for(fetch)
                .map_or(next_edge, |chunk| next_edge.max(chunk + 1));
            let Some(running) = self.fetches.get_mut(&fetch) else {
                continue;
            };
            if needed < running.chunks.end {
                running.chunks.end = needed;
                self.actions.push(Action::Trim {
                    fetch,
                    end: needed * entry.chunk.bytes(),
                });
            }
        }
        self.forget_if_idle(id);
    }

    /// A fetch of this entry has written everything up to `watermark` (a byte offset in the file).
    /// If it was stopped meanwhile, the chunks that it made whole count all the same.
    pub fn progress(&mut self, entry: EntryId, fetch: FetchId, watermark: u64) {
        if let Some(running) = self.fetches.get_mut(&fetch) {
            running.watermark = running.watermark.max(watermark);
            running.has_begun = true;
        }
        self.wake_satisfied(entry);
        // Readers may no longer be blocked on the fetch, and it may have to give way now.
        self.dispatch_for(entry);
        self.forget_if_idle(entry);
    }

    /// An origin answered after `latency`, and sent `bytes` of the body in `time`.
    pub fn measured(&mut self, origin: &Origin, latency: Duration, bytes: u64, time: Duration) {
        self.paces.of_mut(origin).note(latency, bytes, time);
    }

    /// An origin refused a request of a fetch, or broke it off: perhaps there were too many at once.
    pub fn refused(&mut self, origin: &Origin) {
        let running = self.running(origin);
        self.paces.of_mut(origin).refused(running);
    }

    /// The entry's version, and with it its true size, is known now.
    pub fn settled(&mut self, entry: EntryId) {
        let Some(flight) = self.flights.get_mut(&entry) else {
            return;
        };
        let count = flight.chunk_count();
        flight.unwant(count..u64::MAX);
        // Their requests end there by themselves; what is left of them must not be wanted again.
        for fetch in &flight.fetches {
            if let Some(running) = self.fetches.get_mut(fetch) {
                running.chunks.end = running.chunks.end.min(count.max(running.chunks.start));
            }
        }
        // Chunks of it that an earlier mount had fetched have become known with the version.
        let known: Vec<_> = (flight.wanted.iter().flat_map(RangeSet::iter).cloned())
            .flat_map(|run| run.filter(|&chunk| flight.is_present(chunk)).collect::<Vec<_>>())
            .collect();
        known.into_iter().for_each(|chunk| flight.unwant(chunk..chunk + 1));
        let origin = flight.entry.origin.clone();
        self.look_after_waiters(entry);
        self.dispatch(&origin);
        self.forget_if_idle(entry);
    }

    /// The server ignores Range: this fetch brings the whole file, from byte 0. It takes over all
    /// that is wanted of the entry; its other fetches end. False if the fetch is no longer wanted.
    pub fn goes_linear(&mut self, fetch: FetchId) -> bool {
        let Some(running) = self.fetches.get(&fetch) else {
            return false;
        };
        let id = running.entry;
        let Some(flight) = self.flights.get_mut(&id) else {
            return false;
        };
        let all = 0..flight.chunk_count();
        flight.unwant(0..u64::MAX);
        let others: Vec<_> = flight.fetches.iter().copied().filter(|&other| other != fetch).collect();
        others.into_iter().for_each(|other| self.stop(other));
        if let Some(running) = self.fetches.get_mut(&fetch) {
            running.chunks = all;
            running.watermark = 0;
        }
        self.look_after_waiters(id);
        self.dispatch_for(id);
        true
    }

    /// A fetch has ended by itself: with all its bytes, or with the error that its waiters get.
    pub fn ended(&mut self, fetch: FetchId, result: Result<(), ReadError>) {
        let Some(ended) = self.fetches.get(&fetch) else { return };
        let id = ended.entry;
        let Some(flight) = self.flights.get(&id) else { return };
        let entry = Arc::clone(&flight.entry);
        let failed_chunks = self.left_of(ended);
        self.remove(fetch);
        match result {
            Ok(()) => {}
            // Nothing of this version will come any more, from this fetch or another.
            Err(error @ ReadError::Changed) => self.fail_entry(id, &error),
            Err(error) => self.fail_waiters(id, &failed_chunks, &error),
        }
        self.look_after_waiters(id);
        self.dispatch(&entry.origin);
        self.forget_if_idle(id);
    }

    /// The mount ends: every waiter is woken with an error, now and from now on; every fetch ends.
    pub fn close(&mut self) {
        self.closed = true;
        let ids: Vec<_> = self.flights.keys().copied().collect();
        for id in ids {
            self.fail_entry(id, &ReadError::ShuttingDown);
            self.forget_if_idle(id);
        }
    }

    /// Whether nothing is wanted, in flight or waited for.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.fetches.is_empty() && self.waiters.is_empty()
    }

    // --- wanting -----------------------------------------------------------------------------

    fn want(&mut self, id: EntryId, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
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
    fn look_after_waiters(&mut self, id: EntryId) {
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
    fn has(&self, id: EntryId, chunk: u64, bytes: &Range<u64>) -> bool {
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

    fn fetch_of(&self, id: EntryId, chunk: u64) -> Option<FetchId> {
        let fetches = &self.flights.get(&id)?.fetches;
        fetches
            .iter()
            .copied()
            .find(|fetch| self.fetches.get(fetch).is_some_and(|f| f.chunks.contains(&chunk)))
    }

    /// Cuts a fetch short before `chunk` when it is too far from it to be waited for.
    fn split_if_far(&mut self, id: FetchId, chunk: u64, first_byte: u64) {
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
    fn drop_unneeded_critical(&mut self, id: EntryId) {
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

    // --- waking ------------------------------------------------------------------------------

    /// Wakes who misses nothing any more.
    fn wake_satisfied(&mut self, id: EntryId) {
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

    fn wake(&mut self, id: EntryId, waiter: WaiterId, result: Result<(), ReadError>) {
        self.waiters.remove(&waiter);
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.waiters.retain(|other| other.id != waiter);
        }
        self.actions.push(Action::Wake(waiter, result));
    }

    /// Fails the waiters that miss any of these chunks; nobody else is concerned.
    fn fail_waiters(&mut self, id: EntryId, chunks: &Range<u64>, error: &ReadError) {
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

    fn fail_entry(&mut self, id: EntryId, error: &ReadError) {
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

    // --- starting and stopping fetches -------------------------------------------------------

    fn dispatch_for(&mut self, id: EntryId) {
        if let Some(flight) = self.flights.get(&id) {
            let origin = flight.entry.origin.clone();
            self.dispatch(&origin);
        }
    }

    /// Gives the free slots of an origin, and those that `Critical` may take, to what is wanted.
    fn dispatch(&mut self, origin: &Origin) {
        if self.closed {
            return;
        }
        while let Some((priority, id)) = self.next_wanted(origin) {
            if self.drop_if_moot(id, priority) {
                continue;
            }
            if self.running(origin) >= self.connections(origin) {
                if priority != Priority::Critical {
                    return;
                }
                let Some(victim) = self.least_urgent_fetch(origin) else {
                    return;
                };
                self.preempt(victim);
            }
            self.start(id, priority);
        }
    }

    /// The most urgent work for an origin; among equals, of the entry that was served longest ago.
    fn next_wanted(&self, origin: &Origin) -> Option<(Priority, EntryId)> {
        self.flights
            .iter()
            .filter(|(_, flight)| flight.entry.origin == *origin)
            .filter_map(|(&id, flight)| Some((flight.most_urgent()?, flight.turn, id)))
            .min()
            .map(|(priority, _, id)| (priority, id))
    }

    /// Unwants the first chunk that is wanted at a priority if it has turned up meanwhile, or turned
    /// out to lie past the end: an entry is settled a moment before it is said so here.
    fn drop_if_moot(&mut self, id: EntryId, priority: Priority) -> bool {
        let Some(flight) = self.flights.get_mut(&id) else {
            return false;
        };
        let first = flight.wanted[priority as usize].first().map(|run| run.start);
        let is_moot = |chunk: &u64| flight.is_present(*chunk) || *chunk >= flight.chunk_count();
        let Some(moot) = first.filter(is_moot) else {
            return false;
        };
        flight.unwant(moot..moot + 1);
        self.forget_if_idle(id);
        true
    }

    /// Fetches under way to an origin.
    fn running(&self, origin: &Origin) -> usize {
        self.fetches
            .values()
            .filter(|fetch| self.origin_of(fetch) == Some(origin))
            .count()
    }

    /// How many there may be.
    fn connections(&self, origin: &Origin) -> usize {
        self.paces.of(origin).connections(self.limits.fetches_per_origin)
    }

    fn start(&mut self, id: EntryId, priority: Priority) {
        let Some(flight) = self.flights.get(&id) else {
            return;
        };
        let Some(first) = flight.wanted[priority as usize].first().map(|run| run.start) else {
            return;
        };
        let entry = Arc::clone(&flight.entry);
        let free = self
            .connections(&entry.origin)
            .saturating_sub(self.running(&entry.origin));
        let wanted = flight.wanted_in_a_row(first) * entry.chunk.bytes();
        let longest = (self
            .paces
            .of(&entry.origin)
            .fetch_len(wanted, free)
            .min(self.limits.fetch_len)
            / entry.chunk.bytes())
        .max(1);
        let Some(flight) = self.flights.get_mut(&id) else {
            return;
        };
        // Neighbours that are wanted too, however urgently, come with the same request.
        let mut base = None;
        let mut chunks = first..first;
        while chunks.end - first < longest
            && !flight.is_present(chunks.end)
            && let Some(wanted) = flight.wanted_at(chunks.end)
        {
            base = more_urgent(base, wanted);
            chunks.end += 1;
        }
        let mut others = Vec::new();
        if entry.ignores_range() {
            // It is about to bring what the entry's other fetches were to bring, too.
            chunks = 0..flight.chunk_count();
            others.clone_from(&flight.fetches);
            let bases = others.iter().filter_map(|other| self.fetches.get(other)?.base);
            base = bases.chain(base).min();
        }
        flight.unwant(chunks.clone());
        flight.turn = self.turn;
        self.turn += 1;
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        flight.fetches.push(fetch);
        others.into_iter().for_each(|other| self.stop(other));
        let size = entry.settled().map_or(u64::MAX, Settled::size);
        let bytes = entry.chunk.bytes_of(&chunks, size);
        self.fetches.insert(
            fetch,
            Fetch {
                entry: id,
                chunks,
                watermark: bytes.start,
                has_begun: false,
                base,
            },
        );
        self.actions.push(Action::Start(FetchOrder {
            id: fetch,
            entry,
            bytes,
        }));
    }

    /// The fetch that a `Critical` one may take the slot of: the least urgent, and among equals one
    /// that has brought nothing yet, or else the one with the most left to do. `None` when readers are blocked on all of them.
    fn least_urgent_fetch(&self, origin: &Origin) -> Option<FetchId> {
        self.fetches
            .iter()
            .filter(|(_, fetch)| self.origin_of(fetch) == Some(origin))
            .filter(|(id, _)| !self.is_waited_for(**id))
            .max_by_key(|(id, fetch)| {
                // One that has written its all is about to end anyway, and loses nothing. Next goes
                // what its readers have left behind: nobody wants that.
                (
                    self.left_of(fetch).is_empty(),
                    fetch.base.is_none(),
                    fetch.base,
                    !fetch.has_begun,
                    fetch.chunks.end - fetch.chunks.start,
                    **id,
                )
            })
            .map(|(&id, _)| id)
    }

    fn is_waited_for(&self, id: FetchId) -> bool {
        self.last_waited_for(id).is_some()
    }

    /// The last chunk that the fetch has yet to bring and a reader is blocked on.
    fn last_waited_for(&self, id: FetchId) -> Option<u64> {
        let fetch = self.fetches.get(&id)?;
        let flight = self.flights.get(&fetch.entry)?;
        let left = self.left_of(fetch);
        let last_of = |waiter: &Waiter| {
            let touched = flight.touched(&waiter.bytes);
            let shared = touched.start.max(left.start)..touched.end.min(left.end);
            (!shared.is_empty()).then(|| shared.end - 1)
        };
        flight.waiters.iter().filter_map(last_of).max()
    }

    /// The chunks that a fetch has yet to make whole.
    fn left_of(&self, fetch: &Fetch) -> Range<u64> {
        let Some(flight) = self.flights.get(&fetch.entry) else {
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

    fn origin_of(&self, fetch: &Fetch) -> Option<&Origin> {
        Some(&self.flights.get(&fetch.entry)?.entry.origin)
    }

    /// Stops a fetch and wants again what it has not brought.
    fn preempt(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        let (entry, base) = (fetch.entry, fetch.base);
        let Some(flight) = self.flights.get(&entry) else { return };
        let left = self.left_of(fetch);
        let shared = Arc::clone(&flight.entry);
        self.stop(id);
        if let Some(base) = base {
            self.want(entry, &shared, left, base);
        }
        self.forget_if_idle(entry);
    }

    fn stop(&mut self, id: FetchId) {
        self.remove(id);
        self.actions.push(Action::Stop(id));
    }

    fn remove(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.remove(&id) else { return };
        if let Some(flight) = self.flights.get_mut(&fetch.entry) {
            flight.fetches.retain(|&other| other != id);
        }
    }

    fn forget_if_idle(&mut self, id: EntryId) {
        if self.flights.get(&id).is_some_and(Flight::is_idle) {
            self.flights.remove(&id);
        }
    }
}

/// What a fetch is worth without its waiters, once something more of it is wanted. `Critical`
/// counts for nothing here: it lasts only as long as a waiter does.
fn more_urgent(base: Option<Priority>, wanted: Priority) -> Option<Priority> {
    if wanted == Priority::Critical {
        base
    } else {
        Some(base.map_or(wanted, |base| base.min(wanted)))
    }
}

#[cfg(test)]
mod tests;
