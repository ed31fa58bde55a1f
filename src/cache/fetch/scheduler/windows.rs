//! Windows: what is fetched ahead of each stream, so that it can be taken back when the reader has gone elsewhere.
//!
//! Several readers, and several streams of one reader, may want the same chunks ahead. What one of them gives up stays
//! wanted for the others; that can only be decided here, where the windows of all of them are known.
//!
//! A window is **live** at first: `High`. One whose stream was left behind is **demoted**: what has not begun is wanted at
//! `Low`, and a fetch for it gives its slot back at the next chunk edge, with its rest wanted again at `Low`. When the
//! reader comes back, it is live again; when it does not, it is dropped, and nothing of it is wanted any more.

use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::{Priority, Scheduler};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::key::EntryId;

/// Tells one sequential stream of reads from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// Whose stream it is: a number that is the same for all streams of one open file.
    pub reader: u64,
    /// Which of the reader's streams it is.
    pub stream: u64,
}

/// What becomes of a stream's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowUpdate {
    /// The stream has moved, and is now the first to be served among those of its entry.
    Move {
        /// Whose window.
        stream: StreamId,
        /// Bytes that are of use to it from now on. What it wanted before and is not in here, it does not want any more.
        keep: Range<u64>,
        /// Bytes that it has not asked for yet. **Within `keep`.**
        ask: Range<u64>,
    },
    /// Its reader reads elsewhere, and may come back.
    Demote(StreamId),
    /// Its reader has gone elsewhere.
    Drop(StreamId),
}

impl WindowUpdate {
    /// Bytes that it asks for.
    pub fn asks(&self) -> Option<&Range<u64>> {
        match self {
            WindowUpdate::Move { ask, .. } => Some(ask).filter(|ask| !ask.is_empty()),
            WindowUpdate::Demote(_) | WindowUpdate::Drop(_) => None,
        }
    }
}

/// The windows of an entry, of the stream that moved last first.
#[derive(Debug, Default)]
pub(super) struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    stream: StreamId,
    chunks: Range<u64>,
    is_live: bool,
}

impl Windows {
    /// The live ones, that of the stream that moved last first.
    pub(super) fn live(&self) -> impl Iterator<Item = &Range<u64>> {
        self.of_kind(true)
    }

    pub(super) fn of_kind(&self, is_live: bool) -> impl Iterator<Item = &Range<u64>> {
        let windows = self.0.iter().filter(move |window| window.is_live == is_live);
        windows.map(|window| &window.chunks).filter(|chunks| !chunks.is_empty())
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

    /// What of these chunks is in no window of this kind.
    fn outside(&self, chunks: &Range<u64>, is_live: bool) -> Vec<Range<u64>> {
        if chunks.is_empty() {
            return Vec::new();
        }
        let others: RangeSet<u64> = self.of_kind(is_live).cloned().collect();
        others.gaps(chunks).collect()
    }
}

impl Scheduler {
    /// The windows of an entry's streams change.
    pub fn shift(&mut self, entry: &Arc<CacheEntry>, shifts: &[WindowUpdate]) {
        if self.closed || shifts.is_empty() {
            return;
        }
        self.apply(entry, shifts);
        self.follow_up(entry.id);
    }

    /// The readers of an entry have gone, or seem to: read-ahead that has not begun is dropped, and
    /// what is in flight for them alone ends at the next chunk edge.
    pub fn end_read_ahead(&mut self, id: EntryId) {
        self.drop_windows(id, None);
        // What was asked for at that priority without a window: a small file that is to be opened next.
        self.withdraw(id, &(0..u64::MAX), Priority::High);
        // What kept a stream going may have to give way now.
        self.follow_up(id);
    }

    /// One of an entry's readers has gone, or seems to. What the others want stays wanted.
    pub fn leave(&mut self, id: EntryId, reader: u64) {
        self.drop_windows(id, Some(reader));
        self.follow_up(id);
    }

    fn drop_windows(&mut self, id: EntryId, reader: Option<u64>) {
        let streams = self.queues.get(id).map(|flight| flight.windows.streams_of(reader));
        for stream in streams.unwrap_or_default() {
            self.drop_window(id, stream);
        }
    }

    pub(super) fn apply(&mut self, entry: &Arc<CacheEntry>, shifts: &[WindowUpdate]) {
        for shift in shifts {
            match shift {
                WindowUpdate::Move { stream, keep, ask } => self.move_window(entry, *stream, keep, ask),
                WindowUpdate::Demote(stream) => self.demote_window(entry.id, *stream),
                WindowUpdate::Drop(stream) => self.drop_window(entry.id, *stream),
            }
        }
    }

    fn move_window(&mut self, entry: &Arc<CacheEntry>, stream: StreamId, keep: &Range<u64>, ask: &Range<u64>) {
        let chunks = entry.chunk.touched(keep);
        let mut flight = self.queues.open(entry);
        let before = flight.windows.take(stream);
        let window = Window {
            stream,
            chunks: chunks.clone(),
            is_live: true,
        };
        flight.windows.0.insert(0, window);
        drop(flight);
        self.want(entry, entry.chunk.touched(ask), Priority::High);
        let Some(before) = before else { return };
        if !before.is_live {
            self.give_up_chunks(entry.id, &before.chunks, false);
        }
        // Most often nothing: a window moves on at its end, and what is behind has come.
        for left in [
            before.chunks.start..before.chunks.end.min(chunks.start),
            before.chunks.start.max(chunks.end)..before.chunks.end,
        ] {
            self.give_up_chunks(entry.id, &left, true);
        }
    }

    fn drop_window(&mut self, id: EntryId, stream: StreamId) {
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        let window = flight.windows.take(stream);
        drop(flight);
        if let Some(window) = window {
            self.give_up_chunks(id, &window.chunks, window.is_live);
        }
    }

    /// A window of this kind does not want these chunks any more.
    fn give_up_chunks(&mut self, id: EntryId, chunks: &Range<u64>, was_live: bool) {
        let Some(flight) = self.queues.get(id) else { return };
        let priority = if was_live { Priority::High } else { Priority::Low };
        for run in flight.windows.outside(chunks, was_live) {
            self.withdraw(id, &run, priority);
        }
    }

    fn demote_window(&mut self, id: EntryId, stream: StreamId) {
        let Some(mut flight) = self.queues.get_mut(id) else {
            return;
        };
        let window = flight.windows.0.iter_mut().find(|window| window.stream == stream);
        let Some(window) = window.filter(|window| window.is_live) else {
            return;
        };
        window.is_live = false;
        let chunks = window.chunks.clone();
        let fetches = flight.fetches.clone();
        let mut giving_way = Vec::new();
        let left = flight.windows.outside(&chunks, true);
        for run in left
            .iter()
            .flat_map(|run| flight.unneeded(run, Priority::High))
            .collect::<Vec<_>>()
        {
            flight.wants.demote(&run, Priority::High, Priority::Low);
            for &fetch in &fetches {
                let running = self.fetches.get_mut(&fetch);
                if running.is_some_and(|running| running.wants.demote(&run, Priority::High, Priority::Low)) {
                    giving_way.push(fetch);
                }
            }
        }
        drop(flight);
        giving_way
            .into_iter()
            .for_each(|fetch| self.cut_to_what_is_wanted(fetch, Priority::Medium));
    }
}
