//! The circuit breaker of each origin: when it is down, and when to ask it again.
//!
//! Many fetches go to one origin. If each of them retried an origin that is down by itself, the origin would receive as
//! many retries as there are fetches. So they share one state:
//!
//! - A **failure of the origin** (not of one file: [`HttpErrorKind::is_of_the_origin`]) starts a **pause** without
//!   requests.
//! - After the pause, **one** request probes the origin and the others wait for its result.
//! - A response ends the pause for all. Another failure starts a pause about twice as long.
//! - `Retry-After` is a lower bound for the pause. Waiters are woken by an event, not by polling.
//!
//! A failure of one resource alone delays no other ([`failure_attribution`](super::failure_attribution)).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    backoff::Backoff,
    failure_attribution::{FailingResources, FailureAttribution},
    retry::FIRST_PAUSE,
};
use crate::http::{HttpError, HttpErrorKind, Origin};
use crate::util::events;

/// The longest pause, unless the server asked for more. One probe of one mount every few seconds is no burden for a
/// server, and readers see soon that it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the others wait for the result of one probe, at first and at most. Then the next probe goes out, perhaps
/// for another resource.
const FIRST_PROBE: Duration = Duration::from_millis(1500);
const LONGEST_PROBE: Duration = Duration::from_secs(6);

/// The health of one origin.
pub struct Health {
    origin: Origin,
    /// **No other lock is taken and nothing waits under it.**
    state: Mutex<HealthState>,
    changed: Notify,
    /// Requests that began while another was in flight, and requests whose response head has not arrived yet.
    beside: AtomicU64,
    under_way: AtomicUsize,
    /// A background request for another resource is in flight ([`Health::finds_out`]).
    is_finding_out: AtomicBool,
}

struct HealthState {
    /// `None` while the origin is healthy.
    pause: Option<Pause>,
    /// Number of pauses so far. A failure of a request from before the last pause is no news.
    pauses: u64,
    /// Number of responses.
    answers: u64,
    failures: FailingResources,
}

struct Pause {
    until: Instant,
    /// The lengths of the next pauses.
    backoff: Backoff,
    since: Instant,
    /// The last failure.
    why: HttpErrorKind,
    /// Until when one request probes the origin while the others wait.
    probed_until: Option<Instant>,
    /// The time limit of the next probe: a single resource that is silent must not hold up all others.
    probe_patience: Duration,
}

/// An origin whose circuit breaker is open, except for probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownOrigin {
    /// The origin.
    pub origin: Origin,
    /// How long it has been down.
    pub time: Duration,
    /// The last failure.
    pub why: HttpErrorKind,
}

/// The requests to an origin at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    beside: u64,
    under_way: usize,
}

