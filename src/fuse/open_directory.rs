//! Open directories.
//!
//! The kernel reads a directory piece by piece, and says where a piece begins by a number that it was given with the entry before: here
//! the position in the names as they were when the directory was opened. So no name is shown twice or left out, whatever
//! becomes of the directory meanwhile. A program that goes back to the beginning (`rewinddir`) gets the names that there are
//! then, as POSIX has it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::relay::LARGEST_ANSWER;
use crate::vfs::{Attributes, Node, Snapshot, Tree};

/// What an entry takes of an answer beside its name, at most: `fuse_direntplus`, and what brings a name to a multiple of eight bytes.
const ENTRY: usize = 160;

/// See the module.
pub struct OpenDirectory {
    /// The directory.
    pub node: Arc<Node>,
    /// Its names as they were when it was opened, or last read from the beginning. Taken for the moment of a copy.
    snapshot: Mutex<Arc<Snapshot>>,
    /// Whether it was read from the beginning.
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

    /// Notes that it is read from `offset`. Returns true if that goes back to the beginning, so that the names have to be renewed first.
    pub fn rewinds(&self, offset: u64) -> bool {
        offset == 0 && self.is_begun.swap(true, Ordering::Relaxed)
    }

    /// Shows these names from now on.
    pub fn renew(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.lock() = snapshot;
    }

    /// Gives `add` the entries from `offset` on, with the offset of the next one each, until it says that it has no room, or until the answer is
    /// as large as may be: the kernel asks for more then.
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
        // Found by its number and not by counting: a listing of a million names is read in a hundred thousand pieces.
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
