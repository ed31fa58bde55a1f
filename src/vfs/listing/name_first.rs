//! Look-ups in a directory whose listing is not known yet: the listing, or the name by itself if that comes sooner.
//!
//! The listing is always requested. A small one takes no longer than a request for the name would, and it answers all
//! look-ups that follow. But a program that opens `a/b/c/file` need not wait for three listings of 100,000 names. So
//! the name itself is requested as well, once the listing turns out to be long or late. **The rule:**
//!
//! - The name is requested when a mebibyte of the listing has come and more follows
//!   ([`Client::is_reading_long`](crate::origin::Client)), or when the listing is not there after [`LATE`].
//! - The first answer that has the name counts. The listing goes on in the background, and decides from then on.
//! - Only the listing says that a name is absent.
//! - It is done where a server may have names that are not listed: there a name that was found counts anyway.
//!
//! The node of a name that was found this way stays the name's when the listing comes, if what that says is true of it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::listings::Listings;
use super::unlisted::UnlistedNames;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::node::{Directory, Node, Snapshot};
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// How long a listing may take before a name in it is requested by itself. Long enough for some round trips around the
/// world, so that a small listing on a slow line costs one request.
const LATE: Duration = Duration::from_secs(1);

/// Looks names up in directories without a known listing.
pub(in crate::vfs) struct NameFirst {
    pub(in crate::vfs) shared: Arc<Shared>,
    pub(in crate::vfs) listings: Arc<Listings>,
    pub(in crate::vfs) unlisted: Arc<UnlistedNames>,
}

/// What came first.
pub(in crate::vfs) enum First {
    /// The names in the directory.
    Names(Arc<Snapshot>),
    /// The node of the name that is looked up.
    Node(Arc<Node>),
}

impl NameFirst {
    /// The names in a directory, or the node of this name in it.
    ///
    /// # Errors
    /// Those of the listing.
    pub(in crate::vfs) async fn seek(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
        urgency: Urgency,
    ) -> Result<First, TreeError> {
        let directory = parent.directory().ok_or(TreeError::NotADirectory)?;
        let (listings, listed) = (Arc::clone(&self.listings), Arc::clone(parent));
        let mut listing = Box::pin(async move { listings.list(&listed, urgency).await });
        if directory.is_listed() || !self.unlisted.may_ask(directory, name) {
            return listing.await.map(First::Names);
        }
        tokio::select! {
            biased;
            names = &mut listing => return names.map(First::Names),
            () = self.is_long_or_late(directory) => {}
        }
        let found = tokio::select! {
            biased;
            names = &mut listing => return names.map(First::Names),
            found = self.unlisted.look_up_ahead(parent, name) => found,
        };
        match found {
            None => listing.await.map(First::Names),
            Some(node) => {
                // An error is reported when the directory is listed.
                self.shared.runtime.spawn(listing);
                Ok(First::Node(node))
            }
        }
    }

    async fn is_long_or_late(&self, directory: &Directory) {
        let long = async {
            match &directory.url {
                Some(url) => self.shared.client.is_reading_long(url).await,
                None => std::future::pending().await,
            }
        };
        // Either will do.
        let _ = tokio::time::timeout(LATE, long).await;
    }
}
