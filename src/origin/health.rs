//! How an origin is doing, as its answers show, and when it is worth asking again.
//!
//! Many fetches go to one origin. When it is down each of them finds that out, and if each came back in its own time the
//! origin would be beaten as often as there are fetches. So they share what they know: after a **failure of the origin**
//! (not of one file: [`HttpErrorKind::is_of_the_origin`]) a **pause** begins, in which nobody asks. When it is over
//! **one** of those who wait asks, the others wait for what becomes of it: an answer lets all through, another
//! failure makes the pause about twice as long. `Retry-After` is a lower bound for it. Those who wait are woken by event.
//!
//! One thing that fails by itself holds nobody else up ([`blame`]).

mod failure_attribution;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use super::Backoff;
use crate::http::{HttpError, HttpErrorKind, MOST_ORIGINS, Origin};
pub use failure_attribution::FailureAttribution;
use failure_attribution::Failures;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest, unless the server asked for more. It is one question of one mount: no burden on a server that struggles,
/// and whoever reads sees soon that it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the others wait for what becomes of one question, at first and at most. Then the next one asks, about something else perhaps.
const FIRST_PROBE: Duration = Duration::from_millis(1500);
const LONGEST_PROBE: Duration = Duration::from_secs(6);

/// The health of all origins that were asked.
#[derive(Default)]
pub(crate) struct Healths(Mutex<HashMap<Origin, Arc<Health>>>);

impl Healths {
    /// That of an origin.
    pub fn of(&self, origin: &Origin) -> Arc<Health> {
        let mut all = self.0.lock();
        if all.len() >= MOST_ORIGINS && !all.contains_key(origin) {
            // Whoever asks or waits holds on to his. How the others are is found out again.
            all.retain(|_, health| Arc::strong_count(health) > 1);
        }
        Arc::clone(
            all.entry(origin.clone())
                .or_insert_with(|| Arc::new(Health::new(origin.clone()))),
        )
    }

    /// Those that are not well.
    pub fn down(&self) -> Vec<Down> {
        let all = self.0.lock();
        let mut down: Vec<_> = all.values().filter_map(|health| health.down()).collect();
        down.sort_by(|one, other| one.origin.cmp(&other.origin));
        down
    }

    /// That of the origin of a URL that is asked. One that can't be asked is as well as any: asking says what is wrong with it.
    pub fn of_url(&self, url: &Url) -> Arc<Health> {
        Origin::of(url).map_or_else(|| Arc::new(Health::new(Origin::nowhere())), |origin| self.of(&origin))
    }
}

/// The health of one origin.
pub struct Health {
    origin: Origin,
    /// Nothing is taken and nobody waits under it.
    state: Mutex<State>,
    changed: Notify,
    /// How many requests have begun beside another one, and of how many the answer's head has yet to come.
    beside: AtomicU64,
    under_way: AtomicUsize,
    /// Somebody asks for something else than what has failed.
    is_finding_out: AtomicBool,
}

struct State {
    /// `None` while it is well.
    pause: Option<Pause>,
    /// Counts the pauses that have begun: who asked before the last one says nothing new by failing.
    pauses: u64,
    /// Counts the answers.
    answers: u64,
    failures: Failures,
}

struct Pause {
    until: Instant,
    /// How long the next ones are.
    backoff: Backoff,
    since: Instant,
    /// The last failure.
    why: HttpErrorKind,
    /// Until when one request is probing whether it is back, while the others wait for it.
    probed_until: Option<Instant>,
    /// How long that is the next time: one thing that is silent by itself must not stand for all.
    probe_patience: Duration,
}

/// An origin that is left alone, but for one who asks now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Which.
    pub origin: Origin,
    /// For how long it has been.
    pub time: Duration,
    /// What it failed with at last.
    pub why: HttpErrorKind,
}

/// What is asked of an origin at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    beside: u64,
    under_way: usize,
}

