//! The queue of files that wait for their check.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::file_check::Rejected;
use super::pieces::pieces_of;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::entry::cached_file::CachedFile;
use crate::cache::key::EntryKey;
use crate::http::Version;
use crate::origin::{Content, Hash};

/// Maximum number of files that wait. A file that finds no place is checked when it is opened again.
const MOST: usize = 4096;

/// The files that wait for their check.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    queue: Mutex<Queue>,
    /// Notified when a file is queued, and at the end. Waited for under `queue`, so no wake-up is lost.
    changed: Condvar,
    /// Notified at the end.
    end: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Check>,
    is_closed: bool,
}

/// A file to check. It holds neither the data file nor the entry open, because many may wait.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) key: EntryKey,
    pub(super) content: Content,
    pub(super) version: Version,
    /// The published hash; `None` if checksum files may have one.
    pub(super) hash: Option<Hash>,
    /// The mark of the entry that queued it, which may have ended meanwhile.
    pub(super) shown: Rejected,
}

impl Checks {
    /// Queues the check of a file, if its source publishes a hash, all of it is there, and the result is not known.
    pub(crate) fn consider(&self, entry: &CacheEntry, settled: &Settled) {
        let content = &entry.content;
        let hash = hash_to_check(content, &settled.cached_file);
        if hash.is_none() && (content.checksum_files().is_none() || pieces_of(content).is_some()) {
            return;
        }
        let file = &settled.cached_file;
        let is_complete = settled.memory.is_none() && !file.has_no_file() && file.presence.is_complete();
        if !is_complete || !file.check.begin(hash, file.presence.losses()) {
            return;
        }
        let check = Check {
            key: file.key.clone(),
            content: entry.content.clone(),
            version: settled.version.clone(),
            hash: hash.cloned(),
            shown: settled.rejected.clone(),
        };
        self.add(check, file);
    }

    /// Queues a check that has begun.
    pub(super) fn add(&self, check: Check, file: &CachedFile) {
        let mut queue = self.queue.lock();
        if queue.is_closed || queue.waiting.len() >= MOST {
            drop(queue);
            file.check.cancel();
            return;
        }
        queue.waiting.push_back(check);
        self.changed.notify_one();
    }

    /// The next file to check. Blocks until there is one; `None` at the end.
    pub(super) fn next(&self) -> Option<Check> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            match queue.waiting.pop_front() {
                Some(check) => return Some(check),
                None => self.changed.wait(&mut queue),
            }
        }
    }

    /// No file is checked any more.
    pub(super) fn close(&self) {
        self.queue.lock().is_closed = true;
        self.changed.notify_all();
        self.end.notify_one();
    }

    /// Returns when the checks end.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// Returns true if no file is checked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }
}

/// The hash that a complete file is compared with, if its source publishes one, or its server gives one. A file with
/// verified pieces needs none.
pub(super) fn hash_to_check<'a>(content: &'a Content, file: &'a CachedFile) -> Option<&'a Hash> {
    let hash = content.hash().or(file.check.digest());
    hash.filter(|_| pieces_of(content).is_none())
}
