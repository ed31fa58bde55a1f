//! When names are passed on.

use std::time::{Duration, Instant};

/// The least time between two batches. A program that waits for names does not notice it, and a batch takes less to process.
const PAUSE: Duration = Duration::from_millis(20);

/// The time between two batches is this part of the time since the beginning, so that there are few: each is searched when a name
/// is looked up.
const PART: u32 = 16;

/// When the names of a listing are passed on.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// When names were passed on last.
    last: Option<Instant>,
}

impl Pace {
    /// The listing begins. The first names are due at once.
    pub(super) fn new() -> Pace {
        Pace {
            began: Instant::now(),
            last: None,
        }
    }

    /// How long names may wait.
    pub(super) fn due_in(&self) -> Duration {
        let Some(last) = self.last else {
            return Duration::ZERO;
        };
        let pause = PAUSE.max((last - self.began) / PART);
        (last + pause).saturating_duration_since(Instant::now())
    }

    /// Names are passed on now.
    pub(super) fn note(&mut self) {
        self.last = Some(Instant::now());
    }
}
