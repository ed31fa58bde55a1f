//! A cache entry: one version of one remote file, and what is here of it.
//!
//! An entry begins **unsettled**: a listing named the file and perhaps its size, and nobody has
//! asked the origin yet. The first answer that brings bytes also brings the version (validator and
//! total size) and settles the entry: it gets its key, its data file and its set of present chunks.
//! So a file can be read with one round trip, without asking for its metadata first, and a size
//! that a listing had wrong is corrected before a byte is served.
//!
//! **One truth for a size**: [`Settled::size`]. [`CacheEntry::size_hint`] is for planning until then.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use url::Url;

use super::cached_file::CachedFile;
use super::chunk_bitmap::ChunkBitmap;
use crate::cache::chunk::{ChunkSize, clip};
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::key::EntryId;
use crate::http::{Origin, Version, redact};
use crate::origin::{SAMPLE, Sample};

/// One version of one remote file.
pub struct CacheEntry {
    /// Its number within this process.
    pub id: EntryId,
    /// Where its bytes come from, without credentials.
    pub url: Url,
    /// Where its URL led when it was opened, as far as was known. Whose connections it uses now, the scheduler knows.
    pub origin: Origin,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// What the tree calls it (an inode number); handed back when its size turns out different.
    pub tag: u64,
    /// Bytes, as a listing had it. For planning only, and only until the entry is settled.
    pub size_hint: u64,
    settled: OnceLock<Settled>,
    /// The version, once it is known, for those who outlive the entry.
    confirmed: Arc<OnceLock<Confirmed>>,
    /// Held by the one who opens the data file: two at once would find each other's lock on it.
    pub(in crate::cache) settling: tokio::sync::Mutex<()>,
    /// Handles that have it open.
    pub(in crate::cache) readers: AtomicUsize,
    changed: AtomicBool,
    ignores_range: AtomicBool,
    /// Where fetches have stood that lost their slot in the middle of a chunk, by chunk. Held for moments.
    unfinished: Mutex<BTreeMap<u64, Box<Position>>>,
}

/// Chunks of an entry that are kept unfinished at most: so many fetches of one file seldom lose their slots at once.
const MOST_UNFINISHED: usize = 16;

/// What is known of an entry once its version is.
#[derive(Debug)]
pub struct Settled {
    /// The version whose bytes these are.
    pub version: Version,
    /// When the remote file was last modified, if the origin says so.
    pub modified: Option<SystemTime>,
    /// The chunks that are here.
    pub presence: Arc<ChunkBitmap>,
    /// Where they are. Entries of this version share it.
    pub cached_file: Arc<CachedFile>,
}

