//! A cache entry: one version of one remote file, and which of its chunks are present.
//!
//! An entry begins **unsettled**: a listing named the file and perhaps its size, and the origin was
//! not asked yet. The first answer that brings bytes also brings the version (validator and total
//! size) and settles the entry: it gets its key, its data file and its chunk bitmap. So a file can
//! be read with one round trip, without a separate request for its metadata. A size that a listing
//! had wrong is corrected before a byte is served.
//!
//! **The true size is [`Settled::size`]**; [`CacheEntry::size_hint`] is for planning until then.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::once;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use url::Url;

use super::cached_file::CachedFile;
use super::chunk_bitmap::ChunkBitmap;
use super::memory_store::{MemoryFile, MemoryStore};
use crate::cache::chunk::{BLOCK, ChunkSize, clip};
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::integrity::file_check::Rejected;
use crate::cache::key::EntryId;
use crate::http::{Origin, Version, redact};
use crate::origin::{Content, SAMPLE, Sample};
use crate::stats::ProcessTraffic;
use crate::util::events;

/// Called when a file is longer than its listing said.
pub(crate) type OnResize = Box<dyn Fn() + Send + Sync>;

/// One version of one remote file.
pub struct CacheEntry {
    /// Its number within this process.
    pub id: EntryId,
    /// Where its bytes are. The URLs are without credentials.
    pub content: Content,
    /// The origin that its URL led to when it was opened, as far as known. The scheduler knows the
    /// origin of its connections now.
    pub origin: Origin,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    settled: OnceLock<Settled>,
    /// The version, once it is known, for holders that outlive the entry.
    confirmed: Arc<OnceLock<Confirmed>>,
    /// Held while the data file is opened: two concurrent openers would block on each other's file
    /// lock.
    pub(in crate::cache) settling: tokio::sync::Mutex<()>,
    /// Number of handles that have it open.
    pub(in crate::cache) readers: AtomicUsize,
    /// Number of those that scanners read.
    pub(in crate::cache) scanners: AtomicUsize,
    /// Number of parts that prefetch jobs wait for.
    pub(in crate::cache) jobs: AtomicUsize,
    /// The program that was the last to want bytes, while handles are open: what is fetched counts as its traffic. No other
    /// lock is taken under it.
    traffic: Mutex<Option<Arc<ProcessTraffic>>>,
    /// Shared with its bypass entry.
    changed: Arc<AtomicBool>,
    ignores_range: AtomicBool,
    /// Positions of fetches that lost their slot in the middle of a chunk, by chunk. Held for
    /// moments.
    unfinished: Mutex<BTreeMap<u64, Box<Position>>>,
    /// The entry of the reads past the cache, once there was one. No other lock is taken under it.
    bypass: Mutex<Option<Arc<CacheEntry>>>,
    on_resize: Option<OnResize>,
}

/// Maximum number of unfinished chunks kept for an entry: more fetches of one file seldom lose
/// their slots at once.
const MOST_UNFINISHED: usize = 16;

/// The state of an entry whose version is known.
#[derive(Debug)]
pub struct Settled {
    /// The version of the bytes.
    pub version: Version,
    /// When the remote file was last modified, if the origin says so.
    pub modified: Option<SystemTime>,
    /// The present chunks.
    pub presence: Arc<ChunkBitmap>,
    /// Their data file. Entries of this version share it.
    pub cached_file: Arc<CachedFile>,
    /// Where the bytes of a [bypass entry](CacheEntry::bypass) are instead.
    pub memory: Option<Arc<MemoryFile>>,
    /// Set when the bytes turn out to be wrong.
    pub rejected: Rejected,
}

/// The version with which an entry was settled.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// The version.
    pub version: Version,
    /// When the remote file was last modified, if the origin says so.
    pub modified: Option<SystemTime>,
    /// When the entry was settled.
    pub at: Instant,
    /// Set when the bytes turn out to be wrong.
    pub rejected: Rejected,
}

impl Settled {
    /// The size of the remote file, in bytes.
    pub fn size(&self) -> u64 {
        self.version.size
    }
}

