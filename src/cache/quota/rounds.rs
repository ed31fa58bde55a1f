//! Rounds of eviction: a request for a round receives the outcome of the first one that begins
//! afterwards.

use parking_lot::Mutex;

/// The outcome of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Bytes were freed, or there was space.
    Relieved,
    /// Nothing could be evicted, but some of it only for the moment: it is being read, or written.
    Busy,
    /// Nothing can be evicted.
    Exhausted,
}

/// Numbers the requests, and keeps the last outcome.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Held for moments. No other lock is taken under it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    /// All requests up to this number have been answered.
    over: u64,
    last: Option<Outcome>,
    is_closed: bool,
}

impl Rounds {
    /// Requests a round. Returns the number for [`Self::outcome_after`].
    pub(crate) fn ask(&self) -> u64 {
        let mut state = self.state.lock();
        state.asked += 1;
        state.asked
    }

    /// The last number that was given: a round that begins now answers it.
    pub(crate) fn asked(&self) -> u64 {
        self.state.lock().asked
    }

    /// A round that began when `asked` was the last number has ended.
    pub(crate) fn have_ended(&self, asked: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        state.over = asked;
        state.last = Some(outcome);
    }

    /// The outcome of the requested round, if it is over.
    pub(crate) fn outcome_after(&self, asked: u64) -> Option<Outcome> {
        let state = self.state.lock();
        if state.is_closed {
            return Some(Outcome::Exhausted);
        }
        (state.over >= asked).then_some(state.last).flatten()
    }

    /// Ends all rounds.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
    }

    /// Returns true if there are no more rounds.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}
