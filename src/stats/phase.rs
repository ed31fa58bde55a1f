//! What a fetch is doing: the reason for which its readers wait.
//!
//! Each fetch is a task with a [`PhaseCell`]. The code that it runs, down to the connection, reports what it waits for by
//! [`Phase::enter`], without a parameter through all layers. Outside of a fetch that does nothing.
//!
//! The cell adds up how long the fetch was in each phase. A read that waits for the fetch compares the sums at the
//! beginning and at the end of its wait ([`PhaseTimes::since`]): the difference is what it waited for.

use std::future::Future;
use std::ops::{AddAssign, Index};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

tokio::task_local! {
    static CURRENT: Arc<PhaseCell>;
}

/// What a fetch, or the reader that waits for it, waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// For a connection: other requests have all that the server gets.
    Queued,
    /// For the connection to be made: name and TCP.
    Connecting,
    /// For the TLS handshake.
    Tls,
    /// For the first byte of the response. With HTTP/2 also for the connection, which is shared.
    FirstByte,
    /// For the bytes to come.
    Transferring,
    /// For `--bwlimit`, or the rate of its source.
    Throttled,
    /// For the pause after a failure of the server or the file.
    BackingOff,
    /// For the disk of the cache.
    Disk,
}

impl Phase {
    /// All of them, in the order of a read.
    pub(crate) const ALL: [Phase; 8] = [
        Phase::Queued,
        Phase::Connecting,
        Phase::Tls,
        Phase::FirstByte,
        Phase::Transferring,
        Phase::Throttled,
        Phase::BackingOff,
        Phase::Disk,
    ];

    /// The fetch that the current task carries out, if any, enters this phase.
    pub(crate) fn enter(self) {
        // An error means that the task is no fetch.
        let _ = CURRENT.try_with(|cell| cell.set(self));
    }

    /// The fetch that the current task carries out, if any, enters this phase if it is in phase `from`.
    pub(crate) fn enter_from(self, from: Phase) {
        let _ = CURRENT.try_with(|cell| {
            if cell.get() == from {
                cell.set(self);
            }
        });
    }
}

/// How long something was in each phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PhaseTimes([Duration; Phase::ALL.len()]);

impl PhaseTimes {
    /// Adds time in a phase.
    pub(crate) fn add(&mut self, phase: Phase, time: Duration) {
        self.0[phase as usize] += time;
    }

    /// The time since `before`, an earlier reading of the same cell.
    pub(crate) fn since(&self, before: &PhaseTimes) -> PhaseTimes {
        PhaseTimes(std::array::from_fn(|at| self.0[at].saturating_sub(before.0[at])))
    }

    /// All of it together.
    pub(crate) fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// The phase in which most of the time was spent; of several, the one that comes last in a read.
    pub(crate) fn longest(&self) -> Phase {
        let all = Phase::ALL.into_iter();
        all.max_by_key(|&phase| self[phase]).unwrap_or(Phase::Disk)
    }
}

impl Index<Phase> for PhaseTimes {
    type Output = Duration;

    fn index(&self, phase: Phase) -> &Duration {
        &self.0[phase as usize]
    }
}

impl AddAssign for PhaseTimes {
    fn add_assign(&mut self, more: PhaseTimes) {
        self.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    }
}

/// The phase of one fetch, and how long it was in each.
#[derive(Debug)]
pub(crate) struct PhaseCell(Mutex<PhaseClock>);

/// **Locked for the moment of a change or a reading; no other lock is taken under it.**
#[derive(Debug)]
struct PhaseClock {
    phase: Phase,
    since: Instant,
    /// Without the current phase.
    times: PhaseTimes,
}

impl Default for PhaseCell {
    fn default() -> PhaseCell {
        PhaseCell(Mutex::new(PhaseClock {
            phase: Phase::Queued,
            since: Instant::now(),
            times: PhaseTimes::default(),
        }))
    }
}

impl PhaseCell {
    /// The cell of the fetch that the current task carries out.
    pub(crate) fn current() -> Option<Arc<PhaseCell>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs `fetch`, whose phases are noted here.
    pub(crate) async fn track<T>(self: Arc<PhaseCell>, fetch: impl Future<Output = T>) -> T {
        CURRENT.scope(self, fetch).await
    }

    /// Enters a phase.
    pub(crate) fn set(&self, phase: Phase) {
        let mut clock = self.0.lock();
        if clock.phase == phase {
            return;
        }
        let now = Instant::now();
        let (before, time) = (clock.phase, now.saturating_duration_since(clock.since));
        clock.times.add(before, time);
        (clock.phase, clock.since) = (phase, now);
    }

    /// The current phase.
    pub(crate) fn get(&self) -> Phase {
        self.0.lock().phase
    }

    /// How long the fetch was in each phase up to `now`.
    pub(crate) fn times(&self, now: Instant) -> PhaseTimes {
        let clock = self.0.lock();
        let mut times = clock.times;
        times.add(clock.phase, now.saturating_duration_since(clock.since));
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_are_those_of_the_own_task() {
        let cell = Arc::<PhaseCell>::default();
        assert_eq!(cell.get(), Phase::Queued);
        Phase::Throttled.enter();
        assert_eq!(cell.get(), Phase::Queued);
        for phase in Phase::ALL {
            Arc::clone(&cell).track(async { phase.enter() }).await;
            assert_eq!(cell.get(), phase);
        }
        let task = Arc::clone(&cell);
        let change = async {
            Phase::Queued.enter_from(Phase::Throttled);
            assert_eq!(cell.get(), Phase::Disk);
            Phase::Queued.enter_from(Phase::Disk);
        };
        task.track(change).await;
        assert_eq!(cell.get(), Phase::Queued);
        assert!(PhaseCell::current().is_none());
    }

    #[test]
    fn cell_adds_up_its_phases() {
        let cell = PhaseCell::default();
        let begun = cell.0.lock().since;
        let at = |ms| begun + Duration::from_millis(ms);
        // The clock is set back, so that the phases have the length that the test wants.
        cell.0.lock().since -= Duration::from_secs(3600);
        cell.set(Phase::FirstByte);
        cell.0.lock().since = begun;
        let before = cell.times(at(10));
        assert!(before[Phase::Queued] >= Duration::from_secs(3600));
        assert_eq!(before[Phase::FirstByte], Duration::from_millis(10));
        let waited = cell.times(at(250)).since(&before);
        assert_eq!(waited.total(), Duration::from_millis(240));
        assert_eq!(waited.longest(), Phase::FirstByte);
        assert_eq!(waited[Phase::Queued], Duration::ZERO);
    }

    #[test]
    fn times_add_up_and_name_the_longest() {
        let mut times = PhaseTimes::default();
        assert_eq!(times.longest(), Phase::Disk, "without a wait, only the disk is left");
        times.add(Phase::Connecting, Duration::from_millis(3));
        let mut more = PhaseTimes::default();
        more.add(Phase::Throttled, Duration::from_millis(5));
        more.add(Phase::Connecting, Duration::from_millis(1));
        times += more;
        assert_eq!(times.total(), Duration::from_millis(9));
        assert_eq!(
            (times.longest(), times[Phase::Connecting].as_millis()),
            (Phase::Throttled, 4)
        );
    }
}
