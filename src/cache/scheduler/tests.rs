//! The scheduler's properties one by one. All of them together, over random interleavings: [`model`].

#![expect(
    clippy::single_range_in_vec_init,
    reason = "lists of ranges are compared; some have one element"
)]

mod bridging;
mod giving_way;
mod line;
mod model;
mod refusals;
mod shared_line;
mod windows;

use std::time::Duration;

use url::Url;

use super::*;
use crate::cache::chunk::ChunkSize;

/// The size of the chunks of these tests, in bytes.
const C: u64 = 4096;

/// An entry of `size` bytes by its listing, at an origin of this name.
fn listed(origin: &str, size: u64) -> Arc<CacheEntry> {
    let url = Url::parse(&format!("http://{origin}/f")).unwrap();
    let origin = Origin::of(&url).unwrap();
    Arc::new(CacheEntry::unsettled(url, origin, ChunkSize::new(C).unwrap(), 0, size))
}

/// An entry of so many whole chunks, whose version is known.
fn known(origin: &str, chunks: u64) -> Arc<CacheEntry> {
    let entry = listed(origin, chunks * C);
    entry.settle_for_tests(chunks * C);
    entry
}

/// A scheduler for origins so near that nothing of a chunk comes in the time of a round trip.
fn near_scheduler(limits: Limits) -> Scheduler {
    let mut scheduler = Scheduler::new(limits);
    put_away(&mut scheduler, 0);
    scheduler
}

/// From now on so many chunks come from the origins in the time of a round trip.
fn put_away(scheduler: &mut Scheduler, chunks: u64) {
    // At the rate that is taken for granted; and a little more, for the sake of rounding.
    let latency = Duration::from_secs_f64((chunks * C) as f64 * 1.001 / 20e6);
    for origin in ["a", "b"] {
        let origin = listed(origin, 0).origin.clone();
        (0..100).for_each(|_| scheduler.measured(&origin, latency, 0, Duration::ZERO, Instant::now()));
    }
}

/// A scheduler, and all that it has said so far.
struct Play {
    scheduler: Scheduler,
    started: Vec<FetchOrder>,
    trimmed: Vec<(FetchId, u64)>,
    stopped: Vec<FetchId>,
    woken: Vec<(u64, Result<(), ReadError>)>,
}

