//! The memory store: blocks of files that the cache directory can't hold, bounded over all files of a mount.
//!
//! The same fetches that fill data files fill it, for the [bypass entry](super::cache_entry::CacheEntry::bypass)
//! of a file. A program reads 128 KiB at a time, which is too little for a request to an origin. So the chunks of these entries are
//! [blocks](BLOCK), which are kept until their memory is needed for another; the least recently used one is dropped first.
//!
//! **A block that a fetch fills or a waiting read needs is held**, and not dropped. No fetch waits for memory: it would hold its
//! connection meanwhile, and each of two fetches could wait for the other. So there may be more than [`MOST`] blocks: one for each
//! fetch in flight, and those of reads that are about to be answered.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::chunk_bitmap::ChunkBitmap;
use crate::cache::chunk::{BLOCK, common};

/// Maximum number of blocks, unless more are held.
const MOST: usize = 32;

/// The blocks of a mount.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Blocks>);

/// Locked for moments. No other lock is taken under it.
#[derive(Debug, Default)]
struct Blocks {
    /// The most recently used last.
    all: Vec<Arc<Block>>,
    /// Blocks that are not dropped, whether they exist yet or not.
    held: Vec<(Arc<ChunkBitmap>, Range<u64>)>,
}

#[derive(Debug)]
struct Block {
    /// The present blocks of its file. It identifies the file, too.
    presence: Arc<ChunkBitmap>,
    index: u64,
    /// Grows from the front. No other lock is taken under it.
    bytes: RwLock<Vec<u8>>,
}

/// The blocks of one version of a file. They are dropped with it.
#[derive(Debug)]
pub struct MemoryFile {
    store: Arc<MemoryStore>,
    /// The size of the remote file, in bytes.
    size: u64,
    /// The whole blocks. **A bit is cleared before the block is dropped.**
    pub presence: Arc<ChunkBitmap>,
}

/// Keeps blocks of a file from being dropped, and reads and writes them.
#[derive(Debug)]
pub struct BlockGuard {
    file: Arc<MemoryFile>,
    blocks: Range<u64>,
}

impl MemoryFile {
    /// A file of `size` bytes, none of which are there.
    pub fn new(store: &Arc<MemoryStore>, size: u64) -> Arc<MemoryFile> {
        Arc::new(MemoryFile {
            store: Arc::clone(store),
            size,
            presence: Arc::new(ChunkBitmap::new(BLOCK.count(size))),
        })
    }

    /// Holds the blocks of these bytes.
    pub fn hold(self: &Arc<Self>, bytes: &Range<u64>) -> BlockGuard {
        let blocks = BLOCK.touched(bytes);
        let held = (Arc::clone(&self.presence), blocks.clone());
        self.store.0.lock().held.push(held);
        BlockGuard {
            file: Arc::clone(self),
            blocks,
        }
    }

    /// Returns true if the block at `offset` is there up to `offset`.
    pub fn has_up_to(&self, offset: u64) -> bool {
        let index = BLOCK.index(offset);
        let block = self.store.0.lock().find(&self.presence, index);
        block.is_some_and(|block| block.bytes.read().len() as u64 >= offset - index * BLOCK.bytes())
    }

    /// The parts of some bytes by block.
    fn by_block(&self, bytes: Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> + use<> {
        let size = self.size;
        BLOCK
            .touched(&bytes)
            .map(move |index| (index, common(&bytes, &BLOCK.bytes_of(&(index..index + 1), size))))
    }
}

impl BlockGuard {
    /// Fills `buf` from `offset`. Returns false if not all of these bytes are there.
    #[must_use]
    pub fn read(&self, buf: &mut [u8], offset: u64) -> bool {
        let (presence, mut rest) = (&self.file.presence, buf);
        for (index, part) in self.file.by_block(offset..offset + rest.len() as u64) {
            let Some(block) = self.file.store.0.lock().find(presence, index) else {
                return false;
            };
            let (now, later) = rest.split_at_mut((part.end - part.start) as usize);
            let bytes = block.bytes.read();
            let Some(found) = bytes.get(within(index, &part)) else {
                return false;
            };
            now.copy_from_slice(found);
            rest = later;
        }
        rest.is_empty()
    }

