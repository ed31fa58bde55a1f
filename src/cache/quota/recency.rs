//! Recency: how the segments of one entry were used. The input of [`policy`](super::policy), in
//! memory and as a column.
//!
//! Readers note each use without a lock. Two concurrent uses of a segment may overwrite each
//! other's note, which costs the policy a little accuracy and nothing else.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::policy::{Moment, Use};

/// Chunks of a segment: as many as a word of the chunk bitmap has bits.
pub(crate) const SEGMENT: u64 = 64;

/// Bytes of a segment in a column.
const STORED: usize = 12;

/// One note for each segment.
#[derive(Debug)]
pub struct Recency(Box<[(AtomicU64, AtomicU32)]>);

impl Recency {
    /// For a file of `chunks` chunks. Segments that `stored` lacks get `otherwise`: they were
    /// fetched after the last record, by a process that was killed before it could record them.
    pub fn new(chunks: u64, stored: &[u8], otherwise: Use) -> Recency {
        let segments = usize::try_from(chunks.div_ceil(SEGMENT)).unwrap_or(usize::MAX);
        let mut stored = stored.chunks_exact(STORED);
        let known = std::iter::from_fn(|| {
            let (packed, seconds) = stored.next()?.split_at(8);
            Some((
                u64::from_le_bytes(packed.try_into().ok()?),
                u32::from_le_bytes(seconds.try_into().ok()?),
            ))
        });
        let known = known.map(|noted| if noted == (0, 0) { otherwise.pack() } else { noted });
        let all = known.chain(std::iter::repeat(otherwise.pack())).take(segments);
        Recency(all.map(|(packed, seconds)| (packed.into(), seconds.into())).collect())
    }

    /// Notes that these chunks are used.
    pub fn note(&self, chunks: &Range<u64>, moment: &Moment) {
        for segment in chunks.start / SEGMENT..chunks.end.div_ceil(SEGMENT) {
            let Some((packed, seconds)) = self.0.get(segment as usize) else {
                return;
            };
            let before = (packed.load(Ordering::Relaxed), seconds.load(Ordering::Relaxed));
            let after = Use::unpack(before.0, before.1).after(moment).pack();
            // Usually nothing changes, and a CPU cache line that is only read can be shared.
            if after.0 != before.0 {
                packed.store(after.0, Ordering::Relaxed);
            }
            if after.1 != before.1 {
                seconds.store(after.1, Ordering::Relaxed);
            }
        }
    }

    /// Notes that a chunk was fetched just now, and not used yet.
    pub fn came(&self, chunk: u64, moment: &Moment) {
        self.change(chunk, |before| before.renewed(moment));
    }

    /// Notes that a scanner has fetched the first chunk of a segment, this one. Its later ones change nothing.
    pub fn scanned(&self, chunk: u64, moment: &Moment) {
        self.change(chunk, |_| Use::scanned(moment));
    }

    fn change(&self, chunk: u64, change: impl FnOnce(Use) -> Use) {
        if let Some((packed, seconds)) = self.0.get((chunk / SEGMENT) as usize) {
            let before = Use::unpack(packed.load(Ordering::Relaxed), 0);
            let (after, now) = change(before).pack();
            packed.store(after, Ordering::Relaxed);
            seconds.store(now, Ordering::Relaxed);
        }
    }

    /// The use of a segment.
    pub fn of(&self, segment: u64) -> Use {
        let (packed, seconds) = &self.0[segment as usize];
        Use::unpack(packed.load(Ordering::Relaxed), seconds.load(Ordering::Relaxed))
    }

    /// The value of the column.
    pub fn to_bytes(&self) -> Vec<u8> {
        let segments = self.0.iter().flat_map(|(packed, seconds)| {
            let (packed, seconds) = (packed.load(Ordering::Relaxed), seconds.load(Ordering::Relaxed));
            packed.to_le_bytes().into_iter().chain(seconds.to_le_bytes())
        });
        segments.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_the_rest_is_as_told() {
        let moment = Moment {
            clock: 77,
            seconds: 1_000_000,
            handle: 3,
            cache: 1000,
        };
        let recency = Recency::new(3 * SEGMENT + 1, &[], Use::default());
        recency.note(&(SEGMENT..SEGMENT + 1), &moment);
        recency.note(&(SEGMENT..SEGMENT + 1), &Moment { handle: 4, ..moment });
        let back = Recency::new(5 * SEGMENT, &recency.to_bytes(), Use::once(9, 9));
        assert_eq!(back.of(1), recency.of(1));
        assert_eq!(back.of(4), Use::once(9, 9));
        assert_eq!(back.of(0), Use::once(9, 9), "it came after that was noted");
        assert!(back.of(1).rank(0, 1000) > 4000, "it was used by two");
    }

    #[test]
    fn what_only_a_scanner_fetched_goes_first() {
        let recency = Recency::new(2 * SEGMENT, &[], Use::default());
        let moment = Moment {
            clock: 5000,
            seconds: 5,
            handle: 1,
            cache: 1000,
        };
        recency.scanned(0, &moment);
        let rank = |recency: &Recency| recency.of(0).rank_while_open(0, 1000, 5000);
        assert_eq!(rank(&recency), 1);
        let stored = Recency::new(2 * SEGMENT, &recency.to_bytes(), Use::default());
        assert_eq!(rank(&stored), 1, "it is stored");
        recency.came(1, &moment);
        assert!(
            rank(&recency) > 5000,
            "the segment has another chunk now, which was not for a scanner"
        );
        stored.note(&(0..1), &moment);
        assert!(rank(&stored) > 5000, "an ordinary program has read it");
        assert!(stored.of(0).rank(0, 1000) < 6000, "once");
    }

    #[test]
    fn a_range_notes_all_its_segments_and_none_past_the_end() {
        let recency = Recency::new(2 * SEGMENT, &[], Use::default());
        let moment = Moment {
            clock: 5,
            seconds: 5,
            handle: 1,
            cache: 100,
        };
        recency.note(&(SEGMENT - 1..10 * SEGMENT), &moment);
        assert_eq!([0, 1].map(|segment| recency.of(segment).clock), [5, 5]);
        recency.note(&(0..0), &Moment { clock: 9, ..moment });
        assert_eq!(recency.of(0).clock, 5);
    }
}
