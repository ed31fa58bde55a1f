//! The version store that is in use. The cache folder may be opened later than the mount: then it is swapped in, once.

use std::sync::{Arc, OnceLock};

use super::version_store::VersionStore;

/// The version store in use: of the folder, or of what stands in for it.
pub struct CacheDir {
    /// What the mount began with: the folder, or what stands in for it.
    first: Arc<VersionStore>,
    /// The folder, where it could not be opened at once.
    later: OnceLock<Arc<VersionStore>>,
}

impl CacheDir {
    /// With these from now on.
    pub fn new(first: Arc<VersionStore>) -> Arc<CacheDir> {
        Arc::new(CacheDir {
            first,
            later: OnceLock::new(),
        })
    }

    /// What is used now.
    pub fn versions(&self) -> &Arc<VersionStore> {
        self.later.get().unwrap_or(&self.first)
    }

    /// Whether the folder could not be opened yet.
    pub fn is_fallback(&self) -> bool {
        self.versions().is_fallback
    }

    pub(in crate::cache) fn swap_in(&self, versions: Arc<VersionStore>) {
        // It is tried by one task, until it succeeds once.
        let _ = self.later.set(versions);
    }
}
