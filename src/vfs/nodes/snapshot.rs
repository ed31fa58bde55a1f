//! Snapshots: the names in a directory at one moment, and the nodes that stay with them.
//!
//! **A node is created at the first look-up** ([`NodeStore::child`](super::store::NodeStore::child)). A node without
//! more state than its listing is dropped when the kernel forgets it, and created again at the next look-up. A node
//! with more state, or with another number than the listing gives it, is pinned: it stays in the snapshot.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;
use url::Url;

use super::ino::Ino;
use super::listed_names::{ListedNames, ListingContext, Order};
use super::remote_file::RemoteFile;
use crate::source::{Entries, Entry, EntryKind, ListedSize, ListedTime, Name};

/// What a snapshot asks of the nodes that it pins. A node holds its directory's snapshot, so a snapshot knows no nodes.
pub(crate) trait Child {
    /// The inode number.
    fn ino(&self) -> Ino;

    /// The file; `None` for a directory.
    fn file(&self) -> Option<&RemoteFile>;
}

/// The names in a directory at one moment. An open directory keeps its snapshot, so that directory offsets stay
/// valid.
pub(crate) struct Snapshot<N> {
    /// What the listing says of them.
    pub(in crate::vfs) listed: ListedNames,
    /// Locked only for a look-up or a change.
    pinned: RwLock<Pinned<N>>,
    directories: AtomicU32,
}

/// Nodes that stay in a snapshot.
struct Pinned<N> {
    /// Pinned nodes by their positions.
    nodes: HashMap<u32, Arc<N>>,
    /// The positions of nodes with another number than the listing gives them.
    renumbered: HashMap<Ino, u32>,
}

impl<N: Child> Pinned<N> {
    /// Inserts a node at a position to which the listing gives the number `listed`. Returns the node that it replaces.
    fn insert(&mut self, listed: Ino, at: u32, node: Arc<N>) -> Option<Arc<N>> {
        if node.ino() != listed {
            self.renumbered.insert(node.ino(), at);
        }
        let before = self.nodes.insert(at, node);
        if let Some(before) = &before {
            self.renumbered.remove(&before.ino());
        }
        before
    }
}

impl<N: Child> Snapshot<N> {
    /// The snapshot of a listing.
    pub(in crate::vfs) fn new(listed: ListedNames) -> Snapshot<N> {
        let entries = listed.entries();
        let directories = (0..entries.len()).filter(|&at| entries.is_directory(at)).count();
        Snapshot {
            listed,
            pinned: RwLock::new(Pinned {
                nodes: HashMap::new(),
                renumbered: HashMap::new(),
            }),
            directories: AtomicU32::new(u32::try_from(directories).unwrap_or(u32::MAX - 2)),
        }
    }

    /// A snapshot with a fixed node for each name.
    pub(in crate::vfs) fn of_nodes(context: Arc<ListingContext>, children: Vec<(Name, Arc<N>)>) -> Snapshot<N> {
        // No listing has these names, and nothing asks for their URLs.
        let nowhere = Url::parse("http://-/").expect("a constant");
        let mut entries = Entries::of(&nowhere);
        let mut nodes = Vec::with_capacity(children.len());
        for (name, node) in children {
            let entry = Entry {
                name,
                url: nowhere.clone(),
                kind: match node.file() {
                    Some(_) => EntryKind::File(ListedSize::Unknown),
                    None => EntryKind::Directory,
                },
                modified: None,
                published: None,
            };
            // The sources of one command line always fit.
            if entries.push(&entry) {
                nodes.push(node);
            }
        }
        let inos = nodes.iter().map(|node| node.ino()).collect();
        let snapshot = Snapshot::new(ListedNames::numbered(entries, inos, context));
        for (at, node) in nodes.into_iter().enumerate() {
            snapshot.pin(at, node);
        }
        snapshot
    }

    /// Number of names, including ghosts.
    pub(crate) fn len(&self) -> usize {
        self.listed.entries().len()
    }

    /// The name at this position, in the listing's order.
    pub(crate) fn name(&self, at: usize) -> &OsStr {
        self.listed.entries().name(at)
    }

    /// The inode number at this position, even if the name was never looked up.
    pub(crate) fn ino(&self, at: usize) -> Ino {
        self.pinned(at).map_or(self.listed.ino(at), |node| node.ino())
    }

    /// Whether there is a directory at this position.
    pub(crate) fn is_directory(&self, at: usize) -> bool {
        self.pinned(at)
            .map_or_else(|| self.listed.entries().is_directory(at), |node| node.file().is_none())
    }

