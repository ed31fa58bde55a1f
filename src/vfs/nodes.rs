//! The table of nodes by inode number.
//!
//! A node exists while a directory's current listing has it, the kernel references it, or a caller holds it. The
//! kernel counts a reference for each look-up reply and each readdirplus entry, and releases them with FORGET.
//!
//! **Numbers follow from what a node is** ([`number`]): its URL and the file's version. So a backup program that
//! identifies files by inode finds the same numbers after a remount. If two nodes would have one number, the later
//! one gets another. That happens if a listing has one URL twice, or by a hash collision.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use url::Url;

use xxhash_rust::xxh3::xxh3_64;

use super::node::{Ino, Node, ROOT};

/// The number of a directory.
pub(super) fn directory_number(url: &Url) -> Ino {
    number(&[url.as_str()])
}

/// Below this many entries the table is not searched for entries of freed nodes.
const FEW: usize = 4096;

/// The table of nodes.
pub(super) struct Nodes {
    /// Held for a look-up or a count. No other lock is taken and no node dropped under it.
    inner: RwLock<Inner>,
}

/// An inode number from the strings that identify a node. From 2 to 2^63 - 1, as some programs keep numbers in signed
/// columns.
pub(super) fn number(of: &[&str]) -> Ino {
    (xxh3_64(of.join("\0").as_bytes()) >> 1).max(ROOT + 1)
}

struct Inner {
    by_ino: HashMap<Ino, Entry>,
    /// At this many entries, entries of freed nodes are removed.
    full: usize,
}

struct Entry {
    node: Weak<Node>,
    /// The kernel's references.
    references: u64,
    /// **`Some` exactly while `references` is not 0.**
    known: Option<Arc<Node>>,
}

impl Drop for Nodes {
    /// Leaks the nodes. A tree is dropped when its process ends, and freeing a million nodes would delay the unmount
    /// by seconds.
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.inner.get_mut().by_ino));
    }
}

impl Entry {
    /// Whether a node with this number exists.
    fn is_taken(&self) -> bool {
        self.references > 0 || self.node.strong_count() > 0
    }
}

impl Nodes {
    /// A table with the root alone. The kernel references the root without a look-up and never forgets it.
    pub(super) fn of(root: &Arc<Node>) -> Nodes {
        let entry = Entry {
            node: Arc::downgrade(root),
            references: 1,
            known: Some(Arc::clone(root)),
        };
        Nodes {
            inner: RwLock::new(Inner {
                by_ino: HashMap::from([(ROOT, entry)]),
                full: FEW,
            }),
        }
    }

    /// Adds a node with the number `wanted`, or with another if that is taken. The table holds only a weak reference,
    /// so the caller must keep the node.
    pub(super) fn add(&self, wanted: Ino, make: impl FnOnce(Ino) -> Node) -> Arc<Node> {
        let mut inner = self.inner.write();
        let (mut ino, mut tries) = (wanted, 0_u64);
        while ino <= ROOT || inner.by_ino.get(&ino).is_some_and(Entry::is_taken) {
            tries += 1;
            ino = number(&[&wanted.to_string(), &tries.to_string()]);
        }
        let node = Arc::new(make(ino));
        let entry = Entry {
            node: Arc::downgrade(&node),
            references: 0,
            known: None,
        };
        if inner.by_ino.len() >= inner.full {
            inner.by_ino.retain(|_, entry| entry.node.strong_count() > 0);
            inner.full = FEW.max(2 * inner.by_ino.len());
        }
        inner.by_ino.insert(ino, entry);
        node
    }

    /// The node with this number, if it still exists.
    pub(super) fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.inner.read().by_ino.get(&ino)?.node.upgrade()
    }

    /// All existing nodes.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        let inner = self.inner.read();
        inner.by_ino.values().filter_map(|entry| entry.node.upgrade()).collect()
    }

    /// Whether the kernel references the node with this number.
    pub(super) fn is_known(&self, ino: Ino) -> bool {
        let inner = self.inner.read();
        inner.by_ino.get(&ino).is_some_and(|entry| entry.references > 0)
    }

    /// Counts one kernel reference.
    pub(super) fn refer(&self, node: &Arc<Node>) {
        if let Some(entry) = self.inner.write().by_ino.get_mut(&node.ino) {
            entry.references += 1;
            entry.known.get_or_insert_with(|| Arc::clone(node));
        }
    }

    /// Releases `references` kernel references.
    pub(super) fn forget(&self, ino: Ino, references: u64) {
        if ino == ROOT {
            return;
        }
        let forgotten = {
            let mut inner = self.inner.write();
            let Some(entry) = inner.by_ino.get_mut(&ino) else {
                return;
            };
            entry.references = entry.references.saturating_sub(references);
            if entry.references > 0 {
                return;
            }
            entry.known.take()
        };
        // Dropped after the lock: this may be the last reference to a directory with many names.
        drop(forgotten);
    }

    /// Number of existing nodes.
    #[cfg(test)]
    fn count(&self) -> usize {
        let inner = self.inner.read();
        inner
            .by_ino
            .values()
            .filter(|entry| entry.node.strong_count() > 0)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::listing::directory::Directory;
    use crate::vfs::node::Kind;

    fn make(ino: Ino) -> Node {
        Node {
            ino,
            parent: ROOT,
            kind: Kind::Directory(Box::new(Directory::fixed())),
            _counted: None,
        }
    }

    fn nodes() -> Nodes {
        Nodes::of(&Arc::new(make(ROOT)))
    }

    #[test]
    fn a_node_is_there_while_a_directory_or_the_kernel_has_it() {
        let nodes = nodes();
        let node = nodes.add(7, make);
        let ino = node.ino;
        for _ in 0..3 {
            nodes.refer(&node);
        }
        drop(node);
        nodes.forget(ino, 2);
        assert!(nodes.get(ino).is_some_and(|node| node.ino == ino), "the kernel has it");
        let in_a_directory = nodes.get(ino);
        nodes.forget(ino, 1);
        assert!(nodes.get(ino).is_some(), "a directory has it");
        drop(in_a_directory);
        assert!(nodes.get(ino).is_none());
        nodes.forget(ino, 1);
        nodes.forget(ROOT, u64::MAX);
        assert!(nodes.get(ROOT).is_some(), "the top stays");
    }

    #[test]
    fn a_node_that_is_looked_up_again_before_it_is_gone_stays() {
        let nodes = nodes();
        let node = nodes.add(7, make);
        nodes.refer(&node);
        nodes.forget(node.ino, 1);
        nodes.refer(&node);
        let ino = node.ino;
        drop(node);
        assert!(nodes.get(ino).is_some());
    }

    #[test]
    fn a_number_is_what_was_wanted_unless_there_is_a_node_that_has_it() {
        let nodes = nodes();
        let first = nodes.add(7, make);
        let second = nodes.add(7, make);
        assert!(first.ino == 7 && second.ino != 7 && second.ino > ROOT);
        nodes.refer(&first);
        drop((first, second));
        assert_ne!(nodes.add(7, make).ino, 7, "the kernel has it");
        nodes.forget(7, 1);
        assert_eq!(nodes.add(7, make).ino, 7);
        assert!(nodes.add(ROOT, make).ino > ROOT && nodes.add(0, make).ino > ROOT);
    }

    #[test]
    fn what_is_gone_takes_no_room() {
        let nodes = nodes();
        for wanted in 0..10 * FEW as u64 {
            nodes.add(wanted, make);
        }
        assert_eq!(nodes.count(), 1);
        assert!(nodes.inner.read().by_ino.len() <= FEW + 1);
    }
}
