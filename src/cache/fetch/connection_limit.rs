//! How many connections an origin bears, as far as it has complained.
//!
//! Servers that dislike many at once say so, by 429 or 503 or by breaking connections off: then half as many are allowed, or
//! as many as are being served at that moment if that is more, and one more for each round of answers that go well
//! (additive increase, multiplicative decrease, as TCP does it; RFC 5681 §3.1). What was under way already when the
//! number was lowered complains of the old number, and so does not lower it again. A server that *says* that they are too
//! many has a limit that lasts: one more is tried only after a while ([`PROVEN`]), or each film would run into it every
//! few seconds.
//!
//! **One file alone says nothing of its origin.** What only one entry was refused, or broken off in, may be that file's fault: so it limits that
//! entry and no other. It is the origin's limit once a second entry complains, and no longer than it takes until the files are found to blame.
//!
//! Whether it was their number that a request was refused for is for the scheduler to judge (`scheduler/refusals.rs`), and over how many
//! of those that are allowed the bytes had better come is another question ([`breadth`](super::concurrency_probe)).

use std::time::{Duration, Instant};

use crate::cache::key::EntryId;

/// How long a number of connections is kept to after the server has said that more are too many: this long to twice as
/// long, at random, so that the mounts of an office do not all try at once. Each try may cost a refused request and a line in the
/// server's log, and a limit that was raised is of use for longer than a minute.
const PROVEN: Duration = Duration::from_secs(30);

/// What one origin was seen to bear.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    /// How many connections it bears, as far as it has complained. **At least 1.**
    bears: f64,
    /// The one entry that has complained, while it is the only one.
    alone: Option<Alone>,
    /// Those that have complained since the number was last all, of whom it is not known that they are to blame themselves.
    complainers: Vec<EntryId>,
    /// The most requests that it was seen to serve at once since it last complained.
    peak_in_flight: usize,
    /// How many it serves at a time, as its connections show.
    serves: usize,
    /// When the number was last lowered.
    lowered: Option<Instant>,
    ceiling: Option<Ceiling>,
    /// Whether it has ever complained.
    has_complained: bool,
}

/// Complainers that are remembered. Of more it need not be known which of them were to blame themselves.
const MOST_COMPLAINERS: usize = 16;

/// How long an entry that has complained alone makes another one's complaint more than its own.
const WITNESS: Duration = Duration::from_secs(10);

/// A number of connections that a server has said to be all it allows.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    /// Until when it is believed.
    until: Instant,
    /// How many connections there were before.
    before: f64,
}

/// What one entry was seen to be allowed, of which no other has complained.
#[derive(Debug, Clone, Copy)]
struct Alone {
    entry: EntryId,
    /// How many connections it gets. **At least 1.**
    share: f64,
    /// When that was last lowered.
    at: Instant,
    /// Until when no more are tried.
    until: Instant,
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
    /// What went on at its origin, and what of that was for the same entry.
    pub load: Load,
    pub own: Load,
}

/// Requests under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// How many, the one that was refused included.
    pub running: usize,
    /// Of how many of them the bytes were coming. **Fewer than `running`.**
    pub served: usize,
}

impl Load {
    /// How many connections are to be used after a complaint, of `before`.
    fn allows(self, before: f64, is_said: bool) -> f64 {
        let half = before.min(self.running as f64 / 2.0);
        // Who only breaks off may be overloaded by those that it still serves.
        let served = if is_said { self.served as f64 } else { 1.0 };
        half.max(served).min(before).max(1.0)
    }
}

/// Until it complains, it bears all.
impl Default for ConnectionLimit {
    fn default() -> ConnectionLimit {
        ConnectionLimit {
            bears: f64::INFINITY,
            alone: None,
            complainers: Vec::new(),
            peak_in_flight: 0,
            serves: usize::MAX,
            lowered: None,
            ceiling: None,
            has_complained: false,
        }
    }
}

