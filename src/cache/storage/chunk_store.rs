//! The chunk store: the directory of data files, one sparse file for each cache entry. Operations
//! on an open one are in [`data_file`](super::data_file).
//!
//! A data file has the remote file's size from the start and holes where nothing was fetched, so
//! every byte is at its own offset. **A file's size or its blocks do not show what is present**:
//! only the index does (`crate::cache::entry::chunk_bitmap`).
//!
//! Files are named by their entry's key: `data/ab/cdef…`. Each user of a file holds a shared lock
//! on it ([`FileLocks`]), and several processes fill one together: the
//! bytes of a version are the same, whichever process fetches them. Setting a file's size, punching
//! holes and deletion need the exclusive lock: no other process has the file open then.
//!
//! Directories are 0700 and files 0600: what one user may read of a server is private to that user.

use std::fs::{DirBuilder, DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::data_file::{DataFile, Found, LAST_BLOCK};
use super::descriptor_budget::DescriptorBudget;
use super::disk::{Disk, System, taken_by};
use crate::cache::error::CacheError;
use crate::cache::key::EntryKey;
use crate::cache::sharing::{Alone, FileLocks, KernelLocks};

/// Number of checks of a file that others have open with a wrong size, and the pause between them.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The directory of data files.
#[derive(Debug)]
pub struct ChunkStore {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    locks: Arc<dyn FileLocks>,
    descriptors: Arc<DescriptorBudget>,
}

impl ChunkStore {
    /// Opens the directory of data files under `cache_dir`, and creates what is missing.
    ///
    /// # Errors
    /// If the directory can't be created.
    pub fn open(cache_dir: &Path) -> Result<ChunkStore, CacheError> {
        let folder = cache_dir.join("data");
        make_private_folder(&folder).map_err(|error| CacheError::Folder {
            path: folder.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(ChunkStore {
            locks: Arc::new(KernelLocks),
            ..ChunkStore::not_made(cache_dir)
        })
    }

    /// A store that creates nothing: no file in it is ever opened.
    pub fn not_made(cache_dir: &Path) -> ChunkStore {
        ChunkStore {
            folder: cache_dir.join("data"),
            disk: Arc::new(System),
            locks: Arc::new(Alone::new(0)),
            descriptors: DescriptorBudget::of_this_process(),
        }
    }

    /// The same directory on a disk that fails when the test says so.
    #[cfg(test)]
    pub(crate) fn on_disk(self, disk: Arc<dyn Disk>) -> ChunkStore {
        ChunkStore { disk, ..self }
    }

    /// Returns true if the file system can punch holes. One that can't (VFAT, NFS before 4.2,
    /// ramfs) usually also fills a file with zeros when its size is set. Returns true after other
    /// errors, a full disk for example, as most file systems can.
    pub fn has_holes(&self) -> bool {
        let path = self.folder.join(format!(".probe-{}", std::process::id()));
        let Ok(file) = private_file().create(true).truncate(true).open(&path) else {
            return true;
        };
        let punched = self.disk.punch(&file, &(0..LAST_BLOCK));
        // If it stays, it is an empty file without a user.
        let _ = std::fs::remove_file(&path);
        punched.map_or_else(|error| error.raw_os_error() != Some(libc::EOPNOTSUPP), |()| true)
    }

    fn data_file(&self, file: File, size: u64, found: Found) -> DataFile {
        DataFile::over(file, &self.disk, &self.locks, size, found)
    }

    /// Opens the data file of an entry of `size` bytes, locked.
    ///
    /// If there was no file with this size under its name, `forget` is called to make the index
    /// forget the entry, **before** the file gets its size, which marks it as intact. Otherwise a
    /// crash in between would leave holes that count as data. `forget` returns whether it
    /// succeeded.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn open_file(&self, key: &EntryKey, size: u64, forget: impl FnOnce() -> bool) -> io::Result<DataFile> {
        let descriptor = self.descriptors.take()?;
        let data = self.open_uncounted(key, size, forget)?;
        Ok(data.counted_by(descriptor))
    }

    fn open_uncounted(&self, key: &EntryKey, size: u64, forget: impl FnOnce() -> bool) -> io::Result<DataFile> {
        let path = self.path_of(key);
        make_private_folder(path.parent().unwrap_or(&self.folder))?;
        for _ in 0..TRIES {
            let file = private_file().create(true).truncate(false).open(&path)?;
            let is_alone = self.locks.try_exclusive(&file)?;
            if !is_alone {
                // Others use it, or one of them is setting its size or punching holes: then this
                // waits.
                self.locks.share(&file)?;
            }
            let metadata = file.metadata()?;
            if metadata.nlink() == 0 {
                // Evicted between the open and the lock: records of this file would have no file
                // under its name. The next iteration creates a new one.
                continue;
            }
            if metadata.len() == size {
                self.locks.share(&file)?;
                return Ok(self.data_file(file, size, Found::Intact));
            }
            if is_alone {
                // Truncating it to zero first frees every block of a file that had another size.
                self.disk.set_len(&file, 0)?;
                if !forget() {
                    return Err(io::Error::other("the index can't be written"));
                }
                self.disk.set_len(&file, size)?;
                self.locks.share(&file)?;
                return Ok(self.data_file(file, size, Found::Nothing));
            }
            // The process that was to set its size was killed, and others opened it as this one
            // did.
            drop(file);
            std::thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!(
            "{} has a wrong size, and another process has it open",
            path.display()
        )))
    }

    /// Opens the data file of a recorded entry, locked, to free space in it. `None` if it is
    /// missing or changed, or if another process has it open: no space can be freed in it then, and
    /// this process must not be in the way.
    pub fn open_recorded(&self, key: &EntryKey, size: u64) -> Option<DataFile> {
        let file = private_file().open(self.path_of(key)).ok()?;
        if !self.locks.try_exclusive(&file).ok()? {
            return None;
        }
        self.locks.share(&file).ok()?;
        let metadata = file.metadata().ok()?;
        let is_good = metadata.nlink() > 0 && metadata.len() == size;
        is_good.then(|| self.data_file(file, size, Found::Intact))
    }

    /// Deletes the data file of an entry, unless it is in use. `first` is called while it is locked
    /// and before it is deleted, to make the index forget it; it returns whether the file may be
    /// deleted. Returns the bytes that it took, if it was deleted.
    pub fn remove_unused(&self, key: &EntryKey, first: impl FnOnce() -> bool) -> Option<u64> {
        let path = self.path_of(key);
        match private_file().open(&path) {
            Ok(file) => {
                let size = file.metadata().ok()?.len();
                let data = self.data_file(file, size, Found::Intact);
                let exclusive = data.exclusively()?;
                let metadata = exclusive.metadata().ok()?;
                // Without a name, another process has deleted it. A new file of this name may be in
                // use.
                (metadata.nlink() > 0 && first()).then_some(())?;
                std::fs::remove_file(&path).ok()?;
                Some(taken_by(&metadata))
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => first().then_some(0),
            Err(_) => None,
        }
    }

    /// The result of `look` on the data file of an entry, if it exists and is unused; no process
    /// can begin to use it meanwhile.
    pub fn unused<T>(&self, key: &EntryKey, look: impl FnOnce() -> T) -> Option<T> {
        let data = self.look_at(key).ok()??;
        let exclusive = data.exclusively()?;
        let has_its_name = exclusive.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        has_its_name.then(look)
    }

    /// Deletes the data file of an entry. The caller holds its lock
    /// [exclusively](DataFile::exclusively).
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn unlink(&self, key: &EntryKey) -> io::Result<()> {
        std::fs::remove_file(self.path_of(key))
    }

    /// Returns true if an entry has no data file.
    pub fn lacks(&self, key: &EntryKey) -> bool {
        self.path_of(key)
            .symlink_metadata()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Deletes all unused data files, once none of them is recorded any more.
    pub fn remove_all_unused(&self) {
        for key in self.keys() {
            self.remove_unused(&key, || true);
        }
    }

    /// The keys of all data files.
    pub fn keys(&self) -> impl Iterator<Item = EntryKey> + use<> {
        entries_of(&self.folder).flat_map(|shard| {
            entries_of(&shard.path()).filter_map(move |file| {
                let name = [shard.file_name(), file.file_name()].map(|part| part.to_str().map(str::to_owned));
                let [Some(shard), Some(rest)] = name else { return None };
                EntryKey::from_stored(shard + &rest)
            })
        })
    }

    /// All data files: their path, their entry's key if the name is one, and their bytes on the
    /// disk.
    pub fn files(&self) -> Vec<(PathBuf, Option<EntryKey>, u64)> {
        let files = entries_of(&self.folder).flat_map(|shard| entries_of(&shard.path()));
        files
            .filter_map(|file| {
                let (path, metadata) = (file.path(), file.metadata().ok()?);
                let shard = path.parent()?.file_name()?.to_str()?;
                let key = EntryKey::from_stored(format!("{shard}{}", path.file_name()?.to_str()?));
                Some((path, key, taken_by(&metadata)))
            })
            .collect()
    }

    /// Opens the data file of an entry as it is, without locking it. `None` if there is none.
    ///
    /// # Errors
    /// Any error of the file system.
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

    /// Bytes of an entry's data file on disk; 0 if it is gone.
    pub fn allocated(&self, key: &EntryKey) -> u64 {
        allocated_at(&self.path_of(key))
    }

    /// Bytes of the directories of data files themselves.
    pub fn allocated_by_folders(&self) -> u64 {
        let shards: u64 = entries_of(&self.folder).map(|shard| allocated_at(&shard.path())).sum();
        shards + allocated_at(&self.folder)
    }

    /// Returns true if the directory of the entry's data file does not exist yet.
    pub fn needs_folder(&self, key: &EntryKey) -> bool {
        self.path_of(key).parent().is_some_and(|folder| !folder.is_dir())
    }

    fn path_of(&self, key: &EntryKey) -> PathBuf {
        let (shard, rest) = key.as_str().split_at(2);
        self.folder.join(shard).join(rest)
    }
}

/// The entries of a directory; none if it can't be read.
fn entries_of(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Bytes of a file or directory on disk; 0 if it does not exist.
pub(crate) fn allocated_at(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |metadata| taken_by(&metadata))
}

/// The options for opening a file of the cache.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Creates a directory that only its owner may enter, with missing parents.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
