//! A limit by additive increase and multiplicative decrease, as TCP finds its window (RFC 5681 §3.1).

use std::time::Instant;

/// How many requests at once a server bears, as far as it has complained. **At least 1.**
#[derive(Debug, Clone, Copy)]
pub(super) struct Aimd {
    limit: f64,
    /// When it was last lowered.
    lowered: Option<Instant>,
}

impl Aimd {
    /// No limit.
    pub(super) const UNLIMITED: Aimd = Aimd {
        limit: f64::INFINITY,
        lowered: None,
    };

    /// This limit, at least 1.
    pub(super) fn new(limit: usize) -> Aimd {
        Aimd {
            limit: limit.max(1) as f64,
            lowered: None,
        }
    }

    /// The limit. [`usize::MAX`] for no limit.
    pub(super) fn limit(&self) -> usize {
        // A cast of infinity is the largest number.
        self.limit as usize
    }

    /// When it was last lowered.
    pub(super) fn lowered(&self) -> Option<Instant> {
        self.lowered
    }

    /// After a good answer: one more for each round of them.
    pub(super) fn increase(&mut self) {
        self.limit += 1.0 / self.limit;
    }

    /// A request that was sent at `asked` was refused at `now`, one of so many in flight. Lowers the limit to half of
    /// these, or to the number of them that are served, if that is more. Never raises it.
    ///
    /// Returns false if the limit was lowered after the request was sent. The request was refused because of the
    /// earlier limit then, so the limit stays.
    pub(super) fn refused(&mut self, asked: Instant, now: Instant, in_flight: usize, served: usize) -> bool {
        if self.lowered.is_some_and(|lowered| asked < lowered) {
            return false;
        }
        let half = self.limit.min(in_flight as f64 / 2.0);
        self.limit = half.max(served as f64).min(self.limit).max(1.0);
        self.lowered = Some(now);
        true
    }

    /// At least this many were seen to be served at once.
    pub(super) fn raise_to(&mut self, served: usize) {
        self.limit = self.limit.max(served as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn refusal_halves_and_answers_raise_slowly() {
        let (mut limit, began) = (Aimd::UNLIMITED, Instant::now());
        let now = began + Duration::from_secs(1);
        assert!(limit.refused(began, now, 16, 1));
        assert_eq!(limit.limit(), 8);
        let answers = (1..).find(|_| {
            limit.increase();
            limit.limit() == 9
        });
        assert!((8..=10).contains(&answers.unwrap()));
        assert!(!limit.refused(began, now, 9, 0), "it was sent before");
        assert!(limit.refused(now, now, 9, 7));
        assert_eq!(limit.limit(), 7, "as many as are served");
        let (mut four, mut one) = (Aimd::new(4), Aimd::new(1));
        assert!(four.refused(now, now, 16, 16) && one.refused(now, now, 1, 0));
        assert_eq!((four.limit(), one.limit()), (4, 1), "never more, and never none");
    }
}
