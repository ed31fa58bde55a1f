//! Refusals: requests that fail before they bring a byte, and what the scheduler does about them.
//!
//! The scheduler gathers the [`Evidence`] of what other requests are in flight, and reacts to what
//! the refusal is attributed to. A refusal for the rate uses up no retry, unless none of the refused
//! requests ever succeeds.
//!
//! One file can't distinguish its own failure from its origin's. So while other entries wait for a
//! slot, it does not hold its slot while it waits for the origin: the next request is another
//! entry's.
//!
//! A request that is refused while others are served loses its slot. Its bytes are wanted again,
//! and its entry **rests**: nothing begins for it for a moment, or until the time that the server
//! named.

use std::time::{Duration, Instant};

use super::entry_queue::{EntryQueue, Fruitless};
use super::queues::OriginNumber;
use super::{FetchId, Scheduler};
use crate::cache::fetch::connection_limit::{Complaint, Load};
use crate::cache::key::EntryId;
use crate::http::{HttpErrorKind, Origin};
use crate::origin::{Evidence, FailureAttribution, OtherRequests, Retry};

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
    /// When it failed.
    pub now: Instant,
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
    /// fetch has lost its slot and must end; call [`Scheduler::rested`] at this time.
    YieldUntil(Instant),
    /// The fetch has lost its slot and must end; call [`Scheduler::rested`] at this time.
    RestUntil(Instant),
    /// The file is the cause and its retries are used up: the fetch must end with the error.
    Fail,
}

