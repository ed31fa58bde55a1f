//! Windows: what is fetched ahead of each stream, so that it can be withdrawn when the reader moves
//! elsewhere.
//!
//! Several readers, and several streams of one reader, may want the same chunks ahead. What one of
//! them gives up stays wanted for the others. Only this module knows the windows of all of them.
//!
//! The chunks of a window are wanted at `High`. When its stream is left behind, it is dropped: its
//! chunks are not wanted any more, and a fetch for them ends at the next chunk edge.

use std::ops::Range;

use rangemap::RangeSet;

/// Identifies one sequential stream of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// The reader's number, the same for all streams of one open file.
    pub reader: u64,
    /// The number of the stream within its reader.
    pub stream: u64,
}

/// A change of a stream's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowUpdate {
    /// The stream has moved.
    Move {
        /// The stream of the window.
        stream: StreamId,
        /// Byte range that is of use to it from now on. What it wanted before outside this range is
        /// given up.
        keep: Range<u64>,
        /// Byte range that it requests for the first time. **Within `keep`.**
        ask: Range<u64>,
    },
    /// Its reader reads elsewhere.
    Drop(StreamId),
}

impl WindowUpdate {
    /// The bytes that it requests.
    pub fn asks(&self) -> Option<&Range<u64>> {
        match self {
            WindowUpdate::Move { ask, .. } => Some(ask).filter(|ask| !ask.is_empty()),
            WindowUpdate::Drop(_) => None,
        }
    }
}

/// The windows of an entry, in chunks.
#[derive(Debug, Default)]
pub(in crate::cache::fetch::scheduler) struct Windows(Vec<(StreamId, Range<u64>)>);

impl Windows {
    /// Their chunks.
    pub(in crate::cache::fetch::scheduler) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        let windows = self.0.iter().map(|(_, chunks)| chunks);
        windows.filter(|chunks| !chunks.is_empty())
    }

    /// Moves a stream's window to these chunks. Returns the chunks that leave it.
    pub(super) fn move_to(&mut self, stream: StreamId, chunks: Range<u64>) -> [Range<u64>; 2] {
        let before = self.take(stream).unwrap_or_default();
        let left = [
            before.start..before.end.min(chunks.start),
            before.start.max(chunks.end)..before.end,
        ];
        self.0.push((stream, chunks));
        left
    }

    /// Removes a stream's window, and returns its chunks.
    pub(super) fn take(&mut self, stream: StreamId) -> Option<Range<u64>> {
        let index = self.0.iter().position(|(other, _)| *other == stream)?;
        Some(self.0.remove(index).1)
    }

    /// The streams of a reader, or of all.
    pub(super) fn streams_of(&self, reader: Option<u64>) -> Vec<StreamId> {
        let streams = self.0.iter().map(|(stream, _)| *stream);
        streams
            .filter(|stream| reader.is_none_or(|reader| stream.reader == reader))
            .collect()
    }

    /// The parts of these chunks that are in no window.
    pub(super) fn outside(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let windows: RangeSet<u64> = self.iter().cloned().collect();
        windows.gaps(chunks).collect()
    }
}
