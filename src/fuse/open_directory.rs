//! Open directories.
//!
//! The kernel reads a directory in pieces, and each piece begins at the offset that came with the entry before. Here
//! the offset is a position in the names as of the open. So no name is repeated or omitted, whatever happens to the
//! directory meanwhile. After `rewinddir` a program gets the current names, as POSIX requires.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::relay::LARGEST_ANSWER;
use crate::vfs::{Attributes, Node, Snapshot, Tree};

/// Most bytes of an entry in a reply besides its name: `fuse_direntplus`, and padding to a multiple of eight bytes.
const ENTRY: usize = 160;

/// An open directory handle.
pub struct OpenDirectory {
    /// The directory.
    pub node: Arc<Node>,
    /// Its names as of the open or the last read from the beginning. Locked for a copy only.
    snapshot: Mutex<Arc<Snapshot>>,
    /// Whether a read from the beginning has happened.
    is_begun: AtomicBool,
}

impl OpenDirectory {
    /// A directory that has just been opened.
    pub fn new(node: Arc<Node>, snapshot: Arc<Snapshot>) -> OpenDirectory {
        OpenDirectory {
            node,
            snapshot: Mutex::new(snapshot),
            is_begun: AtomicBool::new(false),
        }
    }

    /// Notes a read at `offset`. Returns true if it goes back to the beginning, so that the names must be renewed
    /// first.
    pub fn rewinds(&self, offset: u64) -> bool {
        offset == 0 && self.is_begun.swap(true, Ordering::Relaxed)
    }

    /// Replaces the names.
    pub fn renew(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.lock() = snapshot;
    }

    /// Passes the entries from `offset` on to `add`, each with the offset of the next one. Stops if `add` has no
    /// room, or at the largest reply: the kernel then asks for more.
    pub fn read_from(
        &self,
        tree: &Tree,
        offset: u64,
        mut add: impl FnMut(&OsStr, u64, &Arc<Node>, Attributes) -> bool,
    ) {
        let dots = [(".", self.node.ino), ("..", self.node.parent)];
        let snapshot = Arc::clone(&self.snapshot.lock());
        let children = snapshot.children();
        let mut room = LARGEST_ANSWER;
        // The entry is indexed, not counted to: the kernel reads a listing of a million names in a hundred thousand
        // pieces.
        for position in usize::try_from(offset).unwrap_or(usize::MAX)..dots.len() + children.len() {
            let (name, node) = match dots.get(position) {
                Some(&(name, ino)) => match tree.node(ino) {
                    Some(node) => (OsStr::new(name), node),
                    None => continue,
                },
                None => {
                    let (name, node) = &children[position - dots.len()];
                    (name.as_os_str(), Arc::clone(node))
                }
            };
            if node.is_ghost() {
                continue;
            }
            match room.checked_sub(ENTRY + name.len()) {
                Some(left) => room = left,
                None => break,
            }
            if add(name, position as u64 + 1, &node, tree.attributes(&node)) {
                break;
            }
        }
    }
}
