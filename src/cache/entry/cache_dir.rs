//! The version store in use. If the cache directory can't be opened at start, a fallback serves
//! until the directory is swapped in, once.

use std::sync::{Arc, OnceLock};

use super::version_store::VersionStore;

/// The version store in use: of the cache directory, or the fallback.
pub(crate) struct CacheDir {
    /// The store at the start of the mount: the directory's, or the fallback.
    first: Arc<VersionStore>,
    /// The directory's store, if it was opened later.
    later: OnceLock<Arc<VersionStore>>,
}

impl CacheDir {
    /// Starts with this store.
    pub(crate) fn new(first: Arc<VersionStore>) -> Arc<CacheDir> {
        Arc::new(CacheDir {
            first,
            later: OnceLock::new(),
        })
    }

    /// The store in use.
    pub(crate) fn versions(&self) -> &Arc<VersionStore> {
        self.later.get().unwrap_or(&self.first)
    }

    /// Returns true while the directory could not be opened.
    pub(crate) fn is_fallback(&self) -> bool {
        self.versions().is_fallback
    }

    pub(in crate::cache) fn swap_in(&self, versions: Arc<VersionStore>) {
        // Only one task tries to open it, until it succeeds once.
        let _ = self.later.set(versions);
    }
}
