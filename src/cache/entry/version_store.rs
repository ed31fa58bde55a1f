//! The version store: from a version of a remote file to its data file and present chunks.
//!
//! This is the one place that compares the index with the data files. Rows are trusted only if
//! their data file is found as they left it; doubtful chunks are verified ([`super::unverified`]).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::cache_entry::{CacheEntry, Settled};
use super::cached_file::{CachedFile, Hold};
use super::cached_files::CachedFiles;
use super::chunk_bitmap::ChunkBitmap;
use super::unverified::Unverified;
use crate::cache::chunk::ChunkSize;
use crate::cache::error::ReadError;
use crate::cache::index::{Candidate, ChunkIndex, EntryRow, Record, Recorded};
use crate::cache::integrity::checks::Checks;
use crate::cache::integrity::pieces::pieces_of;
use crate::cache::key::{EntryKey, UrlKey};
use crate::cache::quota::policy::{Use, place};
use crate::cache::quota::{Quota, Recency};
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::{DataFile, Found};
use crate::cache::storage::disk_health::DiskHealth;
use crate::http::{Version, redact};
use crate::origin::{Content, Logins};
use crate::stats::CacheCounters;
use crate::util::events;
use crate::util::plural::{count, verb};

/// Maximum number of chunks of one file. Each takes a bit in memory: 128 MiB of bits are enough for
/// 256 TiB in chunks of the default size. A server that announces more is mistaken or malicious.
const MOST_CHUNKS: u64 = 1 << 30;

/// Opens versions.
pub(crate) struct VersionStore {
    /// The data files.
    pub store: ChunkStore,
    /// The records of them.
    pub index: Arc<ChunkIndex>,
    /// The open ones.
    pub cached_files: CachedFiles,
    /// The space that they may take.
    pub quota: Arc<Quota>,
    /// Held while a truncated data file is restored: rare, and some system calls.
    pub(in crate::cache) restoring: Mutex<()>,
    /// Whether data files can be written.
    pub disk_health: Arc<DiskHealth>,
    /// True if the file system of the cache can punch holes. If not, nothing is kept there.
    pub has_holes: bool,
    /// True if this is the fallback for a directory that can't be opened
    /// ([`cache_dir`](crate::cache::entry::cache_dir)).
    pub is_fallback: bool,
    /// The login with which each URL is requested.
    pub logins: Logins,
    /// The files to compare with published hashes.
    pub checks: Checks,
    /// What goes into the cache and out of it.
    pub counters: Arc<CacheCounters>,
}

impl VersionStore {
    /// Opens the data file of a version of this content, and loads which of its chunks are present, and
    /// whether they were compared with the published hash. Records this as the current version of the URL. Blocks for some system calls and queries.
    ///
    /// If the data file can't be opened or created, the version [has no
    /// file](CachedFile::has_no_file): its reads bypass the cache.
    ///
    /// # Errors
    /// [`ReadError::Store`] if it has too many chunks.
    pub(crate) fn open(
        &self,
        content: &Content,
        chunk: ChunkSize,
        version: &Version,
        modified: Option<SystemTime>,
    ) -> Result<Settled, ReadError> {
        let url = content.url();
        let chunks = chunk.count(version.size);
        if chunks > MOST_CHUNKS {
            return Err(ReadError::Store(format!(
                "a file of {} bytes is too large for chunks of {}",
                version.size,
                chunk.bytes()
            )));
        }
        let mut key = EntryKey::of_login(url, version, chunk, self.logins.key(url));
        if let Some(pieces) = pieces_of(content) {
            key = key.of_pieces(pieces);
        }
        let cached_file = match self.cached_files.get(&key) {
            Some(cached_file) => cached_file,
            None => {
                let cached_file = self.open_file(key.clone(), chunk, version.size)?;
                if cached_file.is_new() && self.index.has_other_version(&self.url_key(url), version) {
                    cached_file.set_replaces_version();
                }
                cached_file
            }
        };
        let settled = Settled {
            version: version.clone(),
            modified,
            presence: Arc::clone(&cached_file.presence),
            rejected: cached_file.check.shown(),
            cached_file,
            memory: None,
        };
        if settled.cached_file.has_no_file() {
            return Ok(settled);
        }
        self.recall_check(content, &settled);
        let inode = settled
            .cached_file
            .inode()
            .map_err(|error| ReadError::Store(error.to_string()))?;
        let row = EntryRow {
            key,
            version: version.clone(),
            modified,
            chunk,
        };
        let record = Record::Entry {
            row,
            url_key: self.url_key(url),
            url: redact(url).into(),
            inode,
            is_suspect: !settled.cached_file.unverified.is_empty(),
            rank: self.quota.moment(0).clock,
        };
        let published = Record::Published {
            key: settled.cached_file.key.clone(),
            hash: content.hash().cloned(),
        };
        self.record_contents(&settled.cached_file, record);
        // What a server or a checksum file says of the version was recorded when it was compared.
        if content.hash().is_some() {
            self.record_contents(&settled.cached_file, published);
        }
        Ok(settled)
    }

