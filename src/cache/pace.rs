//! How an origin answers, measured, and how long a fetch from it is best.
//!
//! A fetch costs a round trip before its first byte, whatever its length. So the length is measured in
//! what the connection could have brought in that time: latency × rate. At that length half of the
//! time is waiting; at twenty-four times that, a twenty-fifth.
//!
//! And how many connections it bears. Servers that dislike many at once say so, by 429 or 503 or by
//! breaking connections off: then half as many are allowed, and one more for each round of answers
//! that go well (additive increase, multiplicative decrease, as TCP does it; RFC 5681 §3.1).
//!
//! Short fetches keep many connections busy for one reader and leave the priority queue in charge;
//! long ones waste less. Between the two, what is wanted is shared out among the free connections.

use std::time::Duration;

/// Fetches are not made shorter than this for the sake of sharing out, in bytes: below it the work of
/// a request outweighs that of its bytes, however near the server is.
const SHORTEST: u64 = 1 << 20;

/// Where much is wanted, fetches may be this long however near the server is.
const LONG: u64 = 4 << 20;

/// No fetch is to take longer than this, in seconds, unless that were less than pays for its round trip. Over a
/// connection of 400 kB/s one of 4 MiB would take ten: it would be in the way of who comes meanwhile, and bring alone what others
/// could bring with it.
const LONGEST_TIME: f64 = 2.0;

/// A fetch of this many times latency × rate spends four percent of its time waiting.
const LONGEST: u64 = 24;

/// One of so many spends a ninth of its time waiting, and keeps others waiting for a third of the time.
const TURN: u64 = 8;

/// How much a new measurement counts against all before.
const WEIGHT: f64 = 0.25;

/// Bodies below this say more of the latency than of the rate. No fetch is made shorter, or the rate of a slow connection
/// would never be known better.
const TELLING: u64 = 256 << 10;

/// What was measured of one origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds from the request to the head of the answer.
    latency: f64,
    /// Bytes a second over one connection.
    rate: f64,
    /// How many connections it bears, as far as it has complained. **At least 1.**
    bears: f64,
}

/// A guess for an origin that has not answered yet: a server across the country.
impl Default for Pace {
    fn default() -> Pace {
        Pace {
            latency: 0.03,
            rate: 20e6,
            bears: f64::INFINITY,
        }
    }
}

impl Pace {
    /// Takes a measurement: a head after `latency`, and `bytes` of a body in `time`.
    pub fn note(&mut self, latency: Duration, bytes: u64, time: Duration) {
        self.bears += 1.0 / self.bears;
        self.latency += WEIGHT * (latency.as_secs_f64() - self.latency);
        if bytes >= TELLING && !time.is_zero() {
            self.rate += WEIGHT * (bytes as f64 / time.as_secs_f64() - self.rate);
        }
    }

    /// Notes that it refused a request, or broke one off, while `running` were under way.
    pub fn refused(&mut self, running: usize) {
        self.bears = (self.bears.min(running as f64) / 2.0).max(1.0);
    }

    /// How many connections to use, of `limit`.
    pub fn connections(&self, limit: usize) -> usize {
        // A cast of infinity is the largest number.
        limit.min(self.bears as usize)
    }

    /// Bytes of the next fetch, when `wanted` bytes in a row are wanted and `free` connections could
    /// bring them.
    pub fn fetch_len(&self, wanted: u64, free: usize) -> u64 {
        let longest = self.round_trip().saturating_mul(LONGEST).max(LONG);
        (wanted / free.max(1) as u64).clamp(self.in_time(SHORTEST), self.in_time(longest))
    }

    /// Bytes of a fetch that pays for its round trip and is over soon, for where others wait for the connection.
    pub fn turn_len(&self) -> u64 {
        self.in_time(self.round_trip().saturating_mul(TURN).max(SHORTEST))
    }

    /// So many bytes, or as many as come in [`LONGEST_TIME`], but what comes in a round trip in any case.
    fn in_time(&self, bytes: u64) -> u64 {
        let most = (self.rate * LONGEST_TIME) as u64;
        bytes.min(most).max(self.round_trip()).max(TELLING)
    }

    /// Seconds from a request to its answer, and bytes a second over one connection, if the origin has ever answered.
    pub fn measured(&self) -> Option<(f64, f64)> {
        (*self != Pace::default()).then_some((self.latency, self.rate))
    }

    /// Bytes that a connection could bring in the time of a round trip.
    pub fn round_trip(&self) -> u64 {
        (self.latency * self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn measured(latency_ms: u64, mib_per_second: u64) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.note(
                Duration::from_millis(latency_ms),
                mib_per_second * MIB,
                Duration::from_secs(1),
            );
        }
        pace
    }

    #[test]
    fn what_is_wanted_is_shared_out_among_free_connections() {
        assert_eq!(measured(50, 20).fetch_len(32 * MIB, 16), 2 * MIB);
        assert_eq!(measured(50, 20).fetch_len(32 * MIB, 8), 4 * MIB);
    }

    #[test]
    fn a_fetch_is_long_where_the_round_trip_is_long_and_short_where_it_is_short() {
        let near_and_far = [measured(1, 100), measured(50, 20)].map(|pace| pace.fetch_len(1 << 30, 1));
        assert!(near_and_far[0] <= 4 * MIB, "{near_and_far:?}");
        assert!(near_and_far[1] >= 15 * MIB, "{near_and_far:?}");
        assert!(
            measured(50, 20).fetch_len(MIB, 16) >= MIB * 9 / 10,
            "not for less than a round trip's worth"
        );
    }

    #[test]
    fn over_a_slow_connection_no_fetch_takes_for_ever() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.note(Duration::from_millis(50), 400_000, Duration::from_secs(1));
        }
        for free in [1, 16] {
            let len = pace.fetch_len(1 << 30, free).max(pace.turn_len());
            assert!((400_000..=810_000).contains(&len), "{len}");
        }
    }

    #[test]
    fn an_origin_that_complains_gets_half_the_connections_and_slowly_more_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.connections(16), 16);
        pace.refused(16);
        assert_eq!(pace.connections(16), 8);
        (0..5).for_each(|_| pace.refused(8));
        assert_eq!(pace.connections(16), 1, "never none");
        let mut answers = 0;
        while pace.connections(16) < 4 {
            pace.note(Duration::from_millis(50), 0, Duration::ZERO);
            answers += 1;
        }
        assert!((4..12).contains(&answers), "{answers}");
    }

    #[test]
    fn no_measurement_makes_a_fetch_empty() {
        for (latency, rate) in [(0, 0), (0, 100_000), (60_000, 0), (60_000, 100_000)] {
            for (wanted, free) in [(0, 0), (u64::MAX, 1), (1, 1000)] {
                let len = measured(latency, rate).fetch_len(wanted, free);
                assert!(len >= TELLING, "{latency} ms, {rate} MiB/s: {len}");
            }
        }
    }
}
