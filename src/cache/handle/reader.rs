//! One open handle on a cache entry: where the bytes of a read are, what it waits for, and how they are copied out.
//!
//! The parts of a read. [`super::read_at`] puts them together, and is how they are used.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::open_readers::{OpenReader, OpenReaders, Registration};
use super::scan::{ReadBy, Scan};
use crate::cache::chunk::clip;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::entry::cached_file::Used;
use crate::cache::entry::memory_store::BlockGuard;
use crate::cache::error::ReadError;
use crate::cache::facade::Cache;
use crate::cache::fetch::manager::{OnReady, WaitReport};
use crate::cache::fetch::readahead::{Conditions, ReadAhead};
use crate::cache::fetch::scheduler::{StreamId, WaiterId, WindowUpdate};

/// Files up to this size, in bytes, are fetched whole at the first read of them.
pub(crate) const SMALL_FILE: u64 = 1 << 20;

/// An open handle. Dropping it ends its read-ahead.
pub struct Reader {
    cache: Arc<Cache>,
    entry: Arc<CacheEntry>,
    /// Its number, which separates its uses from those of others.
    number: u64,
    /// Locked for the moment of a decision. The manager's lock is taken under it, to query the
    /// origin's speed, and never the other way round: the manager knows nothing of readers.
    ahead: Mutex<ReadAhead>,
    opened: Instant,
    /// The program that reads it, from its first read on. Readers of a Rust program have none.
    read_by: OnceLock<ReadBy>,
    /// Its place among the open files of its mount, which counts its reads. Readers of a Rust program have none.
    registration: Option<Registration>,
}

/// The next reader's number.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Where the bytes of a read are.
pub(super) enum Look {
    /// In the data file or in memory, for [`Reader::fill`].
    Here(Span),
    /// Still to be fetched, for [`Reader::wait`].
    Missing(Missing),
    /// They are not fetched for this scanner.
    Refused,
}

/// Bytes that a read has to wait for.
pub(super) struct Missing {
    /// The entry to fetch: the reader's own, or its bypass entry.
    pub entry: Arc<CacheEntry>,
    /// What the wait is for.
    pub span: Span,
    /// What is fetched with them.
    pub wish: Wish,
}

/// What is to be fetched along with bytes that a read waits for.
#[derive(Debug)]
pub(super) enum Wish {
    /// What becomes of the reader's windows.
    Windows(Vec<WindowUpdate>),
    /// This, of a scanner that has no windows.
    Scan(Range<u64>),
}

impl Span {
    pub(super) fn new(bytes: Range<u64>, guard: Guard) -> Span {
        Span { bytes, guard }
    }
}

/// The bytes that answer a read.
#[derive(Debug)]
pub(super) struct Span {
    /// The requested range; may reach past the end of the file.
    pub(super) bytes: Range<u64>,
    guard: Guard,
}

/// How a read ensures that its bytes were not evicted before they were read.
#[derive(Debug)]
pub(super) enum Guard {
    /// By comparing the [stamp](crate::cache::entry::chunk_bitmap::ChunkBitmap::stamp) of their
    /// chunks afterwards. A hit then writes to no shared memory.
    Stamp(u64),
    /// They are not evicted for as long as this is kept. For a read that waits: it would wait
    /// again, perhaps forever, if its bytes could be evicted between arriving and being read.
    Used(#[expect(dead_code, reason = "kept to be dropped")] Used),
    /// They are in the memory store, or come there, and stay for as long as this is kept.
    Memory(BlockGuard),
}

/// The result of filling a read's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// They are in the buffer.
    Yes {
        /// Those of them that no read has returned since they were fetched, in bytes of their blocks.
        fresh: u64,
    },
    /// They were evicted before they could be read.
    Gone,
}

impl Cache {
    /// Opens an entry for reading.
    pub fn reader(self: &Arc<Self>, entry: Arc<CacheEntry>) -> Arc<Reader> {
        self.open_reader(entry, None)
    }

    /// Opens an entry for reading through an inode of the mount that has these open files.
    pub(crate) fn reader_in(
        self: &Arc<Self>,
        readers: &Arc<OpenReaders>,
        ino: u64,
        entry: Arc<CacheEntry>,
    ) -> Arc<Reader> {
        let registration = readers.register(ino, &entry);
        self.open_reader(entry, Some(registration))
    }

    fn open_reader(self: &Arc<Self>, entry: Arc<CacheEntry>, registration: Option<Registration>) -> Arc<Reader> {
        entry.readers.fetch_add(1, Ordering::AcqRel);
        self.idle_files.keep(&entry);
        Arc::new(Reader::new(Arc::clone(self), entry, registration))
    }
}

