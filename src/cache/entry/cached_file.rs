//! What the cache holds of one version: its data file, which chunks are in it, and how they are used.
//!
//! All entries of this process that are of the same version share one [`CachedFile`], and so does the evictor. Chunks come by
//! [`CachedFile::write`], and go in two steps: [`CachedFile::begin_eviction`] takes them out of the present set, and
//! when the index has forgotten them [`Evicting::punch`] gives their bytes back. A chunk that is wanted again in
//! between is written again, and stays.
//!
//! **What can't go**: a chunk that a waiting read is to be answered from ([`CachedFile::use_chunks`]), one that a fetch is
//! filling, and all of a file that the kernel reads by itself ([`CachedFile::hold_if_complete`]).

mod evicting;
mod write_guard;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rangemap::RangeSet;

use super::chunk_bitmap::ChunkBitmap;
use super::unverified::Unverified;
use crate::cache::chunk::ChunkSize;
use crate::cache::key::EntryKey;
use crate::cache::quota::{Recency, Reservation};
use crate::cache::storage::data_file::{DataFile, Found, PendingCommit};
pub use evicting::{Change, Evicting};
pub use write_guard::WriteGuard;

/// See the module.
#[derive(Debug)]
pub struct CachedFile {
    /// Names the data file and its row.
    pub key: EntryKey,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// The size of the remote file, in bytes.
    pub size: u64,
    /// The chunks that are here.
    pub presence: Arc<ChunkBitmap>,
    /// The chunks that are recorded and have to be verified before they are present.
    pub unverified: Unverified,
    /// How they were used.
    pub recency: Recency,
    data: DataFile,
    /// Which of its rows were looked at already. Nothing is taken under the lock.
    learnt: Mutex<Learnt>,
    /// Held for moments, over the system calls that punch holes, and over a query by [`Self::learn`].
    state: Mutex<State>,
}

/// What was looked at in the index.
#[derive(Debug, Default)]
struct Learnt {
    /// The index has this version for as long as nobody changes it.
    version: Option<i64>,
    /// Those whose rows were looked at as of it.
    chunks: RangeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that the file took on disk when it was last looked at: so many are counted for it.
    counted: u64,
    /// Chunks that are no longer present and whose bytes are still there; of those that were suspect, the checksum.
    leaving: BTreeMap<u64, Option<u64>>,
    /// Chunks of which bytes are being written, by how many fetches, and how many losses there were when that began.
    filling: BTreeMap<u64, (u32, u64)>,
    /// Chunks that bytes were written of, by a fetch that ended before they were whole; and the same number.
    abandoned: BTreeMap<u64, u64>,
    /// How often another process has cut the file off. **What was written in part before is not there.**
    losses: u64,
    /// Chunks whose bytes are lost, until they have come again: the index has them until it is told.
    lost: BTreeSet<u64>,
    /// Chunks that waiting reads are going to be answered from.
    used: Vec<Range<u64>>,
    /// Handles through which the kernel reads the file.
    holds: u32,
}

impl State {
    fn is_used(&self, chunk: u64) -> bool {
        self.used.iter().any(|chunks| chunks.contains(&chunk))
    }
}

impl CachedFile {
    /// Of a data file that is open, and the chunks of it that are present.
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
            presence: Arc::new(presence),
            unverified,
            recency,
            data,
            learnt: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// Whether there is no data file, because none can be made: nothing is ever present then.
    pub fn has_no_file(&self) -> bool {
        self.data.found == Found::Nowhere
    }

    /// Those of the chunks whose rows were not looked at yet, as of this version of the index.
    pub fn not_learnt(&self, version: i64, chunks: &Range<u64>) -> Vec<Range<u64>> {
        let learnt = self.learnt.lock();
        if learnt.version == Some(version) {
            learnt.chunks.gaps(chunks).collect()
        } else {
            vec![chunks.clone()]
        }
    }

    /// Says that these rows were looked at, as of this version of the index or a later one.
    pub fn has_learnt(&self, version: i64, chunks: Range<u64>) {
        let mut learnt = self.learnt.lock();
        if learnt.version != Some(version) {
            *learnt = Learnt {
                version: Some(version),
                chunks: RangeSet::new(),
            };
        }
        if !chunks.is_empty() {
            learnt.chunks.insert(chunks);
        }
    }

    /// Of nothing yet, in a data file without a name.
    #[cfg(test)]
    pub fn for_tests(chunk: u64, size: u64) -> CachedFile {
        let chunk = ChunkSize::new(chunk).unwrap();
        let recency = Recency::new(chunk.count(size), &[], Default::default());
        let presence = ChunkBitmap::new(chunk.count(size));
        let key = EntryKey::for_tests(size as u32);
        let data = DataFile::for_tests(size);
        CachedFile::new(key, chunk, size, presence, Unverified::default(), recency, data)
    }

