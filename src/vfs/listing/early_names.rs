//! Shows the names of a listing that is being received, before it is complete.
//!
//! A name has the inode number that the complete listing gives it: the nodes that stay with names of the [`PartialListing`] go on
//! in the directory's names. A name whose node may be another one than the listing says is left for the complete listing.

use std::sync::Arc;

use super::listing_cache::ListingCache;
use crate::source::{Entries, NameSink};
use crate::vfs::nodes::node::{Node, PartialListing};

/// Takes the names of a directory's listing.
pub(super) struct EarlyNames {
    pub(super) listing_cache: Arc<ListingCache>,
    /// The directory.
    pub(super) node: Arc<Node>,
    pub(super) listing: Arc<PartialListing>,
}

impl NameSink for EarlyNames {
    fn begin(&self) -> u64 {
        self.listing.begin_document()
    }

    fn are_wanted(&self) -> bool {
        self.listing.is_wanted()
    }

    fn add(&self, document: u64, mut entries: Entries) {
        let Some(batches) = self.listing.batches(document) else {
            return;
        };
        if document > 1 {
            // A document has each name once.
            let is_new = |entries: &Entries, at: usize| {
                let name = entries.name(at);
                batches.iter().all(|batch| batch.listed.find(name).is_none())
            };
            entries.retain(is_new);
        }
        if let Some(names) = self.listing_cache.show_early(&self.node, entries) {
            self.listing.add(document, names);
        }
    }
}
