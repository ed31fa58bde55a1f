//! How long reads took, by what they waited for, and why their bytes were not here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cache::OpenReaders;
use crate::stats::{BOUNDS_US, HistogramTotals, MissReason, Phase};

/// The reads since the mount began. **All counts only grow.** Reads that failed, and those that the kernel carries out by
/// itself (passthrough), are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reads {
    /// The upper bounds of the buckets, in microseconds, inclusive.
    pub bounds_us: Vec<u64>,
    /// Reads that did not wait.
    pub cached: Latency,
    /// Reads that waited, each once: by what it waited for longest.
    pub waited: BTreeMap<Phase, Latency>,
    /// Number of the reads that waited, by the reason for which their bytes were not here.
    pub misses: BTreeMap<MissReason, u64>,
}

/// How long some reads took, from the kernel's request to the bytes in its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Number of these reads.
    pub count: u64,
    /// The sum of their times, in microseconds.
    pub sum_us: u64,
    /// Number of reads up to each bound and above the one before it; at last the number above all bounds.
    pub buckets: Vec<u64>,
}

impl From<HistogramTotals> for Latency {
    fn from(totals: HistogramTotals) -> Latency {
        Latency {
            count: totals.count(),
            sum_us: totals.nanoseconds / 1000,
            buckets: totals.buckets.into(),
        }
    }
}

impl Reads {
    /// Of all files of a mount.
    pub(super) fn of(readers: &OpenReaders) -> Reads {
        let misses = readers.misses();
        Reads {
            bounds_us: BOUNDS_US.into(),
            cached: readers.totals().hit_latency.into(),
            waited: misses.latency().map(|(phase, totals)| (phase, totals.into())).collect(),
            misses: misses.reasons().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_reason_is_there_from_the_beginning() {
        let reads = Reads::of(&OpenReaders::default());
        assert_eq!(
            (reads.waited.len(), reads.misses.len()),
            (Phase::ALL.len(), MissReason::ALL.len())
        );
        assert_eq!(reads.cached.buckets.len(), reads.bounds_us.len() + 1);
        let json = serde_json::to_value(&reads).unwrap();
        assert_eq!(json["waited"]["first_byte"]["count"], 0);
        assert_eq!(json["misses"]["not_cached"], 0);
    }
}
