//! The scheduler's properties one by one. [`model`] tests all of them together, over random
//! interleavings.

#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges are compared; some have one element"
)]

mod bridging;
mod giving_way;
mod line;
mod model;
mod redirects;
mod refusals;
mod shared_line;
mod sizes;
mod slices;
mod slots;
mod stalls;
mod waits;
mod windows;

use std::time::Duration;

use rangemap::RangeSet;
use url::Url;

use super::action::PRIORITIES;
use super::*;
use crate::cache::chunk::ChunkSize;
use crate::origin::{Content, ListedSize};

/// The size of the chunks of these tests, in bytes.
const C: u64 = 4096;

/// An entry of `size` bytes by its listing, at an origin of this name.
fn listed(origin: &str, size: u64) -> Arc<CacheEntry> {
    let url = Url::parse(&format!("http://{origin}/f")).unwrap();
    let origin = Origin::of(&url).unwrap();
    let content = Content::at(url, ListedSize::Exact(size));
    Arc::new(CacheEntry::unsettled(content, origin, ChunkSize::new(C).unwrap()))
}

/// An entry of `chunks` whole chunks, whose version is known.
fn known(origin: &str, chunks: u64) -> Arc<CacheEntry> {
    let entry = listed(origin, chunks * C);
    entry.settle_for_tests(chunks * C);
    entry
}

/// A scheduler with origins so near that less than a chunk comes in the time of a round trip.
fn near_scheduler(limits: Limits) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    put_away(&mut scheduler, 0);
    scheduler
}

/// From now on `chunks` chunks come from the origins in the time of a round trip.
fn put_away(scheduler: &mut Scheduler, chunks: u64) {
    // At the assumed rate, and a little more because of rounding.
    let latency = Duration::from_secs_f64((chunks * C) as f64 * 1.001 / 20e6);
    for origin in ["a", "b"] {
        let origin = listed(origin, 0).origin.clone();
        (0..100).for_each(|_| scheduler.measured(&origin, latency, 0, Duration::ZERO));
    }
}

/// A scheduler, and all of its actions so far.
struct Play {
    scheduler: Scheduler,
    started: Vec<FetchOrder>,
    trimmed: Vec<(FetchId, u64)>,
    stopped: Vec<FetchId>,
    woken: Vec<(u64, Result<(), ReadError>)>,
}

