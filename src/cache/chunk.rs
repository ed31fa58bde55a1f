//! Chunk arithmetic: which chunks a range of bytes touches, and which bytes a chunk holds.
//!
//! A chunk is the aligned fixed-size unit of presence, checksum and eviction. Chunk `i` of a file
//! holds the bytes `i * size .. (i + 1) * size`, cut off at the end of the file, so only the last
//! chunk of a file may be short. Everything here is pure; both kinds of ranges are half-open.

use std::ops::Range;

/// The size of the chunks of one cache entry, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize(u64);

/// The permitted sizes: at least a page, because the kernel reads pages; at most 64 MiB, because an
/// isolated read fetches a whole chunk.
pub(crate) const CHUNK_SIZES: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// The default chunk size: an isolated 64 KiB read then moves 1.25 chunks on average, and the index
/// takes some 30 bytes for each of 262,144 cached ones.
pub(crate) const DEFAULT_CHUNK_SIZE: ChunkSize = ChunkSize(256 << 10);

/// The chunk size of reads past the cache: so much comes with one request, and nothing is read ahead of it.
pub(crate) const BLOCK: ChunkSize = ChunkSize(1 << 20);

impl ChunkSize {
    /// `None` unless `bytes` is a power of two within [`CHUNK_SIZES`].
    pub fn new(bytes: u64) -> Option<ChunkSize> {
        (bytes.is_power_of_two() && CHUNK_SIZES.contains(&bytes)).then_some(ChunkSize(bytes))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Number of chunks of a file of `size` bytes.
    pub fn count(self, size: u64) -> u64 {
        size.div_ceil(self.0)
    }

    /// The index of the chunk that holds the byte at `offset`.
    pub fn index(self, offset: u64) -> u64 {
        offset / self.0
    }

    /// The chunks that hold at least one byte of `bytes`; empty for an empty range.
    pub fn touched(self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            let at = self.index(bytes.start);
            return at..at;
        }
        self.index(bytes.start)..self.count(bytes.end)
    }

    /// The chunks that lie wholly within `bytes` of a file of `size` bytes. The last chunk of the
    /// file counts as whole when `bytes` reaches the end of the file.
    pub fn contained(self, bytes: &Range<u64>, size: u64) -> Range<u64> {
        let start = self.count(bytes.start);
        let end = if bytes.end >= size {
            self.count(size)
        } else {
            self.index(bytes.end)
        };
        start..end.max(start)
    }

    /// The bytes that `chunks` hold of a file of `size` bytes.
    pub fn bytes_of(self, chunks: &Range<u64>, size: u64) -> Range<u64> {
        let start = (chunks.start * self.0).min(size);
        let end = chunks.end.saturating_mul(self.0).min(size);
        start..end.max(start)
    }
}

/// The intersection of two ranges; empty if there is none.
pub(crate) fn common(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    let start = one.start.max(other.start);
    start..one.end.min(other.end).max(start)
}

/// The part of a range that lies within a file of `size` bytes.
pub(crate) fn clip(bytes: &Range<u64>, size: u64) -> Range<u64> {
    bytes.start.min(size)..bytes.end.min(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1 << 10;

    fn chunks_of(kib: u64) -> ChunkSize {
        ChunkSize::new(kib * KIB).unwrap()
    }

    #[test]
    fn only_powers_of_two_from_a_page_to_64_mib_are_chunk_sizes() {
        assert!(ChunkSize::new(4 * KIB).is_some());
        assert!(ChunkSize::new(64 << 20).is_some());
        for wrong in [0, 1, 2 * KIB, 4 * KIB + 1, 12 * KIB, 128 << 20, u64::MAX] {
            assert_eq!(ChunkSize::new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_of_exactly_k_chunks_has_k_chunks() {
        let chunk = chunks_of(256);
        assert_eq!(chunk.count(0), 0);
        assert_eq!(chunk.count(1), 1);
        assert_eq!(chunk.count(3 * 256 * KIB), 3);
        assert_eq!(chunk.count(3 * 256 * KIB + 1), 4);
    }

    #[test]
    fn last_chunk_is_whole_at_end_of_file() {
        let chunk = chunks_of(4);
        assert_eq!(chunk.contained(&(0..5000), 5000), 0..2);
        assert_eq!(chunk.contained(&(0..4999), 5000), 0..1);
        assert_eq!(chunk.contained(&(1..5000), 5000), 1..2);
        assert_eq!(chunk.contained(&(1..4096), 5000), 1..1);
    }

    #[test]
    fn ranges_have_in_common_what_lies_in_both() {
        assert_eq!(common(&(0..5), &(3..9)), 3..5);
        assert_eq!(common(&(3..9), &(4..5)), 4..5);
        assert!(common(&(0..3), &(3..9)).is_empty() && common(&(7..9), &(0..3)).is_empty());
        assert_eq!(clip(&(3..9), 5), 3..5);
        assert_eq!(clip(&(3..9), 2), 2..2);
    }

    proptest! {
        #[test]
        fn touched_chunks_are_the_minimal_cover_of_the_range(
            kib in prop::sample::select(vec![4u64, 64, 256]), size in 1u64..1 << 34, a: u64, len in 1u64..1 << 24,
        ) {
            let chunk = chunks_of(kib);
            let start = a % size;
            let range = start..(start + len).min(size);
            let touched = chunk.touched(&range);
            let bytes = chunk.bytes_of(&touched, size);
            prop_assert!(bytes.start <= range.start && range.end <= bytes.end);
            let inner = chunk.bytes_of(&(touched.start + 1..touched.end - 1), size);
            prop_assert!(touched.end - touched.start == 1 || (range.start < inner.start && inner.end < range.end));
        }

        #[test]
        fn contained_chunks_are_inside_the_range(kib in prop::sample::select(vec![4u64, 256]), size in 1u64..1 << 34, a: u64, b: u64) {
            let chunk = chunks_of(kib);
            let (a, b) = (a % (size + 1), b % (size + 1));
            let range = a.min(b)..a.max(b);
            let contained = chunk.contained(&range, size);
            if !contained.is_empty() {
                let bytes = chunk.bytes_of(&contained, size);
                prop_assert!(range.start <= bytes.start && bytes.end <= range.end);
            }
        }
    }
}
