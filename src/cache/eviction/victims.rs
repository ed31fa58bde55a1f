//! Victims: the coldest segments of all files, which are evicted next.
//!
//! Open files are ranked by the recency in memory, all others by that in the index; the latter are
//! opened only when their turn comes. A version that is not current is evicted before all others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use crate::cache::entry::cached_file::CachedFile;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::index::{Candidate, Order, Record};
use crate::cache::key::EntryKey;
use crate::cache::quota::policy::{Moment, place};

/// Maximum number of chunks of a batch: the index forgets them in one transaction.
const BATCH_CHUNKS: usize = 16_384;

/// Maximum number of files opened for a batch. For a file of a few small chunks a page or two of
/// the index change. With thousands of them in one transaction, SQLite's log would exceed the space
/// reserved for it.
const BATCH_FILES: usize = 256;

/// Number of candidates per query.
pub(in crate::cache) const PAGE: usize = 64;

/// Chunks of one file that are to be evicted.
pub(in crate::cache) struct Victim {
    /// The file.
    pub(in crate::cache) cached_file: Arc<CachedFile>,
    /// In the order of the file.
    pub(in crate::cache) chunks: Vec<u64>,
}

/// A segment by rank: rank, number of the file among the candidates, segment.
type Ranked = Reverse<(u64, usize, u64)>;

/// Collects the next victims, of `need` bytes, without the entries that have `refused` an eviction.
pub(in crate::cache) fn coldest(versions: &VersionStore, need: u64, refused: &HashSet<EntryKey>) -> Vec<Victim> {
    let pinned = versions.index.pinned();
    let mut picked = Picked::new(versions.quota.moment(0));
    let open = versions.cached_files.all();
    let known: HashSet<EntryKey> = open.iter().map(|cached_file| cached_file.key.clone()).collect();
    open.into_iter()
        .filter(|cached_file| !pinned.contains(&cached_file.key) && !refused.contains(&cached_file.key))
        .for_each(|cached_file| picked.consider(cached_file, false));
    let mut closed = Closed::new(versions, Order::ColdestFirst);
    let (mut bytes, mut chunks, mut files) = (0, 0, 0);
    while bytes < need && chunks < BATCH_CHUNKS && files < BATCH_FILES {
        let next_closed = closed.peek().map(|row| row.coldest);
        let next_open = picked.segments.peek().map(|Reverse((rank, ..))| *rank);
        match (next_closed, next_open) {
            (Some(coldest), rank) if rank.is_none_or(|rank| coldest <= rank) => {
                let row = closed.next();
                if let Some(row) = row.filter(|row| !known.contains(&row.key) && !refused.contains(&row.key)) {
                    // So that files without remaining chunks also count towards the limit of a
                    // batch.
                    files += 1;
                    if let Some(cached_file) = open_or_forget(versions, &row) {
                        picked.consider(cached_file, row.coldest == 0);
                    }
                }
            }
            (_, Some(_)) => {
                let (more_bytes, more_chunks) = picked.take_segment(need - bytes, BATCH_CHUNKS - chunks);
                bytes += more_bytes;
                chunks += more_chunks;
            }
            (_, None) => break,
        }
    }
    picked.victims
}

/// The candidates, and what of them is to be evicted.
struct Picked {
    /// Every file that was considered, with its victims.
    victims: Vec<Victim>,
    segments: BinaryHeap<Ranked>,
    /// The time of ranking.
    now: Moment,
}

impl Picked {
    fn new(now: Moment) -> Picked {
        Picked {
            victims: Vec::new(),
            segments: BinaryHeap::new(),
            now,
        }
    }

    /// `is_outdated`: it is evicted first, whatever its use.
    fn consider(&mut self, cached_file: Arc<CachedFile>, is_outdated: bool) {
        let number = self.victims.len();
        for segment in 0..cached_file.presence.segments() {
            if cached_file.presence.in_segment(segment).next().is_some() {
                let used = cached_file.recency.of(segment);
                let place = place(cached_file.key.as_str(), segment);
                let rank = match is_outdated {
                    true => 0,
                    false => used.rank_while_open(place, self.now.cache, self.now.clock),
                };
                self.segments.push(Reverse((rank, number, segment)));
            }
        }
        self.victims.push(Victim {
            cached_file,
            chunks: Vec::new(),
        });
    }

    /// Picks the coldest segment, or as much of it as is needed. Returns bytes and chunks.
    fn take_segment(&mut self, need: u64, most: usize) -> (u64, usize) {
        let Some(Reverse((_, number, segment))) = self.segments.pop() else {
            return (0, 0);
        };
        let Victim { cached_file, chunks } = &mut self.victims[number];
        let (before, mut bytes) = (chunks.len(), 0);
        for chunk in cached_file.evictable(segment) {
            if bytes >= need || chunks.len() - before >= most {
                break;
            }
            let range = cached_file.chunk.bytes_of(&(chunk..chunk + 1), cached_file.size);
            bytes += range.end - range.start;
            chunks.push(chunk);
        }
        (bytes, chunks.len() - before)
    }
}

/// The rows of entries in an order, page by page.
pub(in crate::cache) struct Closed<'a> {
    versions: &'a VersionStore,
    order: Order,
    page: std::vec::IntoIter<Candidate>,
    last: Option<Candidate>,
    is_over: bool,
}

impl<'a> Closed<'a> {
    pub(in crate::cache) fn new(versions: &'a VersionStore, order: Order) -> Closed<'a> {
        Closed {
            versions,
            order,
            page: Vec::new().into_iter(),
            last: None,
            is_over: false,
        }
    }

    fn peek(&mut self) -> Option<&Candidate> {
        if self.page.len() == 0 && !self.is_over {
            let page = self.versions.index.candidates(self.order, self.last.as_ref(), PAGE);
            self.is_over = page.len() < PAGE;
            self.last = page.last().cloned();
            self.page = page.into_iter();
        }
        self.page.as_slice().first()
    }
}

impl Iterator for Closed<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        self.peek()?;
        self.page.next()
    }
}

/// Opens an entry to free space in it. An entry without a file is forgotten.
pub(in crate::cache) fn open_or_forget(versions: &VersionStore, row: &Candidate) -> Option<Arc<CachedFile>> {
    let cached_file = versions.open_recorded(row);
    // In a directory that is gone every file is missing, but they may come back.
    if cached_file.is_none() && versions.store.lacks(&row.key) && versions.is_in_place() {
        versions.index.record(Record::Forget { key: row.key.clone() });
        // Another program has deleted it, and its bytes still count.
        versions.quota.demand_audit();
    }
    cached_file
}
