//! The cache of one mount, as the layers above use it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rangemap::RangeSet;
use url::Url;

use super::catalog::Catalog;
use super::chunk::ChunkSize;
use super::entry::cache_dir::CacheDir;
use super::entry::cache_entry::{CacheEntry, OnResize};
use super::entry::cached_file::Hold;
use super::entry::idle_files::IdleFiles;
use super::entry::memory_store::MemoryStore;
use super::entry::version_store::VersionStore;
use super::error::ReadError;
use super::eviction::evictor::Evictor;
use super::fetch::downloader::ChunkDownloader;
use super::fetch::manager::ChunkManager;
use super::integrity::pieces::chunk_size;
use super::integrity::verifier::Verifier;
use super::settings::Settings;
use super::sharing::DirLock;
use crate::http::{Origin, Version};
use crate::origin::{Content, Hash, HashAlgorithm, ListedSize, Sample};
use crate::stats::CacheCounters;

/// The chunk cache of one mount.
pub struct Cache {
    pub(super) manager: Arc<ChunkManager>,
    pub(super) downloader: Arc<ChunkDownloader>,
    pub(super) patience: Duration,
    pub(super) cache_dir: Arc<CacheDir>,
    pub(super) memory: Arc<MemoryStore>,
    pub(super) folder: PathBuf,
    pub(super) catalog: Catalog,
    pub(super) settings: Settings,
    pub(super) chunk_size: ChunkSize,
    pub(super) idle_files: Arc<IdleFiles>,
    /// The guards of the open directory.
    pub(super) occupied: OnceLock<OpenFolder>,
}

/// The guards of an open directory.
pub(super) struct OpenFolder {
    pub(super) dir_lock: DirLock,
    /// Ends with the cache.
    pub(super) _evictor: Evictor,
    /// Likewise.
    pub(super) _verifier: Verifier,
}

/// A version of which the cache holds some bytes.
#[derive(Debug, Clone)]
pub struct Held {
    /// The version.
    pub version: Version,
    /// When the remote file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    pub(super) chunk: ChunkSize,
}

impl Cache {
    pub(super) fn versions(&self) -> &Arc<VersionStore> {
        self.cache_dir.versions()
    }

    /// Returns true if the directory could not be opened yet: then nothing can be kept.
    pub fn is_fallback(&self) -> bool {
        self.cache_dir.is_fallback()
    }

    /// Why reads bypass the cache now, if they do: a sentence without its end.
    pub fn disk_failure(&self) -> Option<String> {
        self.versions().disk_health.told()
    }

