//! Requests for files with hashes of their pieces: where they begin, and what follows from a wrong piece.

use std::ops::Range;
use std::sync::Arc;

use super::fetch_job::FetchJob;
use crate::cache::entry::cache_entry::Settled;
use crate::cache::error::ReadError;
use crate::cache::integrity::pieces::{PieceFilter, WrongPiece};
use crate::http::redact;
use crate::util::events;

impl FetchJob {
    /// A filter for the bytes from `offset` on, if the file has hashes of its pieces.
    pub(super) fn new_filter(&self, offset: u64) -> Option<PieceFilter> {
        PieceFilter::new(self.order.entry.content.published()?, offset)
    }

    /// Makes the filter for the bytes from `offset` on, unless it is there: an earlier request has left it in the middle of
    /// a piece. What the cache has of the beginning of the piece is not requested again.
    pub(super) async fn prepare_filter(&mut self, offset: u64, filter: &mut Option<PieceFilter>) {
        if filter.as_ref().is_none_or(|filter| filter.yielded() != offset) {
            *filter = self.new_filter(offset);
            if let Some(filter) = filter
                && let Some(cached) = self.cached(filter.at()..offset).await
            {
                filter.continue_from(&cached);
            }
        }
        self.request_at = filter.as_ref().map(PieceFilter::at);
    }

    /// These bytes from the data file, if all of them are present.
    async fn cached(&self, bytes: Range<u64>) -> Option<Vec<u8>> {
        if bytes.is_empty() || self.distrusts_cache || self.linear {
            return None;
        }
        let entry = Arc::clone(&self.order.entry);
        let reading = self.downloader.runtime.spawn_blocking(move || {
            let settled = entry.settled().filter(|settled| settled.memory.is_none())?;
            present(settled, &bytes)
        });
        reading.await.ok()?
    }

    /// A piece did not have its hash: its sender is left out for this file, and named in the log. Returns the error of
    /// the fetch, if there is no other.
    pub(super) fn reject_piece(&self, wrong: &WrongPiece) -> ReadError {
        let entry = &self.order.entry;
        let Some(sender) = &wrong.sender else {
            // Of two senders, or of the cache and one. It is requested anew, as a whole, and then has one sender.
            return ReadError::Rejected;
        };
        let expected = match &wrong.published {
            Some(hash) => format!("{hash} is published"),
            None => "none is published, because the file should end before it".to_owned(),
        };
        log::warn!(
            event = events::HASH_MISMATCH;
            "{}: piece {} from {} has the {} hash {}, but {expected}; skipping this server for this file",
            redact(entry.url()),
            wrong.index,
            redact(sender),
            wrong.computed.algorithm,
            wrong.computed,
        );
        self.downloader.client.leave_out(sender);
        ReadError::Rejected
    }
}

fn present(settled: &Settled, bytes: &Range<u64>) -> Option<Vec<u8>> {
    let file = &settled.cached_file;
    let chunks = file.chunk.touched(bytes);
    // Not evicted while they are read.
    let _stays = file.use_chunks(chunks.clone());
    // Less than a piece.
    let mut buffer = vec![0; (bytes.end - bytes.start) as usize];
    let is_here = || file.presence.contains_all(&chunks);
    (is_here() && file.read_exact_at(&mut buffer, bytes.start).is_ok() && is_here()).then_some(buffer)
}