impl Play {
    /// With so many slots an origin, 16 chunks a fetch, and 4 chunks that a waiter sits out.
    fn with_slots(slots: usize) -> Play {
        let limits = Limits {
            fetches_per_origin: slots,
            fetch_len: 16 * C,
            split_distance: 4 * C,
        };
        Play {
            scheduler: near_scheduler(limits),
            started: Vec::new(),
            trimmed: Vec::new(),
            stopped: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// See [`put_away`].
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
        self.scheduler.wait(entry, bytes, &[], WaiterId(waiter));
        self.note();
    }

    fn wait_with_ahead(&mut self, entry: &Arc<CacheEntry>, bytes: Range<u64>, ahead: Range<u64>, waiter: u64) {
        let ahead = moves(entry, 0, ahead);
        self.scheduler.wait(entry, bytes, &[ahead], WaiterId(waiter));
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

    /// What was started, in chunks.
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
fn moves(entry: &CacheEntry, stream: u64, chunks: Range<u64>) -> Shift {
    let bytes = chunks.start * entry.chunk.bytes()..chunks.end * entry.chunk.bytes();
    Shift::Move {
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
fn a_chunk_that_is_evicted_behind_the_fetch_that_brought_it_comes_again() {
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
fn neighbouring_wanted_chunks_become_one_fetch() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.request(&known("a", 1), 0..1, Priority::Low);
    for chunk in [7, 5, 4, 6] {
        play.request(&entry, chunk..chunk + 1, Priority::Medium);
    }
    play.request(&entry, 8..10, Priority::Low);
    play.request(&entry, 11..12, Priority::Medium);
    play.ends(0, Ok(()));
    assert_eq!(play.starts(), [0..1, 4..10]);
}

#[test]
fn a_fetch_is_no_longer_than_its_limit_and_skips_what_is_present() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    for chunk in [3, 4, 60] {
        entry.settled().unwrap().presence.insert(chunk);
    }
    play.request(&entry, 0..100, Priority::High);
    assert_eq!(
        play.starts(),
        [0..3, 5..21, 21..37, 37..53, 53..60, 61..77, 77..93, 93..100]
    );
}

#[test]
fn a_reader_and_its_read_ahead_are_served_by_one_fetch() {
    let (mut play, entry) = (Play::with_slots(4), known("a", 100));
    play.wait_with_ahead(&entry, 0..C, 0..8, 1);
    assert_eq!(play.starts(), [0..8]);
}

#[test]
fn critical_overtakes_a_full_queue() {
    let (mut play, busy, urgent) = (Play::with_slots(2), known("a", 1000), known("a", 10));
    play.request(&busy, 0..1000, Priority::High);
    play.wait(&urgent, 3 * C..4 * C, 1);
    let last = play.started.last().unwrap();
    assert_eq!((last.entry.id, last.bytes.clone()), (urgent.id, 3 * C..4 * C));
}

#[test]
fn with_all_slots_taken_the_least_urgent_fetch_loses_its_slot_and_its_rest_is_wanted_again() {
    let mut play = Play::with_slots(2);
    let (low, high, urgent) = (known("a", 16), known("a", 16), known("a", 1));
    play.request(&low, 0..16, Priority::Low);
    play.request(&high, 0..16, Priority::High);
    play.writes(0, 5 * C + 7);
    play.wait(&urgent, 0..C, 1);
    assert_eq!(play.stopped, [play.started[0].id]);
    play.completes(2, C);
    assert_eq!(play.starts(), [0..16, 0..16, 0..1, 5..16], "what it had brought stays");
    assert_eq!(play.started[3].entry.id, low.id);
}

#[test]
fn a_fetch_that_nobody_wants_any_more_is_the_first_to_give_way_and_leaves_nothing_behind() {
    let mut play = Play::with_slots(2);
    let (left, low, urgent) = (known("a", 1), known("a", 16), known("a", 1));
    play.request(&low, 0..16, Priority::Low);
    play.wait(&left, 0..100, 1);
    play.writes(1, 100);
    assert_eq!(play.woken_well(), [1]);
    play.wait(&urgent, 0..C, 2);
    assert_eq!(play.stopped, [play.started[1].id]);
    play.completes(0, 16 * C);
    play.completes(2, C);
    // Its entry would stay open, and its data file locked, for as long as the mount lasts.
    assert!(play.scheduler.is_idle());
}

#[test]
fn with_readers_blocked_on_all_slots_critical_waits_for_a_free_one() {
    let mut play = Play::with_slots(2);
    let entries = [known("a", 1), known("a", 1), known("a", 1)];
    for (waiter, entry) in (1..).zip(&entries) {
        play.wait(entry, 0..C, waiter);
    }
    assert_eq!((play.started.len(), play.stopped.len()), (2, 0));
    play.completes(1, C);
    assert_eq!(play.started[2].entry.id, entries[2].id);
}

#[test]
fn a_fetch_whose_last_reader_was_woken_gives_way_to_one_that_was_queued() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 16), known("a", 1));
    play.request(&first, 0..16, Priority::Medium);
    play.wait(&first, 0..C, 1);
    play.wait(&second, 0..C, 2);
    assert_eq!(play.started.len(), 1);
    play.writes(0, C);
    assert_eq!(play.woken_well(), [1]);
    assert_eq!(play.stopped, [play.started[0].id]);
    assert_eq!(play.started[1].entry.id, second.id);
}

#[test]
fn the_one_fetch_that_keeps_a_stream_going_is_not_thrown_away_for_the_next_blocked_reader() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 32), known("a", 32));
    play.wait_with_ahead(&first, 0..C, 0..32, 1);
    play.wait_with_ahead(&second, 0..C, 0..32, 2);
    play.writes(0, C);
    assert_eq!((play.woken_well(), play.stopped.len()), (vec![1], 0));
    play.wait_with_ahead(&first, 3 * C..17 * C, 0..32, 3);
    play.writes(0, 16 * C - 1);
    assert_eq!(play.stopped, []);
    play.completes(0, 16 * C);
    let turns: Vec<_> = play.started.iter().map(|order| order.entry.id).collect();
    assert_eq!(turns, [first.id, second.id], "whoever was served longest ago is next");
    play.completes(1, 16 * C);
    assert_eq!(play.starts()[2], 16..32);
}

