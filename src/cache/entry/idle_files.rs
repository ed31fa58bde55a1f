//! Idle files: entries that stay open after their last reader, so that opening them again needs
//! neither SQLite nor the file system.
//!
//! Each takes a file descriptor and three bits for each chunk. They are closed when descriptors run
//! out, and when space has to be freed in files without readers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cache_entry::CacheEntry;

/// Maximum number of idle files.
const KEPT_OPEN: usize = 64;

/// The idle files of a mount.
#[derive(Default)]
pub(crate) struct IdleFiles {
    /// The most recently opened entries, the latest last. No other lock is taken under it, **nor is
    /// an entry dropped under it**: closing files takes system calls.
    entries: Mutex<VecDeque<Arc<CacheEntry>>>,
}

impl IdleFiles {
    /// Keeps an entry open that is being opened, for later openers.
    pub(crate) fn keep(&self, entry: &Arc<CacheEntry>) {
        let mut kept = self.entries.lock();
        // An earlier version is not kept: it is evicted first, and open files are ranked by their
        // use alone.
        let of_file: VecDeque<_>;
        (of_file, *kept) = std::mem::take(&mut *kept)
            .into_iter()
            .partition(|other| other.url() == entry.url());
        kept.push_back(Arc::clone(entry));
        let crowded_out = (kept.len() > KEPT_OPEN).then(|| kept.pop_front());
        drop(kept);
        drop((of_file, crowded_out));
    }

    /// Drops these entries: the next opener gets new ones.
    pub(crate) fn let_go_of(&self, which: impl Fn(&CacheEntry) -> bool) {
        let mut kept = self.entries.lock();
        let going: VecDeque<_>;
        (going, *kept) = std::mem::take(&mut *kept).into_iter().partition(|entry| which(entry));
        drop(kept);
        drop(going);
    }

    /// Drops all entries.
    pub(crate) fn let_go_of_all(&self) {
        let all = std::mem::take(&mut *self.entries.lock());
        drop(all);
    }
}