    /// The key under which versions, listings and pins are recorded for this mount's login, and for
    /// no other.
    pub(crate) fn url_key(&self, url: &Url) -> UrlKey {
        UrlKey::of_login(url, self.logins.key(url))
    }

    /// Returns true if the cache directory is still in its place and the same. If not, that is
    /// noted: what is written to the old directory would never be found again.
    pub(crate) fn is_in_place(&self) -> bool {
        let is_in_place = self.index.is_in_place();
        if self.disk_health.folder_is(is_in_place) {
            // The evictor checks regularly whether it is back.
            self.quota.wake_evictor();
        }
        is_in_place
    }

    fn open_file(&self, key: EntryKey, chunk: ChunkSize, size: u64) -> Result<Arc<CachedFile>, ReadError> {
        if !self.has_holes || !self.is_in_place() {
            return Self::without_file(key, chunk, size);
        }
        if self.store.needs_folder(&key) {
            self.quota.add_folder();
        }
        let forget = || {
            // Usually there is nothing to forget, and nothing to wait for. Otherwise the forgetting
            // must not stay queued: another process may record what it fetched into this very file
            // meanwhile.
            if !self.index.is_pending(&key) && !self.index.has_committed(&key) {
                return true;
            }
            // Another program has deleted or truncated the file, and its bytes still count.
            self.quota.demand_audit();
            self.index.commit([Record::Forget { key: key.clone() }])
        };
        let data = match self.store.open_file(&key, size, forget) {
            Ok(data) => data,
            Err(error) => return self.nowhere(key, chunk, size, &error),
        };
        let (recorded, row) = match data.found {
            // If the records are unknown, the file is left untouched.
            Found::Intact => match self.index.recorded_soon(&key) {
                Some(recorded) => (recorded, self.index.candidate(&key)),
                None => return Self::without_file(key, chunk, size),
            },
            Found::Nothing | Found::Nowhere => (Recorded::default(), None),
        };
        Ok(self
            .cached_files
            .insert(cached_file(key, chunk, size, data, recorded, row.as_ref())))
    }

    /// A version whose data file can't be created for this reason. Not shared: the next opener
    /// tries again.
    fn nowhere(
        &self,
        key: EntryKey,
        chunk: ChunkSize,
        size: u64,
        why: &io::Error,
    ) -> Result<Arc<CachedFile>, ReadError> {
        if why.kind() == io::ErrorKind::FileTooLarge {
            // For example on a file system without holes: other files may fit.
            log::warn!(
                event = events::FILE_TOO_LARGE;
                "a file of {size} bytes exceeds the maximum file size of the cache's file system, or the limit \
                 `ulimit -f`; reads of it bypass the cache"
            );
        } else if why.raw_os_error() == Some(libc::EMFILE) {
            // This says nothing about the directory, and does not concern open data files.
            log::warn!(
                event = events::DESCRIPTORS_EXHAUSTED;
                "the limit of open files is reached, so reads of a file bypass the cache; raise the limit (ulimit \
                 -n, LimitNOFILE=)"
            );
        } else {
            self.disk_health.failed(why);
        }
        Self::without_file(key, chunk, size)
    }

