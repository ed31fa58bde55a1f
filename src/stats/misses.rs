//! Reads that had to wait: what for, for how long, and why their bytes were not here.

use std::time::Duration;

use super::counter::Counter;
use super::latency::{Histogram, HistogramTotals};
use super::phase::{Phase, PhaseTimes};

/// Why a read was a miss, as this mount knows it at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MissReason {
    /// The cache does not have the bytes. Either they were never fetched, or they were evicted while the file was not
    /// open: nothing records evicted chunks.
    NotCached,
    /// The cache does not have the bytes of this version of the file. It had bytes of another version when this one was
    /// first opened.
    VersionChanged,
    /// They were evicted since the file was opened.
    Evicted,
    /// They were on their way: a fetch for read-ahead, a prefetch or another reader had begun, and was not fast enough.
    InFlight,
    /// They were in the cache, and could be used only once the server had named the version of the file.
    Unconfirmed,
    /// They were in the cache, and had to be compared with their checksum first: after a crash, or because another
    /// program has changed the file.
    Unverified,
    /// The cache has lost them: they could not be read back, or were wrong.
    Lost,
    /// The cache can't hold them now, so they are fetched for each reader.
    Bypass,
}

impl MissReason {
    /// All of them.
    pub(crate) const ALL: [MissReason; 8] = [
        MissReason::NotCached,
        MissReason::VersionChanged,
        MissReason::Evicted,
        MissReason::InFlight,
        MissReason::Unconfirmed,
        MissReason::Unverified,
        MissReason::Lost,
        MissReason::Bypass,
    ];
}

/// The misses of one mount. A miss takes a network's time, so that all handles count here.
#[derive(Debug, Default)]
pub(crate) struct MissStats {
    /// By the phase in which most of the wait was spent.
    latency: [Histogram; Phase::ALL.len()],
    reasons: [Counter; MissReason::ALL.len()],
}

impl MissStats {
    /// A read that took `time` has waited as `times` say, because its bytes were not here for this reason.
    pub(crate) fn note(&self, time: Duration, times: &PhaseTimes, reason: MissReason) {
        self.latency[times.longest() as usize].note(time);
        self.reasons[reason as usize].add(1);
    }

    /// The time that reads took, by the phase in which most of their wait was spent.
    pub(crate) fn latency(&self) -> impl Iterator<Item = (Phase, HistogramTotals)> {
        let all = Phase::ALL.into_iter();
        all.map(|phase| (phase, self.latency[phase as usize].totals()))
    }

    /// Number of misses for each reason.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = (MissReason, u64)> {
        let all = MissReason::ALL.into_iter();
        all.map(|reason| (reason, self.reasons[reason as usize].get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miss_counts_once_under_its_longest_phase() {
        let stats = MissStats::default();
        let mut times = PhaseTimes::default();
        times.add(Phase::FirstByte, Duration::from_millis(30));
        times.add(Phase::Transferring, Duration::from_millis(5));
        stats.note(Duration::from_millis(36), &times, MissReason::Evicted);
        let counted: Vec<_> = stats.latency().filter(|(_, totals)| totals.count() > 0).collect();
        assert_eq!(counted.len(), 1);
        assert_eq!((counted[0].0, counted[0].1.nanoseconds), (Phase::FirstByte, 36_000_000));
        let reasons: Vec<_> = stats.reasons().filter(|(_, count)| *count > 0).collect();
        assert_eq!(reasons, [(MissReason::Evicted, 1)]);
    }

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        let phases = Phase::ALL.into_iter().enumerate();
        assert!(phases.into_iter().all(|(at, phase)| phase as usize == at));
        let reasons = MissReason::ALL.into_iter().enumerate();
        assert!(reasons.into_iter().all(|(at, reason)| reason as usize == at));
    }
}
