//! The bandwidth limit: one token bucket over all bytes of a mount.
//!
//! Each piece of a body is paid for by [`Throttle::take`], which returns when the rate allows it. The bucket is kept as a
//! schedule (the virtual scheduling form of the generic cell rate algorithm): `paid_until` is the moment up to which the
//! line is sold. Taking `n` bytes moves it by `n / rate`, and the taker sleeps until that moment, less the burst. So
//! takers are served in the order in which they asked, none can be passed by smaller ones, a piece may be larger than
//! the burst, and nobody polls.
//!
//! A taker that is dropped while it sleeps has taken its bytes: they were read off the wire before they were paid for.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may pass at once after a pause. A twentieth of a second keeps any five seconds within 1 % of the rate, and is
/// long against the millisecond to which timers are exact, so that late wake-ups lose nothing.
const BURST: Duration = Duration::from_millis(50);

/// Holds all who share it to a number of bytes per second.
#[derive(Debug)]
pub struct Throttle {
    /// Bytes per second; `None`: no limit.
    rate: Option<u64>,
    /// Up to when the line is sold. Nothing else is locked under it, and it is never held over an await.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A throttle to this many bytes per second. `None` and 0 mean no limit.
    pub fn new(bytes_per_second: Option<u64>) -> Throttle {
        Throttle {
            rate: bytes_per_second.filter(|rate| *rate > 0),
            paid_until: Mutex::new(None),
        }
    }

    /// Waits until this many bytes may pass. In the order of the first polls.
    pub async fn take(&self, bytes: usize) {
        if let Some(due) = self.reserve(bytes) {
            sleep_until(due).await;
        }
    }

    /// Sells the next stretch of the line; the moment at which it may be used, if that is to come.
    fn reserve(&self, bytes: usize) -> Option<Instant> {
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
    // 580 years, for whoever sets one byte per second and reads for long: no wait that anybody would sit out.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
}
