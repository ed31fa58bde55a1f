//! What data files ask of the system: the seam at which tests have a disk fail.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use nix::sys::uio::pwritev;

/// Reads and writes at an offset, as pread(2) and pwritev(2) do: of fewer bytes than asked for, if it comes to that.
pub trait Disk: Debug + Send + Sync {
    /// Reads into `buf`; 0 bytes at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes from `pieces`, one behind the other.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
}

/// The system itself.
#[derive(Debug)]
pub struct System;

impl Disk for System {
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    fn write_at(&self, file: &File, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(pwritev(file, pieces, offset)?)
    }
}

/// A disk that fails when the test says so.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct FaultyDisk {
    faults: parking_lot::Mutex<Faults>,
}

#[cfg(test)]
#[derive(Default)]
struct Faults {
    reads: std::collections::VecDeque<i32>,
    writes: std::collections::VecDeque<WriteFault>,
    after_read: Option<Box<dyn FnOnce() + Send>>,
}

#[cfg(test)]
impl Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// How one write fails.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub enum WriteFault {
    /// With this errno.
    Errno(i32),
    /// So many bytes are written, and no error is told.
    Short(usize),
}

#[cfg(test)]
impl FaultyDisk {
    /// So many reads from now on fail with this errno.
    pub fn fail_reads(&self, times: usize, errno: i32) {
        self.faults.lock().reads.extend(std::iter::repeat_n(errno, times));
    }

    /// The next writes fail so, one after the other.
    pub fn fail_writes(&self, faults: impl IntoIterator<Item = WriteFault>) {
        self.faults.lock().writes.extend(faults);
    }

    /// Does something between the next read and what becomes of it.
    pub fn after_next_read(&self, work: impl FnOnce() + Send + 'static) {
        self.faults.lock().after_read = Some(Box::new(work));
    }

    /// Whether all faults have come to pass.
    pub fn is_spent(&self) -> bool {
        let faults = self.faults.lock();
        faults.reads.is_empty() && faults.writes.is_empty() && faults.after_read.is_none()
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
}
