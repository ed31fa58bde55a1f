//! The root of a tree: built from its sources ([`top`](crate::vfs::root::top)), by fresh listings or those of an
//! earlier mount.

pub(super) mod top;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Tree;
use super::file::{Known, RemoteFile, version_text};
use super::listing::dates::{Clock, Dates};
use super::listing::directory::Directory;
use super::listing::snapshot::Snapshot;
use super::node::{Kind, Node, ROOT};
use super::nodes::{directory_number, number};
use super::per_origin::PerOrigin;
use super::root::top::{Top, TopEntry, TopFound, TopListing};
use crate::source::Source;

impl Top {
    /// The root node for `top`.
    pub(super) fn root(&self, clocks: &PerOrigin<Arc<Clock>>) -> Arc<Node> {
        Arc::new(Node {
            ino: ROOT,
            parent: ROOT,
            kind: Kind::Directory(Box::new(match self {
                Top::Directory { source, url, .. } => {
                    Directory::listed(Arc::clone(source), url.clone(), None, Dates::at(clocks, url))
                }
                Top::Names(_) => Directory::fixed(),
            })),
            references: AtomicU64::new(0),
        })
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
                directory.set(Snapshot::of_nodes(directory, children), &self.totals);
            }
        }
    }

    fn plant_top_entry(self: &Arc<Self>, source: Arc<dyn Source>, what: TopFound) -> Arc<Node> {
        match what {
            TopFound::Directory(url, listing) => {
                let number = directory_number(&url);
                let node = self.add(
                    ROOT,
                    number,
                    Kind::Directory(Box::new(self.listed_directory(&source, url, None))),
                );
                self.take_top_listing(&node, listing);
                node
            }
            TopFound::File(url, known) => {
                let version = known.as_ref().map(|known| version_text(&known.version));
                let number = number(&[url.as_str(), version.as_deref().unwrap_or_default()]);
                let dates = Dates::at(&self.clocks, &url);
                let file = RemoteFile::known(&url, known.clone(), dates, source);
                let node = self.add(ROOT, number, Kind::File(file));
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
