//! Readers that find all connections busy with fetches that may not be stopped.

use super::*;

#[test]
fn long_fetch_yields_at_a_chunk_edge() {
    let mut play = Play::with_slots(1);
    let (stream, urgent) = (known("a", 64), known("a", 1));
    play.wait_with_ahead(&stream, 0..C, 0..64, 1);
    play.writes(0, C);
    play.wait(&urgent, 0..C, 2);
    // A turn is three quarters of a fetch here.
    play.writes(0, 11 * C);
    assert_eq!(play.trimmed, []);
    play.writes(0, 12 * C + 1);
    assert_eq!(
        (play.trimmed.clone(), play.stopped.len()),
        (vec![(play.started[0].id, 13 * C)], 0)
    );
    play.completes(0, 13 * C);
    assert_eq!(play.started[1].entry.id, urgent.id);
    play.completes(1, C);
    assert_eq!(play.starts()[2], 13..29, "and goes on after it");
}

#[test]
fn yielding_fetch_completes_its_blocked_chunk() {
    let mut play = Play::with_slots(1);
    let (stream, urgent) = (known("a", 64), known("a", 1));
    play.wait_with_ahead(&stream, 0..C, 0..64, 1);
    play.writes(0, 12 * C);
    play.wait(&stream, 12 * C..14 * C + 5, 2);
    play.wait(&urgent, 0..C, 3);
    assert_eq!(play.trimmed, [(play.started[0].id, 15 * C)]);
    play.completes(0, 15 * C);
    assert_eq!(play.woken_well(), [1, 2]);
}

#[test]
fn no_more_fetches_give_way_than_readers_wait() {
    let mut play = Play::with_slots(3);
    let streams = [known("a", 64), known("a", 64), known("a", 64)];
    for (waiter, stream) in (1..).zip(&streams) {
        play.wait_with_ahead(stream, 0..C, 0..16, waiter);
    }
    (0..3).for_each(|fetch| play.writes(fetch, (12 + fetch as u64 % 2) * C));
    play.wait(&known("a", 1), 0..C, 8);
    assert_eq!(
        play.trimmed,
        [(play.started[1].id, 14 * C)],
        "the one that has brought most"
    );
    play.writes(0, 13 * C);
    assert_eq!(play.trimmed.len(), 1);
    play.wait(&known("a", 1), 0..C, 9);
    assert_eq!(play.trimmed.len(), 2);
}
