//! The number of files that the tree knows, and the sum of their sizes: what `df` and status show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of files and bytes over all known listings.
#[derive(Default)]
pub(in crate::vfs) struct Totals {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Totals {
    /// Number of files, and the sum of their sizes in bytes.
    pub(in crate::vfs) fn get(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Guard: counts the files of a listing in the totals until it is dropped.
pub(super) struct Counted {
    totals: Arc<Totals>,
    files: u64,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(totals: &Arc<Totals>, (files, bytes): (u64, u64)) -> Counted {
        totals.files.fetch_add(files, Ordering::Relaxed);
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        Counted {
            totals: Arc::clone(totals),
            files,
            bytes,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.totals.files.fetch_sub(self.files, Ordering::Relaxed);
        self.totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
