//! The retry policy of a request, for bytes, listings and metadata alike: given a failure and what it is attributed to,
//! whether the request is sent again, and when.
//!
//! - A failure of the resource alone uses up a retry. The pauses double.
//! - A failure that other requests share (the origin's, the rate's) uses up none: each waiter has a deadline of its
//!   own, and the origin's [`Health`](super::Health) says when it may be asked again.
//! - A resource that is being prepared (202), and a lack of descriptors, use up none either.
//! - Progress restores all retries.
//! - 403 may mean that too many requests are in flight, so it is doubted while there are others.
//! - With `--retries 0`, nothing is sent again.

use std::time::Duration;

use super::{backoff::Backoff, failure_attribution::FailureAttribution};
use crate::http::HttpErrorKind;

/// The first pause. It doubles each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that uses up no retry, unless the server asks for more. The origin's health sets none then.
const LONGEST_SHARED: Duration = Duration::from_secs(2);

/// The pause before a resource that is being prepared is requested again, if the server names none, and its minimum: a
/// server that names 0 must not be asked without end.
const UNTIL_READY: Duration = Duration::from_secs(2);
const LEAST_UNTIL_READY: Duration = Duration::from_secs(1);

/// How long a request without a descriptor for its connection waits for others to close theirs.
const UNTIL_DESCRIPTORS: Duration = Duration::from_millis(500);

/// The pause after a 403 that is doubted. It is spread by half, up and down.
const DENIED_PAUSE: Duration = Duration::from_millis(250);

/// Number of 403s until one is believed, once there were other requests: with none of them in flight, with few, and
/// with any number. More than one, as a server notices late that a connection has become free.
const DENIALS_ALONE: u32 = 2;
const DENIALS_WITH_FEW: u32 = 3;
const MOST_DENIALS: u32 = 12;

/// The failures of one request so far, or of all requests for one resource.
#[derive(Debug, Clone)]
pub struct Retry {
    retries: u32,
    /// The pauses that use up retries.
    own: Backoff,
    /// The pauses that use up none.
    shared: Backoff,
    denials: u32,
    denials_alone: u32,
    denials_with_few: u32,
}

/// The other requests to the origin, while one was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherRequests {
    /// None was in flight.
    None,
    /// No more than the origin was seen to serve at once.
    Few,
    /// Any number.
    Many,
}

impl Retry {
    /// The policy with this many tries after the first.
    pub fn new(retries: u32) -> Retry {
        Retry {
            retries,
            own: Backoff::new(FIRST_PAUSE, retries),
            shared: Backoff::up_to(FIRST_PAUSE, LONGEST_SHARED),
            denials: 0,
            denials_alone: 0,
            denials_with_few: 0,
        }
    }

    /// The pause before the request is sent again. `None` if the failure is final.
    pub fn after(&mut self, kind: &HttpErrorKind, attribution: FailureAttribution) -> Option<Duration> {
        if self.retries == 0 || !kind.is_temporary() {
            return None;
        }
        match kind {
            HttpErrorKind::NotReady { retry_after } => Some(retry_after.unwrap_or(UNTIL_READY).max(LEAST_UNTIL_READY)),
            HttpErrorKind::NoDescriptors => Some(UNTIL_DESCRIPTORS),
            _ if kind.is_of_the_origin() && attribution != FailureAttribution::Resource => {
                self.shared.next_after(kind.retry_after())
            }
            _ => self.own.next_after(kind.retry_after()),
        }
    }

    /// [`Self::after`] a 403, with these other requests in flight.
    pub fn after_denial(&mut self, others: OtherRequests) -> Option<Duration> {
        let is_final = self.retries == 0 || self.is_denied(others);
        (!is_final).then(|| DENIED_PAUSE.mul_f64(0.5 + fastrand::f64()))
    }

