//! Read-ahead: which bytes a handle is likely to read next, predicted from its reads.
//!
//! An open file has a few **cursors**, one for each sequential stream that its reads form. For
//! example, a player reads video, audio and index in turn through one handle. A read that continues
//! at a cursor moves that cursor, and proves that the stream is sequential: a **window** ahead of
//! the cursor is fetched. The window grows in two ways only:
//!
//! - as the sequence goes on, up to [`PROVEN_WINDOW`]: enough for a slow reader;
//! - when the reader is **starved**, that is, when it comes to bytes that were requested ahead but
//!   are still missing: up to [`MAX_WINDOW`], so that many connections can work for one reader.
//!
//! The latter growth is bounded by what the origin's connections can make use of, and takes a round
//! trip for each step, so a few megabytes read here and there don't fetch hundreds. The window
//! shrinks when the reader is no longer starved, to some seconds of its rate: a film that was slow
//! to start does not need 256 MiB ahead of it.
//!
//! Proof is counted in bytes read, not in distance: one page of each 300 KiB is no sequence.
//!
//! A read that fits no cursor begins a new one, with no window: an isolated read fetches the chunks
//! that it touches and no more. There is one exception. A handle that has just read in sequence is
//! expected to do so again: the next [`SEEKS_TRUSTED`] places that it seeks to get a small window
//! at once. To show a picture, a player reads the head of a film, the index at its end, and the
//! place itself; the small window saves a round trip.
//!
//! **A seek ahead within the stream's own window takes the window over** once the new place has
//! proved itself: what is in flight there continues, and only the skipped part is given up.
//!
//! **A cursor that is left behind loses its window.** When the handle has read elsewhere for a
//! while, the window is dropped ([`WindowUpdate`]). Streams that are read in turn come back, which sets
//! them apart: from then on the window is dropped after twice as many bytes as were read elsewhere. The cursor itself stays, so a stream that returns continues where it was.
//!
//! All of this is pure: values in, values out. The caller passes the result to the scheduler.

mod cursor;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::scheduler::{StreamId, WindowUpdate};
pub(crate) use cursor::Conditions;
use cursor::Cursor;
pub(in crate::cache) use cursor::MAX_WINDOW;

/// Maximum number of streams of one open file; the least recently moved is dropped first.
const MAX_CURSORS: usize = 4;

/// Number of places, after a sequential read, at which a handle is expected to read in sequence
/// again. Between the head of a film and its place in it, a player reads the index.
const SEEKS_TRUSTED: u32 = 2;

/// Minimum bytes that a read elsewhere counts against a cursor that is left alone. A reader that
/// looks at sixteen places has gone, however little it reads there.
const LOOK: u64 = 64 << 10;

/// The cursors of one open file, the most recently moved first.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    /// The reader's number, which sets its streams apart from those of other readers.
    reader: u64,
    cursors: Vec<Cursor>,
    /// Maximum bytes of a window that the cache has room for.
    room: u64,
    /// Maximum bytes of a window.
    most: u64,
    next_stream: u64,
    /// Number of further places at which it is trusted to read in sequence.
    trusted: u32,
}

impl ReadAhead {
    /// For a reader, with windows of at most `most` bytes if that is less than [`MAX_WINDOW`]: a
    /// small cache has no room for more.
    pub(crate) fn new(reader: u64, most: u64) -> ReadAhead {
        ReadAhead {
            reader,
            cursors: Vec::new(),
            room: most.min(MAX_WINDOW),
            most: most.min(MAX_WINDOW),
            next_stream: 1,
            trusted: 0,
        }
    }

    /// Keeps windows to this many bytes from now on; 0 fetches nothing ahead.
    pub(crate) fn set_most(&mut self, most: u64) {
        self.most = most.min(self.room);
    }

    /// Records a read and returns the changes of the windows. `size` is the file's, in bytes;
    /// `missing` is true if some of the bytes are not present.
    pub(crate) fn note(
        &mut self,
        read: &Range<u64>,
        size: u64,
        missing: bool,
        conditions: &impl Conditions,
    ) -> Vec<WindowUpdate> {
        let (mut window_updates, mut taken_over) = (Vec::new(), None);
        let index = self.cursors.iter().position(|cursor| cursor.goes_on_with(read));
        let mut cursor = match index {
            Some(index) => self.cursors.remove(index),
            None => {
                self.next_stream += 1;
                let is_trusted = self.trusted > 0;
                self.trusted = self.trusted.saturating_sub(1);
                Cursor::new(self.next_stream - 1, read.start, is_trusted)
            }
        };
        let was_proven = cursor.is_proven();
        cursor.note(read, size, missing);
        if cursor.is_proven() && !was_proven {
            self.trusted = SEEKS_TRUSTED;
            let over = self
                .cursors
                .iter_mut()
                .find(|other| other.is_fetched_ahead(cursor.start()));
            if let Some(other) = over {
                cursor.take_over(other);
                taken_over = Some(stream(self.reader, other.number));
            }
        }
        let step = cursor.advance(size, self.most, taken_over.is_some(), conditions);
        window_updates.extend(step.map(|step| WindowUpdate::Move {
            stream: stream(self.reader, cursor.number),
            keep: step.keep,
            ask: step.ask,
        }));
        // After the move, so that what both windows want stays wanted.
        window_updates.extend(taken_over.map(WindowUpdate::Drop));
        let seen = (read.end - read.start).max(LOOK);
        for other in &mut self.cursors {
            if other.leave_alone(seen) {
                window_updates.push(WindowUpdate::Drop(stream(self.reader, other.number)));
            }
        }
        self.cursors.insert(0, cursor);
        window_updates.extend(self.make_room());
        window_updates
    }

    /// Drops one cursor when there are too many: the least recently moved of those without a
    /// window, or else of all.
    fn make_room(&mut self) -> Option<WindowUpdate> {
        if self.cursors.len() <= MAX_CURSORS {
            return None;
        }
        // The first is the one that has just moved.
        let idle = self.cursors.iter().skip(1).rposition(|cursor| !cursor.has_window());
        let gone = self.cursors.remove(idle.map_or(MAX_CURSORS, |index| index + 1));
        gone.has_window()
            .then(|| WindowUpdate::Drop(stream(self.reader, gone.number)))
    }

    /// The reader has gone, or seems to: nothing is fetched ahead until it proves itself again.
    pub(crate) fn forget(&mut self) {
        self.cursors.clear();
        self.trusted = 0;
    }
}

fn stream(reader: u64, stream: u64) -> StreamId {
    StreamId { reader, stream }
}
