//! The nodes that there are, by their numbers: those in the names of a directory as it was last heard of, those that the
//! kernel knows, and those that somebody here holds.
//!
//! The kernel counts: each answer to a look-up, and each entry of a listing with attributes, is a reference that it gives
//! back with FORGET. A node that it has forgotten, and that is in no directory any more, is gone. **Its number is never
//! given to another**, so that whoever still has it gets ESTALE instead of another file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use super::node::{Ino, Node, ROOT};

/// As few entries are never looked through for those of nodes that are gone.
const FEW: usize = 4096;

/// See the module.
pub(super) struct Nodes {
    /// Taken for a look-up or a count. Nothing is taken and nothing dropped under it.
    inner: RwLock<Inner>,
    next: AtomicU64,
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
            next: AtomicU64::new(ROOT + 1),
        }
    }

    /// Makes a node with a number of its own. Whoever gets it has to hold it.
    pub(super) fn add(&self, make: impl FnOnce(Ino) -> Node) -> Arc<Node> {
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(make(ino));
        let entry = Entry {
            node: Arc::downgrade(&node),
            references: 0,
            known: None,
        };
        let mut inner = self.inner.write();
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
    use crate::tree::directory::Directory;
    use crate::tree::node::Kind;

    fn make(ino: Ino) -> Node {
        Node {
            ino,
            parent: ROOT,
            kind: Kind::Directory(Directory::fixed()),
            _counted: None,
        }
    }

    fn nodes() -> Nodes {
        Nodes::of(&Arc::new(make(ROOT)))
    }

    #[test]
    fn a_node_is_there_while_a_directory_or_the_kernel_has_it() {
        let nodes = nodes();
        let node = nodes.add(make);
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
        let node = nodes.add(make);
        nodes.refer(&node);
        nodes.forget(node.ino, 1);
        nodes.refer(&node);
        let ino = node.ino;
        drop(node);
        assert!(nodes.get(ino).is_some());
    }

    #[test]
    fn what_is_gone_takes_no_room_and_its_number_does_not_come_back() {
        let nodes = nodes();
        let mut last = ROOT;
        for _ in 0..10 * FEW {
            let node = nodes.add(make);
            assert!(node.ino > last);
            last = node.ino;
        }
        assert_eq!(nodes.count(), 1);
        assert!(nodes.inner.read().by_ino.len() <= FEW + 1);
    }
}
