//! Snapshots: the names in a directory at one moment.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::source::{Listing, Name};
use crate::vfs::node::{Ino, Node};

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
pub struct Snapshot {
    children: Vec<(Name, Arc<Node>)>,
    /// Positions in the order of names. Sorted instead of hashed: a directory may have a million names.
    by_name: Vec<u32>,
    /// Positions in the order of inode numbers.
    by_ino: Vec<u32>,
    /// Number of directories among them.
    pub(in crate::vfs) directories: u32,
    /// The date of the listing itself.
    pub(in crate::vfs) modified: Option<SystemTime>,
}

impl Snapshot {
    pub(in crate::vfs) fn new(children: Vec<(Name, Arc<Node>)>, modified: Option<SystemTime>) -> Snapshot {
        // `--max-entries` is far below the range of the numbers.
        let positions = 0..u32::try_from(children.len()).unwrap_or(u32::MAX);
        let mut by_name: Vec<u32> = positions.clone().collect();
        by_name.sort_unstable_by(|&a, &b| children[a as usize].0.cmp(&children[b as usize].0));
        let mut by_ino: Vec<u32> = positions.collect();
        by_ino.sort_unstable_by_key(|&at| children[at as usize].1.ino);
        let directories = children.iter().filter(|(_, node)| node.is_directory()).count();
        Snapshot {
            children,
            by_name,
            by_ino,
            directories: u32::try_from(directories).unwrap_or(u32::MAX - 2),
            modified,
        }
    }

    /// The names and their nodes, in the listing's order.
    pub fn children(&self) -> &[(Name, Arc<Node>)] {
        &self.children
    }

    /// The node with this name, unless the server says that it does not exist.
    pub fn get(&self, name: &OsStr) -> Option<&Arc<Node>> {
        self.listed(name).filter(|node| !node.is_ghost())
    }

    /// The node that the listing has under this name, even if it does not exist on the server.
    pub(in crate::vfs) fn listed(&self, name: &OsStr) -> Option<&Arc<Node>> {
        Some(&self.children[self.position_of(name)?].1)
    }

    fn position_of(&self, name: &OsStr) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|&at| self.children[at as usize].0.as_os_str().cmp(name));
        Some(self.by_name[found.ok()?] as usize)
    }

    /// Whether the listing has this name although the server says that it does not exist.
    pub(in crate::vfs) fn has_ghost(&self, name: &OsStr) -> bool {
        self.listed(name).is_some_and(|node| node.is_ghost())
    }

    /// Whether this listing may be the successor of these names: see [`Listing::may_follow`].
    pub(in crate::vfs) fn may_become(&self, listing: &Listing) -> bool {
        self.children.is_empty() || listing.may_follow(|name| self.position_of(name).is_some())
    }

    /// The position of a node in the listing.
    pub(in crate::vfs) fn position(&self, ino: Ino) -> Option<usize> {
        let found = self
            .by_ino
            .binary_search_by_key(&ino, |&at| self.children[at as usize].1.ino);
        Some(self.by_ino[found.ok()?] as usize)
    }

    /// The rank of a node in this order.
    pub(in crate::vfs) fn rank(&self, order: Order, ino: Ino) -> Option<usize> {
        match order {
            Order::Listed => self.position(ino),
            Order::Numbered => self
                .by_ino
                .binary_search_by_key(&ino, |&at| self.children[at as usize].1.ino)
                .ok(),
        }
    }

    /// The nodes in this order, from this rank on.
    pub(in crate::vfs) fn from(&self, order: Order, rank: usize) -> impl Iterator<Item = &Arc<Node>> {
        (rank..self.children.len()).map(move |rank| self.ranked(order, rank))
    }

    /// The node at this rank, which must be below the number of children.
    fn ranked(&self, order: Order, rank: usize) -> &Arc<Node> {
        let at = match order {
            Order::Listed => rank,
            Order::Numbered => self.by_ino[rank] as usize,
        };
        &self.children[at].1
    }

    /// The directories after this one in this order, or all of them.
    pub(in crate::vfs) fn directories_after(&self, order: Order, ino: Option<Ino>) -> impl Iterator<Item = &Arc<Node>> {
        let start = ino.map_or(0, |ino| self.rank(order, ino).map_or(usize::MAX, |rank| rank + 1));
        self.from(order, start).filter(|node| node.is_directory())
    }

    /// Whether two directories are at most `distance` directories apart in this order, in either direction.
    pub(in crate::vfs) fn are_directories_near(&self, order: Order, one: Ino, other: Ino, distance: usize) -> bool {
        let Some((one, other)) = self.rank(order, one).zip(self.rank(order, other)) else {
            return false;
        };
        let between = self.from(order, one.min(other)).take(one.abs_diff(other));
        between.filter(|node| node.is_directory()).take(distance + 1).count() <= distance
    }

    /// The rank of the next file after this rank.
    pub(in crate::vfs) fn next_file(&self, order: Order, after: usize) -> Option<usize> {
        let next = self.from(order, after + 1).position(|node| !node.is_directory())?;
        Some(after + 1 + next)
    }

    /// The same names, with another node for one of them.
    pub(in crate::vfs) fn with(&self, name: &OsStr, node: Arc<Node>) -> Snapshot {
        let mut children = self.children.clone();
        if let Some(i) = self.position_of(name) {
            children[i].1 = node;
        }
        Snapshot::new(children, self.modified)
    }
}
