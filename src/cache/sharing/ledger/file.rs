//! The file `usage`, which holds the page of all processes: how it is read, written and locked.
//!
//! It is read and written by plain system calls and **never mapped into memory**. If a page of a mapped file can't be
//! provided, SIGBUS ends the process. That happens when another program truncates the file, on a full copy-on-write file
//! system, on one that was shut down, or in an immutable file. A system call returns an error instead.
//!
//! A number is eight aligned bytes, which the kernel copies as a whole. So reading takes no lock; a change reads and
//! writes the page under [`COUNT_LOCK`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cache::sharing::locks::{Lock, lock, try_lock};
use crate::cache::sharing::page::{BYTES, Page, SLOTS};

/// Length of the file in bytes.
const LEN: u64 = 4096;
const _: () = assert!(BYTES as u64 <= LEN);

/// Lock offsets past the end of the file: each stands for a slot, for joining, or for a change of
/// the page.
const SLOT_LOCKS: u64 = LEN;
pub(super) const JOIN_LOCK: (u64, u64) = (LEN + SLOTS as u64, 1);
const COUNT_LOCK: (u64, u64) = (LEN + SLOTS as u64 + 1, 1);

/// Maximum wait for another process's lock on the page, which is normally held for microseconds: a
/// stopped process must not block all others.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// The page of a file; an empty one if the file has none.
///
/// # Errors
/// Any error of the system.
pub(super) fn read(file: &File) -> io::Result<Page> {
    let mut bytes = [0; BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Page::empty()),
        read => read.map(|()| Page::from_bytes(&bytes)),
    }
}

/// Writes a page to a file.
///
/// # Errors
/// Any error of the system; the file keeps its previous page.
pub(super) fn write(page: &Page, file: &File) -> io::Result<()> {
    file.write_all_at(&page.to_bytes(), 0)
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
    fn truncated_page_is_read_as_an_empty_one() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(&file).unwrap(), Page::empty());
        let mut page = Page::empty();
        page.begin();
        write(&page, &file).unwrap();
        assert_eq!(read(&file).unwrap(), page);
        file.set_len(100).unwrap();
        assert!(!read(&file).unwrap().is_begun());
    }
}
