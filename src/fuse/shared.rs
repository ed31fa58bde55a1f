//! State and replies that the session and its tasks share.
//!
//! A reply is the same from the session's thread, out of memory, and from a task that asked an origin.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEntry, ReplyOpen};

use super::attributes::Ownership;
use super::connection::{Backing, Connection};
use super::errno;
use super::handles::Handles;
use super::interrupts::Requester;
use super::open_file::{OpenFile, OpenSequential};
use super::passthrough::Passthrough;
use super::scan::Scans;
use crate::cache::{Cache, CacheEntry, OpenReaders, ReadError};
use crate::http::redact;
use crate::stats::{MountStats, Operation};
use crate::util::events;
use crate::util::shared_duration::SharedDuration;
use crate::vfs::{Attributes, Node, Tree, TreeError};

/// What requests need: tree, cache, and settings of the mount.
pub(crate) struct Shared {
    /// The directory tree.
    pub tree: Arc<Tree>,
    /// The chunk cache.
    pub cache: Arc<Cache>,
    /// Owner and permissions of all files.
    pub ownership: Ownership,
    /// How long the kernel may cache names and attributes.
    pub ttl: SharedDuration,
    /// Which files the kernel may read directly.
    pub passthrough: Arc<Passthrough>,
    /// Notifications to the kernel, and the registry of waits.
    pub connection: Arc<Connection>,
    /// Programs that look into every file.
    pub scans: Scans,
    /// The files that are open.
    pub readers: Arc<OpenReaders>,
    /// What status shows besides.
    pub stats: Arc<MountStats>,
}

impl Shared {
    /// How long the kernel may cache these attributes. Zero for a rounded size.
    pub(super) fn ttl_of(&self, attributes: &Attributes) -> Duration {
        if attributes.is_exact {
            self.ttl.get()
        } else {
            Duration::ZERO
        }
    }

    /// The tree's answer, or an error if the requester is interrupted.
    pub(super) async fn unless_ended<T>(
        &self,
        requester: Requester,
        asking: impl Future<Output = Result<T, TreeError>>,
    ) -> Result<T, TreeError> {
        let _waiting = self.stats.waiting_names.begin();
        let answer = self.connection.interrupts().unless_ended(requester, asking).await;
        answer.unwrap_or_else(|| Err(TreeError::Cache(self.connection.interrupts().reason())))
    }

    /// The errno for an error of an operation. Logs and notes the error, unless it is an expected one.
    pub(super) fn complain(&self, operation: Operation, error: &TreeError) -> Errno {
        let errno = errno::of_tree(error);
        match error {
            TreeError::Cache(ReadError::Cancelled) => {}
            TreeError::SizeUnknown(_)
            | TreeError::Source(_)
            | TreeError::DeadlinePassed { .. }
            | TreeError::NotAsked
            | TreeError::Cache(_) => {
                log::warn!(event = errno::event_of_tree(error); "{error}");
                let (url, status, reason) = error.parts();
                self.stats.failures.note(operation, &url, errno.code(), status, reason);
            }
            TreeError::NotFound | TreeError::NotADirectory | TreeError::IsADirectory | TreeError::Changed => {}
        }
        errno
    }

    /// Invalidates the kernel's attributes of files whose dates have changed.
    pub(super) fn refresh_dates(&self, node: &Arc<Node>) {
        for ino in self.tree.note_dates(node) {
            self.connection.attributes_changed(ino);
        }
    }

    /// Replies to a look-up in a directory and counts the kernel's reference to the node.
    pub(super) fn reply_entry(&self, reply: ReplyEntry, directory: &Node, found: Result<Arc<Node>, TreeError>) {
        match found {
            Err(TreeError::NotFound) => match self.tree.absent_for(directory) {
                Duration::ZERO => reply.error(Errno::ENOENT),
                // Without an inode, it is ENOENT that the kernel keeps (`fuse_lookup_name` in the kernel's fs/fuse/dir.c).
                ttl => reply.entry(&ttl, &self.ownership.attr(&Attributes::ABSENT), Generation(0)),
            },
            Ok(node) => {
                let attributes = node.attributes();
                self.tree.refer(&node);
                reply.entry(
                    &self.ttl_of(&attributes),
                    &self.ownership.attr(&attributes),
                    Generation(0),
                );
            }
            Err(error) => reply.error(self.complain(Operation::Lookup, &error)),
        }
    }

    /// Replies with attributes.
    pub(super) fn reply_attr(&self, reply: ReplyAttr, node: &Node) {
        let attributes = node.attributes();
        reply.attr(&self.ttl_of(&attributes), &self.ownership.attr(&attributes));
    }

    /// Replies to an open with a handle, and with a backing file if the file is passed through.
    pub(super) fn reply_open(
        &self,
        reply: ReplyOpen,
        ino: INodeNo,
        files: &Handles<OpenFile>,
        opened: Result<Arc<CacheEntry>, TreeError>,
    ) {
        let entry = match opened {
            Ok(entry) => entry,
            Err(error) => return reply.error(self.complain(Operation::Open, &error)),
        };
        let backing = match self.passthrough.opened(ino.0, &self.cache, &entry) {
            Ok(backing) => backing,
            Err(error) => {
                let url = redact(entry.url());
                log::warn!(
                    event = events::DATA_FILE_UNREADABLE;
                    "{url}: its data file in the cache can't be read ({error}), and the kernel has it open for others"
                );
                return reply.error(Errno::EIO);
            }
        };
        let reader = self.cache.reader_in(&self.readers, ino.0, entry);
        if backing.is_some() {
            reader.note_passthrough();
        }
        let handle = files.insert(OpenFile::new(reader, self.tree.hold_date(ino.0)));
        match backing {
            Some(backing) => opened_passthrough(reply, handle, &backing),
            None => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    /// Replies to the open of a file that can only be read in sequence. The kernel caches no pages of it, and does
    /// not use its size as the end.
    pub(super) fn reply_sequential(
        &self,
        reply: ReplyOpen,
        files: &Handles<OpenSequential>,
        opened: Result<OpenSequential, TreeError>,
    ) {
        match opened {
            Ok(file) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NONSEEKABLE;
                reply.opened(files.insert(file), flags);
            }
            Err(error) => reply.error(self.complain(Operation::Open, &error)),
        }
    }
}

/// Replies to an open with a passed-through file.
fn opened_passthrough(reply: ReplyOpen, handle: FileHandle, backing: &Backing) {
    // SAFETY: the kernel assigned the number on this connection, and `backing` outlives the value made from it here.
    let named = unsafe { reply.wrap_backing(backing.id()) };
    reply.opened_passthrough(handle, FopenFlags::empty(), &named);
    // Dropping it would close the backing file here, possibly through the socket of a relay.
    let _ = named.into_raw();
}
