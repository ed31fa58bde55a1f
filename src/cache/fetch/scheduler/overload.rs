//! Refusals: a request came to nothing before it brought a byte, and what is to blame: the number of requests, the file, or
//! the origin.
//!
//! The answer looks the same in all three cases (503, say), and what helps differs. Too many at a time: fewer, and
//! this one again when there is a slot. The file: it alone is tried again, later and later, until its retries are used up. The origin: all
//! wait. So it is looked at what else goes on there:
//!
//! - **Nobody is served**: the origin is down, or overloaded.
//! - **Others are served**: then it is the number, or the file. A server that refuses for the number takes the request when
//!   fewer are under way; so it is the file if it was refused before, others have been answered since, and no more were under way now
//!   than were seen to be served at once. And it is the file if the answer is none that a server gives for the number.
//!
//! - **Several files are refused within seconds, and others are answered**: it is the rate ([`RequestRate`](crate::cache::fetch::request_rate)). No retry is used
//!   up then, unless nothing that was refused ever comes through.
//!
//! 403 is believed at once, unless other requests are under way: servers refuse by it what is too many at once, too. Then it is asked again when fewer are,
//! and believed when it is refused as often as [`DENIALS`].
//!
//! One file can't tell its own trouble from its origin's. So while others wait for a slot, it does not wait for the origin with its own: the
//! next one that asks is another.
//!
//! A request that is refused while others are served has no slot any more: its bytes are wanted again, and its entry **rests** for a moment,
//! in which nothing is begun for it, or until the server said that it may be asked again.

use std::time::{Duration, Instant};

use super::entry_queue::Fruitless;
use super::queues::OriginNumber;
use super::{FetchId, Scheduler};
use crate::cache::fetch::connection_limit::{Complaint, Load};
use crate::cache::key::EntryId;
use crate::http::HttpErrorKind;
use crate::origin::Backoff;

/// How long an entry rests at least: time for the server to notice that connections were closed, among them the one whose
/// slot a reader's request may just have taken.
const LEAST_REST: Duration = Duration::from_millis(100);

/// How often a file is denied when no more requests are under way than were seen to be served at once, until that is believed. More than once, as a
/// server notices late that a connection has become free; and how often in any case.
const DENIALS: u32 = 3;
const MOST_DENIALS: u32 = 12;

/// Tries of a file that is refused among several, when none of those ever comes through.
const TRIES_IN_VAIN: u32 = 5;

/// And when others do.
const MOST_TRIES: u32 = 30;

/// A request that came to nothing before an answer's body began.
#[derive(Debug, Clone)]
pub struct Refusal<'a> {
    /// What went wrong. **Of the origin**, as far as the request itself can tell
    /// ([`HttpErrorKind::is_of_the_origin`]).
    pub kind: &'a HttpErrorKind,
    /// When it was asked.
    pub asked: Instant,
    /// When it came to nothing.
    pub now: Instant,
    /// How often the origin has answered anybody so far.
    pub answers: u64,
    /// Whether it was asked for something else meanwhile, for names perhaps.
    pub had_others: bool,
    /// The pauses between the tries of a file that is to blame itself; those are used that the fetch has made while it was in doubt.
    pub backoff: Backoff,
}

/// What a fetch does whose request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It is the origin: it waits with all others until that can be asked again.
    WaitForOrigin,
    /// It is the origin, or so it seems; but others wait for a slot, and they may find it well. So it has none any more and is
    /// to end; [`Scheduler::rested`] is to be called at this time.
    YieldUntil(Instant),
    /// It has no slot any more and is to end; [`Scheduler::rested`] is to be called at this time.
    RestUntil(Instant),
    /// It is the file, and its retries are used up: the fetch is to end with the error.
    Fail,
}

/// What an entry's requests have met with since it last got a byte.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// When that was, the last time.
    at: Instant,
    /// How often the origin had answered anybody by then.
    answers: u64,
    /// What was to blame.
    cause: Cause,
    backoff: Backoff,
    /// How often it was refused for the rate.
    tries: u32,
    /// How often it was denied, and how often of that when few requests were under way.
    denials: u32,
    denials_when_few: u32,
}

/// Who or what is to blame for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Number,
    Rate,
    File,
    Origin,
}

/// What is known when a request is refused.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    /// Servers answer like that when there are too many requests.
    fits_too_many: bool,
    /// It tells of the way to the server, and not of what was asked.
    is_connect_failure: bool,
    /// The entry's last request was refused too, and others have been answered since.
    others_were_answered: bool,
    /// The entry's last request was refused too, and the file was to blame.
    was_the_file: bool,
    /// No more requests are under way than were seen to be served at once.
    are_few: bool,
    /// Others have been answered, and their bytes are coming.
    others_are_served: bool,
    /// It is one of several files that were refused within seconds, while others are answered.
    is_one_of_several: bool,
    /// The server denies access; whether it is to be believed.
    is_denied: Option<bool>,
}

