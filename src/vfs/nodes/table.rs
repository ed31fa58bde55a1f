//! The table of nodes by inode number.
//!
//! A node exists while a snapshot pins it, the kernel references it, or a caller holds it. The kernel counts a
//! reference for each look-up reply and each readdirplus entry, and releases them with FORGET.
//!
//! Numbers follow from what a node is ([`ino`](super::ino)). If the number is taken, the node gets another.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use super::ino::{Ino, ROOT, number};
use super::node::Node;

/// Below this many entries the table is not searched for entries of freed nodes.
const FEW: usize = 4096;

/// The table of nodes.
pub(in crate::vfs) struct NodeTable {
    /// Held for a look-up or a count. No other lock is taken and no node dropped under it.
    inner: RwLock<Inner>,
}

/// **An existing node is in one of the two.** The kernel may reference a million nodes. A slot for one that it references
/// takes 9 bytes, another 17, and up to half of the slots are free.
struct Inner {
    /// Nodes that the kernel references. [`Node::references`] counts how often.
    known: HashSet<ByIno>,
    /// All other nodes, and entries of freed nodes.
    others: HashMap<Ino, Weak<Node>>,
    /// At this many others, entries of freed nodes are removed.
    full: usize,
}

/// A node in a set, where its number stands for it.
struct ByIno(Arc<Node>);

impl Borrow<Ino> for ByIno {
    fn borrow(&self) -> &Ino {
        &self.0.ino
    }
}

impl Hash for ByIno {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.ino.hash(state);
    }
}

impl PartialEq for ByIno {
    fn eq(&self, other: &ByIno) -> bool {
        self.0.ino == other.0.ino
    }
}

impl Eq for ByIno {}

impl Drop for NodeTable {
    /// Leaks the nodes. A tree is dropped when its process ends, and freeing a million nodes would delay the unmount
    /// by seconds.
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        std::mem::forget((std::mem::take(&mut inner.known), std::mem::take(&mut inner.others)));
    }
}

impl Inner {
    fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        match self.known.get(&ino) {
            Some(ByIno(known)) => Some(Arc::clone(known)),
            None => self.others.get(&ino)?.upgrade(),
        }
    }

    fn is_taken(&self, ino: Ino) -> bool {
        let is_there = |node: &Weak<Node>| node.strong_count() > 0;
        self.known.contains(&ino) || self.others.get(&ino).is_some_and(is_there)
    }

    fn add(&mut self, wanted: Ino, make: impl FnOnce(Ino) -> Node) -> Arc<Node> {
        let (mut ino, mut tries) = (wanted, 0_u64);
        while ino <= ROOT || self.is_taken(ino) {
            tries += 1;
            ino = number(&format!("{wanted}\0{tries}"));
        }
        let node = Arc::new(make(ino));
        if self.others.len() >= self.full {
            self.others.retain(|_, node| node.strong_count() > 0);
            self.full = FEW.max(2 * self.others.len());
            self.others.shrink_to(self.full);
        }
        self.others.insert(ino, Arc::downgrade(&node));
        node
    }
}

impl NodeTable {
    /// A table with the root alone. The kernel references the root without a look-up and never forgets it.
    pub(super) fn of(root: &Arc<Node>) -> NodeTable {
        root.references.store(1, Ordering::Relaxed);
        NodeTable {
            inner: RwLock::new(Inner {
                known: HashSet::from([ByIno(Arc::clone(root))]),
                others: HashMap::new(),
                full: FEW,
            }),
        }
    }

    /// Adds a node with the number `wanted`, or with another if that is taken. The table holds only a weak reference,
    /// so the caller must keep the node.
    pub(super) fn add(&self, wanted: Ino, make: impl FnOnce(Ino) -> Node) -> Arc<Node> {
        self.inner.write().add(wanted, make)
    }

    /// The node with this number if it is the one that is meant; otherwise [a new one](Self::add).
    pub(super) fn get_or_add(
        &self,
        wanted: Ino,
        is_it: impl Fn(&Node) -> bool,
        make: impl FnOnce(Ino) -> Node,
    ) -> Arc<Node> {
        let mut inner = self.inner.write();
        match inner.get(wanted) {
            Some(node) if is_it(&node) => node,
            _ => inner.add(wanted, make),
        }
    }

    /// The node with this number, if it still exists.
    pub(super) fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.inner.read().get(ino)
    }

    /// All existing nodes.
    pub(in crate::vfs) fn all(&self) -> Vec<Arc<Node>> {
        let inner = self.inner.read();
        let others = inner.others.values().filter_map(Weak::upgrade);
        inner
            .known
            .iter()
            .map(|known| Arc::clone(&known.0))
            .chain(others)
            .collect()
    }

    /// Whether the kernel references the node with this number.
    pub(in crate::vfs) fn is_known(&self, ino: Ino) -> bool {
        self.inner.read().known.contains(&ino)
    }

    /// Counts one kernel reference.
    pub(in crate::vfs) fn refer(&self, node: &Arc<Node>) {
        let mut inner = self.inner.write();
        let before = node.references.load(Ordering::Relaxed);
        node.references.store(before.saturating_add(1), Ordering::Relaxed);
        if !inner.known.contains(&node.ino) {
            inner.others.remove(&node.ino);
            inner.known.insert(ByIno(Arc::clone(node)));
        }
    }

    /// Releases `references` kernel references. Returns the node if none is left, to be dropped without the lock.
    pub(in crate::vfs) fn forget(&self, ino: Ino, references: u64) -> Option<Arc<Node>> {
        if ino == ROOT {
            return None;
        }
        let mut inner = self.inner.write();
        let ByIno(node) = inner.known.get(&ino)?;
        let left = match node.references.load(Ordering::Relaxed) {
            // Their number is unknown, so the node stays.
            u32::MAX => u32::MAX,
            known => known.saturating_sub(u32::try_from(references).unwrap_or(u32::MAX)),
        };
        node.references.store(left, Ordering::Relaxed);
        if left > 0 {
            return None;
        }
        let ByIno(node) = inner.known.take(&ino)?;
        let room = inner.known.capacity();
        if room > FEW && inner.known.len() < room / 8 {
            let enough = 2 * inner.known.len();
            inner.known.shrink_to(enough);
        }
        // The node is freed with this reference, so no entry is needed.
        if Arc::strong_count(&node) > 1 || Arc::weak_count(&node) > 0 {
            inner.others.insert(ino, Arc::downgrade(&node));
        }
        Some(node)
    }

    /// Number of existing nodes.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.all().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::nodes::node::{Directory, Kind};

    fn make(ino: Ino) -> Node {
        Node::new(ino, Kind::Directory(Box::new(Directory::fixed())))
    }

    fn nodes() -> NodeTable {
        NodeTable::of(&Arc::new(make(ROOT)))
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
    fn inode_number_is_as_requested_unless_taken() {
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
        assert!(nodes.inner.read().others.len() <= FEW + 1);
    }
}
