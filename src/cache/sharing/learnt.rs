//! Learning what other processes have fetched of a file: which of its rows in the index were already read.
//!
//! Several processes fill a data file together, and each records in the index what it has completed. Before missing
//! chunks are fetched, a process that is not alone reads their rows (`VersionStore::learn`). It reads them once for each
//! version of the index.

use std::ops::Range;

use rangemap::RangeSet;

/// The rows of one file that were read.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// The version of the index at that time; it is current while the index is unchanged.
    version: Option<i64>,
    /// The chunks whose rows were read as of that version.
    chunks: RangeSet<u64>,
}

impl Learnt {
    /// Those of the chunks whose rows were not read yet, as of this version of the index.
    pub(crate) fn unread(&self, version: i64, chunks: &Range<u64>) -> Vec<Range<u64>> {
        if self.version == Some(version) {
            self.chunks.gaps(chunks).collect()
        } else {
            vec![chunks.clone()]
        }
    }

    /// Notes that these rows were read, as of this version of the index or a later one.
    pub(crate) fn note(&mut self, version: i64, chunks: Range<u64>) {
        if self.version != Some(version) {
            *self = Learnt {
                version: Some(version),
                chunks: RangeSet::new(),
            };
        }
        if !chunks.is_empty() {
            self.chunks.insert(chunks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_once_for_each_index_version() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.unread(7, &(0..10)), std::slice::from_ref(&(0..10)));
        learnt.note(7, 2..4);
        learnt.note(7, 5..5);
        assert_eq!(learnt.unread(7, &(0..10)), [0..2, 4..10]);
        assert_eq!(learnt.unread(8, &(3..4)), std::slice::from_ref(&(3..4)));
        learnt.note(8, 3..4);
        assert_eq!(
            learnt.unread(8, &(0..10)),
            [0..3, 4..10],
            "what was read before is outdated"
        );
    }
}
