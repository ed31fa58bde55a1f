//! What a fetch is doing: the reason for which its readers wait.
//!
//! Each fetch is a task with a [`PhaseCell`]. The code that it runs, down to the connection, reports what it waits for by
//! [`Phase::enter`], without a parameter through all layers. Outside of a fetch that does nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

tokio::task_local! {
    static CURRENT: Arc<PhaseCell>;
}

/// What a fetch, or the reader that waits for it, waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// For a connection: other requests have all that the server gets.
    Queued,
    /// For the connection to be made: name, TCP, TLS.
    Connecting,
    /// For the first byte of the response.
    FirstByte,
    /// For the bytes to come.
    Transferring,
    /// For `--bwlimit`, or the rate of its source.
    Throttled,
    /// For the pause after a failure of the server or the file.
    BackingOff,
}

impl Phase {
    /// All of them, in the order of a read.
    pub(crate) const ALL: [Phase; 6] = [
        Phase::Queued,
        Phase::Connecting,
        Phase::FirstByte,
        Phase::Transferring,
        Phase::Throttled,
        Phase::BackingOff,
    ];

    /// The fetch that the current task carries out, if any, enters this phase.
    pub(crate) fn enter(self) {
        // An error means that the task is no fetch.
        let _ = CURRENT.try_with(|cell| cell.set(self));
    }
}

/// The phase of one fetch.
#[derive(Debug, Default)]
pub(crate) struct PhaseCell(AtomicU8);

impl PhaseCell {
    /// The cell of the fetch that the current task carries out.
    pub(crate) fn current() -> Option<Arc<PhaseCell>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Runs `fetch`, whose phases are noted here.
    pub(crate) async fn track<T>(self: Arc<PhaseCell>, fetch: impl Future<Output = T>) -> T {
        CURRENT.scope(self, fetch).await
    }

    /// Enters a phase.
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// The current phase.
    pub(crate) fn get(&self) -> Phase {
        Phase::ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_are_those_of_the_own_task() {
        let cell = Arc::<PhaseCell>::default();
        assert_eq!(cell.get(), Phase::Queued);
        Phase::Throttled.enter();
        assert_eq!(cell.get(), Phase::Queued);
        for phase in Phase::ALL {
            Arc::clone(&cell).track(async { phase.enter() }).await;
            assert_eq!(cell.get(), phase);
        }
        assert!(PhaseCell::current().is_none());
    }
}