impl Circumstances {
    fn cause(self) -> Cause {
        match self {
            _ if self.is_connect_failure => Cause::Origin,
            Circumstances {
                is_denied: Some(true), ..
            } => Cause::File,
            Circumstances {
                is_denied: Some(false), ..
            } => Cause::Number,
            _ if self.is_one_of_several && (self.are_few || !self.others_are_served) => Cause::Rate,
            // Also when nobody else asks any more whose answers would show it.
            _ if self.was_the_file => Cause::File,
            _ if self.others_were_answered && (self.are_few || !self.others_are_served) => Cause::File,
            _ if !self.others_are_served => Cause::Origin,
            _ if self.fits_too_many => Cause::Number,
            _ => Cause::File,
        }
    }
}

impl Scheduler {
    /// A request of a fetch was refused, or came to nothing. Also says whether its origin is now known to bear only so
    /// many requests, and was not before.
    pub fn refused(&mut self, fetch: FetchId, refusal: &Refusal<'_>) -> (AfterRefusal, bool) {
        let Some(id) = self.fetches.get(&fetch).map(|running| running.entry) else {
            return (AfterRefusal::Fail, false);
        };
        let Some(flight) = self.queues.get(id) else {
            return (AfterRefusal::Fail, false);
        };
        let (origin, before) = (flight.origin, flight.refused.clone());
        let own = Load {
            running: flight.fetches.len(),
            served: self.served_of(&flight.fetches, fetch),
        };
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
        let are_few = running <= at.tolerance.peak_in_flight().max(1);
        let is_denied = matches!(refusal.kind, HttpErrorKind::Denied(_)).then(|| {
            let denials = before.as_ref().map_or(1, |before| before.denials + 1);
            let when_few = before.as_ref().map_or(0, |before| before.denials_when_few);
            let when_few = when_few + u32::from(are_few && !refusal.had_others);
            let is_alone = running <= 1 && !refusal.had_others && !rate.is_exceeded(id, refusal.now);
            is_alone || when_few >= DENIALS || denials >= MOST_DENIALS
        });
        let circumstances = Circumstances {
            is_one_of_several: fits_too_many && tries < most_tries && rate.is_exceeded(id, refusal.now),
            is_denied,
            fits_too_many,
            is_connect_failure: refusal.kind.is_connect_failure(),
            others_were_answered: before.as_ref().is_some_and(|before| before.answers < refusal.answers),
            was_the_file: before.as_ref().is_some_and(|before| before.cause == Cause::File),
            are_few,
            others_are_served: served > 0,
        };
        // Requests that were under way together fail for one reason.
        let same = before.as_ref().filter(|before| refusal.asked < before.at);
        let (cause, is_another) = same.map_or_else(|| (circumstances.cause(), true), |before| (before.cause, false));
        let tolerance = self.queues.tolerance_mut(origin);
        let is_news = match cause {
            Cause::Number => true,
            // Connections that are refused while others go on: it has no room for more.
            Cause::Origin => {
                tolerance.is_down();
                fits_too_many && served > 0
            }
            Cause::Rate => false,
            Cause::File => {
                tolerance.clear_attribution(id);
                false
            }
        } && tolerance.refused(Complaint {
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
            answers: 0,
            cause,
            backoff: refusal.backoff.clone(),
            tries: 0,
            denials: 0,
            denials_when_few: 0,
        });
        if is_denied.is_some() {
            refused.denials += 1;
            refused.denials_when_few += u32::from(are_few && !refusal.had_others);
        }
        refused.backoff.catch_up_with(&refusal.backoff);
        let asked_for = refusal.kind.retry_after();
        let pause = match cause {
            // The origin's own pause is for all.
            Cause::Origin => Duration::ZERO,
            Cause::Number => asked_for.unwrap_or_default(),
            Cause::Rate => {
                refused.tries += 1;
                let rate = self.queues.rate_mut(origin);
                rate.slow_down(refusal.asked, asked_for, refusal.now);
                asked_for.unwrap_or_default()
            }
            Cause::File if is_denied.is_some() => {
                self.set_refused(id, None);
                return (AfterRefusal::Fail, is_news);
            }
            Cause::File if !is_another => asked_for.unwrap_or_default(),
            Cause::File => match refused.backoff.next_after(asked_for) {
                Some(pause) => pause,
                None => {
                    // An error is not remembered: who asks for it from now on has all tries.
                    self.set_refused(id, None);
                    return (AfterRefusal::Fail, is_news);
                }
            },
        };
        (refused.at, refused.answers, refused.cause) = (refusal.now, refusal.answers, cause);
        self.set_refused(id, Some(refused));
        let is_of_the_origin = cause == Cause::Origin;
        let can_yield = !circumstances.is_connect_failure && self.queues.at(origin).is_wanted_by_another(id);
        if is_of_the_origin && !can_yield {
            return (AfterRefusal::WaitForOrigin, is_news);
        }
        // A pause that is too long for a clock has an end that nobody waits for.
        let until = refusal.now.checked_add(pause.max(LEAST_REST)).unwrap_or(refusal.now);
        let until = self.rest(fetch, id, until);
        let next = if is_of_the_origin {
            AfterRefusal::YieldUntil(until)
        } else {
            AfterRefusal::RestUntil(until)
        };
        (next, is_news)
    }

