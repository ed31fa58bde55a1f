//! The concurrency probe: how many connections fill the line to an origin.
//!
//! Many servers limit each connection: then sixteen bring sixteen times as much as one. If the line
//! as a whole is the limit, two bring as much as sixteen, and a reader that seeks shares the line
//! with fewer others. Only a trial with fewer connections shows which case it is, and with a server
//! of the first kind the trial costs half the rate. So:
//!
//! - A trial begins only after all connections have been in use for a while, and lasts a moment.
//! - It halves the number, and halves it again for as long as the rate stays about the same.
//! - Trials without success become less frequent.
//! - Now and then twice as many are tried, as lines change.
//!
//! A trial measures all bytes of an origin over a second in which exactly this many fetches are in
//! flight. Many servers send the first megabytes of an answer without their limit; that is a small
//! part of it. The number does not apply to blocked readers, only to read-ahead, prefetch and fill.

use std::time::{Duration, Instant};

/// Duration of one measurement. Long beside a round trip, and beside the batches in which bytes are
/// written.
const SAMPLE: Duration = Duration::from_secs(1);

/// Time for which all connections must be in use before the first trial. A shorter transfer is over
/// before fewer connections would help.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Time in use before the next trial, at first: one second in thirty at half the rate costs less
/// than two percent. It doubles with each trial without success.
const NEXT_LOOK: Duration = Duration::from_secs(30);

/// Maximum of that time.
const LAST_LOOK: Duration = Duration::from_secs(600);

/// Fewer connections suffice if they bring this fraction of the rate of twice as many.
const ENOUGH: f64 = 0.9;

/// Minimum number: with one, the line would be idle for a round trip after each fetch.
const FEWEST: usize = 2;

/// The result for one origin.
#[derive(Debug, Clone)]
pub(crate) struct ConcurrencyProbe {
    /// Number of connections that suffice; `None`: all are of use, as far as is known.
    suffice: Option<usize>,
    trial: Option<Trial>,
    sample: Option<Sample>,
    /// Time for which that number has been in use since the last trial.
    at_work: Duration,
    /// Time in use before the next trial.
    look_after: Duration,
    /// That time after a trial without success.
    backoff: Duration,
    /// True if the next trial uses fewer connections, false if more.
    is_narrowing: bool,
}

/// A trial of another number.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The number of connections before the trial; `None`: all.
    before: Option<usize>,
    /// Their rate in bytes per second.
    rate: f64,
}

/// A running measurement.
#[derive(Debug, Clone, Copy)]
struct Sample {
    since: Instant,
    bytes: u64,
}

impl Default for ConcurrencyProbe {
    fn default() -> ConcurrencyProbe {
        ConcurrencyProbe {
            suffice: None,
            trial: None,
            sample: None,
            at_work: Duration::ZERO,
            look_after: FIRST_LOOK,
            backoff: NEXT_LOOK,
            is_narrowing: true,
        }
    }
}

impl ConcurrencyProbe {
    /// How many of `connections` to use for work that no reader is blocked on.
    pub(crate) fn of(&self, connections: usize) -> usize {
        self.suffice.map_or(connections, |suffice| suffice.min(connections))
    }

    /// Records `bytes` that came while `running` fetches were in flight, of `connections` possible
    /// ones.
    pub(crate) fn note(&mut self, bytes: u64, running: usize, connections: usize, now: Instant) {
        let used = self.of(connections);
        if running != used {
            self.sample = None;
            // There is nothing more to fetch; the next reader must not begin with a trial.
            if running < used && self.trial.is_some() {
                self.give_up_trial();
            }
            return;
        }
        let Some(sample) = &mut self.sample else {
            self.sample = Some(Sample { since: now, bytes: 0 });
            return;
        };
        sample.bytes += bytes;
        let time = now.saturating_duration_since(sample.since);
        if time >= SAMPLE {
            let rate = sample.bytes as f64 / time.as_secs_f64();
            self.sample = None;
            self.measured(rate, time, used, connections);
        }
    }

