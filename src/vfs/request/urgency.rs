//! How urgent a request is, which decides how hard it tries.

use std::time::Duration;

use tokio::time::Instant;

/// How urgent a request is.
#[derive(Debug, Clone, Copy)]
pub(in crate::vfs) enum Urgency {
    /// There is no older answer, and the caller waits until this deadline. The request retries until then, through
    /// outages and refusals. It shares the origin's health with all other requests and obeys `Retry-After`.
    Waiting(Instant),
    /// An older answer exists. The first failure ends the request, and an unhealthy origin is not asked.
    Refreshing,
    /// A prefetch: the answer may be wanted next. Only a healthy origin is asked.
    Prefetching,
}

impl Urgency {
    /// The urgency of a caller that begins to wait now, for at most `patience`.
    pub(super) fn waiting(patience: Duration) -> Urgency {
        Urgency::Waiting(after(patience))
    }

    /// The deadline of a request that begins now, given the caller's maximum wait.
    pub(super) fn deadline(self, patience: Duration) -> Instant {
        match self {
            Urgency::Waiting(until) => until,
            Urgency::Refreshing | Urgency::Prefetching => after(patience),
        }
    }

    /// The urgency of the same caller once it has an older answer.
    pub(in crate::vfs) fn with_older_answer(self) -> Urgency {
        match self {
            Urgency::Waiting(_) | Urgency::Refreshing => Urgency::Refreshing,
            Urgency::Prefetching => Urgency::Prefetching,
        }
    }

    /// Whether this is a prefetch.
    pub(in crate::vfs) fn is_prefetch(self) -> bool {
        matches!(self, Urgency::Prefetching)
    }
}

/// The instant after `patience`. A time beyond the clock's range becomes a distant one.
fn after(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 30))
}