    fn without_file(key: EntryKey, chunk: ChunkSize, size: u64) -> Result<Arc<CachedFile>, ReadError> {
        let data = DataFile::nowhere(size).map_err(|error| ReadError::Store(error.to_string()))?;
        Ok(Arc::new(cached_file(key, chunk, size, data, Recorded::default(), None)))
    }

    /// Opens a recorded entry, to free space in it. `None` if its file is missing or changed, or
    /// another process uses it.
    pub(crate) fn open_recorded(&self, row: &Candidate) -> Option<Arc<CachedFile>> {
        if let Some(open) = self.cached_files.get(&row.key) {
            return Some(open);
        }
        let data = self.store.open_recorded(&row.key, row.size)?;
        let recorded = self.index.recorded_soon(&row.key)?;
        let cached_file = cached_file(row.key.clone(), row.chunk, row.size, data, recorded, Some(row));
        Some(self.cached_files.insert(cached_file))
    }

    /// Learns what other processes have recorded of these chunks. Needs a query if anything was
    /// recorded since the last call, or these chunks were not read since.
    pub(crate) fn learn(&self, cached_file: &CachedFile, chunks: &Range<u64>) {
        // Later records are seen, or change the version once more.
        let version = self.index.version();
        let unread = cached_file.learnt.lock().unread(version, chunks);
        for chunks in unread {
            cached_file.learn(|| {
                self.index
                    .committed_chunks(&cached_file.key, &chunks)
                    .unwrap_or_default()
            });
            cached_file.learnt.lock().note(version, chunks);
        }
    }

    /// Queues a record about a data file. The file stays open until that is committed: other mounts
    /// and `fetchfs cache` clean up and free space in files without users, by what is recorded of
    /// them.
    pub(crate) fn record_contents(&self, cached_file: &CachedFile, record: Record) {
        self.index.record_keeping(record, cached_file.keep_open());
    }

    /// Frees what is in the file beside present chunks; see [`CachedFile::trim`].
    pub(crate) fn trim(&self, cached_file: &CachedFile, all: bool) {
        let change = cached_file.trim(all, |chunks| self.index.committed_chunks(&cached_file.key, chunks));
        self.quota.adjust(change.counted);
    }

    /// Queues the recency of an entry.
    pub(crate) fn note_use(&self, cached_file: &CachedFile) {
        let cache = self.quota.moment(0).cache;
        let present = (0..cached_file.presence.segments())
            .filter(|&segment| cached_file.presence.in_segment(segment).next().is_some());
        let uses: Vec<_> = present
            .map(|segment| {
                (
                    cached_file.recency.of(segment),
                    place(cached_file.key.as_str(), segment),
                )
            })
            .collect();
        self.index.record(Record::Use {
            key: cached_file.key.clone(),
            coldest: uses
                .iter()
                .map(|(used, place)| used.rank(*place, cache))
                .min()
                .unwrap_or(0),
            stalest: uses.iter().map(|(used, _)| used.seconds).min().unwrap_or(u32::MAX),
            segments: cached_file.recency.to_bytes(),
        });
    }

