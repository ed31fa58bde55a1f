//! Files whose true size, or whose server's handling of ranges, becomes known while they are read.

use super::*;

#[test]
fn unsettled_entry_requests_whole_chunks() {
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
fn file_larger_than_listed_is_fetched_as_needed() {
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
fn smaller_file_ends_waits_at_its_end() {
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
fn shortened_fetch_remainder_respects_the_known_end() {
    let (mut play, entry) = (Play::with_slots(9), listed("a", 15 * C));
    play.request(&entry, 0..15, Priority::High);
    play.settles(&entry, 12 * C);
    play.wait(&entry, 10 * C..11 * C, 1);
    assert_eq!(play.starts(), [0..15, 10..12]);
}

#[test]
fn chunk_past_the_end_is_not_requested() {
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
fn chunks_found_present_wake_waiters() {
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
fn waiter_past_the_known_end_wakes_at_once() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 1));
    play.wait(&entry, C..2 * C, 1);
    play.wait(&entry, u64::MAX - 1..u64::MAX, 2);
    assert_eq!(play.woken_well(), [1, 2]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn waiter_past_the_listed_end_fetches_first_chunk() {
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
fn empty_wait_is_woken_at_once() {
    let (mut play, entry) = (Play::with_slots(1), listed("a", 100));
    play.wait(&entry, 7..7, 1);
    assert_eq!(play.woken_well(), [1]);
    assert!(play.scheduler.is_idle() && play.started.is_empty());
}

#[test]
fn server_without_ranges_sends_one_file() {
    let (mut play, entry, other) = (Play::with_slots(2), known("a", 100), known("a", 1));
    play.wait(&entry, 10 * C..11 * C, 1);
    play.wait(&entry, 50 * C..51 * C, 2);
    play.wait(&other, 0..C, 3);
    let linear = play.started[0].id;
    entry.mark_ignores_range();
    assert!(play.scheduler.goes_linear(linear));
    play.note();
    assert_eq!(play.stopped, [play.started[1].id]);
    assert_eq!(play.started[2].entry.id, other.id, "the slot is another entry's now");
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
fn known_server_without_ranges_gets_one_request() {
    let (mut play, entry) = (Play::with_slots(4), known("a", 100));
    play.request(&entry, 0..2, Priority::High);
    // The mark comes before the report of the fetch that found out.
    entry.mark_ignores_range();
    play.wait(&entry, 50 * C..51 * C, 1);
    assert_eq!(play.starts(), [0..2, 0..100]);
    assert_eq!(play.stopped, [play.started[0].id]);
}
