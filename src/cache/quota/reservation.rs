//! Reservations: space for bytes that are about to be written to one file. A writer waits while
//! space is freed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Quota;
use super::room::Mark;
use super::rounds::Outcome;
use crate::cache::error::ReadError;

/// The index is measured each time this many bytes were added; that costs some microseconds.
const LOOK_AT_INDEX: u64 = 128 << 10;

/// Maximum wait of a writer for space that is in use at the moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// Interval of checks whether it is still in use; there is no event for that.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Time for other processes to free space when this one can't, in files that they have open for
/// example.
const OTHERS_TURN: Duration = Duration::from_secs(2);

/// Reserved bytes. Released on drop unless settled.
#[derive(Debug)]
pub struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    /// The bytes were written, and the file on disk has grown by `grown` since the last look.
    pub fn settle(mut self, grown: i64) {
        let bytes = std::mem::take(&mut self.bytes);
        self.quota.ledger.settle(bytes, grown);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.ledger.settle(self.bytes, 0);
    }
}

impl Quota {
    /// Reserves space for bytes that are about to be written to one file. Blocks while space is
    /// freed, for at most five seconds.
    ///
    /// # Errors
    /// [`ReadError::NoRoom`] if none can be freed; [`ReadError::Store`] if it can't be
    /// counted.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, ReadError> {
        // A range that begins or ends within a block takes all of it.
        let bytes = bytes.next_multiple_of(self.block) + self.block;
        let (deadline, others_turn) = (Instant::now() + PATIENCE, Instant::now() + OTHERS_TURN);
        let mut ticket = None;
        loop {
            let relieved = self.ledger.relieved();
            // Read first: what is freed afterwards is space.
            let is_empty = self.ledger.used() == 0;
            let is_counted = self
                .try_reserve(bytes)
                .map_err(|error| ReadError::Store(error.to_string()))?;
            if is_counted {
                if self.shortfall(Mark::High) > 0 {
                    self.ask();
                }
                return Ok(Reservation {
                    quota: Arc::clone(self),
                    bytes,
                });
            }
            if is_empty {
                // Other files fill the disk, and the cache has nothing to free on it.
                return Err(ReadError::NoRoom);
            }
            let asked = *ticket.get_or_insert_with(|| self.ask());
            let wait = match self.rounds.outcome_after(asked) {
                None => PATIENCE,
                Some(Outcome::Relieved) => {
                    ticket = None;
                    Duration::ZERO
                }
                Some(Outcome::Busy) => {
                    ticket = None;
                    LOOK_AGAIN
                }
                Some(Outcome::Exhausted) if self.has_others() && Instant::now() < others_turn => {
                    ticket = None;
                    LOOK_AGAIN
                }
                Some(Outcome::Exhausted) => return Err(ReadError::NoRoom),
            };
            if Instant::now() >= deadline {
                return Err(ReadError::NoRoom);
            }
            self.ledger.wait_relieved(relieved, wait);
        }
    }

    pub(in crate::cache) fn try_reserve(&self, bytes: u64) -> io::Result<bool> {
        let before = self.ledger.clock();
        if self.free() < self.min_free.saturating_add(bytes) || !self.ledger.try_reserve(bytes, self.most())? {
            return Ok(false);
        }
        // Measures the index at intervals: it grows with what is added.
        if before / LOOK_AT_INDEX != self.ledger.clock() / LOOK_AT_INDEX {
            self.measure_index();
        }
        Ok(true)
    }
}
