//! Attributes: what the tree knows of a node, as `stat` shows it.

use fuser::{FileAttr, FileType, INodeNo};

use crate::cache::STAT_BLOCK;
use crate::vfs::Attributes;

/// The block size that `stat` and `statfs` speak in, and so what tools read at once: as large as a
/// request of the kernel's own read-ahead.
const BLOCK_SIZE: u32 = 128 << 10;

/// Whose the files are, and what may be done with them.
#[derive(Debug, Clone, Copy)]
pub struct Ownership {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Permission bits of directories.
    pub dir_mode: u16,
}

impl Ownership {
    /// All that `stat` shows of a node. Of the times, origins tell one.
    pub(super) fn attr(&self, attributes: &Attributes) -> FileAttr {
        let Attributes {
            ino,
            size,
            modified,
            links,
            ..
        } = *attributes;
        let (kind, mode) = (file_type(attributes), self.mode(attributes));
        FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(STAT_BLOCK),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: modified,
            kind,
            perm: mode,
            nlink: links,
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }

    fn mode(&self, attributes: &Attributes) -> u16 {
        if attributes.is_directory {
            self.dir_mode
        } else {
            self.file_mode
        }
    }
}

/// There are directories and regular files.
pub fn file_type(attributes: &Attributes) -> FileType {
    if attributes.is_directory {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}
