//! The memory of bypass reads: blocks of files, bounded over all of them.
//!
//! A program reads 128 KiB at a time, which is too little for a request to an origin. So a whole
//! block is fetched, and **kept** until its memory is needed for another; the least recently used
//! block is dropped first. Memory is allotted before anything is fetched.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::error::ReadError;
use crate::cache::key::EntryId;

/// Bytes that are fetched at once, and the unit in which memory is allotted.
const BLOCK: u64 = 1 << 20;

/// Maximum number of blocks.
const MOST: u32 = 32;

/// The blocks of a mount, and the memory left for more.
#[derive(Debug)]
pub struct Blocks {
    room: Arc<Semaphore>,
    /// No wait happens under the lock.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The most recently used last.
    blocks: VecDeque<Arc<Block>>,
    /// Number of reads that wait for memory. **While there are any, no new block is kept**: they
    /// would not be notified that it can be dropped.
    waiting: usize,
}

#[derive(Debug)]
struct Block {
    entry: EntryId,
    /// Byte offset in the file.
    start: u64,
    bytes: Vec<u8>,
    /// Released when the block has no users any more.
    _room: OwnedSemaphorePermit,
}

/// Memory for bytes that are about to be fetched.
#[derive(Debug)]
pub struct Room {
    /// The byte range of the file that fits.
    pub bytes: Range<u64>,
    permit: OwnedSemaphorePermit,
}

/// Bytes of a block.
#[derive(Debug)]
pub struct Piece {
    block: Arc<Block>,
    range: Range<usize>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes[self.range.clone()]
    }
}

impl Blocks {
    /// No blocks.
    pub fn new() -> Blocks {
        Blocks {
            room: Arc::new(Semaphore::new(MOST as usize)),
            kept: Mutex::default(),
        }
    }

    /// Bytes of an entry, if a kept block has all of them.
    pub fn find(&self, entry: EntryId, bytes: &Range<u64>) -> Option<Piece> {
        let mut kept = self.kept.lock();
        let at = kept
            .blocks
            .iter()
            .position(|block| block.entry == entry && block.has(bytes))?;
        let block = kept.blocks.remove(at)?;
        kept.blocks.push_back(Arc::clone(&block));
        Some(Piece::of(block, bytes))
    }

    /// Memory for the blocks that contain `bytes`, of a file of `size` bytes. If all is in use it
    /// waits, and then takes only what it needs: `bytes` alone.
    ///
    /// # Errors None in practice: the semaphore is never closed.
    pub async fn room(&self, bytes: &Range<u64>, size: u64) -> Result<Room, ReadError> {
        let blocks = blocks_of(bytes, size);
        let waiting = match self.room_now(units(&blocks)) {
            Ok(permit) => return Ok(Room { bytes: blocks, permit }),
            Err(waiting) => waiting,
        };
        let permit = Arc::clone(&self.room).acquire_many_owned(units(bytes)).await;
        drop(waiting);
        Ok(Room {
            bytes: bytes.clone(),
            permit: permit.map_err(|_| ReadError::ShuttingDown)?,
        })
    }

    /// Memory that is free, or of kept blocks without users. Otherwise a place among the waiting
    /// reads.
    fn room_now(&self, units: u32) -> Result<OwnedSemaphorePermit, Waiting<'_>> {
        let mut kept = self.kept.lock();
        loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(units) {
                return Ok(permit);
            }
            if kept.blocks.pop_front().is_none() {
                kept.waiting += 1;
                return Err(Waiting { blocks: self });
            }
        }
    }

    /// Keeps the fetched bytes, which fill their `room`, and returns the part `asked`.
    pub fn keep(&self, entry: EntryId, room: Room, bytes: Vec<u8>, asked: &Range<u64>) -> Piece {
        let block = Arc::new(Block {
            entry,
            start: room.bytes.start,
            bytes,
            _room: room.permit,
        });
        let mut kept = self.kept.lock();
        if kept.waiting == 0 {
            kept.blocks.push_back(Arc::clone(&block));
        }
        drop(kept);
        Piece::of(block, asked)
    }

    /// The entry has no readers any more.
    pub fn forget(&self, entry: EntryId) {
        self.kept.lock().blocks.retain(|block| block.entry != entry);
    }
}

impl Block {
    fn has(&self, bytes: &Range<u64>) -> bool {
        self.start <= bytes.start && bytes.end <= self.start + self.bytes.len() as u64
    }
}

impl Piece {
    /// The caller knows that the block has these bytes.
    fn of(block: Arc<Block>, bytes: &Range<u64>) -> Piece {
        // A block is in memory, so its length fits.
        let start = (bytes.start - block.start) as usize;
        let range = start..start + (bytes.end - bytes.start) as usize;
        Piece { block, range }
    }
}

