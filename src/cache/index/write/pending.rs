//! The queued records, by subject: a query about another subject need not wait for their commit.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::record::Record;
use crate::cache::key::UrlKey;

impl Record {
    /// The subjects that it changes: the key of an entry, the key of a URL.
    fn subjects(&self) -> [Option<&str>; 2] {
        match self {
            Record::Entry { row, url_key, .. } => [Some(row.key.as_str()), Some(url_key.as_str())],
            Record::Chunk { key, .. }
            | Record::Recount { key }
            | Record::Trust { key }
            | Record::Doubt { key }
            | Record::Verified { key, .. }
            | Record::Published { key, .. }
            | Record::ForgetChunks { key, .. }
            | Record::Use { key, .. }
            | Record::Forget { key } => [Some(key.as_str()), None],
            Record::CatalogUpdate(saying) => [None, saying.url_key().map(UrlKey::as_str)],
            Record::Job(_) | Record::JobDone { .. } | Record::Pin(_) | Record::Unpin { .. } => [None, None],
        }
    }
}

/// Number of queued records by subject. Locked for the moment of a look-up; no other lock is taken
/// under it.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<String, usize>>);

impl Pending {
    /// A record is about to be queued.
    pub(crate) fn add(&self, record: &Record) {
        let mut pending = self.0.lock();
        for subject in record.subjects().into_iter().flatten() {
            *pending.entry(subject.to_owned()).or_default() += 1;
        }
    }

    /// These records are committed, or lost.
    pub(crate) fn remove(&self, batch: &[Record]) {
        let mut pending = self.0.lock();
        for subject in batch.iter().flat_map(Record::subjects).flatten() {
            if let Some(count) = pending.get_mut(subject) {
                *count -= 1;
                if *count == 0 {
                    pending.remove(subject);
                }
            }
        }
    }

    /// Returns true if anything is queued of this entry or URL.
    pub(crate) fn has(&self, subject: &str) -> bool {
        self.0.lock().contains_key(subject)
    }
}
