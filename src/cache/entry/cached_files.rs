//! The cached files that are open in this process: one per version, shared by all its users.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::cached_file::CachedFile;
use crate::cache::key::EntryKey;

/// The open cached files by key.
#[derive(Debug, Default)]
pub(crate) struct CachedFiles(Mutex<Map>);

/// Locked for the moment of a look-up. No other lock is taken under it.
#[derive(Debug, Default)]
struct Map {
    open: HashMap<EntryKey, Weak<CachedFile>>,
    /// Number of entries at which closed files are removed from the map.
    sweep_at: usize,
}

/// Minimum of that number.
const SWEEP_AT: usize = 256;

impl CachedFiles {
    /// The cached file of this key, if it is open.
    pub(crate) fn get(&self, key: &EntryKey) -> Option<Arc<CachedFile>> {
        self.0.lock().open.get(key)?.upgrade()
    }

    /// Adds a file that was just opened, and returns the one to use: another thread's, if that was
    /// faster.
    pub(crate) fn insert(&self, cached_file: CachedFile) -> Arc<CachedFile> {
        let mut map = self.0.lock();
        if let Some(first) = map.open.get(&cached_file.key).and_then(Weak::upgrade) {
            return first;
        }
        if map.open.len() >= map.sweep_at {
            map.open.retain(|_, open| open.strong_count() > 0);
            map.sweep_at = SWEEP_AT.max(2 * map.open.len());
        }
        let cached_file = Arc::new(cached_file);
        map.open.insert(cached_file.key.clone(), Arc::downgrade(&cached_file));
        cached_file
    }

    /// All open cached files.
    pub(crate) fn all(&self) -> Vec<Arc<CachedFile>> {
        self.0.lock().open.values().filter_map(Weak::upgrade).collect()
    }

    /// Removes a file if only the caller has it. Later users of the version open its file anew.
    pub(crate) fn take_unused(&self, cached_file: &Arc<CachedFile>) -> bool {
        let mut map = self.0.lock();
        // Under the lock no other thread can find it by its key.
        let is_unused = Arc::strong_count(cached_file) == 1;
        if is_unused {
            map.open.remove(&cached_file.key);
        }
        is_unused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_opener_shares_the_file() {
        let cached_files = CachedFiles::default();
        let first = cached_files.insert(CachedFile::for_tests(4096, 5));
        let second = cached_files.insert(CachedFile::for_tests(4096, 5));
        assert!(Arc::ptr_eq(&first, &second) && cached_files.all().len() == 1);
        assert!(!cached_files.take_unused(&first));
        drop(second);
        assert!(cached_files.take_unused(&first) && cached_files.get(&first.key).is_none());
    }

    #[test]
    fn those_that_are_closed_take_no_memory() {
        let cached_files = CachedFiles::default();
        for size in 1..10_000 {
            cached_files.insert(CachedFile::for_tests(4096, size));
        }
        assert!(cached_files.0.lock().open.len() <= SWEEP_AT);
    }
}