    /// Whether the listing has a file at this position that does not exist on the server.
    pub(crate) fn is_ghost(&self, at: usize) -> bool {
        self.pinned(at)
            .is_some_and(|node| node.file().is_some_and(RemoteFile::is_ghost))
    }

    /// Number of directories.
    pub(in crate::vfs) fn directories(&self) -> u32 {
        self.directories.load(Ordering::Relaxed)
    }

    /// The exact size in bytes of the file at this position, if it is known.
    pub(in crate::vfs) fn exact_size(&self, at: usize) -> Option<u64> {
        match (self.pinned(at), self.listed.entries().kind(at)) {
            (Some(node), _) => node.file()?.exact_size(),
            (None, EntryKind::File(ListedSize::Exact(size))) => Some(size),
            (None, _) => None,
        }
    }

    /// Whether the listing gives the file at this position this date.
    pub(in crate::vfs) fn is_listed_at(&self, at: usize, time: Option<ListedTime>) -> bool {
        let entries = self.listed.entries();
        match self.pinned(at) {
            Some(node) => node.file().is_some_and(|file| file.listed_time() == time),
            None => !entries.is_directory(at) && entries.modified(at) == time,
        }
    }

    /// Whether a listing equals this one, and no other change is known.
    pub(in crate::vfs) fn is_same(&self, entries: &Entries, modified: Option<SystemTime>) -> bool {
        self.listed.modified == modified
            && self.listed.entries().is_same(entries)
            && !self
                .pinned
                .read()
                .nodes
                .values()
                .filter_map(|node| node.file())
                .any(RemoteFile::is_changed)
    }

    /// Number of files and the sum of their known sizes in bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        let (pinned, entries) = (self.pinned.read(), self.listed.entries());
        let (mut files, mut bytes) = (0, 0_u64);
        for at in 0..self.len() {
            let size = match (pinned.nodes.get(&(at as u32)), entries.kind(at)) {
                (Some(node), _) => match node.file() {
                    Some(file) => file.shown_size(),
                    None => continue,
                },
                (None, EntryKind::Directory) => continue,
                (None, EntryKind::File(ListedSize::Exact(size) | ListedSize::Rounded(size))) => size,
                (None, EntryKind::File(ListedSize::Unknown)) => 0,
            };
            files += 1;
            bytes = bytes.saturating_add(size);
        }
        (files, bytes)
    }

    /// The position of a node in the listing.
    pub(in crate::vfs) fn position(&self, ino: Ino) -> Option<usize> {
        let renumbered = self.pinned.read().renumbered.get(&ino).copied();
        renumbered.map_or_else(|| self.listed.position(ino), |at| Some(at as usize))
    }

    /// The rank of a node in this order. A renumbered node keeps its rank.
    pub(in crate::vfs) fn rank(&self, order: Order, ino: Ino) -> Option<usize> {
        Some(self.listed.rank(order, self.position(ino)?))
    }

    /// The node that is pinned at this position.
    pub(in crate::vfs) fn pinned(&self, at: usize) -> Option<Arc<N>> {
        let pinned = self.pinned.read();
        if pinned.nodes.is_empty() {
            return None;
        }
        // Positions are below 2^32.
        pinned.nodes.get(&(at as u32)).cloned()
    }

    /// All pinned nodes, with their positions.
    pub(in crate::vfs) fn all_pinned(&self) -> Vec<(usize, Arc<N>)> {
        let pinned = self.pinned.read();
        let nodes = pinned.nodes.iter();
        nodes.map(|(&at, node)| (at as usize, Arc::clone(node))).collect()
    }

    /// Pins a node at this position, unless one is pinned there. Returns the pinned node.
    pub(in crate::vfs) fn pin(&self, at: usize, node: Arc<N>) -> Arc<N> {
        let mut pinned = self.pinned.write();
        if let Some(there) = pinned.nodes.get(&(at as u32)) {
            return Arc::clone(there);
        }
        pinned.insert(self.listed.ino(at), at as u32, Arc::clone(&node));
        node
    }

    /// Replaces the node at this position by a pinned one.
    pub(in crate::vfs) fn replace(&self, at: usize, node: Arc<N>) {
        let was_directory = self.is_directory(at);
        if node.file().is_none() && !was_directory {
            self.directories.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.pinned.write().insert(self.listed.ino(at), at as u32, node);
        // Dropped after the lock: this may be the last reference.
        drop(before);
    }
}
