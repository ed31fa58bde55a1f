//! Snapshots: the names in a directory at one moment.
//!
//! A directory may have a million names, and most of them are never looked up. A snapshot holds the listing's
//! [`Entries`] and their inode numbers: 40 bytes a name, and the name.
//!
//! **A node is created at the first look-up** ([`Tree::child`](crate::vfs::Tree::child)). A node without more state
//! than its listing is dropped when the kernel forgets it, and created again at the next look-up. A node with more
//! state, or with another number than the listing gives it, is pinned: it stays in the snapshot.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;
use url::Url;

use super::directory::Directory;
use super::stored;
use crate::source::{Entries, Entry, EntryKind, ListedSize, ListedTime, Listing, Name};
use crate::vfs::file::ListingContext;
use crate::vfs::node::{Ino, Kind, Node};
use crate::vfs::nodes::number_of;

/// An order in which programs walk through a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Order {
    /// The listing's order: `find` and `ls -U`.
    Listed,
    /// By inode number: `cp`, `rm` and `du` sort by it, because on a disk that is the order of the inodes.
    Numbered,
}

/// The names in a directory at one moment. An open directory keeps its snapshot, so that directory offsets stay
/// valid.
pub(crate) struct Snapshot {
    entries: Entries,
    /// The number of each entry's node, unless another one is pinned.
    inos: Box<[Ino]>,
    /// Positions in the order of names. A sorted array takes a fifth of the memory of a hash table.
    by_name: Box<[u32]>,
    /// Positions in the order of `inos`.
    by_ino: Box<[u32]>,
    /// Which entries come from an earlier mount's listing; `None` if none do.
    stored: Option<Box<[bool]>>,
    /// Data that its files share.
    pub(in crate::vfs) context: Arc<ListingContext>,
    /// Locked only for a look-up or a change.
    pinned: RwLock<Pinned>,
    directories: AtomicU32,
    /// The date of the listing itself.
    pub(in crate::vfs) modified: Option<SystemTime>,
}

/// Nodes that stay in a snapshot.
#[derive(Default)]
struct Pinned {
    /// Pinned nodes by their positions.
    nodes: HashMap<u32, Arc<Node>>,
    /// The positions of nodes with another number than the listing gives them.
    renumbered: HashMap<Ino, u32>,
}

impl Pinned {
    /// Inserts a node at a position to which the listing gives the number `listed`. Returns the node that it replaces.
    fn insert(&mut self, listed: Ino, at: u32, node: Arc<Node>) -> Option<Arc<Node>> {
        if node.ino != listed {
            self.renumbered.insert(node.ino, at);
        }
        let before = self.nodes.insert(at, node);
        if let Some(before) = &before {
            self.renumbered.remove(&before.ino);
        }
        before
    }
}

impl Snapshot {
    /// The snapshot of a listing.
    pub(in crate::vfs) fn new(
        entries: Entries,
        directory: &Directory,
        stored: Option<Box<[bool]>>,
        modified: Option<SystemTime>,
    ) -> Snapshot {
        let mut text = String::new();
        let inos: Box<[Ino]> = (0..entries.len())
            .map(|at| {
                text.clear();
                entries.write_url(at, &mut text);
                if let EntryKind::File(size) = entries.kind(at) {
                    text.push('\0');
                    // Writing to a string does not fail.
                    let _ = write!(text, "{}", stored::FileText(size, entries.modified(at)));
                }
                number_of(&text)
            })
            .collect();
        Snapshot::with(entries, inos, directory, stored, modified)
    }

    /// A snapshot with a fixed node for each name.
    pub(in crate::vfs) fn of_nodes(directory: &Directory, children: Vec<(Name, Arc<Node>)>) -> Snapshot {
        let nowhere = Url::parse("http://-/").expect("a constant");
        let mut entries = Entries::of(&nowhere);
        let mut nodes = Vec::with_capacity(children.len());
        for (name, node) in children {
            let entry = Entry {
                name,
                url: node.url().unwrap_or_else(|| nowhere.clone()),
                kind: match &node.kind {
                    Kind::Directory(_) => EntryKind::Directory,
                    Kind::File(_) => EntryKind::File(ListedSize::Unknown),
                },
                modified: None,
                published: None,
            };
            // The sources of one command line always fit.
            if entries.push(&entry) {
                nodes.push(node);
            }
        }
        let inos = nodes.iter().map(|node| node.ino).collect();
        let snapshot = Snapshot::with(entries, inos, directory, None, None);
        for (at, node) in nodes.into_iter().enumerate() {
            snapshot.pin(at, node);
        }
        snapshot
    }

