//! How fresh a directory's names are, and how the last fetch of them failed.

use std::time::{Duration, Instant};

use crate::vfs::error::TreeError;

/// How long a prefetch's refusal is kept for the look-up that it was made for.
const UNSEEN: Duration = Duration::from_secs(10);

/// The freshness of a directory's names.
#[derive(Default)]
pub(super) struct Freshness {
    until: Option<Instant>,
    /// When the origin itself gave the names, if it did.
    answered_at: Option<Instant>,
    /// How the last fetch failed. Cleared when a fetch succeeds.
    failed: Option<Failed>,
}

/// A failed fetch.
struct Failed {
    /// The server's refusal, if a prefetch received it and the server would repeat it. The next look-up reports it.
    unseen: Option<(TreeError, Instant)>,
}

impl Freshness {
    /// Whether the names are fresh.
    pub(super) fn is_fresh(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// How long the names are still fresh.
    pub(super) fn remaining(&self) -> Duration {
        let until = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        until.unwrap_or_default()
    }

    /// Treats the names as fresh for this time.
    pub(super) fn extend(&mut self, time: Duration) {
        self.until = Some(Instant::now() + time);
    }

    /// Notes that the origin itself has just given the names, which are fresh for this time.
    pub(super) fn note_answer(&mut self, time: Duration) {
        self.extend(time);
        self.answered_at = Some(Instant::now());
    }

    /// When the origin itself gave the names, if that is no longer ago than this time.
    pub(super) fn answered_within(&self, time: Duration) -> Option<Instant> {
        self.answered_at.filter(|at| at.elapsed() < time)
    }

    /// Makes the names stale.
    pub(super) fn expire(&mut self) {
        (self.until, self.answered_at) = (None, None);
    }

    /// Notes that a fetch succeeded, or that an earlier failure counts no more.
    pub(super) fn clear_failure(&mut self) {
        self.failed = None;
    }

    /// Notes a failed fetch. `unseen` is the error to report to the next look-up.
    pub(super) fn note_failure(&mut self, unseen: Option<TreeError>) {
        self.failed = Some(Failed {
            unseen: unseen.map(|error| (error, Instant::now())),
        });
    }

    /// Whether the last fetch failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Takes the error that a prefetch has just received.
    pub(super) fn take_unseen_failure(&mut self) -> Option<TreeError> {
        let (error, at) = self.failed.as_mut()?.unseen.take()?;
        (at.elapsed() < UNSEEN).then_some(error)
    }
}