    /// Notes a 403. Returns true if it is to be believed.
    pub fn is_denied(&mut self, others: OtherRequests) -> bool {
        self.denials += 1;
        self.denials_alone += u32::from(others == OtherRequests::None);
        self.denials_with_few += u32::from(others != OtherRequests::Many);
        let was_doubted = self.denials > self.denials_alone;
        self.denials_alone >= if was_doubted { DENIALS_ALONE } else { 1 }
            || self.denials_with_few >= DENIALS_WITH_FEW
            || self.denials >= MOST_DENIALS
    }

    /// After progress: restores all retries, and the short first pause.
    pub fn reset(&mut self) {
        self.own.reset();
        self.shared.reset();
    }

    /// The policy of the resource that a request is for, with all its retries.
    pub fn of_resource(&self) -> Retry {
        Retry::new(self.retries)
    }

    /// The resource is at fault after all: the pauses that `request` made while that was in doubt count as used.
    pub fn catch_up_with(&mut self, request: &Retry) {
        self.own.catch_up_with(&request.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: HttpErrorKind = HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };

    fn pauses(retry: &mut Retry, kind: &HttpErrorKind, attribution: FailureAttribution) -> usize {
        let pauses = std::iter::from_fn(|| retry.after(kind, attribution));
        pauses.take(20).count()
    }

    #[test]
    fn only_the_resource_uses_up_retries() {
        let mut retry = Retry::new(2);
        for attribution in [FailureAttribution::Origin, FailureAttribution::RequestRate] {
            assert_eq!(pauses(&mut retry, &BUSY, attribution), 20);
        }
        for kind in [
            HttpErrorKind::NotReady { retry_after: None },
            HttpErrorKind::NoDescriptors,
        ] {
            assert_eq!(pauses(&mut retry, &kind, FailureAttribution::Resource), 20);
        }
        // A broken answer is the resource's, whatever else is known.
        assert_eq!(
            pauses(&mut retry, &HttpErrorKind::Interrupted, FailureAttribution::Origin),
            2
        );
        retry.reset();
        assert_eq!(pauses(&mut retry, &BUSY, FailureAttribution::Resource), 2);
    }

    #[test]
    fn final_failures_are_not_retried() {
        for kind in [HttpErrorKind::NotFound(404), HttpErrorKind::Denied(401)] {
            assert_eq!(Retry::new(3).after(&kind, FailureAttribution::Origin), None);
        }
        assert_eq!(Retry::new(0).after(&BUSY, FailureAttribution::Origin), None);
        assert_eq!(Retry::new(0).after_denial(OtherRequests::Many), None);
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let asked = Duration::from_secs(20);
        let kind = HttpErrorKind::Status {
            status: 429,
            retry_after: Some(asked),
        };
        for attribution in [FailureAttribution::Origin, FailureAttribution::Resource] {
            let pause = Retry::new(1).after(&kind, attribution).unwrap();
            assert!(pause >= asked && pause <= asked * 2, "{pause:?}");
        }
    }

    #[test]
    fn pauses_in_doubt_count_once_the_resource_is_at_fault() {
        let (mut request, mut resource) = (Retry::new(3), Retry::new(3));
        request.after(&BUSY, FailureAttribution::Origin).unwrap();
        request.after(&BUSY, FailureAttribution::Origin).unwrap();
        resource.catch_up_with(&request);
        assert_eq!(pauses(&mut resource, &BUSY, FailureAttribution::Resource), 1);
    }

    #[test]
    fn denial_is_doubted_while_others_are_in_flight() {
        use OtherRequests::*;
        for (seen, tries) in [
            (&[None][..], 1),
            (&[Many, None, None], 3),
            (&[Few; 3], 3),
            (&[Many; 12], 12),
        ] {
            let mut retry = Retry::new(3);
            let doubted = seen.iter().take_while(|&&others| retry.after_denial(others).is_some());
            assert_eq!(doubted.count() + 1, tries, "{seen:?}");
        }
    }
}
