//! The root of a tree: built from its sources ([`top`](crate::vfs::root::top)), by fresh listings or those of an
//! earlier mount.

pub(super) mod top;

use std::sync::Arc;

use super::Tree;
use super::nodes::dates::{Clocks, Dates};
use super::nodes::ino::{self, ROOT};
use super::nodes::listed_names::ListingContext;
use super::nodes::node::{Directory, Kind, Node, Snapshot};
use super::nodes::remote_file::RemoteFile;
use super::nodes::remote_file::known::Known;
use super::root::top::{Top, TopEntry, TopFound, TopListing};
use crate::source::Source;

impl Top {
    /// The root node for `top`.
    pub(super) fn root(&self, clocks: &Clocks) -> Arc<Node> {
        let directory = match self {
            Top::Directory { source, url, .. } => {
                Directory::listed(Arc::clone(source), url.clone(), None, Dates::at(clocks, url))
            }
            Top::Names(_) => Directory::fixed(),
        };
        Arc::new(Node::new(ROOT, ROOT, Kind::Directory(Box::new(directory))))
    }
}

impl Tree {
    /// Fills the root with its entries.
    pub(super) fn plant(self: &Arc<Self>, root: &Arc<Node>, top: Top) {
        let Kind::Directory(directory) = &root.kind else { return };
        match top {
            Top::Directory { listing, .. } => self.take_top_listing(root, *listing),
            Top::Names(entries) => {
                let children = entries
                    .into_iter()
                    .map(|(name, TopEntry { source, what, .. })| (name, self.plant_top_entry(source, what)))
                    .collect();
                let (dates, source) = (Arc::clone(&directory.dates), Arc::clone(&directory.source));
                let names = Snapshot::of_nodes(ListingContext::unlisted(dates, source), children);
                directory.state.write().show(Arc::new(names), false, &self.totals);
            }
        }
    }

    fn plant_top_entry(self: &Arc<Self>, source: Arc<dyn Source>, what: TopFound) -> Arc<Node> {
        match what {
            TopFound::Directory(url, listing) => {
                let number = ino::of_directory(&url);
                let node = self.nodes.add(ROOT, number, self.nodes.directory(&source, url, None));
                self.take_top_listing(&node, listing);
                node
            }
            TopFound::File(url, known) => {
                let number = ino::of_file(&url, known.as_ref().map(|known| &known.version));
                let dates = self.nodes.dates(&url);
                let file = RemoteFile::known(&url, known.clone(), dates, source);
                let node = self.nodes.add(ROOT, number, Kind::File(file));
                match known {
                    Some(Known { version, at: None, .. }) => {
                        let (tree, asked) = (Arc::clone(self), Arc::clone(&node));
                        // An error is reported when the file is opened.
                        self.runtime
                            .spawn(async move { tree.confirm_newer(&asked, Some(version)).await });
                    }
                    Some(Known { version, modified, .. }) => self.cache.catalog().keep_file(&url, version, modified),
                    None => {}
                }
                node
            }
        }
    }

    /// Puts the root's listing in place. A stored or mirror's listing is revalidated in the background.
    fn take_top_listing(self: &Arc<Self>, node: &Arc<Node>, listing: TopListing) {
        match listing {
            TopListing::Answered(listing) => drop(self.take_listing(node, listing, false)),
            TopListing::ByMirror(listing) => drop(self.take_listing(node, listing, true)),
            TopListing::Stored(listing) => {
                self.take_stored_listing(node, listing);
                let (tree, node) = (Arc::clone(self), Arc::clone(node));
                // An error is reported when the directory is listed.
                self.runtime.spawn(async move { tree.list(&node).await.ok() });
            }
        }
    }
}
