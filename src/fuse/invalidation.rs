//! What the kernel is told without having asked: that what it keeps of an inode is not good any more.

use fuser::{INodeNo, Notifier};

use crate::tree::Ino;

/// Makes the kernel ask for an inode's attributes again; its pages stay. Does not wait for reads of
/// it, as dropping pages would.
pub fn attributes_changed(notifier: &Notifier, ino: Ino) {
    /// `fuse_reverse_inval_inode` in the kernel: a negative offset leaves the pages alone.
    const ATTRIBUTES_ONLY: i64 = -1;
    // The kernel may not know the inode any more: then there is nothing to forget.
    let _ = notifier.inval_inode(INodeNo(ino), ATTRIBUTES_ONLY, 0);
}

/// Makes the kernel forget the pages of a file, so that its next read asks for them. Waits for reads of it that are under
/// way, and so must not be called by a thread that answers reads.
pub fn forget_pages(notifier: &Notifier, ino: Ino) {
    /// From the first byte on, to the end.
    const ALL: (i64, i64) = (0, 0);
    // As above: what the kernel does not know needs not be forgotten.
    let _ = notifier.inval_inode(INodeNo(ino), ALL.0, ALL.1);
}