#[test]
fn a_fetch_that_ends_within_a_round_trip_is_not_thrown_away_even_if_nobody_wants_it() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 1), known("a", 1));
    (0..100).for_each(|_| {
        let (latency, time) = (Duration::from_secs(1), Duration::from_secs(1 << 10));
        play.scheduler
            .measured(&first.origin, latency, 1 << 20, time, Instant::now());
    });
    play.wait(&first, 0..1, 1);
    play.writes(0, C / 2);
    play.wait(&second, 0..C, 2);
    assert_eq!(
        (play.woken_well(), play.stopped.len()),
        (vec![1], 1),
        "more is left than comes in a round trip"
    );
    play.completes(1, C);
    play.wait(&first, 0..C, 3);
    play.scheduler
        .give_up(WaiterId(3), ReadError::DeadlinePassed(Duration::ZERO));
    play.writes(2, 3 * C / 4 + 1);
    play.wait(&known("a", 1), 0..C, 4);
    assert_eq!(play.stopped.len(), 1);
}

#[test]
fn of_the_fetches_of_one_stream_all_but_one_give_way() {
    let mut play = Play::with_slots(3);
    let (stream, jump) = (known("a", 100), known("a", 100));
    play.request(&stream, 0..100, Priority::High);
    (0..3).for_each(|fetch| play.writes(fetch, play.started[fetch].bytes.start + C));
    for waiter in 1..=3 {
        play.wait(&jump, (10 * waiter) * C..(10 * waiter + 1) * C, waiter);
    }
    assert_eq!((play.stopped.len(), play.started.len()), (2, 5));
    play.writes(0, 3 * C);
    assert_eq!(play.stopped.len(), 2);
}

#[test]
fn a_stream_s_one_fetch_gives_way_when_it_brings_nothing_any_more() {
    let mut play = Play::with_slots(1);
    let (stalled, urgent) = (known("a", 16), known("a", 1));
    play.wait_with_ahead(&stalled, 0..C, 0..16, 1);
    play.writes(0, C);
    play.wait(&urgent, 0..C, 2);
    for _ in 0..2 {
        assert_eq!(play.stopped, []);
        play.scheduler.period_passed();
        play.note();
    }
    assert_eq!(play.stopped, [play.started[0].id]);
    play.completes(1, C);
    assert_eq!(play.woken_well(), [1, 2]);
}

#[test]
fn a_fetch_whose_last_reader_gave_up_gives_way_to_one_that_was_queued() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 1), known("a", 1));
    play.wait(&first, 0..C, 1);
    play.wait(&second, 0..C, 2);
    play.scheduler
        .give_up(WaiterId(1), ReadError::DeadlinePassed(Duration::ZERO));
    play.note();
    assert_eq!(play.woken_with_error(), [1]);
    assert_eq!(play.started[1].entry.id, second.id);
}

#[test]
fn a_queued_chunk_is_promoted() {
    let mut play = Play::with_slots(1);
    let (running, late) = (known("a", 1), known("a", 100));
    play.wait(&running, 0..C, 1);
    play.request(&late, 0..100, Priority::Low);
    play.request(&late, 50..51, Priority::Medium);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 50..66);
}

#[test]
fn a_running_fetch_is_promoted() {
    let mut play = Play::with_slots(2);
    let (low, promoted, urgent) = (known("a", 16), known("a", 16), known("a", 1));
    play.request(&promoted, 0..16, Priority::Low);
    play.request(&low, 0..16, Priority::Low);
    play.request(&promoted, 3..4, Priority::High);
    play.wait(&urgent, 0..C, 1);
    assert_eq!(play.stopped, [play.started[1].id]);
}

#[test]
fn a_request_for_less_does_not_demote() {
    let mut play = Play::with_slots(1);
    let (running, late) = (known("a", 1), known("a", 10));
    play.wait(&running, 0..C, 1);
    play.request(&late, 0..2, Priority::Low);
    play.request(&late, 8..10, Priority::High);
    play.request(&late, 0..10, Priority::Medium);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 8..10);
}

