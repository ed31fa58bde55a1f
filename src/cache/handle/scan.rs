//! Reads of scanners: thumbnailers, indexers and media scanners, which look into every file that they find.
//!
//! Who is one is decided above ([`crate::fuse`]); here is what that means for the reads of a handle:
//!
//! - **Exact ranges.** Chunks that a read touches are fetched, and nothing ahead of it. Small files come whole, in one request.
//! - **Low priority** ([`ChunkManager::when_scanned`](crate::cache::fetch::manager::ChunkManager::when_scanned)). After a few
//!   seconds it waits like any other reader, so others never make it fail.
//! - **Nothing is evicted for it.** What it has fetched takes free room only, and is the first to be evicted. Without room its
//!   bytes are served from memory, like those of a [bypass](super::read_at).
//! - Its reads are not noted for eviction ([`crate::cache::quota::policy`]).
//! - **With an [`Allowance`], so many bytes of a file are fetched for it.** Reads of cached bytes are free. A read that would
//!   exceed it fails as a whole, with an error of its own: never with fewer bytes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rangemap::RangeSet;

use super::reader::{Guard, Look, Missing, Reader, SMALL_FILE, Span, Wish};
use crate::cache::chunk::clip;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::key::EntryId;
use crate::stats::ProcessTraffic;

/// The program that reads through a handle.
#[derive(Debug)]
pub(crate) struct ReadBy {
    /// Where its traffic is counted.
    pub traffic: Arc<ProcessTraffic>,
    /// Its rules, if it is a scanner.
    pub scan: Option<Scan>,
}

/// The rules of a scanner.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// What it may fetch of the file; `None` for all of it.
    pub allowance: Option<Arc<Allowance>>,
}

/// How much of one file is fetched for one program, through all of its handles.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Bytes; the current value of the option.
    limit: Arc<AtomicU64>,
    /// Held for moments. No other lock is taken under it.
    state: Mutex<Charged>,
}

#[derive(Debug, Default)]
struct Charged {
    /// Bytes so far.
    bytes: u64,
    /// The entry of `coming`.
    entry: Option<EntryId>,
    /// Its chunks that were charged and that no read has found present since: a second read of one that is on its way is not
    /// charged again. One that was evicted meanwhile is.
    coming: RangeSet<u64>,
}

impl Allowance {
    /// Nothing was fetched so far.
    pub(crate) fn new(limit: &Arc<AtomicU64>) -> Allowance {
        Allowance {
            limit: Arc::clone(limit),
            state: Mutex::default(),
        }
    }

    /// Bytes of the file that it may get.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Charges what is missing of these chunks, if it fits. Returns false, with nothing charged, if it does not.
    fn try_charge(&self, entry: &CacheEntry, chunks: &Range<u64>) -> bool {
        if chunks.is_empty() {
            return true;
        }
        let missing: RangeSet<u64> = entry.missing_in(chunks).into_iter().collect();
        let mut charged = self.state.lock();
        if charged.entry.replace(entry.id) != Some(entry.id) {
            charged.coming = RangeSet::new();
        }
        missing.gaps(chunks).for_each(|arrived| charged.coming.remove(arrived));
        let new: Vec<_> = missing.iter().flat_map(|run| charged.coming.gaps(run)).collect();
        let size = entry.size();
        let bytes: u64 = new
            .iter()
            .map(|run| entry.chunk.bytes_of(run, size))
            .map(|bytes| bytes.end.saturating_sub(bytes.start))
            .sum();
        let fits = new.is_empty() || charged.bytes.saturating_add(bytes) <= self.limit();
        if fits {
            charged.bytes += bytes;
            charged.coming.extend(new);
        }
        fits
    }
}

impl Scan {
    /// Charges these bytes of an entry.
    fn try_charge(&self, entry: &CacheEntry, bytes: &Range<u64>) -> bool {
        let Some(allowance) = &self.allowance else {
            return true;
        };
        // A server that ignores Range sends everything before them, too.
        let bytes = if entry.ignores_range() {
            0..bytes.end
        } else {
            bytes.clone()
        };
        allowance.try_charge(entry, &entry.chunks_of(&bytes))
    }
}

impl Reader {
    /// As [`Self::look`], for a scanner.
    pub(super) fn look_for_scan(&self, scan: &Scan, asked: Range<u64>, is_bypass: bool) -> Look {
        let size = self.entry().size();
        let Some(settled) = self.entry().settled() else {
            return match self.wish_of_scan(scan, &asked, size) {
                // A stamp of 0 notices every later eviction: the file begins without any.
                Some(wish) => self.missing(asked, wish, Guard::Stamp(0)),
                None => Look::Refused,
            };
        };
        let bytes = clip(&asked, size);
        if is_bypass || settled.cached_file.has_no_file() {
            return self.scan_in_memory(scan, settled, bytes);
        }
        let chunks = self.entry().chunk.touched(&bytes);
        // Taken before the chunks are looked up.
        let stamp = settled.presence.stamp(&chunks);
        if settled.presence.contains_all(&chunks) || self.has_learnt(settled, &chunks) {
            if let Some(allowance) = &scan.allowance {
                // They have come.
                let _ = allowance.try_charge(self.entry(), &chunks);
            }
            return Look::Here(Span::new(bytes, Guard::Stamp(stamp)));
        }
        if self.is_disk_failing() || !self.has_free_room(&chunks, size) {
            return self.scan_in_memory(scan, settled, bytes);
        }
        match self.wish_of_scan(scan, &bytes, size) {
            Some(wish) => self.missing(asked, wish, Guard::Used(settled.cached_file.use_chunks(chunks))),
            None => Look::Refused,
        }
    }

