//! Reservations: space for bytes that are about to be written to one file. A writer waits while
//! space is freed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Quota;
use super::room::{self, Mark};
use super::rounds::Outcome;
use crate::cache::error::ReadError;
use crate::cache::sharing::Bell;

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
        self.quota.peers.settle(bytes, grown);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.peers.settle(self.bytes, 0);
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
            let relieved = self.peers.rung(Bell::Relieved);
            // Read first: what is freed afterwards is space.
            let is_empty = self.peers.space().used == 0;
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
            self.peers.wait(Bell::Relieved, relieved, wait);
        }
    }

    /// Reserves space as [`Self::reserve`] does, but only what is free: **nothing is evicted for it**, now or by the next
    /// round. Never blocks.
    ///
    /// # Errors
    /// [`ReadError::NoRoom`] if there is no free space; [`ReadError::Store`] if it can't be counted.
    pub fn reserve_free(self: &Arc<Self>, bytes: u64) -> Result<Reservation, ReadError> {
        let bytes = bytes.next_multiple_of(self.block) + self.block;
        let most = self.usage().most_without_eviction(bytes).ok_or(ReadError::NoRoom)?;
        let is_counted = self.peers.try_reserve(bytes, most);
        match is_counted.map_err(|error| ReadError::Store(error.to_string()))? {
            true => {
                self.measure_index();
                Ok(Reservation {
                    quota: Arc::clone(self),
                    bytes,
                })
            }
            false => Err(ReadError::NoRoom),
        }
    }

    /// Returns true if [`Self::reserve_free`] would succeed now.
    pub fn has_free(&self, bytes: u64) -> bool {
        let bytes = bytes.next_multiple_of(self.block) + self.block;
        let usage = self.usage();
        let most = usage.most_without_eviction(bytes);
        most.is_some_and(|most| usage.space.total().saturating_add(bytes) <= most)
    }

    pub(in crate::cache) fn try_reserve(&self, bytes: u64) -> io::Result<bool> {
        let before = self.peers.space();
        let most = room::most(before.limit);
        if self.free() < self.min_free().saturating_add(bytes) || !self.peers.try_reserve(bytes, most)? {
            return Ok(false);
        }
        // Measures the index at intervals: it grows with what is added.
        if before.clock / LOOK_AT_INDEX != self.peers.space().clock / LOOK_AT_INDEX {
            self.measure_index();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn free_space_is_taken_and_no_more() {
        let quota = Quota::alone(64 * MIB);
        let mut held = Vec::new();
        while quota.has_free(MIB) {
            held.push(quota.reserve_free(MIB).unwrap());
        }
        assert!(matches!(quota.reserve_free(MIB), Err(ReadError::NoRoom)));
        assert!(held.len() > 50, "{}", held.len());
        assert_eq!(quota.shortfall(Mark::High), 0, "the evictor has nothing to do");
        quota.reserve(2 * MIB).unwrap();
        assert!(quota.rounds.asked() > 0, "it has for an ordinary writer");
    }

    /// A quota with 5 MiB reserved, and a writer who needs 2 MiB more than fit. Returns what the writer gets once a round of
    /// eviction has ended with `outcome`, and with the 5 MiB released if that freed any.
    fn waits_for(outcome: Outcome) -> Result<(), ReadError> {
        let quota = Quota::alone(8 * MIB);
        let first = quota.reserve(5 * MIB).unwrap();
        let seen = quota.peers.rung(Bell::Wanted);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| quota.reserve(2 * MIB).map(drop));
            quota.peers.wait(Bell::Wanted, seen, Duration::from_secs(60));
            if outcome == Outcome::Relieved {
                drop(first);
            }
            quota.rounds.have_ended(quota.rounds.asked(), outcome);
            quota.peers.ring(Bell::Relieved);
            writer.join().unwrap()
        })
    }

    #[test]
    fn writer_gets_the_space_that_a_round_frees() {
        assert!(waits_for(Outcome::Relieved).is_ok());
    }

    #[test]
    fn writer_is_refused_if_nothing_can_be_freed() {
        assert!(matches!(waits_for(Outcome::Exhausted), Err(ReadError::NoRoom)));
    }

    #[test]
    fn dropped_reservation_takes_no_space() {
        let quota = Quota::alone(8 * MIB);
        drop(quota.reserve(5 * MIB).unwrap());
        assert_eq!(quota.peers.space().used, 0);
        quota.reserve(5 * MIB).unwrap().settle(3);
        assert_eq!((quota.peers.space().used, quota.peers.space().reserved), (3, 0));
    }
}