    /// Verifies unverified chunks of a settled entry, from the one that begins at `bytes.start` on,
    /// until one is not unverified or has wrong bytes. Good chunks become present, and `verified`
    /// is called with the byte offset reached. A bad chunk is forgotten, so that it is fetched.
    /// Returns the byte offset reached. Blocks for reading.
    pub(crate) fn verify(
        &self,
        entry: &CacheEntry,
        settled: &Settled,
        bytes: &Range<u64>,
        verified: impl Fn(u64),
    ) -> u64 {
        let mut buffer = Vec::new();
        let mut reached = bytes.start;
        while reached < bytes.end {
            let chunk = entry.chunk.index(reached);
            // Marked as used before the look-up, so that it is not evicted from here on. Otherwise
            // its bytes could be punched out between verification and presence, and zeros would
            // count as fetched bytes.
            let _stays = settled.cached_file.use_chunks(chunk..chunk + 1);
            let Some(checksum) = settled.cached_file.unverified.checksum(chunk) else {
                break;
            };
            let place = entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size());
            // At most 64 MiB.
            buffer.resize((place.end - place.start) as usize, 0);
            let read = settled.cached_file.read_exact_at(&mut buffer, place.start);
            if read.is_err() || xxh3_64(&buffer) != checksum {
                log::warn!(
                    event = events::CHECKSUM_MISMATCH;
                    "{}: checksum mismatch in cached chunk {chunk}; it will be fetched again",
                    redact(entry.url())
                );
                self.forget_chunk(settled, chunk);
                self.clear_suspect(settled, chunk);
                break;
            }
            settled.presence.insert(chunk);
            self.clear_suspect(settled, chunk);
            reached = place.end;
            verified(reached);
        }
        reached
    }

    /// A chunk is not unverified any more, and its new state was queued for the index.
    pub(crate) fn clear_suspect(&self, settled: &Settled, chunk: u64) {
        if settled.cached_file.unverified.clear(chunk) {
            let key = settled.cached_file.key.clone();
            self.index.record(Record::Trust { key });
        }
    }

    /// Lets the kernel read the file by itself, if all of it is present. **Reads by the kernel have
    /// no fallback.** So it is refused if the data file was truncated, or if the disk or the index
    /// has failed since the mount began.
    pub(crate) fn hold_for_kernel(&self, entry: &CacheEntry) -> Option<Hold> {
        let settled = entry.settled()?;
        if self.disk_health.has_disk_failed() || self.index.has_failed() || self.awaits_check(&entry.content, settled) {
            return None;
        }
        let hold = settled.cached_file.hold_if_complete()?;
        let Err(error) = settled.cached_file.check_ends() else {
            return Some(hold);
        };
        drop(hold);
        self.recover(entry, settled, &(settled.size() - 1..settled.size()), &error);
        None
    }

    /// If another process has truncated the data file, forgets the chunks in that part and restores
    /// the size. Call it before and after a write, which turns the missing part before it into zeros.
    ///
    /// The length that is found may be too large: a write may have made the file longer again. Then it has a hole in a chunk
    /// that counts as present, and the part begins there.
    ///
    /// # Errors
    /// `ResourceBusy` if another process has it open; or any error of the file system.
    pub(crate) fn restore_if_cut(&self, entry: &CacheEntry, settled: &Settled) -> io::Result<()> {
        if settled.cached_file.cut_to()?.is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.restoring.lock();
        let Some(len) = settled.cached_file.cut_to()? else {
            return Ok(());
        };
        log::warn!(
            event = events::DATA_FILE_TRUNCATED;
            "{}: another program truncated its data file in the cache to {len} bytes or less; missing chunks will be \
             fetched again",
            redact(entry.url())
        );
        let (chunk, size) = (entry.chunk, settled.size());
        let mut before = 0..chunk.index(len);
        let has_hole = |at: &u64| {
            settled.presence.contains(*at) && settled.cached_file.has_hole(&chunk.bytes_of(&(*at..at + 1), size))
        };
        let first = before.find(has_hole).unwrap_or(before.end);
        self.lose(settled, first..chunk.count(size));
        settled.cached_file.restore_size()
    }

    /// Handles a failed read of `bytes`, which were present. Returns true if they are forgotten
    /// now, and will be fetched again.
    pub(crate) fn recover(&self, entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            // If its size can't be restored now, the missing chunks are forgotten all the same.
            return self.restore_if_cut(entry, settled).is_ok() || self.lose(settled, entry.chunk.touched(bytes)) > 0;
        }
        self.disk_health.note_disk(error);
        if error.raw_os_error().is_none() {
            return false;
        }
        let lost = self.lose(settled, entry.chunk.touched(bytes));
        if lost > 0 {
            log::warn!(
                event = events::CHUNKS_LOST;
                "{}: {} in the cache can't be read ({error}), and {} fetched again",
                redact(entry.url()),
                count(lost as u64, "chunk"),
                verb(lost as u64, "is", "are")
            );
        }
        lost > 0
    }

    /// Forgets the present ones of these chunks. Returns their number.
    fn lose(&self, settled: &Settled, chunks: Range<u64>) -> usize {
        let present = chunks.filter(|&chunk| settled.presence.contains(chunk));
        present.map(|chunk| self.forget_chunk(settled, chunk)).count()
    }

    /// The bytes of a chunk are lost: it is neither present nor recorded any more.
    pub(crate) fn forget_chunk(&self, settled: &Settled, chunk: u64) {
        settled.cached_file.lose(chunk);
        self.index.record(Record::ForgetChunks {
            key: settled.cached_file.key.clone(),
            chunks: vec![chunk],
        });
    }

    /// Settles an entry with the version of an answer, unless it was settled meanwhile.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(crate) async fn settle(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        version: &Version,
        modified: Option<SystemTime>,
    ) -> Result<(), ReadError> {
        let _one_at_a_time = entry.settling.lock().await;
        if entry.settled().is_some() {
            return Ok(());
        }
        let (this, shared, version) = (Arc::clone(self), Arc::clone(entry), version.clone());
        let opening = tokio::task::spawn_blocking(move || this.open(&shared.content, shared.chunk, &version, modified));
        let settled = entry.settle(opening.await??);
        self.checks.consider(entry, settled);
        Ok(())
    }
}

