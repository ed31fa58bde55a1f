//! How an origin answers, measured, and how long a fetch from it is best.
//!
//! A fetch costs a round trip before its first byte, whatever its length. So the length is measured in
//! what the connection could have brought in that time: latency × rate. At that length half of the
//! time is waiting; at twenty-four times that, a twenty-fifth.
//!
//! And how many connections it bears. Servers that dislike many at once say so, by 429 or 503 or by
//! breaking connections off: then half as many are allowed, or as many as are being served at that moment if
//! that is more, and one more for each round of answers that go well (additive increase, multiplicative
//! decrease, as TCP does it; RFC 5681 §3.1). What was under way already when the number was lowered
//! complains of the old number, and so does not lower it again. A server that *says* that they are
//! too many has a limit that lasts: one more is tried only after a while ([`PROVEN`]), or each
//! film would run into it every few seconds.
//!
//! Short fetches keep many connections busy for one reader and leave the priority queue in charge;
//! long ones waste less. Between the two, what is wanted is shared out among the free connections.

use std::time::{Duration, Instant};

use super::entry::EntryId;

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

/// How long a number of connections is kept to after the server has said that more are too many: this long to twice as
/// long, at random, so that the mounts of an office do not all try at once. Each try may cost a refused request and a line in the
/// server's log, and a limit that was raised is of use for longer than a minute.
const PROVEN: Duration = Duration::from_secs(30);

/// What was measured of one origin.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Seconds from the request to the head of the answer.
    latency: f64,
    /// Bytes a second over one connection.
    rate: f64,
    /// Whether it has ever answered: until then the two are guesses.
    is_measured: bool,
    /// How many connections it bears, as far as it has complained. **At least 1.**
    bears: f64,
    /// The most requests that it was seen to serve at once since it last complained.
    bore: usize,
    /// When the number was last lowered.
    lowered: Option<Instant>,
    ceiling: Option<Ceiling>,
    /// Whether it has ever complained.
    has_complained: bool,
}

/// A number of connections that a server has said to be all it allows.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    /// Until when it is believed.
    until: Instant,
    /// Whose request was refused, if all that were are of one entry: it may turn out that the file alone is to blame.
    by: Option<EntryId>,
    /// How many connections there were before.
    before: f64,
}

/// A request that was refused, or broken off, and what went on at its origin then.
#[derive(Debug, Clone, Copy)]
pub struct Complaint {
    /// Whose request it was.
    pub by: EntryId,
    /// Whether the server said that it was one too many, or only behaved as if.
    pub is_said: bool,
    /// When it was asked.
    pub asked: Instant,
    /// When it came to nothing.
    pub now: Instant,
    /// How many requests were under way, itself included.
    pub running: usize,
    /// Of how many of them the bytes were coming. **Fewer than `running`.**
    pub served: usize,
}

/// A guess for an origin that has not answered yet: a server across the country.
impl Default for Pace {
    fn default() -> Pace {
        Pace {
            latency: 0.03,
            rate: 20e6,
            is_measured: false,
            bears: f64::INFINITY,
            bore: 0,
            lowered: None,
            ceiling: None,
            has_complained: false,
        }
    }
}

impl Pace {
    /// Takes a measurement: a head after `latency`, and `bytes` of a body in `time`, while `running` requests were
    /// under way.
    pub fn note(&mut self, latency: Duration, bytes: u64, time: Duration, running: usize, now: Instant) {
        self.is_measured = true;
        self.latency += WEIGHT * (latency.as_secs_f64() - self.latency);
        if bytes >= TELLING && !time.is_zero() {
            self.rate += WEIGHT * (bytes as f64 / time.as_secs_f64() - self.rate);
        }
        self.ceiling.take_if(|ceiling| ceiling.until <= now);
        // That fewer go well says nothing of more.
        let is_full = running as f64 >= self.bears.floor();
        if self.ceiling.is_none() && is_full {
            self.bears += 1.0 / self.bears;
        }
    }

    /// Notes that so many requests are being served at once.
    pub fn bears_out(&mut self, served: usize) {
        self.bore = self.bore.max(served);
        // It was lowered while some of them had not been answered yet.
        self.bears = self.bears.max(served as f64);
    }

    /// The most requests that it was seen to serve at once since it last complained.
    pub fn bore(&self) -> usize {
        self.bore
    }

