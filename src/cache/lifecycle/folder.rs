//! The cache directory: opened at the start of a mount, or as soon as it can be opened.
//!
//! A directory on a disk that is full, read-only or broken does not prevent a mount: reads bypass
//! the cache, and the directory is tried again every [`PAUSE`]. Until then
//! [`VersionStore::fallback`] serves, in which nothing is ever kept. Files that are open when the
//! directory becomes usable continue without it, and are cached when they are opened anew.
//!
//! Errors of the directory itself do prevent a mount: it is a file, belongs to another user, or
//! holds the cache of a newer fetchfs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::cache::config::CacheConfig;
use crate::cache::entry::cached_files::CachedFiles;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::error::CacheError;
use crate::cache::facade::Cache;
use crate::cache::index::{ChunkIndex, FILE, coldest_unopened};
use crate::cache::integrity::checks::Checks;
use crate::cache::quota::{self, Quota};
use crate::cache::sharing::{DirLock, counted};
use crate::cache::storage::chunk_store::{ChunkStore, make_private_folder, private_file};
use crate::cache::storage::disk_health::{DiskHealth, PAUSE};
use crate::stats::CacheCounters;
use crate::util::events;

/// Bytes that a cache needs to begin: an index, its log and the ledger, with some reserve.
const TO_BEGIN: u64 = 2 << 20;

/// Bytes freed from the coldest files on a full disk: enough to begin and to evict more in the
/// regular way.
const TO_MAKE_WAY: u64 = 2 * TO_BEGIN;

/// Number of entries that are searched for that.
const MAKING_WAY: usize = 1000;

/// A cache folder that is open.
pub(crate) struct Folder {
    /// Its shared lock.
    pub dir_lock: DirLock,
    /// Its data files.
    pub store: ChunkStore,
    /// Its index.
    pub index: ChunkIndex,
}

impl Folder {
    /// Opens the directory, and creates what is missing in it.
    ///
    /// # Errors
    /// If it can't be used.
    pub(crate) fn open(folder: &Path) -> Result<Folder, CacheError> {
        // Before anything is created in it.
        ChunkIndex::refuse_newer(folder)?;
        let store = ChunkStore::open(folder)?;
        let dir_lock = DirLock::enter(folder);
        let index = open_index(folder, &store)?;
        Ok(Folder { dir_lock, store, index })
    }

    /// Opens it. If its disk is so full that not even the index can be opened, deletes the coldest
    /// files first.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(crate) fn open_or_make_way(folder: &Path) -> Result<Folder, CacheError> {
        let opened = Folder::open(folder);
        let is_full = |folder| why_unusable(folder).is_some_and(|error| is_want_of_room(&error));
        if opened.is_ok() || !is_full(folder) || !make_way(folder) {
            return opened;
        }
        Folder::open(folder)
    }

    /// Joins the processes that use it, with the configured quota.
    ///
    /// # Errors
    /// If it can't be joined, or the configured size is below the minimum.
    pub(crate) fn occupy(
        self,
        config: &CacheConfig,
        disk_health: Arc<DiskHealth>,
        counters: Arc<CacheCounters>,
    ) -> Result<(DirLock, Arc<VersionStore>), CacheError> {
        let Folder { dir_lock, store, index } = self;
        // The index's sum visits all entries. It is used only if there is no count, or if the count
        // may not have reached the disk before the machine went down.
        let recorded = counted(&config.folder).filter(|_| index.is_of_this_boot());
        let recorded = recorded.unwrap_or_else(|| index.cached_bytes());
        let quota = Quota::open(&config.folder, &config.quota, recorded)?;
        let least = config.least_size();
        if quota.size() < least {
            let size = quota.size();
            return Err(CacheError::TooSmall { size, least });
        }
        let has_holes = store.has_holes();
        if !has_holes {
            log::warn!(
                event = events::HOLES_UNSUPPORTED;
                "{}: its file system does not support punching holes (fallocate), so reads bypass the cache; choose \
                 another directory with --cache-dir",
                config.folder.display()
            );
        }
        let versions = VersionStore {
            has_holes,
            is_fallback: false,
            store,
            index: Arc::new(index),
            cached_files: CachedFiles::default(),
            quota,
            restoring: Mutex::default(),
            disk_health,
            logins: config.logins.clone(),
            checks: Checks::default(),
            counters,
        };
        Ok((dir_lock, Arc::new(versions)))
    }
}

