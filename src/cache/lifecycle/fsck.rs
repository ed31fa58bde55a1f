//! Fsck: the user's commands on a cache directory that may be in use: inspect, check, clear.
//!
//! Checking takes no locks, so running mounts are not affected. **A finding counts only if the
//! index did not change during the check.** A recorded chunk is in the data file at any moment,
//! because a mount writes bytes before it records them, and forgets them before it evicts them.
//! With a changing index, a mount may have evicted and fetched the chunk meanwhile.
//!
//! Dropping takes a data file's lock and skips files in use. As everywhere, the index forgets
//! before the data is deleted.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use xxhash_rust::xxh3::xxh3_64;

use crate::cache::error::CacheError;
use crate::cache::index::{CatalogUpdate, ChunkIndex, EntryInfo, FILE, Record};
use crate::cache::key::EntryKey;
use crate::cache::sharing::{DirLock, demand_audit};
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::DataFile;
use crate::origin::{Hash, HashAlgorithm, Hasher};
use crate::util::events;

/// Maximum number of checks of a finding beside a mount that records. A mount usually records five
/// times per second, and a check takes milliseconds.
const LOOKS: u32 = 1000;

/// Maximum number of times that a whole file is read beside a mount that records.
const FULL_LOOKS: u32 = 10;

/// Bytes of a file that are read at a time.
const HASHED_AT_ONCE: u64 = 1 << 20;

/// A cache directory, beside the mounts that use it.
pub(crate) struct Fsck {
    folder: PathBuf,
    dir_lock: DirLock,
    store: ChunkStore,
    index: ChunkIndex,
}

/// A fault of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Chunks are recorded, but there is no data file.
    NoFile,
    /// The data file has another size.
    WrongSize {
        /// Its size in bytes.
        found: u64,
    },
    /// A recorded chunk lies over a hole: it reads as zeros, which were not its bytes.
    Hole(u64),
    /// A recorded chunk's bytes are not those that were fetched.
    WrongBytes(u64),
    /// A recorded chunk can't be read.
    Unreadable(u64, String),
    /// A chunk is recorded that the file does not have.
    PastEnd(u64),
    /// The entry's count of its chunks is wrong.
    WrongCount {
        /// The count of the entry.
        said: u64,
        /// The number of its chunk rows.
        counted: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NoFile => write!(f, "its data file is missing"),
            Finding::WrongSize { found } => write!(f, "its data file has {found} bytes, which is not the file's size"),
            Finding::Hole(chunk) => write!(f, "chunk {chunk} is a hole in the data file"),
            Finding::WrongBytes(chunk) => write!(f, "chunk {chunk} does not match its checksum"),
            Finding::Unreadable(chunk, error) => write!(f, "chunk {chunk} can't be read: {error}"),
            Finding::PastEnd(chunk) => write!(f, "chunk {chunk} is recorded past the file's end"),
            Finding::WrongCount { said, counted } => {
                write!(f, "the entry counts {said} chunks, but {counted} are recorded")
            }
        }
    }
}

impl Finding {
    fn chunk(&self) -> Option<u64> {
        match *self {
            Finding::Hole(chunk)
            | Finding::WrongBytes(chunk)
            | Finding::Unreadable(chunk, _)
            | Finding::PastEnd(chunk) => Some(chunk),
            Finding::NoFile | Finding::WrongSize { .. } | Finding::WrongCount { .. } => None,
        }
    }
}

/// The result of dropping something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// It was dropped.
    Yes,
    /// A mount uses it, so it stays.
    InUse,
}