    /// Takes over chunks that are recorded, by other processes, too.
    pub fn learn(&self, recorded: impl FnOnce() -> Vec<u64>) {
        // Asked under the lock: a chunk that leaves is recorded until its bytes are about to go, and they go under the lock.
        let state = self.state.lock();
        let is_good = |chunk: &u64| {
            !state.leaving.contains_key(chunk) && !state.lost.contains(chunk) && !self.unverified.contains(*chunk)
        };
        for chunk in recorded().into_iter().filter(is_good) {
            self.presence.insert(chunk);
        }
    }

    /// The bytes of a chunk are not what was fetched: it is not present until they have come again.
    pub fn lose(&self, chunk: u64) {
        let mut state = self.state.lock();
        state.lost.insert(chunk);
        self.presence.remove(chunk);
    }

    /// Fills `buf` from `offset`. Whether these bytes are present, and still were afterwards, is the caller's to know.
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` when the file was cut off behind our back.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buf, offset)
    }

    /// Keeps the data file open, and locked, when this is dropped.
    pub fn keep_open(&self) -> PendingCommit {
        self.data.keep_open()
    }

    /// The data file's number in its file system.
    ///
    /// # Errors
    /// What the file system says.
    pub fn inode(&self) -> io::Result<u64> {
        self.data.inode()
    }

    /// The length to which somebody else has cut the data file, if that happened.
    ///
    /// # Errors
    /// What the file system says.
    pub fn cut_to(&self) -> io::Result<Option<u64>> {
        self.data.cut_to()
    }

    /// Gives the data file its size back. **What was cut off reads as zeros then**, so it must not count as present any more; what is
    /// not present is a [loss](Self::losses).
    ///
    /// # Errors
    /// When somebody else has it open, who would take the zeros for its bytes; or what the file system says.
    pub fn restore_size(&self) -> io::Result<()> {
        let exclusive = self.data.exclusively();
        let exclusive = exclusive.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                "a data file was cut off, and is open elsewhere",
            )
        })?;
        self.state.lock().losses += 1;
        exclusive.set_len(self.size)
    }

    /// How often what was written of chunks that are not whole was lost.
    pub fn losses(&self) -> u64 {
        self.state.lock().losses
    }

    /// Whether what was written in part of one of these chunks, of which not all are present, was lost meanwhile. To be asked after it was read.
    pub fn has_lost_a_part(&self, chunks: &Range<u64>) -> bool {
        let state = self.state.lock();
        let filling = state.filling.range(chunks.clone()).map(|(_, (_, losses))| losses);
        let abandoned = state.abandoned.range(chunks.clone()).map(|(_, losses)| losses);
        filling.chain(abandoned).any(|losses| *losses != state.losses)
    }

    /// Makes sure that the kernel may read the file by itself: it has its size, and can be read at both ends.
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` when the file was cut off behind our back.
    pub fn check_ends(&self) -> io::Result<()> {
        let has_more = self.data.length()? > self.size;
        if has_more {
            return Err(io::Error::other("the data file has more bytes than it should"));
        }
        [0, self.size.saturating_sub(1)]
            .into_iter()
            .try_for_each(|at| self.read_exact_at(&mut [0], at))
    }

    /// Writes by `write`, into the data file, what `room` was reserved for, within chunks that are being [filled](Self::fill).
    ///
    /// # Errors
    /// What `write` says.
    pub fn write(&self, room: Reservation, write: impl FnOnce(&DataFile) -> io::Result<()>) -> io::Result<()> {
        let written = write(&self.data);
        let mut state = self.state.lock();
        room.settle(self.count(&mut state));
        written
    }

    /// Looks at what the file takes now, and says by how much that is more than before.
    fn count(&self, state: &mut State) -> i64 {
        let allocated = self.data.allocated();
        let before = std::mem::replace(&mut state.counted, allocated);
        allocated.cast_signed() - before.cast_signed()
    }

    /// Says that a waiting read is going to be answered from these chunks: until the guard is dropped, they stay.
    pub fn use_chunks(self: &Arc<Self>, chunks: Range<u64>) -> Used {
        self.state.lock().used.push(chunks.clone());
        Used {
            cached_file: Arc::clone(self),
            chunks,
        }
    }

    /// Says that the kernel is going to read the file by itself, if all of it is here: until the guard is dropped, it stays so.
    pub fn hold_if_complete(self: &Arc<Self>) -> Option<Hold> {
        self.state.lock().holds += 1;
        // From here on nothing goes; so what is complete now stays it.
        let hold = Hold(Arc::clone(self));
        (self.presence.is_complete() && self.size > 0).then_some(hold)
    }

    /// Whether some of it can't go now, but may be able to later.
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

/// See [`CachedFile::use_chunks`].
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

/// See [`CachedFile::hold_if_complete`].
#[derive(Debug)]
pub struct Hold(Arc<CachedFile>);

impl Hold {
    /// See [`CachedFile::check_ends`].
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
