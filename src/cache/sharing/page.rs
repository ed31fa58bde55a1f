//! The page: the counters of a cache directory, and what is done to them. Pure: no I/O, no lock.
//!
//! The [`ledger`](super::ledger) keeps it in a file for all processes, [`Alone`](super::alone::Alone) in memory for one.
//! The page holds only numbers, for which any bytes are valid. So the page of another process or an older fetchfs can
//! always be read.

use std::ops::{Index, IndexMut};

use super::peers::{Bell, Overhead, Space};

/// Maximum number of processes that use a cache directory at a time.
pub(super) const SLOTS: usize = 64;

/// Identifies the layout of this module.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"ffsuse01");

/// The place of a number in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word(usize);

/// [`MAGIC`], once the page is initialised.
const BEGUN: Word = Word(0);
/// Bytes of data files, allocated or reserved.
pub(super) const USED: Word = Word(1);
/// Total bytes ever added: the logical clock.
pub(super) const GROWN: Word = Word(2);
/// Bytes freed since the first process joined.
pub(super) const FREED: Word = Word(3);
/// Bytes of the index.
pub(super) const INDEX: Word = Word(4);
/// Bytes of the directories of data files.
pub(super) const FOLDERS: Word = Word(5);
/// The clock at the last audit; 0 if one is due.
pub(super) const AUDITED: Word = Word(6);
/// The size limit in bytes that applies to all processes.
pub(super) const LIMIT: Word = Word(7);
/// Two counters of 32 bits: one changes when a process needs space, the other when one has freed
/// some.
const BELLS: Word = Word(8);

/// First word and number of words of the slots.
const SLOT: usize = 9;
const SLOT_WORDS: usize = 3;

const WORDS: usize = SLOT + SLOTS * SLOT_WORDS;

/// Length of the page in bytes.
pub(super) const BYTES: usize = WORDS * size_of::<u64>();

/// The configured size of the process in a slot, in bytes.
pub(super) fn limit_of(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS)
}

/// Bytes that it has reserved and not settled.
pub(super) fn reserved_by(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS + 1)
}

/// Its pid, for messages; 0 if there is none.
pub(super) fn process_in(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS + 2)
}

/// The counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page([u64; WORDS]);

impl Index<Word> for Page {
    type Output = u64;

    fn index(&self, word: Word) -> &u64 {
        &self.0[word.0]
    }
}

impl IndexMut<Word> for Page {
    fn index_mut(&mut self, word: Word) -> &mut u64 {
        &mut self.0[word.0]
    }
}

impl Page {
    /// All zeros.
    pub(super) fn empty() -> Page {
        Page([0; WORDS])
    }

    /// The page in these bytes.
    pub(super) fn from_bytes(bytes: &[u8; BYTES]) -> Page {
        let mut page = Page::empty();
        let words = bytes.as_chunks().0;
        page.0
            .iter_mut()
            .zip(words)
            .for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
        page
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let words = bytes.as_chunks_mut().0;
        words
            .iter_mut()
            .zip(self.0)
            .for_each(|(bytes, word)| *bytes = word.to_ne_bytes());
        bytes
    }

    /// Returns true if it has the layout of this module.
    pub(super) fn is_begun(&self) -> bool {
        self[BEGUN] == MAGIC
    }

    /// Marks it as having the layout of this module.
    pub(super) fn begin(&mut self) {
        self[BEGUN] = MAGIC;
    }

    /// The first of the present processes joins: the reservations of dead ones are dropped. The index has `recorded` bytes.
    pub(super) fn begin_anew(&mut self, recorded: u64) {
        if !self.is_begun() {
            *self = Page::empty();
            self.begin();
        }
        self[USED] = self.used_without_reservations().max(recorded);
        self[GROWN] = self[GROWN].max(recorded);
        (0..SLOTS).for_each(|slot| self[reserved_by(slot)] = 0);
        for word in [FREED, AUDITED, INDEX] {
            self[word] = 0;
        }
    }

    /// Bytes of the data files without all reservations.
    pub(super) fn used_without_reservations(&self) -> u64 {
        let reserved = (0..SLOTS).map(|slot| self[reserved_by(slot)]);
        self[USED].saturating_sub(reserved.fold(0, u64::saturating_add))
    }

