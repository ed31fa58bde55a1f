//! The prefetch of one file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::failure::FetchError;
use super::part::{Part, Planned, plan, spans};
use super::tally::Tally;
use super::tools::Tools;
use crate::cache::{Cache, CacheEntry, Priority, ReadError, WaiterId};
use crate::control::protocol::{ByteRange, TreePath};
use crate::vfs::{Node, TreeError};

/// Bytes per piece. Two of the longest fetches, so that splitting a file costs no connection time.
const PIECE: u64 = 16 << 20;

/// Most pieces of one file in flight. More than enough for 16 connections with the longest fetches.
const PIECES: usize = 12;

/// How often the fetch of a changing file begins, at most.
const BEGINNINGS: usize = 3;

/// A file to fetch.
pub(super) struct File {
    pub(super) path: TreePath,
    /// The directory that contains it; `None` for the root of the mount, which is no file.
    pub(super) parent: Option<Arc<Node>>,
    pub(super) node: Arc<Node>,
    /// The wanted ranges; empty means the whole file.
    pub(super) ranges: Arc<[ByteRange]>,
    /// What the tally has counted for it.
    pub(super) planned: Planned,
}

impl File {
    /// Fetches the wanted ranges of the file's current version.
    pub(super) async fn fetch(mut self, tools: &Tools, tally: &Arc<Tally>) -> Result<(), FetchError> {
        for _ in 1..BEGINNINGS {
            match self.fetch_version(tools, tally).await {
                Err(FetchError::Tree(TreeError::Changed) | FetchError::Read(ReadError::Changed)) => {}
                result => return result,
            }
            let (Some(parent), Some(name)) = (&self.parent, self.path.as_path().file_name()) else {
                break;
            };
            self.node = tools.tree.lookup(parent, name).await?;
        }
        self.fetch_version(tools, tally).await
    }

    async fn fetch_version(&mut self, tools: &Tools, tally: &Arc<Tally>) -> Result<(), FetchError> {
        // Held until everything is fetched: an entry without a holder is closed and may be evicted.
        let entry = tools.tree.open(&self.node).await?;
        let _bringing = tools.cache.bringing(&entry);
        let part = Arc::new(Part {
            entry: Arc::clone(&entry),
            ranges: Arc::clone(&self.ranges),
        });
        let _looking = tally.look_at(Arc::clone(&part));
        loop {
            let size = entry.size();
            tally.replan(&mut self.planned, plan(&tools.cache, &self.ranges, size));
            // The size may be known only now.
            let (wanted, kept) = (tally.takes(), tools.cache.room());
            if wanted > kept {
                return Err(FetchError::TooMuch { wanted, kept });
            }
            for bytes in spans(&self.ranges, size) {
                fetch_bytes(&tools.cache, &entry, bytes).await?;
            }
            // The size differs from the listing's, so the end is elsewhere.
            if entry.size() == size {
                break;
            }
        }
        // All of it was present at one time; a part may be evicted by now.
        match self.planned.bytes.saturating_sub(part.present()) {
            0 => Ok(()),
            lost => Err(FetchError::DoesNotStay(lost)),
        }
    }
}

/// Fetches the chunks of these bytes of an entry, piece by piece.
async fn fetch_bytes(cache: &Arc<Cache>, entry: &Arc<CacheEntry>, bytes: Range<u64>) -> Result<(), ReadError> {
    let mut waits = Waits::new(cache, entry);
    // Extended to chunk edges, because a partial chunk is not kept. The file's end may be unknown; a request beyond
    // it fetches nothing.
    let chunk = entry.chunk.bytes();
    let end = bytes.end.checked_next_multiple_of(chunk).unwrap_or(bytes.end);
    let mut at = bytes.start - bytes.start % chunk;
    loop {
        while waits.count() < PIECES && at < end {
            let end = at.saturating_add(PIECE).min(end);
            learn(cache, entry, &(at..end)).await;
            waits.begin(at..end);
            at = end;
        }
        match waits.next().await {
            Some(result) => result?,
            None => return Ok(()),
        }
    }
}

/// Takes over chunks of these bytes that another mount has fetched.
async fn learn(cache: &Arc<Cache>, entry: &Arc<CacheEntry>, bytes: &Range<u64>) {
    if cache.is_shared() {
        let (cache, entry, bytes) = (Arc::clone(cache), Arc::clone(entry), bytes.clone());
        // If the index can't be queried, the bytes are fetched again.
        let _ = tokio::task::spawn_blocking(move || cache.learn(&entry, &bytes)).await;
    }
}

/// The pieces of one entry in flight. Dropping it cancels them.
struct Waits {
    cache: Arc<Cache>,
    entry: Arc<CacheEntry>,
    waiting: BTreeMap<u64, WaiterId>,
    next: u64,
    news: mpsc::UnboundedSender<(u64, Result<(), ReadError>)>,
    heard: mpsc::UnboundedReceiver<(u64, Result<(), ReadError>)>,
}

impl Waits {
    fn new(cache: &Arc<Cache>, entry: &Arc<CacheEntry>) -> Waits {
        let (news, heard) = mpsc::unbounded_channel();
        Waits {
            cache: Arc::clone(cache),
            entry: Arc::clone(entry),
            waiting: BTreeMap::new(),
            next: 0,
            news,
            heard,
        }
    }

    fn count(&self) -> usize {
        self.waiting.len()
    }

    fn begin(&mut self, bytes: Range<u64>) {
        let (number, news) = (self.next, self.news.clone());
        self.next += 1;
        // The callback may run before `when_fetched` returns; its message is received later.
        let on_ready = Box::new(move |result| {
            // The receiver is gone if the prefetch was cancelled.
            let _ = news.send((number, result));
        });
        let manager = self.cache.manager();
        let waiter = manager.when_fetched(&self.entry, bytes, Priority::Medium, on_ready);
        self.waiting.insert(number, waiter);
    }

    /// The result of the next piece that ends; `None` if none is in flight.
    async fn next(&mut self) -> Option<Result<(), ReadError>> {
        if self.waiting.is_empty() {
            return None;
        }
        let (number, result) = self.heard.recv().await?;
        self.waiting.remove(&number);
        Some(result)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        // The last first: otherwise the end of a piece in progress would start the next one.
        for waiter in self.waiting.values().rev() {
            self.cache.manager().cancel(*waiter);
        }
    }
}
