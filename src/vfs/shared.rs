//! What all parts of a tree use.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::nodes::ino::Ino;
use super::nodes::store::NodeStore;
use super::request::requests::Requests;
use crate::cache::Cache;
use crate::origin::Client;
use crate::util::shared_duration::SharedDuration;

/// Called with the number of a node whose attributes are not those that the kernel may have cached. Never blocks.
pub(crate) type AttributesChanged = Arc<dyn Fn(Ino) + Send + Sync>;

/// What all parts of a tree use.
pub(super) struct Shared {
    pub(super) cache: Arc<Cache>,
    pub(super) client: Client,
    pub(super) requests: Requests,
    pub(super) nodes: NodeStore,
    /// How long a listing or a file's version counts as fresh.
    pub(super) ttl: SharedDuration,
    pub(super) attributes_changed: AttributesChanged,
    /// Runs prefetches and revalidation in the background.
    pub(super) runtime: Handle,
}