impl ConnectionLimit {
    /// Takes note of an answer that went well while `running` requests were under way.
    pub fn answered(&mut self, running: usize, now: Instant) {
        self.ceiling.take_if(|ceiling| ceiling.until <= now);
        // That fewer go well says nothing of more.
        let is_full = running as f64 >= self.bears.floor();
        if self.ceiling.is_none() && is_full {
            self.bears += 1.0 / self.bears;
            if self.lowered.is_none_or(|lowered| lowered + WITNESS < now) {
                self.complainers.clear();
            }
        }
        if let Some(alone) = self.alone.as_mut().filter(|alone| alone.until <= now) {
            alone.share += 1.0 / alone.share;
        }
    }

    /// Notes that so many requests are being served at once.
    pub fn bears_out(&mut self, served: usize) {
        self.peak_in_flight = self.peak_in_flight.max(served);
        // It was lowered while some of them had not been answered yet.
        self.bears = self.bears.max(served as f64);
    }

    /// The most requests that it was seen to serve at once since it last complained.
    pub fn peak_in_flight(&self) -> usize {
        self.peak_in_flight
    }

    /// Allows fewer connections after a complaint. Whether it is the first one.
    pub fn refused(&mut self, complaint: Complaint) -> bool {
        let Complaint { by, is_said, now, .. } = complaint;
        self.peak_in_flight = complaint.load.served;
        let until = if is_said {
            now + PROVEN.mul_f64(1.0 + fastrand::f64())
        } else {
            now
        };
        if self.complainers.is_empty() {
            let known = self.alone.filter(|alone| alone.at + WITNESS > now || alone.until > now);
            match known {
                Some(alone) if alone.entry != by => self.complainers.push(alone.entry),
                known => {
                    if known.is_none_or(|alone| complaint.asked >= alone.at) {
                        let before = known.map_or(f64::INFINITY, |alone| alone.share);
                        let share = complaint.own.allows(before, is_said);
                        self.alone = Some(Alone {
                            entry: by,
                            share,
                            at: now,
                            until,
                        });
                    }
                    // Others of its own requests are served, so it is hardly the file.
                    let is_clear = is_said && complaint.own.served > 0;
                    return is_clear && !std::mem::replace(&mut self.has_complained, true);
                }
            }
        } else if self.lowered.is_some_and(|lowered| complaint.asked < lowered) {
            self.add_complainer(by);
            return false;
        }
        self.add_complainer(by);
        self.alone = None;
        let before = self.bears;
        self.bears = complaint.load.allows(before, is_said);
        self.lowered = Some(now);
        if is_said {
            let known = self.ceiling.take();
            let before = known.map_or(before, |known| known.before);
            self.ceiling = Some(Ceiling { until, before });
        }
        !std::mem::replace(&mut self.has_complained, true)
    }

    fn add_complainer(&mut self, entry: EntryId) {
        if !self.complainers.contains(&entry) && self.complainers.len() < MOST_COMPLAINERS {
            self.complainers.push(entry);
        }
    }

    /// Whatever this entry's requests were refused for, it was not their number.
    pub fn clear_attribution(&mut self, entry: EntryId) {
        self.alone.take_if(|alone| alone.entry == entry);
        let known = self.complainers.len();
        self.complainers.retain(|&other| other != entry);
        if self.complainers.len() < known && self.complainers.len() < 2 {
            self.complainers.clear();
            if let Some(ceiling) = self.ceiling.take() {
                self.bears = ceiling.before;
            }
        }
    }

    /// It serves so many connections at a time. Whether that is news.
    pub fn serves(&mut self, connections: usize) -> bool {
        std::mem::replace(&mut self.serves, connections) != connections
    }

    /// It refuses everything: what it bears has to be found out anew when it is back.
    pub fn is_down(&mut self) {
        self.ceiling = None;
    }

