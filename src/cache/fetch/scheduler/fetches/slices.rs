//! Slices: the units in which a tier fetches and keeps files.
//!
//! A slice that is on its way to the tier for one request delays other requests for it: nginx looks every 500 ms whether
//! it is there. So fetches end on edges of slices where more is wanted after them, and windows do in any case. What a window
//! brings beyond its own end comes from nearby, and the tier has it then.

use std::ops::Range;

use crate::cache::chunk::ChunkSize;

/// The slices of a mount's tier.
#[derive(Debug, Clone, Copy)]
pub(in crate::cache::fetch::scheduler) struct Slices {
    /// Bytes of a slice.
    pub(in crate::cache::fetch::scheduler) bytes: u64,
}

impl Slices {
    /// The bytes up to the end of the slice that the last of them is in. An empty range stays as it is.
    pub(super) fn widen(self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            return bytes.clone();
        }
        let end = bytes.end.checked_next_multiple_of(self.bytes);
        bytes.start..end.unwrap_or(u64::MAX)
    }

    /// Where a fetch of `chunks` ends, if they are wanted up to `wanted_end`: on an edge, and not before its first chunk has
    /// come.
    pub(super) fn end_of_fetch(self, chunks: &Range<u64>, wanted_end: u64, chunk: ChunkSize) -> u64 {
        let slice = (self.bytes / chunk.bytes()).max(1);
        let before = chunks.end / slice * slice;
        let end = if before > chunks.start {
            before
        } else {
            (chunks.start / slice + 1) * slice
        };
        if chunks.end >= wanted_end {
            chunks.end
        } else {
            end.min(wanted_end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SLICES: Slices = Slices { bytes: MIB };

    #[test]
    fn fetch_ends_on_an_edge_where_more_is_wanted() {
        let chunk = ChunkSize::new(MIB / 4).unwrap();
        for (chunks, wanted_end, end) in [
            (0..9, 100, 8),
            (3..5, 100, 4),
            (3..8, 100, 8),
            (1..2, 100, 4),
            (1..2, 3, 3),
            (1..2, 2, 2),
            (1..7, 7, 7),
        ] {
            assert_eq!(SLICES.end_of_fetch(&chunks, wanted_end, chunk), end, "{chunks:?}");
        }
        let large = ChunkSize::new(4 * MIB).unwrap();
        assert_eq!(SLICES.end_of_fetch(&(1..3), 9, large), 3);
    }

    #[test]
    fn window_ends_on_an_edge() {
        for (bytes, end) in [(5..9, MIB), (5..MIB, MIB), (5..MIB + 1, 2 * MIB), (5..5, 5)] {
            assert_eq!(SLICES.widen(&bytes), bytes.start..end);
        }
        assert_eq!(SLICES.widen(&(0..u64::MAX)), 0..u64::MAX);
    }
}
