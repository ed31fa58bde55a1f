//! Doubtful entries: records of them should have been deleted, and that was lost because SQLite
//! failed.
//!
//! **The records of such an entry stay unverified for as long as this process records**; the next
//! process verifies them. No later record may say otherwise. This process may have verified
//! everything else of the entry and trust it, but what it has deleted is still recorded.

use std::borrow::Cow;
use std::collections::HashSet;

use super::record::Record;
use crate::cache::key::EntryKey;

/// The doubtful entries of this process.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    entries: HashSet<EntryKey>,
    /// Those not yet marked in the tables.
    untold: Vec<EntryKey>,
}

impl Doubts {
    /// The records to commit in place of a batch.
    pub(crate) fn apply<'a>(&self, batch: &'a [Record]) -> Cow<'a, [Record]> {
        if self.entries.is_empty() {
            return Cow::Borrowed(batch);
        }
        let told = self.untold.iter().map(|key| Record::Doubt { key: key.clone() });
        let rest = batch.iter().filter_map(|record| match record {
            Record::Trust { key } if self.entries.contains(key) => None,
            Record::Entry { row, .. } if self.entries.contains(&row.key) => {
                let mut entry = record.clone();
                if let Record::Entry { is_suspect, .. } = &mut entry {
                    *is_suspect = true;
                }
                Some(entry)
            }
            other => Some(other.clone()),
        });
        Cow::Owned(told.chain(rest).collect())
    }

    /// Called when a batch was committed, or lost.
    pub(crate) fn note(&mut self, batch: &[Record], is_committed: bool) {
        if is_committed {
            self.untold.clear();
        }
        for record in batch {
            match record {
                // All records of an entry are deleted with it.
                Record::Forget { key } if is_committed => drop(self.entries.remove(key)),
                Record::Forget { key } | Record::ForgetChunks { key, .. }
                    if !is_committed && self.entries.insert(key.clone()) =>
                {
                    self.untold.push(key.clone());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeleted_chunk_is_untrusted_until_its_entry_is_gone() {
        let key = EntryKey::for_tests(1);
        let trust = [Record::Trust { key: key.clone() }];
        let mut doubts = Doubts::default();
        doubts.note(&trust, false);
        assert!(matches!(doubts.apply(&trust)[..], [Record::Trust { .. }]));
        let chunks = vec![7];
        doubts.note(
            &[Record::ForgetChunks {
                key: key.clone(),
                chunks,
            }],
            false,
        );
        assert!(matches!(doubts.apply(&trust)[..], [Record::Doubt { .. }]));
        doubts.note(&trust, true);
        assert!(doubts.apply(&trust).is_empty(), "it is told once");
        doubts.note(&[Record::Forget { key }], true);
        assert!(matches!(doubts.apply(&trust)[..], [Record::Trust { .. }]));
    }
}
