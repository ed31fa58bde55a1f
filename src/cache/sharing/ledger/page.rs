//! The page: the layout of the file `usage`, and how it is read and written.
//!
//! It is read and written by plain system calls and **never mapped into memory**. If a page of a
//! mapped file can't be provided, SIGBUS ends the process. That happens when another program
//! truncates the file, on a full copy-on-write file system, on one that was shut down, or in an
//! immutable file. A system call returns an error instead.
//!
//! The page holds only numbers, for which any bytes are valid. So the page of another process or an
//! older fetchfs can always be read. A number is eight aligned bytes, which the kernel copies as a
//! whole. So reading takes no lock; a change reads and writes the page under [`COUNT_LOCK`].

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Index, IndexMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cache::sharing::locks::{Lock, lock, try_lock};

/// Maximum number of processes that use a cache directory at a time.
pub(super) const SLOTS: usize = 64;

/// Length of the file in bytes.
pub(super) const LEN: u64 = 4096;

/// Lock offsets past the end of the file: each stands for a slot, for joining, or for a change of
/// the page.
const SLOT_LOCKS: u64 = LEN;
pub(super) const JOIN_LOCK: (u64, u64) = (LEN + SLOTS as u64, 1);
const COUNT_LOCK: (u64, u64) = (LEN + SLOTS as u64 + 1, 1);

/// Maximum wait for another process's lock on the page, which is normally held for microseconds: a
/// stopped process must not block all others.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_micros(50);

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
const BYTES: usize = WORDS * size_of::<u64>();
const _: () = assert!(BYTES as u64 <= LEN);

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

/// A notification to all other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bell {
    /// Space is wanted.
    Wanted,
    /// Space may be available now.
    Relieved,
}

/// The numbers of the file `usage`.
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

    /// The page of a file; an empty one if the file has none.
    ///
    /// # Errors
    /// Any error of the system.
    pub(super) fn read(file: &File) -> io::Result<Page> {
        let (mut bytes, mut page) = ([0; BYTES], Page::empty());
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(page),
            read => read?,
        }
        let words = bytes.as_chunks().0;
        page.0
            .iter_mut()
            .zip(words)
            .for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
        Ok(page)
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// Any error of the system; the file keeps its previous page.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        let words = bytes.as_chunks_mut().0;
        words
            .iter_mut()
            .zip(self.0)
            .for_each(|(bytes, word)| *bytes = word.to_ne_bytes());
        file.write_all_at(&bytes, 0)
    }

    /// Returns true if it has the layout of this module.
    pub(super) fn is_begun(&self) -> bool {
        self[BEGUN] == MAGIC
    }

    /// Marks it as having the layout of this module.
    pub(super) fn begin(&mut self) {
        self[BEGUN] = MAGIC;
    }

    /// Adds to numbers, never below zero: that would wrap around to a huge number.
    pub(super) fn add(&mut self, changes: impl IntoIterator<Item = (Word, i64)>) {
        for (word, by) in changes {
            self[word] = self[word].saturating_add_signed(by);
        }
    }

    /// Bytes allocated or reserved in total.
    pub(super) fn total(&self) -> u64 {
        self[USED].saturating_add(self.beside_data())
    }

    /// Bytes of everything but data files.
    pub(super) fn beside_data(&self) -> u64 {
        self[INDEX].saturating_add(self[FOLDERS])
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

/// The byte that the holder of a slot has locked.
pub(super) fn slot_lock(slot: usize) -> (u64, u64) {
    (SLOT_LOCKS + slot as u64, 1)
}

/// The file, locked for joining.
///
/// # Errors
/// Any error of the system.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    lock(&file, JOIN_LOCK, Lock::Exclusive)?;
    if file.metadata()?.len() < LEN {
        file.set_len(LEN)?;
    }
    Ok(file)
}

/// The lock for changing the page, in this process and in all others. Released on drop.
pub(super) struct Changing<'a>(&'a File);

impl<'a> Changing<'a> {
    /// Waits until all others have released it.
    ///
    /// # Errors
    /// If there are no locks, or another process has held it for a second.
    pub(super) fn begin(file: &'a File) -> io::Result<Changing<'a>> {
        let deadline = Instant::now() + PATIENCE;
        while !try_lock(file, COUNT_LOCK, Lock::Exclusive)? {
            if Instant::now() >= deadline {
                let kept = "another process holds the lock of the usage count";
                return Err(io::Error::new(io::ErrorKind::TimedOut, kept));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Changing(file))
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // If this fails, the lock ends with the file.
        let _ = try_lock(self.0, COUNT_LOCK, Lock::None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_as_it_was_written_and_a_cut_one_is_empty() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Page::read(&file).unwrap(), Page::empty());
        let mut page = Page::empty();
        page.begin();
        page[process_in(SLOTS - 1)] = 77;
        page.write(&file).unwrap();
        assert_eq!(Page::read(&file).unwrap(), page);
        file.set_len(100).unwrap();
        assert!(!Page::read(&file).unwrap().is_begun());
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
