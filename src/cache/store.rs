//! The data files: one sparse file for each cache entry.
//!
//! A data file has the remote file's size from the start and holes where nothing was fetched, so
//! every byte stands at its own offset. **A file's size or its blocks say nothing of what is
//! present**: only the index does ([`super::presence`]).
//!
//! Files are named by their entry's key: `data/ab/cdef…`. Whoever uses one holds a shared lock on it
//! ([`locks`](super::quota::locks)), and several processes fill one together: the bytes of a version are the same,
//! whoever fetches them. To give a file its size, to punch holes into it or to delete it takes the lock exclusively: nobody
//! else has it open then.
//!
//! Folders are 0700 and files 0600: what one user may read of a server is not for the others.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::unistd::{Whence, lseek};

use super::descriptors::{Descriptor, Descriptors};
use super::disk::{Disk, STAT_BLOCK, System};
use super::entry::EntryKey;
use super::error::CacheError;
use super::quota::locks::{Lock, WHOLE, lock, try_lock};

/// How often a file is looked at again that others have open in a state that makes no sense, and how long apart.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// A block of a file system is no larger: 64 KiB.
pub const LAST_BLOCK: u64 = 64 << 10;

/// Which signal to send (fcntl(2), include/uapi/asm-generic/fcntl.h); the `libc` crate does not have it.
const F_SETSIG: libc::c_int = 10;

/// Slices that the kernel takes in one call (UIO_MAXIOV).
const MOST_SLICES: usize = 1024;

/// The folder of data files.
#[derive(Debug)]
pub struct ChunkStore {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    descriptors: Arc<Descriptors>,
}

/// The open data file of one entry. **Locked for as long as it is open.**
#[derive(Debug)]
pub struct DataFile {
    /// Shared only by those that are [nowhere](DataFile::nowhere).
    file: Arc<File>,
    /// Counted among those that readers have open.
    descriptor: Option<Descriptor>,
    disk: Arc<dyn Disk>,
    /// Bytes: the remote file's size, which the data file has unless somebody else has changed it.
    size: u64,
    /// What was found under the entry's name.
    pub found: Found,
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

impl ChunkStore {
    /// Opens the folder of data files under `cache_dir`, making what is missing.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(cache_dir: &Path) -> Result<ChunkStore, CacheError> {
        let folder = cache_dir.join("data");
        make_private_folder(&folder).map_err(|error| CacheError::Folder {
            path: folder.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(ChunkStore::not_made(cache_dir))
    }

    /// The same, making nothing: no file in it is ever opened.
    pub fn not_made(cache_dir: &Path) -> ChunkStore {
        ChunkStore {
            folder: cache_dir.join("data"),
            disk: Arc::new(System),
            descriptors: Descriptors::of_this_process(),
        }
    }

    /// The same folder on a disk that fails when the test says so.
    #[cfg(test)]
    pub fn on_disk(self, disk: Arc<dyn Disk>) -> ChunkStore {
        ChunkStore { disk, ..self }
    }

    /// Whether the file system can give back parts of a file. One that can't (VFAT, NFS before 4.2, ramfs) mostly fills a file with zeros
    /// too when it is given its size. If it can't be told, because the disk is full, say, it is taken to be as most are.
    pub fn has_holes(&self) -> bool {
        let path = self.folder.join(format!(".probe-{}", std::process::id()));
        let Ok(file) = private_file().create(true).truncate(true).open(&path) else {
            return true;
        };
        let punched = self.disk.punch(&file, &(0..LAST_BLOCK));
        // If it stays, it is an empty file that nobody looks at.
        let _ = std::fs::remove_file(&path);
        punched.map_or_else(|error| error.raw_os_error() != Some(libc::EOPNOTSUPP), |()| true)
    }

    fn data_file(&self, file: File, size: u64, found: Found) -> DataFile {
        DataFile {
            file: Arc::new(file),
            descriptor: None,
            disk: Arc::clone(&self.disk),
            size,
            found,
        }
    }

    /// Opens the data file of an entry of `size` bytes, locked. If nothing good was found under its
    /// name, `forget` is called to make the index forget the entry, **before** the file gets the size
    /// by which it is taken for intact: a crash in between must not leave holes that are believed in. It says whether that
    /// was done.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_file(&self, key: &EntryKey, size: u64, forget: impl FnOnce() -> bool) -> io::Result<DataFile> {
        let descriptor = self.descriptors.take()?;
        let mut data = self.open_uncounted(key, size, forget)?;
        data.descriptor = Some(descriptor);
        Ok(data)
    }

