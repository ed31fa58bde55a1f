//! The bandwidth limit: one token bucket over all bytes of a mount.
//!
//! [`Throttle::take`] returns when the rate allows a piece of a body. The bucket is kept as a schedule (the virtual
//! scheduling form of the generic cell rate algorithm): `paid_until` is the moment up to which the line is reserved.
//! Taking `n` bytes moves it by `n / rate`, and the caller sleeps until that moment, less the burst. So:
//!
//! - Callers are served in order of arrival; smaller pieces pass no larger ones.
//! - A piece may be larger than the burst.
//! - No caller polls.
//!
//! A caller dropped while it sleeps has used its bytes: they were read from the network before `take`.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may pass at once after a pause. A tenth of a second keeps any five seconds within 2 % of the rate. It also lets
/// threads of a busy machine that wake late by that much catch up; what is not used in time is lost.
const BURST: Duration = Duration::from_millis(100);

/// Limits all clones together to a number of bytes per second.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes per second; `None`: no limit.
    rate: Option<u64>,
    /// Up to when the line is reserved. **No other lock is taken under it, and it is never held over an await.**
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A throttle to this many bytes per second. `None` and 0 mean no limit.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Throttle {
        Throttle {
            rate: bytes_per_second.filter(|rate| *rate > 0),
            paid_until: Mutex::new(None),
        }
    }

    /// Waits until this many bytes may pass, in the order of first polls.
    pub(crate) async fn take(&self, bytes: usize) {
        if let Some(due) = self.reserve(bytes) {
            sleep_until(due).await;
        }
    }

    /// Reserves the next stretch of the line; returns when it may be used, if that is in the future. For callers that wait
    /// before their next piece instead.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Instant> {
        let cost = cost(bytes, self.rate?);
        let now = Instant::now();
        let mut paid_until = self.paid_until.lock();
        // What was not used in a pause is lost.
        let end = paid_until.map_or(now, |until| until.max(now)) + cost;
        *paid_until = Some(end);
        (end > now + BURST).then(|| end - BURST)
    }
}

/// How long the line takes for this many bytes.
fn cost(bytes: usize, rate: u64) -> Duration {
    let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate);
    // Capped at 292 years, which only a rate of some bytes per second reaches.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const RATE: u64 = 1_000_000;

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
            let throttle = Throttle::new(Some(RATE));
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
        let throttle = Arc::new(Throttle::new(Some(RATE)));
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
        let throttle = Arc::new(Throttle::new(Some(RATE)));
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
        let throttle = Throttle::new(Some(RATE));
        throttle.take(1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let took = passed(&throttle, [1_000; 1_000]).await;
        assert!(took >= Duration::from_secs(1) - BURST, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_means_no_wait() {
        for limit in [None, Some(0)] {
            let throttle = Throttle::new(limit);
            assert_eq!(passed(&throttle, [usize::MAX; 3]).await, Duration::ZERO);
        }
    }

    #[test]
    fn the_cost_of_anything_is_finite() {
        assert_eq!(cost(0, 1), Duration::ZERO);
        assert_eq!(cost(RATE as usize, RATE), Duration::from_secs(1));
        assert!(cost(usize::MAX, 1) > Duration::from_secs(1 << 30));
    }
}
