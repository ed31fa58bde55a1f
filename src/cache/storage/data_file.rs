//! An open data file: reads, writes, its bytes on the disk, and its exclusive lock.
//!
//! A reader knows from the index that the bytes are present; a writer has reserved space for them.
//! The evictor holds the lock [exclusively](DataFile::exclusively) while it punches holes or
//! deletes the file.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use nix::unistd::{Whence, lseek};
use parking_lot::{Mutex, MutexGuard};

use super::descriptor_budget::Descriptor;
use super::disk::{Disk, System, taken_by};
use crate::cache::sharing::{Alone, FileLocks};

/// Maximum block size of a file system: 64 KiB.
pub(crate) const LAST_BLOCK: u64 = 64 << 10;

/// Sets the signal to send (fcntl(2), include/uapi/asm-generic/fcntl.h); the `libc` crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// Maximum number of slices in one system call (UIO_MAXIOV).
const MOST_SLICES: usize = 1024;

/// The open data file of one entry. **Locked for as long as it is open.**
#[derive(Debug)]
pub struct DataFile {
    /// Shared by those that are [nowhere](DataFile::nowhere), and with pending commits
    /// ([`DataFile::keep_open`]).
    file: Arc<File>,
    /// Its share of the descriptor budget, if it counts.
    descriptor: Option<Arc<Descriptor>>,
    disk: Arc<dyn Disk>,
    locks: Arc<dyn FileLocks>,
    /// Held by the thread that holds the exclusive lock. The lock belongs to the open file: if two
    /// threads held it, the first to weaken it would let other processes in beside the second.
    turn: Mutex<()>,
    /// The remote file's size in bytes, which the data file has unless another program has changed
    /// it.
    size: u64,
    /// What was found under the entry's name.
    pub found: Found,
}

/// Keeps a data file open, and so its lock, which marks it as in use.
#[derive(Debug)]
pub struct PendingCommit {
    _file: Arc<File>,
    _descriptor: Option<Arc<Descriptor>>,
}

/// What was found under an entry's name; this decides whether its index rows are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file of the right size: the recorded chunks exist.
    Intact,
    /// Nothing, or a file of another size: the recorded chunks are gone.
    Nothing,
    /// There can't be a file, and nothing can be written.
    Nowhere,
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
impl DataFile {
    /// A data file without a name and without records.
    pub fn for_tests(size: u64) -> DataFile {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        DataFile {
            file: Arc::new(file),
            descriptor: None,
            disk: Arc::new(System),
            locks: Arc::new(Alone::new(0)),
            turn: Mutex::default(),
            size,
            found: Found::Nothing,
        }
    }
}

impl DataFile {
    /// An open data file, locked by the caller.
    pub(in crate::cache) fn over(
        file: File,
        disk: &Arc<dyn Disk>,
        locks: &Arc<dyn FileLocks>,
        size: u64,
        found: Found,
    ) -> DataFile {
        DataFile {
            file: Arc::new(file),
            descriptor: None,
            disk: Arc::clone(disk),
            locks: Arc::clone(locks),
            turn: Mutex::default(),
            size,
            found,
        }
    }

    /// Counts it in the descriptor budget.
    pub(in crate::cache) fn counted_by(self, descriptor: Descriptor) -> DataFile {
        DataFile {
            descriptor: Some(Arc::new(descriptor)),
            ..self
        }
    }

