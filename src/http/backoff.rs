//! How long to wait before the next attempt.
//!
//! The pauses double from one failure to the next, so that a server that is down is not beaten, and they are spread
//! at random, so that many waiting fetches do not all come back in the same millisecond. What a server asked for by
//! `Retry-After` is a lower bound.

use std::time::Duration;

/// The longest pause, jitter included. A server that restarts is back in seconds; nobody should sit out minutes then.
const LONGEST: Duration = Duration::from_secs(30);

/// Each pause is spread by this part of it, up and down.
const JITTER: f64 = 0.25;

/// The pauses between the attempts at one thing: an iterator that ends when the retries are used up.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    retries: u32,
    /// **Never above `retries`.**
    used: u32,
}

impl Backoff {
    /// `retries` pauses, the first of about `first`, each about twice as long as the one before.
    pub fn new(first: Duration, retries: u32) -> Backoff {
        Backoff {
            first,
            retries,
            used: 0,
        }
    }

    /// The next pause, at least as long as the server asked for; `None` when the retries are used up.
    pub fn next_after(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        let pause = self.next()?;
        // Spread upwards only: whoever was told "in ten seconds" is not welcome after nine.
        let asked = retry_after.map(|asked| asked.mul_f64(1.0 + JITTER * fastrand::f64()));
        Some(asked.map_or(pause, |asked| asked.max(pause)))
    }

    /// After a success: the retries are all there again, and short.
    pub fn reset(&mut self) {
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
        Some(doubled.min(LONGEST.div_f64(1.0 + JITTER)).mul_f64(spread))
    }
}
