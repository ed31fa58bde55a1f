//! How many names are remembered: those of the directories that were listed last.
//!
//! A tree may be larger than memory, or have no end, because a server makes it up as somebody walks. So when there are more
//! names than [`TreeConfig::most_names`](crate::vfs::TreeConfig::most_names), the directories that were listed longest ago are let go of: their
//! names are asked of the index, or of the origin, at the next look, as after a remount. What the kernel knows of them
//! keeps its nodes meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use crate::vfs::node::{Ino, Node};

/// The directories whose names are remembered, by when they were listed.
#[derive(Default)]
pub(in crate::vfs) struct ListingLru {
    /// Names in all of them.
    names: usize,
    /// Counts listings.
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
    /// A directory was listed with so many names. Which ones to let go of, so that there are `most` at most; the one that
    /// was just listed is none of them, however large.
    pub(in crate::vfs) fn listed(&mut self, node: &Arc<Node>, names: usize, most: usize) -> Vec<Arc<Node>> {
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
            // One that is gone has taken its names with it.
            leaving.extend(oldest.node.upgrade());
        }
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::listing::directory::Directory;
    use crate::vfs::node::{Kind, ROOT};

    fn node(ino: Ino) -> Arc<Node> {
        Arc::new(Node {
            ino,
            parent: ROOT,
            kind: Kind::Directory(Box::new(Directory::fixed())),
            _counted: None,
        })
    }

    #[test]
    fn those_that_were_listed_longest_ago_go_until_there_are_few_enough() {
        let nodes: Vec<_> = (0..4).map(node).collect();
        let mut remembered = ListingLru::default();
        let mut leaving = |at: usize, names| -> Vec<Ino> {
            let leaving = remembered.listed(&nodes[at], names, 10);
            leaving.iter().map(|node| node.ino).collect()
        };
        assert!(leaving(0, 4).is_empty() && leaving(1, 4).is_empty());
        assert!(leaving(0, 6).is_empty(), "again: then it is the younger one");
        assert_eq!(leaving(2, 1), [1]);
        assert_eq!(leaving(3, 11), [0, 2], "one alone may be too large");
        assert_eq!(leaving(2, 1), [3]);
    }
}
