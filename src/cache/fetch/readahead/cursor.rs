//! A cursor: one sequential stream of an open file, and the window ahead of it.

use std::ops::Range;
use std::time::Duration;

/// Bytes fetched ahead of a reader that is never starved. At the 4 MB/s of a good film this is one
/// second. Where readers compete for connections it is the first window, too: each of them rarely
/// gets one, and each fetch costs all of them a round trip. Measured: 64 readers of 16 MiB over
/// sixteen connections of 20 MB/s and 50 ms get 277 MB/s with it instead of 263, since a file takes
/// three fetches instead of four.
pub(super) const PROVEN_WINDOW: u64 = 4 << 20;

/// Maximum bytes fetched ahead, for a reader that takes all it can get: sixteen connections with a
/// long fetch each. The bytes go to the data file, so the window takes no memory.
pub(in crate::cache) const MAX_WINDOW: u64 = 256 << 20;

/// Bytes fetched ahead of a cursor after the first proof. Two chunks: one being read, one on its
/// way.
const FIRST_WINDOW: u64 = 512 << 10;

/// Bytes fetched ahead at the first read of a trusted place. A picture of a film, with what is read
/// with it, is about this long.
const TRUSTED_WINDOW: u64 = 1 << 20;

/// Growth factor of the window of a starved reader. From the first window to the last in three
/// steps, each of which takes about a round trip.
const STARVED_GROWTH: u64 = 8;

/// A read within this distance before or behind a cursor, in bytes, still belongs to its stream.
/// The kernel asks for 128 KiB at a time, some requests ahead and out of order; a player skips
/// small atoms.
const SLACK: u64 = 1 << 20;

/// Proof of sequence: this many bytes read in a row. Below it, the reader may be looking at a
/// header.
const PROOF: u64 = 256 << 10;

/// Maximum bytes of a sequence that are remembered as proof: enough for one gap as long as the
/// slack.
const PROOF_KEPT: u64 = PROOF + SLACK;

/// A gap up to this many bytes counts nothing against a sequence: its bytes come with the chunks
/// around it.
const FREE_GAP: u64 = 128 << 10;

/// Seconds of its own rate that are fetched ahead of a reader that is not starved.
const SECONDS_AHEAD: f64 = 10.0;

/// Minimum seconds over which that rate is measured: in less time, a burst that has just come is
/// read at once.
const RATED_OVER: f64 = 1.0;

/// Bytes that the handle may read elsewhere before a cursor's window is dropped. As much as proves
/// another place to be a stream: from then on that stream needs the connections more.
const DROP_AFTER: u64 = PROOF;

/// After this many times these bytes, the window begins again at [`PROVEN_WINDOW`].
const FORGOTTEN_AFTER: u64 = 4;

/// Maximum of these bytes, however long the cursor was left alone before its reader came back.
const LATEST_DROP: u64 = 16 << 20;

/// What a decision depends on beside the reads. Queried only when a window may change.
pub(crate) trait Conditions {
    /// The time since a fixed moment.
    fn now(&self) -> Duration;

    /// Maximum bytes that the origin's connections can make use of at a time.
    fn useful_window(&self) -> u64;

    /// Returns true if more files are read from the origin than it gets connections.
    fn is_crowded(&self) -> bool;
}

/// The result of a move, in bytes.
pub(super) struct Step {
    /// What is of use to the stream.
    pub(super) keep: Range<u64>,
    /// What is to be requested.
    pub(super) ask: Range<u64>,
}

