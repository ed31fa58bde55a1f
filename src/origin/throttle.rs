//! The bandwidth limit: one line for all bytes of a mount, which moves at the current rate.
//!
//! [`Throttle::take`] returns when the rate allows a piece of a body. Each piece reserves the next bytes of a line, whose
//! head moves at the rate (the virtual scheduling form of the generic cell rate algorithm, in bytes). The caller sleeps
//! until the head is at the end of its piece, less the burst. So:
//!
//! - Callers are served in order of arrival; smaller pieces pass no larger ones.
//! - A piece may be larger than the burst.
//! - No caller polls.
//! - **Another rate takes effect at once**, also for those that sleep ([`Throttle::set_limit`]): the head moves faster or
//!   slower from then on.
//!
//! A caller dropped while it sleeps has used its bytes: they were read from the network before `take`.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::stats::Phase;
use crate::util::bandwidth::BandwidthLimit;

/// What may pass at once after a pause. A tenth of a second keeps any five seconds within 2 % of the rate. It also lets
/// threads of a busy machine that wake late by that much catch up; what is not used in time is lost.
const BURST: Duration = Duration::from_millis(100);

/// How long the rate of a timetable is used before it is looked up again. Short beside the minutes of a timetable; the
/// machine may have been suspended, or its clock set.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Limits all clones together to a number of bytes per second.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// **No other lock is taken under it, and it is never held over an await.**
    line: Mutex<Line>,
    /// Wakes those that sleep when the rate has changed. Each looks at the line again, so none misses a change.
    changed: Notify,
}

/// The place of a piece in the line: the byte after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn(u64);

/// The bytes that have passed, and those that wait.
#[derive(Debug)]
struct Line {
    limit: Option<BandwidthLimit>,
    /// Bytes per second; `None`: no limit.
    rate: Option<u64>,
    /// When the rate is looked up again, if it depends on the time.
    look_up: Option<Instant>,
    /// The head of the line at the moment `at`, in bytes. **At most `end`.**
    head: u64,
    at: Instant,
    /// The end of what is reserved, in bytes.
    end: u64,
}

impl Line {
    fn new(limit: Option<BandwidthLimit>, now: Instant) -> Line {
        let mut line = Line {
            limit: None,
            rate: None,
            look_up: None,
            head: 0,
            at: now,
            end: 0,
        };
        line.set_limit(limit, now);
        line
    }

    fn set_limit(&mut self, limit: Option<BandwidthLimit>, now: Instant) {
        self.move_head(now);
        self.rate = limit.as_ref().and_then(BandwidthLimit::rate_now);
        let depends_on_time = limit.as_ref().is_some_and(BandwidthLimit::is_timetable);
        self.look_up = depends_on_time.then(|| now + LOOK_UP);
        self.limit = limit;
    }

    /// Moves the head to where it is now.
    fn move_head(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.head = match self.rate {
            None => self.end,
            Some(rate) => self.head.saturating_add(bytes_in(passed, rate)).min(self.end),
        };
        self.at = now;
    }

    /// Looks the rate up, if that is due.
    fn keep_time(&mut self, now: Instant) {
        if self.look_up.is_some_and(|due| due <= now) {
            self.set_limit(self.limit.clone(), now);
        }
    }

    /// When the head is there at the current rate, less the burst; `None` if it is there.
    fn due(&self, turn: Turn, now: Instant) -> Option<Instant> {
        let ahead = turn.0.saturating_sub(self.head);
        let due = self.at + cost(ahead, self.rate?);
        (due > now + BURST).then(|| due - BURST)
    }

    fn reserve(&mut self, bytes: usize, now: Instant) -> Option<Turn> {
        self.keep_time(now);
        let rate = self.rate?;
        // What was not used in a pause is lost.
        if self.at + cost(self.end - self.head, rate) <= now {
            (self.head, self.at) = (self.end, now);
        }
        self.end = self.end.saturating_add(bytes as u64);
        let turn = Turn(self.end);
        self.due(turn, now).map(|_| turn)
    }
}

impl Throttle {
    /// A throttle to this limit; `None` means no limit.
    pub(crate) fn new(limit: Option<BandwidthLimit>) -> Throttle {
        Throttle {
            line: Mutex::new(Line::new(limit, Instant::now())),
            changed: Notify::new(),
        }
    }

    /// Keeps to this limit from now on.
    pub(crate) fn set_limit(&self, limit: Option<BandwidthLimit>) {
        self.line.lock().set_limit(limit, Instant::now());
        self.changed.notify_waiters();
    }

    /// Waits until this many bytes may pass, in the order of first polls.
    pub(crate) async fn take(&self, bytes: usize) {
        if let Some(turn) = self.reserve(bytes) {
            self.wait(turn).await;
        }
    }

