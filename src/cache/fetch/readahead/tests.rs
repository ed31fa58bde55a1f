use std::time::Duration;

use super::cursor::PROVEN_WINDOW;
use super::*;
use proptest::prelude::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Bytes of one read of the kernel.
const READ: u64 = 128 * KIB;

/// A server that can use any window, and the time.
struct Far(Duration);

impl Conditions for Far {
    fn now(&self) -> Duration {
        self.0
    }

    fn useful_window(&self) -> u64 {
        u64::MAX
    }

    fn is_crowded(&self) -> bool {
        false
    }
}

/// A handle on a file of a GiB.
struct Handle {
    ahead: ReadAhead,
    now: Duration,
    /// All window updates so far.
    window_updates: Vec<WindowUpdate>,
}

impl Handle {
    fn new() -> Handle {
        Handle {
            ahead: ReadAhead::new(1, u64::MAX),
            now: Duration::ZERO,
            window_updates: Vec::new(),
        }
    }

    /// Reads; returns what is requested ahead.
    fn read(&mut self, at: u64, len: u64, missing: bool) -> Option<Range<u64>> {
        let window_updates = self.ahead.note(&(at..at + len), GIB, missing, &Far(self.now));
        let asked = window_updates.iter().find_map(WindowUpdate::asks).cloned();
        self.window_updates.extend(window_updates);
        asked
    }

    /// Reads `bytes` bytes in sequence; returns the offset up to which is requested ahead.
    fn run(&mut self, from: u64, bytes: u64) -> u64 {
        let steps = (0..bytes).step_by(READ as usize);
        let asked = steps.filter_map(|step| self.read(from + step, READ, true));
        asked.last().map_or(0, |asked| asked.end)
    }

    fn count(&self, which: impl Fn(&WindowUpdate) -> bool) -> usize {
        self.window_updates.iter().filter(|update| which(update)).count()
    }

    fn dropped(&self) -> usize {
        self.count(|update| matches!(update, WindowUpdate::Drop(_)))
    }
}

#[test]
fn an_isolated_read_asks_for_nothing_ahead() {
    let mut handle = Handle::new();
    for offset in [0, 100 * MIB, 7 * MIB, 900 * MIB, 300 * MIB] {
        assert_eq!(handle.read(offset, 64 * KIB, true), None, "{offset}");
    }
    assert_eq!(handle.window_updates, []);
}

#[test]
fn unstarved_reader_has_a_modest_window() {
    let (asked, widest) = read_in_sequence(|_| false);
    assert_eq!(widest, PROVEN_WINDOW + READ);
    assert!((GIB / 2..=GIB / 2 + PROVEN_WINDOW).contains(&asked), "{asked}");
}

#[test]
fn small_cache_bounds_a_starved_reader_s_window() {
    let mut handle = Handle::new();
    handle.ahead = ReadAhead::new(1, MIB);
    for at in (0..100 * READ).step_by(READ as usize) {
        if let Some(wanted) = handle.read(at, READ, true) {
            assert!(wanted.end <= at + READ + MIB, "{wanted:?} at {at}");
        }
    }
}

#[test]
fn starved_window_grows_quickly_to_its_limit() {
    let (_, widest) = read_in_sequence(|_| true);
    assert_eq!(widest, MAX_WINDOW + READ);
    let (_, widest) = read_in_sequence(|at| at < 96 * MIB);
    assert_eq!(widest, MAX_WINDOW + READ);
}

/// Reads half a GiB; returns the last offset requested, and the maximum distance ahead.
fn read_in_sequence(missing: impl Fn(u64) -> bool) -> (u64, u64) {
    let mut handle = Handle::new();
    let (mut asked, mut widest) = (0, 0);
    for step in 0..4096 {
        let at = step * READ;
        if let Some(wanted) = handle.read(at, READ, missing(at)) {
            assert!(
                asked == 0 || wanted.start == asked,
                "no gap and nothing twice: {wanted:?} after {asked}"
            );
            asked = wanted.end;
        }
        widest = widest.max(asked.saturating_sub(at));
        assert!(step < 2 || asked >= at + 256 * KIB, "step {step}");
    }
    assert_eq!(handle.dropped(), 0);
    (asked, widest)
}

#[test]
fn out_of_order_kernel_reads_are_one_stream() {
    let mut handle = Handle::new();
    let mut asked = 0;
    for pair in 0..64 {
        let at = pair * 2 * READ;
        for offset in [at + READ, at] {
            asked = handle.read(offset, READ, true).map_or(asked, |wanted| wanted.end);
        }
    }
    assert_eq!(handle.ahead.cursors.len(), 1);
    assert!(asked > 16 * MIB, "{asked}");
}

