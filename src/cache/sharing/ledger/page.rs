//! The page: how the file `usage` is laid out, read and written.
//!
//! It is read and written by plain system calls and **never mapped into memory**. A page of a mapped file that can't be had
//! ends the process by SIGBUS: when somebody cuts the file off, on a file system that copies on write and is full, on one that
//! was shut down, in a file that may not be changed. A system call returns an error instead.
//!
//! It holds nothing but numbers, for which any bytes are a value; so whatever another process, or an older fetchfs, has left in it
//! can be read. A number is eight aligned bytes, which the kernel copies as a whole. So a look at the page takes no lock; a change
//! reads and writes it under [`COUNT_LOCK`].

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Index, IndexMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cache::sharing::locks::{Lock, lock, try_lock};

/// Processes that may use a cache folder at a time.
pub const SLOTS: usize = 64;

/// Bytes of the file.
pub const LEN: u64 = 4096;

/// Past the bytes themselves: what is locked there means a slot, joining, or a change of the page.
const SLOT_LOCKS: u64 = LEN;
pub const JOIN_LOCK: (u64, u64) = (LEN + SLOTS as u64, 1);
const COUNT_LOCK: (u64, u64) = (LEN + SLOTS as u64 + 1, 1);

/// How long another process may keep the page locked, which takes it microseconds: one that was stopped meanwhile must not
/// stop all others.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// Says that the page is laid out as this module has it.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ffsuse01");

/// Where a number stands in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(usize);

/// [`MAGIC`], when the page has been begun.
const BEGUN: Word = Word(0);
/// Bytes of data files, allocated or reserved.
pub const USED: Word = Word(1);
/// All bytes that ever came in: the logical clock.
pub const GROWN: Word = Word(2);
/// Bytes that went since the first one joined.
pub const FREED: Word = Word(3);
/// Bytes that the index takes.
pub const INDEX: Word = Word(4);
/// Bytes that the folders of data files take.
pub const FOLDERS: Word = Word(5);
/// What the clock was at the last audit; 0 if one is due.
pub const AUDITED: Word = Word(6);
/// Bytes: the size that all keep to.
pub const LIMIT: Word = Word(7);
/// Two numbers of 32 bits: one changes when a process needs room, the other when a process has made some.
const BELLS: Word = Word(8);

/// What stands in it of one process.
const SLOT: usize = 9;
const SLOT_WORDS: usize = 3;

const WORDS: usize = SLOT + SLOTS * SLOT_WORDS;
const BYTES: usize = WORDS * size_of::<u64>();
const _: () = assert!(BYTES as u64 <= LEN);

/// Bytes: the size that the process in a slot was told to keep to.
pub fn limit_of(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS)
}

/// Bytes that it has reserved and not settled.
pub fn reserved_by(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS + 1)
}

/// Its number, for messages; 0 if there is none.
pub fn process_in(slot: usize) -> Word {
    Word(SLOT + slot * SLOT_WORDS + 2)
}

/// What a process may tell all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// Room is wanted.
    Wanted,
    /// There may be room now.
    Relieved,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page([u64; WORDS]);

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
    /// With nothing in it.
    pub fn empty() -> Page {
        Page([0; WORDS])
    }

    /// The page of a file; an empty one if the file has none.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(file: &File) -> io::Result<Page> {
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

    /// Puts it into a file.
    ///
    /// # Errors
    /// What the system says; the file has the page that it had then.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        let words = bytes.as_chunks_mut().0;
        words
            .iter_mut()
            .zip(self.0)
            .for_each(|(bytes, word)| *bytes = word.to_ne_bytes());
        file.write_all_at(&bytes, 0)
    }

    /// Whether it is laid out as this module has it.
    pub fn is_begun(&self) -> bool {
        self[BEGUN] == MAGIC
    }

    /// From here on it is.
    pub fn begin(&mut self) {
        self[BEGUN] = MAGIC;
    }

    /// Adds to numbers, never below nothing: that would be next to infinity.
    pub fn add(&mut self, changes: impl IntoIterator<Item = (Word, i64)>) {
        for (word, by) in changes {
            self[word] = self[word].saturating_add_signed(by);
        }
    }

    /// Bytes that are allocated or reserved, all in all.
    pub fn total(&self) -> u64 {
        self[USED].saturating_add(self.beside_data())
    }

    /// Bytes of what is not a data file.
    pub fn beside_data(&self) -> u64 {
        self[INDEX].saturating_add(self[FOLDERS])
    }

    /// The number that changes when this bell is rung.
    pub fn rung(&self, bell: Bell) -> u32 {
        match bell {
            Bell::Wanted => self[BELLS] as u32,
            Bell::Relieved => (self[BELLS] >> 32) as u32,
        }
    }

    /// Rings it.
    pub fn ring(&mut self, bell: Bell) {
        let [wanted, relieved] =
            [Bell::Wanted, Bell::Relieved].map(|one| self.rung(one).wrapping_add((one == bell).into()));
        self[BELLS] = u64::from(relieved) << 32 | u64::from(wanted);
    }
}

/// The byte that the holder of a slot has locked.
pub fn slot_lock(slot: usize) -> (u64, u64) {
    (SLOT_LOCKS + slot as u64, 1)
}

/// The file, locked for joining.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path) -> io::Result<File> {
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

/// The right to change the page, in this process and in all others. Dropped, it is given back.
pub struct Changing<'a>(&'a File);

impl<'a> Changing<'a> {
    /// Waits until all others have given it back.
    ///
    /// # Errors
    /// When there are no locks, or another process has kept it for a second.
    pub fn begin(file: &'a File) -> io::Result<Changing<'a>> {
        let deadline = Instant::now() + PATIENCE;
        while !try_lock(file, COUNT_LOCK, Lock::Exclusive)? {
            if Instant::now() >= deadline {
                let kept = "another process keeps the count of what is used locked";
                return Err(io::Error::new(io::ErrorKind::TimedOut, kept));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Changing(file))
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // If it fails it goes with the file.
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
