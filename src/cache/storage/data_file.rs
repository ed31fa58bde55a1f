//! An open data file: reading and writing it, what it takes on the disk, and having it for oneself.
//!
//! Who reads knows from the index that the bytes are there; who writes has reserved room for them. Whoever is to give bytes of
//! it back to the file system, or to delete it, has it [exclusively](DataFile::exclusively) for that long.

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
use crate::cache::sharing::locks::{Lock, WHOLE, try_lock};

/// A block of a file system is no larger: 64 KiB.
pub const LAST_BLOCK: u64 = 64 << 10;

/// Which signal to send (fcntl(2), include/uapi/asm-generic/fcntl.h); the `libc` crate does not have it.
const F_SETSIG: libc::c_int = 10;

/// Slices that the kernel takes in one call (UIO_MAXIOV).
const MOST_SLICES: usize = 1024;

/// The open data file of one entry. **Locked for as long as it is open.**
#[derive(Debug)]
pub struct DataFile {
    /// Shared by those that are [nowhere](DataFile::nowhere), and with who [keeps it open](DataFile::keep_open).
    file: Arc<File>,
    /// Counted among those that readers have open.
    descriptor: Option<Arc<Descriptor>>,
    disk: Arc<dyn Disk>,
    /// Held by the thread that has the lock exclusively. The lock is the open file's: of two threads that had it, the first to weaken
    /// it would let other processes in beside the second.
    turn: Mutex<()>,
    /// Bytes: the remote file's size, which the data file has unless somebody else has changed it.
    size: u64,
    /// What was found under the entry's name.
    pub found: Found,
}

/// Keeps a data file open, and so the lock that says that it is used.
#[derive(Debug)]
pub struct PendingCommit {
    _file: Arc<File>,
    _descriptor: Option<Arc<Descriptor>>,
}

/// What was found under an entry's name, and so whether index rows for it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file of the right size: what the index records of it is there.
    Intact,
    /// Nothing, or a file of another size: what the index records of it is gone.
    Nothing,
    /// No place for one: there is no file, and nothing can be written.
    Nowhere,
}

impl AsFd for DataFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
impl DataFile {
    /// A data file without a name, of which nothing is recorded.
    pub fn for_tests(size: u64) -> DataFile {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        DataFile {
            file: Arc::new(file),
            descriptor: None,
            disk: Arc::new(System),
            turn: Mutex::default(),
            size,
            found: Found::Nothing,
        }
    }
}

impl DataFile {
    /// One that is open, and locked by whoever calls.
    pub(in crate::cache) fn over(file: File, disk: &Arc<dyn Disk>, size: u64, found: Found) -> DataFile {
        DataFile {
            file: Arc::new(file),
            descriptor: None,
            disk: Arc::clone(disk),
            turn: Mutex::default(),
            size,
            found,
        }
    }

    /// Counts it among those that readers have open.
    pub(in crate::cache) fn counted_by(self, descriptor: Descriptor) -> DataFile {
        DataFile {
            descriptor: Some(Arc::new(descriptor)),
            ..self
        }
    }

    /// In place of a data file that can't be made, for an entry of `size` bytes.
    ///
    /// # Errors
    /// When not even that can be opened.
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
            turn: Mutex::default(),
            size,
            found: Found::Nowhere,
        })
    }

    /// Keeps the file open, and locked, when this is dropped.
    pub fn keep_open(&self) -> PendingCommit {
        PendingCommit {
            _file: Arc::clone(&self.file),
            _descriptor: self.descriptor.clone(),
        }
    }

    /// The file's number in its file system.
    ///
    /// # Errors
    /// What the file system says.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// Bytes that the file has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing was ever written to a part of `bytes`, as far as the file system can tell. False negatives are
    /// possible (it counts in blocks of its own), and so are false positives (some keep zeros as holes).
    pub fn has_hole(&self, bytes: &Range<u64>) -> bool {
        let Ok(start) = i64::try_from(bytes.start) else {
            return true;
        };
        // The end of the file counts as a hole. An error means that there is nothing at all from `start` on.
        !bytes.is_empty() && lseek(&self.file, start, Whence::SeekHole).map_or(true, |hole| (hole as u64) < bytes.end)
    }

    /// The length to which somebody else has cut the file, if that happened.
    ///
    /// # Errors
    /// What the file system says.
    pub fn cut_to(&self) -> io::Result<Option<u64>> {
        let len = self.length()?;
        Ok((len < self.size).then_some(len))
    }

    /// Bytes that the file has now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `buf` from `offset`. The caller knows from the index that these bytes are present.
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` when the file was cut off behind our back.
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

    /// Writes all of `pieces`, one behind the other, from `offset`: with one call to the kernel as a rule, because a
    /// file system lays its pages out by what each call brings.
    ///
    /// # Errors
    /// What the file system says, `StorageFull` among it. Some of the bytes may be in the file then.
    pub fn write_all_at<P: AsRef<[u8]>>(&self, pieces: &[P], mut offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.as_ref())).collect();
        let mut left = &mut slices[..];
        // Takes off what is empty at the front, as below: a call that writes nothing has failed.
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

    /// Bytes that it takes on disk, what is still to be written out included.
    pub fn allocated(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| taken_by(&metadata))
    }

    /// Takes the lock exclusively, if nobody else has the file open: no other process that uses the cache, and no
    /// program that has a mapping of it from a passthrough handle; and if no other thread has it so.
    pub fn exclusively(&self) -> Option<Exclusive<'_>> {
        let turn = self.turn.try_lock()?;
        let is_locked = try_lock(&self.file, WHOLE, Lock::Exclusive).ok()?;
        let exclusive = is_locked.then_some(Exclusive {
            file: &self.file,
            disk: &*self.disk,
            _turn: turn,
        })?;
        (!is_open_elsewhere(&self.file)).then_some(exclusive)
    }
}

/// A data file that nobody else has open. Dropped, it lets others in again.
#[derive(Debug)]
pub struct Exclusive<'a> {
    file: &'a File,
    disk: &'a dyn Disk,
    /// Given back after the lock is.
    _turn: MutexGuard<'a, ()>,
}

impl Exclusive<'_> {
    /// What the file system says of it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Gives the file a size.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.disk.set_len(self.file, size)
    }

    /// Gives these bytes back to the file system.
    ///
    /// # Errors
    /// What the file system says; `Unsupported` if it can't.
    pub fn punch(&self, bytes: &Range<u64>) -> io::Result<()> {
        self.disk.punch(self.file, bytes)
    }
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        // Weakening a lock that one has is never refused.
        let _ = try_lock(self.file, WHOLE, Lock::Shared);
    }
}

/// Whether any other open file of this inode is there, whoever has it. The kernel keeps one for a mapping that was made
/// through a passthrough handle, even when that handle is closed and the process that opened it is dead; it tells us
/// of none of this. But it gives a write lease only to the single owner of a file (fcntl(2), F_SETLEASE).
///
/// Where there are no leases, the locks and the count of passthrough handles are all that is known.
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
    // Who opens the file while we have the lease waits until we give it back, and we get a signal: one that does nothing,
    // instead of SIGIO, which ends a process.
    if set(F_SETSIG, libc::SIGURG).is_err() {
        return false;
    }
    match set(libc::F_SETLEASE, libc::F_WRLCK) {
        Ok(()) => {
            // It is ours to give back.
            let _ = set(libc::F_SETLEASE, libc::F_UNLCK);
            false
        }
        Err(error) => error.raw_os_error() == Some(libc::EAGAIN),
    }
}

#[cfg(test)]
mod tests;