    fn with(
        entries: Entries,
        inos: Box<[Ino]>,
        directory: &Directory,
        stored: Option<Box<[bool]>>,
        modified: Option<SystemTime>,
    ) -> Snapshot {
        // `Entries` holds no more than that.
        let positions = 0..u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut by_name: Box<[u32]> = positions.clone().collect();
        by_name.sort_unstable_by(|&a, &b| entries.name(a as usize).cmp(entries.name(b as usize)));
        let mut by_ino: Box<[u32]> = positions.collect();
        // Two entries may have the same number.
        by_ino.sort_unstable_by_key(|&at| (inos[at as usize], at));
        let directories = (0..entries.len()).filter(|&at| entries.is_directory(at)).count();
        let (dates, source) = (Arc::clone(&directory.dates), Arc::clone(&directory.source));
        let context = ListingContext::new(&entries, dates, source);
        Snapshot {
            entries,
            inos,
            by_name,
            by_ino,
            stored,
            context,
            pinned: RwLock::default(),
            directories: AtomicU32::new(u32::try_from(directories).unwrap_or(u32::MAX - 2)),
            modified,
        }
    }

    /// Number of names, including ghosts.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no names.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name at this position, in the listing's order.
    pub(crate) fn name(&self, at: usize) -> &OsStr {
        self.entries.name(at)
    }

    /// The inode number at this position, even if the name was never looked up.
    pub(crate) fn ino(&self, at: usize) -> Ino {
        self.pinned(at).map_or(self.inos[at], |node| node.ino)
    }

    /// Whether there is a directory at this position.
    pub(crate) fn is_directory(&self, at: usize) -> bool {
        self.pinned(at)
            .map_or_else(|| self.entries.is_directory(at), |node| node.is_directory())
    }

    /// Whether the listing has a file at this position that does not exist on the server.
    pub(crate) fn is_ghost(&self, at: usize) -> bool {
        self.pinned(at).is_some_and(|node| node.is_ghost())
    }