#[test]
fn small_gaps_and_steps_back_keep_the_cursor() {
    let mut handle = Handle::new();
    let asked = handle.run(0, 4 * MIB);
    for place in [4 * MIB + 800 * KIB, 4 * MIB, 4 * MIB + 200 * KIB] {
        let wanted = handle.read(place, READ, false);
        assert!(wanted.is_none_or(|wanted| wanted.start == asked), "{place}");
        assert_eq!(handle.ahead.cursors.len(), 1, "{place}");
    }
    handle.read(8 * MIB, READ, false);
    assert_eq!(handle.ahead.cursors.len(), 2, "further than that is another stream");
}

#[test]
fn proven_new_stream_drops_the_old_window() {
    let mut handle = Handle::new();
    handle.run(0, 8 * MIB);
    handle.run(500 * MIB, READ);
    assert_eq!(handle.dropped(), 0, "a look elsewhere is no seek");
    handle.run(500 * MIB + READ, READ);
    assert_eq!(handle.dropped(), 1);
    handle.run(500 * MIB + 2 * READ, 64 * MIB);
    assert_eq!(handle.dropped(), 1, "once");
}

#[test]
fn sequential_handle_gets_small_windows_after_two_seeks() {
    let mut handle = Handle::new();
    handle.run(0, 256 * KIB);
    let ahead = [900, 100, 300, 500].map(|place| {
        let asked = handle.read(place * MIB, READ, true);
        asked.map(|asked| asked.end - place * MIB - READ)
    });
    assert_eq!(ahead, [Some(MIB), Some(MIB), None, None]);
    handle.run(700 * MIB, 256 * KIB);
    assert!(
        handle.read(50 * MIB, READ, true).is_some(),
        "it has proved itself again"
    );
}

#[test]
fn speculative_window_grows_only_after_confirmation() {
    let mut handle = Handle::new();
    handle.run(0, 256 * KIB);
    for step in 0..2 {
        handle.window_updates.clear();
        handle.read(500 * MIB + step * READ, READ, true);
        let asked = handle.window_updates.iter().find_map(WindowUpdate::asks);
        assert!(
            asked.is_none_or(|asked| asked.end <= 500 * MIB + READ + MIB),
            "{asked:?}"
        );
    }
    assert!(handle.run(500 * MIB + 2 * READ, READ) >= 504 * MIB, "then it does");
}

#[test]
fn seek_within_the_window_takes_it_over() {
    let mut handle = Handle::new();
    let asked = handle.run(0, 8 * MIB);
    assert!(asked > 64 * MIB, "{asked}");
    handle.window_updates.clear();
    handle.read(40 * MIB, READ, true);
    let [old, new] = [1, 2].map(|stream| StreamId { reader: 1, stream });
    assert_eq!(
        handle.count(|update| update.asks().is_none()),
        0,
        "it may be a look only"
    );
    handle.window_updates.clear();
    handle.read(40 * MIB + READ, READ, true);
    let [WindowUpdate::Move { stream, keep, .. }, WindowUpdate::Drop(dropped)] = handle.window_updates.as_slice()
    else {
        panic!("{:?}", handle.window_updates);
    };
    assert_eq!((*stream, *dropped), (new, old));
    assert!(keep.start <= 40 * MIB && keep.end >= asked, "{keep:?}");
    handle.window_updates.clear();
    handle.run(40 * MIB + 2 * READ, 64 * MIB);
    assert_eq!(handle.dropped(), 0, "nothing is left behind");
}

#[test]
fn many_short_looks_elsewhere_are_a_seek_too() {
    let mut handle = Handle::new();
    handle.run(0, 8 * MIB);
    for look in 0..16 {
        handle.read(100 * MIB + look * 37 * MIB, 4 * KIB, true);
    }
    let stream = StreamId { reader: 1, stream: 1 };
    assert_eq!(handle.count(|update| *update == WindowUpdate::Drop(stream)), 1);
}

#[test]
fn looks_elsewhere_do_not_crowd_a_stream_out() {
    let mut handle = Handle::new();
    for step in 0..1000 {
        handle.read(step * READ, READ, false);
        handle.read(500 * MIB + step * 7 % 100 * 4 * MIB, 4 * KIB, true);
    }
    let stream = StreamId { reader: 1, stream: 1 };
    assert_eq!(handle.count(|update| *update == WindowUpdate::Drop(stream)), 0);
}

#[test]
fn excess_stream_replaces_the_least_recent() {
    let mut handle = Handle::new();
    // So that none of them is left alone for long enough.
    for step in 0..2 {
        for stream in 0..4 {
            handle.read(stream * 100 * MIB + step * READ, READ, false);
        }
    }
    let windows = handle.count(|update| update.asks().is_some());
    assert_eq!(windows, 4);
    handle.window_updates.clear();
    handle.read(900 * MIB, 4 * KIB, false);
    assert_eq!(handle.dropped(), 1, "{:?}", handle.window_updates);
}