    /// What to fetch for a read: of a small file all, if that may be. `None` if it may not even have its own bytes.
    fn wish_of_scan(&self, scan: &Scan, bytes: &Range<u64>, size: u64) -> Option<Wish> {
        if size <= SMALL_FILE && scan.try_charge(self.entry(), &(0..size)) {
            return Some(Wish::Scan(0..size));
        }
        scan.try_charge(self.entry(), bytes).then(|| Wish::Scan(bytes.clone()))
    }

    fn scan_in_memory(&self, scan: &Scan, settled: &Settled, bytes: Range<u64>) -> Look {
        match self.look_in_memory(settled, bytes.clone()) {
            Look::Missing(Missing { entry, span, .. }) => match scan.try_charge(&entry, &bytes) {
                true => Look::Missing(Missing {
                    entry,
                    span,
                    wish: Wish::Scan(bytes),
                }),
                false => Look::Refused,
            },
            here => here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::chunk::ChunkSize;
    use crate::http::Origin;
    use crate::origin::{Content, ListedSize};
    use url::Url;

    const C: u64 = 4096;

    fn entry(chunks: u64) -> CacheEntry {
        let url = Url::parse("http://h/f").unwrap();
        let origin = Origin::of(&url).unwrap();
        let content = Content::at(url, ListedSize::Exact(chunks * C));
        let entry = CacheEntry::unsettled(content, origin, ChunkSize::new(C).unwrap());
        entry.settle_for_tests(chunks * C);
        entry
    }

    fn allowance(chunks: u64) -> Allowance {
        Allowance::new(&Arc::new(AtomicU64::new(chunks * C)))
    }

    #[test]
    fn chunk_on_its_way_is_charged_once() {
        let (entry, allowance) = (entry(100), allowance(4));
        assert!(allowance.try_charge(&entry, &(0..2)) && allowance.try_charge(&entry, &(1..3)));
        assert!(!allowance.try_charge(&entry, &(3..5)), "nothing is charged for it");
        assert!(allowance.try_charge(&entry, &(3..4)));
        assert!(!allowance.try_charge(&entry, &(50..51)));
        assert!(allowance.try_charge(&entry, &(0..4)), "all of them were charged");
    }

    #[test]
    fn present_chunk_is_free_and_an_evicted_one_is_not() {
        let (entry, allowance) = (entry(100), allowance(2));
        let presence = &entry.settled().unwrap().presence;
        presence.insert(7);
        assert!(allowance.try_charge(&entry, &(6..8)));
        assert_eq!(allowance.state.lock().bytes, C);
        presence.insert(6);
        assert!(allowance.try_charge(&entry, &(6..8)));
        presence.remove(6);
        assert!(allowance.try_charge(&entry, &(6..8)), "it is fetched again");
        assert_eq!(allowance.state.lock().bytes, 2 * C);
        presence.insert(6);
        assert!(
            allowance.try_charge(&entry, &(6..8)),
            "the allowance is used up, but these are here"
        );
        assert!(!allowance.try_charge(&entry, &(0..1)));
    }

    #[test]
    fn last_chunk_counts_with_its_true_length() {
        let url = Url::parse("http://h/f").unwrap();
        let origin = Origin::of(&url).unwrap();
        let content = Content::at(url, ListedSize::Exact(C + 1));
        let entry = CacheEntry::unsettled(content, origin, ChunkSize::new(C).unwrap());
        entry.settle_for_tests(C + 1);
        let allowance = Allowance::new(&Arc::new(AtomicU64::new(C + 1)));
        assert!(allowance.try_charge(&entry, &(0..2)));
        assert_eq!(allowance.state.lock().bytes, C + 1);
    }

    #[test]
    fn whole_prefix_counts_for_a_server_without_ranges() {
        let entry = entry(100);
        entry.mark_ignores_range();
        let scan = Scan {
            allowance: Some(Arc::new(allowance(10))),
        };
        assert!(scan.try_charge(&entry, &(8 * C..9 * C)));
        assert!(!scan.try_charge(&entry, &(10 * C..11 * C)));
        assert!(Scan { allowance: None }.try_charge(&entry, &(90 * C..91 * C)));
    }
}
