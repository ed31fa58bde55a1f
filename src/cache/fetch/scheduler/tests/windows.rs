//! Windows: what is fetched ahead of each stream, and what happens when the reader moves elsewhere.

use super::*;

/// The name of stream `stream`, of reader `stream / 10`.
fn stream(stream: u64) -> StreamId {
    StreamId {
        reader: stream / 10,
        stream,
    }
}

impl Play {
    fn moves(&mut self, entry: &Arc<CacheEntry>, stream: u64, chunks: Range<u64>) {
        let moved = moves(entry, stream, chunks);
        self.update_windows(entry, moved);
    }

    fn update_windows(&mut self, entry: &Arc<CacheEntry>, update: WindowUpdate) {
        self.scheduler.update_windows(entry, &[update]);
        self.note();
    }
}

#[test]
fn dropped_window_frees_its_slot_at_chunk_edge() {
    let (mut play, entry, other) = (Play::with_slots(1), known("a", 100), known("a", 8));
    play.moves(&entry, 1, 0..32);
    play.request(&other, 0..8, Priority::Medium);
    play.writes(0, 2 * C + 1);
    play.update_windows(&entry, WindowUpdate::Drop(stream(1)));
    assert_eq!(play.trimmed, [(play.started[0].id, 3 * C)]);
    play.completes(0, 3 * C);
    assert_eq!(play.started[1].entry.id, other.id);
    play.completes(1, 8 * C);
    assert!(play.scheduler.is_idle() && play.started.len() == 2);
}

#[test]
fn dropped_window_returns_with_its_stream() {
    let (mut play, entry, other) = (Play::with_slots(1), known("a", 100), known("a", 8));
    play.wait(&other, 0..C, 1);
    play.request(&other, 1..8, Priority::Medium);
    play.moves(&entry, 1, 0..8);
    play.update_windows(&entry, WindowUpdate::Drop(stream(1)));
    play.moves(&entry, 1, 0..8);
    play.completes(0, C);
    assert_eq!(play.started[1].entry.id, entry.id);
}

#[test]
fn dropping_a_window_keeps_other_streams_chunks() {
    let (mut play, entry, other) = (Play::with_slots(1), known("a", 100), known("a", 8));
    play.moves(&entry, 1, 0..10);
    // Of another reader.
    play.moves(&entry, 11, 6..16);
    play.request(&other, 0..8, Priority::Medium);
    play.update_windows(&entry, WindowUpdate::Drop(stream(1)));
    assert_eq!(play.trimmed, [], "the fetch brings what the other wants");
    play.completes(0, 10 * C);
    assert_eq!(play.starts()[1], 10..16);
}

#[test]
fn leaving_reader_drops_only_its_windows() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.moves(&entry, 1, 10..20);
    play.moves(&entry, 2, 40..50);
    play.moves(&entry, 11, 70..80);
    play.request(&entry, 45..47, Priority::Medium);
    play.scheduler.leave(entry.id, 0);
    play.note();
    assert_eq!(play.trimmed, [(play.started[0].id, 11 * C)]);
    play.completes(0, 11 * C);
    play.completes(1, 80 * C);
    play.completes(2, 47 * C);
    assert_eq!(
        play.starts(),
        [10..20, 70..80, 45..47],
        "and the user gets what was asked for"
    );
    assert!(play.scheduler.is_idle());
}

#[test]
fn passed_chunks_of_a_window_are_not_fetched() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait(&entry, 0..C, 1);
    play.moves(&entry, 1, 30..38);
    play.moves(&entry, 2, 60..68);
    play.moves(&entry, 2, 62..70);
    play.completes(0, C);
    play.completes(1, 38 * C);
    play.completes(2, 70 * C);
    assert_eq!(play.starts(), [0..1, 30..38, 62..70]);
    assert!(play.scheduler.is_idle());
}

#[test]
fn shorter_window_is_fetched_no_further() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.moves(&entry, 1, 0..32);
    let keep = 0..5 * C;
    let ask = keep.end..keep.end;
    play.update_windows(
        &entry,
        WindowUpdate::Move {
            stream: stream(1),
            keep,
            ask,
        },
    );
    assert_eq!(play.trimmed, [(play.started[0].id, 5 * C)]);
    play.completes(0, 5 * C);
    assert!(play.scheduler.is_idle());
}

#[test]
fn blocked_reader_keeps_its_chunks_without_a_window() {
    let (mut play, entry) = (Play::with_slots(1), known("a", 100));
    play.wait_with_ahead(&entry, 0..4 * C, 0..16, 7);
    // `wait_with_ahead` is stream 0.
    play.update_windows(&entry, WindowUpdate::Drop(stream(0)));
    assert_eq!(play.trimmed, [(play.started[0].id, 4 * C)]);
    play.completes(0, 4 * C);
    assert_eq!(play.woken_well(), [7]);
}
