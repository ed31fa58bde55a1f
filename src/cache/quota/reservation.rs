//! Reservations: room for bytes that are about to be written to one file, waited for while it is made.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Quota;
use super::room::Mark;
use super::rounds::Outcome;
use crate::cache::error::ReadError;

/// The index is looked at whenever so many bytes have come in: that costs some microseconds.
const LOOK_AT_INDEX: u64 = 128 << 10;

/// How long a writer waits for room that might be made yet: what is in the way is in use at the moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks whether what was in the way is so no longer; there is no event for that.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long other processes are given to make room when this one can't: what they have open, say.
const OTHERS_TURN: Duration = Duration::from_secs(2);

/// See the module. Dropped without being settled, it is given back.
#[derive(Debug)]
pub struct Reservation {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Reservation {
    /// The bytes were written, and the file takes so many more on disk than when it was last looked at.
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
    /// Reserves room for bytes that are about to be written to one file, waiting for room to be made if need be. Blocks for
    /// five seconds at most.
    ///
    /// # Errors
    /// [`ReadError::NoRoom`] when none can be made; [`ReadError::Store`] when it can't be counted.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, ReadError> {
        // What begins or ends within a block takes all of it.
        let bytes = bytes.next_multiple_of(self.block) + self.block;
        let (deadline, others_turn) = (Instant::now() + PATIENCE, Instant::now() + OTHERS_TURN);
        let mut ticket = None;
        loop {
            let relieved = self.ledger.relieved();
            // Looked at first: what goes afterwards makes room.
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
                // Others fill the disk, and nothing of ours could make room on it.
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
        // A look at the index now and then: it grows with what comes in.
        if before / LOOK_AT_INDEX != self.ledger.clock() / LOOK_AT_INDEX {
            self.measure_index();
        }
        Ok(true)
    }
}