#[derive(Debug)]
pub(super) struct Cursor {
    /// Its number within its handle.
    pub(super) number: u64,
    /// The first byte read.
    start: u64,
    /// True if it is expected to be a sequence.
    is_trusted: bool,
    /// True if it has proved to be one.
    is_proven: bool,
    /// Bytes read in a row, less those skipped; at most [`PROOF_KEPT`].
    in_a_row: u64,
    /// Bytes that were skipped and not read since: some of them may only be late.
    passed_over: u64,
    /// The furthest byte read, exclusive.
    position: u64,
    /// How far ahead of `position` is fetched, in bytes; 0 without proof.
    window: u64,
    /// Byte offset up to which it has been requested, exclusive.
    requested: u64,
    /// Where `position` was when the window last grew.
    grown_at: u64,
    /// The first byte that was requested because of that growth.
    grown_from: u64,
    /// True if the reader came to missing bytes since the window last grew.
    starved: bool,
    /// The time and position from which its rate is measured.
    rated_from: Option<(Duration, u64)>,
    /// True if the reader came to missing bytes since then.
    waited: bool,
    /// True if its window was dropped, because the handle reads elsewhere.
    is_left: bool,
    /// Bytes that the handle has read elsewhere since it moved this cursor.
    alone: u64,
    /// Bytes read elsewhere after which the window is dropped.
    drop_after: u64,
}

impl Cursor {
    pub(super) fn new(number: u64, start: u64, is_trusted: bool) -> Cursor {
        Cursor {
            number,
            start,
            is_trusted,
            is_proven: false,
            in_a_row: 0,
            passed_over: 0,
            position: start,
            window: 0,
            requested: start,
            grown_at: start,
            grown_from: start,
            starved: false,
            rated_from: None,
            waited: false,
            is_left: false,
            alone: 0,
            drop_after: DROP_AFTER,
        }
    }

    pub(super) fn goes_on_with(&self, read: &Range<u64>) -> bool {
        read.start <= self.position.saturating_add(SLACK) && read.start.saturating_add(SLACK) >= self.position
    }

    /// Returns true if anything is fetched ahead of it.
    pub(super) fn has_window(&self) -> bool {
        self.window > 0 && !self.is_left
    }

    /// The first byte read.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Returns true if it has ever read [`PROOF`] in a row.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Returns true if this byte is fetched ahead of it.
    pub(super) fn is_fetched_ahead(&self, byte: u64) -> bool {
        self.has_window() && (self.position..self.requested).contains(&byte)
    }

    /// Takes over the window of a cursor whose reader has moved to a place further ahead in it.
    pub(super) fn take_over(&mut self, other: &mut Cursor) {
        self.window = self.window.max(other.window);
        self.requested = self.requested.max(other.requested);
        self.grown_at = self.position;
        self.grown_from = self.position;
        self.starved = false;
        other.window = 0;
    }

    /// Its handle has read `bytes` bytes elsewhere. Returns true if its window is to be dropped.
    pub(super) fn leave_alone(&mut self, bytes: u64) -> bool {
        self.alone = self.alone.saturating_add(bytes);
        let is_over = self.has_window() && self.alone >= self.drop_after;
        self.is_left |= is_over;
        is_over
    }

    /// The reader reads here again.
    fn return_to(&mut self) {
        if self.alone > 0 {
            // The reader was not slow, but away.
            self.rated_from = None;
        }
        let is_forgotten = self.alone >= self.drop_after * FORGOTTEN_AFTER;
        self.drop_after = self.drop_after.max(self.alone.saturating_mul(2)).min(LATEST_DROP);
        self.alone = 0;
        if !std::mem::take(&mut self.is_left) {
            return;
        }
        if is_forgotten {
            self.window = self.window.min(PROVEN_WINDOW);
        }
        // All of it is requested again. What has come meanwhile is present.
        self.requested = self.position;
        self.grown_at = self.position;
        self.grown_from = self.position;
        self.starved = false;
    }

    /// Counts what a read adds to the sequence.
    fn count(&mut self, read: &Range<u64>) {
        let added = if read.end > self.position {
            let gap = read.start.saturating_sub(self.position);
            if gap > FREE_GAP {
                self.in_a_row = self.in_a_row.saturating_sub(gap);
            }
            self.passed_over += gap;
            let added = read.end - read.start.max(self.position);
            self.position = read.end;
            added
        } else {
            let late = (read.end - read.start).min(self.passed_over);
            self.passed_over -= late;
            late
        };
        self.in_a_row = (self.in_a_row + added).min(PROOF_KEPT);
    }

    /// Records a read that continues the stream. `size` is the file's, in bytes.
    pub(super) fn note(&mut self, read: &Range<u64>, size: u64, missing: bool) {
        self.return_to();
        let is_starved = missing && self.window > 0 && read.start < self.requested;
        self.starved |= is_starved;
        self.waited |= is_starved;
        self.count(read);
        self.is_proven |= self.is_in_sequence(size);
    }