    fn open_uncounted(&self, key: &EntryKey, size: u64, forget: impl FnOnce() -> bool) -> io::Result<DataFile> {
        let path = self.path_of(key);
        make_private_folder(path.parent().unwrap_or(&self.folder))?;
        for _ in 0..TRIES {
            let file = private_file().create(true).truncate(false).open(&path)?;
            let is_alone = try_lock(&file, WHOLE, Lock::Exclusive)?;
            if !is_alone {
                // Either others use it, or one of them is giving it its size or punching holes: then this waits.
                lock(&file, WHOLE, Lock::Shared)?;
            }
            let metadata = file.metadata()?;
            if metadata.nlink() == 0 {
                // Evicted between our open and our lock: what we would record of this file could not be found
                // again. The next turn makes a new one.
                continue;
            }
            if metadata.len() == size {
                try_lock(&file, WHOLE, Lock::Shared)?;
                return Ok(self.data_file(file, size, Found::Intact));
            }
            if is_alone {
                // Cutting it to nothing first drops every block of a file that had another size.
                self.disk.set_len(&file, 0)?;
                if !forget() {
                    return Err(io::Error::other("the index can't be written"));
                }
                self.disk.set_len(&file, size)?;
                try_lock(&file, WHOLE, Lock::Shared)?;
                return Ok(self.data_file(file, size, Found::Nothing));
            }
            // One who was to give it its size has been killed, and others came as we did.
            drop(file);
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!(
            "{} has a wrong size, and another process has it open",
            path.display()
        )))
    }

