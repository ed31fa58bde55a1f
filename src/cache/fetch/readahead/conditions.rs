//! What read-ahead has to know of the origin.

use std::time::Duration;

/// What a decision depends on beside the reads. Queried only when a window may change.
pub(crate) trait Conditions {
    /// The time since a fixed moment.
    fn now(&self) -> Duration;

    /// Maximum bytes that the origin's connections can make use of at a time.
    fn useful_window(&self) -> u64;

    /// Returns true if more files are read from the origin than it gets connections.
    fn is_crowded(&self) -> bool;
}
