//! Counters and gauges: one relaxed atomic each.

use std::sync::atomic::{AtomicU64, Ordering};

/// A total that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The total so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that go on now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

/// One of the things that a [`Gauge`] counts, until it is dropped.
#[must_use = "what it counts ends when it is dropped"]
pub(crate) struct Counted<'a>(&'a Gauge);

impl Gauge {
    /// Counts one more.
    pub(crate) fn begin(&self) -> Counted<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }

    /// How many go on now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_follows_what_goes_on() {
        let gauge = Gauge::default();
        let (one, other) = (gauge.begin(), gauge.begin());
        assert_eq!(gauge.get(), 2);
        drop((one, other));
        assert_eq!(gauge.get(), 0);
    }
}
