//! Attributes of a node in the kernel's form.

use fuser::{FileAttr, FileType, INodeNo};

use crate::cache::STAT_BLOCK;
use crate::vfs::Attributes;

/// The block size in `stat` and `statfs`, which tools use as their read size. As large as a request of the kernel's
/// own read-ahead.
const BLOCK_SIZE: u32 = 128 << 10;

/// Owner and permissions of all files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Permission bits of directories.
    pub dir_mode: u16,
}

impl Ownership {
    /// The attributes of a node. Origins give one time, which serves for all.
    pub(super) fn attr(&self, attributes: &Attributes) -> FileAttr {
        let Attributes {
            ino,
            size,
            modified,
            links,
            ..
        } = *attributes;
        let (kind, mode) = (file_type(attributes.is_directory), self.mode(attributes));
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

/// The type of a node: directory or regular file.
pub(super) fn file_type(is_directory: bool) -> FileType {
    if is_directory {
        FileType::Directory
    } else {
        FileType::RegularFile
    }
}
