//! A cached file: one version's data file, which chunks are in it, and how they are used.
//!
//! All entries of this process that are of the same version share one [`CachedFile`], and so does
//! the evictor. [`CachedFile::write`] adds chunks. Eviction has two steps:
//! [`CachedFile::begin_eviction`] takes chunks out of the bitmap, and after the index has forgotten
//! them [`Evicting::punch`] frees their bytes. A chunk that is wanted again in between is written
//! again, and stays.
//!
//! **Not evicted** are chunks that a waiting read needs ([`CachedFile::use_chunks`]), chunks that a
//! fetch is writing, and all of a file that the kernel reads by itself
//! ([`CachedFile::hold_if_complete`]). Pinned files are not chosen as victims, and what another
//! process uses is protected by its lock on the data file.

mod evicting;
pub(crate) mod write_guard;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::chunk_bitmap::ChunkBitmap;
use super::unverified::Unverified;
use crate::cache::chunk::ChunkSize;
use crate::cache::integrity::file_check::FileCheck;
use crate::cache::key::EntryKey;
use crate::cache::quota::Recency;
use crate::cache::quota::reservation::Reservation;
use crate::cache::sharing::Learnt;
use crate::cache::storage::data_file::{DataFile, Found, PendingCommit};
use crate::stats::UnreadBlocks;

/// The cached bytes of one version, shared by all its entries in this process.
#[derive(Debug)]
pub struct CachedFile {
    /// The key of its data file and its row.
    pub key: EntryKey,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// The size of the remote file, in bytes.
    pub size: u64,
    /// The present chunks.
    pub presence: Arc<ChunkBitmap>,
    /// The recorded chunks that have to be verified before they are present.
    pub unverified: Unverified,
    /// Its check against a published hash.
    pub(crate) check: FileCheck,
    /// How its chunks were used.
    pub recency: Recency,
    /// What this process has fetched of it and no reader has read.
    pub(crate) unread: UnreadBlocks,
    /// Whether the cache had bytes of another version of the remote file when this one's data file was created.
    replaces_version: AtomicBool,
    data: DataFile,
    /// Which of its rows were already read. No other lock is taken under it.
    pub(super) learnt: Mutex<Learnt>,
    /// Held for moments, over the system calls that punch holes, and over a query by
    /// [`Self::learn`].
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of the file on disk at the last look, which are counted for it.
    counted: u64,
    /// Chunks that are no longer present and whose bytes are still there; for unverified ones the
    /// checksum.
    leaving: BTreeMap<u64, Option<u64>>,
    /// Chunks being written: the number of fetches, and the number of losses when that began.
    filling: BTreeMap<u64, (u32, u64)>,
    /// Incomplete chunks of fetches that have ended; and the same number of losses.
    abandoned: BTreeMap<u64, u64>,
    /// Number of times that another process has truncated the file. **Parts written before are
    /// gone.**
    losses: u64,
    /// Chunks whose bytes are lost, until they are fetched again: the index records them until it
    /// is updated.
    lost: BTreeSet<u64>,
    /// Chunks that waiting reads need.
    used: Vec<Range<u64>>,
    /// Number of handles through which the kernel reads the file.
    holds: u32,
}

impl State {
    fn is_used(&self, chunk: u64) -> bool {
        self.used.iter().any(|chunks| chunks.contains(&chunk))
    }
}

impl CachedFile {
    /// For an open data file, and its present chunks.
    pub fn new(
        key: EntryKey,
        chunk: ChunkSize,
        size: u64,
        presence: ChunkBitmap,
        unverified: Unverified,
        recency: Recency,
        data: DataFile,
    ) -> CachedFile {
        let state = State {
            counted: data.allocated(),
            ..State::default()
        };
        CachedFile {
            key,
            chunk,
            size,
            check: FileCheck::new(!presence.is_empty() || !unverified.is_empty()),
            presence: Arc::new(presence),
            unverified,
            recency,
            unread: UnreadBlocks::new(chunk.bytes(), size),
            replaces_version: AtomicBool::new(false),
            data,
            learnt: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// Returns true if there is no data file, because none can be created: nothing is ever present
    /// then.
    pub fn has_no_file(&self) -> bool {
        self.data.found == Found::Nowhere
    }

    /// An empty file of `size` bytes, in a data file without a name.
    #[cfg(test)]
    pub(crate) fn for_tests(chunk: u64, size: u64) -> CachedFile {
        let chunk = ChunkSize::new(chunk).unwrap();
        let recency = Recency::new(chunk.count(size), &[], Default::default());
        let presence = ChunkBitmap::new(chunk.count(size));
        let key = EntryKey::for_tests(size as u32);
        let data = DataFile::for_tests(size);
        CachedFile::new(key, chunk, size, presence, Unverified::default(), recency, data)
    }

    /// Returns true if its data file was created by this process.
    pub fn is_new(&self) -> bool {
        self.data.found == Found::Nothing
    }

    /// Returns true if the cache had bytes of another version of the remote file when this one's data file was created.
    pub fn replaces_version(&self) -> bool {
        self.replaces_version.load(Ordering::Relaxed)
    }

    /// The cache has bytes of another version.
    pub(in crate::cache) fn set_replaces_version(&self) {
        self.replaces_version.store(true, Ordering::Relaxed);
    }

    /// Returns true if the cache has lost this chunk: its bytes could not be read back, or were wrong.
    pub fn has_lost(&self, chunk: u64) -> bool {
        self.state.lock().lost.contains(&chunk)
    }

    /// Adds chunks that are recorded, also by other processes.
    pub fn learn(&self, recorded: impl FnOnce() -> Vec<u64>) {
        // Read under the lock: an evicted chunk is recorded until just before its bytes are freed,
        // also under the lock.
        let state = self.state.lock();
        let is_good = |chunk: &u64| {
            !state.leaving.contains_key(chunk) && !state.lost.contains(chunk) && !self.unverified.contains(*chunk)
        };
        for chunk in recorded().into_iter().filter(is_good) {
            if self.presence.insert(chunk) {
                self.check.note_unknown();
            }
        }
    }

    /// The bytes of a chunk are wrong: it is not present until it is fetched again.
    pub fn lose(&self, chunk: u64) {
        let mut state = self.state.lock();
        state.lost.insert(chunk);
        self.presence.remove(chunk);
    }

    /// Fills `buf` from `offset`. The caller checks that these bytes are present, before and after
    /// the read.
    ///
    /// # Errors
    /// Any error of the file system; `UnexpectedEof` if another process has truncated the
    /// file.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buf, offset)
    }

    /// Keeps the data file open, and locked, after this is dropped.
    pub fn keep_open(&self) -> PendingCommit {
        self.data.keep_open()
    }

    /// The inode number of the data file.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn inode(&self) -> io::Result<u64> {
        self.data.inode()
    }

