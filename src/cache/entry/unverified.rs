//! Unverified chunks: recorded chunks whose bytes may be wrong. Their checksum is verified before
//! they count as present.
//!
//! A chunk becomes unverified when its entry is opened, for one of these reasons:
//!
//! - the machine went down since it was recorded ([`crate::cache::index`]);
//! - the data file is not the one that was filled;
//! - there is a hole where the chunk should be.
//!
//! It is **not present** until it was verified, so no reader sees it. The fetch that is started for
//! it reads the data file before it asks the server.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;

/// The unverified chunks of an entry, with the recorded checksums.
#[derive(Debug, Default)]
pub struct Unverified {
    /// Held for moments; no other lock is taken under it.
    chunks: Mutex<BTreeMap<u64, u64>>,
}

impl Unverified {
    /// These chunks, with their checksums.
    pub fn new(chunks: impl IntoIterator<Item = (u64, u64)>) -> Unverified {
        Unverified {
            chunks: Mutex::new(chunks.into_iter().collect()),
        }
    }

    /// Returns true if there is none (any more).
    pub fn is_empty(&self) -> bool {
        self.chunks.lock().is_empty()
    }

    /// The recorded checksum of an unverified chunk.
    pub fn checksum(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().get(&chunk).copied()
    }

    /// Returns true if this chunk is unverified.
    pub fn contains(&self, chunk: u64) -> bool {
        self.chunks.lock().contains_key(&chunk)
    }

    /// The first unverified chunk from this one on.
    pub fn next_from(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().range(chunk..).next().map(|(&chunk, _)| chunk)
    }

    /// The unverified ones of these chunks.
    pub fn within(&self, chunks: Range<u64>) -> Vec<u64> {
        self.chunks.lock().range(chunks).map(|(&chunk, _)| chunk).collect()
    }

    /// Removes a chunk that is about to be evicted with its record. Returns its checksum, if it was
    /// unverified.
    pub fn take(&self, chunk: u64) -> Option<u64> {
        self.chunks.lock().remove(&chunk)
    }

    /// A chunk that was [taken](Self::take) is not evicted after all.
    pub fn put_back(&self, chunk: u64, checksum: u64) {
        self.chunks.lock().insert(chunk, checksum);
    }

    /// The chunk is verified, or not recorded any more. **Call it after that was recorded.**
    /// Returns true if it was the last one: all records of the entry can be trusted again.
    pub fn clear(&self, chunk: u64) -> bool {
        let mut chunks = self.chunks.lock();
        chunks.remove(&chunk).is_some() && chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_the_last_one_is_reported() {
        let unverified = Unverified::new([(3, 30), (7, 70)]);
        assert_eq!((unverified.next_from(4), unverified.checksum(7)), (Some(7), Some(70)));
        assert!(!unverified.clear(7) && !unverified.clear(7) && !unverified.clear(5));
        assert!(unverified.clear(3) && unverified.is_empty());
        assert!(!unverified.clear(3), "told once");
    }
}