    /// Opens the data file of an entry that is recorded, locked, to make room in it. `None` if it is not there, or
    /// not as it was, or if anybody has it open: then no room can be made in it, and it is better not to be in the way of who can.
    pub fn open_recorded(&self, key: &EntryKey, size: u64) -> Option<DataFile> {
        let file = private_file().open(self.path_of(key)).ok()?;
        let is_good = try_lock(&file, WHOLE, Lock::Exclusive).ok()?
            && try_lock(&file, WHOLE, Lock::Shared).ok()?
            && file
                .metadata()
                .is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() == size);
        is_good.then(|| self.data_file(file, size, Found::Intact))
    }

    /// Deletes the data file of an entry, unless somebody uses it; `first` is called while it is
    /// locked and before it goes, to make the index forget it; what it returns says whether the file may go.
    /// The bytes that it took, if it is gone.
    pub fn remove_unused(&self, key: &EntryKey, first: impl FnOnce() -> bool) -> Option<u64> {
        let path = self.path_of(key);
        match private_file().open(&path) {
            Ok(file) => {
                let size = file.metadata().ok()?.len();
                let data = self.data_file(file, size, Found::Intact);
                let exclusive = data.exclusively()?;
                let metadata = exclusive.file.metadata().ok()?;
                // Without a name, another process was faster. What has the name now may be in use.
                (metadata.nlink() > 0 && first()).then_some(())?;
                std::fs::remove_file(&path).ok()?;
                Some(metadata.blocks() * STAT_BLOCK)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => first().then_some(0),
            Err(_) => None,
        }
    }

    /// Deletes the data file of an entry, that the caller has [exclusively](DataFile::exclusively).
    ///
    /// # Errors
    /// What the file system says.
    pub fn unlink(&self, key: &EntryKey) -> io::Result<()> {
        std::fs::remove_file(self.path_of(key))
    }

    /// Whether there is no data file of an entry.
    pub fn lacks(&self, key: &EntryKey) -> bool {
        self.path_of(key)
            .symlink_metadata()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Deletes all data files that nobody uses, when nothing is recorded of them any more.
    pub fn remove_all_unused(&self) {
        for key in self.keys() {
            self.remove_unused(&key, || true);
        }
    }

    /// The keys of all data files that there are.
    pub fn keys(&self) -> impl Iterator<Item = EntryKey> + use<> {
        let shards = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        shards.flat_map(|shard| {
            let files = std::fs::read_dir(shard.path()).into_iter().flatten().flatten();
            files.filter_map(move |file| {
                let name = [shard.file_name(), file.file_name()].map(|part| part.to_str().map(str::to_owned));
                let [Some(shard), Some(rest)] = name else { return None };
                EntryKey::from_stored(shard + &rest)
            })
        })
    }

    /// All data files: their path, their entry's key if the name is one, and the bytes that they take on the disk.
    pub fn files(&self) -> Vec<(PathBuf, Option<EntryKey>, u64)> {
        let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = list(&self.folder).flat_map(|shard| list(&shard.path()));
        files
            .filter_map(|file| {
                let (path, metadata) = (file.path(), file.metadata().ok()?);
                let shard = path.parent()?.file_name()?.to_str()?;
                let key = EntryKey::from_stored(format!("{shard}{}", path.file_name()?.to_str()?));
                Some((path, key, metadata.blocks() * STAT_BLOCK))
            })
            .collect()
    }

    /// Opens the data file of an entry as it is, without locking it. `None` if there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn look_at(&self, key: &EntryKey) -> io::Result<Option<DataFile>> {
        match private_file().open(self.path_of(key)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some(self.data_file(file, size, Found::Intact)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes that the data file of an entry takes on disk; nothing if it is gone.
    pub fn allocated(&self, key: &EntryKey) -> u64 {
        std::fs::symlink_metadata(self.path_of(key)).map_or(0, |metadata| metadata.blocks() * STAT_BLOCK)
    }

    /// Bytes that the folders of data files take themselves.
    pub fn allocated_by_folders(&self) -> u64 {
        let shards = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let shards: u64 = shards.map(|shard| allocated_at(&shard.path())).sum();
        shards + allocated_at(&self.folder)
    }

    /// Whether the folder that the entry's data file goes into is still to be made.
    pub fn needs_folder(&self, key: &EntryKey) -> bool {
        self.path_of(key).parent().is_some_and(|folder| !folder.is_dir())
    }

    fn path_of(&self, key: &EntryKey) -> PathBuf {
        let (shard, rest) = key.as_str().split_at(2);
        self.folder.join(shard).join(rest)
    }
}

/// Bytes that a file or folder takes on disk; nothing if it is not there.
pub fn allocated_at(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * STAT_BLOCK)
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
            size,
            found: Found::Nothing,
        }
    }
}

impl DataFile {
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
            size,
            found: Found::Nowhere,
        })
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
        let len = self.file.metadata()?.len();
        Ok((len < self.size).then_some(len))
    }

    /// Gives the file its size back. **What was cut off reads as zeros then**, so it must not count as present any more.
    ///
    /// # Errors
    /// What the file system says.
    pub fn restore_size(&self) -> io::Result<()> {
        self.disk.set_len(&self.file, self.size)
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
        self.file
            .metadata()
            .map_or(0, |metadata| metadata.blocks() * STAT_BLOCK)
    }

    /// Takes the lock exclusively, if nobody else has the file open: no other process that uses the cache, and no
    /// program that has a mapping of it from a passthrough handle.
    pub fn exclusively(&self) -> Option<Exclusive<'_>> {
        let is_locked = try_lock(&self.file, WHOLE, Lock::Exclusive).ok()?;
        let exclusive = is_locked.then_some(Exclusive {
            file: &self.file,
            disk: &*self.disk,
        })?;
        (!is_open_elsewhere(&self.file)).then_some(exclusive)
    }
}

/// A data file that nobody else has open. Dropped, it lets others in again.
#[derive(Debug)]
pub struct Exclusive<'a> {
    file: &'a File,
    disk: &'a dyn Disk,
}

impl Exclusive<'_> {
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

/// How a file of the cache is opened.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Makes a folder that only its owner may enter; parents that are missing are made too.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