    /// The length to which another process has truncated the data file, if that happened.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn cut_to(&self) -> io::Result<Option<u64>> {
        self.data.cut_to()
    }

    /// Returns true if a part of `bytes` was never written ([`DataFile::has_hole`]).
    pub fn has_hole(&self, bytes: &Range<u64>) -> bool {
        self.data.has_hole(bytes)
    }

    /// Restores the size of the data file. **The truncated part then reads as zeros**, so it must
    /// not count as present any more. Incomplete chunks in it are a [loss](Self::losses).
    ///
    /// # Errors
    /// If another process has it open, which would take the zeros for its bytes; or any
    /// error of the file system.
    pub fn restore_size(&self) -> io::Result<()> {
        let exclusive = self.data.exclusively();
        let exclusive = exclusive.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the data file was truncated, and another process has it open",
            )
        })?;
        self.state.lock().losses += 1;
        exclusive.set_len(self.size)
    }

    /// Number of times that the written parts of incomplete chunks were lost.
    pub fn losses(&self) -> u64 {
        self.state.lock().losses
    }

    /// Returns true if the written part of one of these chunks, of which not all are present, was
    /// lost meanwhile. Call it after the read.
    pub fn has_lost_a_part(&self, chunks: &Range<u64>) -> bool {
        let state = self.state.lock();
        let filling = state.filling.range(chunks.clone()).map(|(_, (_, losses))| losses);
        let abandoned = state.abandoned.range(chunks.clone()).map(|(_, losses)| losses);
        filling.chain(abandoned).any(|losses| *losses != state.losses)
    }

    /// Checks that the kernel may read the file by itself: it has its size, and can be read at both
    /// ends.
    ///
    /// # Errors
    /// Any error of the file system; `UnexpectedEof` if another process has truncated the
    /// file.
    pub fn check_ends(&self) -> io::Result<()> {
        let has_more = self.data.length()? > self.size;
        if has_more {
            return Err(io::Error::other("the data file is too long"));
        }
        [0, self.size.saturating_sub(1)]
            .into_iter()
            .try_for_each(|at| self.read_exact_at(&mut [0], at))
    }

    /// Writes to the data file with `write`, within chunks that are being [filled](Self::fill).
    /// `room` is the reservation for the bytes.
    ///
    /// # Errors
    /// The error of `write`.
    pub fn write(&self, room: Reservation, write: impl FnOnce(&DataFile) -> io::Result<()>) -> io::Result<()> {
        let written = write(&self.data);
        let mut state = self.state.lock();
        room.settle(self.count(&mut state));
        written
    }

    /// Updates the bytes on disk, and returns the change.
    fn count(&self, state: &mut State) -> i64 {
        let allocated = self.data.allocated();
        let before = std::mem::replace(&mut state.counted, allocated);
        allocated.cast_signed() - before.cast_signed()
    }

    /// Marks these chunks as used by a waiting read: they are not evicted until the guard is
    /// dropped.
    pub fn use_chunks(self: &Arc<Self>, chunks: Range<u64>) -> Used {
        self.state.lock().used.push(chunks.clone());
        Used {
            cached_file: Arc::clone(self),
            chunks,
        }
    }

    /// Marks the file as read by the kernel, if it is complete: it stays complete until the guard
    /// is dropped.
    pub fn hold_if_complete(self: &Arc<Self>) -> Option<Hold> {
        self.state.lock().holds += 1;
        // From here on nothing is evicted; so a complete file stays complete.
        let hold = Hold(Arc::clone(self));
        (self.presence.is_complete() && self.size > 0).then_some(hold)
    }

    /// Returns true if a part of it can't be evicted now, but may be later.
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        !(state.used.is_empty() && state.filling.is_empty() && state.abandoned.is_empty())
    }
}

impl AsFd for CachedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }
}

/// Guard of [`CachedFile::use_chunks`].
#[derive(Debug)]
pub struct Used {
    cached_file: Arc<CachedFile>,
    chunks: Range<u64>,
}

impl Drop for Used {
    fn drop(&mut self) {
        let mut state = self.cached_file.state.lock();
        if let Some(at) = state.used.iter().position(|chunks| *chunks == self.chunks) {
            state.used.swap_remove(at);
        }
    }
}

/// Guard of [`CachedFile::hold_if_complete`].
#[derive(Debug)]
pub struct Hold(Arc<CachedFile>);

impl Hold {
    /// Checks the file as [`CachedFile::check_ends`] does.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self) -> io::Result<()> {
        self.0.check_ends()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state.lock().holds -= 1;
    }
}

#[cfg(test)]
mod tests;