/// A read's place among those that wait for memory.
struct Waiting<'a> {
    blocks: &'a Blocks,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.blocks.kept.lock().waiting -= 1;
    }
}

/// The blocks that contain `bytes`, as one range, within a file of `size` bytes. Empty for an empty
/// range.
fn blocks_of(bytes: &Range<u64>, size: u64) -> Range<u64> {
    if bytes.is_empty() {
        return bytes.clone();
    }
    bytes.start / BLOCK * BLOCK..bytes.end.checked_next_multiple_of(BLOCK).unwrap_or(size).min(size)
}

/// The blocks of a range. No read is as long as all of the memory.
fn units(bytes: &Range<u64>) -> u32 {
    u32::try_from((bytes.end - bytes.start).div_ceil(BLOCK)).map_or(MOST, |units| units.clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;
    use proptest::prelude::*;

    const ENTRY: EntryId = EntryId(1);

    /// Polls it once.
    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    async fn fetch(blocks: &Blocks, bytes: Range<u64>) -> Piece {
        let room = blocks.room(&bytes, 1 << 40).await.unwrap();
        let fetched = (room.bytes.clone()).map(|at| at as u8).collect();
        blocks.keep(ENTRY, room, fetched, &bytes)
    }

    proptest! {
        #[test]
        fn the_blocks_of_a_read_hold_it_and_no_block_more(start in 0u64..1 << 41, len in 1u64..4 * BLOCK, past in 0u64..3 * BLOCK) {
            let bytes = start..start + len;
            let blocks = blocks_of(&bytes, bytes.end + past);
            prop_assert!(blocks.start <= bytes.start && bytes.start - blocks.start < BLOCK);
            prop_assert!(blocks.end >= bytes.end && blocks.end - bytes.end < BLOCK && blocks.end <= bytes.end + past);
            prop_assert!(blocks.start.is_multiple_of(BLOCK) && (blocks.end.is_multiple_of(BLOCK) || blocks.end == bytes.end + past));
        }
    }

    #[tokio::test]
    async fn a_block_answers_all_reads_within_it_and_of_its_own_entry_only() {
        let blocks = Blocks::new();
        let piece = fetch(&blocks, BLOCK + 10..BLOCK + 20).await;
        assert_eq!(piece[..], (10..20).collect::<Vec<u8>>());
        let found = blocks
            .find(ENTRY, &(BLOCK + 255..BLOCK + 258))
            .expect("in the same block");
        assert_eq!(found[..], [255, 0, 1]);
        assert!(blocks.find(ENTRY, &(BLOCK - 1..BLOCK + 1)).is_none(), "across its edge");
        assert!(blocks.find(EntryId(2), &(BLOCK..BLOCK + 1)).is_none());
        blocks.forget(ENTRY);
        assert!(blocks.find(ENTRY, &(BLOCK..BLOCK + 1)).is_none());
    }

    #[tokio::test]
    async fn the_block_longest_unused_gives_way() {
        let blocks = Blocks::new();
        for block in 0..u64::from(MOST) {
            fetch(&blocks, block * BLOCK..block * BLOCK + 1).await;
        }
        blocks.find(ENTRY, &(0..1)).expect("the first is used again");
        fetch(&blocks, 100 * BLOCK..100 * BLOCK + 1).await;
        assert!(blocks.find(ENTRY, &(0..1)).is_some());
        assert!(blocks.find(ENTRY, &(BLOCK..BLOCK + 1)).is_none());
    }

    #[tokio::test]
    async fn when_all_is_in_use_a_read_waits_for_room_and_takes_only_what_it_needs() {
        let blocks = Blocks::new();
        let mut rooms = Vec::new();
        for block in 0..u64::from(MOST) {
            rooms.push(blocks.room(&(block * BLOCK..block * BLOCK + 1), 1 << 40).await.unwrap());
        }
        let asked = 7..9;
        let mut late = Box::pin(blocks.room(&asked, 1 << 40));
        assert!(is_pending(late.as_mut()));
        // A block fetched while a read waits is not kept: its memory is for that read.
        let room = rooms.pop().unwrap();
        let (bytes, first) = (vec![0; BLOCK as usize], room.bytes.start);
        drop(blocks.keep(ENTRY, room, bytes, &(first..first + 1)));
        assert_eq!(late.await.unwrap().bytes, asked);
        // A read that waited no longer counts, whether it got memory or was dropped.
        let mut gone = Box::pin(async { blocks.room(&asked, 1 << 40).await.map(|_| ()) });
        rooms.push(blocks.room(&(0..1), 1 << 40).await.unwrap());
        assert!(is_pending(gone.as_mut()));
        drop(gone);
        assert_eq!(blocks.kept.lock().waiting, 0);
    }
}