/// The version that an entry turned out to be of.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// The version.
    pub version: Version,
    /// When the remote file was last modified, if the origin says so.
    pub modified: Option<SystemTime>,
    /// When the entry was settled with it.
    pub at: Instant,
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
    /// An entry of which only a listing's word is known.
    pub fn unsettled(url: Url, origin: Origin, chunk: ChunkSize, tag: u64, size_hint: u64) -> CacheEntry {
        CacheEntry {
            id: EntryId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            url,
            origin,
            chunk,
            tag,
            size_hint,
            settled: OnceLock::new(),
            confirmed: Arc::default(),
            settling: tokio::sync::Mutex::new(()),
            readers: AtomicUsize::new(0),
            changed: AtomicBool::new(false),
            ignores_range: AtomicBool::new(false),
            unfinished: Mutex::default(),
        }
    }

    /// What is known of it, if its version is.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// Settles the entry. The first call wins; who comes later gets what the first one set and
    /// must compare versions.
    pub fn settle(&self, settled: Settled) -> &Settled {
        let confirmed = Confirmed {
            version: settled.version.clone(),
            modified: settled.modified,
            at: Instant::now(),
        };
        let settled = self.settled.get_or_init(|| settled);
        self.confirmed.get_or_init(|| confirmed);
        settled
    }

    /// The cell that holds the entry's version once it is settled. It stays good when the entry is
    /// closed: whoever has shown bytes under some name must go on knowing of which version.
    pub fn confirmed(&self) -> &Arc<OnceLock<Confirmed>> {
        &self.confirmed
    }

    /// The size in bytes: the true one, or the listing's while nothing better is known.
    pub fn size(&self) -> u64 {
        self.settled().map_or(self.size_hint, Settled::size)
    }

    /// Whether all bytes of the range are here, answered from the index. Bytes past the end of the
    /// file count as here: there is nothing to fetch for them.
    pub fn has_byte_range(&self, bytes: &Range<u64>) -> bool {
        self.settled()
            .is_some_and(|s| s.presence.contains_all(&self.chunk.touched(&clip(bytes, s.size()))))
    }

    /// Some of the bytes that are here, of the first chunk, one in the middle and the last. Blocks for reading them.
    pub fn samples(&self) -> Vec<Sample> {
        let Some(settled) = self.settled() else {
            return Vec::new();
        };
        let (presence, segments) = (&settled.presence, settled.presence.segments());
        let first = |mut segments: std::ops::Range<u64>| segments.find_map(|at| presence.in_segment(at).next());
        let last = (0..segments).rev().find_map(|at| presence.in_segment(at).last());
        let mut chunks: Vec<u64> = [first(0..segments), first(segments / 2..segments), last]
            .into_iter()
            .flatten()
            .collect();
        chunks.sort_unstable();
        chunks.dedup();
        let sample = |chunk: u64| {
            let _stays = settled.cached_file.use_chunks(chunk..chunk + 1);
            let place = self.chunk.bytes_of(&(chunk..chunk + 1), settled.size());
            // At most 16 KiB.
            let mut bytes = vec![0; (place.end - place.start).min(SAMPLE) as usize];
            let is_here =
                presence.contains(chunk) && settled.cached_file.read_exact_at(&mut bytes, place.start).is_ok();
            is_here.then_some(Sample { at: place.start, bytes })
        };
        chunks.into_iter().filter_map(sample).collect()
    }

    /// Whether the server was seen to answer a Range request for it with the whole file. Then it is
    /// only ever fetched as a whole.
    pub fn ignores_range(&self) -> bool {
        self.ignores_range.load(Ordering::Acquire)
    }

    /// Notes that the server ignores Range.
    pub fn mark_ignores_range(&self) {
        self.ignores_range.store(true, Ordering::Release);
    }

    /// A fetch ends here, in the middle of a chunk perhaps: the next one that comes to it goes on from this byte.
    pub(in crate::cache) fn leave_unfinished(&self, position: Box<Position>) {
        let chunk = self.chunk.index(position.offset());
        let Some(settled) = self.settled() else { return };
        let is_whole = position.offset() == chunk * self.chunk.bytes() || position.offset() >= settled.size();
        if is_whole || position.is_lost(self, &settled.cached_file) {
            return;
        }
        let mut unfinished = self.unfinished.lock();
        unfinished.retain(|&other, _| !settled.presence.contains(other));
        if unfinished.len() < MOST_UNFINISHED {
            unfinished.insert(chunk, position);
        }
    }

    /// Where the last fetch of this chunk has stood, if it was left unfinished.
    pub(in crate::cache) fn take_unfinished(&self, chunk: u64) -> Option<Box<Position>> {
        let left = self.unfinished.lock().remove(&chunk)?;
        let is_lost = self
            .settled()
            .is_some_and(|settled| left.is_lost(self, &settled.cached_file));
        (!is_lost).then_some(left)
    }

    /// Whether the origin is known to have another version by now.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    /// Makes sure that an answer was of this entry's version; one of another shows that the file has changed.
    ///
    /// # Errors
    /// [`ReadError::Changed`] if it has.
    pub fn expect_same(&self, is_same: bool) -> Result<(), ReadError> {
        if is_same {
            return Ok(());
        }
        log::info!("{} has changed on the server", redact(&self.url));
        self.mark_changed();
        Err(ReadError::Changed)
    }

    /// Notes that the origin has another version by now. What is here of this one stays readable
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
            cached_file,
        })
    }
}

impl fmt::Debug for CacheEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheEntry")
            .field("id", &self.id)
            .field("url", &redact(&self.url))
            .finish_non_exhaustive()
    }
}
