//! Requests for listings that others read while they are received.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use crate::source::BoxFuture;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::node::{Node, Snapshot};

/// A request for a listing. If it is dropped before the answer, it goes on in the background if the listing that it receives has names
/// already, or if another program waits for them.
pub(super) struct ListingRequest<'a> {
    /// `None` once it is answered.
    fetching: Option<BoxFuture<'static, Result<Arc<Snapshot>, TreeError>>>,
    /// Whether it receives the listing; else it waits for the request that does.
    is_receiving: Arc<AtomicBool>,
    /// The directory.
    node: &'a Node,
    runtime: &'a Handle,
}

impl<'a> ListingRequest<'a> {
    /// A request for the listing of `node`. `fetch` makes it, and sets what it is given once it receives the listing.
    pub(super) fn new(
        node: &'a Node,
        runtime: &'a Handle,
        fetch: impl FnOnce(Arc<AtomicBool>) -> BoxFuture<'static, Result<Arc<Snapshot>, TreeError>>,
    ) -> ListingRequest<'a> {
        let is_receiving: Arc<AtomicBool> = Arc::default();
        ListingRequest {
            fetching: Some(fetch(Arc::clone(&is_receiving))),
            is_receiving,
            node,
            runtime,
        }
    }

    /// The names.
    pub(super) async fn answer(&mut self) -> Result<Arc<Snapshot>, TreeError> {
        let Some(fetching) = &mut self.fetching else {
            return Err(TreeError::NotAsked);
        };
        let answer = fetching.await;
        self.fetching = None;
        answer
    }
}

impl Drop for ListingRequest<'_> {
    fn drop(&mut self) {
        let incoming = self.node.directory().and_then(|directory| directory.incoming.current());
        if let Some(fetching) = self.fetching.take()
            && self.is_receiving.load(Ordering::Relaxed)
            && incoming.is_some_and(|incoming| incoming.is_needed_by_others())
        {
            // Its readers get an error from the listing itself.
            self.runtime.spawn(fetching);
        }
    }
}
