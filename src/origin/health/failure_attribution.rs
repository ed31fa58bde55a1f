//! Who is to blame for a 502, 503 or 504, for silence and for a connection that is closed unanswered: what was asked for, or the origin.
//!
//! The answer alone does not say. It is laid to the thing until another one fails as well, and the origin has answered nothing
//! in between. What goes on failing while others are answered says nothing about the origin any more. No connection,
//! 429 and `Retry-After` are the origin's at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::http::{HttpError, HttpErrorKind};

/// How long it is remembered that something failed by itself.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Things of an origin that are remembered as failing, at most. What is forgotten is laid to the origin half a minute sooner.
pub(super) const MOST_FAILING: usize = 64;

/// What a failure is laid to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAttribution {
    /// All who ask it wait.
    Origin,
    /// What was asked about, and nobody else has to wait for that.
    Resource,
}

/// Something of an origin that was answered with 502, 503 or 504.
struct Failing {
    /// A hash of its URL.
    resource: u64,
    /// The last time.
    at: Instant,
    /// The origin has answered others since it began.
    is_by_itself: bool,
}

/// What has failed of an origin since it was last known to be down, the oldest first.
#[derive(Default)]
pub(super) struct Failures(Vec<Failing>);

impl Failures {
    /// What is to blame for a failure of an origin that is not left alone.
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

    /// The origin has answered somebody.
    pub fn answered(&mut self) {
        self.0.iter_mut().for_each(|failing| failing.is_by_itself = true);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