    /// Reserves the next stretch of the line; returns its place if it may not be used yet. For callers that
    /// [wait](Self::wait) before their next piece instead.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Turn> {
        self.line.lock().reserve(bytes, Instant::now())
    }

    /// Waits until a reserved stretch may be used.
    pub(crate) async fn wait(&self, turn: Turn) {
        loop {
            // Registered before the look, so that no change is missed.
            let changed = self.changed.notified();
            let wake = {
                let (mut line, now) = (self.line.lock(), Instant::now());
                line.keep_time(now);
                let Some(due) = line.due(turn, now) else {
                    Phase::Transferring.enter();
                    return;
                };
                line.look_up.map_or(due, |look_up| look_up.min(due))
            };
            Phase::Throttled.enter();
            tokio::select! {
                () = sleep_until(wake) => {}
                () = changed => {}
            }
        }
    }
}

/// How long the line takes for this many bytes.
fn cost(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
    // Capped at 292 years, which only a rate of some bytes per second reaches.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
}

/// How many bytes pass in a time.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_nanos().saturating_mul(rate.into()) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const RATE: u64 = 1_000_000;

    fn throttle(rate: u64) -> Throttle {
        Throttle::new(Some(BandwidthLimit::constant(rate)))
    }

    /// How long one task needs to pass `pieces`. Time is the runtime's, and jumps whenever all wait.
    async fn passed(throttle: &Throttle, pieces: impl IntoIterator<Item = usize>) -> Duration {
        let start = Instant::now();
        for piece in pieces {
            throttle.take(piece).await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_five_seconds_whatever_the_pieces() {
        for piece in [1_000, 16 << 10, 64 << 10, 1 << 20] {
            let throttle = throttle(RATE);
            let count = (5 * RATE as usize).div_ceil(piece);
            let took = passed(&throttle, std::iter::repeat_n(piece, count)).await;
            let rate = (count * piece) as f64 / took.as_secs_f64();
            assert!(
                (rate / RATE as f64 - 1.0).abs() < 0.03,
                "{rate} bytes/s in pieces of {piece}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_holds_in_total_and_is_shared() {
        let throttle = Arc::new(throttle(RATE));
        let tasks = [(); 8].map(|()| {
            let throttle = throttle.clone();
            tokio::spawn(async move { passed(&throttle, [10_000; 50]).await })
        });
        let mut times = Vec::new();
        for task in tasks {
            times.push(task.await.unwrap().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        // 8 × 500 kB at 1 MB/s, in turns. The first task had the burst, ten pieces, to itself.
        assert!((3.8..4.1).contains(&times[7]) && times[0] > 3.0, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn takers_pass_in_the_order_in_which_they_came() {
        let throttle = Arc::new(throttle(RATE));
        let passed = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (index, bytes) in [900_000, 1, 500_000, 1].into_iter().enumerate() {
            let (throttle, passed) = (throttle.clone(), passed.clone());
            tasks.push(tokio::spawn(async move {
                throttle.take(bytes).await;
                passed.lock().push((index, Instant::now()));
            }));
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        let passed = passed.lock();
        assert!(passed.is_sorted_by_key(|(_, at)| *at));
        // Within a millisecond, the timer's resolution, the order is free.
        assert!(
            passed.iter().position(|(index, _)| *index == 2) >= Some(2),
            "{passed:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_the_burst() {
        let throttle = throttle(RATE);
        throttle.take(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let took = passed(&throttle, [1_000; 1_000]).await;
        assert!(took >= Duration::from_secs(1) - BURST, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_means_no_wait() {
        let throttle = Throttle::new(None);
        assert_eq!(passed(&throttle, [usize::MAX; 3]).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_counts_for_those_that_sleep() {
        let throttle = Arc::new(throttle(1));
        let (start, sleeper) = (Instant::now(), Arc::clone(&throttle));
        let sleeper = tokio::spawn(async move { sleeper.take(4 * RATE as usize).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        throttle.set_limit(Some(BandwidthLimit::constant(2 * RATE)));
        sleeper.await.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert!((2.8..3.1).contains(&took), "{took}");
        // A slower rate counts for what was reserved at a faster one.
        let (start, sleeper) = (Instant::now(), Arc::clone(&throttle));
        let sleeper = tokio::spawn(async move { sleeper.take(4 * RATE as usize).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        throttle.set_limit(Some(BandwidthLimit::constant(RATE)));
        sleeper.await.unwrap();
        let took = start.elapsed().as_secs_f64();
        assert!((2.8..3.3).contains(&took), "{took}");
        let sleeper = Arc::clone(&throttle);
        let sleeper = tokio::spawn(async move { sleeper.take(usize::MAX / 2).await });
        tokio::task::yield_now().await;
        throttle.set_limit(None);
        sleeper.await.unwrap();
        assert_eq!(passed(&throttle, [usize::MAX; 3]).await, Duration::ZERO);
        // What passed without a limit is no debt.
        throttle.set_limit(Some(BandwidthLimit::constant(RATE)));
        assert_eq!(passed(&throttle, [1_000]).await, Duration::ZERO);
    }

    #[test]
    fn the_cost_of_anything_is_finite() {
        assert_eq!(cost(0, 1), Duration::ZERO);
        assert_eq!(cost(RATE, RATE), Duration::from_secs(1));
        assert_eq!(bytes_in(Duration::from_secs(1), RATE), RATE);
        assert_eq!(bytes_in(Duration::MAX, u64::MAX), u64::MAX);
        assert!(cost(u64::MAX, 1) > Duration::from_secs(1 << 30));
    }
}
