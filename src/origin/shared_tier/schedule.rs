//! When a name of the tier is looked up again.
//!
//! A name is due when the time of its records (TTL) is over, and looked up when a fetch asks for nodes then. The fetch does not
//! wait: it gets the nodes that are known. So an unused mount looks nothing up, and needs no timer that would
//! have to be stopped.

use std::time::Duration;

use tokio::time::Instant;

use crate::origin::failures::backoff::Backoff;

/// The shortest time between two look-ups: some servers give a TTL of 0.
const SHORTEST: Duration = Duration::from_secs(5);

/// The longest time, so that a mistake in a record with a TTL of a week is over within an hour of its correction.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long a look-up may be under way before another one begins: longer than any lasts.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// The pause after a first failure. Later ones are longer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    pauses: Backoff,
    /// Why the last look-up failed, if it did.
    error: Option<String>,
    lookups: u64,
    failed: u64,
}

impl Schedule {
    /// Of a name that is due now.
    pub(super) fn new() -> Schedule {
        Schedule {
            due: Instant::now(),
            pauses: Backoff::up_to(FIRST_PAUSE, LONGEST_PAUSE),
            error: None,
            lookups: 0,
            failed: 0,
        }
    }

    /// Returns true if the caller has to look the name up now. Other callers get false until it reports.
    pub(super) fn try_begin(&mut self) -> bool {
        let now = Instant::now();
        let begins = self.due <= now;
        if begins {
            self.due = now + UNDER_WAY;
        }
        begins
    }

    /// The records were found; they are valid for this time. Returns true if the look-up before failed.
    pub(super) fn found(&mut self, ttl: Duration) -> bool {
        self.pauses.reset();
        self.ended(ttl.clamp(SHORTEST, LONGEST));
        self.error.take().is_some()
    }

    /// They were not found. Returns true if the look-up before did not fail.
    pub(super) fn failed(&mut self, why: String) -> bool {
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        self.ended(pause);
        self.failed += 1;
        self.error.replace(why).is_none()
    }

    fn ended(&mut self, pause: Duration) {
        self.lookups += 1;
        self.due = Instant::now() + pause;
    }

    /// Why the last look-up failed, if it did.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Time until it is due; zero if the next fetch looks it up.
    pub(super) fn next(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Look-ups so far, and those that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.lookups, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn name_is_looked_up_again_when_its_time_is_over() {
        for (ttl, due) in [(0, 5), (5, 5), (30, 30), (3600, 3600), (86_400, 3600)] {
            let mut schedule = Schedule::new();
            assert!(schedule.try_begin());
            assert!(!schedule.try_begin(), "one at a time");
            schedule.found(SECOND * ttl);
            assert_eq!(schedule.next(), SECOND * due);
            advance(SECOND * due - Duration::from_millis(1)).await;
            assert!(!schedule.try_begin(), "a TTL of {ttl} s");
            advance(Duration::from_millis(1)).await;
            assert!(schedule.try_begin(), "a TTL of {ttl} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_said_once_and_retried_with_growing_pauses() {
        let mut schedule = Schedule::new();
        let mut last = Duration::ZERO;
        for number in 0..10 {
            assert!(schedule.try_begin());
            assert_eq!(schedule.failed(format!("failure {number}")), number == 0);
            assert!(schedule.next() <= LONGEST_PAUSE);
            assert!(number > 5 || schedule.next() > last, "{last:?}, {:?}", schedule.next());
            last = schedule.next();
            advance(last).await;
        }
        assert_eq!((schedule.error(), schedule.counts()), (Some("failure 9"), (10, 10)));
        assert!(schedule.try_begin());
        assert!(schedule.found(SECOND * 30), "it is said that it is over");
        assert_eq!((schedule.error(), schedule.counts()), (None, (11, 10)));
        advance(SECOND * 30).await;
        assert!(schedule.try_begin());
        schedule.failed("again".to_owned());
        assert!(schedule.next() <= FIRST_PAUSE * 2, "the pauses begin anew");
    }
}