#[test]
fn a_long_wait_does_not_cut_the_fetch_that_serves_it() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 0..16 * C, 1);
    play.wait(&entry, 0..C, 2);
    assert_eq!(play.starts(), [0..16]);
}

#[test]
fn no_chunk_is_in_flight_twice() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 10..20, Priority::Low);
    play.request(&entry, 5..25, Priority::High);
    play.wait(&entry, 12 * C..22 * C, 1);
    assert_eq!(play.starts(), [10..20, 5..10, 20..25]);
}

#[test]
fn two_waiters_of_one_range_cause_one_fetch_and_are_both_woken() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 0..C, 2);
    play.completes(0, C);
    assert_eq!((play.starts(), play.woken_well()), (vec![0..1], vec![1, 2]));
    assert!(play.scheduler.is_idle());
}

#[test]
fn a_waiter_wakes_when_its_own_bytes_are_in() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.wait(&entry, 100..C + 300, 1);
    play.writes(0, C + 299);
    assert_eq!(play.woken_well(), [0; 0]);
    play.writes(0, C + 300);
    assert_eq!(play.woken_well(), [1], "in the middle of the chunk and of the fetch");
}

#[test]
fn a_waiter_far_ahead_of_a_running_fetch_gets_one_of_its_own() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!(play.trimmed, [(play.started[0].id, 10 * C)]);
    assert_eq!(play.starts(), [0..16, 10..16]);
}

#[test]
fn a_waiter_a_little_ahead_of_a_running_fetch_waits_for_it() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 0..16, Priority::High);
    play.writes(0, 6 * C);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!((play.trimmed.len(), play.started.len()), (0, 1));
}

#[test]
fn a_fetch_that_writes_past_where_it_was_cut_is_not_repeated() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait_with_ahead(&entry, 0..10 * C, 0..16, 1);
    play.wait(&entry, 15 * C..16 * C, 2);
    assert_eq!(play.trimmed, [(play.started[0].id, 15 * C)]);
    // It had read on before it heard of it.
    play.writes(0, 16 * C);
    assert_eq!(play.woken_well(), [1, 2]);
    play.ends(0, Ok(()));
    assert_eq!(play.starts(), [0..16]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn what_a_stopped_fetch_still_wrote_wakes_who_waits_for_it() {
    let mut play = Play::with_slots(1);
    let (victim, urgent) = (known("a", 16), known("a", 1));
    play.request(&victim, 0..16, Priority::High);
    play.wait(&urgent, 0..C, 1);
    play.wait(&victim, 0..C, 2);
    play.writes(0, 3 * C);
    assert_eq!(play.woken_well(), [2]);
    play.completes(1, C);
    assert_eq!(play.starts()[2], 3..16, "and is not fetched again");
}

#[test]
fn failure_reaches_the_waiters_that_it_concerns_and_nobody_else() {
    let (mut play, entry) = (Play::with_slots(2), known("a", 100));
    play.wait(&entry, 0..2 * C, 1);
    play.wait(&entry, C..3 * C, 2);
    play.wait(&entry, 50 * C..51 * C, 3);
    play.wait(&entry, 70 * C..71 * C, 4);
    play.writes(0, C);
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1, 2]);
    for fetch in [1, 2, 3] {
        let end = play.started[fetch].bytes.end;
        play.completes(fetch, end);
    }
    assert_eq!(play.woken_well(), [3, 4]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn failure_of_one_first_fetch_leaves_the_others_of_an_unsettled_entry_alone() {
    let (mut play, entry) = (Play::with_slots(2), listed("a", 100 * C));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1]);
    play.settles(&entry, 100 * C);
    play.completes(1, 51 * C);
    assert_eq!(play.woken_well(), [2]);
}

