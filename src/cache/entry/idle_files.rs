//! Entries that stay open after their last reader, so that opening them again asks neither SQLite nor the file system.
//!
//! Each takes a file descriptor and three bits for each chunk. Whoever is short of descriptors, or is to make room in
//! files that nobody reads, has them closed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cache_entry::CacheEntry;

/// So many.
const KEPT_OPEN: usize = 64;

/// See the module.
#[derive(Default)]
pub struct IdleFiles {
    /// The most recently opened entries, the latest last. Nothing is taken under the lock, **nor is any dropped under it**: closing
    /// files takes system calls.
    entries: Mutex<VecDeque<Arc<CacheEntry>>>,
}

impl IdleFiles {
    /// Keeps an entry open that somebody opens, for whoever is next.
    pub fn keep(&self, entry: &Arc<CacheEntry>) {
        let mut kept = self.entries.lock();
        // An earlier version is not kept for anybody: it is to go first, and what is open is ranked by its use alone.
        let of_file: VecDeque<_>;
        (of_file, *kept) = std::mem::take(&mut *kept)
            .into_iter()
            .partition(|other| other.url == entry.url);
        kept.push_back(Arc::clone(entry));
        let crowded_out = (kept.len() > KEPT_OPEN).then(|| kept.pop_front());
        drop(kept);
        drop((of_file, crowded_out));
    }

    /// Does not keep these open: the next one who opens them gets others.
    pub fn let_go_of(&self, which: impl Fn(&CacheEntry) -> bool) {
        let mut kept = self.entries.lock();
        let going: VecDeque<_>;
        (going, *kept) = std::mem::take(&mut *kept).into_iter().partition(|entry| which(entry));
        drop(kept);
        drop(going);
    }

    /// Keeps none open.
    pub fn let_go_of_all(&self) {
        let all = std::mem::take(&mut *self.entries.lock());
        drop(all);
    }
}
