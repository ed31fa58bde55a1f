//! Snapshots: the names in a directory at one moment.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::node::{Ino, Node};
use crate::source::{Listing, Name};

/// The names in a directory at one moment. An open directory keeps the one that it began with, so
/// that positions in it stay good.
pub struct Snapshot {
    children: Vec<(Name, Arc<Node>)>,
    /// Positions in the order of names. Sorted, and not hashed: a directory may have a million names.
    by_name: Vec<u32>,
    /// Positions in the order of inode numbers.
    by_ino: Vec<u32>,
    /// How many of them are directories.
    pub(super) directories: u32,
    /// The listing's own date.
    pub(super) modified: Option<SystemTime>,
}

impl Snapshot {
    pub(super) fn new(children: Vec<(Name, Arc<Node>)>, modified: Option<SystemTime>) -> Snapshot {
        // `--max-entries` is far below what the numbers can hold.
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

    /// The node with this name, unless the server says that there is none.
    pub fn get(&self, name: &OsStr) -> Option<&Arc<Node>> {
        self.listed(name).filter(|node| !node.is_ghost())
    }

    /// The node that the listing has under this name, ghost or not.
    pub(super) fn listed(&self, name: &OsStr) -> Option<&Arc<Node>> {
        Some(&self.children[self.position_of(name)?].1)
    }

    fn position_of(&self, name: &OsStr) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|&at| self.children[at as usize].0.as_os_str().cmp(name));
        Some(self.by_name[found.ok()?] as usize)
    }

    /// Whether the listing has this name, and the server says that there is nothing.
    pub(super) fn has_ghost(&self, name: &OsStr) -> bool {
        self.listed(name).is_some_and(|node| node.is_ghost())
    }

    /// Whether this listing may be what has become of these names: see [`Listing::may_follow`].
    pub(super) fn may_become(&self, listing: &Listing) -> bool {
        self.children.is_empty() || listing.may_follow(|name| self.position_of(name).is_some())
    }

    /// Where a node stands in the listing.
    pub(super) fn position(&self, ino: Ino) -> Option<usize> {
        let found = self
            .by_ino
            .binary_search_by_key(&ino, |&at| self.children[at as usize].1.ino);
        Some(self.by_ino[found.ok()?] as usize)
    }

    /// The directories after this one, or all of them.
    pub(super) fn directories_after(&self, ino: Option<Ino>) -> impl Iterator<Item = &Arc<Node>> {
        let start = ino.map_or(0, |ino| self.position(ino).map_or(usize::MAX, |at| at + 1));
        self.children
            .iter()
            .skip(start)
            .map(|(_, node)| node)
            .filter(|node| node.is_directory())
    }

    /// Whether two directories here are at most `distance` directories apart, in either direction.
    pub(super) fn are_directories_near(&self, one: Ino, other: Ino, distance: usize) -> bool {
        let Some((one, other)) = self.position(one).zip(self.position(other)) else {
            return false;
        };
        let between = &self.children[one.min(other)..one.max(other)];
        let directories = between.iter().filter(|(_, node)| node.is_directory());
        directories.take(distance + 1).count() <= distance
    }

    /// The position of the next file after this one.
    pub(super) fn next_file(&self, after: usize) -> Option<usize> {
        let rest = self.children.iter().enumerate().skip(after + 1);
        rest.filter(|(_, (_, node))| !node.is_directory())
            .map(|(at, _)| at)
            .next()
    }

    /// The same names, one of them for another node.
    pub(super) fn with(&self, name: &OsStr, node: Arc<Node>) -> Snapshot {
        let mut children = self.children.clone();
        if let Some(i) = self.position_of(name) {
            children[i].1 = node;
        }
        Snapshot::new(children, self.modified)
    }
}