    fn is_in_sequence(&self, size: u64) -> bool {
        self.in_a_row >= PROOF.min(size)
    }

    /// Returns what to request ahead now. After a takeover it always returns what is of use to the
    /// stream.
    pub(super) fn advance(
        &mut self,
        size: u64,
        most: u64,
        has_taken_over: bool,
        conditions: &impl Conditions,
    ) -> Option<Step> {
        // It may be less than before.
        self.window = self.window.min(most);
        let is_begun_on_trust = self.window == 0 && self.is_trusted && !self.is_proven;
        if is_begun_on_trust {
            self.window = TRUSTED_WINDOW.min(most);
            self.grown_at = self.position;
            // Before the stream has proved itself its window does not grow.
            self.grown_from = self.position.max(self.start + PROOF);
        } else if !self.is_in_sequence(size) {
            return None;
        } else if self.window == 0 || self.is_due() {
            self.window = self.grown(conditions).min(most);
            self.grown_at = self.position;
            self.grown_from = self.requested.max(self.position);
            self.starved = false;
        }
        // A small window is requested in halves, to avoid many small requests. A large one is
        // requested piece by piece, or its connections would be idle between the halves.
        let step = if self.window <= PROVEN_WINDOW {
            self.window / 2
        } else {
            self.window / 16
        };
        let ahead = self.requested.saturating_sub(self.position);
        if ahead + step > self.window && !has_taken_over {
            return None;
        }
        self.shrink(conditions.now());
        let horizon = self.position.saturating_add(self.window).min(size);
        // If it has become much smaller, what was requested beyond it is not wanted any more.
        let ask = self.requested.max(self.position).min(horizon)..horizon;
        let is_shorter = horizon < self.requested;
        self.requested = horizon;
        let keep = self.position.saturating_sub(SLACK)..horizon;
        (is_shorter || !ask.is_empty()).then_some(Step { keep, ask })
    }

    /// Shrinks a window that grew for a starved reader to what the reader's rate needs, when it is
    /// starved no longer.
    fn shrink(&mut self, now: Duration) {
        let (since, from) = *self.rated_from.get_or_insert((now, self.position));
        let seconds = now.saturating_sub(since).as_secs_f64();
        if seconds < RATED_OVER {
            return;
        }
        self.rated_from = Some((now, self.position));
        let has_waited = std::mem::take(&mut self.waited);
        let rate = self.position.saturating_sub(from) as f64 / seconds;
        let enough = ((rate * SECONDS_AHEAD) as u64).max(PROVEN_WINDOW);
        if !has_waited && enough < self.window {
            // By halves: one pause says little.
            self.window = enough.max(self.window / 2);
        }
    }

    /// Returns true if the effect of the last growth is visible. After starvation that is some way
    /// into the bytes requested then, about a round trip later. Otherwise after half a window.
    fn is_due(&self) -> bool {
        if self.starved {
            // After a seek a player reads some megabytes for its picture, and may need no more.
            let is_perhaps_enough = self.is_trusted && self.window == PROVEN_WINDOW;
            let part = if is_perhaps_enough { 4 } else { 16 };
            self.position > self.grown_from + self.window / part
        } else {
            self.position - self.grown_at >= self.window / 2
        }
    }

    /// The size that the window should have now, in bytes.
    fn grown(&self, conditions: &impl Conditions) -> u64 {
        if !self.starved {
            let least = if self.window == 0 && conditions.is_crowded() {
                PROVEN_WINDOW
            } else {
                FIRST_WINDOW
            };
            return self.window.max((self.window * 2).clamp(least, PROVEN_WINDOW));
        }
        if self.window < PROVEN_WINDOW {
            return (self.window * STARVED_GROWTH).min(PROVEN_WINDOW);
        }
        let most = MAX_WINDOW.min(conditions.useful_window()).max(PROVEN_WINDOW);
        self.window.max((self.window * STARVED_GROWTH).min(most))
    }
}
