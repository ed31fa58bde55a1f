//! The check of a cached file against the published hash of the whole: its state, shared by all entries of the version.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use url::Url;

use super::contributors::Contributors;
use crate::origin::Hash;

/// Set when the bytes of a version were found to contradict the published hash. **What was shown until then is not the
/// file**: open handles of it get errors, and opening it again shows other bytes under another inode number.
#[derive(Debug, Clone, Default)]
pub struct Rejected(Arc<AtomicBool>);

impl Rejected {
    /// Returns true if it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets it.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The state of a cached file's check.
#[derive(Debug, Default)]
pub(crate) struct FileCheck {
    /// Held for moments; no other lock is taken under it.
    state: Mutex<State>,
    /// The hash that the server gives of the version in its responses.
    digest: OnceLock<Hash>,
}

#[derive(Debug, Default)]
struct State {
    contributors: Contributors,
    /// The last result, or what is under way.
    stage: Stage,
    /// The marks of the open entries.
    shown: Vec<Weak<AtomicBool>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Unchecked,
    /// It is queued, or its bytes are being read.
    UnderWay,
    /// All chunks had this hash, when so many of them had been [lost](crate::cache::entry::chunk_bitmap::ChunkBitmap::losses).
    /// What is lost is fetched again, and may differ.
    Good { hash: Hash, losses: u64 },
    /// No hash was found to compare them with, or one that is not enforced was.
    Open { losses: u64 },
}

impl FileCheck {
    /// For a file of which some bytes are there already, or none.
    pub(crate) fn new(has_bytes: bool) -> FileCheck {
        let check = FileCheck::default();
        if has_bytes {
            check.note_unknown();
        }
        check
    }

    /// The server gives this hash of the version.
    pub(crate) fn note_digest(&self, hash: Hash) {
        // The first one counts. Servers that give several are found out before (`origin::digests`).
        let _ = self.digest.set(hash);
    }

    /// The hash that the server gives of the version.
    pub(crate) fn digest(&self) -> Option<&Hash> {
        self.digest.get()
    }

    /// Bytes come from this URL.
    pub(crate) fn note_contributor(&self, url: &Url) {
        self.state.lock().contributors.note(url);
    }

    /// Another process has fetched bytes.
    pub(crate) fn note_unknown(&self) {
        self.state.lock().contributors.note_unknown();
    }

    /// The mark for an entry that is about to show the file's bytes.
    pub(crate) fn shown(&self) -> Rejected {
        let mark = Rejected::default();
        let mut state = self.state.lock();
        state.shown.retain(|shown| shown.strong_count() > 0);
        state.shown.push(Arc::downgrade(&mark.0));
        mark
    }

    /// Returns true if the bytes have this hash, as far as `losses` losses.
    pub(crate) fn is_good(&self, hash: &Hash, losses: u64) -> bool {
        matches!(&self.state.lock().stage, Stage::Good { hash: good, losses: then } if good == hash && *then == losses)
    }

    /// Begins a check, unless one is under way or the result is known. Returns false then.
    /// `hash` is the published one; without one, checksum files are asked.
    pub(super) fn begin(&self, hash: Option<&Hash>, losses: u64) -> bool {
        let mut state = self.state.lock();
        let is_needed = match &state.stage {
            Stage::Unchecked => true,
            Stage::UnderWay => false,
            Stage::Good {
                hash: good,
                losses: then,
            } => *then != losses || hash.is_some_and(|hash| good != hash),
            Stage::Open { losses: then } => *then != losses || hash.is_some(),
        };
        if is_needed {
            state.stage = Stage::UnderWay;
        }
        is_needed
    }

    /// The check could not be carried out: it may begin again.
    pub(super) fn cancel(&self) {
        self.state.lock().stage = Stage::Unchecked;
    }

    /// Nothing follows from what was found.
    pub(super) fn note_open(&self, losses: u64) {
        self.state.lock().stage = Stage::Open { losses };
    }

    /// The bytes have this hash.
    pub(super) fn note_good(&self, hash: Hash, losses: u64) {
        self.state.lock().stage = Stage::Good { hash, losses };
    }

    /// The bytes are wrong: marks all entries that have shown them. Returns where they came from, and forgets it.
    pub(super) fn reject(&self) -> Contributors {
        let mut state = self.state.lock();
        state.stage = Stage::Unchecked;
        for shown in state.shown.drain(..) {
            shown.upgrade().into_iter().for_each(|mark| Rejected(mark).set());
        }
        std::mem::take(&mut state.contributors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::HashAlgorithm;

    #[test]
    fn result_lasts_until_a_chunk_is_lost() {
        let hash = |byte: u8| Hash::new(HashAlgorithm::Md5, &[byte; 16]).unwrap();
        let check = FileCheck::new(false);
        assert!(check.begin(Some(&hash(1)), 0) && !check.begin(Some(&hash(1)), 0));
        check.note_good(hash(1), 0);
        assert!(check.is_good(&hash(1), 0) && !check.begin(Some(&hash(1)), 0));
        assert!(!check.is_good(&hash(2), 0) && !check.is_good(&hash(1), 2));
        assert!(check.begin(Some(&hash(1)), 2));
        check.cancel();
        assert!(check.begin(None, 2));
        check.note_open(2);
        assert!(!check.begin(None, 2) && check.begin(Some(&hash(1)), 2));
    }

    #[test]
    fn rejection_marks_what_was_shown_before() {
        let check = FileCheck::new(true);
        let (before, gone) = (check.shown(), check.shown());
        drop(gone);
        assert_eq!(check.reject().known(), None);
        let after = check.shown();
        assert!(before.is_set() && !after.is_set());
        check.note_contributor(&Url::parse("http://a/f").unwrap());
        assert_eq!(check.reject().known().map(<[_]>::len), Some(1));
        assert!(after.is_set());
    }
}
