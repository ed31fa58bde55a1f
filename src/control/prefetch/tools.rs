//! What a prefetch uses.

use std::sync::Arc;

use crate::cache::Cache;
use crate::vfs::Tree;

/// The parts of the mount that a prefetch uses.
#[derive(Clone)]
pub(in crate::control) struct Tools {
    pub(in crate::control) tree: Arc<Tree>,
    pub(in crate::control) cache: Arc<Cache>,
}
