//! The nodes that there are, by their numbers: those in the names of a directory as it was last heard of, those that the
//! kernel knows, and those that somebody here holds.
//!
//! The kernel counts: each answer to a look-up, and each entry of a listing with attributes, is a reference that it gives
//! back with FORGET. A node that it has forgotten, and that is in no directory any more, is gone.
//!
//! **Numbers follow from what a node is** ([`number`]): its URL, and which version of that. So a backup program that knows files
//! by their numbers finds the same ones after a remount. Where two nodes would have one number, because a listing has one URL
//! twice or by chance, the later one gets another.

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

/// As few entries are never looked through for those of nodes that are gone.
const FEW: usize = 4096;

/// See the module.
pub(super) struct Nodes {
    /// Taken for a look-up or a count. Nothing is taken and nothing dropped under it.
    inner: RwLock<Inner>,
}

/// The number of what all of this tells from other things. From 2 to 2^63 - 1, as some programs keep numbers in signed columns.
pub(super) fn number(of: &[&str]) -> Ino {
    (xxh3_64(of.join("\0").as_bytes()) >> 1).max(ROOT + 1)
}

struct Inner {
    by_ino: HashMap<Ino, Entry>,
    /// At so many entries they are looked through.
    full: usize,
}

struct Entry {
    node: Weak<Node>,
    /// The kernel's references.
    references: u64,
    /// **There exactly while there are references.**
    known: Option<Arc<Node>>,
}

impl Drop for Nodes {
    /// Leaves the nodes where they are: a tree is dropped when its process ends, and to go through a million nodes takes seconds in which
    /// whoever unmounts has to wait.
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.inner.get_mut().by_ino));
    }
}

impl Entry {
    /// Whether there is a node with this number.
    fn is_taken(&self) -> bool {
        self.references > 0 || self.node.strong_count() > 0
    }
}

impl Nodes {
    /// Nothing but the top, of which the kernel knows without asking, and for good.
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

    /// Makes a node with this number, or with another if there is a node that has it. Whoever gets it has to hold it.
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

    /// The node with this number, if it is still there.
    pub(super) fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.inner.read().by_ino.get(&ino)?.node.upgrade()
    }

    /// All that there are now.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        let inner = self.inner.read();
        inner.by_ino.values().filter_map(|entry| entry.node.upgrade()).collect()
    }

    /// Whether the kernel knows the node with this number.
    pub(super) fn is_known(&self, ino: Ino) -> bool {
        let inner = self.inner.read();
        inner.by_ino.get(&ino).is_some_and(|entry| entry.references > 0)
    }

    /// The kernel is about to be told of a node.
    pub(super) fn refer(&self, node: &Arc<Node>) {
        if let Some(entry) = self.inner.write().by_ino.get_mut(&node.ino) {
            entry.references += 1;
            entry.known.get_or_insert_with(|| Arc::clone(node));
        }
    }

    /// The kernel gives so many references back.
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
        // It may be the last to hold a directory with many names.
        drop(forgotten);
    }

    /// How many there are.
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