/// Opens the index. A damaged one is replaced by an empty one, and the data files that it knew are
/// deleted.
fn open_index(folder: &Path, store: &ChunkStore) -> Result<ChunkIndex, CacheError> {
    match ChunkIndex::open(folder) {
        Err(CacheError::Index { is_damaged: true, .. }) => ChunkIndex::begin_anew(folder, store),
        opened => opened,
    }
}

impl VersionStore {
    /// A fallback for a directory that can't be opened: it knows nothing and keeps nothing.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn fallback(
        config: &CacheConfig,
        disk_health: Arc<DiskHealth>,
        counters: Arc<CacheCounters>,
    ) -> Result<Arc<VersionStore>, CacheError> {
        Ok(Arc::new(VersionStore {
            has_holes: false,
            is_fallback: true,
            store: ChunkStore::not_made(&config.folder),
            index: Arc::new(ChunkIndex::fallback()?),
            cached_files: CachedFiles::default(),
            quota: Quota::fallback(&config.quota),
            restoring: Mutex::default(),
            disk_health,
            logins: config.logins.clone(),
            checks: Checks::default(),
            counters,
        }))
    }
}

/// The message why the directory is not open, if that may pass. `None` if the disk is not the
/// cause.
pub(crate) fn may_pass(config: &CacheConfig, error: &CacheError) -> Option<String> {
    match error {
        CacheError::NewerIndex { .. } => None,
        CacheError::TooSmall { size, least } => {
            // The default is half of what is free, and less is free than usual.
            let is_of_now = config.quota.size.is_none() && quota::half_of_disk(&config.folder) >= *least;
            is_of_now.then(|| {
                format!(
                    "its disk is nearly full: {size} bytes are available to the cache, and it \
                                       needs {least}"
                )
            })
        }
        CacheError::Folder { .. } | CacheError::Index { .. } => {
            let why = why_unusable(&config.folder).filter(is_of_the_disk);
            why.map(|error| error.to_string())
        }
    }
}

/// The system's error when the directory is created and some bytes are written there; `None` on
/// success.
fn why_unusable(folder: &Path) -> Option<io::Error> {
    let path = folder.join(format!(".probe-{}", std::process::id()));
    let probe = || -> io::Result<()> {
        make_private_folder(folder)?;
        let file = private_file().create(true).truncate(true).open(&path)?;
        allocate(&file, TO_BEGIN)
    };
    let outcome = probe();
    // If it stays, it is a small file without a user.
    let _ = std::fs::remove_file(&path);
    outcome.err()
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes.cast_signed()) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.write_all_at(&vec![1; bytes as usize], 0),
        outcome => Ok(outcome?),
    }
}

fn is_want_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Returns true if the disk or its connection is the cause, so that it may work again later. A
/// permission is intended.
fn is_of_the_disk(error: &io::Error) -> bool {
    let passes = [
        libc::EROFS,
        libc::EIO,
        libc::ENXIO,
        libc::ENODEV,
        libc::ESTALE,
        libc::ENOTCONN,
        libc::ETIMEDOUT,
        libc::EHOSTDOWN,
    ];
    is_want_of_room(error) || error.raw_os_error().is_some_and(|errno| passes.contains(&errno))
}

/// Deletes the coldest data files that are not pinned, so that the index can be opened. Returns
/// true if there is space now. Later opens or evictions notice that they are gone.
fn make_way(folder: &Path) -> bool {
    let dir_lock = DirLock::enter(folder);
    // A process that uses the directory evicts by itself; and reading the unopened index requires
    // that no process writes it.
    if !dir_lock.is_alone() {
        return false;
    }
    let Ok(store) = ChunkStore::open(folder) else {
        return false;
    };
    let mut freed = 0;
    for key in coldest_unopened(&folder.join(FILE), MAKING_WAY) {
        freed += store.remove_unused(&key, || true).unwrap_or(0);
        if freed >= TO_MAKE_WAY {
            break;
        }
    }
    if freed > 0 {
        log::warn!(
            event = events::DISK_FULL;
            "the disk of the cache directory {} is full; evicted {freed} bytes of the least recently used data",
            folder.display()
        );
    }
    freed >= TO_BEGIN
}