/// A request is under way until this is dropped.
pub(crate) struct UnderWay(Arc<Health>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Leave to ask, given by [`Health::turn`]. Tell by it what became of the question; dropped without a word it lets the
/// next one ask.
pub struct Permit {
    health: Arc<Health>,
    pauses: u64,
    is_probe: bool,
}

impl Health {
    fn new(origin: Origin) -> Health {
        Health {
            origin,
            state: Mutex::new(State {
                pause: None,
                pauses: 0,
                answers: 0,
                failures: Failures::default(),
            }),
            changed: Notify::new(),
            beside: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            is_finding_out: AtomicBool::new(false),
        }
    }

    /// Waits until the origin may be asked.
    pub async fn turn(self: &Arc<Self>) -> Permit {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change between the two is not lost.
            changed.as_mut().enable();
            let until = match self.look() {
                Ok(turn) => return turn,
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

    /// Leave to ask, if it may be asked now.
    pub fn turn_now(self: &Arc<Self>) -> Option<Permit> {
        self.look().ok()
    }

    /// A turn, or until when to wait for one.
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

    /// It has answered something, whoever asked.
    pub fn answered(&self) {
        let ended = {
            let mut state = self.state.lock();
            state.answers += 1;
            state.failures.answered();
            state.pause.take()
        };
        if let Some(pause) = ended {
            log::info!(
                "{} answers again, after {}",
                self.origin,
                humantime::format_duration(Duration::from_secs(pause.since.elapsed().as_secs()))
            );
            self.changed.notify_waiters();
        }
    }

    /// Whether it is left alone.
    pub(crate) fn is_down(&self) -> bool {
        self.state.lock().pause.is_some()
    }

    fn down(&self) -> Option<Down> {
        let state = self.state.lock();
        let pause = state.pause.as_ref()?;
        Some(Down {
            origin: self.origin.clone(),
            time: pause.since.elapsed(),
            why: pause.why.clone(),
        })
    }

    /// A request begins.
    pub(crate) fn asks(self: &Arc<Self>) -> UnderWay {
        let others = self.under_way.fetch_add(1, Ordering::AcqRel);
        self.beside.fetch_add(u64::from(others > 0), Ordering::AcqRel);
        UnderWay(Arc::clone(self))
    }

    /// What is asked of it now. To be compared with [`Self::had_others`].
    pub fn traffic(&self) -> Traffic {
        Traffic {
            beside: self.beside.load(Ordering::Acquire),
            under_way: self.under_way.load(Ordering::Acquire),
        }
    }

    /// Whether others have asked it since this was its traffic, while requests were under way that came one after another.
    pub fn had_others(&self, before: Traffic) -> bool {
        before.under_way > 0 || self.beside.load(Ordering::Acquire) > before.beside
    }

    /// How often it has answered so far, whoever asked.
    pub fn answers(&self) -> u64 {
        self.state.lock().answers
    }

    /// Whether nobody finds out for it at this moment if something else of it is answered; then somebody does from now on, until
    /// [`Self::has_found_out`].
    pub(crate) fn finds_out(&self) -> bool {
        !self.is_finding_out.swap(true, Ordering::AcqRel)
    }

    /// See [`Self::finds_out`].
    pub(crate) fn has_found_out(&self) {
        self.is_finding_out.store(false, Ordering::Release);
    }

    /// It has failed just now, as somebody found who was sent there by another.
    pub fn has_failed(&self, error: &HttpError) -> FailureAttribution {
        let pauses = self.state.lock().pauses;
        self.failed(error, pauses, Failures::blame)
    }

    fn failed(
        &self,
        error: &HttpError,
        pauses: u64,
        blame: impl FnOnce(&mut Failures, &HttpError, Instant) -> FailureAttribution,
    ) -> FailureAttribution {
        let (kind, now) = (&error.kind, Instant::now());
        let mut state = self.state.lock();
        if state.pauses != pauses {
            return FailureAttribution::Origin;
        }
        // A pause goes on, whoever asked at its end.
        if state.pause.is_none() && blame(&mut state.failures, error, now) == FailureAttribution::Resource {
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
        // Nobody lives to see the end of a pause that is too long for a clock.
        pause.until = now.checked_add(time).unwrap_or(now + Duration::from_secs(1 << 30));
        pause.probed_until = None;
        drop(state);
        if began {
            log::warn!(
                "{}: {kind}; it is asked again in {time:.1?}, and then less and less often",
                self.origin
            );
        } else {
            log::debug!("{}: {kind}; it is asked again in {time:.1?}", self.origin);
        }
        self.changed.notify_waiters();
        FailureAttribution::Origin
    }
}

impl Permit {
    /// Whether it finds out for all others if the origin is back.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Whether no pause has begun since it was given: who did something else first must look again.
    pub fn is_good(&self) -> bool {
        self.health.state.lock().pauses == self.pauses
    }

    /// Whether it was given by this one.
    pub fn is_to(&self, health: &Arc<Health>) -> bool {
        Arc::ptr_eq(&self.health, health)
    }

    /// The origin has answered, whatever it was.
    pub fn answered(self) {
        self.health.answered();
    }

    /// What became of the question: an answer, or why there is none. Whether the origin has answered, whatever it was.
    pub fn ended(self, error: Option<&HttpError>) -> bool {
        match error {
            Some(error) if error.kind.is_of_the_origin() => {
                self.failed(error);
                false
            }
            // Nothing that says how it is doing.
            Some(HttpError {
                kind: HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors | HttpErrorKind::Offline,
                ..
            }) => false,
            _ => {
                self.answered();
                true
            }
        }
    }

    /// It has failed; see [`HttpErrorKind::is_of_the_origin`].
    pub fn failed(self, error: &HttpError) -> FailureAttribution {
        self.health.failed(error, self.pauses, Failures::blame)
    }

    /// Likewise, of one that others stand in for: it is left alone as a whole, because that costs nobody anything.
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
        // Nothing, if what became of the question was told.
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
