//! From a version of a remote file to its data file and the chunks that are here of it.
//!
//! The one place where the index and the store are brought together: rows are believed only when
//! the data file that they speak of is found as they left it. What may not be so is verified ([`super::unverified`]).

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
use crate::cache::key::{EntryKey, UrlKey};
use crate::cache::quota::policy::{Use, place};
use crate::cache::quota::{Quota, Recency};
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::{DataFile, Found};
use crate::cache::storage::disk_health::DiskHealth;
use crate::http::{Version, redact};
use crate::origin::Logins;
use crate::util::plural::{count, verb};

/// Chunks of one file, at most. A bit for each is kept in memory: 128 MiB of them are enough for
/// 256 TiB in chunks of the default size. Who announces more has made a mistake, or means harm.
const MOST_CHUNKS: u64 = 1 << 30;

/// Opens versions.
pub struct VersionStore {
    /// Where the data files are.
    pub store: ChunkStore,
    /// What is recorded of them.
    pub index: Arc<ChunkIndex>,
    /// Those that are open.
    pub cached_files: CachedFiles,
    /// What may be kept of them.
    pub quota: Arc<Quota>,
    /// Held by the one who makes a data file whole again that was cut off: rare, and some system calls.
    pub(in crate::cache) restoring: Mutex<()>,
    /// Whether they can be written.
    pub trouble: Arc<DiskHealth>,
    /// Whether the file system of the cache can give back parts of files. If not, nothing is kept there.
    pub has_holes: bool,
    /// Whether this is only in the place of a folder that can't be opened ([`cache_dir`](crate::cache::entry::cache_dir)).
    pub is_fallback: bool,
    /// By which login each URL is asked for.
    pub logins: Logins,
}

impl VersionStore {
    /// Opens the data file of a version and loads which of its chunks are present. Notes in the
    /// index that this is the current version of the URL. Blocks for some system calls and queries.
    ///
    /// When the data file can't be opened or made the version is [nowhere](CachedFile::has_no_file): it is read around the cache.
    ///
    /// # Errors
    /// [`ReadError::Store`] when it has too many chunks.
    pub fn open(
        &self,
        url: &Url,
        chunk: ChunkSize,
        version: &Version,
        modified: Option<SystemTime>,
    ) -> Result<Settled, ReadError> {
        let chunks = chunk.count(version.size);
        if chunks > MOST_CHUNKS {
            return Err(ReadError::Store(format!(
                "a file of {} bytes is too large for chunks of {}",
                version.size,
                chunk.bytes()
            )));
        }
        let key = EntryKey::of_login(url, version, chunk, self.logins.key(url));
        let cached_file = match self.cached_files.get(&key) {
            Some(cached_file) => cached_file,
            None => self.open_file(key.clone(), chunk, version.size)?,
        };
        let settled = Settled {
            version: version.clone(),
            modified,
            presence: Arc::clone(&cached_file.presence),
            cached_file,
        };
        if settled.cached_file.has_no_file() {
            return Ok(settled);
        }
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
        self.record_contents(&settled.cached_file, record);
        Ok(settled)
    }

    /// By which the versions of a file, a listing or a pin are found that this mount's login was told, and no other.
    pub fn url_key(&self, url: &Url) -> UrlKey {
        UrlKey::of_login(url, self.logins.key(url))
    }