    /// Runs a blocking operation (a query or a system call) on a blocking thread.
    ///
    /// # Errors
    /// If the work panics or the runtime shuts down.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Cache>) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let cache = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || work(&cache)).await?)
    }

    /// The stored names and versions.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The current version of a URL, as its origin last gave it, if the cache holds any of it. One
    /// query.
    pub fn newest(&self, url: &Url) -> Option<Held> {
        let row = self.versions().index.newest(&self.versions().url_key(url))?;
        Some(Held {
            version: row.version,
            modified: row.modified,
            chunk: row.chunk,
        })
    }

    /// An entry for a version that is known to be current. Some system calls and a query.
    ///
    /// # Errors
    /// [`ReadError::Store`] if it has too many chunks.
    pub fn entry(&self, mut content: Content, origin: Origin, held: &Held) -> Result<Arc<CacheEntry>, ReadError> {
        let versions = self.versions();
        let chunk = chunk_size(&content, held.chunk);
        let settled = versions.open(&content, chunk, &held.version, held.modified)?;
        // The listing's size may be another version's.
        content.size = ListedSize::Exact(held.version.size);
        let entry = CacheEntry::unsettled(content, origin, chunk);
        let settled = entry.settle(settled);
        let digest = self.downloader.client.digest_of(entry.url(), &settled.version);
        digest
            .into_iter()
            .for_each(|hash| settled.cached_file.check.note_digest(hash));
        versions.checks.consider(&entry, settled);
        Ok(Arc::new(entry))
    }

    /// The SHA-256 of this version of a file, if its server has given it in a response, or a checksum file beside it that the
    /// file was compared with. From memory.
    pub(crate) fn known_sha256(&self, url: &Url, version: &Version) -> Option<Hash> {
        let hash = self.downloader.client.known_hash(url, version);
        hash.filter(|hash| hash.algorithm == HashAlgorithm::Sha256)
    }

    /// Samples of a version's present bytes. Some system calls and a query.
    pub fn samples(&self, content: Content, origin: Origin, held: &Held) -> Vec<Sample> {
        self.entry(content, origin, held)
            .map_or_else(|_| Vec::new(), |entry| entry.samples())
    }

    /// An entry for a file of which only the source's word is known. If there are more bytes than that, `on_resize` is
    /// called.
    pub fn unsettled(&self, content: Content, origin: Origin, on_resize: OnResize) -> Arc<CacheEntry> {
        let chunk = chunk_size(&content, self.chunk_size);
        let entry = CacheEntry::unsettled(content, origin, chunk);
        Arc::new(entry.on_resize(on_resize))
    }

    /// The argument of [`Self::entry`] for a version just learnt from the origin.
    pub fn current(&self, url: &Url, version: Version, modified: Option<SystemTime>) -> Held {
        // An entry of an earlier mount keeps its chunk size.
        let chunk = self
            .newest(url)
            .filter(|held| held.version == version)
            .map_or(self.chunk_size, |held| held.chunk);
        Held {
            version,
            modified,
            chunk,
        }
    }

    /// The size of chunks of files that are new to the cache.
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// What goes into the cache and out of it, in this process.
    pub(crate) fn counters(&self) -> Arc<CacheCounters> {
        Arc::clone(&self.versions().counters)
    }

    /// Bytes in the cache.
    pub fn cached_bytes(&self) -> u64 {
        self.versions().index.cached_bytes()
    }

    /// Bytes that the cache may take on the disk.
    pub fn limit(&self) -> u64 {
        if self.is_fallback() {
            return 0;
        }
        self.versions().quota.size()
    }

    /// Bytes of these parts of a file of `size` bytes on the disk: their chunks, in whole blocks.
    pub fn on_disk<'a>(&self, parts: impl Iterator<Item = &'a Range<u64>>, size: u64) -> u64 {
        let block = self.versions().quota.block();
        let chunks: RangeSet<u64> = parts.map(|bytes| self.chunk_size.touched(bytes)).collect();
        let bytes = chunks.iter().map(|chunks| self.chunk_size.bytes_of(chunks, size));
        bytes
            .map(|bytes| (bytes.end - bytes.start).next_multiple_of(block))
            .sum()
    }

    /// Bytes that can be in the cache without evicting any of them. Some system calls.
    pub fn room(&self) -> u64 {
        if self.is_fallback() {
            return 0;
        }
        self.versions().quota.room()
    }

    /// Returns true if other mounts use the directory now.
    pub fn is_shared(&self) -> bool {
        self.versions().quota.has_others()
    }

    /// Learns what other mounts have recorded of these bytes of an entry. A query, if anything was recorded since.
    pub fn learn(&self, entry: &CacheEntry, bytes: &Range<u64>) {
        if let Some(settled) = entry.settled() {
            self.versions().learn(&settled.cached_file, &entry.chunk.touched(bytes));
        }
    }

    /// Lets the kernel read the file by itself; see [`VersionStore::hold_for_kernel`].
    pub fn hold_for_kernel(&self, entry: &CacheEntry) -> Option<Hold> {
        self.versions().hold_for_kernel(entry)
    }

    /// Returns true if the directory can't be written, as far as is known: then nothing is fetched
    /// ahead.
    pub fn is_disk_failing(&self) -> bool {
        self.versions().disk_health.is_on()
    }

    /// The chunk manager, for requests without a reader.
    pub fn manager(&self) -> &Arc<ChunkManager> {
        &self.manager
    }

    /// Wakes all readers with an error, ends all fetches, and returns when all chunks complete by
    /// then are recorded. A buffer that is still being written may miss that; it is fetched again.
    pub fn close(&self) {
        self.manager.close();
        self.versions().index.sync();
    }

    /// Call it after [`Self::close`], when no process waits for this one any more. Ends recording.
    /// If no other process uses the directory, makes the data durable, so that nothing has to be
    /// verified after a reboot. May take a moment.
    pub fn leave(&self) {
        self.versions().index.finish();
        if let Some(occupied) = self.occupied.get() {
            let index = &self.versions().index;
            if let Some(session) = index.session().filter(|_| occupied.dir_lock.sync_if_last()) {
                index.set_clean(session);
            }
        }
    }
}