    /// Adds bytes that follow those that are there, in blocks that are held; a block may begin with them. Whole blocks become present.
    /// Returns false if the bytes before them are missing.
    #[must_use]
    pub fn append(&self, offset: u64, bytes: &[u8]) -> bool {
        let (presence, mut rest) = (&self.file.presence, bytes);
        for (index, part) in self.file.by_block(offset..offset + rest.len() as u64) {
            debug_assert!(self.blocks.contains(&index), "{index} is not held");
            let (now, later) = rest.split_at((part.end - part.start) as usize);
            rest = later;
            let place = BLOCK.bytes_of(&(index..index + 1), self.file.size);
            let len = (place.end - place.start) as usize;
            let mut blocks = self.file.store.0.lock();
            let found = blocks.find(presence, index);
            let found = found.or_else(|| (part.start == place.start).then(|| blocks.begin(presence, index, len)));
            drop(blocks);
            let Some(block) = found else { return false };
            let mut there = block.bytes.write();
            // A fetch that was stopped may have brought some of them.
            let Some(known) = there.len().checked_sub(within(index, &part).start) else {
                return false;
            };
            there.extend_from_slice(now.get(known..).unwrap_or_default());
            if there.len() == len {
                presence.insert(index);
            }
        }
        true
    }
}

impl Blocks {
    /// A block, which is the most recently used one then.
    fn find(&mut self, presence: &Arc<ChunkBitmap>, index: u64) -> Option<Arc<Block>> {
        let at = (self.all.iter()).position(|block| Arc::ptr_eq(&block.presence, presence) && block.index == index)?;
        self.all[at..].rotate_left(1);
        self.all.last().cloned()
    }

    fn begin(&mut self, presence: &Arc<ChunkBitmap>, index: u64, len: usize) -> Arc<Block> {
        let block = Arc::new(Block {
            presence: Arc::clone(presence),
            index,
            bytes: RwLock::new(Vec::with_capacity(len)),
        });
        self.all.push(Arc::clone(&block));
        self.drop_excess();
        block
    }

    fn drop_excess(&mut self) {
        while self.all.len() > MOST
            && let Some(at) = self.all.iter().position(|block| !self.is_held(block))
        {
            let block = self.all.remove(at);
            block.presence.remove(block.index);
        }
    }

