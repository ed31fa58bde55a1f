//! How an origin answers, measured, and how long a fetch from it is best.
//!
//! A fetch costs a round trip before its first byte, whatever its length. So the length is measured in
//! what the connection could have brought in that time: latency × rate. At that length half of the
//! time is waiting; at twenty-four times that, a twenty-fifth.
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

/// One of so many spends a thirteenth of its time waiting. Where readers wait for each other's connections each round trip is
/// lost to all of them, and with sixteen connections one ends every 40 ms all the same.
const CROWDED_TURN: u64 = 12;

/// Seconds after which a fetch has had its turn however little it brought, unless it has not paid for its round trip.
const TURN_TIME: f64 = 0.5;

/// How much a new measurement counts against all before.
const WEIGHT: f64 = 0.25;

/// Bodies below this say more of the latency than of the rate. No fetch is made shorter, or the rate of a slow connection
/// would never be known better.
const TELLING: u64 = 256 << 10;

/// Seconds. No answer is waited for longer than this because others were slow, while there is something else to ask for.
const LONGEST_PATIENCE: f64 = 30.0;

/// What was measured of one origin.
#[derive(Debug, Clone, Copy)]
pub struct FetchSize {
    /// Seconds from the request to the head of the answer.
    latency: f64,
    /// Bytes a second over one connection.
    rate: f64,
    /// Seconds to the head of most answers. A single one that is slow moves it little, whatever it took.
    usual_latency: f64,
    /// Whether it has ever answered: until then the two are guesses.
    is_measured: bool,
}

/// A guess for an origin that has not answered yet: a server across the country.
impl Default for FetchSize {
    fn default() -> FetchSize {
        FetchSize {
            latency: 0.03,
            rate: 20e6,
            usual_latency: 0.25,
            is_measured: false,
        }
    }
}

impl FetchSize {
    /// Takes a measurement: a head after `latency`, and `bytes` of a body in `time`.
    pub fn note(&mut self, latency: Duration, bytes: u64, time: Duration) {
        self.is_measured = true;
        let seconds = latency.as_secs_f64();
        self.latency += WEIGHT * (seconds - self.latency);
        self.usual_latency = seconds
            .clamp(self.usual_latency * 0.7, self.usual_latency * 2.0)
            .max(0.01);
        if bytes >= TELLING && !time.is_zero() {
            self.rate += WEIGHT * (bytes as f64 / time.as_secs_f64() - self.rate);
        }
    }

    /// Bytes of the next fetch, when `wanted` bytes in a row are wanted and `free` connections could
    /// bring them.
    pub fn fetch_len(&self, wanted: u64, free: usize) -> u64 {
        let longest = self.round_trip().saturating_mul(LONGEST).max(LONG);
        (wanted / free.max(1) as u64).clamp(self.in_time(SHORTEST), self.in_time(longest))
    }

    /// Whether a fetch goes over a gap of so many bytes that nobody asks for, to what is wanted beyond it: when that is
    /// sooner there than another request is answered. Not if one of `free` connections could bring it meanwhile; then
    /// nothing is sent twice.
    pub fn bridges(&self, gap: u64, free: usize) -> bool {
        free == 0 && gap <= self.round_trip()
    }

    /// Whether so many bytes, all that a fetch would leave of what is wanted, had better come with it: they are sooner there
    /// than another request is answered.
    pub fn takes_along(&self, rest: u64) -> bool {
        rest <= self.round_trip()
    }

    /// Bytes that pay for a fetch's round trip and are soon here: one that has brought them has had its turn, if others wait
    /// for the connection.
    pub fn turn_len(&self) -> u64 {
        self.turn_of(TURN)
    }

    /// Bytes of a fetch where more files are read than there are connections, and others wait for each of them all the time.
    pub fn crowded_turn_len(&self) -> u64 {
        self.turn_of(CROWDED_TURN)
    }

    fn turn_of(&self, round_trips: u64) -> u64 {
        let soon = SHORTEST.min((self.rate * TURN_TIME) as u64).max(TELLING);
        self.round_trip().saturating_mul(round_trips).max(soon)
    }

    /// So many bytes, or as many as come in [`LONGEST_TIME`], but what comes in a round trip in any case.
    fn in_time(&self, bytes: u64) -> u64 {
        let most = (self.rate * LONGEST_TIME) as u64;
        bytes.min(most).max(self.round_trip()).max(TELLING)
    }

    /// Seconds from a request to its answer, and bytes a second over one connection, if the origin has ever answered.
    pub fn measured(&self) -> Option<(f64, f64)> {
        self.is_measured.then_some((self.latency, self.rate))
    }

    /// How long an answer may take that is no slower than others.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64((2.0 * self.usual_latency).min(LONGEST_PATIENCE))
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

    fn measured(latency_ms: u64, mib_per_second: u64) -> FetchSize {
        let mut pace = FetchSize::default();
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
        let mut pace = FetchSize::default();
        for _ in 0..100 {
            let second = Duration::from_secs(1);
            pace.note(Duration::from_millis(50), 400_000, second);
        }
        for free in [1, 16] {
            let len = pace.fetch_len(1 << 30, free);
            assert!((400_000..=810_000).contains(&len), "{len}");
        }
        assert!(pace.turn_len() <= 300_000, "{}", pace.turn_len());
        assert!(
            measured(50, 20).turn_len() >= 7 * MIB,
            "where the round trip is to be paid for"
        );
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
