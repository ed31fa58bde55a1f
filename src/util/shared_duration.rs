//! A time that several parts of the program share, and that can be changed while they use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A time in whole milliseconds. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct SharedDuration(Arc<AtomicU64>);

impl SharedDuration {
    /// Starts with this time.
    pub(crate) fn new(time: Duration) -> SharedDuration {
        SharedDuration(Arc::new(AtomicU64::new(millis(time))))
    }

    /// The current time.
    pub(crate) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Changes it, for all clones.
    pub(crate) fn set(&self, time: Duration) {
        self.0.store(millis(time), Ordering::Relaxed);
    }
}

impl PartialEq for SharedDuration {
    fn eq(&self, other: &SharedDuration) -> bool {
        self.get() == other.get()
    }
}

impl Eq for SharedDuration {}

/// Rounded up, so that a time above zero stays above zero.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl From<Duration> for SharedDuration {
    fn from(time: Duration) -> SharedDuration {
        SharedDuration::new(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_time() {
        let one = SharedDuration::new(Duration::from_secs(10));
        let other = one.clone();
        other.set(Duration::from_micros(1));
        assert_eq!(one.get(), Duration::from_millis(1));
        other.set(Duration::ZERO);
        assert_eq!(one.get(), Duration::ZERO);
    }
}