#[test]
fn a_change_of_version_fails_everybody_of_that_entry() {
    let (mut play, entry, other) = (Play::with_slots(3), known("a", 100), known("a", 1));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.wait(&other, 0..C, 3);
    play.ends(0, Err(ReadError::Changed));
    assert_eq!(play.woken_with_error(), [1, 2]);
    assert_eq!(play.stopped, [play.started[1].id]);
    play.completes(2, C);
    assert_eq!(play.woken_well(), [3]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn what_the_user_asked_for_outlives_the_readers_that_were_in_more_of_a_hurry() {
    for ends in [0, 1] {
        let mut play = Play::with_slots(1);
        let (busy, entry, later) = (known("a", 1), known("a", 8), known("a", 8));
        play.wait(&busy, 0..C, 1);
        play.scheduler
            .wait_patiently(&entry, 0..8 * C, Priority::Medium, WaiterId(2));
        play.request(&later, 0..8, Priority::High);
        if ends == 0 {
            play.request(&entry, 0..8, Priority::High);
            play.scheduler.end_read_ahead(entry.id);
        } else {
            play.wait(&entry, 0..8 * C, 3);
            play.scheduler.give_up(WaiterId(3), ReadError::Cancelled);
        }
        play.completes(0, C);
        assert_eq!(play.started[1].entry.id, later.id, "it is not in a hurry any more");
        play.completes(1, 8 * C);
        assert_eq!((play.started[2].entry.id, play.starts()[2].clone()), (entry.id, 0..8));
        play.completes(2, 8 * C);
        assert_eq!(play.woken_well(), [1, 2]);
        assert!(play.scheduler.is_idle());
    }
}

#[test]
fn a_fetch_that_was_thrown_out_leaves_each_chunk_as_urgent_as_it_was_asked_for() {
    let mut play = Play::with_slots(1);
    let (entry, urgent) = (known("a", 16), known("a", 1));
    play.scheduler
        .wait_patiently(&entry, 0..16 * C, Priority::Low, WaiterId(1));
    play.request(&entry, 0..4, Priority::High);
    play.wait(&urgent, 0..C, 2);
    play.scheduler.end_read_ahead(entry.id);
    play.request(&known("a", 1), 0..1, Priority::Medium);
    play.completes(1, C);
    play.completes(2, C);
    assert_eq!(play.starts(), [0..16, 0..1, 0..1, 0..16]);
    assert_eq!(play.started[3].entry.id, entry.id);
}

#[test]
fn who_waits_patiently_gets_the_first_error_and_what_only_it_wanted_is_not_fetched() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.scheduler
        .wait_patiently(&entry, 0..100 * C, Priority::Medium, WaiterId(1));
    play.note();
    play.ends(0, Err(failure()));
    assert_eq!(play.woken_with_error(), [1]);
    assert!(play.scheduler.is_idle() && play.started.len() == 1);
}

#[test]
fn when_somebody_cancels_the_fetch_ends_where_nobody_else_needs_it() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.scheduler
        .wait_patiently(&entry, 0..100 * C, Priority::Medium, WaiterId(1));
    play.note();
    play.scheduler
        .wait_patiently(&entry, 0..2 * C, Priority::Medium, WaiterId(2));
    play.scheduler.give_up(WaiterId(1), ReadError::Cancelled);
    play.note();
    assert_eq!(
        play.trimmed,
        [(play.started[0].id, 2 * C)],
        "the other still needs so much"
    );
    play.completes(0, 2 * C);
    assert_eq!((play.woken_well(), play.woken_with_error()), (vec![2], vec![1]));
    assert!(play.scheduler.is_idle() && play.started.len() == 1);
}

#[test]
fn sixty_million_chunks_are_waited_for_without_looking_at_each() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 60_000_000));
    play.wait(&entry, 0..u64::MAX, 1);
    // One look at each of them for each of these would take minutes.
    for fetch in 0..20 {
        let end = play.started[fetch].bytes.end;
        play.completes(fetch, end);
    }
    play.scheduler
        .give_up(WaiterId(1), ReadError::DeadlinePassed(Duration::ZERO));
    play.note();
    assert_eq!(play.woken_with_error(), [1]);
}

#[test]
fn who_gives_up_is_woken_once_and_what_only_it_wanted_is_not_fetched() {
    let (mut play, busy, entry) = (Play::with_slots(1), known("a", 1), known("a", 10));
    play.wait(&busy, 0..C, 1);
    play.wait(&entry, 0..2 * C, 2);
    play.wait(&entry, C..3 * C, 3);
    for _ in 0..2 {
        play.scheduler
            .give_up(WaiterId(2), ReadError::DeadlinePassed(Duration::ZERO));
        play.note();
    }
    assert_eq!(play.woken_with_error(), [2]);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 1..3);
    play.completes(1, 3 * C);
    assert!(play.scheduler.is_idle());
}

