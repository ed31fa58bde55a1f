//! How long reads took: histograms with fixed bounds.

use std::ops::AddAssign;
use std::time::Duration;

use super::counter::Counter;

/// Upper bounds of the buckets, in microseconds, inclusive. Three to a power of ten where a user notices the difference,
/// from what a cached read takes to what a program gives up after.
pub(crate) const BOUNDS_US: [u64; 19] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
];

/// One for each bound, and one for what took longer.
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Counts durations by their length.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    nanoseconds: Counter,
}

/// What a [`Histogram`] has counted. Only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HistogramTotals {
    /// Number of durations up to each of [`BOUNDS_US`] and above the one before it; at last the number above all.
    pub buckets: [u64; BUCKETS],
    /// The sum of all durations, in nanoseconds.
    pub nanoseconds: u64,
}

impl Histogram {
    /// Counts a duration.
    pub(crate) fn note(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1000 < nanoseconds);
        self.buckets[bucket].add(1);
        self.nanoseconds.add(nanoseconds);
    }

    /// The durations so far.
    pub(crate) fn totals(&self) -> HistogramTotals {
        HistogramTotals {
            buckets: std::array::from_fn(|at| self.buckets[at].get()),
            nanoseconds: self.nanoseconds.get(),
        }
    }
}

impl HistogramTotals {
    /// Number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl AddAssign for HistogramTotals {
    fn add_assign(&mut self, more: HistogramTotals) {
        let pairs = self.buckets.iter_mut().zip(more.buckets);
        pairs.for_each(|(sum, more)| *sum += more);
        self.nanoseconds += more.nanoseconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_counted_up_to_its_bound() {
        let histogram = Histogram::default();
        for time in [0, 100_000, 100_001, 120_000_000_000, 120_000_000_001] {
            histogram.note(Duration::from_nanos(time));
        }
        let totals = histogram.totals();
        assert_eq!((totals.buckets[0], totals.buckets[1]), (2, 1));
        assert_eq!(totals.buckets[BUCKETS - 2..], [1, 1]);
        assert_eq!((totals.count(), totals.nanoseconds), (5, 240_000_200_002));
    }

    #[test]
    fn totals_of_several_histograms_add_up() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.note(Duration::from_millis(3));
        other.note(Duration::from_millis(4));
        other.note(Duration::from_secs(1000));
        let mut sum = one.totals();
        sum += other.totals();
        assert_eq!((sum.count(), sum.buckets[5], sum.buckets[BUCKETS - 1]), (3, 2, 1));
        assert_eq!(sum.nanoseconds, 1_000_007_000_000);
    }

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS_US.is_sorted_by(|one, next| one < next));
    }
}
