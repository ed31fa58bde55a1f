//! Nodes: what the kernel knows by an inode number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use url::Url;

use super::file::RemoteFile;
use super::listing::directory::Directory;

/// An inode number of the mount.
pub type Ino = u64;

/// The top of the mount (`FUSE_ROOT_ID` in `linux/fuse.h`).
pub const ROOT: Ino = 1;

/// The date of a file that neither server nor listing dates: 1980-01-01, the same at each mount. It is the first that zip archives can hold; 1970
/// itself is "no such file" to some versions of make.
pub(super) fn undated() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(315_532_800)
}

/// A directory, or one version of a remote file.
pub struct Node {
    /// Its number. No other node has it for as long as this one is there.
    pub ino: Ino,
    /// The directory that it was first seen in; the top is its own.
    pub parent: Ino,
    pub(super) kind: Kind,
    /// What it adds to the totals, while it is there; nothing for a directory.
    pub(super) _counted: Option<Counted>,
}

/// Files, and bytes in them, of all nodes that there are.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// A file that is counted in the totals for as long as this is there.
pub(super) struct Counted {
    totals: Arc<Totals>,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(totals: &Arc<Totals>, bytes: u64) -> Counted {
        totals.files.fetch_add(1, Ordering::Relaxed);
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        Counted {
            totals: Arc::clone(totals),
            bytes,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.totals.files.fetch_sub(1, Ordering::Relaxed);
        self.totals.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all nodes are files: boxed, they would take more"
)]
pub(super) enum Kind {
    /// Boxed, as it is larger than a file.
    Directory(Box<Directory>),
    File(RemoteFile),
}

/// What `stat` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub is_directory: bool,
    /// Bytes.
    pub size: u64,
    /// Whether the kernel may keep this: the size is the remote file's, and no more has to be asked for its date. False while only a
    /// rounded size is known.
    pub is_exact: bool,
    /// Last change of the content.
    pub modified: SystemTime,
    /// Links: 1 for a file; 2 and one for each sub-directory of a directory; 1 for a directory that
    /// nobody has looked into, which tools take for "not counted".
    pub links: u32,
}

impl Node {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Where it comes from, without credentials; a directory's ends in `/`. `None` for the top of a mount of several
    /// sources.
    pub fn url(&self) -> Option<&Url> {
        match &self.kind {
            Kind::Directory(directory) => directory.url.as_ref(),
            Kind::File(file) => Some(&file.url),
        }
    }

    /// Whether the size that [`super::Tree::attributes`] shows is the remote file's.
    pub fn has_exact_size(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => true,
            Kind::File(file) => file.has_exact_size(),
        }
    }

    /// Whether what [`super::Tree::attributes`] shows need not be asked for first.
    pub fn is_ready(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => true,
            Kind::File(file) => file.is_ready(),
        }
    }

    /// Whether this is a file of exactly known size, from one byte to `limit`.
    pub(super) fn is_small_file(&self, limit: u64) -> bool {
        match &self.kind {
            Kind::Directory(_) => false,
            Kind::File(file) => file.has_exact_size() && (1..=limit).contains(&file.shown_size()),
        }
    }

    /// Whether this is a file that a listing shows, and of which the server says that it is not there. No directory shows it.
    pub fn is_ghost(&self) -> bool {
        matches!(&self.kind, Kind::File(file) if file.is_ghost())
    }

    /// Whether the remote file is known to have another version by now.
    pub fn is_changed(&self) -> bool {
        match &self.kind {
            Kind::Directory(_) => false,
            Kind::File(file) => file.is_changed(),
        }
    }
}