#[test]
fn returning_reader_gets_its_window_for_longer() {
    let mut handle = Handle::new();
    handle.run(0, 8 * MIB);
    handle.run(500 * MIB, MIB);
    let back = handle.read(8 * MIB, READ, true).expect("its window");
    assert_eq!(back.start, 8 * MIB + READ, "all of it");
    let dropped = handle.dropped();
    // A demuxer that reads its two streams a MiB each in turn.
    for turn in 1..20 {
        handle.run(500 * MIB + turn * MIB, MIB);
        handle.run(8 * MIB + turn * MIB, MIB);
    }
    // Once each, before it has shown itself to be one of two.
    assert!(handle.dropped() - dropped <= 2, "{:?}", handle.window_updates);
    handle.window_updates.clear();
    handle.run(800 * MIB, 64 * MIB);
    assert_eq!(handle.dropped(), 2, "but not for ever");
}

#[test]
fn two_streams_of_a_handle_keep_windows() {
    let mut handle = Handle::new();
    let mut asked = [0; 2];
    for step in 0..64 {
        for (stream, base) in [0, 500 * MIB].into_iter().enumerate() {
            let wanted = handle.read(base + step * READ, READ, true);
            asked[stream] = wanted.map_or(asked[stream], |wanted| wanted.end);
        }
    }
    assert!(asked[0] > 12 * MIB && asked[1] > 512 * MIB, "{asked:?}");
    assert_eq!(handle.dropped(), 0);
}

#[test]
fn medium_strides_are_not_sequential() {
    for stride in [300, 512, 900].map(|kib| kib * KIB) {
        let mut handle = Handle::new();
        for step in 0..1000 {
            assert_eq!(handle.read(step * stride, 4 * KIB, true), None, "{stride}, {step}");
        }
    }
}

#[test]
fn sequence_tolerates_small_gaps_and_one_long_gap() {
    let mut handle = Handle::new();
    for step in 0..100 {
        handle.read(step * 160 * KIB, READ, true);
    }
    let asked = handle.count(|update| update.asks().is_some());
    assert!(asked > 4, "{asked}");
    let at = 100 * 160 * KIB;
    handle.run(at + 900 * KIB, 8 * MIB);
    assert!(handle.count(|update| update.asks().is_some()) > asked);
    assert_eq!(handle.ahead.cursors.len(), 1);
}

#[test]
fn reading_backwards_is_no_sequence() {
    let mut handle = Handle::new();
    for step in 1..1000 {
        assert_eq!(handle.read(500 * MIB - step * 64 * KIB, 64 * KIB, true), None, "{step}");
    }
}

#[test]
fn short_reader_gets_a_small_window() {
    let mut handle = Handle::new();
    for step in 0..256 {
        let at = step * READ;
        if let Some(asked) = handle.read(at, READ, true) {
            let ahead = asked.end - (at + READ);
            assert!(ahead <= ((at + READ) * 64).max(PROVEN_WINDOW), "{ahead} at {at}");
        }
    }
}

#[test]
fn slow_start_video_gains_seconds_of_read_ahead() {
    let mut handle = Handle::new();
    let mut asked = handle.run(0, 32 * MIB);
    assert!(asked > 128 * MIB, "{asked}");
    // From now on it is present, and 1 MiB of it is shown each second.
    for step in (32 * MIB..320 * MIB).step_by(READ as usize) {
        handle.now += Duration::from_millis(125);
        handle.window_updates.clear();
        handle.read(step, READ, false);
        for update in &handle.window_updates {
            let WindowUpdate::Move { keep, .. } = update else {
                continue;
            };
            asked = keep.end;
        }
    }
    let ahead = asked - 320 * MIB;
    assert!((5 * MIB..=11 * MIB).contains(&ahead), "{ahead}");
}

#[test]
fn fast_reader_keeps_its_window() {
    let mut handle = Handle::new();
    handle.run(0, 32 * MIB);
    for step in (32 * MIB..512 * MIB).step_by(READ as usize) {
        handle.now += Duration::from_micros(500);
        handle.read(step, READ, false);
    }
    let ends = handle
        .window_updates
        .iter()
        .filter_map(WindowUpdate::asks)
        .map(|ask| ask.end);
    assert!(ends.max() >= Some(700 * MIB));
}

proptest! {
    #[test]
    fn requests_stay_within_file_and_window(reads in prop::collection::vec((0u64..64 * MIB, 1u64..MIB), 1..200), size in MIB..64 * MIB) {
        let mut ahead = ReadAhead::new(1, u64::MAX);
        for (at, len) in reads {
            let (start, end) = (at.min(size - 1), (at + len).min(size));
            for update in ahead.note(&(start..end.max(start + 1)), size, at % 2 == 0, &Far(Duration::from_millis(at))) {
                let WindowUpdate::Move { keep, ask, .. } = update else { continue };
                prop_assert!(ask.start <= ask.end && ask.end <= size);
                prop_assert!(keep.start <= ask.start && ask.end == keep.end);
                prop_assert!(ask.end - ask.start <= MAX_WINDOW);
            }
        }
    }
}
