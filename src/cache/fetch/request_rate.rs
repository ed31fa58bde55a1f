//! How many requests a second an origin takes, as far as it has refused some for coming too fast.
//!
//! A server that limits the rate (nginx's `limit_req`, 429 of an API) refuses now this file and now that one, and takes each of them a moment
//! later. **Several files that are refused within seconds, while others are answered, mean the rate**: no retry is used up, and requests
//! begin at intervals. The interval grows with refusals and shrinks with answers (multiplicative both, so it stays near the limit), and
//! is forgotten when it is short or when nothing was refused for a while.
//!
//! Several files that are bad look the same at first. They are told by never coming through: see [`RequestRate::comes_through`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cache::key::EntryId;

/// Refusals and answers within this time belong together.
const WITHIN: Duration = Duration::from_secs(5);

/// So many other files refused within that time mean the rate.
const SEVERAL: usize = 2;

/// The first interval, and the longest: no server that is of use allows fewer requests.
const FIRST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(10);

/// Below this, intervals are of no consequence.
const SHORTEST: Duration = Duration::from_millis(20);

/// How the interval changes with a refusal, and with an answer.
const SLOWER: f64 = 1.4;
const FASTER: f64 = 0.93;

/// After so long without a refusal there is no limit any more, or no need to keep to it.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub struct RequestRate {
    /// Files that were refused lately, each once, the latest last.
    refused: VecDeque<(EntryId, Instant)>,
    answered: Option<Instant>,
    /// When a file was answered that had been refused before.
    came_through: Option<Instant>,
    pace: Option<Interval>,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    interval: Duration,
    /// No request is to begin before.
    next: Instant,
    /// When the interval was last made longer.
    slowed: Instant,
}

impl RequestRate {
    /// Notes that a request for this file was refused, in a way in which servers refuse what comes too fast.
    pub fn note_refusal(&mut self, entry: EntryId, now: Instant) {
        self.refused
            .retain(|&(other, at)| other != entry && now.saturating_duration_since(at) < WITHIN);
        self.refused.push_back((entry, now));
    }

    /// Notes that a file was answered, which `was_refused` before or not.
    pub fn note_answer(&mut self, was_refused: bool, now: Instant) {
        self.answered = Some(now);
        if was_refused {
            self.came_through = Some(now);
        }
        if let Some(pace) = &mut self.pace {
            pace.interval = pace.interval.mul_f64(FASTER);
            if pace.interval < SHORTEST || now.saturating_duration_since(pace.slowed) > FORGOTTEN {
                self.pace = None;
            }
        }
    }

    /// Whether a refusal of this file is one of several within seconds, while others are answered.
    pub fn is_exceeded(&self, entry: EntryId, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < WITHIN;
        let others = self
            .refused
            .iter()
            .filter(|&&(other, at)| other != entry && is_recent(at));
        self.answered.is_some_and(is_recent) && (self.pace.is_some() || others.count() >= SEVERAL)
    }

    /// Whether files that are refused come through when they are asked for again, as far as is known.
    pub fn comes_through(&self, now: Instant) -> bool {
        self.came_through
            .is_some_and(|at| now.saturating_duration_since(at) < FORGOTTEN)
    }

    /// A request that was made at `asked` came too fast; the server may have said for how long it is to be left alone.
    pub fn slow_down(&mut self, asked: Instant, retry_after: Option<Duration>, now: Instant) {
        let is_first = self.pace.is_none();
        let pace = self.pace.get_or_insert(Interval {
            interval: FIRST,
            next: now,
            slowed: now,
        });
        // What was under way together was refused for one reason.
        if !is_first && asked >= pace.slowed {
            pace.interval = pace.interval.mul_f64(SLOWER).min(LONGEST);
            pace.slowed = now;
        }
        let pause = retry_after.unwrap_or_default().max(pace.interval);
        pace.next = pace.next.max(now.checked_add(pause).unwrap_or(now));
    }

    /// When the next request may begin, if not now.
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        self.pace.map(|pace| pace.next).filter(|&next| next > now)
    }

    /// A request begins.
    pub fn begins(&mut self, now: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.next = pace.next.max(now) + pace.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes a request if none was taken within `interval` before, asked by so many files one after another. How often it refused,
    /// and how long all took.
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
                rate.note_refusal(EntryId(file), now);
                // The first few are still thought to be refused for another reason.
                if rate.is_exceeded(EntryId(file), now) {
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
    fn two_files_that_are_refused_are_not_several() {
        let (mut rate, now) = (RequestRate::default(), Instant::now());
        rate.note_answer(false, now);
        for entry in [1, 2, 1, 2] {
            rate.note_refusal(EntryId(entry), now);
            assert!(!rate.is_exceeded(EntryId(entry), now));
        }
        rate.note_refusal(EntryId(3), now);
        assert!(rate.is_exceeded(EntryId(3), now));
        assert!(!rate.is_exceeded(EntryId(3), now + WITHIN), "that is long ago");
    }

    #[test]
    fn a_time_that_the_server_names_is_kept_to() {
        let (mut rate, now) = (RequestRate::default(), Instant::now());
        rate.slow_down(now, Some(Duration::from_secs(7)), now);
        assert_eq!(rate.wait(now), Some(now + Duration::from_secs(7)));
    }
}
