//! What the session and the tasks that answer for it share: what is asked, and how answers are put.
//!
//! An answer is the same whether memory had it, on the session's thread, or an origin was asked, by a task.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyEntry, ReplyOpen};

use super::attributes::Ownership;
use super::connection::{Backing, Connection};
use super::errno;
use super::handles::Handles;
use super::interrupts::Requester;
use super::open_file::OpenFile;
use super::passthrough::Passthrough;
use crate::cache::{Cache, CacheEntry, ReadError, Sequential};
use crate::http::redact;
use crate::vfs::{Attributes, Node, Tree, TreeError};

/// See the module.
pub struct Shared {
    /// Names.
    pub tree: Arc<Tree>,
    /// Bytes.
    pub cache: Arc<Cache>,
    /// Whose all is.
    pub ownership: Ownership,
    /// How long the kernel may believe names and attributes.
    pub ttl: Duration,
    /// Which files the kernel may read by itself.
    pub passthrough: Arc<Passthrough>,
    /// What is said to the kernel unasked, and which waits it has end.
    pub connection: Arc<Connection>,
}

impl Shared {
    /// How long the kernel may believe these attributes: a rounded size not at all.
    pub fn ttl_of(&self, attributes: &Attributes) -> Duration {
        if attributes.is_exact { self.ttl } else { Duration::ZERO }
    }

    /// What the tree answers, or that whoever asked was told to end.
    pub async fn unless_ended<T>(
        &self,
        requester: Requester,
        asking: impl Future<Output = Result<T, TreeError>>,
    ) -> Result<T, TreeError> {
        let answer = self.connection.interrupts().unless_ended(requester, asking).await;
        answer.unwrap_or(Err(TreeError::Cache(ReadError::Cancelled)))
    }

    /// Has the kernel ask again for the attributes that have changed by what is known of a file's dates now.
    pub fn refresh_dates(&self, node: &Arc<Node>) {
        for ino in self.tree.note_dates(node) {
            self.connection.attributes_changed(ino);
        }
    }

    /// Answers a look-up; the kernel knows the node from then on.
    pub fn reply_entry(&self, reply: ReplyEntry, found: Result<Arc<Node>, TreeError>) {
        match found {
            Ok(node) => {
                let attributes = self.tree.attributes(&node);
                self.tree.refer(&node);
                reply.entry(
                    &self.ttl_of(&attributes),
                    &self.ownership.attr(&attributes),
                    Generation(0),
                );
            }
            Err(error) => reply.error(complain(&error)),
        }
    }

    /// Answers a question about attributes.
    pub fn reply_attr(&self, reply: ReplyAttr, node: &Node) {
        let attributes = self.tree.attributes(node);
        reply.attr(&self.ttl_of(&attributes), &self.ownership.attr(&attributes));
    }

    /// Answers an open: gives it a handle, and the kernel the data file itself where it may have that.
    pub fn reply_open(
        &self,
        reply: ReplyOpen,
        ino: INodeNo,
        files: &Handles<OpenFile>,
        opened: Result<Arc<CacheEntry>, TreeError>,
    ) {
        let entry = match opened {
            Ok(entry) => entry,
            Err(error) => return reply.error(complain(&error)),
        };
        let backing = match self.passthrough.opened(ino.0, &self.cache, &entry) {
            Ok(backing) => backing,
            Err(error) => {
                let url = redact(&entry.url);
                log::warn!(
                    "{url}: its data file in the cache can't be read ({error}), and the kernel has it open for others"
                );
                return reply.error(Errno::EIO);
            }
        };
        let reader = self.cache.reader(entry);
        if backing.is_some() {
            reader.note_passthrough();
        }
        let handle = files.insert(OpenFile::new(reader, self.tree.hold_date(ino.0)));
        match backing {
            Some(backing) => opened_passthrough(reply, handle, &backing),
            None => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    /// Answers the open of a file that can be read in sequence only. The kernel keeps nothing of such a file, and does not look at its size to find its end.
    pub fn reply_sequential(
        &self,
        reply: ReplyOpen,
        files: &Handles<Sequential>,
        opened: Result<Sequential, TreeError>,
    ) {
        match opened {
            Ok(file) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NONSEEKABLE;
                reply.opened(files.insert(file), flags);
            }
            Err(error) => reply.error(complain(&error)),
        }
    }
}

/// Answers an open with a file that the kernel reads by itself.
fn opened_passthrough(reply: ReplyOpen, handle: FileHandle, backing: &Backing) {
    // SAFETY: the kernel gave the number to this connection, and `backing` outlives what is made of it here.
    let named = unsafe { reply.wrap_backing(backing.id()) };
    reply.opened_passthrough(handle, FopenFlags::empty(), &named);
    // Else it would be closed here, and through what may be the socket of a relay.
    let _ = named.into_raw();
}

/// The errno for an error, which is also told to the log unless it is an everyday answer.
pub fn complain(error: &TreeError) -> Errno {
    match error {
        TreeError::Cache(ReadError::Cancelled) => {}
        TreeError::SizeUnknown(_)
        | TreeError::Http(_)
        | TreeError::DeadlinePassed { .. }
        | TreeError::NotAsked
        | TreeError::Cache(_) => log::warn!("{error}"),
        TreeError::NotFound | TreeError::NotADirectory | TreeError::IsADirectory | TreeError::Changed => {}
    }
    errno::of_tree(error)
}
