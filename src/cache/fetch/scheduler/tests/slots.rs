//! Which fetch begins, how long it is, and which one gives its slot up.

use super::*;

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
fn fetch_respects_its_limit_and_skips_present_chunks() {
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
fn reader_and_its_read_ahead_share_a_fetch() {
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
fn least_urgent_fetch_is_preempted_and_requeued() {
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
fn unwanted_fetch_is_preempted_first() {
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
    // Otherwise its entry would stay open, and its data file locked, for as long as the mount
    // lasts.
    assert!(play.scheduler.is_idle());
}

#[test]
fn critical_waits_when_all_slots_serve_readers() {
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
fn fetch_without_waiters_yields_to_a_queued_one() {
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
fn only_fetch_of_a_stream_is_not_preempted() {
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
    assert_eq!(turns, [first.id, second.id], "the entry served longest ago is next");
    play.completes(1, 16 * C);
    assert_eq!(play.starts()[2], 16..32);
}

#[test]
fn nearly_finished_fetch_is_not_preempted() {
    let mut play = Play::with_slots(1);
    let (first, second) = (known("a", 1), known("a", 1));
    (0..100).for_each(|_| {
        let (latency, time) = (Duration::from_secs(1), Duration::from_secs(1 << 10));
        play.scheduler.measured(&first.origin, latency, 1 << 20, time);
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
fn stream_keeps_one_fetch_beside_blocked_readers() {
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
fn stalled_only_fetch_of_a_stream_is_preempted() {
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
fn fetch_of_a_cancelled_reader_yields() {
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
fn no_chunk_is_in_flight_twice() {
    let (mut play, entry) = (Play::with_slots(9), known("a", 100));
    play.request(&entry, 10..20, Priority::Low);
    play.request(&entry, 5..25, Priority::High);
    play.wait(&entry, 12 * C..22 * C, 1);
    assert_eq!(play.starts(), [10..20, 5..10, 20..25]);
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
    assert_eq!(turns.len(), 8, "no entry is served twice in a row");
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
fn read_ahead_prefers_idle_readers() {
    let mut play = Play::with_slots(2);
    let (one, other) = (known("a", 64), known("a", 64));
    play.wait_with_ahead(&one, 0..C, 0..16, 1);
    play.wait_with_ahead(&other, 0..C, 0..16, 2);
    for entry in [&one, &other] {
        play.scheduler.update_windows(entry, &[moves(entry, 0, 0..64)]);
    }
    play.writes(0, C);
    play.completes(1, 16 * C);
    // The first entry was served longer ago. But it has a fetch, and the other one's reader blocks
    // in a moment: it would take the slot from a fetch that has brought nothing.
    assert_eq!(play.started[2].entry.id, other.id);
    play.wait(&other, 16 * C..17 * C, 3);
    assert_eq!((play.stopped.len(), play.trimmed.len()), (0, 0));
}