#[test]
fn ending_read_ahead_drops_what_is_queued_and_cuts_what_runs_at_the_next_chunk_edge() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.request(&entry, 0..50, Priority::High);
    play.writes(0, 3 * C + 1);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, [(play.started[0].id, 4 * C)]);
    play.completes(0, 4 * C);
    assert!(play.scheduler.is_idle());
    assert_eq!(play.started.len(), 1);
}

#[test]
fn ending_read_ahead_never_cuts_under_a_waiter() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait_with_ahead(&entry, 0..3 * C, 0..16, 1);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, [(play.started[0].id, 3 * C)]);
    play.completes(0, 3 * C);
    assert_eq!(play.woken_well(), [1]);
}

#[test]
fn ending_read_ahead_leaves_alone_what_the_user_asked_for() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.request(&entry, 0..8, Priority::Medium);
    play.scheduler.end_read_ahead(entry.id);
    play.note();
    assert_eq!(play.trimmed, []);
}

#[test]
fn entries_of_one_priority_take_turns() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 64), known("a", 64));
    play.request(&first, 0..64, Priority::High);
    play.request(&second, 0..64, Priority::High);
    for index in 0..7 {
        let end = play.started[index].bytes.end;
        play.completes(index, end);
    }
    let mut turns: Vec<_> = play.started.iter().map(|order| order.entry.id).collect();
    turns.dedup();
    assert_eq!(turns.len(), 8, "nobody is served twice in a row");
}

#[test]
fn the_limits_of_two_origins_are_independent() {
    let mut play = Play::with_slots(2);
    let entries = [known("a", 64), known("b", 64), known("a", 64), known("b", 64)];
    for entry in &entries {
        play.request(entry, 0..64, Priority::High);
    }
    let on_a = |order: &&FetchOrder| order.entry.origin == entries[0].origin;
    assert_eq!((play.started.iter().filter(on_a).count(), play.started.len()), (2, 4));
    play.wait(&known("a", 1), 0..C, 1);
    let victim = play.started.iter().find(|order| order.id == play.stopped[0]);
    assert!(victim.as_ref().is_some_and(on_a), "of its own origin");
}

#[test]
fn before_the_size_is_known_whole_chunks_are_asked_for() {
    let (mut play, entry) = (Play::with_slots(9), listed("a", 100));
    play.wait(&entry, 0..100, 1);
    assert_eq!(play.started[0].bytes, 0..C, "the listing may have been wrong");
    play.settles(&entry, 300);
    assert_eq!(play.woken_well(), [0; 0]);
    play.writes(0, 100);
    assert_eq!(play.woken_well(), [1]);
    play.completes(0, 300);
    assert!(play.scheduler.is_idle());
}

