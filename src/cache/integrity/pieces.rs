//! Pieces: a file whose source publishes a hash for each piece of it (Metalink). **No byte of a piece is written or served
//! before the whole piece has come and has its hash.**
//!
//! The downloader has the body of each answer pass through a [`PieceFilter`], which holds the bytes of one piece back. So
//! everything behind it, the data file, the chunk bitmap and the index, has verified bytes only, and needs to know nothing
//! of pieces: not after a crash, and not when a part of a piece is evicted.
//!
//! - A fetch covers whole chunks, and pieces have any length. So a request is widened to the edges of pieces
//!   ([`widened`]). What lies outside the fetch is hashed and dropped: another fetch may be writing there.
//! - Chunks of such a file are at least as long as its pieces ([`chunk_size`]), so that a fetch of one chunk is not mostly
//!   other chunks' bytes. With pieces of a power of two nothing is requested twice.
//! - The cache keeps such a file under a key of its own ([`EntryKey`](crate::cache::key::EntryKey)), which the hashes are
//!   part of. What was cached without them does not count.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use url::Url;

use crate::cache::chunk::{CHUNK_SIZES, ChunkSize};
use crate::origin::{Content, Hash, Hasher, Pieces, Published};

/// Maximum bytes of a piece. Each fetch holds one in memory. A file with longer pieces is compared as a whole. Generators
/// make pieces of 256 KiB to 4 MiB.
const MOST: u64 = 16 << 20;

/// The hashes by which the pieces of a file are verified, if its source publishes them.
pub(crate) fn pieces_of(content: &Content) -> Option<&Pieces> {
    content.published().and_then(|published| usable(published))
}

fn usable(published: &Published) -> Option<&Pieces> {
    let pieces = published.pieces.as_ref()?;
    (pieces.length <= MOST && !pieces.hashes.is_empty()).then_some(pieces)
}

/// The size of a file's chunks: the `usual` one, but not shorter than its pieces.
pub(crate) fn chunk_size(content: &Content, usual: ChunkSize) -> ChunkSize {
    let least = pieces_of(content).map_or(0, |pieces| pieces.length);
    let bytes = usual.bytes().max(least.next_power_of_two());
    ChunkSize::new(bytes.min(*CHUNK_SIZES.end())).unwrap_or(usual)
}

/// The bytes to request for `bytes`: from the beginning of a piece to the end of one. `size` is the file's, if it is
/// known.
pub(crate) fn widened(pieces: &Pieces, bytes: &Range<u64>, size: Option<u64>) -> Range<u64> {
    let start = bytes.start - bytes.start % pieces.length;
    let end = bytes.end.checked_next_multiple_of(pieces.length).unwrap_or(u64::MAX);
    start..size.map_or(end, |size| end.min(size.max(bytes.end)))
}

/// A piece that does not have its hash.
#[derive(Debug)]
pub(crate) struct WrongPiece {
    /// Its number, from 0.
    pub index: u64,
    /// The hash that it has.
    pub computed: Hash,
    /// The published one; `None` if the file has more pieces than its source says.
    pub published: Option<Hash>,
    /// Where all of its bytes came from; `None` if that is not one place.
    pub sender: Option<Url>,
}

/// Lets the bytes of a file through, piece by piece.
pub(crate) struct PieceFilter {
    published: Arc<Published>,
    /// Byte offset in the file of the next byte to receive.
    at: u64,
    /// Byte offset in the file from which on bytes are yielded.
    first: u64,
    hasher: Hasher,
    /// Of the piece at `at`: what is to be yielded of it.
    held: VecDeque<Bytes>,
    /// Bytes in `held`.
    held_len: u64,
    /// Verified, and not yielded yet.
    ready: VecDeque<Bytes>,
    /// Where the bytes come from now.
    sender: Option<Url>,
    /// True if the piece at `at` has bytes from elsewhere too.
    is_mixed: bool,
    /// True if the beginning of the piece at `at` was read from the cache.
    is_continued: bool,
}

impl PieceFilter {
    /// A filter that yields the bytes from `first` on. The first one to receive is at the beginning of its piece.
    pub(crate) fn new(published: &Arc<Published>, first: u64) -> Option<PieceFilter> {
        let pieces = usable(published)?;
        let algorithm = pieces.hashes.first()?.algorithm;
        Some(PieceFilter {
            published: Arc::clone(published),
            at: first - first % pieces.length,
            first,
            hasher: Hasher::new(algorithm),
            held: VecDeque::new(),
            held_len: 0,
            ready: VecDeque::new(),
            sender: None,
            is_mixed: false,
            is_continued: false,
        })
    }

    /// The bytes of the first piece before the first one to yield are these, which were verified when they were cached:
    /// they need not be received.
    pub(crate) fn continue_from(&mut self, verified: &[u8]) {
        self.hasher.update(verified);
        self.at += verified.len() as u64;
        self.is_continued = true;
    }

    fn pieces(&self) -> &Pieces {
        // Checked when it was made.
        usable(&self.published).expect("a filter is made for usable pieces")
    }

    /// Byte offset in the file of the next byte to receive.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Byte offset in the file of the next byte to yield, once what is ready was taken.
    pub(crate) fn yielded(&self) -> u64 {
        self.first.max(self.at - self.held_len.min(self.at))
    }

    /// Bytes that it holds back.
    pub(crate) fn held(&self) -> u64 {
        self.held_len
    }

    /// The next bytes come from here.
    pub(crate) fn note_sender(&mut self, url: &Url) {
        let is_at_edge = self.at.is_multiple_of(self.pieces().length);
        let before = self.sender.replace(url.clone());
        self.is_mixed |= !is_at_edge && before.is_some_and(|before| before != *url);
    }

    /// Takes the next bytes of a file of `size` bytes.
    ///
    /// # Errors
    /// The piece that they complete, if it does not have its hash. The filter is then of no use.
    pub(crate) fn feed(&mut self, mut bytes: Bytes, size: u64) -> Result<(), Box<WrongPiece>> {
        while !bytes.is_empty() {
            let length = self.pieces().length;
            let index = self.at / length;
            let end = (index + 1).saturating_mul(length).min(size).max(self.at + 1);
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            let now = bytes.split_to(left.min(bytes.len()));
            self.hasher.update(&now);
            self.hold(now);
            if self.at == end {
                self.end_piece(index)?;
            }
        }
        Ok(())
    }

    /// Adds bytes of the piece at `at`.
    fn hold(&mut self, mut bytes: Bytes) {
        let unwanted = self.first.saturating_sub(self.at).min(bytes.len() as u64);
        self.at += bytes.len() as u64;
        // Less than a piece.
        let bytes = bytes.split_off(unwanted as usize);
        if !bytes.is_empty() {
            self.held_len += bytes.len() as u64;
            self.held.push_back(bytes);
        }
    }

    fn end_piece(&mut self, index: u64) -> Result<(), Box<WrongPiece>> {
        let hashes = &self.pieces().hashes;
        let algorithm = hashes[0].algorithm;
        let published = usize::try_from(index).ok().and_then(|index| hashes.get(index)).cloned();
        let computed = std::mem::replace(&mut self.hasher, Hasher::new(algorithm)).finish();
        if published.as_ref() != Some(&computed) {
            let is_of_one = !self.is_mixed && !self.is_continued;
            return Err(Box::new(WrongPiece {
                index,
                computed,
                published,
                sender: self.sender.clone().filter(|_| is_of_one),
            }));
        }
        (self.is_mixed, self.is_continued) = (false, false);
        self.ready.append(&mut self.held);
        self.held_len = 0;
        Ok(())
    }

    /// The next verified bytes.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests;
