//! The memory bound for listings: least recently listed directories drop their names.
//!
//! A tree may be larger than memory, or endless if a server generates it. If the tree holds more names than
//! [`TreeConfig::most_names`](crate::vfs::TreeConfig::most_names), the directories that were listed longest ago drop
//! theirs. The next look-up asks the index or the origin for them, as after a remount. Nodes that the kernel
//! references stay.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use crate::vfs::nodes::ino::Ino;
use crate::vfs::nodes::node::Node;

/// The directories whose names are in memory, by the time of their listing.
#[derive(Default)]
pub(super) struct ListingLru {
    /// Number of names in all of them.
    names: usize,
    /// Counts listings; serves as the time.
    now: u64,
    by_time: BTreeMap<u64, Listed>,
    times: HashMap<Ino, u64>,
}

struct Listed {
    ino: Ino,
    node: Weak<Node>,
    names: usize,
}

impl ListingLru {
    /// Notes that a directory was listed with this many names. Returns the directories that must drop theirs to keep
    /// at most `most`. The directory just listed is never among them, however large.
    pub(super) fn listed(&mut self, node: &Arc<Node>, names: usize, most: usize) -> Vec<Arc<Node>> {
        self.now += 1;
        if let Some(before) = self.times.insert(node.ino, self.now) {
            self.names -= self.by_time.remove(&before).map_or(0, |listed| listed.names);
        }
        self.names += names;
        let listed = Listed {
            ino: node.ino,
            node: Arc::downgrade(node),
            names,
        };
        self.by_time.insert(self.now, listed);
        let mut leaving = Vec::new();
        while self.names > most && self.by_time.len() > 1 {
            let Some((_, oldest)) = self.by_time.pop_first() else {
                break;
            };
            self.times.remove(&oldest.ino);
            self.names -= oldest.names;
            // The names of a freed node are gone already.
            leaving.extend(oldest.node.upgrade());
        }
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::nodes::node::{Directory, Kind};

    fn node(ino: Ino) -> Arc<Node> {
        let kind = Kind::Directory(Box::new(Directory::fixed()));
        Arc::new(Node::new(ino, kind))
    }

    #[test]
    fn least_recently_listed_directories_are_dropped() {
        let nodes: Vec<_> = (0..4).map(node).collect();
        let mut lru = ListingLru::default();
        let mut leaving = |at: usize, names| -> Vec<Ino> {
            let leaving = lru.listed(&nodes[at], names, 10);
            leaving.iter().map(|node| node.ino).collect()
        };
        assert!(leaving(0, 4).is_empty() && leaving(1, 4).is_empty());
        assert!(leaving(0, 6).is_empty(), "again: then it is the younger one");
        assert_eq!(leaving(2, 1), [1]);
        assert_eq!(leaving(3, 11), [0, 2], "one alone may be too large");
        assert_eq!(leaving(2, 1), [3]);
    }
}
