//! How long a node takes to answer, and after which time the file's own server is asked too.

use std::time::Duration;

/// Number of answers that count: with 128, the 99th percentile is the second longest.
const WINDOW: usize = 128;

/// Answers before the percentile means anything.
const ENOUGH: usize = 20;

/// How long to wait for a node of which little is known. nginx looks every 500 ms whether a slice that another client
/// has asked for is there. So a shorter time would send a part of each cold start of many machines to the origin.
const UNKNOWN: Duration = Duration::from_secs(2);

/// The shortest time to wait. A node in the same network answers within a few milliseconds, unless it asks the origin.
const SHORTEST: Duration = Duration::from_millis(250);

/// The longest time to wait. A node whose origin is slow answers late as a rule; one that does not answer at all must not
/// hold a reader for as long as three of these.
const LONGEST: Duration = Duration::from_secs(5);

/// The last answers of a node: time from the request to the head of the response.
#[derive(Debug, Default)]
pub(super) struct Latency {
    last: Vec<Duration>,
    /// Where the next one goes.
    next: usize,
}

impl Latency {
    pub(super) fn note(&mut self, time: Duration) {
        if self.last.len() < WINDOW {
            self.last.push(time);
        } else {
            self.last[self.next] = time;
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// The 99th percentile; `None` after a few answers only.
    pub(super) fn p99(&self) -> Option<Duration> {
        if self.last.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.last.clone();
        let at = (sorted.len() * 99).div_ceil(100) - 1;
        Some(*sorted.select_nth_unstable(at).1)
    }

    /// How long to wait for an answer before another place is asked too.
    pub(super) fn patience(&self) -> Duration {
        self.p99().map_or(UNKNOWN, |p99| (p99 * 3).clamp(SHORTEST, LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_slowest_of_the_last_answers() {
        let ms = Duration::from_millis;
        let mut latency = Latency::default();
        assert_eq!(latency.patience(), UNKNOWN);
        (0..ENOUGH).for_each(|_| latency.note(ms(2)));
        assert_eq!(latency.patience(), SHORTEST);
        latency.note(ms(600));
        assert_eq!(latency.p99(), Some(ms(600)));
        assert_eq!(latency.patience(), ms(1800));
        latency.note(ms(60_000));
        assert_eq!(latency.patience(), LONGEST);
        (0..WINDOW).for_each(|_| latency.note(ms(3)));
        assert_eq!(latency.patience(), SHORTEST, "the old ones no longer count");
        latency.note(ms(600));
        assert_eq!(latency.p99(), Some(ms(3)), "one of 128 is no percentile");
    }
}
