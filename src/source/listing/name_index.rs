//! Finds the entry with a name while a listing is collected, so that each name is in it once.
//!
//! The names themselves are in the [`Entries`].

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Entries, Name};

/// Finds entries by the hashes of their names.
#[derive(Debug)]
pub(in crate::source) struct NameIndex {
    /// Random, so that no server can choose names with one hash.
    seed: u64,
    /// The index of each entry, by the hash of its name, or by the next free number after a collision.
    by_hash: HashMap<u64, u32>,
}

impl NameIndex {
    /// An empty index.
    pub(in crate::source) fn new() -> NameIndex {
        NameIndex {
            seed: fastrand::u64(..),
            by_hash: HashMap::new(),
        }
    }

    /// The index of the entry with this name, or else the free key for it.
    pub(in crate::source) fn find(&self, name: &Name, entries: &Entries) -> Result<usize, u64> {
        let mut hash = xxh3_64_with_seed(name.as_bytes(), self.seed);
        loop {
            match self.by_hash.get(&hash) {
                None => return Err(hash),
                Some(&index) if entries.name(index as usize) == name.as_os_str() => return Ok(index as usize),
                Some(_) => hash = hash.wrapping_add(1),
            }
        }
    }

    /// Adds the entry at `index` under the free key that [`Self::find`] gave.
    pub(in crate::source) fn insert(&mut self, key: u64, index: usize) {
        // A listing has fewer entries than a u32 can count.
        self.by_hash.insert(key, index as u32);
    }
}
