//! The clock of a wait: how long a blocked reader waited, and for what.
//!
//! The scheduler says for which fetch a reader waits. Each fetch adds up how long it was in each phase; the clock reads
//! these sums when the wait for the fetch begins and when it ends. Time without a fetch is time in the queue, or in the
//! pause after a failure. So all of the wait is accounted for, once.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::control::FetchControl;
use crate::http::Origin;
use crate::stats::{Phase, PhaseTimes};

/// How a wait went. The reader keeps one clone, and the manager the other.
pub(crate) type WaitReport = Arc<Mutex<Waited>>;

/// How a wait went; complete once it is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waited {
    /// What it was for.
    pub times: PhaseTimes,
    /// When it began, a fetch of the first missing byte was in flight.
    pub was_in_flight: bool,
    /// The last server that answered a fetch that it was for.
    pub server: Option<Origin>,
}

/// The clock of one wait.
pub(super) struct WaitClock {
    report: WaitReport,
    /// Since when it waits for what it waits for now.
    since: Instant,
    waits_for: Awaited,
    /// Of the fetch, if it waits for one, at that time.
    before: PhaseTimes,
}

/// What a reader waits for.
pub(super) enum Awaited {
    /// For no fetch, but for this.
    Phase(Phase),
    /// For a fetch.
    Fetch(Arc<FetchControl>),
}

impl WaitClock {
    /// A wait that begins now.
    pub(super) fn new(report: WaitReport) -> WaitClock {
        WaitClock {
            report,
            since: Instant::now(),
            waits_for: Awaited::Phase(Phase::Queued),
            before: PhaseTimes::default(),
        }
    }

    /// From now on it waits for something else.
    pub(super) fn turn_to(&mut self, waits_for: Awaited) {
        let now = Instant::now();
        self.add_up(now);
        if let Awaited::Fetch(fetch) = &waits_for {
            self.before = fetch.phase().times(now);
        }
        (self.since, self.waits_for) = (now, waits_for);
    }

    /// How the wait has gone so far.
    pub(super) fn so_far(&self) -> Waited {
        let mut waited = self.report.lock().clone();
        self.add_to(&mut waited, Instant::now());
        waited
    }

    /// The wait is over.
    pub(super) fn end(self) {
        self.add_up(Instant::now());
    }

    fn add_up(&self, now: Instant) {
        self.add_to(&mut self.report.lock(), now);
    }

    fn add_to(&self, report: &mut Waited, now: Instant) {
        match &self.waits_for {
            Awaited::Phase(phase) => report.times.add(*phase, now.saturating_duration_since(self.since)),
            Awaited::Fetch(fetch) => {
                report.times += fetch.phase().times(now).since(&self.before);
                report.server = fetch.server().or(report.server.take());
            }
        }
    }
}
