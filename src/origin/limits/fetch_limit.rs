//! The fetch limit: how many requests for bytes an origin accepts at once, learnt from its refusals.
//!
//! Servers that accept only a few requests say so, by 429 or 503 or by breaking connections off. Then the limit becomes
//! half of the number in flight, or the number being served at that moment if that is more. It grows by one for each
//! round of good answers ([`Aimd`]). A server that *says* that there are too many has a lasting limit: one more is tried
//! only after a while ([`PROVEN`]), or each film would run into the limit every few seconds.
//!
//! **One resource alone says nothing of its origin.** A refusal or broken answer of only one resource may be its own
//! fault, so it limits that resource and no other. It becomes the origin's limit when a second resource complains, and
//! ends when the resources turn out to be the cause.
//!
//! The fetch scheduler holds one for each origin, and decides which failures are complaints. Over how many of the
//! allowed connections the bytes should come is a separate question, which the scheduler answers by trying.

use std::time::{Duration, Instant};

use super::aimd::Aimd;

/// Time for which a limit holds after the server has said that more are too many: this long to twice as long, at
/// random, so that the mounts of an office do not all try at once. Each try may cost a refused request and a line in
/// the server's log, and a raised limit is of use for longer than a minute.
const PROVEN: Duration = Duration::from_secs(30);

/// The limit of fetches from one origin. `Id` identifies a resource.
#[derive(Debug)]
pub(crate) struct FetchLimit<Id> {
    /// Number of fetches that it accepts, as far as it has complained.
    accepted: Aimd,
    /// The one resource that has complained, while it is the only one.
    alone: Option<OnlyComplainer<Id>>,
    /// The resources that have complained since the limit was last lifted, without those found to be the cause
    /// themselves.
    complainers: Vec<Id>,
    /// The most requests that it was seen to serve at once since it last complained.
    peak_in_flight: usize,
    /// Number of connections that it serves at a time, by the
    /// [connection limit](super::connection_limit::ConnectionLimit).
    connections: usize,
    ceiling: Option<Ceiling>,
    /// True if it has ever complained.
    has_complained: bool,
}

/// Maximum number of remembered complainers. With more, it does not matter which of them were the cause.
const MOST_COMPLAINERS: usize = 16;

/// Time for which a complaint of one resource confirms that of another.
const WITNESS: Duration = Duration::from_secs(10);

/// A limit that the server has stated.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    /// When it expires.
    until: Instant,
    /// The limit before it.
    before: Aimd,
}

/// The limit of one resource, while no other has complained.
#[derive(Debug, Clone, Copy)]
struct OnlyComplainer<Id> {
    resource: Id,
    /// Number of fetches that it gets.
    share: Aimd,
    /// Until when no more are tried.
    until: Instant,
}

/// A request that was refused or broken off, and the load of its origin then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Complaint<Id> {
    /// The requested resource.
    pub by: Id,
    /// True if the server said that there were too many, false if it only behaved so.
    pub is_said: bool,
    /// When the request was sent.
    pub asked: Instant,
    /// When it failed.
    pub now: Instant,
    /// The load of its origin, and the same resource's part of it.
    pub load: Load,
    pub own: Load,
}

/// Requests in flight.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// Their number, with the one that was refused.
    pub running: usize,
    /// Number of those whose bytes were coming. **Fewer than `running`.**
    pub served: usize,
}

impl<Id> Complaint<Id> {
    /// Lowers a limit to which `load` applies. Returns false if it stays as it is.
    fn lowers(&self, limit: &mut Aimd, load: Load) -> bool {
        // A server that only breaks off may be overloaded by those that it still serves.
        let served = if self.is_said { load.served } else { 1 };
        limit.refused(self.asked, self.now, load.running, served)
    }
}

/// Until it complains, it accepts all.
impl<Id> Default for FetchLimit<Id> {
    fn default() -> FetchLimit<Id> {
        FetchLimit {
            accepted: Aimd::UNLIMITED,
            alone: None,
            complainers: Vec::new(),
            peak_in_flight: 0,
            connections: usize::MAX,
            ceiling: None,
            has_complained: false,
        }
    }
}