/// The refusals of an entry's requests since it last received a byte.
#[derive(Debug, Clone)]
pub(super) struct Refused {
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

impl Scheduler {
    /// A request of a fetch was refused by this origin, or failed there. Also returns true if this is
    /// the first sign that the origin serves only a limited number of requests.
    pub fn refused(&mut self, fetch: FetchId, origin: &Origin, refusal: &Refusal<'_>) -> (AfterRefusal, bool) {
        self.heard_from(fetch, origin);
        let Some((queue, running)) = self.fetch(fetch) else {
            return (AfterRefusal::Fail, false);
        };
        let (id, origin) = (queue.entry.id, running.origin);
        let (own, before) = (self.own_load(queue, origin, fetch), queue.refused.clone());
        let at = self.queues.at(origin);
        let (running, served) = (at.running(), self.served(origin, Some(fetch)));
        let fits_too_many = refusal.kind.may_mean_too_many_connections();
        if fits_too_many {
            self.queues.rate_mut(origin).note_refusal(id, refusal.now);
        }
        let rate = &self.queues.at(origin).rate;
        let tries = before.as_ref().map_or(0, |before| before.tries);
        let most_tries = if rate.comes_through(refusal.now) {
            MOST_TRIES
        } else {
            TRIES_IN_VAIN
        };
        let at = self.queues.at(origin);
        let are_few = running <= at.connection_limit.peak_in_flight().max(1);
        let others = match running {
            _ if refusal.had_others || !are_few => OtherRequests::Many,
            0..=1 if !rate.is_exceeded(id, refusal.now) => OtherRequests::None,
            _ => OtherRequests::Few,
        };
        let before_retry = before.as_ref().map(|before| before.retry.clone());
        let mut retry = before_retry.unwrap_or_else(|| refusal.retry.of_resource());
        retry.catch_up_with(refusal.retry);
        let is_denied = matches!(refusal.kind, HttpErrorKind::Denied(_)).then(|| retry.is_denied(others));
        let evidence = Evidence {
            is_one_of_several: fits_too_many && tries < most_tries && rate.is_exceeded(id, refusal.now),
            is_denied,
            fits_too_many,
            is_connect_failure: refusal.kind.is_connect_failure(),
            others_were_answered: before
                .as_ref()
                .is_some_and(|before| before.origin == origin && before.answers < refusal.answers),
            was_the_resource: before
                .as_ref()
                .is_some_and(|before| before.attribution == FailureAttribution::Resource),
            are_few,
            others_are_served: served > 0,
            is_the_only_one: false,
        };
        // Requests that were in flight together fail for one reason.
        let same = before.as_ref().filter(|before| refusal.asked < before.at);
        let (attribution, is_another) =
            same.map_or_else(|| (evidence.attribute(), true), |before| (before.attribution, false));
        let connection_limit = self.queues.connection_limit_mut(origin);
        let is_news = match attribution {
            FailureAttribution::ConnectionCount => true,
            // Connections refused while others go on: the server has no room for more.
            FailureAttribution::Origin => {
                connection_limit.is_down();
                fits_too_many && served > 0
            }
            FailureAttribution::RequestRate => false,
            FailureAttribution::Resource => {
                connection_limit.clear_attribution(id);
                false
            }
        } && connection_limit.refused(Complaint {
            by: id,
            is_said: matches!(refusal.kind, HttpErrorKind::Status { .. }),
            asked: refusal.asked,
            now: refusal.now,
            load: Load { running, served },
            own,
        });
        self.sync_share(origin);
        let mut refused = before.unwrap_or_else(|| Refused {
            at: refusal.asked,
            origin,
            answers: 0,
            attribution,
            retry: retry.clone(),
            tries: 0,
        });
        let asked_for = refusal.kind.retry_after();
        let pause = match attribution {
            // The origin's own pause applies to all.
            FailureAttribution::Origin => Duration::ZERO,
            FailureAttribution::ConnectionCount => asked_for.unwrap_or_default(),
            FailureAttribution::RequestRate => {
                refused.tries += 1;
                let rate = self.queues.rate_mut(origin);
                rate.slow_down(refusal.asked, asked_for, refusal.now);
                asked_for.unwrap_or_default()
            }
            FailureAttribution::Resource if is_denied.is_some() => {
                self.set_refused(id, None);
                return (AfterRefusal::Fail, is_news);
            }
            FailureAttribution::Resource if !is_another => asked_for.unwrap_or_default(),
            FailureAttribution::Resource => match retry.after(refusal.kind, attribution) {
                Some(pause) => pause,
                None => {
                    // Errors are not remembered: a later request starts with all its tries.
                    self.set_refused(id, None);
                    return (AfterRefusal::Fail, is_news);
                }
            },
        };
        (refused.at, refused.attribution, refused.retry) = (refusal.now, attribution, retry);
        (refused.origin, refused.answers) = (origin, refusal.answers);
        self.set_refused(id, Some(refused));
        let is_of_the_origin = attribution == FailureAttribution::Origin;
        let can_yield = !evidence.is_connect_failure && self.queues.at(origin).is_wanted_by_another(id);
        if is_of_the_origin && !can_yield {
            return (AfterRefusal::WaitForOrigin, is_news);
        }
        // A pause too long for the clock ends now; no waiter lasts that long.
        let until = refusal.now.checked_add(pause.max(LEAST_REST)).unwrap_or(refusal.now);
        let until = self.rest(fetch, id, until);
        let next = if is_of_the_origin {
            AfterRefusal::YieldUntil(until)
        } else {
            AfterRefusal::RestUntil(until)
        };
        (next, is_news)
    }

    /// The server is preparing what a fetch has requested (202). Nothing begins for the entry
    /// before `until`, and its slot goes to others. Returns when to call [`Self::rested`].
    pub fn not_ready(&mut self, fetch: FetchId, until: Instant) -> Option<Instant> {
        let id = *self.fetches.get(&fetch)?;
        Some(self.rest(fetch, id, until))
    }

    /// The head of an answer has come from this origin, and its body follows.
    pub fn answered(&mut self, fetch: FetchId, origin: &Origin) {
        self.heard_from(fetch, origin);
        let period = self.period;
        if let Some(mut queue) = self.flight_of(fetch)
            && let Some(running) = queue.fetch_mut(fetch)
        {
            running.served_in = Some(period);
        }
    }

