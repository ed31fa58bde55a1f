//! What is known of a file besides its listing.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Instant, SystemTime};

use super::known::Known;
use crate::cache::{CacheEntry, Confirmed};
use crate::http::Version;
use crate::source::{ListedSize, ListedTime};

/// The node that replaced a file's node. A node holds its file, so a file knows no nodes.
pub(in crate::vfs::nodes) trait Successor: Send + Sync {
    /// The version whose bytes were read under it.
    fn shown_version(&self) -> Option<Version>;
}

/// The state of a file besides its listing.
#[derive(Default)]
pub(super) struct State {
    /// What the origin said of the file in a metadata answer, and when.
    pub(super) known: Option<Known>,
    /// The cache entry, while a handle or the cache keeps it open.
    pub(super) entry: Weak<CacheEntry>,
    /// The exact size that was last shown, in bytes. **The kernel may rely on it** and stop reading there. So a
    /// version of another size gets a node of its own, if the size is known before the first byte.
    pub(super) shown_size: Option<u64>,
    /// The date that was last shown.
    pub(super) shown_date: Option<SystemTime>,
    /// When the origin was last asked for a date that the listing lacks, successful or not.
    pub(super) date_asked: Option<Instant>,
    /// When the origin last answered that the file does not exist.
    pub(super) ghost_since: Option<Instant>,
    /// The version for which an earlier mount gave this node its number. **Another version gets another number.**
    pub(super) stored: Option<Version>,
    /// The version whose bytes were read under this node. The kernel may keep their pages, so **the node never shows
    /// another version's bytes**.
    pub(super) shown: Option<Arc<OnceLock<Confirmed>>>,
    /// Number of open handles that are still read from.
    pub(super) handles: u32,
    /// The node that a later listing has in its place.
    pub(super) successor: Option<Weak<dyn Successor>>,
    /// What the first listing said of a file that was found before it was listed.
    pub(super) listed: Option<(ListedSize, Option<ListedTime>)>,
    /// Held while a task asks the origin, so that the origin is asked once.
    pub(super) asking: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl State {
    /// The version whose bytes were read.
    pub(super) fn shown(&self) -> Option<&Confirmed> {
        self.shown.as_ref()?.get()
    }

    /// Last-Modified of the bytes that were read, or else from the origin's metadata answer.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        let shown = self.shown().and_then(|shown| shown.modified);
        shown.or(self.known.as_ref().and_then(|known| known.modified))
    }
}
