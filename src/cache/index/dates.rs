//! Times in columns: seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970, for a column.
pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// The time of a column in seconds since 1970.
pub(super) fn date(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
}