    /// An answer to a fetch was broken off, perhaps because of too many requests at once.
    pub fn broken_off(&mut self, fetch: FetchId, asked: Instant, now: Instant) -> bool {
        if let Some(mut queue) = self.flight_of(fetch)
            && let Some(running) = queue.fetch_mut(fetch)
        {
            running.served_in = None;
        }
        let Some((queue, running)) = self.fetch(fetch) else {
            return false;
        };
        let (id, origin) = (queue.entry.id, running.origin);
        let own = self.own_load(queue, origin, fetch);
        let complaint = Complaint {
            by: id,
            is_said: false,
            asked,
            now,
            load: Load {
                running: self.queues.at(origin).running(),
                served: self.served(origin, Some(fetch)),
            },
            own,
        };
        let is_news = self.queues.connection_limit_mut(origin).refused(complaint);
        self.sync_share(origin);
        is_news
    }

    /// An entry that alone was refused gets no more fetches than it was seen to be allowed.
    pub(super) fn sync_share(&mut self, origin: OriginNumber) {
        let share = self.queues.at(origin).connection_limit.share();
        let before = self.queues.limit(origin, share);
        if before != share
            && let Some((entry, _)) = before.filter(|(entry, _)| share.is_none_or(|(now, _)| now != *entry))
            && let Some(mut queue) = self.queues.get_mut(entry).filter(|queue| queue.origin == origin)
        {
            queue.share = None;
        }
        if let Some((entry, most)) = share
            && let Some(mut queue) = self.queues.get_mut(entry).filter(|queue| queue.origin == origin)
        {
            queue.share = Some(most);
        }
    }

    /// The rest of an entry has ended at this time, and it may be requested again.
    pub fn rested(&mut self, id: EntryId, until: Instant) {
        if let Some(mut queue) = self.queues.get_mut(id)
            && queue.rests_until == Some(until)
        {
            queue.rests_until = None;
        }
        self.follow_up(id);
    }

    /// A fetch has brought bytes for the first time, from this origin.
    pub(super) fn has_begun(&mut self, id: EntryId, origin: OriginNumber) {
        if let Some(queue) = self.queues.get(id) {
            let was_refused = queue.refused.is_some();
            self.queues.rate_mut(origin).note_answer(was_refused, self.now);
        }
        self.set_refused(id, None);
        if let Some(mut queue) = self.queues.get_mut(id) {
            queue.fruitless = Fruitless::default();
        }
        let served = self.served(origin, None);
        self.queues.connection_limit_mut(origin).bears_out(served);
        self.sync_share(origin);
    }

    /// Takes a fetch's slot away and wants its remaining chunks again, after the entry has rested.
    /// Returns the end of the rest.
    fn rest(&mut self, fetch: FetchId, id: EntryId, until: Instant) -> Instant {
        let mut rests_until = until;
        if let Some(mut queue) = self.queues.get_mut(id) {
            rests_until = queue.rests_until.map_or(until, |earlier| earlier.max(until));
            queue.rests_until = Some(rests_until);
        }
        self.release(fetch);
        self.look_after_waiters(id);
        // The slot is free for another entry.
        self.follow_up(id);
        rests_until
    }

    /// Number of fetches to an origin whose bytes are coming, without one of them.
    fn served(&self, origin: OriginNumber, but: Option<FetchId>) -> usize {
        let others = self.fetches_to(origin).filter(|(_, fetch)| Some(fetch.id) != but);
        others.filter(|(_, fetch)| fetch.is_served(self.period)).count()
    }

    /// The part of an origin's load that is for this entry. `failed` is the entry's fetch that failed.
    fn own_load(&self, queue: &EntryQueue, origin: OriginNumber, failed: FetchId) -> Load {
        let here = || queue.fetches.iter().filter(|fetch| fetch.origin == origin);
        let others = here().filter(|fetch| fetch.id != failed && fetch.is_served(self.period));
        Load {
            running: here().count(),
            served: others.count(),
        }
    }

    fn set_refused(&mut self, id: EntryId, refused: Option<Refused>) {
        if let Some(mut queue) = self.queues.get_mut(id) {
            queue.refused = refused;
        }
    }
}