    /// Allows fewer connections after a complaint. Whether it is the first one.
    pub fn refused(&mut self, complaint: Complaint) -> bool {
        if self.lowered.is_some_and(|lowered| complaint.asked < lowered) {
            return false;
        }
        let before = self.bears;
        let half = before.min(complaint.running as f64 / 2.0);
        // Who only breaks off may be overloaded by those that it still serves.
        let served = if complaint.is_said {
            complaint.served as f64
        } else {
            1.0
        };
        self.bears = half.max(served).min(before).max(1.0);
        self.bore = complaint.served;
        self.lowered = Some(complaint.now);
        if complaint.is_said {
            let known = self.ceiling.take();
            self.ceiling = Some(Ceiling {
                until: complaint.now + PROVEN.mul_f64(1.0 + fastrand::f64()),
                by: Some(complaint.by).filter(|by| known.is_none_or(|known| known.by == Some(*by))),
                before: known.map_or(before, |known| known.before),
            });
        }
        !std::mem::replace(&mut self.has_complained, true)
    }

    /// Whatever this entry's requests were refused for, it was not their number.
    pub fn acquit(&mut self, entry: EntryId) {
        if let Some(ceiling) = self.ceiling.take_if(|ceiling| ceiling.by == Some(entry)) {
            self.bears = ceiling.before;
        }
    }

    /// It refuses everything: what it bears has to be found out anew when it is back.
    pub fn is_down(&mut self) {
        self.ceiling = None;
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
                1,
                Instant::now(),
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

    /// Requests of an origin, refused and answered, second by second.
    struct Play {
        pace: Pace,
        now: Instant,
    }

    impl Play {
        fn new() -> Play {
            let (pace, now) = (Pace::default(), Instant::now());
            Play { pace, now }
        }

        fn passes(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// A request that was made `ago` seconds before is refused.
        fn refused(&mut self, ago: u64, is_said: bool, running: usize, served: usize) {
            self.pace.refused(Complaint {
                by: EntryId(1),
                is_said,
                asked: self.now - Duration::from_secs(ago),
                now: self.now,
                running,
                served,
            });
        }

        fn answered(&mut self, running: usize) {
            let latency = Duration::from_millis(50);
            self.pace.note(latency, 0, Duration::ZERO, running, self.now);
        }
    }

    #[test]
    fn over_a_slow_connection_no_fetch_takes_for_ever() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            let second = Duration::from_secs(1);
            pace.note(Duration::from_millis(50), 400_000, second, 1, Instant::now());
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
    fn an_origin_that_breaks_off_gets_half_the_connections_and_slowly_more_again() {
        let mut play = Play::new();
        assert_eq!(play.pace.connections(16), 16);
        play.refused(0, false, 16, 10);
        assert_eq!(play.pace.connections(16), 8);
        for _ in 0..5 {
            play.passes(1);
            play.refused(0, false, play.pace.connections(16), 0);
        }
        assert_eq!(play.pace.connections(16), 1, "never none");
        (0..100).for_each(|_| play.answered(0));
        assert_eq!(play.pace.connections(16), 1, "as long as more were of no use");
        let mut answers = 0;
        while play.pace.connections(16) < 4 {
            play.answered(play.pace.connections(16));
            answers += 1;
        }
        assert!((4..12).contains(&answers), "{answers}");
    }

    #[test]
    fn a_burst_of_refusals_lowers_the_number_once() {
        let mut play = Play::new();
        play.passes(10);
        for _ in 0..12 {
            play.refused(1, true, 16, 0);
        }
        assert_eq!(play.pace.connections(16), 8);
        play.passes(1);
        (0..4).for_each(|_| play.refused(0, true, 8, 4));
        assert_eq!(play.pace.connections(16), 4, "what it serves it bears");
    }

    #[test]
    fn what_a_server_has_said_to_be_too_many_is_tried_again_after_a_while_and_one_at_a_time() {
        let mut play = Play::new();
        play.refused(0, true, 16, 4);
        play.passes(1);
        play.refused(0, true, 8, 4);
        for _ in 0..29 {
            play.passes(1);
            (0..10).for_each(|_| play.answered(4));
            assert_eq!(play.pace.connections(16), 4);
        }
        play.passes(31);
        (0..5).for_each(|_| play.answered(4));
        assert_eq!(play.pace.connections(16), 5);
        play.refused(0, true, 5, 4);
        assert_eq!(play.pace.connections(16), 4, "that was one too many");
    }

    #[test]
    fn a_number_that_one_file_has_lowered_is_taken_back_when_the_file_is_to_blame() {
        let mut play = Play::new();
        for running in [16, 8] {
            play.refused(0, true, running, running - 1);
            play.passes(1);
        }
        assert_eq!(play.pace.connections(16), 7);
        play.pace.acquit(EntryId(2));
        assert_eq!(play.pace.connections(16), 7, "that is another");
        play.pace.acquit(EntryId(1));
        assert_eq!(play.pace.connections(16), 16);
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
