//! The chunk bitmap: which chunks of a version are in its data file.
//!
//! A read consults only this bitmap to find out whether its bytes are present. That costs one
//! atomic load for 64 chunks: no lock, no SQL. The writer threads add to it. The table
//! `cache_chunks` follows over a channel, and the bitmap is filled from that table when the entry
//! is first used.
//!
//! **Ordering.** A chunk is inserted with `Release` after its bytes were written, and looked up
//! with `Acquire`: a thread that sees the bit set also sees the bytes.
//!
//! **Eviction.** Chunks are evicted while reads go on. Reads take no lock against that; they check
//! again afterwards. Each word has a count of its evicted chunks. An eviction clears the chunk's
//! bit, increments the count, and then punches the bytes out of the file. A read:
//!
//! 1. takes the [`stamp`](ChunkBitmap::stamp) of its chunks;
//! 2. finds their bits set;
//! 3. reads the file;
//! 4. takes the stamp again.
//!
//! If both stamps are equal, no hole was punched before the file was read: a thread that sees the
//! hole also sees the count. If a chunk was evicted before the first stamp, its bit is seen
//! cleared. So bytes read between two equal stamps are the file's; otherwise the read begins again.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The set of present chunks.
#[derive(Debug)]
pub struct ChunkBitmap {
    /// Bit `i % 64` of word `i / 64` is chunk `i`. **Bits at and past `chunks` are never set.**
    words: Box<[AtomicU64]>,
    /// For each word, the number of its evicted chunks. **Incremented after the bit is cleared, and
    /// before the bytes are punched.**
    gone: Box<[AtomicU64]>,
    /// The chunks that were removed and not inserted since, allocated with the first of them. Bits as in `words`.
    removed: OnceLock<Box<[AtomicU64]>>,
    /// Number of chunks of the file.
    chunks: u64,
    /// Number of set bits. Follows the bits; exact once all changes have returned.
    present: AtomicU64,
    /// The counter of [`Self::losses`].
    losses: AtomicU64,
}

const BITS: u64 = u64::BITS as u64;

