//! Nodes: a directory or one version of a file, known to the kernel by an inode number.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use url::Url;

use super::attributes::Attributes;
use super::directory;
use super::ino::{Ino, NOWHERE};
use super::partial_listing;
use super::remote_file::RemoteFile;
use super::remote_file::state::Successor;
use super::snapshot::{self, Child};
use crate::http::Version;
use crate::origin::Published;
use crate::source::Entries;
use crate::vfs::error::TreeError;

/// A directory of nodes.
pub(in crate::vfs) type Directory = directory::Directory<Node>;

/// The names in a directory at one moment.
pub(crate) type Snapshot = snapshot::Snapshot<Node>;

/// A listing that is being received.
pub(in crate::vfs) type PartialListing = partial_listing::PartialListing<Node>;

/// The names that a program reads from a directory.
pub(crate) type DirectoryNames = partial_listing::DirectoryNames<Node>;

/// What is at a position of a directory's names.
pub(crate) type Position = partial_listing::Position<Node>;

/// A directory, or one version of a remote file.
pub(crate) struct Node {
    /// The inode number, unique among the nodes that exist.
    pub ino: Ino,
    /// Number of kernel references; the maximum stands for any larger number. **Changed under the lock of
    /// [`NodeTable`](super::table::NodeTable) only.**
    pub(super) references: AtomicU32,
    /// Whether its directory's newest listing lacks it, or has another node in its place.
    is_replaced: AtomicBool,
    pub(in crate::vfs) kind: Kind,
}

/// What a node is.
pub(in crate::vfs) enum Kind {
    /// Boxed, because a directory is larger than a file, and nearly all nodes are files.
    Directory(Box<Directory>),
    File(RemoteFile),
}

impl Node {
    /// A node without kernel references.
    pub(in crate::vfs) fn new(ino: Ino, kind: Kind) -> Node {
        Node {
            ino,
            references: AtomicU32::new(0),
            is_replaced: AtomicBool::new(false),
            kind,
        }
    }

    /// A file that is in no directory.
    pub(in crate::vfs) fn unlisted(file: RemoteFile) -> Node {
        Node::new(NOWHERE, Kind::File(file))
    }

    /// The directory that first listed it. The root is its own parent.
    pub(crate) fn parent(&self) -> Ino {
        match &self.kind {
            Kind::Directory(directory) => directory.parent,
            Kind::File(file) => file.parent(),
        }
    }

    /// This node's directory, if it is one.
    pub(in crate::vfs) fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            Kind::Directory(directory) => Some(directory),
            Kind::File(_) => None,
        }
    }

    /// This node's file, if it is one.
    pub(in crate::vfs) fn file(&self) -> Option<&RemoteFile> {
        match &self.kind {
            Kind::Directory(_) => None,
            Kind::File(file) => Some(file),
        }
    }

    /// Whether this is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.directory().is_some()
    }

    /// The URL without credentials; a directory's ends in `/`. `None` for the root of a mount of several sources.
    pub(crate) fn url(&self) -> Option<Url> {
        match &self.kind {
            Kind::Directory(directory) => directory.url.clone(),
            Kind::File(file) => Some(file.url()),
        }
    }

    /// The version of this file that is shown, if it is known.
    pub(crate) fn version(&self) -> Option<Version> {
        self.file()?.version()
    }

    /// What its source publishes of this file besides its size and date.
    pub(crate) fn published(&self) -> Option<&Published> {
        self.file()?.published().map(Arc::as_ref)
    }

    /// The attributes as known now.
    pub(crate) fn attributes(&self) -> Attributes {
        match &self.kind {
            Kind::Directory(directory) => directory.attributes(self.ino),
            Kind::File(file) => file.attributes(self.ino),
        }
    }

    /// The names in a directory from memory. `None` if the origin has to be asked.
    pub(crate) fn list_now(&self) -> Option<Result<Arc<Snapshot>, TreeError>> {
        match &self.kind {
            Kind::Directory(directory) => directory.fresh().map(Ok),
            Kind::File(_) => Some(Err(TreeError::NotADirectory)),
        }
    }

    /// The last known names in a directory, however old.
    pub(in crate::vfs) fn last_known(&self) -> Option<Arc<Snapshot>> {
        self.directory()?.last_known()
    }

    /// Whether the entry at this position of the listing of directory `parent` means this node.
    pub(super) fn is_listed(&self, parent: Ino, entries: &Entries, at: usize) -> bool {
        self.parent() == parent
            && match &self.kind {
                Kind::Directory(directory) => directory.is_at(entries, at),
                Kind::File(file) => !entries.is_directory(at) && file.is_at(entries, at),
            }
    }

    /// Whether the entry at this position can be the same file or directory as this node.
    pub(in crate::vfs) fn still_fits(&self, entries: &Entries, at: usize) -> bool {
        match &self.kind {
            Kind::Directory(directory) => directory.is_at(entries, at),
            Kind::File(file) => !file.is_changed() && file.still_fits(entries, at),
        }
    }

    /// Whether it has more state than its listing, so that it can't be created again from that.
    pub(in crate::vfs) fn has_own_state(&self) -> bool {
        self.file().is_none_or(RemoteFile::has_own_state)
    }

    /// Whether [`Self::attributes`] can answer without asking the origin first.
    pub(crate) fn is_ready(&self) -> bool {
        self.file().is_none_or(RemoteFile::is_ready)
    }

    /// Whether this is a file that a listing names although the server says that it does not exist. Directories hide
    /// it.
    pub(crate) fn is_ghost(&self) -> bool {
        self.file().is_some_and(RemoteFile::is_ghost)
    }

    /// Whether the remote file is known to have another version now.
    pub(crate) fn is_changed(&self) -> bool {
        self.file().is_some_and(RemoteFile::is_changed)
    }

    /// Notes that its directory's newest listing lacks it, or has another node in its place.
    pub(in crate::vfs) fn mark_replaced(&self) {
        self.is_replaced.store(true, Ordering::Release);
    }

    /// Notes that its directory shows it.
    pub(super) fn mark_listed(&self) {
        // Nearly always it is listed already.
        if self.is_replaced() {
            self.is_replaced.store(false, Ordering::Release);
        }
    }

    /// Whether its directory's newest listing lacks it, or has another node in its place. A path that led here has to
    /// be looked up again before it is opened.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Acquire)
    }

    /// Whether a path that led here has to be looked up again before its attributes are shown. A file that is replaced
    /// or gone shows them while it is open: the kernel does not say whether a program asks by path or by its handle.
    pub(crate) fn is_outdated(&self) -> bool {
        let is_gone = || self.is_replaced() || self.is_ghost();
        self.is_changed() || is_gone() && !self.file().is_some_and(RemoteFile::is_open)
    }

    /// Notes the node that a later listing has in this one's place.
    pub(in crate::vfs) fn note_successor(&self, next: &Arc<Node>) {
        if let (Some(file), Some(successor)) = (self.file(), next.file()) {
            successor.set_is_successor();
            let next: Weak<Node> = Arc::downgrade(next);
            file.set_successor(next);
        }
    }
}

impl Child for Node {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn file(&self) -> Option<&RemoteFile> {
        self.file()
    }
}

impl Successor for Node {
    fn shown_version(&self) -> Option<Version> {
        Some(self.file()?.shown()?.version)
    }
}
