//! Which bytes a reader is going to want next, guessed from those it has read.
//!
//! An open file has a few **cursors**, one for each sequential stream that its reads form: a player
//! reads video, audio and index in turn through one handle. A read that goes on where a cursor
//! stands moves that cursor, and proves that the stream is sequential: a **window** ahead of the
//! cursor is fetched. It grows in two ways, and no other:
//!
//! - as the sequence goes on, up to [`PROVEN_WINDOW`]: enough for a reader that takes its time;
//! - when the reader is **starved**, that is, when it comes to bytes that are not here although they
//!   were asked for ahead: up to [`MAX_WINDOW`], so that many connections can work for one reader.
//!
//! A read that fits no cursor begins a new one, with no window: an isolated read fetches the chunks
//! it touches and no more.
//!
//! All of this is values in, values out; the caller turns the answer into `High` requests.

use std::ops::Range;

/// How far ahead of a cursor is fetched after the first proof. Two chunks: one being read, one on
/// its way.
const FIRST_WINDOW: u64 = 512 << 10;

/// How far ahead is fetched for a reader that is never starved. At the 4 MB/s of a good film this is
/// a second's worth.
const PROVEN_WINDOW: u64 = 4 << 20;

/// How far ahead is fetched at most, for a reader that takes all it can get: sixteen connections
/// with a long fetch each. The bytes go to the data file, so the window takes no memory.
const MAX_WINDOW: u64 = 256 << 20;

/// What the window is multiplied by when the reader was starved. From the first window to the last in
/// three steps, each of which takes about a round trip.
const STARVED_GROWTH: u64 = 8;

/// A read within this distance before or behind a cursor is still its stream. The kernel asks for
/// 128 KiB at a time, some requests ahead and out of order; a player skips over small atoms.
const SLACK: u64 = 1 << 20;

/// Proof of sequence: this many bytes read in a row. Below it, a reader may be looking at a header.
const PROOF: u64 = 256 << 10;

/// Streams that one open file is taken to have, at most; the least recently moved gives way.
const MAX_CURSORS: usize = 4;

/// The cursors of one open file, the most recently moved first.
#[derive(Debug)]
pub struct ReadAhead {
    cursors: Vec<Cursor>,
    /// Bytes, the most that a window may grow to.
    most: u64,
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// Where the stream began.
    start: u64,
    /// The furthest byte read, exclusive.
    position: u64,
    /// How far ahead of `position` is fetched, in bytes; 0 without proof.
    window: u64,
    /// Up to where it has been asked for, exclusive.
    requested: u64,
    /// Where `position` was when the window last grew.
    grown_at: u64,
    /// The first byte that was asked for because of that.
    grown_from: u64,
    /// Whether the reader came to bytes that were not here, since then.
    starved: bool,
}

impl ReadAhead {
    /// With windows of so many bytes at most, if that is less than [`MAX_WINDOW`]: a small cache has no room for more.
    pub fn up_to(most: u64) -> ReadAhead {
        ReadAhead {
            cursors: Vec::new(),
            most: most.min(MAX_WINDOW),
        }
    }

    /// Notes a read and says what to ask for ahead of it, if anything. `size` is the file's;
    /// `missing` says that not all of the bytes are here.
    pub fn note(&mut self, read: &Range<u64>, size: u64, missing: bool) -> Option<Range<u64>> {
        let index = self.cursors.iter().position(|cursor| cursor.goes_on_with(read));
        let mut cursor = match index {
            Some(index) => self.cursors.remove(index),
            None => Cursor {
                start: read.start,
                position: read.start,
                window: 0,
                requested: read.start,
                grown_at: read.start,
                grown_from: read.start,
                starved: false,
            },
        };
        cursor.starved |= missing && cursor.window > 0 && read.start < cursor.requested;
        let wanted = cursor.advance(read, size, self.most);
        self.cursors.insert(0, cursor);
        self.cursors.truncate(MAX_CURSORS);
        wanted
    }

    /// The reader has gone, or seems to: nothing is fetched ahead until it proves itself again.
    pub fn forget(&mut self) {
        self.cursors.clear();
    }
}

impl Cursor {
    fn goes_on_with(&self, read: &Range<u64>) -> bool {
        read.start <= self.position.saturating_add(SLACK) && read.start.saturating_add(SLACK) >= self.position
    }