/// A request in flight; ends when this is dropped.
pub(crate) struct InFlight(Arc<Health>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The permit to send one request, from [`Health::permit`]. Report the result through it. Dropped without a report,
/// it lets the next waiter probe.
pub struct Permit {
    health: Arc<Health>,
    pauses: u64,
    is_probe: bool,
}

impl Health {
    pub(in crate::origin) fn new(origin: Origin) -> Health {
        Health {
            origin,
            state: Mutex::new(HealthState {
                pause: None,
                pauses: 0,
                answers: 0,
                failures: FailingResources::default(),
            }),
            changed: Notify::new(),
            beside: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            is_finding_out: AtomicBool::new(false),
        }
    }

    /// Waits until a request may be sent to the origin.
    pub async fn permit(self: &Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that a change between the two is not lost.
            changed.as_mut().enable();
            let until = match self.look() {
                Ok(permit) => return permit,
                Err(until) => until,
            };
            match until {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// A permit, if a request may be sent now.
    pub fn permit_now(self: &Arc<Self>) -> Option<Permit> {
        self.look().ok()
    }

    /// A permit, or when to check again.
    fn look(self: &Arc<Self>) -> Result<Permit, Option<Instant>> {
        let mut state = self.state.lock();
        let is_probe = match &mut state.pause {
            None => false,
            Some(pause) if pause.probed_until.is_some_and(|until| Instant::now() < until) => {
                return Err(pause.probed_until);
            }
            Some(pause) if Instant::now() < pause.until => return Err(Some(pause.until)),
            Some(pause) => {
                pause.probed_until = Some(Instant::now() + pause.probe_patience);
                pause.probe_patience = (pause.probe_patience * 2).min(LONGEST_PROBE);
                true
            }
        };
        Ok(Permit {
            health: Arc::clone(self),
            pauses: state.pauses,
            is_probe,
        })
    }

    /// The origin has responded, to any request.
    pub fn answered(&self) {
        let ended = {
            let mut state = self.state.lock();
            state.answers += 1;
            state.failures.answered();
            state.pause.take()
        };
        if let Some(pause) = ended {
            log::info!(
                event = events::ORIGIN_UP;
                "{} responds again, after {}",
                self.origin,
                humantime::format_duration(Duration::from_secs(pause.since.elapsed().as_secs()))
            );
            self.changed.notify_waiters();
        }
    }

    /// Returns true if the circuit breaker is open.
    pub(crate) fn is_down(&self) -> bool {
        self.state.lock().pause.is_some()
    }

    /// How long it has been down, and why; `None` while the circuit breaker is closed.
    pub(in crate::origin) fn down(&self) -> Option<DownOrigin> {
        let state = self.state.lock();
        let pause = state.pause.as_ref()?;
        Some(DownOrigin {
            origin: self.origin.clone(),
            time: pause.since.elapsed(),
            why: pause.why.clone(),
        })
    }

    /// A request begins.
    pub(crate) fn asks(self: &Arc<Self>) -> InFlight {
        let others = self.under_way.fetch_add(1, Ordering::AcqRel);
        self.beside.fetch_add(u64::from(others > 0), Ordering::AcqRel);
        InFlight(Arc::clone(self))
    }

    /// The current traffic, for [`Self::had_others`].
    pub fn traffic(&self) -> Traffic {
        Traffic {
            beside: self.beside.load(Ordering::Acquire),
            under_way: self.under_way.load(Ordering::Acquire),
        }
    }

    /// Returns true if other requests were in flight at `before`, or have overlapped since. The caller's own run one at
    /// a time.
    pub fn had_others(&self, before: Traffic) -> bool {
        before.under_way > 0 || self.beside.load(Ordering::Acquire) > before.beside
    }

    /// Number of responses so far, to all requests.
    pub fn answers(&self) -> u64 {
        self.state.lock().answers
    }

    /// Claims the background request for another resource: returns true if none was in flight. The caller ends the
    /// claim with [`Self::has_found_out`].
    pub(crate) fn finds_out(&self) -> bool {
        !self.is_finding_out.swap(true, Ordering::AcqRel)
    }

    /// Ends the claim of [`Self::finds_out`].
    pub(crate) fn has_found_out(&self) {
        self.is_finding_out.store(false, Ordering::Release);
    }

    /// Records a failure of a request that came here by a redirect, without a permit of this origin.
    pub fn has_failed(&self, error: &HttpError) -> FailureAttribution {
        let pauses = self.state.lock().pauses;
        self.failed(error, pauses, FailingResources::attribute)
    }

    fn failed(
        &self,
        error: &HttpError,
        pauses: u64,
        attribute: impl FnOnce(&mut FailingResources, &HttpError, Instant) -> FailureAttribution,
    ) -> FailureAttribution {
        let (kind, now) = (&error.kind, Instant::now());
        let mut state = self.state.lock();
        if state.pauses != pauses {
            return FailureAttribution::Origin;
        }
        // A failed probe extends the pause, whichever request sent it.
        if state.pause.is_none() && attribute(&mut state.failures, error, now) == FailureAttribution::Resource {
            return FailureAttribution::Resource;
        }
        state.pauses += 1;
        let began = state.pause.is_none();
        let pause = state.pause.get_or_insert_with(|| Pause {
            until: now,
            backoff: Backoff::up_to(FIRST_PAUSE, LONGEST_PAUSE),
            since: now,
            why: kind.clone(),
            probed_until: None,
            probe_patience: FIRST_PROBE,
        });
        pause.why = kind.clone();
        let time = pause.backoff.next_after(kind.retry_after()).unwrap_or(LONGEST_PAUSE);
        // A pause too long for the clock is capped at 34 years.
        pause.until = now.checked_add(time).unwrap_or(now + Duration::from_secs(1 << 30));
        pause.probed_until = None;
        drop(state);
        if began {
            log::warn!(
                event = events::ORIGIN_DOWN;
                "{}: {kind}; next attempt in {time:.1?}, then with growing pauses",
                self.origin
            );
        } else {
            log::debug!(event = events::ORIGIN_STILL_DOWN; "{}: {kind}; next attempt in {time:.1?}", self.origin);
        }
        self.changed.notify_waiters();
        FailureAttribution::Origin
    }
}

impl Permit {
    /// Returns true if this request probes the origin for all waiters.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Returns true if no pause has begun since the permit was given. A caller that did other work first must check
    /// again.
    pub fn is_good(&self) -> bool {
        self.health.state.lock().pauses == self.pauses
    }

    /// Returns true if the permit is of this origin.
    pub fn is_to(&self, health: &Arc<Health>) -> bool {
        Arc::ptr_eq(&self.health, health)
    }

    /// The origin has responded, in whatever way.
    pub fn answered(self) {
        self.health.answered();
    }

    /// Reports the result: `None` for a response. Returns true if the origin has responded, in whatever way.
    pub fn ended(self, error: Option<&HttpError>) -> bool {
        match error {
            Some(error) if error.kind.is_of_the_origin() => {
                self.failed(error);
                false
            }
            // These errors say nothing of the origin's health.
            Some(error) if !error.kind.is_answered() => false,
            _ => {
                self.answered();
                true
            }
        }
    }

    /// Reports a failure of the request ([`HttpErrorKind::is_of_the_origin`]).
    pub fn failed(self, error: &HttpError) -> FailureAttribution {
        self.health.failed(error, self.pauses, FailingResources::attribute)
    }

    /// Reports a failure of an origin that has mirrors, or of a mirror. The whole origin is paused at once: other servers
    /// serve its requests meanwhile, so no reader waits.
    pub fn failed_altogether(self, error: &HttpError) {
        self.health
            .failed(error, self.pauses, |_, _, _| FailureAttribution::Origin);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut state = self.health.state.lock();
        // No effect if the result was reported.
        if state.pauses == self.pauses
            && let Some(pause) = &mut state.pause
        {
            pause.probed_until = None;
            drop(state);
            self.health.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
