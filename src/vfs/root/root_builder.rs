//! The first nodes of a tree: the root and its entries, by fresh listings or those of an earlier mount.

use std::sync::Arc;

use super::top::{Top, TopEntry, TopFound, TopListing};
use crate::source::Source;
use crate::vfs::file::revalidator::Revalidator;
use crate::vfs::listing::listing_cache::ListingCache;
use crate::vfs::listing::listings::Listings;
use crate::vfs::nodes::dates::{Clocks, Dates};
use crate::vfs::nodes::ino::{self, ROOT};
use crate::vfs::nodes::listed_names::ListingContext;
use crate::vfs::nodes::node::{Directory, Kind, Node, Snapshot};
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::nodes::remote_file::known::Known;
use crate::vfs::shared::Shared;

/// The root node for `top`, without its names.
pub(in crate::vfs) fn root_node(top: &Top, clocks: &Clocks) -> Arc<Node> {
    let directory = match top {
        Top::Directory { source, url, .. } => {
            Directory::listed(Arc::clone(source), ROOT, url.clone(), None, Dates::at(clocks, url))
        }
        Top::Names(_) => Directory::fixed(),
    };
    Arc::new(Node::new(ROOT, Kind::Directory(Box::new(directory))))
}

/// Fills the root of a tree.
pub(in crate::vfs) struct RootBuilder<'a> {
    pub(in crate::vfs) shared: &'a Shared,
    pub(in crate::vfs) revalidator: &'a Arc<Revalidator>,
    pub(in crate::vfs) listing_cache: &'a ListingCache,
    pub(in crate::vfs) listings: &'a Arc<Listings>,
}

impl RootBuilder<'_> {
    /// Fills the root with its entries.
    pub(in crate::vfs) fn fill(&self, root: &Arc<Node>, top: Top) {
        let Some(directory) = root.directory() else { return };
        match top {
            Top::Directory { listing, .. } => self.show(root, *listing),
            Top::Names(entries) => {
                let entries = entries.into_iter();
                let children = entries.map(|(name, TopEntry { source, what, .. })| (name, self.entry(source, what)));
                let (dates, source) = (Arc::clone(&directory.dates), Arc::clone(&directory.source));
                let context = ListingContext::unlisted(ROOT, dates, source);
                let names = Arc::new(Snapshot::of_nodes(context, children.collect()));
                directory.state.write().show(names, false, self.listing_cache.totals());
            }
        }
    }

    /// The node of one of several sources.
    fn entry(&self, source: Arc<dyn Source>, what: TopFound) -> Arc<Node> {
        match what {
            TopFound::Directory(url, listing) => {
                let number = ino::of_directory(&url);
                let node = self
                    .shared
                    .nodes
                    .add(number, self.shared.nodes.directory(&source, ROOT, url, None));
                self.show(&node, *listing);
                node
            }
            TopFound::File(url, known) => {
                let number = ino::of_file(&url, known.as_ref().map(|known| &known.version));
                let file = RemoteFile::known(&url, ROOT, known.clone(), self.shared.nodes.dates(&url), source);
                let node = self.shared.nodes.add(number, Kind::File(file));
                match known {
                    Some(Known { version, at: None, .. }) => {
                        let (revalidator, asked) = (Arc::clone(self.revalidator), Arc::clone(&node));
                        // An error is reported when the file is opened.
                        self.shared
                            .runtime
                            .spawn(async move { revalidator.confirm_newer(&asked, Some(version)).await });
                    }
                    Some(Known { version, modified, .. }) => {
                        self.shared.cache.catalog().keep_file(&url, version, modified)
                    }
                    None => {}
                }
                node
            }
        }
    }

    /// Shows the listing of a source. A stored one is revalidated in the background.
    fn show(&self, node: &Arc<Node>, listing: TopListing) {
        match listing {
            TopListing::Answered(listing) => drop(self.listing_cache.replace(node, listing, false)),
            TopListing::ByMirror(listing) => drop(self.listing_cache.replace(node, listing, true)),
            TopListing::Unasked => {}
            TopListing::Stored(listing) => {
                self.listing_cache.show_stored(node, listing);
                let (listings, node) = (Arc::clone(self.listings), Arc::clone(node));
                let urgency = self.shared.requests.waiting();
                // An error is reported when the directory is listed.
                self.shared
                    .runtime
                    .spawn(async move { listings.list(&node, urgency).await.ok() });
            }
        }
    }
}
