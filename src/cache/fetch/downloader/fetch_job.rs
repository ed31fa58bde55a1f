//! A fetch to be carried out: what was ordered, how far it goes by what is known now, and what all
//! fetches share.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use url::Url;

use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::fetch::file_writer::WriteJob;
use crate::cache::fetch::manager::{ChunkManager, FetchControl};
use crate::cache::fetch::scheduler::FetchOrder;
use crate::cache::integrity::pieces::{pieces_of, widened};
use crate::cache::storage::descriptor_exhaustion::DescriptorExhaustion;
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{Body, ChunkTier, Client, Route, Throttle};
use crate::stats::CacheCounters;

/// Carries out the fetches of one mount, each in a task of its own.
pub(crate) struct ChunkDownloader {
    /// Where the tasks run.
    pub runtime: Handle,
    /// The HTTP client.
    pub client: Client,
    /// The token bucket that all bodies share.
    pub throttle: Throttle,
    /// Number of tries after the first that brought nothing, before a fetch fails.
    pub retries: u32,
    /// Places besides the origin that may have bytes, in order of preference.
    pub tiers: Vec<Arc<dyn ChunkTier>>,
    /// Opens data files for versions that become known.
    pub cache_dir: Arc<CacheDir>,
    /// The threads that write.
    pub writers: Sender<WriteJob>,
    /// Counts what comes.
    pub counters: Arc<CacheCounters>,
    /// Notified when there is no descriptor left for a connection.
    pub shortage: DescriptorExhaustion,
}

impl ChunkDownloader {
    /// The next piece of a file's body, counted, also for its entry if it has one. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Body::next`].
    pub(crate) async fn next_piece(
        &self,
        body: &mut Body,
        of: Option<&CacheEntry>,
    ) -> Result<Option<Bytes>, HttpError> {
        let piece = body.next().await?;
        let bytes = piece.as_ref().map_or(0, Bytes::len) as u64;
        self.counters.fetched_bytes.add(bytes);
        of.iter().for_each(|entry| entry.note_fetched(bytes));
        Ok(piece)
    }
}

/// A running fetch.
pub(super) struct FetchJob {
    pub(super) downloader: Arc<ChunkDownloader>,
    pub(super) manager: Arc<ChunkManager>,
    pub(super) order: FetchOrder,
    pub(super) control: Arc<FetchControl>,
    /// The server sends the whole file, whatever range was requested.
    pub(super) linear: bool,
    /// Byte offset of the next chunk to verify instead of to fetch.
    pub(super) next_suspect: u64,
    /// Byte offset at which the next request of a file with hashes of its pieces begins.
    pub(super) request_at: Option<u64>,
    /// Bytes in the cache have contradicted the hash of a piece: pieces are requested as a whole.
    pub(super) distrusts_cache: bool,
}

impl FetchJob {
    /// The next piece of the body of an answer for this fetch, counted. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Body::next`].
    pub(super) async fn next_piece(&self, body: &mut Body) -> Result<Option<Bytes>, HttpError> {
        self.downloader.next_piece(body, Some(&self.order.entry)).await
    }

    /// Byte offset before which this fetch ends, by what is known now.
    pub(super) fn end(&self) -> u64 {
        match self.order.entry.settled() {
            Some(settled) if self.linear => settled.size(),
            Some(settled) => self.control.end().min(settled.size()),
            None => self.control.end(),
        }
    }

    /// Byte offset before which the current request ends.
    pub(super) fn request_end(&self) -> u64 {
        if self.linear {
            self.end()
        } else {
            self.end().min(self.next_suspect)
        }
    }

    /// The bytes that are wanted from `offset` on; empty if the fetch was cut a moment ago.
    pub(super) fn rest_from(&self, offset: u64) -> Range<u64> {
        offset..self.request_end()
    }

    /// The bytes to request for [`Self::rest_from`] this offset: up to the end of a piece, if there are pieces.
    pub(super) fn request_from(&self, offset: u64) -> Range<u64> {
        let wanted = self.rest_from(offset);
        let entry = &self.order.entry;
        match pieces_of(&entry.content) {
            Some(pieces) if !wanted.is_empty() => {
                let wide = widened(pieces, &wanted, entry.settled().map(Settled::size));
                let at = self.request_at.unwrap_or(wide.start);
                at..wide.end.max(at)
            }
            _ => wanted,
        }
    }

    /// Returns true if its remaining bytes are wanted. A fetch that has lost its slot must end.
    pub(super) fn is_wanted(&self) -> bool {
        self.manager.is_wanted(self.order.id)
    }

    pub(super) fn bad_answer(&self, what: &str) -> HttpError {
        self.error(HttpErrorKind::BadAnswer(what.to_owned()))
    }

    pub(super) fn error(&self, kind: HttpErrorKind) -> HttpError {
        let url = redact(self.order.entry.url());
        HttpError { kind, url }
    }
}

impl Route for FetchJob {
    fn leads_to<'a>(&'a self, target: &'a Url) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let Some(origin) = Origin::of(target) else { return };
            let fetch = self.order.id;
            if !self.manager.report(|scheduler| scheduler.leads_to(fetch, &origin)) {
                // This fetch is stopped; the next one begins at the redirect's target.
                self.downloader.client.note_redirect(self.order.entry.url(), target);
                std::future::pending().await
            }
        })
    }
}