#[test]
fn a_file_that_is_larger_than_listed_is_fetched_as_far_as_its_readers_need() {
    let (mut play, entry) = (Play::with_slots(9), listed("a", C));
    play.wait(&entry, 0..3 * C, 1);
    play.settles(&entry, 10 * C);
    assert_eq!(play.starts(), [0..1, 1..3]);
    play.completes(0, C);
    assert_eq!(play.woken_well(), [0; 0]);
    play.completes(1, 3 * C);
    assert_eq!(play.woken_well(), [1]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn a_file_that_is_smaller_than_listed_is_not_waited_for_past_its_end() {
    let (mut play, entry) = (Play::with_slots(1), listed("a", 100 * C));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.request(&entry, 60..100, Priority::High);
    play.settles(&entry, C / 2);
    assert_eq!(play.woken_well(), [2]);
    play.completes(0, C / 2);
    assert_eq!(play.woken_well(), [2, 1]);
    assert!(play.scheduler.is_idle());
    assert_eq!(play.started.len(), 1);
}

#[test]
fn what_is_cut_off_a_fetch_does_not_reach_past_the_end_that_became_known() {
    let (mut play, entry) = (Play::with_slots(9), listed("a", 15 * C));
    play.request(&entry, 0..15, Priority::High);
    play.settles(&entry, 12 * C);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!(play.starts(), [0..15, 10..12]);
}

#[test]
fn a_chunk_past_the_end_is_not_asked_for_in_the_moment_before_the_end_is_told() {
    for ignores_range in [false, true] {
        let (mut play, entry) = (Play::with_slots(1), listed("a", 100 * C));
        play.wait(&known("a", 1), 0..C, 1);
        play.request(&entry, 90..95, Priority::High);
        entry.settle_for_tests(10 * C);
        if ignores_range {
            entry.mark_ignores_range();
        }
        play.completes(0, C);
        assert_eq!(play.started.len(), 1);
        assert!(play.scheduler.is_idle());
    }
}

#[test]
fn chunks_that_become_known_as_present_with_the_version_wake_and_are_not_fetched() {
    let (mut play, entry) = (Play::with_slots(1), listed("a", 100 * C));
    play.wait(&entry, 0..C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    entry.settle_for_tests(100 * C).presence.insert(50);
    play.scheduler.settled(entry.id);
    play.note();
    assert_eq!(play.woken_well(), [2]);
    play.completes(0, C);
    assert_eq!(play.started.len(), 1);
    assert!(play.scheduler.is_idle());
}

#[test]
fn a_waiter_past_the_end_of_a_known_file_is_woken_at_once() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 1));
    play.wait(&entry, C..2 * C, 1);
    play.wait(&entry, u64::MAX - 1..u64::MAX, 2);
    assert_eq!(play.woken_well(), [1, 2]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn a_waiter_past_the_listed_end_has_the_true_end_found_out() {
    for listed_size in [0, 100] {
        let (mut play, entry) = (Play::with_slots(1), listed("a", listed_size));
        play.wait(&entry, 5 * C..6 * C, 1);
        assert_eq!(
            play.started[0].bytes,
            0..C,
            "the first chunk has an end, if the file has"
        );
        play.settles(&entry, 10 * C);
        play.completes(0, C);
        assert_eq!(play.starts(), [0..1, 5..6]);
        play.completes(1, 6 * C);
        assert_eq!(play.woken_well(), [1]);
        assert!(play.scheduler.is_idle());
    }
}

#[test]
fn who_waits_for_no_byte_is_woken_at_once() {
    let (mut play, entry) = (Play::with_slots(1), listed("a", 100));
    play.wait(&entry, 7..7, 1);
    assert_eq!(play.woken_well(), [1]);
    assert!(play.scheduler.is_idle() && play.started.is_empty());
}

#[test]
fn a_server_without_ranges_sends_one_whole_file_for_all_who_wait() {
    let (mut play, entry, other) = (Play::with_slots(2), known("a", 100), known("a", 1));
    play.wait(&entry, 10 * C..11 * C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.wait(&other, 0..C, 3);
    let linear = play.started[0].id;
    entry.mark_ignores_range();
    assert!(play.scheduler.goes_linear(linear));
    play.note();
    assert_eq!(play.stopped, [play.started[1].id]);
    assert_eq!(play.started[2].entry.id, other.id, "the slot is somebody else's now");
    assert!(!play.scheduler.goes_linear(play.started[1].id));
    play.wait(&entry, 99 * C..100 * C, 4);
    assert_eq!(
        (play.trimmed.len(), play.started.len()),
        (0, 3),
        "far ahead, and no other way"
    );
    play.started[0].bytes = 0..100 * C;
    play.writes(0, 11 * C);
    assert_eq!(play.woken_well(), [1]);
    play.completes(0, 100 * C);
    assert_eq!(play.woken_well(), [1, 2, 4]);
}

#[test]
fn a_server_known_to_have_no_ranges_is_asked_for_the_whole_file_once() {
    let (mut play, entry) = (Play::with_slots(4), known("a", 100));
    play.request(&entry, 0..2, Priority::High);
    // The mark comes before the fetch that found out says so.
    entry.mark_ignores_range();
    play.wait(&entry, 50 * C..51 * C, 1);
    assert_eq!(play.starts(), [0..2, 0..100]);
    assert_eq!(play.stopped, [play.started[0].id]);
}

#[test]
fn closing_wakes_everybody_with_an_error_now_and_later() {
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