    /// The server is making ready what a fetch has asked for (202): nothing is begun for its entry before `until`, and its slot is for
    /// others. Gives when [`Self::rested`] is to be called.
    pub fn not_ready(&mut self, fetch: FetchId, until: Instant) -> Option<Instant> {
        let id = self.fetches.get(&fetch)?.entry;
        Some(self.rest(fetch, id, until))
    }

    /// The head of an answer to a fetch has come, and the bytes are about to.
    pub fn answered(&mut self, fetch: FetchId) {
        if let Some(running) = self.fetches.get_mut(&fetch) {
            running.served_in = Some(self.period);
        }
    }

    /// An answer to a fetch was broken off: perhaps there were too many at once.
    pub fn broken_off(&mut self, fetch: FetchId, asked: Instant, now: Instant) -> bool {
        let Some(running) = self.fetches.get_mut(&fetch) else {
            return false;
        };
        running.served_in = None;
        let id = running.entry;
        let Some(flight) = self.queues.get(id) else {
            return false;
        };
        let (origin, own) = (
            flight.origin,
            Load {
                running: flight.fetches.len(),
                served: self.served_of(&flight.fetches, fetch),
            },
        );
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
        let is_news = self.queues.tolerance_mut(origin).refused(complaint);
        self.sync_share(origin);
        is_news
    }

    /// An entry that has complained alone gets no more fetches than it was seen to be allowed.
    pub(super) fn sync_share(&mut self, origin: OriginNumber) {
        let share = self.queues.at(origin).tolerance.share();
        let before = self.queues.limit(origin, share);
        if before != share
            && let Some((entry, _)) = before.filter(|(entry, _)| share.is_none_or(|(now, _)| now != *entry))
            && let Some(mut flight) = self.queues.get_mut(entry)
        {
            flight.share = None;
        }
        if let Some((entry, most)) = share
            && let Some(mut flight) = self.queues.get_mut(entry)
        {
            flight.share = Some(most);
        }
    }

    /// An entry has rested until then, and may be asked for again.
    pub fn rested(&mut self, id: EntryId, until: Instant) {
        if let Some(mut flight) = self.queues.get_mut(id)
            && flight.rests_until == Some(until)
        {
            flight.rests_until = None;
        }
        self.follow_up(id);
    }

    /// A fetch has brought bytes for the first time.
    pub(super) fn has_begun(&mut self, id: EntryId) {
        let before = self
            .queues
            .get(id)
            .map(|flight| (flight.origin, flight.refused.is_some()));
        if let Some((origin, was_refused)) = before {
            self.queues.rate_mut(origin).note_answer(was_refused, self.now);
        }
        self.set_refused(id, None);
        if let Some(mut flight) = self.queues.get_mut(id) {
            flight.fruitless = Fruitless::default();
        }
        if let Some(origin) = self.queues.get(id).map(|flight| flight.origin) {
            let served = self.served(origin, None);
            self.queues.tolerance_mut(origin).bears_out(served);
            self.sync_share(origin);
        }
    }

    /// Takes a fetch's slot away and wants again what it has not brought, but not before the entry has rested; gives
    /// until when that is.
    fn rest(&mut self, fetch: FetchId, id: EntryId, until: Instant) -> Instant {
        let mut rests_until = until;
        if let Some(mut flight) = self.queues.get_mut(id) {
            rests_until = flight.rests_until.map_or(until, |earlier| earlier.max(until));
            flight.rests_until = Some(rests_until);
        }
        self.want_again(fetch);
        self.remove(fetch);
        self.look_after_waiters(id);
        // The slot is somebody else's now.
        self.follow_up(id);
        rests_until
    }

    /// Of how many fetches to an origin the bytes are coming, but for one.
    fn served(&self, origin: OriginNumber, but: Option<FetchId>) -> usize {
        let others = self.queues.fetches_to(origin).filter(|&id| Some(id) != but);
        let fetches = others.filter_map(|id| self.fetches.get(&id));
        fetches.filter(|fetch| fetch.is_served(self.period)).count()
    }

    /// Of how many of these fetches the bytes are coming, but for one.
    fn served_of(&self, fetches: &[FetchId], but: FetchId) -> usize {
        let others = fetches.iter().filter(|&&id| id != but);
        let fetches = others.filter_map(|id| self.fetches.get(id));
        fetches.filter(|fetch| fetch.is_served(self.period)).count()
    }

    fn set_refused(&mut self, id: EntryId, refused: Option<Refused>) {
        if let Some(mut flight) = self.queues.get_mut(id) {
            flight.refused = refused;
        }
    }
}
