//! The files that a mount has open, and the sum of the reads through them.
//!
//! An open file counts its own reads. They are summed for each report; those of a closed file are added to a sum when
//! it is closed. **So no count is ever lost or seen twice**: a file moves from the one to the other under the lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::cache::entry::cache_entry::CacheEntry;
use crate::stats::{MissStats, ProcessTraffic, ReadCounts, ReadLog, ReadTotals};

/// The open files of one mount.
#[derive(Debug, Default)]
pub(crate) struct OpenReaders {
    /// Locked by open, close and status. **Of other locks, only that of the log is taken under it.**
    state: Mutex<State>,
    misses: Arc<MissStats>,
    log: Arc<ReadLog>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, Arc<OpenReader>>,
    next: u64,
    closed: ReadTotals,
}

/// An open file, as its mount sees it.
#[derive(Debug)]
pub(crate) struct OpenReader {
    /// The inode through which it was opened.
    pub ino: u64,
    /// Its version in the cache.
    pub entry: Weak<CacheEntry>,
    /// The reads through it.
    pub counts: ReadCounts,
    /// The misses of its mount.
    pub misses: Arc<MissStats>,
    /// The slow reads of its mount.
    pub log: Arc<ReadLog>,
    /// The program that reads it, once it has read.
    traffic: OnceLock<Arc<ProcessTraffic>>,
    /// Whether the kernel reads it by itself, unseen.
    is_passthrough: AtomicBool,
}

impl OpenReader {
    /// The program that reads it.
    pub(in crate::cache) fn set_traffic(&self, traffic: Arc<ProcessTraffic>) {
        // It was not set before: the reader asks once.
        let _ = self.traffic.set(traffic);
    }

    /// The kernel reads it by itself.
    pub(in crate::cache) fn set_passthrough(&self) {
        self.is_passthrough.store(true, Ordering::Relaxed);
    }

    /// Whether the kernel reads it by itself, unseen.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.is_passthrough.load(Ordering::Relaxed)
    }
}

/// The place of an open file among those of its mount, until it is closed.
#[derive(Debug)]
pub(in crate::cache) struct Registration {
    readers: Arc<OpenReaders>,
    number: u64,
    reader: Arc<OpenReader>,
}

impl Registration {
    /// The open file.
    pub(in crate::cache) fn reader(&self) -> &OpenReader {
        &self.reader
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        let Some(closed) = state.open.remove(&self.number) else {
            return;
        };
        let reads = closed.counts.totals();
        if let Some(traffic) = closed.traffic.get() {
            traffic.closed_bytes.add(reads.bytes());
        }
        state.closed += reads;
        self.readers.log.note_closed(closed.ino, reads);
    }
}

impl OpenReaders {
    /// Adds a file that was opened through this inode.
    pub(in crate::cache) fn register(self: &Arc<Self>, ino: u64, entry: &Arc<CacheEntry>) -> Registration {
        let reader = Arc::new(OpenReader {
            ino,
            entry: Arc::downgrade(entry),
            counts: ReadCounts::default(),
            misses: Arc::clone(&self.misses),
            log: Arc::clone(&self.log),
            traffic: OnceLock::new(),
            is_passthrough: AtomicBool::new(false),
        });
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Arc::clone(&reader));
        Registration {
            readers: Arc::clone(self),
            number,
            reader,
        }
    }

    /// The open files, in the order in which they were opened.
    pub(crate) fn open(&self) -> Vec<Arc<OpenReader>> {
        self.state.lock().open.values().map(Arc::clone).collect()
    }

    /// The slow reads, and those through closed handles by file.
    pub(crate) fn log(&self) -> &ReadLog {
        &self.log
    }

    /// The reads that had to wait.
    pub(crate) fn misses(&self) -> &MissStats {
        &self.misses
    }

    /// Bytes that each of these programs has read since the mount began, in their order.
    pub(crate) fn bytes_of(&self, programs: &[Arc<ProcessTraffic>]) -> Vec<u64> {
        let state = self.state.lock();
        let mut bytes: Vec<u64> = programs.iter().map(|program| program.closed_bytes.get()).collect();
        for reader in state.open.values() {
            let of = reader.traffic.get();
            let index = of.and_then(|of| programs.iter().position(|program| Arc::ptr_eq(program, of)));
            if let Some(index) = index {
                bytes[index] += reader.counts.totals().bytes();
            }
        }
        bytes
    }

    /// All reads since the mount began, also through files that are closed by now.
    pub(crate) fn totals(&self) -> ReadTotals {
        let state = self.state.lock();
        let mut totals = state.closed;
        state.open.values().for_each(|reader| totals += reader.counts.totals());
        totals
    }
}