/// A bit for each of so many chunks.
fn zeros(chunks: u64) -> Box<[AtomicU64]> {
    (0..chunks.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect()
}

impl ChunkBitmap {
    /// An empty set for a file of `chunks` chunks.
    pub fn new(chunks: u64) -> ChunkBitmap {
        ChunkBitmap {
            words: zeros(chunks),
            gone: zeros(chunks),
            removed: OnceLock::new(),
            chunks,
            present: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    /// Adds a chunk whose bytes are in the data file. Returns true if it was missing before, and
    /// false for an index past the end of the file.
    pub fn insert(&self, chunk: u64) -> bool {
        if chunk >= self.chunks {
            return false;
        }
        let bit = 1 << (chunk % BITS);
        let added = self.word(chunk / BITS).fetch_or(bit, Ordering::Release) & bit == 0;
        if added {
            self.present.fetch_add(1, Ordering::Release);
            if let Some(words) = self.removed.get() {
                words[(chunk / BITS) as usize].fetch_and(!bit, Ordering::Relaxed);
            }
        }
        added
    }

    /// Removes a chunk whose bytes are lost, or about to be punched. Returns true if it was
    /// present.
    pub fn remove(&self, chunk: u64) -> bool {
        if chunk >= self.chunks {
            return false;
        }
        let bit = 1 << (chunk % BITS);
        self.losses.fetch_add(1, Ordering::AcqRel);
        let removed = self.word(chunk / BITS).fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if removed {
            self.present.fetch_sub(1, Ordering::AcqRel);
            let words = self.removed.get_or_init(|| zeros(self.chunks));
            words[(chunk / BITS) as usize].fetch_or(bit, Ordering::Relaxed);
        }
        self.losses.fetch_add(1, Ordering::AcqRel);
        self.count_gone(chunk);
        removed
    }

    /// Returns true if this chunk was present, was removed, and was not inserted since.
    pub fn was_removed(&self, chunk: u64) -> bool {
        let words = self.removed.get().filter(|_| chunk < self.chunks);
        words.is_some_and(|words| words[(chunk / BITS) as usize].load(Ordering::Relaxed) >> (chunk % BITS) & 1 == 1)
    }

    /// A number that changes both before and after a chunk is removed. If it is unchanged since the
    /// chunks were checked, those found are still present. Otherwise they have to be checked again.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Counts an incomplete chunk whose bytes are about to be punched: readers may have been woken
    /// for its written part.
    pub fn count_gone(&self, chunk: u64) {
        if chunk < self.chunks {
            self.gone[(chunk / BITS) as usize].fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Changes whenever one of `chunks`, or one near them, is removed. Take it before checking for
    /// presence.
    pub fn stamp(&self, chunks: &Range<u64>) -> u64 {
        let end = chunks.end.min(self.chunks);
        if chunks.start >= end {
            return 0;
        }
        let words = (chunks.start / BITS) as usize..end.div_ceil(BITS) as usize;
        self.gone[words]
            .iter()
            .fold(0, |sum, gone| sum.wrapping_add(gone.load(Ordering::Acquire)))
    }

    /// Returns true if bytes of `chunks`, read since this stamp was taken and they were found
    /// present, are valid.
    pub fn is_unchanged(&self, chunks: &Range<u64>, stamp: u64) -> bool {
        // The file is read before the counts are.
        fence(Ordering::Acquire);
        self.stamp(chunks) == stamp
    }

    /// The present chunks of segment `index` (64 consecutive chunks).
    pub fn in_segment(&self, index: u64) -> impl Iterator<Item = u64> + use<> {
        let mut word = self
            .words
            .get(index as usize)
            .map_or(0, |word| word.load(Ordering::Acquire));
        std::iter::from_fn(move || {
            let bit = u64::from(word.trailing_zeros());
            (bit < BITS).then(|| {
                word &= word - 1;
                index * BITS + bit
            })
        })
    }

    /// Number of segments of 64 chunks.
    pub fn segments(&self) -> u64 {
        self.words.len() as u64
    }

    /// Returns true if this chunk is present.
    pub fn contains(&self, chunk: u64) -> bool {
        chunk < self.chunks && self.word(chunk / BITS).load(Ordering::Acquire) >> (chunk % BITS) & 1 == 1
    }

    /// Returns true if all of `chunks` are present. True for an empty range.
    pub fn contains_all(&self, chunks: &Range<u64>) -> bool {
        self.next_missing(chunks).is_none()
    }

    /// The first chunk of `chunks` that is missing.
    pub fn next_missing(&self, chunks: &Range<u64>) -> Option<u64> {
        let mut at = chunks.start;
        while at < chunks.end {
            if at >= self.chunks {
                return Some(at);
            }
            // Checks a whole word at once: the set bits from `at` on are skipped together.
            let word = self.word(at / BITS).load(Ordering::Acquire) >> (at % BITS);
            let run = u64::from(word.trailing_ones());
            let next_word = (at / BITS + 1) * BITS;
            if run == 0 || at + run < next_word {
                let missing = at + run;
                return (missing < chunks.end).then_some(missing);
            }
            at = next_word;
        }
        None
    }

    /// The first chunk of `chunks` that is present.
    pub fn next_present(&self, chunks: &Range<u64>) -> Option<u64> {
        let end = chunks.end.min(self.chunks);
        let mut at = chunks.start;
        while at < end {
            // As above, for the cleared bits.
            let word = self.word(at / BITS).load(Ordering::Acquire) >> (at % BITS);
            if word != 0 {
                let present = at + u64::from(word.trailing_zeros());
                return (present < end).then_some(present);
            }
            at = (at / BITS + 1) * BITS;
        }
        None
    }

    /// Number of present chunks.
    pub fn len(&self) -> u64 {
        self.present.load(Ordering::Acquire)
    }

    /// Returns true if no chunk is present.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if every chunk of the file is present.
    pub fn is_complete(&self) -> bool {
        self.len() == self.chunks
    }

    fn word(&self, index: u64) -> &AtomicU64 {
        &self.words[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_file_is_complete_and_has_no_chunk() {
        let set = ChunkBitmap::new(0);
        assert!(set.is_complete() && set.is_empty());
        assert!(!set.insert(0) && !set.contains(0));
        assert!(set.contains_all(&(0..0)) && !set.contains_all(&(0..1)));
    }

    #[test]
    fn a_set_is_complete_when_its_last_chunk_comes() {
        let set = ChunkBitmap::new(130);
        for chunk in 0..129 {
            assert!(set.insert(chunk) && !set.is_complete());
        }
        assert!(!set.contains_all(&(0..130)) && set.next_missing(&(0..130)) == Some(129));
        assert!(set.insert(129) && set.is_complete() && !set.insert(129));
        assert!(set.contains_all(&(0..130)));
    }

    #[test]
    fn stamp_changes_on_removal_not_on_insertion() {
        let set = ChunkBitmap::new(200);
        (0..200).for_each(|chunk| assert!(set.insert(chunk)));
        let (near, far, both) = (0..3, 190..200, 60..70);
        let stamps = [&near, &far, &both].map(|range| set.stamp(range));
        assert!(set.remove(64) && !set.is_complete() && !set.contains(64));
        let unchanged: Vec<_> = [&near, &far, &both]
            .iter()
            .zip(stamps)
            .map(|(range, stamp)| set.is_unchanged(range, stamp))
            .collect();
        assert_eq!(unchanged, [true, true, false]);
        let stamp = set.stamp(&both);
        assert!(set.insert(64) && set.is_complete() && set.is_unchanged(&both, stamp));
        assert!(!set.remove(200));
    }

    /// The race that the stamps prevent, with an array of words in place of the file.
    #[test]
    fn what_is_read_between_equal_stamps_was_never_punched() {
        const CHUNKS: u64 = 64;
        let set = ChunkBitmap::new(CHUNKS);
        let file: Vec<AtomicU64> = (0..CHUNKS).map(|_| AtomicU64::new(0)).collect();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut good = 0;
                        for chunk in (0..CHUNKS).cycle() {
                            if is_over.load(Ordering::Relaxed) {
                                break;
                            }
                            let range = chunk..chunk + 1;
                            let stamp = set.stamp(&range);
                            if set.contains_all(&range) {
                                let read = file[chunk as usize].load(Ordering::Relaxed);
                                if set.is_unchanged(&range, stamp) {
                                    assert_eq!(read, chunk + 1, "a hole was read as bytes");
                                    good += 1;
                                }
                            }
                        }
                        good
                    })
                })
                .collect();
            for _ in 0..20_000 {
                for chunk in (0..CHUNKS).step_by(7) {
                    file[chunk as usize].store(chunk + 1, Ordering::Relaxed);
                    set.insert(chunk);
                }
                for chunk in (0..CHUNKS).step_by(7) {
                    set.remove(chunk);
                    // As a system call does: nothing of it is visible before the count.
                    fence(Ordering::SeqCst);
                    file[chunk as usize].store(0, Ordering::Relaxed);
                }
            }
            is_over.store(true, Ordering::Relaxed);
            let good: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(good > 0);
        });
    }

    #[test]
    fn two_threads_that_insert_the_same_chunks_add_each_once() {
        let set = ChunkBitmap::new(10_000);
        let added: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| (0..10_000).filter(|&c| set.insert(c)).count() as u64))
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!((added, set.len()), (10_000, 10_000));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(chunks in 1u64..300, changes in prop::collection::vec((0u64..300, 0u8..4), 0..300), a in 0u64..310, b in 0u64..310) {
            let set = ChunkBitmap::new(chunks);
            let (mut model, mut removed) = (BTreeSet::new(), BTreeSet::new());
            for (chunk, kind) in changes {
                if kind == 0 {
                    prop_assert_eq!(set.remove(chunk), model.contains(&chunk));
                    removed.extend(model.take(&chunk));
                } else {
                    prop_assert_eq!(set.insert(chunk), chunk < chunks && model.insert(chunk));
                    removed.remove(&chunk);
                }
            }
            let listed: Vec<_> = (0..set.segments()).flat_map(|segment| set.in_segment(segment)).collect();
            prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
            let range = a.min(b)..a.max(b);
            prop_assert_eq!(set.next_missing(&range), range.clone().find(|c| !model.contains(c)));
            prop_assert_eq!(set.next_present(&range), range.clone().find(|c| model.contains(c)));
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!((0..310).all(|chunk| set.was_removed(chunk) == removed.contains(&chunk)));
        }
    }
}
