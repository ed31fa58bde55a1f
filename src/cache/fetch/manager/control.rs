//! What the manager can tell a running fetch: that it is to end earlier.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub struct FetchControl {
    /// Byte offset, exclusive, before which the fetch is to end. Only ever lowered.
    end: AtomicU64,
    /// Wakes the fetch to look at `end` again.
    changed: Notify,
}

impl FetchControl {
    /// Control over a fetch that is to go to `end`.
    pub fn new(end: u64) -> FetchControl {
        FetchControl {
            end: AtomicU64::new(end),
            changed: Notify::new(),
        }
    }

    /// Byte offset, exclusive, before which the fetch is to end; 0: at once.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns when the fetch is to stop at once.
    pub async fn stopped(&self) {
        loop {
            // Registered before looking, so that a change between the two is not lost.
            let changed = self.changed.notified();
            if self.end() == 0 {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn lower_end(&self, end: u64) {
        self.end.fetch_min(end, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}
