//! Open directories.
//!
//! The kernel reads a directory in pieces, and each piece begins at the offset that came with the entry before. Here
//! the offset is a position in the names as of the open. So no name is repeated or omitted, whatever happens to the
//! directory meanwhile. After `rewinddir` a program gets the current names, as POSIX requires.
//!
//! If the names are those of a listing that is being received, a read gets what has come, and one that has reached the
//! last name so far waits. An error ends the directory after the names that came before it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::relay::LARGEST_ANSWER;
use crate::vfs::{DirectoryNames, Ino, Node, Position, Snapshot, Tree, TreeError};

/// Most bytes of an entry in a reply besides its name: `fuse_direntplus`, and padding to a multiple of eight bytes.
const ENTRY: usize = 160;

/// An open directory handle.
pub(super) struct OpenDirectory {
    /// The directory.
    pub node: Arc<Node>,
    /// Its names as of the open or the last read from the beginning. Locked for a copy only.
    names: Mutex<DirectoryNames>,
    /// Whether a read from the beginning has happened.
    is_begun: AtomicBool,
}

impl OpenDirectory {
    /// A directory that has just been opened.
    pub(super) fn new(node: Arc<Node>, names: DirectoryNames) -> OpenDirectory {
        OpenDirectory {
            node,
            names: Mutex::new(names),
            is_begun: AtomicBool::new(false),
        }
    }

    /// Notes a read at `offset`. Returns true if it goes back to the beginning, so that the names must be renewed
    /// first.
    pub(super) fn rewinds(&self, offset: u64) -> bool {
        offset == 0 && self.is_begun.swap(true, Ordering::Relaxed)
    }

    /// Replaces the names.
    pub(super) fn renew(&self, names: DirectoryNames) {
        *self.names.lock() = names;
    }

    /// The names, and the position among them of the entry at `offset`, if that has to be waited for.
    pub(super) fn awaits(&self, offset: u64) -> Option<(DirectoryNames, usize)> {
        let at = position(offset).checked_sub(DOTS.len())?;
        let names = self.names.lock().clone();
        matches!(names.at(at), Position::Later).then_some((names, at))
    }

    /// Passes the entries from `offset` on to `add`, each with the offset of the next one. Stops if `add` has no
    /// room, or at the largest reply: the kernel then asks for more.
    ///
    /// # Errors
    /// If the listing has failed, and there are no entries before that.
    pub(super) fn read_from(
        &self,
        tree: &Tree,
        offset: u64,
        mut add: impl FnMut(&Place<'_>, u64) -> bool,
    ) -> Result<(), TreeError> {
        let names = self.names.lock().clone();
        let mut room = LARGEST_ANSWER;
        let first = position(offset);
        // The entry is indexed, not counted to: the kernel reads a listing of a million names in a hundred thousand
        // pieces.
        for position in first.. {
            let place = match DOTS.get(position) {
                Some(name) => {
                    let ino = if position == 0 {
                        self.node.ino
                    } else {
                        self.node.parent()
                    };
                    match tree.node(ino) {
                        Some(node) => Place::Dot(name, node),
                        None => continue,
                    }
                }
                None => match names.at(position - DOTS.len()) {
                    Position::Name(snapshot, at) if snapshot.is_ghost(at) => continue,
                    Position::Name(snapshot, at) => Place::Child(&self.node, snapshot, at),
                    Position::Failed(error) if position == first => return Err(error),
                    Position::Later | Position::End | Position::Failed(_) => break,
                },
            };
            match room.checked_sub(ENTRY + place.name().len()) {
                Some(left) => room = left,
                None => break,
            }
            if add(&place, position as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

/// The position of the entry at this offset.
fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The entries for the directory itself and its parent.
const DOTS: [&str; 2] = [".", ".."];

/// An entry of an open directory.
pub(super) enum Place<'a> {
    /// A dot entry, and its node.
    Dot(&'static str, Arc<Node>),
    /// The name at this position.
    Child(&'a Node, Arc<Snapshot>, usize),
}

impl Place<'_> {
    /// The name.
    pub(super) fn name(&self) -> &OsStr {
        match self {
            Place::Dot(name, _) => OsStr::new(name),
            Place::Child(_, names, at) => names.name(*at),
        }
    }

    /// The inode number, and whether it is a directory. Creates no node.
    pub(super) fn number(&self) -> (Ino, bool) {
        match self {
            Place::Dot(_, node) => (node.ino, true),
            Place::Child(_, names, at) => (names.ino(*at), names.is_directory(*at)),
        }
    }

    /// Its node, created if there is none.
    pub(super) fn node(&self, tree: &Tree) -> Arc<Node> {
        match self {
            Place::Dot(_, node) => Arc::clone(node),
            Place::Child(parent, names, at) => tree.child(parent, names, *at),
        }
    }

    /// Whether it is a dot entry.
    pub(super) fn is_dot(&self) -> bool {
        matches!(self, Place::Dot(..))
    }
}
