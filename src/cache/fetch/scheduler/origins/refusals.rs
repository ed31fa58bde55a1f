//! Refusals: requests that fail before they bring a byte, and what they are attributed to.
//!
//! [`Refusal::note`] gathers the [`FailureEvidence`] of what other requests are in flight, and adjusts
//! the origin's connection limit and request rate. A refusal for the rate uses up no retry, unless
//! none of the refused requests ever succeeds.
//!
//! One file can't distinguish its own failure from its origin's. So while other entries wait for a
//! slot, it does not hold its slot while it waits for the origin: the next request is another
//! entry's.
//!
//! A request that is refused while others are served loses its slot. Its bytes are wanted again,
//! and its entry **rests**: nothing begins for it for a moment, or until the time that the server
//! named.

use std::time::{Duration, Instant};

use super::origin_state::{OriginNumber, OriginState};
use crate::cache::key::EntryId;
use crate::http::HttpErrorKind;
use crate::origin::{Complaint, FailureAttribution, FailureEvidence, Load, OtherRequests, Retry};

/// Minimum rest of an entry. The server needs this time to notice closed connections, among them
/// perhaps the one whose slot a reader's request has just taken.
const LEAST_REST: Duration = Duration::from_millis(100);

/// Maximum tries of a file that is refused among several, if none of those ever succeeds.
const TRIES_IN_VAIN: u32 = 5;

/// Maximum tries if others succeed.
const MOST_TRIES: u32 = 30;

/// A request that failed before the body of an answer began.
#[derive(Debug, Clone)]
pub struct Refusal<'a> {
    /// The error. **An error of the origin**, as far as the request itself shows
    /// ([`HttpErrorKind::is_of_the_origin`]).
    pub kind: &'a HttpErrorKind,
    /// When the request was sent.
    pub asked: Instant,
    /// Number of answers of the origin so far, to any request.
    pub answers: u64,
    /// True if other requests were sent to the origin meanwhile, for names perhaps.
    pub had_others: bool,
    /// The retries of the fetch.
    pub retry: &'a Retry,
}

/// What a fetch does after its request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// The origin is the cause: the fetch waits with all others until the origin may be asked
    /// again.
    WaitForOrigin,
    /// The origin seems to be the cause, but other entries wait for a slot and may succeed. The
    /// fetch has lost its slot and must end; call
    /// [`Scheduler::rested`](crate::cache::fetch::scheduler::Scheduler::rested) at this time.
    YieldUntil(Instant),
    /// The fetch has lost its slot and must end; call
    /// [`Scheduler::rested`](crate::cache::fetch::scheduler::Scheduler::rested) at this time.
    RestUntil(Instant),
    /// The file is the cause and its retries are used up: the fetch must end with the error.
    Fail,
}

/// The refusals of an entry's requests since it last received a byte.
#[derive(Debug, Clone)]
pub(in crate::cache::fetch::scheduler) struct Refused {
    /// When the last of them failed.
    at: Instant,
    /// The origin that refused.
    origin: OriginNumber,
    /// Number of answers of the origin by then.
    answers: u64,
    attribution: FailureAttribution,
    /// The retries of the file.
    retry: Retry,
    /// Number of refusals for the rate.
    tries: u32,
}

impl Refused {
    pub(in crate::cache::fetch::scheduler) fn is_of_the_origin(&self) -> bool {
        self.attribution == FailureAttribution::Origin
    }
}

impl Refusal<'_> {
    /// Notes a refusal at the origin that refused; `complaint` is for the case that the number of
    /// requests is at fault, and `before` is what the entry remembers. Returns what it remembers from
    /// now on, and the earliest time of its next request; `None` if it is not requested again. Also
    /// returns true if this is the first sign that the origin serves only a limited number of requests.
    pub(in crate::cache::fetch::scheduler) fn note(
        &self,
        complaint: Complaint<EntryId>,
        before: Option<Refused>,
        origin: OriginNumber,
        at: &mut OriginState,
    ) -> (Option<(Refused, Instant)>, bool) {
        let (id, now, Load { running, served }) = (complaint.by, complaint.now, complaint.load);
        let fits_too_many = self.kind.may_mean_too_many_connections();
        if fits_too_many {
            at.rate.note_refusal(id, now);
        }
        let is_too_fast = at.rate.is_exceeded(id, now);
        let mut tries = before.as_ref().map_or(0, |before| before.tries);
        let most_tries = if at.rate.comes_through(now) {
            MOST_TRIES
        } else {
            TRIES_IN_VAIN
        };
        let are_few = running <= at.fetch_limit.peak_in_flight().max(1);
        let others = match running {
            _ if self.had_others || !are_few => OtherRequests::Many,
            0..=1 if !is_too_fast => OtherRequests::None,
            _ => OtherRequests::Few,
        };
        let before_retry = before.as_ref().map(|before| before.retry.clone());
        let mut retry = before_retry.unwrap_or_else(|| self.retry.of_resource());
        retry.catch_up_with(self.retry);
        let is_denied = matches!(self.kind, HttpErrorKind::Denied(_)).then(|| retry.is_denied(others));
        let evidence = FailureEvidence {
            is_one_of_several: fits_too_many && tries < most_tries && is_too_fast,
            is_denied,
            fits_too_many,
            is_connect_failure: self.kind.is_connect_failure(),
            others_were_answered: before
                .as_ref()
                .is_some_and(|before| before.origin == origin && before.answers < self.answers),
            was_the_resource: before
                .as_ref()
                .is_some_and(|before| before.attribution == FailureAttribution::Resource),
            are_few,
            others_are_served: served > 0,
            is_the_only_one: false,
        };
        // Requests that were in flight together fail for one reason.
        let same = before.filter(|before| self.asked < before.at);
        let is_another = same.is_none();
        let attribution = same.map_or_else(|| evidence.attribute(), |before| before.attribution);
        let is_complaint = match attribution {
            FailureAttribution::ConnectionCount => true,
            // Connections refused while others go on: the server has no room for more.
            FailureAttribution::Origin => {
                at.fetch_limit.is_down();
                fits_too_many && served > 0
            }
            FailureAttribution::RequestRate => false,
            FailureAttribution::Resource => {
                at.fetch_limit.clear_attribution(id);
                false
            }
        };
        let is_news = is_complaint && at.fetch_limit.refused(complaint);
        let asked_for = self.kind.retry_after();
        let pause = match attribution {
            // The origin's own pause applies to all.
            FailureAttribution::Origin => Some(Duration::ZERO),
            FailureAttribution::RequestRate => {
                tries += 1;
                at.rate.slow_down(self.asked, asked_for, now);
                Some(asked_for.unwrap_or_default())
            }
            FailureAttribution::Resource if is_denied.is_some() => None,
            FailureAttribution::Resource if is_another => retry.after(self.kind, attribution),
            FailureAttribution::Resource | FailureAttribution::ConnectionCount => Some(asked_for.unwrap_or_default()),
        };
        let next = pause.map(|pause| {
            let refused = Refused {
                at: now,
                origin,
                answers: self.answers,
                attribution,
                retry,
                tries,
            };
            // A pause too long for the clock ends now; no waiter lasts that long.
            let until = now.checked_add(pause.max(LEAST_REST)).unwrap_or(now);
            (refused, until)
        });
        (next, is_news)
    }
}
