//! All nodes of a mount: creates the nodes of listed names, and finds nodes by their numbers.

use std::sync::Arc;

use url::Url;

use super::dates::{Clocks, Dates};
use super::ino::Ino;
use super::listed_names::ListedNames;
use super::node::{Directory, Kind, Node, Snapshot};
use super::remote_file::RemoteFile;
use super::table::NodeTable;
use crate::cache::ShownFile;
use crate::source::{ListedTime, Source};

/// The nodes of a mount.
pub(in crate::vfs) struct NodeStore {
    /// Finds them by their numbers.
    pub(in crate::vfs) table: NodeTable,
    clocks: Clocks,
}

impl NodeStore {
    /// A store with the root alone.
    pub(in crate::vfs) fn of(root: &Arc<Node>, clocks: Clocks) -> NodeStore {
        NodeStore {
            table: NodeTable::of(root),
            clocks,
        }
    }

    /// The node with this number, if it still exists.
    pub(in crate::vfs) fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.table.get(ino)
    }

    /// Adds a node, with the inode number `wanted` if that is free.
    pub(in crate::vfs) fn add(&self, wanted: Ino, kind: Kind) -> Arc<Node> {
        self.table.add(wanted, |ino| Node::new(ino, kind))
    }

    /// A directory whose names come from a listing.
    pub(in crate::vfs) fn directory(
        &self,
        source: &Arc<dyn Source>,
        parent: Ino,
        url: Url,
        listed_time: Option<ListedTime>,
    ) -> Kind {
        let dates = self.dates(&url);
        Kind::Directory(Box::new(Directory::listed(
            Arc::clone(source),
            parent,
            url,
            listed_time,
            dates,
        )))
    }

    /// The dates of a directory at this URL.
    pub(in crate::vfs) fn dates(&self, url: &Url) -> Arc<Dates> {
        Dates::at(&self.clocks, url)
    }

    /// The node at this position of a directory's names. Most nodes are created at their first look-up, and dropped
    /// when they have no more state than their listing.
    pub(in crate::vfs) fn child(&self, parent: &Node, names: &Snapshot, at: usize) -> Arc<Node> {
        let node = self.child_of(parent, names, at);
        node.mark_listed();
        node
    }

    fn child_of(&self, parent: &Node, names: &Snapshot, at: usize) -> Arc<Node> {
        if let Some(node) = names.pinned(at) {
            return node;
        }
        let (listed, ino) = (&names.listed, names.listed.ino(at));
        let is_it = |node: &Node| node.is_listed(parent.ino, listed.entries(), at);
        let node = self.get(ino).filter(|node| is_it(node)).unwrap_or_else(|| {
            // Before the lock of the table, because it takes that of the clocks.
            let kind = self.kind(listed, at);
            // Another thread may have added it meanwhile.
            self.table.get_or_add(ino, is_it, |ino| Node::new(ino, kind))
        });
        // A directory's names live in its node, and a node with another number can be found again only here.
        if node.is_directory() || node.ino != ino {
            return names.pin(at, node);
        }
        node
    }

    /// The node at this position, if it exists.
    pub(in crate::vfs) fn existing(&self, parent: Ino, names: &Snapshot, at: usize) -> Option<Arc<Node>> {
        names.pinned(at).or_else(|| {
            let node = self.get(names.listed.ino(at))?;
            node.is_listed(parent, names.listed.entries(), at).then_some(node)
        })
    }

    /// Adds a node for the name at this position; `shown` is what earlier mounts showed of it.
    pub(in crate::vfs) fn add_listed(&self, listed: &ListedNames, at: usize, shown: Option<ShownFile>) -> Arc<Node> {
        match (self.kind(listed, at), shown) {
            (Kind::File(file), Some(shown)) => self.add(shown.ino, Kind::File(file.shown_before(shown.file))),
            (kind, _) => self.add(listed.ino(at), kind),
        }
    }

    /// What is listed at this position, with nothing but its listing known.
    fn kind(&self, listed: &ListedNames, at: usize) -> Kind {
        let entries = listed.entries();
        if entries.is_directory(at) {
            self.directory(
                &listed.context.source,
                listed.context.parent,
                entries.url(at),
                entries.modified(at),
            )
        } else {
            Kind::File(RemoteFile::listed(listed, at))
        }
    }

    /// Pins a node in its directory, because it will have more state than its listing.
    pub(in crate::vfs) fn pin_in_directory(&self, node: &Arc<Node>) {
        let names = self.get(node.parent()).and_then(|parent| parent.last_known());
        if let Some(names) = names
            && let Some(at) = names.listed.position(node.ino)
        {
            names.pin(at, Arc::clone(node));
        }
    }
}
