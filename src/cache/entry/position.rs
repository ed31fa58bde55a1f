//! The position of a fetch in its file. A fetch that ends within a chunk leaves its position with
//! the entry, and the next fetch continues there.

use xxhash_rust::xxh3::Xxh3;

use super::cached_file::CachedFile;
use super::cached_file::write_guard::WriteGuard;
use super::memory_store::BlockGuard;
use crate::cache::chunk::ChunkSize;
use crate::cache::integrity::pieces::PieceFilter;

/// A fetch's position: the next byte to write, and the checksum of its chunk so far.
pub(crate) struct Position {
    /// Byte offset in the file. **The hasher has seen the bytes from the last chunk edge to here.**
    pub(in crate::cache) offset: u64,
    hasher: Xxh3,
    /// Number of truncations of the file when the chunk at the position was begun.
    pub(in crate::cache) losses: u64,
    /// Protects the written parts of chunks from eviction for as long as the scheduler may rely on
    /// them.
    pub(in crate::cache) filling: Option<WriteGuard>,
    /// The same, for blocks in memory.
    pub(in crate::cache) held: Option<BlockGuard>,
    /// What has come of the piece at the position, while no fetch is under way.
    pub(in crate::cache) filter: Option<PieceFilter>,
}

impl Position {
    /// A position at the beginning of a chunk.
    pub(crate) fn at_chunk_edge(offset: u64) -> Box<Position> {
        Box::new(Position {
            offset,
            hasher: Xxh3::new(),
            losses: 0,
            filling: None,
            held: None,
            filter: None,
        })
    }

    /// Byte offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The scheduler has received everything up to here: complete chunks may be evicted from now
    /// on.
    pub(in crate::cache) fn was_told(&mut self, chunk_size: ChunkSize, size: u64) {
        let chunk = chunk_size.index(self.offset);
        if self.offset > chunk * chunk_size.bytes() && self.offset < size {
            self.filling.iter_mut().for_each(|filling| filling.keep_from(chunk));
        } else {
            self.filling = None;
            self.held = None;
        }
    }

    /// Returns true if the written part of the chunk at the position is lost.
    pub(crate) fn is_lost(&self, chunk_size: ChunkSize, cached_file: &CachedFile) -> bool {
        !self.offset.is_multiple_of(chunk_size.bytes()) && self.losses != cached_file.losses()
    }

    /// Moves on over bytes that were written, and reports each chunk that they complete with its
    /// checksum.
    pub(in crate::cache) fn advance(
        &mut self,
        chunk_size: ChunkSize,
        size: u64,
        mut data: &[u8],
        mut completed: impl FnMut(u64, u64),
    ) {
        while !data.is_empty() {
            let chunk = chunk_size.index(self.offset);
            let end = chunk_size.bytes_of(&(chunk..chunk + 1), size).end;
            let left = usize::try_from(end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            if left == 0 {
                // Past the end of the file: the downloader cuts bodies off there.
                return;
            }
            let (now, later) = data.split_at(left.min(data.len()));
            self.hasher.update(now);
            self.offset += now.len() as u64;
            data = later;
            if self.offset == end {
                completed(chunk, self.hasher.digest());
                self.hasher.reset();
            }
        }
    }
}