/// Numbers for [`EntryId`].
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl CacheEntry {
    /// An entry known only from what its source says.
    pub fn unsettled(content: Content, origin: Origin, chunk: ChunkSize) -> CacheEntry {
        CacheEntry {
            id: EntryId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            content,
            origin,
            chunk,
            settled: OnceLock::new(),
            confirmed: Arc::default(),
            settling: tokio::sync::Mutex::new(()),
            readers: AtomicUsize::new(0),
            scanners: AtomicUsize::new(0),
            jobs: AtomicUsize::new(0),
            traffic: Mutex::default(),
            changed: Arc::default(),
            ignores_range: AtomicBool::new(false),
            unfinished: Mutex::default(),
            bypass: Mutex::default(),
            on_resize: None,
        }
    }

    /// The preferred URL of its bytes.
    pub fn url(&self) -> &Url {
        self.content.url()
    }

    /// Size in bytes by the listing. For planning only, and only until the entry is settled.
    pub fn size_hint(&self) -> u64 {
        self.content.size.estimate()
    }

    /// Has `on_resize` called if the file turns out to be longer than `size_hint`.
    pub fn on_resize(mut self, on_resize: OnResize) -> CacheEntry {
        self.on_resize = Some(on_resize);
        self
    }

    /// The entry was settled, and its file is longer than `size_hint`.
    pub(in crate::cache) fn has_resized(&self) {
        self.on_resize.iter().for_each(|on_resize| on_resize());
    }

    /// Its settled state, if its version is known.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// Settles the entry. The first call wins; a later caller gets the first one's state and must
    /// compare versions.
    pub fn settle(&self, settled: Settled) -> &Settled {
        let confirmed = Confirmed {
            version: settled.version.clone(),
            modified: settled.modified,
            at: Instant::now(),
            rejected: settled.rejected.clone(),
        };
        let settled = self.settled.get_or_init(|| settled);
        self.confirmed.get_or_init(|| confirmed);
        settled
    }

    /// The cell that holds the entry's version once it is settled. It stays valid when the entry is
    /// closed: the directory tree must remember of which version it has shown bytes.
    pub fn confirmed(&self) -> &Arc<OnceLock<Confirmed>> {
        &self.confirmed
    }

    /// Size in bytes: the true one, or the listing's before the entry is settled.
    pub fn size(&self) -> u64 {
        self.settled().map_or(self.size_hint(), Settled::size)
    }

    /// Returns true if all bytes of the range are present. Bytes past the end of the file count as
    /// present: there is nothing to fetch for them.
    pub fn has_byte_range(&self, bytes: &Range<u64>) -> bool {
        self.settled()
            .is_some_and(|s| s.presence.contains_all(&self.chunk.touched(&clip(bytes, s.size()))))
    }

    /// The byte ranges that are present, in order.
    pub fn present(&self) -> Vec<Range<u64>> {
        let (mut runs, mut at, end) = (Vec::new(), 0, self.chunk.count(self.size()));
        for missing in self.missing_in(&(0..end)).into_iter().chain(once(end..end)) {
            if at < missing.start {
                runs.push(self.chunk.bytes_of(&(at..missing.start), self.size()));
            }
            at = missing.end;
        }
        runs
    }

    /// Number of chunks of the file. At least one before the entry is settled: fetching it settles
    /// the entry.
    pub(in crate::cache) fn chunk_count(&self) -> u64 {
        let least = if self.settled().is_some() { 0 } else { 1 };
        self.chunk.count(self.size()).max(least)
    }

    /// The existing chunks that these bytes touch. For bytes past the end that a listing gave it is
    /// the first chunk: fetching it shows where the end really is.
    pub(in crate::cache) fn chunks_of(&self, bytes: &Range<u64>) -> Range<u64> {
        let touched = self.chunk.touched(&clip(bytes, self.size()));
        if touched.is_empty() && !bytes.is_empty() && self.settled().is_none() {
            return 0..1;
        }
        touched
    }

    /// Returns true if this chunk is present.
    pub(in crate::cache) fn is_present(&self, chunk: u64) -> bool {
        self.settled().is_some_and(|settled| settled.presence.contains(chunk))
    }

    /// The first of these chunks that is missing.
    pub(in crate::cache) fn next_missing(&self, chunks: &Range<u64>) -> Option<u64> {
        match self.settled() {
            Some(settled) => settled.presence.next_missing(chunks),
            None => (!chunks.is_empty()).then_some(chunks.start),
        }
    }

    /// The runs of these chunks that are missing.
    pub(in crate::cache) fn missing_in(&self, chunks: &Range<u64>) -> Vec<Range<u64>> {
        let Some(settled) = self.settled() else {
            return vec![chunks.clone()];
        };
        let (mut runs, mut rest) = (Vec::new(), chunks.clone());
        while let Some(start) = settled.presence.next_missing(&rest) {
            rest.start = settled.presence.next_present(&(start..rest.end)).unwrap_or(rest.end);
            runs.push(start..rest.start);
        }
        runs
    }

    /// Number of losses of its chunks so far ([`ChunkBitmap::losses`]).
    pub(in crate::cache) fn chunk_losses(&self) -> u64 {
        self.settled().map_or(0, |settled| settled.presence.losses())
    }

    /// The entry through which the same version is read past the cache: fetched like any other, its bytes are kept in memory.
    pub fn bypass(&self, settled: &Settled, store: &Arc<MemoryStore>) -> (Arc<CacheEntry>, Arc<MemoryFile>) {
        let mut bypass = self.bypass.lock();
        if let Some(entry) = &*bypass
            && let Some(memory) = entry.settled().and_then(|settled| settled.memory.clone())
        {
            return (Arc::clone(entry), memory);
        }
        let entry = CacheEntry::unsettled(self.content.clone(), self.origin.clone(), BLOCK);
        let memory = MemoryFile::new(store, settled.size());
        entry.settle(Settled {
            version: settled.version.clone(),
            modified: settled.modified,
            presence: Arc::clone(&memory.presence),
            cached_file: Arc::clone(&settled.cached_file),
            memory: Some(Arc::clone(&memory)),
            rejected: settled.rejected.clone(),
        });
        let changed = Arc::clone(&self.changed);
        let entry = Arc::new(CacheEntry { changed, ..entry });
        *bypass = Some(Arc::clone(&entry));
        (entry, memory)
    }

    /// It has no readers any more: what they read past the cache is dropped.
    pub(in crate::cache) fn end_bypass(&self) {
        let bypass = self.bypass.lock().take();
        drop(bypass);
    }

    /// Returns true if scanners have it open and nothing else wants its bytes, so that they are worth no eviction.
    pub(in crate::cache) fn is_only_scanned(&self) -> bool {
        let scanners = self.scanners.load(Ordering::Acquire);
        scanners > 0 && scanners == self.readers.load(Ordering::Acquire) && self.jobs.load(Ordering::Acquire) == 0
    }

    /// What is fetched from now on is for this program, or for none.
    pub(in crate::cache) fn set_traffic(&self, of: Option<&Arc<ProcessTraffic>>) {
        let mut traffic = self.traffic.lock();
        let is_same = match (&*traffic, of) {
            (Some(known), Some(new)) => Arc::ptr_eq(known, new),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            *traffic = of.map(Arc::clone);
        }
    }

    /// A server has sent so many bytes of it.
    pub(in crate::cache) fn note_fetched(&self, bytes: u64) {
        if let Some(traffic) = &*self.traffic.lock() {
            traffic.fetched_bytes.add(bytes);
        }
    }

    /// Some of the bytes in the data file: of the first chunk, one in the middle and the last. Blocks for
    /// reading them.
    pub fn samples(&self) -> Vec<Sample> {
        let Some(settled) = self.settled() else {
            return Vec::new();
        };
        let file = &settled.cached_file;
        let (presence, segments) = (&file.presence, file.presence.segments());
        let first = |mut segments: std::ops::Range<u64>| segments.find_map(|at| presence.in_segment(at).next());
        let last = (0..segments).rev().find_map(|at| presence.in_segment(at).last());
        let mut chunks: Vec<u64> = [first(0..segments), first(segments / 2..segments), last]
            .into_iter()
            .flatten()
            .collect();
        chunks.sort_unstable();
        chunks.dedup();
        let sample = |chunk: u64| {
            let _stays = file.use_chunks(chunk..chunk + 1);
            let place = file.chunk.bytes_of(&(chunk..chunk + 1), settled.size());
            // At most 16 KiB.
            let mut bytes = vec![0; (place.end - place.start).min(SAMPLE) as usize];
            let is_here = presence.contains(chunk) && file.read_exact_at(&mut bytes, place.start).is_ok();
            is_here.then_some(Sample { at: place.start, bytes })
        };
        chunks.into_iter().filter_map(sample).collect()
    }

    /// Returns true if the server has answered a Range request for it with the whole file. Then it
    /// is only ever fetched as a whole.
    pub fn ignores_range(&self) -> bool {
        self.ignores_range.load(Ordering::Acquire)
    }

    /// Notes that the server ignores Range.
    pub fn mark_ignores_range(&self) {
        self.ignores_range.store(true, Ordering::Release);
    }

    /// A fetch ends here, perhaps in the middle of a chunk: the next fetch of this chunk continues
    /// at this byte.
    pub(in crate::cache) fn leave_unfinished(&self, mut position: Box<Position>) {
        let chunk = self.chunk.index(position.offset());
        let Some(settled) = self.settled() else { return };
        let is_whole = position.offset() == chunk * self.chunk.bytes() || position.offset() >= settled.size();
        let has_part_of_piece = position.filter.as_ref().is_some_and(|filter| filter.held() > 0);
        if (is_whole && !has_part_of_piece) || self.is_lost(&position, settled) {
            return;
        }
        // Memory is not held without a fetch.
        position.held = None;
        let mut unfinished = self.unfinished.lock();
        unfinished.retain(|&other, _| !settled.presence.contains(other));
        if unfinished.len() < MOST_UNFINISHED {
            unfinished.insert(chunk, position);
        }
    }

    /// The position of the last fetch of this chunk, if it was left unfinished.
    pub(in crate::cache) fn take_unfinished(&self, chunk: u64) -> Option<Box<Position>> {
        let left = self.unfinished.lock().remove(&chunk)?;
        let is_lost = self.settled().is_some_and(|settled| self.is_lost(&left, settled));
        (!is_lost).then_some(left)
    }

    fn is_lost(&self, position: &Position, settled: &Settled) -> bool {
        match &settled.memory {
            Some(memory) => !memory.has_up_to(position.offset()),
            None => position.is_lost(self.chunk, &settled.cached_file),
        }
    }

    /// Returns true if the origin has another version by now.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Returns true if its bytes turned out to contradict a published hash. No more of them are served.
    pub fn is_rejected(&self) -> bool {
        self.settled().is_some_and(|settled| settled.rejected.is_set())
    }

    /// Checks that an answer was of this entry's version; another version shows that the file has
    /// changed.
    ///
    /// # Errors
    /// [`ReadError::Changed`] if it has.
    pub fn expect_same(&self, is_same: bool) -> Result<(), ReadError> {
        if is_same {
            return Ok(());
        }
        log::info!(event = events::VERSION_CHANGED; "{} has changed on the server", redact(self.url()));
        self.mark_changed();
        Err(ReadError::Changed)
    }

    /// Notes that the origin has another version by now. Cached bytes of this version stay readable
    /// for the handles that have it open.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
impl CacheEntry {
    /// Settles the entry as one of `size` bytes that has a data file of its own.
    pub fn settle_for_tests(&self, size: u64) -> &Settled {
        let version = Version {
            size,
            validator: crate::http::Validator::Strong("\"v1\"".into()),
        };
        let cached_file = Arc::new(CachedFile::for_tests(self.chunk.bytes(), size));
        self.settle(Settled {
            version,
            modified: None,
            presence: Arc::clone(&cached_file.presence),
            rejected: cached_file.check.shown(),
            cached_file,
            memory: None,
        })
    }
}

impl fmt::Debug for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEntry")
            .field("id", &self.id)
            .field("url", &redact(self.url()))
            .finish_non_exhaustive()
    }
}