/// Tries to open the directory at intervals, until that succeeds or the cache is closed.
pub(crate) fn keep_trying(cache: &Arc<Cache>, config: CacheConfig, runtime: &Handle) {
    let cache = Arc::downgrade(cache);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(PAUSE).await;
            let (cache, config) = (Weak::clone(&cache), config.clone());
            let trying =
                tokio::task::spawn_blocking(move || cache.upgrade().is_none_or(|cache| cache.swap_in(&config)));
            // It fails only if it panics, or if the runtime shuts down.
            if trying.await.unwrap_or(true) {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_folder_itself_does_not_pass() {
        let dir = tempfile::tempdir().unwrap();
        let is_of_the_disk_in = |folder: &Path| why_unusable(folder).filter(is_of_the_disk).is_some();
        assert!(why_unusable(&dir.path().join("new/er")).is_none());
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(why_unusable(&file).is_some() && !is_of_the_disk_in(&file));
        assert!(!is_of_the_disk_in(&file.join("below")));
        let errors = [libc::EACCES, libc::EPERM, libc::ENOTDIR].map(io::Error::from_raw_os_error);
        assert!(!errors.iter().any(is_of_the_disk));
        let errors = [libc::EROFS, libc::ENOSPC, libc::EDQUOT, libc::EIO].map(io::Error::from_raw_os_error);
        assert!(errors.iter().all(is_of_the_disk));
    }

    #[test]
    fn the_coldest_files_make_way_and_no_more_than_is_needed() {
        use crate::cache::chunk::ChunkSize;
        use crate::http::{Validator, Version};
        use url::Url;

        let dir = tempfile::tempdir().unwrap();
        let config = CacheConfig {
            quota: quota::QuotaConfig {
                size: Some(quota::Share::Bytes(64 << 20)),
                ..Default::default()
            },
            ..CacheConfig::in_folder(dir.path())
        };
        let disk_health = Arc::new(DiskHealth::none_in(dir.path()));
        let (dir_lock, versions) = Folder::open(dir.path())
            .unwrap()
            .occupy(&config, disk_health, Arc::default())
            .unwrap();
        let chunk = ChunkSize::new(256 << 10).unwrap();
        let mut keys = Vec::new();
        for number in 0..6_u64 {
            let version = Version {
                size: 3 << 20,
                validator: Validator::Strong("\"v\"".into()),
            };
            let url = Url::parse(&format!("http://h/{number}")).unwrap();
            let content = crate::origin::Content::at(url, crate::origin::ListedSize::Unknown);
            let settled = versions.open(&content, chunk, &version, None).unwrap();
            let room = versions.quota.reserve(3 << 20).unwrap();
            let write = |data: &crate::cache::storage::data_file::DataFile| data.write_all_at(&[vec![7; 3 << 20]], 0);
            settled.cached_file.write(room, write).unwrap();
            let key = settled.cached_file.key.clone();
            versions.index.record(crate::cache::index::Record::Use {
                key: key.clone(),
                coldest: 10 - number,
                stalest: 0,
                segments: Vec::new(),
            });
            versions.index.sync();
            keys.push(key);
        }
        // The coldest one is pinned, so it stays.
        versions.index.pin(&keys[5]);
        assert!(!make_way(dir.path()), "somebody uses it");
        versions.index.finish();
        drop((dir_lock, versions));
        assert!(make_way(dir.path()));
        let store = ChunkStore::open(dir.path()).unwrap();
        let there: Vec<_> = keys.iter().map(|key| !store.lacks(key)).collect();
        assert_eq!(there, [true, true, true, false, false, true]);
    }
}