impl<Id: Copy + PartialEq> FetchLimit<Id> {
    /// Records a good answer while `running` requests were in flight.
    pub(crate) fn answered(&mut self, running: usize, now: Instant) {
        self.ceiling.take_if(|ceiling| ceiling.until <= now);
        // Fewer good answers at once say nothing about more.
        let is_full = running >= self.accepted.limit();
        if self.ceiling.is_none() && is_full {
            self.accepted.increase();
            if self.accepted.lowered().is_none_or(|lowered| lowered + WITNESS < now) {
                self.complainers.clear();
            }
        }
        if let Some(alone) = self.alone.as_mut().filter(|alone| alone.until <= now) {
            alone.share.increase();
        }
    }

    /// Records that `served` requests are being served at once.
    pub(crate) fn served_at_once(&mut self, served: usize) {
        self.peak_in_flight = self.peak_in_flight.max(served);
        // The limit was lowered while some of them had not been answered yet.
        self.accepted.raise_to(served);
    }

    /// The most requests that it was seen to serve at once since it last complained.
    pub(crate) fn peak_in_flight(&self) -> usize {
        self.peak_in_flight
    }

    /// Lowers the limit after a complaint. Returns true if it is the first one.
    pub(crate) fn refused(&mut self, complaint: Complaint<Id>) -> bool {
        let Complaint { by, is_said, now, .. } = complaint;
        self.peak_in_flight = complaint.load.served;
        let until = if is_said {
            now + PROVEN.mul_f64(1.0 + fastrand::f64())
        } else {
            now
        };
        if self.complainers.is_empty() {
            let is_recent = |alone: &OnlyComplainer<Id>| {
                alone.until > now || alone.share.lowered().is_some_and(|lowered| lowered + WITNESS > now)
            };
            match self.alone.filter(is_recent) {
                Some(alone) if alone.resource != by => self.complainers.push(alone.resource),
                known => {
                    let mut share = known.map_or(Aimd::UNLIMITED, |alone| alone.share);
                    if complaint.lowers(&mut share, complaint.own) {
                        let resource = by;
                        self.alone = Some(OnlyComplainer { resource, share, until });
                    }
                    // Other requests for the resource are served, so it is hardly the cause itself.
                    let is_clear = is_said && complaint.own.served > 0;
                    return is_clear && !std::mem::replace(&mut self.has_complained, true);
                }
            }
        }
        self.add_complainer(by);
        self.alone = None;
        let before = self.accepted;
        if !complaint.lowers(&mut self.accepted, complaint.load) {
            return false;
        }
        if is_said {
            let known = self.ceiling.take();
            let before = known.map_or(before, |known| known.before);
            self.ceiling = Some(Ceiling { until, before });
        }
        !std::mem::replace(&mut self.has_complained, true)
    }

    fn add_complainer(&mut self, resource: Id) {
        if !self.complainers.contains(&resource) && self.complainers.len() < MOST_COMPLAINERS {
            self.complainers.push(resource);
        }
    }

    /// The refusals of this resource's requests had another cause than their number.
    pub(crate) fn clear_attribution(&mut self, resource: Id) {
        self.alone.take_if(|alone| alone.resource == resource);
        let known = self.complainers.len();
        self.complainers.retain(|&other| other != resource);
        if self.complainers.len() < known && self.complainers.len() < 2 {
            self.complainers.clear();
            if let Some(ceiling) = self.ceiling.take() {
                self.accepted = ceiling.before;
            }
        }
    }

    /// The origin serves this many connections at a time. Returns true if the number has changed.
    pub(crate) fn serves(&mut self, connections: usize) -> bool {
        std::mem::replace(&mut self.connections, connections) != connections
    }

    /// The origin refuses everything: its limit has to be learnt anew when it is back.
    pub(crate) fn is_down(&mut self) {
        self.ceiling = None;
    }

