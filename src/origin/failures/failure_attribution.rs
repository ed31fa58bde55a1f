//! Failure attribution: what is at fault when a request fails before its response brings a byte.
//!
//! The failure looks the same in all cases (503, say), but each needs its own reaction:
//!
//! - Too many requests at once: fewer requests, and a retry as soon as there is a connection.
//! - Too many requests per second: requests begin at intervals.
//! - The resource: only it is retried, with growing pauses, until its retries are used up.
//! - The origin: all its requests wait.
//!
//! [`FailureEvidence::attribute`] is the one rule, for fetches, listings and metadata alike. The other requests to the origin
//! decide:
//!
//! - **No other request is served**: the origin is down, or overloaded.
//! - **Others are served**: the number or the resource is at fault. A server that refuses for the number accepts the
//!   request when fewer are in flight. So the resource is at fault if it was refused before, others have been answered
//!   since, and no more were in flight now than were seen served at once. It is also at fault if servers never send this
//!   answer for the number of requests.
//! - **Several are refused within seconds, and others are answered**: the rate is at fault.
//! - **It is the only resource that fails**: nothing shows that the origin is down. The resource is at fault until
//!   another one fails as well and the origin has responded to nothing in between.
//! - A failed connection, 429 and `Retry-After` are the origin's at once.

use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::http::{HttpError, HttpErrorKind};

/// How long a failing resource is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Maximum number of failing resources remembered per origin. A forgotten one is attributed to the origin half a minute
/// sooner.
pub(super) const MOST_FAILING: usize = 64;

/// What a failure is attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAttribution {
    /// The number of requests at once.
    ConnectionCount,
    /// The number of requests per second.
    RequestRate,
    /// The resource alone: no other request waits.
    Resource,
    /// All requests to the origin wait.
    Origin,
}

/// What is known when a request fails. Each fact is false unless it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FailureEvidence {
    /// The failure says nothing about the resource: the connection failed.
    pub is_connect_failure: bool,
    /// `Some` if the server denies access; true if the denial is to be believed.
    pub is_denied: Option<bool>,
    /// Servers send this answer for too many requests.
    pub fits_too_many: bool,
    /// It is one of several resources that were refused within seconds, while others are answered.
    pub is_one_of_several: bool,
    /// The last request for the resource failed too, and the resource was at fault.
    pub was_the_resource: bool,
    /// The last request for the resource failed too, and others have been answered since.
    pub others_were_answered: bool,
    /// Others have been answered, and their bytes are coming.
    pub others_are_served: bool,
    /// No more requests are in flight than were seen to be served at once.
    pub are_few: bool,
    /// No other resource of the origin has failed since the origin last answered.
    pub is_the_only_one: bool,
}

impl FailureEvidence {
    /// What the failure is attributed to.
    pub(crate) fn attribute(self) -> FailureAttribution {
        match self {
            _ if self.is_connect_failure => FailureAttribution::Origin,
            FailureEvidence {
                is_denied: Some(true), ..
            } => FailureAttribution::Resource,
            FailureEvidence {
                is_denied: Some(false), ..
            } => FailureAttribution::ConnectionCount,
            _ if self.is_one_of_several && (self.are_few || !self.others_are_served) => FailureAttribution::RequestRate,
            // Even if no other request is in flight whose answer would show it.
            _ if self.was_the_resource => FailureAttribution::Resource,
            _ if self.others_were_answered && (self.are_few || !self.others_are_served) => FailureAttribution::Resource,
            _ if !self.others_are_served && !self.is_the_only_one => FailureAttribution::Origin,
            _ if self.others_are_served && self.fits_too_many => FailureAttribution::ConnectionCount,
            _ => FailureAttribution::Resource,
        }
    }
}

/// A resource that has failed.
struct FailingResource {
    resource: Url,
    /// The last failure.
    at: Instant,
    /// The origin has answered other requests since it began to fail.
    is_by_itself: bool,
}

/// The resources that have failed since the origin was last known to be down, oldest first.
#[derive(Default)]
pub(super) struct FailingResources(Vec<FailingResource>);

impl FailingResources {
    /// Attributes a failure of an origin that is not paused.
    pub(super) fn attribute(&mut self, error: &HttpError, now: Instant) -> FailureAttribution {
        let may_be_its_own = matches!(
            error.kind,
            HttpErrorKind::Status {
                status: 502..=504,
                retry_after: None
            } | HttpErrorKind::TimedOut(_)
                | HttpErrorKind::Unanswered
        );
        let resource = error.url.url();
        if !may_be_its_own {
            return FailureAttribution::Origin;
        }
        let mut before = self.0.iter();
        let is_by_itself = before.any(|failing| failing.is_by_itself && failing.resource == *resource);
        self.0
            .retain(|failing| failing.resource != *resource && now.saturating_duration_since(failing.at) < REMEMBERED);
        if self.0.len() >= MOST_FAILING {
            self.0.remove(0);
        }
        self.0.push(FailingResource {
            resource: resource.clone(),
            at: now,
            is_by_itself,
        });
        let witnesses = self.0.iter().filter(|failing| !failing.is_by_itself);
        let evidence = FailureEvidence {
            others_were_answered: is_by_itself,
            is_the_only_one: witnesses.count() < 2,
            ..FailureEvidence::default()
        };
        let attribution = evidence.attribute();
        if attribution == FailureAttribution::Origin {
            self.0.clear();
        }
        attribution
    }

    /// The origin has responded to a request.
    pub(super) fn answered(&mut self) {
        self.0.iter_mut().for_each(|failing| failing.is_by_itself = true);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_requests_decide() {
        use FailureAttribution::*;
        let nothing = FailureEvidence::default();
        let served = FailureEvidence {
            others_are_served: true,
            ..nothing
        };
        let too_many = FailureEvidence {
            fits_too_many: true,
            ..served
        };
        let again = FailureEvidence {
            others_were_answered: true,
            ..too_many
        };
        let denied = |is_denied| FailureEvidence {
            is_denied: Some(is_denied),
            ..too_many
        };
        for (evidence, expected) in [
            (nothing, Origin),
            (
                FailureEvidence {
                    is_the_only_one: true,
                    ..nothing
                },
                Resource,
            ),
            (
                FailureEvidence {
                    is_connect_failure: true,
                    ..again
                },
                Origin,
            ),
            (served, Resource),
            (too_many, ConnectionCount),
            (again, ConnectionCount),
            (FailureEvidence { are_few: true, ..again }, Resource),
            (
                FailureEvidence {
                    others_are_served: false,
                    ..again
                },
                Resource,
            ),
            (
                FailureEvidence {
                    was_the_resource: true,
                    ..too_many
                },
                Resource,
            ),
            (
                FailureEvidence {
                    is_one_of_several: true,
                    ..too_many
                },
                ConnectionCount,
            ),
            (
                FailureEvidence {
                    is_one_of_several: true,
                    are_few: true,
                    ..again
                },
                RequestRate,
            ),
            (denied(true), Resource),
            (denied(false), ConnectionCount),
        ] {
            assert_eq!(evidence.attribute(), expected, "{evidence:?}");
        }
    }
}