    /// Sets the limit to the smallest configured size of these slots.
    pub(super) fn agree_on_limit(&mut self, living: &[usize]) {
        let limits = living.iter().map(|&slot| self[limit_of(slot)]);
        self[LIMIT] = limits.min().unwrap_or(0);
    }

    /// Adds to numbers, never below zero: that would wrap around to a huge number.
    pub(super) fn add(&mut self, changes: impl IntoIterator<Item = (Word, i64)>) {
        for (word, by) in changes {
            self[word] = self[word].saturating_add_signed(by);
        }
    }

    /// The space in use, of which `reserved` bytes are reserved.
    pub(super) fn space(&self, reserved: u64) -> Space {
        Space {
            limit: self[LIMIT],
            used: self[USED],
            reserved,
            index: self[INDEX],
            directories: self[FOLDERS],
            clock: self[GROWN],
            freed: self[FREED],
        }
    }

    /// Reserves `bytes` for the process in `slot`, if the total then is `most` or below.
    pub(super) fn try_reserve(&mut self, slot: usize, bytes: u64, most: u64) -> bool {
        let fits = self.space(0).total().saturating_add(bytes) <= most;
        if fits {
            let bytes = bytes.cast_signed();
            self.add([(USED, bytes), (GROWN, bytes), (reserved_by(slot), bytes)]);
        }
        fits
    }

    /// Sets or adds what the cache takes beside its data files.
    pub(super) fn note_overhead(&mut self, overhead: Overhead) {
        match overhead {
            Overhead::Index(bytes) => self[INDEX] = bytes,
            Overhead::Directories(bytes) => self[FOLDERS] = bytes,
            Overhead::NewDirectory(bytes) => self.add([(FOLDERS, bytes.cast_signed())]),
        }
    }

    /// Claims the audit that is due once `every` bytes were added since the last one.
    pub(super) fn claim_audit(&mut self, every: u64) -> bool {
        let (last, now) = (self[AUDITED], self[GROWN].max(1));
        let is_due = last == 0 || now.saturating_sub(last) >= every;
        if is_due {
            self[AUDITED] = now;
        }
        is_due
    }

    /// Makes an audit due.
    pub(super) fn demand_audit(&mut self) {
        self[AUDITED] = 0;
    }

    /// The counter of this bell.
    pub(super) fn rung(&self, bell: Bell) -> u32 {
        match bell {
            Bell::Wanted => self[BELLS] as u32,
            Bell::Relieved => (self[BELLS] >> 32) as u32,
        }
    }

    /// Rings it.
    pub(super) fn ring(&mut self, bell: Bell) {
        let [wanted, relieved] =
            [Bell::Wanted, Bell::Relieved].map(|one| self.rung(one).wrapping_add((one == bell).into()));
        self[BELLS] = u64::from(relieved) << 32 | u64::from(wanted);
    }
}

/// The changes when the process in `slot` ends a reservation of `reserved` bytes, after which data files have grown by
/// `grown`.
pub(super) fn settling(slot: usize, reserved: u64, grown: i64) -> [(Word, i64); 3] {
    let change = grown.saturating_sub_unsigned(reserved);
    [
        (USED, change),
        (FREED, change.min(0).saturating_neg()),
        (reserved_by(slot), 0_i64.saturating_sub_unsigned(reserved)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_comes_back_from_its_bytes() {
        let mut page = Page::empty();
        page.begin();
        page[process_in(SLOTS - 1)] = 77;
        assert_eq!(Page::from_bytes(&page.to_bytes()), page);
    }

    #[test]
    fn each_bell_is_rung_by_itself() {
        let mut page = Page::empty();
        page[BELLS] = u64::MAX;
        page.ring(Bell::Wanted);
        assert_eq!((page.rung(Bell::Wanted), page.rung(Bell::Relieved)), (0, u32::MAX));
        page.ring(Bell::Relieved);
        assert_eq!((page.rung(Bell::Wanted), page.rung(Bell::Relieved)), (0, 0));
    }
}
