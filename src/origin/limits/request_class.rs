//! The classes of requests to an origin, which its limits distinguish.

use std::time::Duration;

use tokio::time::Instant;

/// How much later a request for bytes is due than one for names. A round trip or two: a walk over a directory sends its
/// next request when the previous one is answered.
pub(super) const BYTES_YIELD: Duration = Duration::from_millis(300);

/// Maximum time to wait for a hint.
const HINT_PATIENCE: Duration = Duration::from_secs(1);

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Listings, metadata, probes.
    Names,
    /// A HEAD. Its response is a hint, and the GET that decides is still to be sent.
    Hint,
    /// Bytes of files.
    Bytes,
}

impl RequestClass {
    /// Maximum time without data, where `timeout` is the client's.
    pub(crate) fn patience(self, timeout: Duration) -> Duration {
        match self {
            RequestClass::Hint => HINT_PATIENCE.min(timeout),
            RequestClass::Names | RequestClass::Bytes => timeout,
        }
    }

    /// When a request that arrives now is due for a connection.
    pub(super) fn due(self, now: Instant) -> Instant {
        match self {
            RequestClass::Names | RequestClass::Hint => now,
            RequestClass::Bytes => now + BYTES_YIELD,
        }
    }
}
