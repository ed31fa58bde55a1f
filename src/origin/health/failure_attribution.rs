//! Failure attribution: whether the requested resource or the origin is at fault for a 502, 503 or 504, a timeout, or a
//! connection closed without a response.
//!
//! The response alone does not show it. The rules:
//!
//! - The resource is at fault until another resource fails as well and the origin has responded to nothing in between.
//! - A resource that keeps failing while others succeed says nothing about the origin any more.
//! - A failed connection, 429 and `Retry-After` are the origin's at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::{HttpError, HttpErrorKind};

/// How long a failing resource is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Maximum number of failing resources remembered per origin. A forgotten one is attributed to the origin half a minute
/// sooner.
pub(super) const MOST_FAILING: usize = 64;

/// What a failure is attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAttribution {
    /// All requests to the origin wait.
    Origin,
    /// The resource alone: no other request waits.
    Resource,
}

/// A resource that was answered with 502, 503 or 504.
struct Failing {
    /// A hash of its URL.
    resource: u64,
    /// The last failure.
    at: Instant,
    /// The origin has answered other requests since it began to fail.
    is_by_itself: bool,
}

/// The resources that have failed since the origin was last known to be down, oldest first.
#[derive(Default)]
pub(super) struct Failures(Vec<Failing>);

impl Failures {
    /// Attributes a failure of an origin that is not paused.
    pub fn blame(&mut self, error: &HttpError, now: Instant) -> FailureAttribution {
        let may_be_its_own = matches!(
            error.kind,
            HttpErrorKind::Status {
                status: 502..=504,
                retry_after: None
            } | HttpErrorKind::TimedOut(_)
                | HttpErrorKind::Unanswered
        );
        if !may_be_its_own {
            return FailureAttribution::Origin;
        }
        let resource = error.url.resource();
        let mut before = self.0.iter();
        let is_by_itself = before.any(|failing| failing.is_by_itself && failing.resource == resource);
        self.0
            .retain(|failing| failing.resource != resource && now.saturating_duration_since(failing.at) < REMEMBERED);
        if self.0.len() >= MOST_FAILING {
            self.0.remove(0);
        }
        self.0.push(Failing {
            resource,
            at: now,
            is_by_itself,
        });
        let witnesses = self.0.iter().filter(|failing| !failing.is_by_itself);
        if is_by_itself || witnesses.count() < 2 {
            FailureAttribution::Resource
        } else {
            self.0.clear();
            FailureAttribution::Origin
        }
    }

    /// The origin has responded to a request.
    pub fn answered(&mut self) {
        self.0.iter_mut().for_each(|failing| failing.is_by_itself = true);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
