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
//! The latter is bounded by what the reader has read, since who reads a few megabytes here and there must not be sent
//! hundreds, and by what the origin's connections can make use of. It shrinks again when the reader is not starved any
//! more, to some seconds of its rate: a film that was slow to start does not need 256 MiB ahead of it.
//!
//! Proof is bytes read and not distance: who touches a page of each 300 KiB reads no sequence.
//!
//! A read that fits no cursor begins a new one, with no window: an isolated read fetches the chunks
//! it touches and no more. But a handle that has just read in sequence is expected to do so again: the next
//! [`SEEKS_TRUSTED`] places that it goes to have a small window at once. A player looks at the head of a film, at the index at
//! its end, and goes on where it is to show a picture: that is a round trip less before it does.
//!
//! **Who seeks ahead within its own window takes that over** when the new place has proved itself: what is under way
//! there goes on, and only what was passed over is given up.
//!
//! **A cursor that is left behind loses its window.** When the handle has read elsewhere for a while, the window is
//! demoted, and some time later dropped ([`WindowUpdate`]). Several streams that are read in turn are told from that by their
//! coming back: then the cursor's patience is twice as long as it was left alone. The cursor itself stays, so who
//! returns goes on where it was.
//!
//! All of this is values in, values out; the caller hands the answer to the scheduler.

mod cursor;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use super::scheduler::{StreamId, WindowUpdate};
use cursor::{Cursor, Standing};

/// How far ahead is fetched for a reader that is never starved. At the 4 MB/s of a good film this is
/// a second's worth. Where readers wait for each other's connections it is the first window, too: each of them gets one
/// only now and then, and each fetch costs all of them a round trip. 64 readers of 16 MiB over sixteen connections of
/// 20 MB/s and 50 ms get 277 MB/s by it instead of 263, since a file takes three fetches instead of four.
const PROVEN_WINDOW: u64 = 4 << 20;

/// How far ahead is fetched at most, for a reader that takes all it can get: sixteen connections
/// with a long fetch each. The bytes go to the data file, so the window takes no memory.
const MAX_WINDOW: u64 = 256 << 20;

/// Streams that one open file is taken to have, at most; the least recently moved gives way.
const MAX_CURSORS: usize = 4;

/// Places that a handle goes to after it has read in sequence, at which it is expected to do so again. What a player looks at
/// between the head of a film and its place in it is the index.
const SEEKS_TRUSTED: u32 = 2;

/// What a read elsewhere counts at least, in bytes, when a cursor is left alone: who looks at sixteen places has gone,
/// however little it reads there.
const LOOK: u64 = 64 << 10;

/// What a decision may depend on beside the reads. Asked only when a window may change.
pub trait Conditions {
    /// The time since some moment that stays the same.
    fn now(&self) -> Duration;

    /// Bytes, the most that the origin's connections can make use of at a time.
    fn useful_window(&self) -> u64;

    /// Whether more files are read from the origin than it gets connections.
    fn is_crowded(&self) -> bool;
}

/// The cursors of one open file, the most recently moved first.
#[derive(Debug)]
pub struct ReadAhead {
    /// Tells its streams from those of other readers.
    reader: u64,
    cursors: Vec<Cursor>,
    /// Bytes, the most that a window may grow to.
    most: u64,
    next_stream: u64,
    /// At how many places more it is expected to read in sequence without proof.
    trusted: u32,
}

impl ReadAhead {
    /// For a reader, with windows of so many bytes at most, if that is less than [`MAX_WINDOW`]: a small cache has no
    /// room for more.
    pub fn new(reader: u64, most: u64) -> ReadAhead {
        ReadAhead {
            reader,
            cursors: Vec::new(),
            most: most.min(MAX_WINDOW),
            next_stream: 1,
            trusted: 0,
        }
    }

    /// Notes a read and says what becomes of the windows. `size` is the file's; `missing` says that not all of the
    /// bytes are here.
    pub fn note(
        &mut self,
        read: &Range<u64>,
        size: u64,
        missing: bool,
        conditions: &impl Conditions,
    ) -> Vec<WindowUpdate> {
        let (mut shifts, mut taken_over) = (Vec::new(), None);
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
        shifts.extend(step.map(|step| WindowUpdate::Move {
            stream: stream(self.reader, cursor.number),
            keep: step.keep,
            ask: step.ask,
        }));
        // After the move: what both wanted is wanted all the time.
        shifts.extend(taken_over.map(WindowUpdate::Drop));
        let seen = (read.end - read.start).max(LOOK);
        for other in &mut self.cursors {
            let stream = stream(self.reader, other.number);
            match other.leave_alone(seen) {
                Some(Standing::Demoted) => shifts.push(WindowUpdate::Demote(stream)),
                Some(Standing::Dropped) => shifts.push(WindowUpdate::Drop(stream)),
                Some(Standing::Live) | None => {}
            }
        }
        self.cursors.insert(0, cursor);
        shifts.extend(self.make_room());
        shifts
    }

    /// Lets one cursor go when there are too many: the least recently moved of those without a window, or else of all.
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
    pub fn forget(&mut self) {
        self.cursors.clear();
        self.trusted = 0;
    }
}

fn stream(reader: u64, stream: u64) -> StreamId {
    StreamId { reader, stream }
}
