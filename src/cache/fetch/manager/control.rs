//! The control of a running fetch, by which the manager ends it early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::http::Origin;
use crate::stats::PhaseCell;

/// Shared between the manager and one running fetch.
#[derive(Debug)]
pub struct FetchControl {
    /// Byte offset, exclusive, before which the fetch must end. Only ever lowered.
    end: AtomicU64,
    /// Wakes the fetch to check `end` again.
    changed: Notify,
    /// What the fetch waits for.
    phase: Arc<PhaseCell>,
    /// The last server that has answered it. Locked for moments.
    server: Mutex<Option<Origin>>,
}

impl FetchControl {
    /// Control over a fetch whose end is at `end`.
    pub fn new(end: u64) -> FetchControl {
        FetchControl {
            end: AtomicU64::new(end),
            changed: Notify::new(),
            phase: Arc::default(),
            server: Mutex::default(),
        }
    }

    /// Byte offset, exclusive, before which the fetch must end; 0 means at once.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// What the fetch waits for.
    pub(crate) fn phase(&self) -> &Arc<PhaseCell> {
        &self.phase
    }

    /// The last server that has answered it.
    pub(crate) fn server(&self) -> Option<Origin> {
        self.server.lock().clone()
    }

    /// This server has answered it.
    pub(crate) fn note_server(&self, server: &Origin) {
        *self.server.lock() = Some(server.clone());
    }

    /// Returns when the fetch must stop at once.
    pub async fn stopped(&self) {
        loop {
            // Registered before the check, so that a change between the two is not lost.
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
