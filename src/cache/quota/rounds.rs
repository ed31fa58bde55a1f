//! Rounds of the evictor: who asks for one is told how the first one that begins afterwards ends.

use parking_lot::Mutex;

/// How a round of eviction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes were freed, or there was room.
    Relieved,
    /// Nothing could go, but some of it only for the moment: it is being read, or filled.
    Busy,
    /// Nothing can go.
    Exhausted,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Held for moments. Nothing is taken under it.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    /// All that were asked for up to this number are over.
    over: u64,
    last: Option<Outcome>,
    is_closed: bool,
}

impl Rounds {
    /// Asks for a round. The number is for [`Self::outcome_after`].
    pub fn ask(&self) -> u64 {
        let mut state = self.state.lock();
        state.asked += 1;
        state.asked
    }

    /// The last number that was given: what a round that begins now will answer.
    pub fn asked(&self) -> u64 {
        self.state.lock().asked
    }

    /// A round that began when `asked` was the last number has ended.
    pub fn have_ended(&self, asked: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        state.over = asked;
        state.last = Some(outcome);
    }

    /// How the round ended that was asked for, if it is over.
    pub fn outcome_after(&self, asked: u64) -> Option<Outcome> {
        let state = self.state.lock();
        if state.is_closed {
            return Some(Outcome::Exhausted);
        }
        (state.over >= asked).then_some(state.last).flatten()
    }

    /// There are no more rounds.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
    }

    /// Whether there are no more.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}
