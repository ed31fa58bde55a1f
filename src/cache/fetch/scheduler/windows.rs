//! Windows: what is fetched ahead of each stream, so that it can be withdrawn when the reader moves
//! elsewhere.
//!
//! Several readers, and several streams of one reader, may want the same chunks ahead. What one of
//! them gives up stays wanted for the others. Only this module knows the windows of all of them.
//!
//! The chunks of a window are wanted at `High`. When its stream is left behind, it is dropped: its
//! chunks are not wanted any more, and a fetch for them ends at the next chunk edge.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::entry_queue::EntryQueue;
use super::{Action, Priority, Scheduler};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::key::EntryId;

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

/// The windows of an entry.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    stream: StreamId,
    chunks: Range<u64>,
}

impl Windows {
    /// Their chunks.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        let windows = self.0.iter().map(|window| &window.chunks);
        windows.filter(|chunks| !chunks.is_empty())
    }

    fn take(&mut self, stream: StreamId) -> Option<Window> {
        let index = self.0.iter().position(|window| window.stream == stream)?;
        Some(self.0.remove(index))
    }

    fn streams_of(&self, reader: Option<u64>) -> Vec<StreamId> {
        let streams = self.0.iter().map(|window| window.stream);
        streams
            .filter(|stream| reader.is_none_or(|reader| stream.reader == reader))
            .collect()
    }

    /// The parts of these chunks that are in no window.
    fn outside(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let windows: RangeSet<u64> = self.iter().cloned().collect();
        windows.gaps(chunks).collect()
    }
}

impl Scheduler {
    /// Applies changes to the windows of an entry's streams.
    pub fn update_windows(&mut self, entry: &Arc<CacheEntry>, window_updates: &[WindowUpdate]) {
        if self.closed || window_updates.is_empty() {
            return;
        }
        self.apply(entry, window_updates);
        self.follow_up(entry.id);
    }

    /// The readers of an entry have gone, or seem to. Read-ahead that has not begun is dropped, and
    /// a fetch for read-ahead alone ends at the next chunk edge.
    pub fn end_read_ahead(&mut self, id: EntryId) {
        self.drop_windows(id, None);
        // Chunks requested at this priority without a window: a small file that is likely to be
        // opened next.
        if let Some(mut queue) = self.queues.get_mut(id) {
            self.actions.extend(queue.withdraw(&(0..u64::MAX), Priority::High));
        }
        // The fetch that kept a stream going may have to give way now.
        self.follow_up(id);
    }

    /// One of an entry's readers has gone, or seems to. What the others want stays wanted.
    pub fn leave(&mut self, id: EntryId, reader: u64) {
        self.drop_windows(id, Some(reader));
        self.follow_up(id);
    }

    fn drop_windows(&mut self, id: EntryId, reader: Option<u64>) {
        let streams = self.queues.get(id).map(|queue| queue.windows.streams_of(reader));
        for stream in streams.unwrap_or_default() {
            self.drop_window(id, stream);
        }
    }

    pub(super) fn apply(&mut self, entry: &Arc<CacheEntry>, window_updates: &[WindowUpdate]) {
        for update in window_updates {
            match update {
                WindowUpdate::Move { stream, keep, ask } => self.move_window(entry, *stream, keep, ask),
                WindowUpdate::Drop(stream) => self.drop_window(entry.id, *stream),
            }
        }
    }

    fn move_window(&mut self, entry: &Arc<CacheEntry>, stream: StreamId, keep: &Range<u64>, ask: &Range<u64>) {
        let chunks = entry.chunk.touched(keep);
        let mut queue = self.queues.open(entry);
        let before = queue.windows.take(stream);
        let window = Window {
            stream,
            chunks: chunks.clone(),
        };
        queue.windows.0.push(window);
        queue.want(&entry.chunk.touched(ask), Priority::High);
        let Some(before) = before else { return };
        // Most often nothing: a window moves on at its end, and what is behind has come.
        for left in [
            before.chunks.start..before.chunks.end.min(chunks.start),
            before.chunks.start.max(chunks.end)..before.chunks.end,
        ] {
            self.actions.extend(queue.leave_window(&left));
        }
    }

    fn drop_window(&mut self, id: EntryId, stream: StreamId) {
        if let Some(mut queue) = self.queues.get_mut(id)
            && let Some(window) = queue.windows.take(stream)
        {
            self.actions.extend(queue.leave_window(&window.chunks));
        }
    }
}

impl EntryQueue {
    /// Chunks leave a window.
    fn leave_window(&mut self, chunks: &Range<u64>) -> Vec<Action> {
        let left = self.windows.outside(chunks);
        left.iter().flat_map(|run| self.withdraw(run, Priority::High)).collect()
    }
}