    /// The resource with a limit of its own, and that limit.
    pub(crate) fn share(&self) -> Option<(Id, usize)> {
        self.alone.map(|alone| (alone.resource, alone.share.limit()))
    }

    /// Maximum number of concurrent fetches, if `configured` are allowed.
    pub(crate) fn fetches(&self, configured: usize) -> usize {
        configured.min(self.accepted.limit()).min(self.connections).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of an origin, refused and answered, second by second.
    struct Play {
        limit: FetchLimit<u64>,
        now: Instant,
    }

    impl Play {
        fn new() -> Play {
            let (limit, now) = (FetchLimit::default(), Instant::now());
            Play { limit, now }
        }

        fn passes(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// A request sent `ago` seconds before is refused.
        fn refused(&mut self, ago: u64, is_said: bool, running: usize, served: usize) {
            // Two resources, so that neither alone is the cause.
            for by in [1, 2] {
                self.refused_by(by, ago, is_said, running, served);
            }
        }

        fn refused_by(&mut self, by: u64, ago: u64, is_said: bool, running: usize, served: usize) {
            let load = Load { running, served };
            self.limit.refused(Complaint {
                by,
                is_said,
                asked: self.now - Duration::from_secs(ago),
                now: self.now,
                load,
                own: load,
            });
        }

        fn answered(&mut self, running: usize) {
            self.limit.answered(running, self.now);
        }
    }

    #[test]
    fn resets_halve_the_limit_which_then_grows() {
        let mut play = Play::new();
        assert_eq!(play.limit.fetches(16), 16);
        play.refused(0, false, 16, 10);
        assert_eq!(play.limit.fetches(16), 8);
        for _ in 0..5 {
            play.passes(1);
            play.refused(0, false, play.limit.fetches(16), 0);
        }
        assert_eq!(play.limit.fetches(16), 1, "never none");
        (0..100).for_each(|_| play.answered(0));
        assert_eq!(play.limit.fetches(16), 1, "as long as more were of no use");
        let mut answers = 0;
        while play.limit.fetches(16) < 4 {
            play.answered(play.limit.fetches(16));
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
        assert_eq!(play.limit.fetches(16), 8);
        play.passes(1);
        (0..4).for_each(|_| play.refused(0, true, 8, 4));
        assert_eq!(play.limit.fetches(16), 4, "what it serves it bears");
    }

    #[test]
    fn rejected_limit_is_retried_slowly() {
        let mut play = Play::new();
        play.refused(0, true, 16, 4);
        play.passes(1);
        play.refused(0, true, 8, 4);
        for _ in 0..29 {
            play.passes(1);
            (0..10).for_each(|_| play.answered(4));
            assert_eq!(play.limit.fetches(16), 4);
        }
        play.passes(31);
        (0..5).for_each(|_| play.answered(4));
        assert_eq!(play.limit.fetches(16), 5);
        play.refused(0, true, 5, 4);
        assert_eq!(play.limit.fetches(16), 4, "that was one too many");
    }

    #[test]
    fn one_resource_alone_limits_only_itself() {
        for is_said in [true, false] {
            let mut play = Play::new();
            for running in [16, 8, 4] {
                play.refused_by(1, 0, is_said, running, 1);
                play.passes(1);
            }
            assert_eq!(play.limit.fetches(16), 16);
            assert_eq!(play.limit.share(), Some((1, 2)));
            play.refused_by(2, 0, is_said, 4, 2);
            assert_eq!((play.limit.fetches(16), play.limit.share()), (2, None), "a second one");
        }
    }

    #[test]
    fn limit_recovers_when_resources_are_at_fault() {
        let mut play = Play::new();
        play.refused(0, true, 16, 15);
        play.passes(1);
        assert_eq!(play.limit.fetches(16), 15);
        play.limit.clear_attribution(3);
        assert_eq!(play.limit.fetches(16), 15, "that is another");
        play.limit.clear_attribution(1);
        assert_eq!(play.limit.fetches(16), 16, "one is not enough");
    }
}
