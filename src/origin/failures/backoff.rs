//! Retry backoff: how long to wait before the next attempt.
//!
//! Pauses double from one failure to the next, so that a server that is down is not flooded. Jitter spreads them, so
//! that waiting fetches do not all retry in the same millisecond. `Retry-After` is a lower bound.

use std::time::Duration;

/// The longest pause, jitter included. A server that restarts is back in seconds; no reader should wait minutes for it.
const LONGEST: Duration = Duration::from_secs(30);

/// Jitter: each pause varies by this fraction, up and down.
const JITTER: f64 = 0.25;

/// The pauses between attempts: an iterator that ends when the retries are used up.
#[derive(Debug, Clone)]
pub(in crate::origin) struct Backoff {
    first: Duration,
    /// The longest pause, jitter included.
    longest: Duration,
    retries: u32,
    /// **Never above `retries`.**
    used: u32,
}

impl Backoff {
    /// `retries` pauses. The first is about `first`; each later one is about twice as long as the one before.
    pub(super) fn new(first: Duration, retries: u32) -> Backoff {
        Backoff {
            first,
            longest: LONGEST,
            retries,
            used: 0,
        }
    }

    /// An endless series of pauses, none longer than `longest`.
    pub(in crate::origin) fn up_to(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            longest,
            ..Backoff::new(first, u32::MAX)
        }
    }

    /// The next pause, never shorter than `retry_after`; `None` when the retries are used up.
    pub(super) fn next_after(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        let pause = self.next()?;
        // Jitter only upwards: a request before the time that the server named would be refused.
        let spread = |asked: Duration| asked.min(self.longest).mul_f64(JITTER * fastrand::f64());
        let asked = retry_after.map(|asked| asked.saturating_add(spread(asked)));
        Some(asked.map_or(pause, |asked| asked.max(pause)))
    }

    /// Counts as many pauses as used as `other` has used, if that is more.
    pub(super) fn catch_up_with(&mut self, other: &Backoff) {
        self.used = self.used.max(other.used).min(self.retries);
    }

    /// After a success: restores all retries and the short first pause.
    pub(in crate::origin) fn reset(&mut self) {
        self.used = 0;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.used >= self.retries {
            return None;
        }
        let doubled = self
            .first
            .saturating_mul(1u32.checked_shl(self.used).unwrap_or(u32::MAX));
        self.used += 1;
        let spread = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        // Cap before jitter: otherwise all long waits would end at the same moment.
        Some(doubled.min(self.longest.div_f64(1.0 + JITTER)).mul_f64(spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);

    fn is_about(pause: Duration, expected: Duration) -> bool {
        pause >= expected.mul_f64(1.0 - JITTER) && pause <= expected.mul_f64(1.0 + JITTER)
    }

    #[test]
    fn foreign_pauses_count_up_to_the_maximum() {
        let mut other = Backoff::up_to(FIRST, Duration::from_secs(100));
        other.nth(1).expect("two of them");
        let mut backoff = Backoff::new(FIRST, 3);
        backoff.catch_up_with(&other);
        assert!(is_about(backoff.next().expect("the third"), FIRST * 4));
        backoff.catch_up_with(&other);
        assert_eq!(backoff.next(), None);
        other.nth(5).expect("more of them");
        backoff.catch_up_with(&other);
        assert_eq!(backoff.next(), None);
    }

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<_> = Backoff::new(FIRST, 4).collect();
        assert_eq!(pauses.len(), 4);
        for (index, pause) in pauses.into_iter().enumerate() {
            assert!(is_about(pause, FIRST * (1 << index)), "{index}: {pause:?}");
        }
        assert_eq!(Backoff::new(FIRST, 0).next(), None);
    }

    #[test]
    fn pauses_are_spread_the_longest_too() {
        for (tries, about) in [(1, FIRST), (20, Duration::from_secs(4))] {
            let pauses: Vec<_> = (0..100)
                .filter_map(|_| Backoff::up_to(FIRST, Duration::from_secs(5)).nth(tries - 1))
                .collect();
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(*most - *least > about.mul_f64(JITTER), "{least:?} to {most:?}");
            assert!(pauses.iter().all(|&pause| is_about(pause, about)));
        }
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        assert!(Backoff::new(FIRST, 100).all(|pause| pause <= LONGEST));
        assert!(Backoff::new(Duration::MAX, 3).all(|pause| pause <= LONGEST));
    }

    #[test]
    fn retry_after_only_lengthens_the_pause() {
        for _ in 0..100 {
            let asked = Duration::from_secs(10);
            let pause = Backoff::new(FIRST, 1).next_after(Some(asked)).unwrap();
            assert!(pause >= asked && pause <= asked.mul_f64(1.0 + JITTER), "{pause:?}");
            let pause = Backoff::new(FIRST, 1).next_after(Some(Duration::ZERO)).unwrap();
            assert!(is_about(pause, FIRST), "{pause:?}");
        }
        assert!(
            Backoff::new(FIRST, 1).next_after(Some(Duration::MAX)).is_some(),
            "no overflow"
        );
        assert_eq!(
            Backoff::new(FIRST, 0).next_after(Some(FIRST)),
            None,
            "asking grants no more retries"
        );
    }

    #[test]
    fn success_resets_the_backoff() {
        let mut backoff = Backoff::new(FIRST, 3);
        assert_eq!(backoff.by_ref().count(), 3);
        backoff.reset();
        assert!(is_about(backoff.next().unwrap(), FIRST));
        assert_eq!(backoff.count(), 2);
    }
}