    /// Stands for a data file that can't be created, for an entry of `size` bytes.
    ///
    /// # Errors
    /// If not even the stand-in can be opened.
    pub fn nowhere(size: u64) -> io::Result<DataFile> {
        static NOWHERE: OnceLock<Arc<File>> = OnceLock::new();
        let file = match NOWHERE.get() {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(File::open("/dev/null")?);
                Arc::clone(NOWHERE.get_or_init(|| file))
            }
        };
        Ok(DataFile {
            file,
            descriptor: None,
            disk: Arc::new(System),
            locks: Arc::new(Alone::new(0)),
            turn: Mutex::default(),
            size,
            found: Found::Nowhere,
        })
    }

    /// Keeps the file open, and locked, after this is dropped.
    pub fn keep_open(&self) -> PendingCommit {
        PendingCommit {
            _file: Arc::clone(&self.file),
            _descriptor: self.descriptor.clone(),
        }
    }

    /// The file's inode number.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// The remote file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns true if a part of `bytes` was never written, as far as the file system shows. False
    /// negatives are possible (it counts in its own blocks), and so are false positives (some store
    /// zeros as holes).
    pub fn has_hole(&self, bytes: &Range<u64>) -> bool {
        let Ok(start) = i64::try_from(bytes.start) else {
            return true;
        };
        // The end of the file counts as a hole. An error means that there is no data from `start`
        // on.
        !bytes.is_empty() && lseek(&self.file, start, Whence::SeekHole).map_or(true, |hole| (hole as u64) < bytes.end)
    }

    /// The length to which another program has truncated the file, if that happened.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn cut_to(&self) -> io::Result<Option<u64>> {
        let len = self.length()?;
        Ok((len < self.size).then_some(len))
    }

    /// The current length of the file in bytes.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buf` from `offset`. The caller knows from the index that these bytes are present.
    ///
    /// # Errors
    /// Any error of the file system; `UnexpectedEof` if another program has truncated the
    /// file.
    pub fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.disk.read_at(&self.file, buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buf = &mut buf[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `pieces`, one after the other, from `offset`. Usually one system call, because
    /// a file system lays out its pages by what each call brings.
    ///
    /// # Errors
    /// Any error of the file system, `StorageFull` included. Some of the bytes may be in
    /// the file then.
    pub fn write_all_at<P: AsRef<[u8]>>(&self, pieces: &[P], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.as_ref())).collect();
        let mut left = &mut slices[..];
        // Removes empty slices at the front, as below: a call that writes nothing would count as
        // failed.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self
                .disk
                .write_at(&self.file, &left[..left.len().min(MOST_SLICES)], offset)
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes on disk, including those not yet written back.
    pub fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| taken_by(&metadata))
    }

    /// Takes the exclusive lock. `None` if the file is open elsewhere: in another process that uses
    /// the cache, in a program that has mapped it through a passthrough handle, or exclusively in
    /// another thread. `None` also for a file that is [nowhere](Self::nowhere): all such share one.
    pub fn exclusively(&self) -> Option<Exclusive<'_>> {
        if self.found == Found::Nowhere {
            return None;
        }
        let turn = self.turn.try_lock()?;
        let is_locked = self.locks.try_exclusive(&self.file).ok()?;
        let exclusive = is_locked.then_some(Exclusive {
            file: &self.file,
            disk: &*self.disk,
            locks: &*self.locks,
            _turn: turn,
        })?;
        (!is_open_elsewhere(&self.file)).then_some(exclusive)
    }
}

/// A data file that is open nowhere else. Dropping it makes the lock shared again.
#[derive(Debug)]
pub struct Exclusive<'a> {
    file: &'a File,
    disk: &'a dyn Disk,
    locks: &'a dyn FileLocks,
    /// Released after the lock.
    _turn: MutexGuard<'a, ()>,
}

impl Exclusive<'_> {
    /// The file's metadata.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Sets the file's length.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.disk.set_len(self.file, size)
    }

    /// Punches a hole at these bytes.
    ///
    /// # Errors
    /// Any error of the file system; `Unsupported` if it can't.
    pub fn punch(&self, bytes: &Range<u64>) -> io::Result<()> {
        self.disk.punch(self.file, bytes)
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // Weakening a lock always succeeds.
        let _ = self.locks.share(self.file);
    }
}

/// Returns true if another open file of this inode exists, in any process. The kernel keeps one for
/// a mapping that was made through a passthrough handle, even after the handle is closed and its
/// process has ended, and does not report it. But it grants a write lease only to the single opener
/// of a file (fcntl(2), F_SETLEASE).
///
/// Where there are no leases, only the locks and the count of passthrough handles show users.
fn is_open_elsewhere(file: &File) -> bool {
    let set = |command, argument: libc::c_int| {
        // SAFETY: the descriptor is open; both commands take a number.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    // Another process that opens the file during the lease waits for its end, and this process gets
    // a signal: SIGURG, which does nothing, instead of SIGIO, which ends a process.
    if set(F_SETSIG, libc::SIGURG).is_err() {
        return false;
    }
    match set(libc::F_SETLEASE, libc::F_WRLCK) {
        Ok(()) => {
            // The lease is held, so this can only release it.
            let _ = set(libc::F_SETLEASE, libc::F_UNLCK);
            false
        }
        Err(error) => error.raw_os_error() == Some(libc::EAGAIN),
    }
}

#[cfg(test)]
mod tests;