    fn measured(&mut self, rate: f64, time: Duration, used: usize, connections: usize) {
        if let Some(trial) = self.trial {
            let is_fewer = used < trial.before.unwrap_or(connections);
            let (few, many) = if is_fewer {
                (rate, trial.rate)
            } else {
                (trial.rate, rate)
            };
            // Fewer connections are kept if they suffice, and more if fewer do not.
            if (few >= ENOUGH * many) != is_fewer {
                self.is_narrowing = !self.is_narrowing;
                self.give_up_trial();
                return;
            }
            self.trial = None;
            // The next trial in this direction begins at once.
            (self.at_work, self.look_after, self.backoff) = (Duration::ZERO, Duration::ZERO, NEXT_LOOK);
        }
        self.at_work += time;
        if self.at_work < self.look_after {
            return;
        }
        let next = match self.is_narrowing {
            true if used / 2 >= FEWEST => Some(used / 2),
            false if used < connections => Some(used * 2).filter(|&more| more < connections),
            // There is nothing to try in this direction.
            _ => {
                self.is_narrowing = !self.is_narrowing;
                (self.at_work, self.look_after) = (Duration::ZERO, self.backoff);
                return;
            }
        };
        self.trial = Some(Trial {
            before: self.suffice,
            rate,
        });
        self.suffice = next;
    }

    /// Returns to the number before the trial, and waits longer before the next one.
    fn give_up_trial(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.suffice = trial.before;
        }
        (self.at_work, self.look_after) = (Duration::ZERO, self.backoff);
        self.backoff = (self.backoff * 2).min(LAST_LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with all connections in use, in steps of a tenth of a second.
    struct Line {
        probe: ConcurrencyProbe,
        now: Instant,
        /// Seconds in which fewer than all connections were used.
        narrow: f64,
    }

    impl Line {
        fn new() -> Line {
            Line {
                probe: ConcurrencyProbe::default(),
                now: Instant::now(),
                narrow: 0.0,
            }
        }

        /// Runs for `seconds`, in which `n` connections bring `rate_of(n)` bytes per second.
        fn runs(&mut self, seconds: u64, rate_of: impl Fn(usize) -> f64) {
            for _ in 0..seconds * 10 {
                let used = self.probe.of(16);
                self.now += Duration::from_millis(100);
                self.narrow += if used < 16 { 0.1 } else { 0.0 };
                self.probe.note((rate_of(used) / 10.0) as u64, used, 16, self.now);
            }
        }
    }

    fn limited_each(connections: usize) -> f64 {
        connections as f64 * 20e6
    }

    fn limited_in_all(connections: usize) -> f64 {
        (connections as f64 * 15e6).min(20e6)
    }

    #[test]
    fn per_connection_limit_uses_all_connections() {
        let mut line = Line::new();
        line.runs(14, limited_each);
        assert_eq!(line.narrow, 0.0, "not for what is here soon");
        line.runs(3600, limited_each);
        assert_eq!(line.probe.of(16), 16);
        assert!((1.0..30.0).contains(&line.narrow), "{} s with fewer", line.narrow);
    }

    #[test]
    fn shared_limit_uses_few_connections() {
        let mut line = Line::new();
        line.runs(60, limited_in_all);
        assert_eq!(line.probe.of(16), 2);
        line.runs(600, limited_in_all);
        assert!(line.probe.of(16) <= 4, "{}", line.probe.of(16));
        line.runs(1200, limited_each);
        assert_eq!(line.probe.of(16), 16);
    }

    #[test]
    fn trial_ends_with_its_stream() {
        let mut line = Line::new();
        line.runs(15, limited_in_all);
        while line.probe.of(16) == 16 {
            line.runs(1, limited_in_all);
        }
        line.probe.note(0, 3, 16, line.now);
        assert_eq!(line.probe.of(16), 16);
    }

    #[test]
    fn probe_works_with_any_connection_count() {
        for connections in 1..8 {
            let (mut probe, mut now) = (ConcurrencyProbe::default(), Instant::now());
            for _ in 0..10_000 {
                now += Duration::from_millis(100);
                let used = probe.of(connections);
                assert!(used >= FEWEST.min(connections) && used <= connections);
                probe.note(1_000_000, used, connections, now);
            }
        }
    }
}
