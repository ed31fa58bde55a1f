//! Chunks that are recorded and may not be what was recorded: verified by their checksum before they count as present.
//!
//! A chunk becomes suspect when its entry is opened: the machine went down since it was recorded
//! ([`crate::cache::index`]), the data file is another one than was filled, or there is a hole where it should be. It is
//! **not present** until it was verified, so no reader sees it, and the fetch that is started for it looks at the data
//! file before it asks the server.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;

/// The suspect chunks of an entry, with the checksums that were recorded.
#[derive(Debug, Default)]
pub struct Unverified {
    /// Held for moments; nothing is taken under it.
    chunks: Mutex<BTreeMap<u64, u64>>,
}

impl Unverified {
    /// These chunks, with their checksums.
    pub fn new(chunks: impl IntoIterator<Item = (u64, u64)>) -> Unverified {
        Unverified {
            chunks: Mutex::new(chunks.into_iter().collect()),
        }
    }

    /// Whether there is none (any more).
    pub fn is_empty(&self) -> bool {
        self.chunks.lock().is_empty()
    }

    /// The recorded checksum of a chunk that is suspect.
    pub fn checksum(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().get(&chunk).copied()
    }

    /// Whether this chunk is suspect.
    pub fn contains(&self, chunk: u64) -> bool {
        self.chunks.lock().contains_key(&chunk)
    }

    /// The first suspect chunk from this one on.
    pub fn next_from(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().range(chunk..).next().map(|(&chunk, _)| chunk)
    }

    /// Those of these chunks that are suspect.
    pub fn within(&self, chunks: Range<u64>) -> Vec<u64> {
        self.chunks.lock().range(chunks).map(|(&chunk, _)| chunk).collect()
    }

    /// The chunk is about to go, and its record with it. Its checksum, if it was suspect.
    pub fn take(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().remove(&chunk)
    }

    /// The chunk that was [taken](Self::take) does not go after all.
    pub fn put_back(&self, chunk: u64, checksum: u64) {
        self.chunks.lock().insert(chunk, checksum);
    }

    /// The chunk is known to be good, or is not recorded any more. **To be called after that was recorded.** True if it
    /// was the last one: all that is recorded of the entry can be trusted again.
    pub fn clear(&self, chunk: u64) -> bool {
        let mut chunks = self.chunks.lock();
        chunks.remove(&chunk).is_some() && chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_is_cleared_is_told() {
        let unverified = Unverified::new([(3, 30), (7, 70)]);
        assert_eq!((unverified.next_from(4), unverified.checksum(7)), (Some(7), Some(70)));
        assert!(!unverified.clear(7) && !unverified.clear(7) && !unverified.clear(5));
        assert!(unverified.clear(3) && unverified.is_empty());
        assert!(!unverified.clear(3), "told once");
    }
}
