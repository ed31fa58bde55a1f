//! A file as a row of cells, for maps of any width.

use std::ops::Range;

use super::protocol::FileMap;

/// The state of the bytes that one cell stands for. A later one is more urgent, and hides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    /// Nothing is here, and nothing is asked for.
    Missing,
    /// All of it is in the cache.
    Cached,
    /// A part of it is in the cache.
    PartlyCached,
    /// It is to be fetched.
    Wanted,
    /// A fetch brings it.
    InFlight,
    /// A read waits for it.
    Waiting,
}

/// The file in at most so many cells. A cell stands for one chunk, or for as many as it takes.
pub(crate) fn cells(map: &FileMap, most: u64) -> Vec<Cell> {
    let chunks = map.size.div_ceil(map.chunk_size.max(1));
    let count = chunks.min(most);
    let bytes_of = |cell: u64| {
        let edge = |cell: u64| {
            let chunk = u128::from(cell) * u128::from(chunks) / u128::from(count.max(1));
            (chunk as u64).saturating_mul(map.chunk_size).min(map.size)
        };
        edge(cell)..edge(cell + 1)
    };
    (0..count).map(|cell| state(map, &bytes_of(cell))).collect()
}

/// The state of these bytes of a file.
fn state(map: &FileMap, bytes: &Range<u64>) -> Cell {
    let touches = |ranges: &[Range<u64>]| overlap(ranges, bytes) > 0;
    // They are in order, and may be many.
    let first = map.cached.partition_point(|range| range.end <= bytes.start);
    let end = map.cached.partition_point(|range| range.start < bytes.end);
    let cached = overlap(map.cached.get(first..end).unwrap_or_default(), bytes);
    let is_cached = cached == bytes.end - bytes.start;
    if map.waiting.iter().any(|at| bytes.contains(at)) {
        Cell::Waiting
    } else if is_cached {
        Cell::Cached
    } else if touches(&map.in_flight) {
        Cell::InFlight
    } else if touches(&map.wanted) {
        Cell::Wanted
    } else if cached > 0 {
        Cell::PartlyCached
    } else {
        Cell::Missing
    }
}

/// Bytes of `bytes` that these ranges have.
fn overlap(ranges: &[Range<u64>], bytes: &Range<u64>) -> u64 {
    let common = |range: &Range<u64>| range.end.min(bytes.end).saturating_sub(range.start.max(bytes.start));
    ranges.iter().map(common).sum()
}
