//! How many requests per second an origin accepts, after it has refused some for coming too fast.
//!
//! A server that limits the rate (nginx's `limit_req`, 429 of an API) refuses some resources now, and accepts each of
//! them a moment later. **Several resources refused within seconds, while others are answered, mean a rate limit.** Such
//! refusals use up no retry, and requests begin at intervals. The interval grows with refusals and shrinks with answers,
//! both by a factor, so it stays near the limit. It is forgotten when it is short or when nothing was refused for a
//! while.
//!
//! Several bad files look the same at first, but they never succeed: see [`RequestRate::comes_through`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Refusals and answers within this time are counted together.
const WITHIN: Duration = Duration::from_secs(5);

/// Number of other resources refused within that time that mean a rate limit.
const SEVERAL: usize = 2;

/// The first interval, and the longest: no useful server allows fewer requests.
const FIRST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(10);

/// Intervals below this make no difference.
const SHORTEST: Duration = Duration::from_millis(20);

/// Factors of the interval for a refusal, and for an answer.
const SLOWER: f64 = 1.4;
const FASTER: f64 = 0.93;

/// After this time without a refusal the limit is gone, or no longer reached.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The rate of requests for bytes to one origin. `Id` identifies a resource.
#[derive(Debug)]
pub(crate) struct RequestRate<Id> {
    /// Resources that were refused lately, each once, the latest last.
    refused: VecDeque<(Id, Instant)>,
    answered: Option<Instant>,
    /// When a resource that had been refused before was answered.
    came_through: Option<Instant>,
    slowed_to: Option<Interval>,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    interval: Duration,
    /// No request begins before this time.
    next: Instant,
    /// When the interval was last made longer.
    slowed: Instant,
}

/// Until it complains, requests begin at once.
impl<Id> Default for RequestRate<Id> {
    fn default() -> RequestRate<Id> {
        RequestRate {
            refused: VecDeque::new(),
            answered: None,
            came_through: None,
            slowed_to: None,
        }
    }
}

impl<Id: Copy + PartialEq> RequestRate<Id> {
    /// Notes that a request for this resource was refused, with an answer that servers give for too fast requests.
    pub(crate) fn note_refusal(&mut self, resource: Id, now: Instant) {
        self.refused
            .retain(|&(other, at)| other != resource && now.saturating_duration_since(at) < WITHIN);
        self.refused.push_back((resource, now));
    }

    /// Notes that a resource was answered; `was_refused` if it had been refused before.
    pub(crate) fn note_answer(&mut self, was_refused: bool, now: Instant) {
        self.answered = Some(now);
        if was_refused {
            self.came_through = Some(now);
        }
        if let Some(slowed_to) = &mut self.slowed_to {
            slowed_to.interval = slowed_to.interval.mul_f64(FASTER);
            if slowed_to.interval < SHORTEST || now.saturating_duration_since(slowed_to.slowed) > FORGOTTEN {
                self.slowed_to = None;
            }
        }
    }

    /// Returns true if a refusal of this resource is one of several within seconds, while others are answered.
    pub(crate) fn is_exceeded(&self, resource: Id, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < WITHIN;
        let others = self
            .refused
            .iter()
            .filter(|&&(other, at)| other != resource && is_recent(at));
        self.answered.is_some_and(is_recent) && (self.slowed_to.is_some() || others.count() >= SEVERAL)
    }

    /// Returns true if refused resources succeed when they are requested again, or if that is unknown.
    pub(crate) fn comes_through(&self, now: Instant) -> bool {
        self.came_through
            .is_some_and(|at| now.saturating_duration_since(at) < FORGOTTEN)
    }

    /// A request sent at `asked` came too fast. `retry_after` is the pause that the server asked for.
    pub(crate) fn slow_down(&mut self, asked: Instant, retry_after: Option<Duration>, now: Instant) {
        let is_first = self.slowed_to.is_none();
        let slowed_to = self.slowed_to.get_or_insert(Interval {
            interval: FIRST,
            next: now,
            slowed: now,
        });
        // Requests that were in flight together were refused for one reason.
        if !is_first && asked >= slowed_to.slowed {
            slowed_to.interval = slowed_to.interval.mul_f64(SLOWER).min(LONGEST);
            slowed_to.slowed = now;
        }
        let pause = retry_after.unwrap_or_default().max(slowed_to.interval);
        slowed_to.next = slowed_to.next.max(now.checked_add(pause).unwrap_or(now));
    }

    /// The earliest time for the next request, if not now.
    pub(crate) fn wait(&self, now: Instant) -> Option<Instant> {
        self.slowed_to
            .map(|slowed_to| slowed_to.next)
            .filter(|&next| next > now)
    }

    /// A request begins.
    pub(crate) fn begins(&mut self, now: Instant) {
        if let Some(slowed_to) = &mut self.slowed_to {
            slowed_to.next = slowed_to.next.max(now) + slowed_to.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that accepts a request if it accepted none within `interval` before; `files` files
    /// are requested one after another. Returns the number of refusals, and the total time.
    fn plays(interval: Duration, files: u64) -> (u32, Duration) {
        let (began, mut rate) = (Instant::now(), RequestRate::default());
        let (mut now, mut refusals) = (began, 0);
        let mut taken: Option<Instant> = None;
        for file in 0..files {
            let mut was_refused = false;
            loop {
                now = rate.wait(now).unwrap_or(now);
                rate.begins(now);
                let asked = now;
                now += Duration::from_millis(1);
                if taken.is_none_or(|taken| asked >= taken + interval) {
                    taken = Some(asked);
                    rate.note_answer(was_refused, now);
                    break;
                }
                refusals += 1;
                was_refused = true;
                rate.note_refusal(file, now);
                // The first few refusals are still attributed to another cause.
                if rate.is_exceeded(file, now) {
                    rate.slow_down(asked, None, now);
                } else {
                    now += Duration::from_millis(500);
                }
            }
        }
        (refusals, now - began)
    }

    #[test]
    fn requests_begin_nearly_as_fast_as_the_server_takes_them() {
        for (per_second, files) in [(5.0, 40), (1.0, 20)] {
            let interval = Duration::from_secs_f64(1.0 / per_second);
            let (refusals, time) = plays(interval, files);
            assert!(refusals < files as u32, "{refusals} refusals at {per_second} a second");
            assert!(time < interval * files as u32 * 2, "{time:?} at {per_second} a second");
        }
    }

    #[test]
    fn two_refused_resources_are_not_several() {
        let (mut rate, now) = (RequestRate::default(), Instant::now());
        rate.note_answer(false, now);
        for entry in [1, 2, 1, 2] {
            rate.note_refusal(entry, now);
            assert!(!rate.is_exceeded(entry, now));
        }
        rate.note_refusal(3, now);
        assert!(rate.is_exceeded(3, now));
        assert!(!rate.is_exceeded(3, now + WITHIN), "that is long ago");
    }

    #[test]
    fn a_time_that_the_server_names_is_kept_to() {
        let (mut rate, now) = (RequestRate::<u64>::default(), Instant::now());
        rate.slow_down(now, Some(Duration::from_secs(7)), now);
        assert_eq!(rate.wait(now), Some(now + Duration::from_secs(7)));
    }
}
