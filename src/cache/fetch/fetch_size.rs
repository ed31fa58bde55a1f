//! How an origin answers, and the best length of a fetch from it.
//!
//! A fetch costs a round trip before its first byte, whatever its length. So its length is given as
//! a multiple of latency × rate, the bytes that the connection could have brought in that time. At
//! one times that, half of the time is waiting; at twenty-four times, a twenty-fifth.
//!
//! Short fetches keep many connections busy for one reader, and let the priority queue decide more
//! often. Long ones waste less time. Between the two, the wanted bytes are divided among the free
//! connections.

use std::time::Duration;

/// Minimum bytes of a fetch when wanted bytes are divided: below it the work of a request outweighs
/// that of its bytes, however near the server is.
const SHORTEST: u64 = 1 << 20;

/// Where much is wanted, fetches may have this many bytes however near the server is.
const LONG: u64 = 4 << 20;

/// Maximum seconds of a fetch, unless its round trip needs more to pay off. Over a connection of
/// 400 kB/s, one of 4 MiB would take ten seconds. It would delay later requests, and bring alone
/// what other connections could share.
const LONGEST_TIME: f64 = 2.0;

/// A fetch of this many times latency × rate spends four percent of its time waiting.
const LONGEST: u64 = 24;

/// A fetch of this multiple spends a ninth of its time waiting, and delays others for a third of
/// the time of the longest.
const TURN: u64 = 8;

/// A fetch of this multiple spends a thirteenth of its time waiting. Where readers compete for
/// connections, all of them lose each round trip; and with sixteen connections one ends every 40 ms
/// all the same.
const CROWDED_TURN: u64 = 12;

/// Seconds after which a fetch has had its turn however little it brought, unless it has not paid
/// for its round trip.
const TURN_TIME: f64 = 0.5;

/// Weight of a new measurement against all before.
const WEIGHT: f64 = 0.25;

/// Bodies below this many bytes show the latency more than the rate. No fetch is made shorter, or
/// the rate of a slow connection would never be measured better.
const TELLING: u64 = 256 << 10;

/// Maximum seconds that an answer may take because others were slow, while other work waits.
const LONGEST_FIRST_BYTE: f64 = 30.0;

/// The measurements of one origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchSize {
    /// Seconds from the request to the head of the answer.
    latency: f64,
    /// Bytes per second over one connection.
    rate: f64,
    /// Seconds to the head of most answers. A single slow answer changes it little, however long it
    /// took.
    usual_latency: f64,
    /// True after the first answer; until then latency and rate are guesses.
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
    /// Records a measurement: a head after `latency`, and `bytes` of a body in `time`.
    pub(crate) fn note(&mut self, latency: Duration, bytes: u64, time: Duration) {
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

    /// Bytes of the next fetch, if `wanted` consecutive bytes are wanted and `free` connections
    /// could bring them.
    pub(crate) fn fetch_len(&self, wanted: u64, free: usize) -> u64 {
        let longest = self.round_trip().saturating_mul(LONGEST).max(LONG);
        (wanted / free.max(1) as u64).clamp(self.in_time(SHORTEST), self.in_time(longest))
    }

    /// Bytes that pay for a fetch's round trip and come soon. A fetch that has brought them has had
    /// its turn, if others wait for the connection.
    pub(crate) fn turn_len(&self) -> u64 {
        self.turn_of(TURN)
    }

    /// Bytes of a fetch where more files are read than there are connections, so that others always
    /// wait.
    pub(crate) fn crowded_turn_len(&self) -> u64 {
        self.turn_of(CROWDED_TURN)
    }

    fn turn_of(&self, round_trips: u64) -> u64 {
        let soon = SHORTEST.min((self.rate * TURN_TIME) as u64).max(TELLING);
        self.round_trip().saturating_mul(round_trips).max(soon)
    }

    /// Limits `bytes` to what comes in [`LONGEST_TIME`], but not below what comes in a round trip.
    fn in_time(&self, bytes: u64) -> u64 {
        let most = (self.rate * LONGEST_TIME) as u64;
        bytes.min(most).max(self.round_trip()).max(TELLING)
    }

    /// Seconds from a request to its answer, and bytes per second over one connection, if the
    /// origin has ever answered.
    pub(crate) fn measured(&self) -> Option<(f64, f64)> {
        self.is_measured.then_some((self.latency, self.rate))
    }

    /// Time that a normal answer may take, compared with others.
    pub(crate) fn first_byte_timeout(&self) -> Duration {
        Duration::from_secs_f64((2.0 * self.usual_latency).min(LONGEST_FIRST_BYTE))
    }

    /// Bytes that a connection could bring in the time of a round trip.
    pub(crate) fn round_trip(&self) -> u64 {
        (self.latency * self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn measured(latency_ms: u64, mib_per_second: u64) -> FetchSize {
        let mut size = FetchSize::default();
        for _ in 0..100 {
            size.note(
                Duration::from_millis(latency_ms),
                mib_per_second * MIB,
                Duration::from_secs(1),
            );
        }
        size
    }

    #[test]
    fn wanted_bytes_are_divided_among_free_connections() {
        assert_eq!(measured(50, 20).fetch_len(32 * MIB, 16), 2 * MIB);
        assert_eq!(measured(50, 20).fetch_len(32 * MIB, 8), 4 * MIB);
    }

    #[test]
    fn fetch_length_follows_the_round_trip() {
        let near_and_far = [measured(1, 100), measured(50, 20)].map(|size| size.fetch_len(1 << 30, 1));
        assert!(near_and_far[0] <= 4 * MIB, "{near_and_far:?}");
        assert!(near_and_far[1] >= 15 * MIB, "{near_and_far:?}");
        assert!(
            measured(50, 20).fetch_len(MIB, 16) >= MIB * 9 / 10,
            "not for less than a round trip's worth"
        );
    }

    #[test]
    fn slow_connection_fetch_is_limited_in_time() {
        let mut size = FetchSize::default();
        for _ in 0..100 {
            let second = Duration::from_secs(1);
            size.note(Duration::from_millis(50), 400_000, second);
        }
        for free in [1, 16] {
            let len = size.fetch_len(1 << 30, free);
            assert!((400_000..=810_000).contains(&len), "{len}");
        }
        assert!(size.turn_len() <= 300_000, "{}", size.turn_len());
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
