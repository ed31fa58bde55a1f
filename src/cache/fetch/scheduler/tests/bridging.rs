//! Gaps that one request covers, because that is cheaper than another request.

use super::*;

/// `slots` slots at an origin with `round_trip` chunks per round trip, and a file of which every
/// other chunk is present.
fn alternating(slots: usize, round_trip: u64) -> (Play, Arc<CacheEntry>) {
    let (mut play, entry) = (Play::with_slots(slots), known("a", 100));
    play.far(round_trip);
    for chunk in (1..100).step_by(2) {
        entry.settled().unwrap().presence.insert(chunk);
    }
    (play, entry)
}

#[test]
fn gap_is_bridged_without_a_free_connection() {
    let (mut play, entry) = alternating(1, 1);
    play.request(&entry, 0..9, Priority::High);
    assert_eq!(play.starts(), [0..9]);
    play.completes(0, 9 * C);
    assert!(play.scheduler.is_idle());
}

#[test]
fn free_connections_prevent_bridging() {
    let (mut play, entry) = alternating(3, 1);
    play.request(&entry, 0..9, Priority::High);
    assert_eq!(play.starts(), [0..1, 2..3, 4..9]);
}

#[test]
fn lone_file_leaves_gaps_to_free_connections() {
    let (mut play, entry) = alternating(5, 1);
    play.request(&entry, 0..19, Priority::High);
    assert_eq!(play.starts(), [0..1, 2..3, 4..5, 6..7, 8..9]);
    play.completes(0, C);
    assert_eq!(play.starts()[5], 10..11);
}

#[test]
fn long_gap_is_not_bridged() {
    let (mut play, entry) = alternating(1, 1);
    play.request(&known("a", 1), 0..1, Priority::High);
    play.request(&entry, 0..1, Priority::High);
    play.request(&entry, 3..5, Priority::High);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 0..1);
}

#[test]
fn bridging_skips_in_flight_chunks_and_respects_limits() {
    let (mut play, entry) = alternating(2, 2);
    play.request(&entry, 2..3, Priority::High);
    play.request(&entry, 0..1, Priority::High);
    assert_eq!(play.starts(), [2..3, 0..1]);
    let (mut play, entry) = alternating(1, 2);
    play.request(&entry, 0..100, Priority::High);
    assert_eq!(
        play.starts(),
        [0..15],
        "no longer than a fetch may be, and with a wanted chunk at its end"
    );
}

#[test]
fn unwanted_gap_is_fetched_and_kept() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.far(1);
    play.request(&known("a", 1), 0..1, Priority::High);
    play.request(&entry, 0..2, Priority::Medium);
    play.request(&entry, 3..4, Priority::High);
    play.request(&entry, 5..6, Priority::High);
    play.completes(0, C);
    assert_eq!(play.starts()[1], 3..6);
    play.completes(1, 6 * C);
    play.wait(&entry, 4 * C..5 * C, 1);
    assert_eq!(play.woken_well(), [1]);
}

#[test]
fn cancelling_beyond_a_gap_drops_the_gap() {
    let (mut play, entry) = alternating(1, 1);
    play.wait(&entry, 0..C, 1);
    play.scheduler.update_windows(&entry, &[moves(&entry, 1, 0..9)]);
    play.note();
    play.completes(0, C);
    assert_eq!(play.starts(), [0..1, 2..9]);
    play.scheduler.leave(entry.id, 0);
    play.note();
    assert_eq!(play.trimmed, [(play.started[1].id, 3 * C)]);
}