    fn advance(&mut self, read: &Range<u64>, size: u64, most: u64) -> Option<Range<u64>> {
        self.position = self.position.max(read.end);
        if self.position - self.start < PROOF.min(size) {
            return None;
        }
        if self.window == 0 || self.is_due() {
            self.window = self.grown().min(most);
            self.grown_at = self.position;
            self.grown_from = self.requested.max(self.position);
            self.starved = false;
        }
        // A small window is asked for in halves, or many small requests would be made of it; a large
        // one piece by piece, or its connections would stand idle between the halves.
        let step = if self.window <= PROVEN_WINDOW {
            self.window / 2
        } else {
            self.window / 16
        };
        let ahead = self.requested.saturating_sub(self.position);
        if ahead + step > self.window {
            return None;
        }
        let horizon = self.position.saturating_add(self.window).min(size);
        let wanted = self.requested.max(self.position)..horizon;
        self.requested = self.requested.max(horizon);
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Whether it shows by now if the last growth was enough. It was not when the reader was starved and has got some
    /// way into what was asked for then: that is about a round trip later. Otherwise half a window tells.
    fn is_due(&self) -> bool {
        if self.starved {
            self.position > self.grown_from + self.window / 16
        } else {
            self.position - self.grown_at >= self.window / 2
        }
    }

    /// The window that it should have now.
    fn grown(&self) -> u64 {
        if self.starved {
            return (self.window * STARVED_GROWTH).clamp(FIRST_WINDOW, MAX_WINDOW);
        }
        self.window.max((self.window * 2).clamp(FIRST_WINDOW, PROVEN_WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn an_isolated_read_asks_for_nothing_ahead() {
        let mut ahead = ReadAhead::up_to(u64::MAX);
        for offset in [0, 100 * MIB, 7 * MIB, 900 * MIB, 300 * MIB] {
            assert_eq!(ahead.note(&(offset..offset + 64 * KIB), GIB, true), None, "{offset}");
        }
    }

    #[test]
    fn a_sequential_reader_that_is_never_starved_is_kept_ahead_of_by_a_modest_window() {
        let (asked, widest) = read_in_sequence(|_| false);
        assert_eq!(widest, PROVEN_WINDOW + 128 * KIB);
        assert!((GIB / 2..=GIB / 2 + PROVEN_WINDOW).contains(&asked), "{asked}");
    }

    #[test]
    fn in_a_small_cache_a_starved_reader_s_window_stays_small() {
        let mut ahead = ReadAhead::up_to(MIB);
        for step in 0..100 {
            let at = step * 128 * KIB;
            if let Some(wanted) = ahead.note(&(at..at + 128 * KIB), GIB, true) {
                assert!(wanted.end <= at + 128 * KIB + MIB, "{wanted:?} at {at}");
            }
        }
    }

    #[test]
    fn a_starved_reader_s_window_grows_to_its_limit_within_a_fraction_of_it() {
        let (_, widest) = read_in_sequence(|_| true);
        assert_eq!(widest, MAX_WINDOW + 128 * KIB);
        let (_, widest) = read_in_sequence(|at| at < 96 * MIB);
        assert_eq!(widest, MAX_WINDOW + 128 * KIB);
    }

    /// Reads half a GiB; says up to where was asked for, and how far ahead at most.
    fn read_in_sequence(missing: impl Fn(u64) -> bool) -> (u64, u64) {
        let mut ahead = ReadAhead::up_to(u64::MAX);
        let (mut asked, mut widest) = (0, 0);
        for step in 0..4096 {
            let at = step * 128 * KIB;
            if let Some(wanted) = ahead.note(&(at..at + 128 * KIB), GIB, missing(at)) {
                assert!(
                    asked == 0 || wanted.start == asked,
                    "no gap and nothing twice: {wanted:?} after {asked}"
                );
                asked = wanted.end;
            }
            widest = widest.max(asked.saturating_sub(at));
            assert!(step < 2 || asked >= at + 256 * KIB, "step {step}");
        }
        (asked, widest)
    }

    #[test]
    fn requests_out_of_order_within_the_kernel_s_own_read_ahead_are_one_stream() {
        let mut ahead = ReadAhead::up_to(u64::MAX);
        let mut asked = 0;
        for pair in 0..64 {
            let at = pair * 256 * KIB;
            for offset in [at + 128 * KIB, at] {
                asked = ahead
                    .note(&(offset..offset + 128 * KIB), GIB, true)
                    .map_or(asked, |wanted| wanted.end);
            }
        }
        assert_eq!(ahead.cursors.len(), 1);
        assert!(asked > 16 * MIB, "{asked}");
    }

    #[test]
    fn two_streams_through_one_handle_keep_a_window_each() {
        let mut ahead = ReadAhead::up_to(u64::MAX);
        let mut asked = [0; 2];
        for step in 0..64 {
            for (stream, base) in [0, 500 * MIB].into_iter().enumerate() {
                let at = base + step * 128 * KIB;
                asked[stream] = ahead
                    .note(&(at..at + 128 * KIB), GIB, true)
                    .map_or(asked[stream], |wanted| wanted.end);
            }
        }
        assert!(asked[0] > 12 * MIB && asked[1] > 512 * MIB, "{asked:?}");
    }

    proptest! {
        #[test]
        fn it_never_asks_past_the_end_nor_for_more_than_a_window(reads in prop::collection::vec((0u64..64 * MIB, 1u64..MIB), 1..200), size in MIB..64 * MIB) {
            let mut ahead = ReadAhead::up_to(u64::MAX);
            for (at, len) in reads {
                let (start, end) = (at.min(size - 1), (at + len).min(size));
                if let Some(wanted) = ahead.note(&(start..end.max(start + 1)), size, at % 2 == 0) {
                    prop_assert!(wanted.start < wanted.end && wanted.end <= size);
                    prop_assert!(wanted.end - wanted.start <= MAX_WINDOW);
                }
            }
        }
    }
}