    /// Whether the cache folder is where it was when it was opened, and the same. If not, that is noted: what would be written to
    /// another one in its place nobody would find again.
    pub fn is_in_place(&self) -> bool {
        let is_in_place = self.index.is_in_place();
        if self.trouble.folder_is(is_in_place) {
            // The evictor looks now and then whether it is back.
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
            // Mostly there is nothing to forget, and nothing to wait for. It must not be queued for later: another process may have recorded
            // what it fetched into this very file by then.
            if !self.index.is_pending(&key) && !self.index.has_committed(&key) {
                return true;
            }
            // Somebody has deleted it or cut it off, and its bytes still count.
            self.quota.demand_audit();
            self.index.commit([Record::Forget { key: key.clone() }])
        };
        let data = match self.store.open_file(&key, size, forget) {
            Ok(data) => data,
            Err(error) => return self.nowhere(key, chunk, size, &error),
        };
        let (recorded, row) = match data.found {
            // If it is not known what is here of it, it is better not to touch it.
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

    /// A version whose data file can't be made for this reason. Not shared: the next one who opens it tries again.
    fn nowhere(
        &self,
        key: EntryKey,
        chunk: ChunkSize,
        size: u64,
        why: &io::Error,
    ) -> Result<Arc<CachedFile>, ReadError> {
        if why.kind() == io::ErrorKind::FileTooLarge {
            // On a file system without holes, say: others may fit.
            log::warn!(
                "{size} bytes are too large a file for the file system of the cache, or for a limit of file sizes (ulimit -f): it is read around the cache"
            );
        } else if why.raw_os_error() == Some(libc::EMFILE) {
            // That is no trouble of the folder's, and none for who has a data file.
            log::warn!(
                "no more files can be open at a time: one is read around the cache; raise the limit of open files \
                 (ulimit -n, LimitNOFILE)"
            );
        } else {
            self.trouble.failed(why);
        }
        Self::without_file(key, chunk, size)
    }

    fn without_file(key: EntryKey, chunk: ChunkSize, size: u64) -> Result<Arc<CachedFile>, ReadError> {
        let data = DataFile::nowhere(size).map_err(|error| ReadError::Store(error.to_string()))?;
        Ok(Arc::new(cached_file(key, chunk, size, data, Recorded::default(), None)))
    }

    /// Opens an entry that the index has recorded, to make room in it. `None` if its file is not there as it was, or another
    /// process is busy with it.
    pub fn open_recorded(&self, row: &Candidate) -> Option<Arc<CachedFile>> {
        if let Some(open) = self.cached_files.get(&row.key) {
            return Some(open);
        }
        let data = self.store.open_recorded(&row.key, row.size)?;
        let recorded = self.index.recorded_soon(&row.key)?;
        let cached_file = cached_file(row.key.clone(), row.chunk, row.size, data, recorded, Some(row));
        Some(self.cached_files.insert(cached_file))
    }

    /// Takes over what other processes have recorded of these chunks since this one looked last. A query, if anything
    /// was recorded at all, or these were not looked at since.
    pub fn learn(&self, cached_file: &CachedFile, chunks: &Range<u64>) {
        // What is recorded from here on is seen, or changes the version once more.
        let version = self.index.version();
        for chunks in cached_file.not_learnt(version, chunks) {
            cached_file.learn(|| {
                self.index
                    .committed_chunks(&cached_file.key, &chunks)
                    .unwrap_or_default()
            });
            cached_file.has_learnt(version, chunks);
        }
    }

    /// Has the index record what is in a data file. The file stays open until that is committed: one that nobody has open, other mounts
    /// and `fetchfs cache` clear up, and make room in, by what is recorded of it.
    pub fn record_contents(&self, cached_file: &CachedFile, record: Record) {
        self.index.record_keeping(record, cached_file.keep_open());
    }

    /// See [`CachedFile::trim`].
    pub fn trim(&self, cached_file: &CachedFile, all: bool) {
        let change = cached_file.trim(all, |chunks| self.index.committed_chunks(&cached_file.key, chunks));
        self.quota.adjust(change.counted);
    }

    /// Has the index note how an entry was used until now.
    pub fn note_use(&self, cached_file: &CachedFile) {
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

    /// Verifies suspect chunks of a settled entry, from the one that begins at `bytes.start` on, until one is not suspect or
    /// not what was recorded. Good ones become present, and `verified` is told up to which byte; a bad one is
    /// forgotten, so that it is fetched. Gives the byte offset reached. Blocks for reading them.
    pub fn verify(&self, entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>, verified: impl Fn(u64)) -> u64 {
        let mut buffer = Vec::new();
        let mut reached = bytes.start;
        while reached < bytes.end {
            let chunk = entry.chunk.index(reached);
            // Said before it is looked up: what leaves from here on is not this chunk. Else its bytes could be punched out
            // between being verified and being present, and zeros would count as what was fetched.
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
                    "{}: chunk {chunk} in the cache is not what was fetched; it is fetched again",
                    redact(&entry.url)
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

    /// A chunk is not suspect any more, and what it is instead was handed to the index.
    pub fn clear_suspect(&self, settled: &Settled, chunk: u64) {
        if settled.cached_file.unverified.clear(chunk) {
            let key = settled.cached_file.key.clone();
            self.index.record(Record::Trust { key });
        }
    }

    /// Says that the kernel is going to read the file by itself, if it may: all of it is here, and whoever reads it gets its bytes. **By the
    /// kernel, nobody gets them from elsewhere.** So it may not when the data file was cut off, nor when the disk or the index has
    /// failed since the mount began.
    pub fn hold_for_kernel(&self, entry: &CacheEntry) -> Option<Hold> {
        let settled = entry.settled()?;
        if self.trouble.has_disk_failed() || self.index.has_failed() {
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

    /// If somebody else has cut the data file off, forgets what was in that part of it and gives it back its size. To be
    /// called before a write, which would turn what is missing before it into zeros.
    ///
    /// # Errors
    /// `ResourceBusy` when somebody else has it open; or what the file system says.
    pub fn restore_if_cut(&self, entry: &CacheEntry, settled: &Settled) -> io::Result<()> {
        if settled.cached_file.cut_to()?.is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.restoring.lock();
        let Some(len) = settled.cached_file.cut_to()? else {
            return Ok(());
        };
        log::warn!(
            "{}: its data file in the cache was cut to {len} bytes by somebody else; what is missing is fetched again",
            redact(&entry.url)
        );
        self.lose(settled, entry.chunk.index(len)..entry.chunk.count(settled.size()));
        settled.cached_file.restore_size()
    }

    /// What to make of a failed read of `bytes`, which were present. True if they are forgotten now, and will be fetched
    /// again when they are asked for.
    pub fn recover(&self, entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            // If it can't have its size back now, what is missing is forgotten all the same.
            return self.restore_if_cut(entry, settled).is_ok() || self.lose(settled, entry.chunk.touched(bytes)) > 0;
        }
        self.trouble.note_disk(error);
        if error.raw_os_error().is_none() {
            return false;
        }
        let lost = self.lose(settled, entry.chunk.touched(bytes));
        if lost > 0 {
            log::warn!(
                "{}: {} in the cache can't be read ({error}), and {} fetched again",
                redact(&entry.url),
                count(lost as u64, "chunk"),
                verb(lost as u64, "is", "are")
            );
        }
        lost > 0
    }

    /// Forgets those of the chunks that are present. Gives their number.
    fn lose(&self, settled: &Settled, chunks: Range<u64>) -> usize {
        let present = chunks.filter(|&chunk| settled.presence.contains(chunk));
        present.map(|chunk| self.forget_chunk(settled, chunk)).count()
    }

    /// The bytes of a chunk are lost: it is not present, and not recorded.
    pub fn forget_chunk(&self, settled: &Settled, chunk: u64) {
        settled.cached_file.lose(chunk);
        self.index.record(Record::ForgetChunks {
            key: settled.cached_file.key.clone(),
            chunks: vec![chunk],
        });
    }

    /// Settles an entry with the version that an answer was of, unless somebody has meanwhile.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn settle(
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
        let opening = tokio::task::spawn_blocking(move || this.open(&shared.url, shared.chunk, &version, modified));
        entry.settle(opening.await??);
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
    // Another file under the name is not the one that was filled.
    recorded.is_certain &= data.inode().is_ok_and(|inode| inode == recorded.inode);
    let (presence, unverified) = sort_out(recorded, &data, chunk, size);
    // What a killed process has not noted was used when the entry was opened, as far as is known.
    let (stored, otherwise) = row.map_or((&[][..], Use::default()), |row| {
        (&row.segments[..], Use::once(row.coldest, row.last_used))
    });
    let recency = Recency::new(count, stored, otherwise);
    CachedFile::new(key, chunk, size, presence, unverified, recency, data)
}

/// Which of the recorded chunks are present in a data file of `size` bytes, and which have to be verified first.
fn sort_out(recorded: Recorded, data: &DataFile, chunk: ChunkSize, size: u64) -> (ChunkBitmap, Unverified) {
    let count = chunk.count(size);
    let presence = ChunkBitmap::new(count);
    let known = recorded.chunks.into_iter().filter(|&(index, _)| index < count);
    if !recorded.is_certain {
        return (presence, Unverified::new(known));
    }
    let known: Vec<_> = known.collect();
    let mut unverified = Vec::new();
    // Mostly a run has no hole, and one question is enough.
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
