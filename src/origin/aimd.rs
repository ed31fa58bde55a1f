//! A limit by additive increase and multiplicative decrease, as TCP finds its window (RFC 5681 §3.1).

/// How many requests at once a server bears, as far as it has complained. **At least 1.**
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Aimd(f64);

impl Aimd {
    /// No limit.
    pub(crate) const UNLIMITED: Aimd = Aimd(f64::INFINITY);

    /// This limit, at least 1.
    pub(crate) fn new(limit: usize) -> Aimd {
        Aimd(limit.max(1) as f64)
    }

    /// The limit. [`usize::MAX`] for no limit.
    pub(crate) fn limit(self) -> usize {
        // A cast of infinity is the largest number.
        self.0 as usize
    }

    /// After a good answer: one more for each round of them.
    pub(crate) fn increase(&mut self) {
        self.0 += 1.0 / self.0;
    }

    /// The limit after a complaint: half of the requests in flight, or the number of them that are served, if that is
    /// more. Never a higher one.
    pub(crate) fn decreased(self, in_flight: usize, served: usize) -> Aimd {
        let half = self.0.min(in_flight as f64 / 2.0);
        Aimd(half.max(served as f64).min(self.0).max(1.0))
    }

    /// At least this many were seen to be served at once.
    pub(crate) fn raise_to(&mut self, served: usize) {
        self.0 = self.0.max(served as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_halves_the_limit_and_answers_raise_it_slowly() {
        let mut limit = Aimd::UNLIMITED.decreased(16, 1);
        assert_eq!(limit.limit(), 8);
        let answers = (1..).find(|_| {
            limit.increase();
            limit.limit() == 9
        });
        assert!((8..=10).contains(&answers.unwrap()));
        assert_eq!(limit.decreased(9, 7).limit(), 7, "as many as are served");
        assert_eq!(Aimd::new(4).decreased(16, 16).limit(), 4, "never more");
        assert_eq!(Aimd::new(1).decreased(1, 0).limit(), 1, "never none");
    }
}