impl Reader {
    /// A new handle on an entry.
    pub(in crate::cache) fn new(
        cache: Arc<Cache>,
        entry: Arc<CacheEntry>,
        registration: Option<Registration>,
    ) -> Reader {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Reader {
            ahead: Mutex::new(ReadAhead::new(number, cache.versions().quota.most_ahead())),
            opened: Instant::now(),
            cache,
            entry,
            number,
            read_by: OnceLock::new(),
            registration,
        }
    }

    /// The program that reads it; `None` before its first read, or if that is unknown.
    pub(crate) fn read_by(&self) -> Option<&ReadBy> {
        self.read_by.get()
    }

    /// Notes the program that reads it. The first one counts.
    pub(crate) fn set_read_by(&self, by: ReadBy) {
        let is_scan = by.scan.is_some();
        let traffic = Arc::clone(&by.traffic);
        if self.read_by.set(by).is_ok() {
            if let Some(open) = self.open_file() {
                open.set_traffic(traffic);
            }
            if is_scan {
                self.entry.scanners.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Its rules, if a scanner reads it.
    pub(super) fn scan(&self) -> Option<&Scan> {
        self.read_by.get().and_then(|by| by.scan.as_ref())
    }

    /// The entry.
    pub fn entry(&self) -> &Arc<CacheEntry> {
        &self.entry
    }

    /// Finds out where `len` bytes from `offset` are, and notes the read for read-ahead and eviction. Bytes that are present cost neither
    /// SQL nor a lock that another thread holds for long. With `is_bypass` the data file is left alone.
    pub(super) fn look(&self, offset: u64, len: u64, is_bypass: bool) -> Look {
        let asked = offset..offset.saturating_add(len);
        if let Some(scan) = self.scan() {
            return self.look_for_scan(scan, asked, is_bypass);
        }
        let size = self.entry.size();
        let bytes = clip(&asked, size);
        let Some(settled) = self.entry.settled() else {
            // A stamp of 0 notices every later eviction: the file begins without any.
            let window_updates = self.note_ahead(&bytes, size, true);
            return self.missing(asked, Wish::Windows(window_updates), Guard::Stamp(0));
        };
        if is_bypass {
            return self.look_in_memory(settled, bytes);
        }
        let chunks = self.entry.chunk.touched(&bytes);
        let quota = &self.cache.versions().quota;
        settled.cached_file.recency.note(&chunks, &quota.moment(self.number));
        // Taken before the chunks are looked up.
        let stamp = settled.presence.stamp(&chunks);
        let ready = |bytes| {
            Look::Here(Span {
                bytes,
                guard: Guard::Stamp(stamp),
            })
        };
        if settled.presence.is_complete() {
            return ready(bytes);
        }
        if settled.cached_file.has_no_file() {
            return self.look_in_memory(settled, bytes);
        }
        let mut is_here = settled.presence.contains_all(&chunks);
        let is_failing = self.cache.versions().disk_health.is_on();
        let mut window_updates = self.note_ahead(&bytes, size, !is_here);
        if is_failing || self.cache.is_offline() {
            window_updates.retain(|update| update.asks().is_none());
        }
        let asks = window_updates.iter().any(|update| update.asks().is_some());
        if (!is_here || asks) && quota.has_others() {
            self.learn(settled, &chunks, &window_updates);
            is_here = settled.presence.contains_all(&chunks);
        }
        if is_here {
            if !window_updates.is_empty() {
                self.count_traffic(&self.entry);
                self.cache.manager.update_windows(&self.entry, &window_updates);
            }
            return ready(bytes);
        }
        if is_failing {
            return self.look_in_memory(settled, bytes);
        }
        let used = Guard::Used(settled.cached_file.use_chunks(chunks));
        self.missing(asked, Wish::Windows(window_updates), used)
    }

    /// What is fetched of an entry from now on is for the program that reads here.
    fn count_traffic(&self, entry: &CacheEntry) {
        if let Some(by) = self.read_by.get() {
            entry.set_traffic(Some(&by.traffic));
        }
    }

    /// A scanner gets no more of the file: nor does a server without ranges send the rest of it.
    pub(super) fn end_scan(&self) {
        if self.entry.ignores_range() && self.entry.is_only_scanned() {
            self.cache.manager.end_scan(&self.entry, true);
        }
    }

    /// Returns true if the cache's disk fails.
    pub(super) fn is_disk_failing(&self) -> bool {
        self.cache.versions().disk_health.is_on()
    }

    /// Returns true if what is missing of these chunks can be kept without evicting anything.
    pub(super) fn has_free_room(&self, chunks: &Range<u64>, size: u64) -> bool {
        let missing = self.entry.missing_in(chunks).into_iter();
        let bytes = missing.map(|run| self.entry.chunk.bytes_of(&run, size));
        let bytes = bytes.map(|bytes| bytes.end - bytes.start).sum();
        self.cache.versions().quota.has_free(bytes)
    }

    /// Looks up in the index what other mounts have fetched of these chunks. Returns true if all of them are here now.
    pub(super) fn has_learnt(&self, settled: &Settled, chunks: &Range<u64>) -> bool {
        let versions = self.cache.versions();
        if versions.quota.has_others() {
            versions.learn(&settled.cached_file, chunks);
        }
        settled.presence.contains_all(chunks)
    }

    /// Records a read for read-ahead, and returns the changes of the windows.
    fn note_ahead(&self, bytes: &Range<u64>, size: u64, is_missing: bool) -> Vec<WindowUpdate> {
        let mut ahead = self.ahead.lock();
        ahead.set_most(self.cache.read_ahead());
        ahead.note(bytes, size, is_missing, self)
    }

    pub(super) fn look_in_memory(&self, settled: &Settled, bytes: Range<u64>) -> Look {
        let (entry, memory) = self.entry.bypass(settled, &self.cache.memory);
        let guard = Guard::Memory(memory.hold(&bytes));
        let is_here = entry.has_byte_range(&bytes);
        let span = Span { bytes, guard };
        if is_here {
            return Look::Here(span);
        }
        let wish = Wish::Windows(Vec::new());
        Look::Missing(Missing { entry, span, wish })
    }

    /// `bytes` are not clipped: if the listing had the size wrong, those past it count too.
    pub(super) fn missing(&self, bytes: Range<u64>, wish: Wish, guard: Guard) -> Look {
        let (entry, span) = (Arc::clone(&self.entry), Span { bytes, guard });
        Look::Missing(Missing { entry, span, wish })
    }

    /// Looks up in the index what other mounts have fetched meanwhile of the bytes about to be
    /// requested.
    fn learn(&self, settled: &Settled, chunks: &Range<u64>, window_updates: &[WindowUpdate]) {
        let whole = 0..settled.size();
        let is_small = settled.size() <= SMALL_FILE;
        let ahead = window_updates.iter().filter_map(WindowUpdate::asks);
        let ahead = ahead.chain(is_small.then_some(&whole));
        let ahead = ahead.map(|bytes| self.entry.chunk.touched(&(bytes.start..bytes.end.min(settled.size()))));
        for chunks in ahead.chain([chunks.clone()]) {
            self.cache.versions().learn(&settled.cached_file, &chunks);
        }
    }

    /// Has missing bytes of an entry fetched, and `on_ready` called once they are there, before this returns perhaps.
    pub(super) fn wait(
        &self,
        entry: &Arc<CacheEntry>,
        bytes: Range<u64>,
        wish: &Wish,
        is_urgent: bool,
        report: WaitReport,
        on_ready: OnReady,
    ) -> WaiterId {
        self.count_traffic(entry);
        let size = self.entry.size();
        let whole = [WindowUpdate::Move {
            stream: StreamId {
                reader: self.number,
                stream: 0,
            },
            keep: 0..size,
            ask: 0..size,
        }];
        let manager = &self.cache.manager;
        let window_updates: &[_] = match wish {
            Wish::Scan(ahead) if !is_urgent => return manager.when_scanned(entry, bytes, ahead, report, on_ready),
            Wish::Scan(_) => &[],
            Wish::Windows(_) if size <= SMALL_FILE => &whole,
            Wish::Windows(window_updates) => window_updates,
        };
        manager.when_ready(entry, bytes, window_updates, report, on_ready)
    }

    /// Ends a wait: the callback is called with [`ReadError::Cancelled`], unless it was called
    /// before.
    pub fn cancel(&self, waiter: WaiterId) {
        self.cache.manager.cancel(waiter);
    }

    /// Number of bytes of a span, by the file's true size.
    pub(super) fn len_of(&self, span: &Span) -> usize {
        let bytes = self.clip(span);
        // The kernel requests a few MiB at most.
        usize::try_from(bytes.end - bytes.start).unwrap_or(0)
    }

    /// Returns true if a read begins within the listed size, but past the true end. It must not be
    /// answered with zero bytes. The kernel learns a file's size by an answer that ends early, but
    /// only by the first one. If the second 128 KiB were answered with nothing before the first,
    /// the kernel would take the file to be 128 KiB long and show zeros (`fuse_read_update_size` in
    /// `fs/fuse/file.c`). For the same reason its attributes are not invalidated meanwhile.
    pub(super) fn is_past_the_end(&self, offset: u64) -> bool {
        let size = self.entry.size();
        size < self.entry.size_hint() && offset >= size
    }

    fn clip(&self, span: &Span) -> Range<u64> {
        clip(&span.bytes, self.entry.size())
    }

    /// Fills `buf`, which is [as long](Self::len_of) as the span, with its bytes.
    ///
    /// # Errors
    /// [`ReadError::Lost`] when they turn out to be lost: they are forgotten, and the next [`Self::look`] has them fetched.
    /// [`ReadError::Store`] when the data file can't be read.
    pub(super) fn fill(&self, buf: &mut [u8], span: &Span) -> Result<Filled, ReadError> {
        let Some(settled) = self.entry.settled() else {
            // An empty range of a file whose origin was not asked yet.
            return if buf.is_empty() {
                Ok(Filled::Yes { fresh: 0 })
            } else {
                Err(ReadError::Store("no data file yet".into()))
            };
        };
        let bytes = self.clip(span);
        if let Guard::Memory(held) = &span.guard {
            let is_here = held.read(buf, bytes.start);
            let fresh = buf.len() as u64;
            return Ok(if is_here { Filled::Yes { fresh } } else { Filled::Gone });
        }
        let chunks = self.entry.chunk.touched(&bytes);
        let was_present = settled.presence.contains_all(&chunks);
        if let Err(error) = settled.cached_file.read_exact_at(buf, bytes.start) {
            let is_lost = self.cache.versions().recover(&self.entry, settled, &bytes, &error);
            // The written parts of incomplete chunks may be lost with it.
            self.cache.manager.lost(self.entry.id);
            return Err(if is_lost {
                ReadError::Lost
            } else {
                ReadError::Store(error.to_string())
            });
        }
        let is_good = match span.guard {
            Guard::Stamp(stamp) => settled.presence.is_unchanged(&chunks, stamp),
            // If another thread found the file truncated and restored it meanwhile, it returned
            // zeros.
            Guard::Used(_) | Guard::Memory(_) => !was_present || settled.presence.contains_all(&chunks),
        };
        // The same check for the written part of an incomplete chunk.
        let is_good = is_good && (was_present || !settled.cached_file.has_lost_a_part(&chunks));
        if !is_good {
            return Ok(Filled::Gone);
        }
        let fresh = settled.cached_file.unread.note_read(&bytes);
        self.note_used(fresh);
        Ok(Filled::Yes { fresh })
    }

    /// The reader has gone, or seems to: nothing more is read ahead for it.
    pub fn end_read_ahead(&self) {
        self.ahead.lock().forget();
        if self.entry.readers.load(Ordering::Acquire) <= 1 {
            self.cache.manager.end_read_ahead(self.entry.id);
        } else {
            self.cache.manager.leave(self.entry.id, self.number);
        }
    }

    /// This handle as its mount sees it; `None` for one of a Rust program.
    pub(crate) fn open_file(&self) -> Option<&OpenReader> {
        self.registration.as_ref().map(Registration::reader)
    }

    /// So many fetched bytes were read for the first time. Most reads have none.
    fn note_used(&self, bytes: u64) {
        if bytes > 0 {
            self.cache.versions().counters.used_bytes.add(bytes);
        }
    }

    /// The kernel is going to read the file by itself, without further requests: that counts as a
    /// use of all of it.
    pub fn note_passthrough(&self) {
        self.open_file().iter().for_each(|open| open.set_passthrough());
        if let Some(settled) = self.entry.settled() {
            let all = 0..self.entry.chunk.count(settled.size());
            self.note_used(settled.cached_file.unread.note_all_read());
            settled
                .cached_file
                .recency
                .note(&all, &self.cache.versions().quota.moment(self.number));
        }
    }
}

impl Conditions for Reader {
    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn useful_window(&self) -> u64 {
        self.cache.manager.useful_window(&self.entry)
    }

    fn is_crowded(&self) -> bool {
        self.cache.manager.is_crowded(&self.entry)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.scan().is_some() {
            self.entry.scanners.fetch_sub(1, Ordering::AcqRel);
        }
        // Decremented first: of two readers that end at once, the second one sees that it is the
        // last.
        if self.entry.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.cache.manager.end_read_ahead(self.entry.id);
            if let Some(scan) = self.scan() {
                self.cache.manager.end_scan(&self.entry, scan.allowance.is_some());
            }
            self.entry.set_traffic(None);
            self.entry.end_bypass();
            match self.entry.settled() {
                // There may be a data file when it is opened again.
                Some(settled) if settled.cached_file.has_no_file() => {
                    self.cache.idle_files.let_go_of(|kept| kept.id == self.entry.id)
                }
                Some(settled) => self.cache.versions().note_use(&settled.cached_file),
                None => {}
            }
        } else {
            self.cache.manager.leave(self.entry.id, self.number);
        }
    }
}
