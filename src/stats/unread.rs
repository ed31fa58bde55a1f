//! Which fetched bytes of a file no reader has read yet: what was fetched too much so far.
//!
//! A chunk has [`BLOCKS`] blocks, of a page each with chunks of the default size. A block is marked when it is written
//! by a fetch, and the first read of it takes the mark away. Chunks that an earlier mount has fetched have no marks.
//!
//! A read looks at one word for each chunk that it touches, and writes only where it takes a mark away.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks of a chunk: the bits of a word.
const BLOCKS: u64 = u64::BITS as u64;

/// Chunks whose words are allocated together, when the first of them is fetched.
const GROUP: u64 = 64;

type Group = OnceLock<Box<[AtomicU64]>>;

/// The blocks of one file that were fetched and not read.
#[derive(Debug)]
pub(crate) struct UnreadBlocks {
    /// Bytes of a chunk, a multiple of [`BLOCKS`].
    chunk: u64,
    /// Bytes of the file.
    size: u64,
    /// A word for each chunk, whose bit `i` is set while block `i` is unread.
    groups: OnceLock<Box<[Group]>>,
}

impl UnreadBlocks {
    /// For a file of `size` bytes in chunks of `chunk` bytes.
    pub(crate) fn new(chunk: u64, size: u64) -> UnreadBlocks {
        UnreadBlocks {
            chunk,
            size,
            groups: OnceLock::new(),
        }
    }

    fn block(&self) -> u64 {
        self.chunk / BLOCKS
    }

    /// A fetch has written `bytes`. A block is marked with its first byte, **before any reader can see that.**
    pub(crate) fn note_fetched(&self, bytes: &Range<u64>) {
        let block = self.block();
        let blocks = bytes.start.div_ceil(block)..bytes.end.min(self.size).div_ceil(block);
        let groups = self.groups.get_or_init(|| {
            let count = self.size.div_ceil(self.chunk).div_ceil(GROUP);
            (0..count).map(|_| Group::new()).collect()
        });
        for (chunk, mask) in masks(&blocks) {
            let Some(group) = groups.get((chunk / GROUP) as usize) else {
                return;
            };
            let words = group.get_or_init(|| (0..GROUP).map(|_| AtomicU64::new(0)).collect());
            words[(chunk % GROUP) as usize].fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// A reader has read `bytes`. Returns how many of the fetched ones it is the first to read: those of their blocks.
    pub(crate) fn note_read(&self, bytes: &Range<u64>) -> u64 {
        let Some(groups) = self.groups.get().filter(|_| !bytes.is_empty()) else {
            return 0;
        };
        let block = self.block();
        let (last, mut used) = (self.size.saturating_sub(1) / block, 0);
        for (chunk, mask) in masks(&(bytes.start / block..bytes.end.div_ceil(block))) {
            let word = groups.get((chunk / GROUP) as usize).and_then(OnceLock::get);
            let Some(word) = word.map(|words| &words[(chunk % GROUP) as usize]) else {
                continue;
            };
            if word.load(Ordering::Relaxed) & mask == 0 {
                continue;
            }
            let taken = word.fetch_and(!mask, Ordering::Relaxed) & mask;
            used += u64::from(taken.count_ones()) * block;
            let is_last = last / BLOCKS == chunk && taken >> (last % BLOCKS) & 1 == 1;
            // The file ends within its last block.
            used -= if is_last { (last + 1) * block - self.size } else { 0 };
        }
        used
    }

    /// The file counts as read as a whole: the kernel reads it by itself from now on. Returns how many of the fetched
    /// bytes were unread.
    pub(crate) fn note_all_read(&self) -> u64 {
        let groups = self.groups.get().into_iter().flatten().enumerate();
        let group = GROUP * self.chunk;
        let fetched = groups.filter(|(_, words)| words.get().is_some());
        fetched
            .map(|(at, _)| at as u64 * group..((at as u64 + 1) * group).min(self.size))
            .map(|bytes| self.note_read(&bytes))
            .sum()
    }
}

/// The chunks of these blocks, each with the bits of its blocks.
fn masks(blocks: &Range<u64>) -> impl Iterator<Item = (u64, u64)> + use<> {
    let (start, end) = (blocks.start, blocks.end.max(blocks.start));
    let chunks = start / BLOCKS..end.div_ceil(BLOCKS);
    chunks.filter_map(move |chunk| {
        let first = start.max(chunk * BLOCKS) - chunk * BLOCKS;
        let past = end.min((chunk + 1) * BLOCKS) - chunk * BLOCKS;
        let count = past.checked_sub(first).filter(|&count| count > 0)?;
        Some((chunk, u64::MAX >> (BLOCKS - count) << first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: u64 = 4096;
    const BLOCK: u64 = CHUNK / BLOCKS;

    #[test]
    fn each_fetched_byte_is_used_once() {
        let size = 2 * CHUNK + 100;
        let unread = UnreadBlocks::new(CHUNK, size);
        assert_eq!(unread.note_read(&(0..size)), 0, "an earlier mount has fetched it");
        unread.note_fetched(&(0..size));
        assert_eq!(unread.note_read(&(0..BLOCK)), BLOCK);
        assert_eq!(unread.note_read(&(0..2 * BLOCK)), BLOCK);
        assert_eq!(unread.note_read(&(size - 1..size)), 100 % BLOCK);
        assert_eq!(unread.note_all_read(), size - 2 * BLOCK - 100 % BLOCK);
        assert_eq!(unread.note_read(&(0..size)), 0);
    }

    #[test]
    fn pieces_of_a_fetch_mark_a_block_once() {
        let unread = UnreadBlocks::new(CHUNK, CHUNK);
        unread.note_fetched(&(0..10));
        assert_eq!(unread.note_read(&(0..10)), BLOCK);
        unread.note_fetched(&(10..BLOCK + 1));
        assert_eq!(unread.note_read(&(0..BLOCK)), 0, "it was marked by its first byte");
        assert_eq!(unread.note_read(&(0..CHUNK)), BLOCK);
    }

    #[test]
    fn empty_and_huge_files_are_no_trouble() {
        let none = UnreadBlocks::new(CHUNK, 0);
        none.note_fetched(&(0..0));
        assert_eq!(none.note_read(&(0..0)) + none.note_all_read(), 0);
        let unread = UnreadBlocks::new(256 << 10, 1 << 40);
        unread.note_fetched(&((1 << 39)..(1 << 39) + 8192));
        assert_eq!(unread.note_all_read(), 8192);
    }

    proptest! {
        #[test]
        fn whole_file_in_any_pieces_adds_up(size in 1u64..4 * CHUNK, cuts in prop::collection::vec(1u64..3000, 1..12), reads in prop::collection::vec((0u64..20_000, 1u64..9000), 0..20)) {
            let unread = UnreadBlocks::new(CHUNK, size);
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(size);
                unread.note_fetched(&(at..end));
                at = end;
                if at == size { break; }
            }
            let clip = |at: u64| at.min(size);
            let read: u64 = reads.iter().map(|&(at, len)| unread.note_read(&(clip(at)..clip(at + len)))).sum();
            prop_assert_eq!(read + unread.note_all_read(), size);
        }
    }
}
