//! Gates: they hold responses until the test opens them, which fixes the order of events.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use super::log::PATIENCE;

/// Holds responses back until it is opened.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<(Mutex<usize>, Condvar)>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate {
            open: Arc::new(watch::Sender::new(false)),
            arrived: Arc::default(),
        }
    }

    /// Releases all waiting responses, and all later ones.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until `count` responses in total have arrived at the gate.
    pub fn wait_for_arrivals(&self, count: usize) {
        let (arrived, changed) = &*self.arrived;
        let deadline = Instant::now() + PATIENCE;
        let mut seen = arrived.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The count is read under the lock under which it grows, so no arrival is missed between check and wait.
        while *seen < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{count} answers should have come to the gate, {} have",
                *seen
            );
            seen = changed
                .wait_timeout(seen, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }

    pub(super) async fn pass(&self) {
        let (arrived, changed) = &*self.arrived;
        *arrived.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        changed.notify_all();
        let mut open = self.open.subscribe();
        // It can't fail: the sender lives in `self`.
        let _ = open.wait_for(|open| *open).await;
    }
}
