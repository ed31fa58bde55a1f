//! Nodes: a directory or one version of a file, known to the kernel by an inode number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use url::Url;

use super::file::RemoteFile;
use super::listing::directory::Directory;
use crate::source::Entries;

/// An inode number.
pub(crate) type Ino = u64;

/// The inode number of the root (`FUSE_ROOT_ID` in `linux/fuse.h`).
pub(crate) const ROOT: Ino = 1;

/// The number of a node that no directory shows. The kernel knows none by it.
const NOWHERE: Ino = 0;

/// The date of a file that neither the server nor the listing dates: 1980-01-01, the same at each mount. It is the
/// earliest date that zip archives can hold. Some versions of make take 1970 for "no such file".
pub(super) fn undated() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(315_532_800)
}

/// A directory, or one version of a remote file.
pub(crate) struct Node {
    /// The inode number, unique among the nodes that exist.
    pub ino: Ino,
    /// The directory that first listed it. The root is its own parent.
    pub parent: Ino,
    /// Number of kernel references. **Changed under the lock of [`Nodes`](super::nodes::Nodes) only.**
    pub(super) references: AtomicU64,
    pub(super) kind: Kind,
}

/// Number of files and bytes over all known listings.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Guard: counts the files of a listing in the totals until it is dropped.
pub(super) struct Counted {
    totals: Arc<Totals>,
    files: u64,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(totals: &Arc<Totals>, (files, bytes): (u64, u64)) -> Counted {
        totals.files.fetch_add(files, Ordering::Relaxed);
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        Counted {
            totals: Arc::clone(totals),
            files,
            bytes,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.totals.files.fetch_sub(self.files, Ordering::Relaxed);
        self.totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

pub(super) enum Kind {
    /// Boxed, because a directory is larger than a file, and nearly all nodes are files.
    Directory(Box<Directory>),
    File(RemoteFile),
}

/// The attributes that `stat` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub is_directory: bool,
    /// Bytes.
    pub size: u64,
    /// Whether the kernel may cache these attributes: the size is the remote file's, and the date needs no further
    /// request. False while only a rounded size is known.
    pub is_exact: bool,
    /// Last change of the content.
    pub modified: SystemTime,
    /// Link count: 1 for a file; for a directory 2 and one for each sub-directory. A directory without a listing yet
    /// has 1, which tools take for "not counted".
    pub links: u32,
}

impl Node {
    /// A file that is in no directory.
    pub(super) fn unlisted(file: RemoteFile) -> Node {
        Node {
            ino: NOWHERE,
            parent: NOWHERE,
            references: AtomicU64::new(0),
            kind: Kind::File(file),
        }
    }

    /// Whether the server says that this file is a directory.
    pub(super) fn has_become_directory(&self) -> bool {
        matches!(&self.kind, Kind::File(file) if file.is_directory())
    }

    /// Whether this is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// The URL without credentials; a directory's ends in `/`. `None` for the root of a mount of several sources.
    pub(crate) fn url(&self) -> Option<Url> {
        match &self.kind {
            Kind::Directory(directory) => directory.url.clone(),
            Kind::File(file) => Some(file.url()),
        }
    }

    /// Whether the entry at this position of the listing of directory `parent` means this node.
    pub(super) fn is_listed(&self, parent: Ino, entries: &Entries, at: usize) -> bool {
        self.parent == parent
            && match &self.kind {
                Kind::Directory(directory) => {
                    entries.is_directory(at) && directory.url.as_ref().is_some_and(|url| *url == entries.url(at))
                }
                Kind::File(file) => !entries.is_directory(at) && file.is_at(entries, at),
            }
    }

    /// Whether it has more state than its listing, so that it can't be created again from that.
    pub(super) fn is_told_of(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => true,
            Kind::File(file) => file.is_told_of(),
        }
    }

    /// Whether the size that [`super::Tree::attributes`] shows is the remote file's.
    pub(crate) fn has_exact_size(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => true,
            Kind::File(file) => file.has_exact_size(),
        }
    }

    /// Whether [`super::Tree::attributes`] can answer without asking the origin first.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => true,
            Kind::File(file) => file.is_ready(),
        }
    }

    /// Whether this is a file of exactly known size between 1 and `limit` bytes.
    pub(super) fn is_small_file(&self, limit: u64) -> bool {
        match &self.kind {
            Kind::Directory(_) => false,
            Kind::File(file) => file.has_exact_size() && (1..=limit).contains(&file.shown_size()),
        }
    }

    /// Whether this is a file that a listing names although the server says that it does not exist. Directories hide
    /// it.
    pub(crate) fn is_ghost(&self) -> bool {
        matches!(&self.kind, Kind::File(file) if file.is_ghost())
    }

    /// Whether the remote file is known to have another version now.
    pub(crate) fn is_changed(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => false,
            Kind::File(file) => file.is_changed(),
        }
    }
}
