//! What the kernel is told without having asked: that what it keeps of an inode is not good any more.
//!
//! **It is never told to drop pages.** That call waits for each page that is being read, in a way that no signal ends
//! (`invalidate_inode_pages2_range` in the kernel's `mm/truncate.c`). Killed in it, this process could not end: the page waits for
//! our answer, and our descriptor, which would end the connection, is kept by the thread that waits.

use fuser::{INodeNo, Notifier};

use crate::vfs::Ino;

/// Makes the kernel ask for an inode's attributes again; its pages stay. Waits for nothing.
pub fn attributes_changed(notifier: &Notifier, ino: Ino) {
    /// `fuse_reverse_inval_inode` in the kernel: a negative offset leaves the pages alone.
    const ATTRIBUTES_ONLY: i64 = -1;
    // The kernel may not know the inode any more: then there is nothing to forget.
    let _ = notifier.inval_inode(INodeNo(ino), ATTRIBUTES_ONLY, 0);
}
