//! The system calls of data files, behind a trait: tests replace them by a failing or different
//! disk.

use std::fmt::Debug;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::pwritev;

/// The unit of `st_blocks` (stat(2)), in bytes.
pub(crate) const STAT_BLOCK: u64 = 512;

/// Bytes of a file or directory on the disk.
pub(crate) fn taken_by(metadata: &Metadata) -> u64 {
    metadata.blocks() * STAT_BLOCK
}

/// Reads and writes at an offset, as pread(2) and pwritev(2) do, possibly of fewer bytes than
/// requested; and the calls for sparse files.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Reads into `buf`; 0 bytes at the end of the file.
    ///
    /// # Errors
    /// Any error of the system.
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes from `pieces`, one after the other.
    ///
    /// # Errors
    /// Any error of the system.
    fn write_at(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Sets the file's length; an extension is a hole.
    ///
    /// # Errors
    /// Any error of the system.
    fn set_len(&self, file: &File, size: u64) -> io::Result<()>;

    /// Punches a hole at these bytes.
    ///
    /// # Errors
    /// Any error of the system; `Unsupported` if it can't.
    fn punch(&self, file: &File, bytes: &Range<u64>) -> io::Result<()>;
}

/// The real system calls.
#[derive(Debug)]
pub(crate) struct System;

impl Disk for System {
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    fn write_at(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(pwritev(file, pieces, offset)?)
    }

    fn set_len(&self, file: &File, size: u64) -> io::Result<()> {
        file.set_len(size)
    }

    fn punch(&self, file: &File, bytes: &Range<u64>) -> io::Result<()> {
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Both fit: they are offsets in a file.
        let (start, len) = (bytes.start as libc::off_t, (bytes.end - bytes.start) as libc::off_t);
        Ok(fallocate(file, mode, start, len)?)
    }
}

/// A disk that fails when the test says so.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FaultyDisk {
    faults: parking_lot::Mutex<Faults>,
}

#[cfg(test)]
#[derive(Default)]
struct Faults {
    reads: std::collections::VecDeque<i32>,
    writes: std::collections::VecDeque<WriteFault>,
    punches: std::collections::VecDeque<i32>,
    /// The errno of every `set_len`.
    set_len: Option<i32>,
    after_read: Option<Box<dyn FnOnce() + Send>>,
}

#[cfg(test)]
impl Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// The way in which one write fails.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) enum WriteFault {
    /// With this errno.
    Errno(i32),
    /// Writes only this many bytes, without an error.
    Short(usize),
}

#[cfg(test)]
impl FaultyDisk {
    /// Makes the next `times` reads fail with this errno.
    pub(crate) fn fail_reads(&self, times: usize, errno: i32) {
        self.faults.lock().reads.extend(std::iter::repeat_n(errno, times));
    }

    /// Makes the next writes fail in this way, one after the other.
    pub(crate) fn fail_writes(&self, faults: impl IntoIterator<Item = WriteFault>) {
        self.faults.lock().writes.extend(faults);
    }

    /// Makes the next `times` hole punches fail with this errno.
    pub(crate) fn fail_punches(&self, times: usize, errno: i32) {
        self.faults.lock().punches.extend(std::iter::repeat_n(errno, times));
    }

    /// Makes every `set_len` from now on fail with this errno.
    pub(crate) fn fail_set_len(&self, errno: i32) {
        self.faults.lock().set_len = Some(errno);
    }

    /// Runs `work` after the next read.
    pub(crate) fn after_next_read(&self, work: impl FnOnce() + Send + 'static) {
        self.faults.lock().after_read = Some(Box::new(work));
    }

    /// Returns true if all faults have occurred.
    pub(crate) fn is_spent(&self) -> bool {
        let faults = self.faults.lock();
        faults.reads.is_empty() && faults.writes.is_empty() && faults.punches.is_empty() && faults.after_read.is_none()
    }
}

#[cfg(test)]
impl Disk for FaultyDisk {
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let fault = self.faults.lock().reads.pop_front();
        let read = match fault {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => file.read_at(buf, offset),
        };
        let after = self.faults.lock().after_read.take();
        if let Some(after) = after {
            after();
        }
        read
    }

    fn write_at(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let fault = self.faults.lock().writes.pop_front();
        match fault {
            Some(WriteFault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(WriteFault::Short(most)) => file.write_at(&pieces[0][..most.min(pieces[0].len())], offset),
            None => System.write_at(file, pieces, offset),
        }
    }

    fn set_len(&self, file: &File, size: u64) -> io::Result<()> {
        match self.faults.lock().set_len {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => System.set_len(file, size),
        }
    }

    fn punch(&self, file: &File, bytes: &Range<u64>) -> io::Result<()> {
        match self.faults.lock().punches.pop_front() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => System.punch(file, bytes),
        }
    }
}