fn cached_file(
    key: EntryKey,
    chunk: ChunkSize,
    size: u64,
    data: DataFile,
    mut recorded: Recorded,
    row: Option<&Candidate>,
) -> CachedFile {
    let count = chunk.count(size);
    // Another file under this name is not the one that was filled.
    recorded.is_certain &= data.inode().is_ok_and(|inode| inode == recorded.inode);
    let (presence, unverified) = sort_out(recorded, &data, chunk, size);
    // A killed process has not recorded its uses; its last known use is the opening of the entry.
    let (stored, otherwise) = row.map_or((&[][..], Use::default()), |row| {
        (&row.segments[..], Use::once(row.coldest, row.last_used))
    });
    let recency = Recency::new(count, stored, otherwise);
    CachedFile::new(key, chunk, size, presence, unverified, recency, data)
}

/// Which of the recorded chunks are present in a data file of `size` bytes, and which have to be
/// verified first.
fn sort_out(recorded: Recorded, data: &DataFile, chunk: ChunkSize, size: u64) -> (ChunkBitmap, Unverified) {
    let count = chunk.count(size);
    let presence = ChunkBitmap::new(count);
    let known = recorded.chunks.into_iter().filter(|&(index, _)| index < count);
    if !recorded.is_certain {
        return (presence, Unverified::new(known));
    }
    let known: Vec<_> = known.collect();
    let mut unverified = Vec::new();
    // Usually a run has no hole, and one system call is enough.
    for run in known.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        let has_hole = data.has_hole(&chunk.bytes_of(&(first..last + 1), size));
        for &(index, checksum) in run {
            if has_hole && data.has_hole(&chunk.bytes_of(&(index..index + 1), size)) {
                unverified.push((index, checksum));
            } else {
                presence.insert(index);
            }
        }
    }
    (presence, Unverified::new(unverified))
}
