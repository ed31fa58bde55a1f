//! Descriptor exhaustion: no descriptor is left for a connection. Idle files are closed, and the
//! log says so once a minute while it lasts.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::util::events;

/// Minimum time between two log lines.
const LASTS: Duration = Duration::from_secs(60);

/// Reacts to descriptor exhaustion.
pub(crate) struct DescriptorExhaustion {
    let_go: Box<dyn Fn() + Send + Sync>,
    /// When it was last logged. No other lock is taken under it.
    said: Mutex<Option<Instant>>,
}

impl DescriptorExhaustion {
    /// `let_go` closes idle files.
    pub(crate) fn new(let_go: impl Fn() + Send + Sync + 'static) -> DescriptorExhaustion {
        DescriptorExhaustion {
            let_go: Box::new(let_go),
            said: Mutex::default(),
        }
    }

    /// A connection failed for lack of a descriptor.
    pub(crate) fn on_exhausted(&self) {
        if self.is_news(Instant::now()) {
            log::warn!(
                event = events::DESCRIPTORS_EXHAUSTED;
                "the limit of open files and connections is reached; new connections wait until others are closed \
                 (raise the limit: ulimit -n, or LimitNOFILE= in the systemd unit)"
            );
        }
        (self.let_go)();
    }

    fn is_news(&self, now: Instant) -> bool {
        let mut said = self.said.lock();
        let is_news = said.is_none_or(|said| now.duration_since(said) >= LASTS);
        if is_news {
            *said = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasting_exhaustion_is_logged_once_a_minute() {
        let (shortage, start) = (DescriptorExhaustion::new(|| {}), Instant::now());
        let said = |seconds| shortage.is_news(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 59, 60, 61].map(said), [true, false, false, true, false]);
    }
}
