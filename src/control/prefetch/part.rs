//! The wanted part of one file: how much it is, and how much of it is present.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use crate::cache::chunk::common;
use crate::cache::{Cache, CacheEntry, Settled};
use crate::control::protocol::ByteRange;

/// The wanted bytes of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Planned {
    /// Number of wanted bytes.
    pub(super) bytes: u64,
    /// Their size on disk in bytes.
    pub(super) on_disk: u64,
}

/// The wanted bytes of a file of `size` bytes, and their size on disk.
pub(super) fn plan(cache: &Cache, ranges: &[ByteRange], size: u64) -> Planned {
    let wanted = spans(ranges, size);
    Planned {
        bytes: wanted.iter().map(|bytes| bytes.end - bytes.start).sum(),
        on_disk: cache.on_disk(wanted.iter(), size),
    }
}

/// The wanted ranges of a file of `size` bytes, in order; overlapping ones are merged.
pub(super) fn spans(ranges: &[ByteRange], size: u64) -> RangeSet<u64> {
    let all = ranges.is_empty().then_some(0..size);
    let wanted = all.into_iter().chain(ranges.iter().map(|range| range.of(size)));
    wanted.filter(|bytes| !bytes.is_empty()).collect()
}

/// The wanted part of one entry.
pub(super) struct Part {
    pub(super) entry: Arc<CacheEntry>,
    pub(super) ranges: Arc<[ByteRange]>,
}

impl Part {
    /// Number of wanted bytes that are present. Chunks at the edges of ranges count with their wanted bytes only.
    pub(super) fn present(&self) -> u64 {
        let Some(settled) = self.entry.settled() else { return 0 };
        spans(&self.ranges, settled.size())
            .iter()
            .map(|bytes| present_of(&self.entry, settled, bytes))
            .sum()
    }
}

fn present_of(entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>) -> u64 {
    if settled.presence.is_complete() {
        return bytes.end - bytes.start;
    }
    let chunks = entry
        .chunk
        .touched(bytes)
        .filter(|&chunk| settled.presence.contains(chunk));
    chunks
        .map(|chunk| {
            let chunk = entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size());
            let wanted = common(&chunk, bytes);
            wanted.end - wanted.start
        })
        .sum()
}