    fn is_held(&self, block: &Block) -> bool {
        let mut held = self.held.iter();
        held.any(|(presence, blocks)| Arc::ptr_eq(presence, &block.presence) && blocks.contains(&block.index))
    }
}

impl Drop for BlockGuard {
    fn drop(&mut self) {
        let mut blocks = self.file.store.0.lock();
        let is_this = |held: &(_, _)| Arc::ptr_eq(&held.0, &self.file.presence) && held.1 == self.blocks;
        if let Some(at) = blocks.held.iter().position(is_this) {
            blocks.held.swap_remove(at);
        }
        blocks.drop_excess();
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut blocks = self.store.0.lock();
        blocks.all.retain(|block| !Arc::ptr_eq(&block.presence, &self.presence));
    }
}

/// The place of these bytes of the file in their block.
fn within(index: u64, bytes: &Range<u64>) -> Range<usize> {
    let start = index * BLOCK.bytes();
    // A block is in memory, so its length fits.
    (bytes.start - start) as usize..(bytes.end - start) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use proptest::prelude::*;

    const B: u64 = BLOCK.bytes();

    fn file(size: u64) -> Arc<MemoryFile> {
        MemoryFile::new(&Arc::default(), size)
    }

    fn beside(file: &MemoryFile, size: u64) -> Arc<MemoryFile> {
        MemoryFile::new(&file.store, size)
    }

    /// The bytes of a range: each is its offset modulo 251.
    fn bytes(range: &Range<u64>) -> &'static [u8] {
        static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..251).cycle().take(3 * B as usize).collect());
        let start = (range.start % 251) as usize;
        &ALL[start..start + (range.end - range.start) as usize]
    }

    /// Brings bytes as a fetch does.
    fn bring(file: &Arc<MemoryFile>, range: Range<u64>) -> bool {
        let held = file.hold(&range);
        held.append(range.start, bytes(&range))
    }

    /// Reads bytes as a reader does, and compares them.
    fn has(file: &Arc<MemoryFile>, range: Range<u64>) -> bool {
        let mut buf = vec![0; (range.end - range.start) as usize];
        let is_here = file.hold(&range).read(&mut buf, range.start);
        assert!(!is_here || buf == bytes(&range));
        is_here
    }

    #[test]
    fn what_came_of_a_block_can_be_read_and_only_a_whole_block_is_present() {
        let file = file(2 * B + 10);
        assert!(bring(&file, 0..100) && bring(&file, 100..300));
        assert!(has(&file, 0..300) && has(&file, 250..300) && !has(&file, 250..301));
        assert!(file.presence.is_empty() && file.has_up_to(300) && !file.has_up_to(301));
        assert!(bring(&file, 300..2 * B + 10));
        assert!(file.presence.is_complete() && has(&file, B - 5..2 * B + 10));
        assert!(!has(&beside(&file, 10), 0..10), "another file's");
    }

    #[test]
    fn what_comes_again_changes_nothing_and_what_leaves_a_gap_is_refused() {
        let file = file(B);
        assert!(!bring(&file, 1..2) && bring(&file, 0..100) && !bring(&file, 101..102));
        assert!(bring(&file, 0..50) && bring(&file, 20..120) && has(&file, 0..120) && !has(&file, 0..121));
    }

    #[test]
    fn the_block_longest_unused_gives_way() {
        let file = file(100 * B);
        assert!((0..MOST as u64).all(|block| bring(&file, block * B..(block + 1) * B)));
        assert!(has(&file, 0..1));
        assert!(bring(&file, 50 * B..50 * B + 1));
        assert!(has(&file, 0..1) && !has(&file, B..B + 1) && !file.presence.contains(1));
    }

    #[test]
    fn a_block_that_is_held_stays_and_the_memory_is_bounded_again_afterwards() {
        let file = file(100 * B);
        let held = file.hold(&(0..40 * B));
        assert!((0..60).all(|block| bring(&file, block * B..block * B + 1)));
        assert_eq!(file.store.0.lock().all.len(), 40);
        assert!((0..40).all(|block| has(&file, block * B..block * B + 1)));
        drop(held);
        assert_eq!(file.store.0.lock().all.len(), MOST);
        assert!(file.store.0.lock().held.is_empty());
    }

    #[test]
    fn the_blocks_of_a_file_are_dropped_with_it() {
        let file = file(B);
        let other = beside(&file, B);
        assert!(bring(&file, 0..B) && bring(&other, 0..B));
        drop(file);
        assert_eq!(other.store.0.lock().all.len(), 1);
        assert!(has(&other, 0..B));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// With blocks that are dropped at any time: a present block can be read, and nothing wrong ever is.
        #[test]
        fn what_is_present_can_be_read(steps in prop::collection::vec((0u64..3, 0u64..40, 1u64..4, any::<bool>()), 1..80)) {
            let (first, size) = (file(40 * B), 40 * B);
            let files = [beside(&first, size), beside(&first, size), first];
            let mut held = Vec::new();
            for (which, block, thirds, keeps) in steps {
                let file = &files[which as usize];
                let place = block * B..block * B + thirds * B / 3;
                if keeps {
                    held.push(file.hold(&place));
                } else if held.len() > 3 {
                    held.remove(0);
                }
                prop_assert!(bring(file, place.clone()) && has(file, place));
                let blocks = file.store.0.lock();
                let most = MOST + held.len();
                prop_assert!(blocks.all.len() <= most && blocks.held.len() == held.len());
                for file in &files {
                    let there: Vec<_> = blocks.all.iter().filter(|block| Arc::ptr_eq(&block.presence, &file.presence)).collect();
                    let whole = there.iter().filter(|block| block.bytes.read().len() as u64 == B);
                    prop_assert_eq!(whole.count() as u64, file.presence.len());
                }
            }
        }
    }
}