    /// The entry that gets fewer connections than there are, and how many.
    pub fn share(&self) -> Option<(EntryId, usize)> {
        self.alone.map(|alone| (alone.entry, alone.share as usize))
    }

    /// How many connections to use, of `limit`.
    pub fn connections(&self, limit: usize) -> usize {
        // A cast of infinity is the largest number.
        limit.min(self.bears as usize).min(self.serves).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of an origin, refused and answered, second by second.
    struct Play {
        tolerance: ConnectionLimit,
        now: Instant,
    }

    impl Play {
        fn new() -> Play {
            let (tolerance, now) = (ConnectionLimit::default(), Instant::now());
            Play { tolerance, now }
        }

        fn passes(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// A request that was made `ago` seconds before is refused.
        fn refused(&mut self, ago: u64, is_said: bool, running: usize, served: usize) {
            // Two of them, so that it is not one file's own trouble.
            for by in [1, 2] {
                self.refused_by(by, ago, is_said, running, served);
            }
        }

        fn refused_by(&mut self, by: u64, ago: u64, is_said: bool, running: usize, served: usize) {
            let load = Load { running, served };
            self.tolerance.refused(Complaint {
                by: EntryId(by),
                is_said,
                asked: self.now - Duration::from_secs(ago),
                now: self.now,
                load,
                own: load,
            });
        }

        fn answered(&mut self, running: usize) {
            self.tolerance.answered(running, self.now);
        }
    }

    #[test]
    fn an_origin_that_breaks_off_gets_half_the_connections_and_slowly_more_again() {
        let mut play = Play::new();
        assert_eq!(play.tolerance.connections(16), 16);
        play.refused(0, false, 16, 10);
        assert_eq!(play.tolerance.connections(16), 8);
        for _ in 0..5 {
            play.passes(1);
            play.refused(0, false, play.tolerance.connections(16), 0);
        }
        assert_eq!(play.tolerance.connections(16), 1, "never none");
        (0..100).for_each(|_| play.answered(0));
        assert_eq!(play.tolerance.connections(16), 1, "as long as more were of no use");
        let mut answers = 0;
        while play.tolerance.connections(16) < 4 {
            play.answered(play.tolerance.connections(16));
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
        assert_eq!(play.tolerance.connections(16), 8);
        play.passes(1);
        (0..4).for_each(|_| play.refused(0, true, 8, 4));
        assert_eq!(play.tolerance.connections(16), 4, "what it serves it bears");
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
            assert_eq!(play.tolerance.connections(16), 4);
        }
        play.passes(31);
        (0..5).for_each(|_| play.answered(4));
        assert_eq!(play.tolerance.connections(16), 5);
        play.refused(0, true, 5, 4);
        assert_eq!(play.tolerance.connections(16), 4, "that was one too many");
    }

    #[test]
    fn one_file_alone_limits_itself_and_no_other() {
        for is_said in [true, false] {
            let mut play = Play::new();
            for running in [16, 8, 4] {
                play.refused_by(1, 0, is_said, running, 1);
                play.passes(1);
            }
            assert_eq!(play.tolerance.connections(16), 16);
            assert_eq!(play.tolerance.share(), Some((EntryId(1), 2)));
            play.refused_by(2, 0, is_said, 4, 2);
            assert_eq!(
                (play.tolerance.connections(16), play.tolerance.share()),
                (2, None),
                "a second one"
            );
        }
    }

    #[test]
    fn a_number_that_files_have_lowered_is_taken_back_when_they_are_to_blame() {
        let mut play = Play::new();
        play.refused(0, true, 16, 15);
        play.passes(1);
        assert_eq!(play.tolerance.connections(16), 15);
        play.tolerance.clear_attribution(EntryId(3));
        assert_eq!(play.tolerance.connections(16), 15, "that is another");
        play.tolerance.clear_attribution(EntryId(1));
        assert_eq!(play.tolerance.connections(16), 16, "one is not enough");
    }
}