impl Play {
    /// With `slots` slots per origin, 16 chunks per fetch, and a split distance of 4 chunks.
    fn with_slots(slots: usize) -> Play {
        let limits = Limits {
            fetches_per_origin: slots,
            fetch_len: 16 * C,
            split_distance: 4 * C,
            is_throttled: false,
            slice: None,
        };
        Play {
            scheduler: near_scheduler(limits),
            started: Vec::new(),
            trimmed: Vec::new(),
            stopped: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Sets the round trip as [`put_away`] does.
    fn far(&mut self, chunks: u64) {
        put_away(&mut self.scheduler, chunks);
    }

    fn note(&mut self) {
        for action in self.scheduler.take_actions() {
            match action {
                Action::Start(order) => self.started.push(order),
                Action::Trim { fetch, end } => self.trimmed.push((fetch, end)),
                Action::Stop(fetch) => self.stopped.push(fetch),
                Action::Wake(waiter, result) => self.woken.push((waiter.0, result)),
            }
        }
    }

    fn request(&mut self, entry: &Arc<CacheEntry>, chunks: Range<u64>, priority: Priority) {
        self.scheduler.request(entry, chunks, priority);
        self.note();
    }

    fn wait(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, waiter: u64) {
        self.scheduler
            .wait(entry, bytes, Priority::Critical, &[], WaiterId(waiter));
        self.note();
    }

    fn wait_with_ahead(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, ahead: Range<u64>, waiter: u64) {
        let ahead = moves(entry, 0, ahead);
        self.scheduler
            .wait(entry, bytes, Priority::Critical, &[ahead], WaiterId(waiter));
        self.note();
    }

    /// The fetch number `index` (in order of starts) has written everything before `to`.
    fn writes(&mut self, index: usize, to: u64) {
        let (id, entry, start) = {
            let order = &self.started[index];
            (order.id, Arc::clone(&order.entry), order.bytes.start)
        };
        let settled = entry.settled().expect("nothing can be written before");
        for chunk in entry.chunk.contained(&(start..to), settled.size()) {
            settled.presence.insert(chunk);
        }
        self.scheduler.progress(entry.id, id, to);
        self.note();
    }

    fn ends(&mut self, index: usize, result: Result<(), ReadError>) {
        self.scheduler.ended(self.started[index].id, result);
        self.note();
    }

    fn completes(&mut self, index: usize, to: u64) {
        self.writes(index, to);
        self.ends(index, Ok(()));
    }

    fn settles(&mut self, entry: &Arc<CacheEntry>, size: u64) {
        entry.settle_for_tests(size);
        self.scheduler.settled(entry.id);
        self.note();
    }

    /// The started fetches, in chunks.
    fn starts(&self) -> Vec<Range<u64>> {
        self.started
            .iter()
            .map(|order| order.bytes.start / C..order.bytes.end.div_ceil(C))
            .collect()
    }

    fn woken_well(&self) -> Vec<u64> {
        let well = self.woken.iter().filter(|(_, result)| result.is_ok());
        well.map(|&(waiter, _)| waiter).collect()
    }

    fn woken_with_error(&self) -> Vec<u64> {
        let badly = self.woken.iter().filter(|(_, result)| result.is_err());
        badly.map(|&(waiter, _)| waiter).collect()
    }
}

/// A stream's window becomes these chunks.
fn moves(entry: &CacheEntry, stream: u64, chunks: Range<u64>) -> WindowUpdate {
    let bytes = chunks.start * entry.chunk.bytes()..chunks.end * entry.chunk.bytes();
    WindowUpdate::Move {
        stream: StreamId {
            reader: stream / 10,
            stream,
        },
        keep: bytes.clone(),
        ask: bytes,
    }
}

fn failure() -> ReadError {
    ReadError::Store("no luck".into())
}

#[test]
fn chunk_evicted_behind_its_fetch_is_refetched() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    play.writes(0, 4 * C);
    entry.settled().unwrap().presence.remove(1);
    play.wait(&entry, C..2 * C, 1);
    assert_eq!(play.woken_well(), [] as [u64; 0], "what has gone is not here");
    let again = play
        .started
        .iter()
        .position(|order| order.bytes == (C..2 * C))
        .expect("a fetch for it");
    play.writes(again, 2 * C);
    assert_eq!(play.woken_well(), [1]);
}

#[test]
fn lost_partial_chunk_is_refetched_before_waking() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.request(&entry, 0..4, Priority::High);
    play.writes(0, 2 * C + C / 2);
    play.wait(&entry, 2 * C + C / 2 + 10..3 * C, 1);
    play.scheduler.lost(entry.id);
    play.note();
    assert_eq!(play.stopped, [play.started[0].id]);
    play.wait(&entry, 2 * C..2 * C + 10, 2);
    assert_eq!(play.woken_well(), [] as [u64; 0]);
    let again = play.started.iter().rposition(|order| order.bytes.start == 2 * C);
    play.writes(again.expect("a fetch for it"), 3 * C);
    assert_eq!(play.woken_well(), [1, 2]);
}

#[test]
fn closing_fails_all_waiters_now_and_later() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait(&entry, 0..C, 1);
    play.wait(&known("a", 1), 0..C, 2);
    play.request(&known("b", 100), 0..100, Priority::Low);
    play.scheduler.close();
    play.note();
    assert_eq!(play.stopped.len(), 2);
    assert!(play.scheduler.is_idle());
    play.wait(&entry, 0..C, 3);
    play.request(&entry, 0..C, Priority::High);
    play.ends(0, Ok(()));
    assert_eq!(play.woken_with_error(), [1, 2, 3]);
    assert!(play.scheduler.is_idle() && play.started.len() == 2);
}
