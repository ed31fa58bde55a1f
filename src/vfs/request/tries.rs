//! What a failure of a request means: whether to try again, and whom the failure concerns.
//!
//! **A failure uses up retries if the origin answers other requests meanwhile.** Then it says nothing of the origin's
//! health, and only this request waits. So a single name that a server drops ends in an error after seconds. A 403
//! beside other requests may be a rate limit: the request is repeated with fewer others in flight before the 403
//! counts.

use std::time::Duration;

use super::urgency::Urgency;
use crate::http::{HttpError, HttpErrorKind, Origin};
use crate::origin::{FailureAttribution, FailureEvidence, OtherRequests, Retry};

/// Retry state of one request.
pub(super) struct Tries {
    retry: Retry,
    /// The origin's answer count at the first failure.
    answers_before: Option<u64>,
}

/// Other traffic at the origin when a request fails.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside {
    /// Number of answers from the origin so far, to any request.
    pub(super) answers: u64,
    /// Whether other requests are in flight.
    pub(super) has_others: bool,
}

impl Tries {
    pub(super) fn new(retries: u32) -> Tries {
        Tries {
            retry: Retry::new(retries),
            answers_before: None,
        }
    }

    /// The pause before the next try; `None` if the failure is to be reported.
    pub(super) fn after(&mut self, kind: &HttpErrorKind, urgency: Urgency, beside: Beside) -> Option<Duration> {
        if !matches!(urgency, Urgency::Waiting(_)) {
            return None;
        }
        if *kind == HttpErrorKind::Denied(403) {
            let others = if beside.has_others {
                OtherRequests::Many
            } else {
                OtherRequests::None
            };
            return self.retry.after_denial(others);
        }
        let before = *self.answers_before.get_or_insert(beside.answers);
        let evidence = FailureEvidence {
            // A rate limit lets the request through at some time, however many others are answered.
            is_one_of_several: matches!(kind, HttpErrorKind::Status { status: 429 | 503, .. }),
            ..evidence(kind, beside.answers > before)
        };
        self.retry.after(kind, evidence.attribute())
    }
}

/// Whether a failure that looks like the origin's concerns this request alone: the origin answered others meanwhile.
pub(super) fn is_of_this_request(failure: Option<&HttpErrorKind>, answers: u64) -> bool {
    failure.is_some_and(|kind| {
        kind.is_of_the_origin() && evidence(kind, answers > 0).attribute() == FailureAttribution::Resource
    })
}

/// Whether another origin failed, to which this one has redirected.
pub(super) fn is_of_another(error: &HttpError, origin: &Origin) -> bool {
    error.url.origin().is_some_and(|asked| asked != *origin)
}

/// What is known of a failure. `others_were_answered`: the origin has answered other requests meanwhile.
fn evidence(kind: &HttpErrorKind, others_were_answered: bool) -> FailureEvidence {
    FailureEvidence {
        is_connect_failure: kind.is_connect_failure(),
        others_were_answered,
        ..FailureEvidence::default()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const BUSY: HttpErrorKind = HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };

    fn waiting() -> Urgency {
        Urgency::Waiting(Instant::now())
    }

    #[test]
    fn only_a_waiting_caller_retries() {
        let mut tries = Tries::new(3);
        for urgency in [Urgency::Refreshing, Urgency::Prefetching] {
            assert_eq!(tries.after(&BUSY, urgency, Beside::default()), None);
        }
        assert!(tries.after(&BUSY, waiting(), Beside::default()).is_some());
    }

    #[test]
    fn single_refusal_does_not_stop_others() {
        assert!(is_of_this_request(Some(&BUSY), 1));
        assert!(!is_of_this_request(Some(&BUSY), 0), "no other request is answered");
        assert!(
            !is_of_this_request(Some(&HttpErrorKind::Refused), 1),
            "it has gone down"
        );
        assert!(!is_of_this_request(Some(&HttpErrorKind::NotFound(404)), 1) && !is_of_this_request(None, 1));
    }

    #[test]
    fn failures_beside_answers_use_up_retries() {
        let mut tries = Tries::new(2);
        let beside = |answers| Beside {
            answers,
            has_others: false,
        };
        let silence = HttpErrorKind::TimedOut(Duration::from_secs(1));
        for answers in [5, 6, 7] {
            assert!(tries.after(&silence, waiting(), beside(answers)).is_some());
        }
        assert_eq!(tries.after(&silence, waiting(), beside(8)), None);
        // The rate may be at fault, however many others are answered.
        assert!(tries.after(&BUSY, waiting(), beside(9)).is_some());
    }
}
