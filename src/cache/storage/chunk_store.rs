//! The folder of data files: one sparse file for each cache entry. What can be done with one that is open is in
//! [`data_file`](super::data_file).
//!
//! A data file has the remote file's size from the start and holes where nothing was fetched, so
//! every byte stands at its own offset. **A file's size or its blocks say nothing of what is
//! present**: only the index does ([`crate::cache::entry::chunk_bitmap`]).
//!
//! Files are named by their entry's key: `data/ab/cdef…`. Whoever uses one holds a shared lock on it
//! ([`locks`](crate::cache::sharing::locks)), and several processes fill one together: the bytes of a version are the same,
//! whoever fetches them. To give a file its size, to punch holes into it or to delete it takes the lock exclusively: nobody
//! else has it open then.
//!
//! Folders are 0700 and files 0600: what one user may read of a server is not for the others.

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
use crate::cache::sharing::locks::{Lock, WHOLE, lock, try_lock};

/// How often a file is looked at again that others have open in a state that makes no sense, and how long apart.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The folder of data files.
#[derive(Debug)]
pub struct ChunkStore {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    descriptors: Arc<DescriptorBudget>,
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
            descriptors: DescriptorBudget::of_this_process(),
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
        DataFile::over(file, &self.disk, size, found)
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
        let data = self.open_uncounted(key, size, forget)?;
        Ok(data.counted_by(descriptor))
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
                let metadata = exclusive.metadata().ok()?;
                // Without a name, another process was faster. What has the name now may be in use.
                (metadata.nlink() > 0 && first()).then_some(())?;
                std::fs::remove_file(&path).ok()?;
                Some(taken_by(&metadata))
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => first().then_some(0),
            Err(_) => None,
        }
    }

    /// What `look` says of the data file of an entry, if it is there and nobody uses it, nor can begin to meanwhile.
    pub fn unused<T>(&self, key: &EntryKey, look: impl FnOnce() -> T) -> Option<T> {
        let data = self.look_at(key).ok()??;
        let exclusive = data.exclusively()?;
        let has_its_name = exclusive.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        has_its_name.then(look)
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
        entries_of(&self.folder).flat_map(|shard| {
            entries_of(&shard.path()).filter_map(move |file| {
                let name = [shard.file_name(), file.file_name()].map(|part| part.to_str().map(str::to_owned));
                let [Some(shard), Some(rest)] = name else { return None };
                EntryKey::from_stored(shard + &rest)
            })
        })
    }

    /// All data files: their path, their entry's key if the name is one, and the bytes that they take on the disk.
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
        allocated_at(&self.path_of(key))
    }

    /// Bytes that the folders of data files take themselves.
    pub fn allocated_by_folders(&self) -> u64 {
        let shards: u64 = entries_of(&self.folder).map(|shard| allocated_at(&shard.path())).sum();
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

/// What is in a folder; nothing if it can't be read.
fn entries_of(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Bytes that a file or folder takes on disk; nothing if it is not there.
pub fn allocated_at(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |metadata| taken_by(&metadata))
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
