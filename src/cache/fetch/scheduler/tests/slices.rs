//! Origins with a tier in front of them.

use super::*;

/// As [`Play::with_slots`], with slices of 4 chunks.
fn play() -> Play {
    let mut play = Play::with_slots(9);
    play.scheduler.table.slices = Some(Slices { bytes: 4 * C });
    play
}

#[test]
fn fetches_end_on_slice_edges() {
    let (mut play, entry) = (play(), known("a", 100));
    play.request(&entry, 3..42, Priority::High);
    assert_eq!(play.starts(), [3..16, 16..32, 32..42]);
}

#[test]
fn window_ends_on_slice_edge() {
    let (mut play, entry) = (play(), known("a", 11));
    for window in [1..2, 1..6, 1..10] {
        play.scheduler
            .update_windows(&entry, &[moves(&entry, 1, window.clone())]);
        play.note();
    }
    assert_eq!(play.starts(), [1..4, 4..8, 8..11]);
    assert_eq!(play.trimmed, []);
}

#[test]
fn isolated_read_brings_only_its_chunks() {
    let (mut play, entry) = (play(), known("a", 100));
    play.wait(&entry, 3 * C..5 * C, 1);
    play.wait(&entry, 9 * C..10 * C, 2);
    assert_eq!(play.starts(), [3..5, 9..10]);
}

#[test]
fn line_of_a_tier_is_measured_apart() {
    let (mut play, entry) = (play(), known("a", 100));
    let measured = |play: &Play| play.scheduler.status()[0].latency_and_rate;
    play.request(&entry, 0..1, Priority::High);
    let before = measured(&play);
    play.scheduler.answered_by_tier(&entry.origin);
    assert_eq!(measured(&play), None);
    let second = Duration::from_secs(1);
    play.scheduler.measured_by_tier(&entry.origin, second, 1 << 20, second);
    assert!(measured(&play).is_some_and(|now| Some(now) != before));
    play.scheduler.answered(play.started[0].id, &entry.origin);
    assert_eq!(measured(&play), before, "the origin itself again");
}