impl Fsck {
    /// Opens the directory of a cache. A missing one is not created.
    ///
    /// # Errors
    /// If there is no cache in it, or its index can't be used.
    pub(crate) fn open(folder: &Path) -> Result<Fsck, CacheError> {
        let refuse = |reason| CacheError::Folder {
            path: folder.display().to_string(),
            reason,
        };
        match std::fs::metadata(folder.join(FILE)) {
            Ok(metadata) if metadata.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(refuse("you may not read it".to_owned()));
            }
            _ if !folder.exists() => return Err(refuse("it does not exist".to_owned())),
            _ => return Err(refuse("there is no cache in it".to_owned())),
        }
        let store = ChunkStore::open(folder)?;
        let dir_lock = DirLock::enter(folder);
        let index = ChunkIndex::open(folder)?;
        Ok(Fsck {
            folder: folder.to_owned(),
            dir_lock,
            store,
            index,
        })
    }

    /// Opens it on a disk that fails when the test says so.
    #[cfg(test)]
    pub(crate) fn open_on(
        folder: &Path,
        disk: std::sync::Arc<dyn crate::cache::storage::disk::Disk>,
    ) -> Result<Fsck, CacheError> {
        let fsck = Fsck::open(folder)?;
        let store = fsck.store.on_disk(disk);
        Ok(Fsck { store, ..fsck })
    }

    /// Moves a damaged index aside, as a mount would, and deletes the data files that it knew: the
    /// cache begins anew. Changes nothing while a mount uses the directory.
    ///
    /// # Errors
    /// If the directory can't be changed.
    pub(crate) fn begin_anew(folder: &Path) -> Result<Dropped, CacheError> {
        let store = ChunkStore::open(folder)?;
        let dir_lock = DirLock::enter(folder);
        if !dir_lock.is_alone() {
            return Ok(Dropped::InUse);
        }
        ChunkIndex::begin_anew(folder, &store)?.finish();
        Ok(Dropped::Yes)
    }

    /// The index, for reading.
    pub(crate) fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// The data files, for reading.
    pub(crate) fn store(&self) -> &ChunkStore {
        &self.store
    }

    /// Call this after the last change. Mounts that use the directory then audit it.
    pub(crate) fn close(self) {
        self.index.finish();
        if let Err(error) = demand_audit(&self.folder) {
            log::info!(
                event = events::MOUNTS_NOT_NOTIFIED;
                "can't notify mounts of the freed space, which they will notice later: {error}"
            );
        }
        if let Some(session) = self.index.session().filter(|_| self.dir_lock.sync_if_last()) {
            self.index.set_clean(session);
        }
    }

    /// Checks every chunk of an entry. `checked` is called with the bytes of each.
    ///
    /// # Errors
    /// If the data file can't be opened.
    pub(crate) fn verify(&self, entry: &EntryInfo, mut checked: impl FnMut(u64)) -> io::Result<Vec<Finding>> {
        let recorded = self.index.recorded(&entry.key).map_err(io::Error::other)?.chunks;
        let mut findings = Vec::new();
        let counted = recorded.len() as u64;
        if counted != entry.chunks_present && self.count_is_wrong(&entry.key) {
            let said = entry.chunks_present;
            findings.push(Finding::WrongCount { said, counted });
        }
        let data = match self.store.look_at(&entry.key)? {
            Some(data) if data.size() == entry.size => data,
            _ => {
                checked(entry.cached());
                findings.extend(self.in_quiet(|| self.look_at_file(entry))?);
                return Ok(findings);
            }
        };
        let mut buffer = Vec::new();
        for (chunk, checksum) in recorded {
            let bytes = entry.chunk.bytes_of(&(chunk..chunk + 1), entry.size);
            let found = if bytes.is_empty() {
                Some(Finding::PastEnd(chunk))
            } else {
                buffer.resize((bytes.end - bytes.start) as usize, 0);
                check(&data, chunk, bytes.start, &mut buffer, checksum)
            };
            if found.is_some() {
                findings.extend(self.in_quiet(|| self.look_at_chunk(entry, chunk, &mut buffer))?);
            }
            checked(bytes.end - bytes.start);
        }
        Ok(findings)
    }

    /// The hash of a complete file. `None` if it is not complete, also if it does not stay so. `read` is called with the
    /// bytes of each step.
    ///
    /// # Errors
    /// If the data file can't be read.
    pub(crate) fn hash_of(
        &self,
        entry: &EntryInfo,
        algorithm: HashAlgorithm,
        mut read: impl FnMut(u64),
    ) -> io::Result<Option<Hash>> {
        for _ in 0..FULL_LOOKS {
            let before = self.index.version();
            let is_complete = self
                .index
                .counts(&entry.key)
                .map_err(io::Error::other)?
                .is_some_and(|(said, _)| said == entry.chunk.count(entry.size));
            let Some(data) = self
                .store
                .look_at(&entry.key)?
                .filter(|data| is_complete && data.size() == entry.size)
            else {
                return Ok(None);
            };
            let (mut hasher, mut buffer, mut at) = (Hasher::new(algorithm), Vec::new(), 0);
            while at < entry.size {
                let end = (at + HASHED_AT_ONCE).min(entry.size);
                buffer.resize((end - at) as usize, 0);
                data.read_exact_at(&mut buffer, at)?;
                hasher.update(&buffer);
                read(end - at);
                at = end;
            }
            if self.index.version() == before {
                return Ok(Some(hasher.finish()));
            }
            // A mount has recorded something meanwhile, perhaps the eviction of a part.
            let hash = hasher.finish();
            if entry.published.as_ref() == Some(&hash) {
                return Ok(Some(hash));
            }
        }
        Ok(None)
    }

    /// The fault of the data file as a whole, if any chunks of it are recorded.
    fn look_at_file(&self, entry: &EntryInfo) -> io::Result<Option<Finding>> {
        if self
            .index
            .recorded(&entry.key)
            .map_err(io::Error::other)?
            .chunks
            .is_empty()
        {
            return Ok(None);
        }
        Ok(match self.store.look_at(&entry.key)? {
            None => Some(Finding::NoFile),
            Some(data) => Some(data.size())
                .filter(|&found| found != entry.size)
                .map(|found| Finding::WrongSize { found }),
        })
    }

    /// The fault of a chunk that may be recorded.
    fn look_at_chunk(&self, entry: &EntryInfo, chunk: u64, buffer: &mut [u8]) -> io::Result<Option<Finding>> {
        let Some(checksum) = self.index.checksum(&entry.key, chunk) else {
            return Ok(None);
        };
        let bytes = entry.chunk.bytes_of(&(chunk..chunk + 1), entry.size);
        if bytes.is_empty() {
            return Ok(Some(Finding::PastEnd(chunk)));
        }
        Ok(match self.store.look_at(&entry.key)? {
            None => Some(Finding::NoFile),
            Some(data) => check(&data, chunk, bytes.start, buffer, checksum),
        })
    }

    /// Repeats a check until nothing was recorded meanwhile. If that never happens, the finding is
    /// attributed to running mounts.
    fn in_quiet(&self, mut look: impl FnMut() -> io::Result<Option<Finding>>) -> io::Result<Option<Finding>> {
        for _ in 0..LOOKS {
            let before = self.index.version();
            let Some(found) = look()? else { break };
            if self.index.version() == before {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn count_is_wrong(&self, key: &EntryKey) -> bool {
        // One query: a running mount records concurrently.
        let counted = self.index.counts(key);
        counted.is_ok_and(|counts| counts.is_some_and(|(said, counted)| said != counted))
    }

    /// Drops the faulty chunks, so that they are fetched again. Changes nothing if the entry is in
    /// use.
    ///
    /// # Errors
    /// If the data file can't be opened or changed.
    pub(crate) fn repair(&self, entry: &EntryInfo, findings: &[Finding]) -> io::Result<Dropped> {
        let is_whole_file = |finding: &Finding| matches!(finding, Finding::NoFile | Finding::WrongSize { .. });
        if findings.iter().any(is_whole_file) {
            return Ok(self.clear(&entry.key));
        }
        let data = self.store.look_at(&entry.key)?;
        let Some(exclusive) = data.as_ref().and_then(DataFile::exclusively) else {
            return Ok(Dropped::InUse);
        };
        let chunks: Vec<u64> = findings.iter().filter_map(Finding::chunk).collect();
        self.index.record(Record::ForgetChunks {
            key: entry.key.clone(),
            chunks: chunks.clone(),
        });
        self.index.record(Record::Recount { key: entry.key.clone() });
        self.index.sync();
        for chunk in chunks {
            let bytes = entry.chunk.bytes_of(&(chunk..chunk + 1), entry.size);
            if !bytes.is_empty() {
                exclusive.punch(&bytes)?;
            }
        }
        Ok(Dropped::Yes)
    }

    /// Drops an entry with all its bytes, unless it is in use.
    pub(crate) fn clear(&self, key: &EntryKey) -> Dropped {
        if self.store.remove_unused(key, || self.index.forget(key)).is_some() {
            Dropped::Yes
        } else {
            Dropped::InUse
        }
    }

    /// Drops the catalog: the listings of all directories, and the versions of files without cached
    /// bytes.
    pub(crate) fn clear_names(&self) {
        self.index.note(CatalogUpdate::Nothing);
    }

    /// The data files without an entry, with their bytes on the disk.
    pub(crate) fn orphans(&self) -> Vec<(EntryKey, u64)> {
        let files = self.store.files().into_iter();
        let keyed = files.filter_map(|(_, key, bytes)| Some((key?, bytes)));
        self.index.sync();
        // A file that a mount has created and not recorded yet is open there.
        let is_orphan = |key: &EntryKey| self.store.unused(key, || !self.index.has_committed(key)) == Some(true);
        keyed.filter(|(key, _)| is_orphan(key)).collect()
    }
}

/// The fault of one chunk, if any.
fn check(data: &DataFile, chunk: u64, start: u64, buffer: &mut [u8], checksum: u64) -> Option<Finding> {
    match data.read_exact_at(buffer, start) {
        Err(error) => Some(Finding::Unreadable(chunk, error.to_string())),
        Ok(()) if xxh3_64(buffer) == checksum => None,
        Ok(()) if data.has_hole(&(start..start + buffer.len() as u64)) => Some(Finding::Hole(chunk)),
        Ok(()) => Some(Finding::WrongBytes(chunk)),
    }
}