    /// The position of a name.
    pub(crate) fn find(&self, name: &OsStr) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|&at| self.entries.name(at as usize).cmp(name));
        Some(self.by_name[found.ok()?] as usize)
    }

    /// [`Self::find`], fast if the name is at `near`.
    pub(in crate::vfs) fn find_near(&self, name: &OsStr, near: usize) -> Option<usize> {
        if near < self.len() && self.name(near) == name {
            return Some(near);
        }
        self.find(name)
    }

    /// The listing's entries.
    pub(in crate::vfs) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Whether the entry at this position comes from an earlier mount's listing.
    pub(in crate::vfs) fn is_stored(&self, at: usize) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored[at])
    }

    /// Whether any entry comes from an earlier mount's listing.
    pub(in crate::vfs) fn has_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// The number that the listing gives the entry at this position.
    pub(in crate::vfs) fn listed_ino(&self, at: usize) -> Ino {
        self.inos[at]
    }

    /// The node that is pinned at this position.
    pub(in crate::vfs) fn pinned(&self, at: usize) -> Option<Arc<Node>> {
        let pinned = self.pinned.read();
        if pinned.nodes.is_empty() {
            return None;
        }
        // Positions are below 2^32.
        pinned.nodes.get(&(at as u32)).cloned()
    }

    /// All pinned nodes, with their positions.
    pub(in crate::vfs) fn all_pinned(&self) -> Vec<(usize, Arc<Node>)> {
        let pinned = self.pinned.read();
        let nodes = pinned.nodes.iter();
        nodes.map(|(&at, node)| (at as usize, Arc::clone(node))).collect()
    }

    /// Pins a node at this position, unless one is pinned there. Returns the pinned node.
    pub(in crate::vfs) fn pin(&self, at: usize, node: Arc<Node>) -> Arc<Node> {
        let mut pinned = self.pinned.write();
        if let Some(there) = pinned.nodes.get(&(at as u32)) {
            return Arc::clone(there);
        }
        pinned.insert(self.inos[at], at as u32, Arc::clone(&node));
        node
    }

    /// Replaces the node at this position by a pinned one.
    pub(in crate::vfs) fn replace(&self, at: usize, node: Arc<Node>) {
        let was_directory = self.is_directory(at);
        if node.is_directory() && !was_directory {
            self.directories.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.pinned.write().insert(self.inos[at], at as u32, node);
        // Dropped after the lock: this may be the last reference.
        drop(before);
    }

    /// Pins a node of this snapshot, because it has more state than its listing.
    pub(in crate::vfs) fn keep(&self, node: &Arc<Node>) {
        if let Some(at) = self.listed_position(node.ino) {
            self.pin(at, Arc::clone(node));
        }
    }

    /// Number of directories.
    pub(in crate::vfs) fn directories(&self) -> u32 {
        self.directories.load(Ordering::Relaxed)
    }

    /// Number of files and the sum of their known sizes in bytes.
    pub(in crate::vfs) fn totals(&self) -> (u64, u64) {
        let pinned = self.pinned.read();
        let (mut files, mut bytes) = (0, 0_u64);
        for at in 0..self.len() {
            let size = match (
                pinned.nodes.get(&(at as u32)).map(|node| &node.kind),
                self.entries.kind(at),
            ) {
                (Some(Kind::File(file)), _) => file.shown_size(),
                (Some(Kind::Directory(_)), _) | (None, EntryKind::Directory) => continue,
                (None, EntryKind::File(ListedSize::Exact(size) | ListedSize::Rounded(size))) => size,
                (None, EntryKind::File(ListedSize::Unknown)) => 0,
            };
            files += 1;
            bytes = bytes.saturating_add(size);
        }
        (files, bytes)
    }

    /// Whether a listing equals this one, and no other change is known.
    pub(in crate::vfs) fn says_the_same(&self, entries: &Entries, modified: Option<SystemTime>) -> bool {
        self.modified == modified
            && self.entries.is_same(entries)
            && !self.pinned.read().nodes.values().any(|node| node.is_changed())
    }

    /// Whether the exact size of the file at this position is known.
    pub(in crate::vfs) fn has_exact_size(&self, at: usize) -> bool {
        match self.pinned(at) {
            Some(node) => node.has_exact_size(),
            None => matches!(
                self.entries.kind(at),
                EntryKind::Directory | EntryKind::File(ListedSize::Exact(_))
            ),
        }
    }

    /// Whether there is a file of exactly known size at this position, between 1 and `limit` bytes.
    fn is_small_file(&self, at: usize, limit: u64) -> bool {
        match (self.pinned(at), self.entries.kind(at)) {
            (Some(node), _) => node.is_small_file(limit),
            (None, EntryKind::File(ListedSize::Exact(size))) => (1..=limit).contains(&size),
            (None, _) => false,
        }
    }

    /// Whether the listing gives the entry at this position this date.
    pub(in crate::vfs) fn is_listed_at(&self, at: usize, time: Option<ListedTime>) -> bool {
        match self.pinned(at).as_ref().map(|node| &node.kind) {
            Some(Kind::File(file)) => file.listed_time() == time,
            Some(Kind::Directory(_)) => false,
            None => !self.entries.is_directory(at) && self.entries.modified(at) == time,
        }
    }

    /// Whether this listing may be the successor of these names: see [`Listing::may_follow`].
    pub(in crate::vfs) fn may_become(&self, listing: &Listing) -> bool {
        self.is_empty() || listing.may_follow(|name| self.find(name).is_some())
    }

    fn listed_position(&self, ino: Ino) -> Option<usize> {
        let rank = self.by_ino.partition_point(|&at| self.inos[at as usize] < ino);
        let at = *self.by_ino.get(rank)? as usize;
        (self.inos[at] == ino).then_some(at)
    }

    /// The position of a node in the listing.
    pub(in crate::vfs) fn position(&self, ino: Ino) -> Option<usize> {
        let renumbered = self.pinned.read().renumbered.get(&ino).copied();
        renumbered.map_or_else(|| self.listed_position(ino), |at| Some(at as usize))
    }

    /// The rank of a node in this order. A renumbered node keeps its rank.
    pub(in crate::vfs) fn rank(&self, order: Order, ino: Ino) -> Option<usize> {
        let at = self.position(ino)?;
        match order {
            Order::Listed => Some(at),
            Order::Numbered => {
                let key = (self.inos[at], at as u32);
                let found = self
                    .by_ino
                    .binary_search_by_key(&key, |&at| (self.inos[at as usize], at));
                found.ok()
            }
        }
    }

    /// The positions of the nodes in this order, from this rank on.
    pub(in crate::vfs) fn from(&self, order: Order, rank: usize) -> impl Iterator<Item = usize> {
        (rank..self.len()).map(move |rank| self.ranked(order, rank))
    }

    /// The position of the node at this rank, which must be below the number of names.
    fn ranked(&self, order: Order, rank: usize) -> usize {
        match order {
            Order::Listed => rank,
            Order::Numbered => self.by_ino[rank] as usize,
        }
    }

    /// The positions of the directories after this one in this order, or of all of them.
    pub(in crate::vfs) fn directories_after(&self, order: Order, ino: Option<Ino>) -> impl Iterator<Item = usize> {
        let start = match self.directories() {
            // Stops early, because there may be a million files.
            0 => usize::MAX,
            _ => ino.map_or(0, |ino| self.rank(order, ino).map_or(usize::MAX, |rank| rank + 1)),
        };
        self.from(order, start).filter(|&at| self.is_directory(at))
    }

    /// Whether two directories are at most `distance` directories apart in this order, in either direction.
    pub(in crate::vfs) fn are_directories_near(&self, order: Order, one: Ino, other: Ino, distance: usize) -> bool {
        let Some((one, other)) = self.rank(order, one).zip(self.rank(order, other)) else {
            return false;
        };
        let between = self.from(order, one.min(other)).take(one.abs_diff(other));
        between.filter(|&at| self.is_directory(at)).take(distance + 1).count() <= distance
    }

    /// The rank of the next file after this rank.
    pub(in crate::vfs) fn next_file(&self, order: Order, after: usize) -> Option<usize> {
        let next = self.from(order, after + 1).position(|at| !self.is_directory(at))?;
        Some(after + 1 + next)
    }

    /// For the ranks `from..until`: the ranks of files of exactly known size between 1 and `limit` bytes.
    pub(in crate::vfs) fn small_files(
        &self,
        order: Order,
        from: usize,
        until: usize,
        limit: u64,
    ) -> Vec<(usize, usize)> {
        let ranked = (from..until).zip(self.from(order, from));
        ranked.filter(|&(_, at)| self.is_small_file(at, limit)).collect()
    }

    /// Its memory in bytes, without nodes.
    #[cfg(test)]
    fn memory(&self) -> usize {
        self.entries.memory() + self.len() * (size_of::<Ino>() + 2 * size_of::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(names: usize) -> Snapshot {
        let directory = Url::parse("http://h/d/").unwrap();
        let mut entries = Entries::of(&directory);
        for number in 0..names {
            let name = format!("f{number:07}");
            let entry = Entry {
                url: directory.join(&name).unwrap(),
                name: Name::new(name.into()).unwrap(),
                kind: EntryKind::File(ListedSize::Exact(7)),
                modified: None,
                published: None,
            };
            assert!(entries.push(&entry));
        }
        entries.shrink_to_fit();
        Snapshot::new(entries, &Directory::fixed(), None, None)
    }

    /// Bounds the memory of a listed directory of a million names.
    #[test]
    fn name_takes_forty_bytes_beside_its_text() {
        let names = 10_000;
        assert!(snapshot(names).memory() <= names * ("f0000000".len() + 40));
    }

    #[test]
    fn node_is_found_by_its_number_in_either_order() {
        let snapshot = snapshot(1000);
        for at in [0, 17, 999] {
            assert_eq!(snapshot.find(snapshot.name(at)), Some(at));
            let ino = snapshot.ino(at);
            assert_eq!(snapshot.position(ino), Some(at));
            let rank = snapshot.rank(Order::Numbered, ino).unwrap();
            assert_eq!(snapshot.from(Order::Numbered, rank).next(), Some(at));
        }
        assert_eq!(snapshot.find(OsStr::new("g")), None);
        assert_eq!(snapshot.position(1), None);
    }
}
