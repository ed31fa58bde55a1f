//! Open directories.
//!
//! The kernel reads a directory piece by piece, and says where a piece begins by a number that it was given with the entry before: here
//! the position in the names as they were when the directory was opened. So no name is shown twice or left out, whatever
//! becomes of the directory meanwhile.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::tree::{Attributes, Node, Snapshot, Tree};

/// See the module.
pub struct OpenDirectory {
    /// The directory.
    pub node: Arc<Node>,
    /// Its names as they were when it was opened.
    pub snapshot: Arc<Snapshot>,
}

impl OpenDirectory {
    /// Gives `add` the entries from `offset` on, with the offset of the next one each, until it says that it has no room.
    pub fn read_from(
        &self,
        tree: &Tree,
        offset: u64,
        mut add: impl FnMut(&OsStr, u64, &Arc<Node>, Attributes) -> bool,
    ) {
        let dots = [(".", self.node.ino), ("..", self.node.parent)];
        let children = self.snapshot.children();
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
            if add(name, position as u64 + 1, &node, tree.attributes(&node)) {
                break;
            }
        }
    }
}
