//! Bypass: reads straight from the origin, in memory of a bounded size.
//!
//! Used for as long as the cache directory can't be written
//! ([`disk_health`](super::storage::disk_health)), and for bytes that can't be read back from it.
//! Nothing is read ahead, and nothing outlives its readers. All protections of a reader hold here
//! too: answers are validated against the opened version, failures are retried, the origin's health
//! and the throttle apply, and the read's deadline ends it.

mod blocks;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, watch};

use super::entry::cache_entry::CacheEntry;
use super::error::ReadError;
use super::fetch::downloader::{Candidate, ChunkDownloader, RoutePermit};
use super::key::EntryId;
use crate::http::{HttpError, HttpErrorKind, Version, redact};
use crate::origin::{Body, Expected, FailureAttribution, Permit, RangeAnswer, Retry, Weighed};
use blocks::Blocks;
pub use blocks::Piece;

/// The bypass of one mount, shared by its readers.
pub struct Bypass {
    downloader: Arc<ChunkDownloader>,
    /// Maximum time of a read.
    patience: Duration,
    blocks: Blocks,
    /// Maximum number of concurrent requests, over all origins: as many as one origin gets
    /// otherwise.
    connections: Semaphore,
    /// True when the mount is ending.
    is_closed: watch::Sender<bool>,
}

/// The range to fetch.
struct Wanted<'a> {
    entry: &'a CacheEntry,
    /// The version that was opened.
    version: &'a Version,
    /// Half-open, and not empty.
    bytes: Range<u64>,
}

impl Bypass {
    /// Reads with the client and throttle of `downloader`, over `connections` connections, for at
    /// most `patience` each.
    pub fn new(downloader: Arc<ChunkDownloader>, connections: usize, patience: Duration) -> Bypass {
        Bypass {
            downloader,
            patience,
            blocks: Blocks::new(),
            connections: Semaphore::new(connections),
            is_closed: watch::Sender::new(false),
        }
    }

    /// Reads `bytes`, which lie within the file, of a version of an entry. Reads with the same
    /// `turn` run one after the other. A read ends when its future is dropped.
    ///
    /// # Errors As for any read, except those of the cache.
    pub async fn read(
        &self,
        entry: &CacheEntry,
        version: &Version,
        bytes: Range<u64>,
        turn: &Mutex<()>,
    ) -> Result<Piece, ReadError> {
        let mut closed = self.is_closed.subscribe();
        let reading = async {
            let _turn = turn.lock().await;
            if let Some(piece) = self.blocks.find(entry.id, &bytes) {
                return Ok(piece);
            }
            let room = self.blocks.room(&bytes, version.size).await?;
            let wanted = Wanted {
                entry,
                version,
                bytes: room.bytes.clone(),
            };
            let fetched = self.fetch(&wanted).await?;
            Ok(self.blocks.keep(entry.id, room, fetched, &bytes))
        };
        tokio::select! {
            biased;
            // An error would mean that the sender is gone, and `self` owns it.
            _ = closed.wait_for(|is_closed| *is_closed) => Err(ReadError::ShuttingDown),
            read = tokio::time::timeout(self.patience, reading) => {
                read.unwrap_or(Err(ReadError::DeadlinePassed(self.patience)))
            }
        }
    }

    /// The entry has no readers any more: its blocks are dropped.
    pub fn forget(&self, entry: EntryId) {
        self.blocks.forget(entry);
    }

    /// Ends all current and later reads.
    pub fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// Sends requests for what is missing until all bytes have come.
    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<Vec<u8>, ReadError> {
        let len = wanted.len();
        let retries = self.downloader.retries;
        let mut retry = Retry::new(retries);
        let mut bytes = Vec::with_capacity(len);
        // As for a fetch: a complete chunk resets the count of tries.
        let chunk = wanted.entry.chunk.bytes() as usize;
        let mut good_until = chunk;
        let (client, content) = (&self.downloader.client, &wanted.entry.content);
        let url = content.url();
        let mut is_detour = false;
        while bytes.len() < len {
            let before = bytes.len();
            // Not held over the pauses.
            let rest = wanted.bytes.start + before as u64..wanted.bytes.end;
            let (own, has_others) = (
                client.health_of(url),
                !self.downloader.candidates(content, &rest).is_empty(),
            );
            let RoutePermit { turn, elsewhere } = self.downloader.leave_to_ask(content, &rest, own, is_detour).await;
            let connection = self.connections.acquire().await;
            let (blame, result) = self.attempt(wanted, &mut bytes, turn, elsewhere.as_ref()).await;
            drop(connection);
            let error = match result {
                Ok(()) if bytes.len() > before => continue,
                Ok(()) => wanted.bad_answer("no bytes"),
                Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain && bytes.len() > before => {
                    continue;
                }
                Err(ReadError::Http(error)) => error,
                Err(error) => return Err(error),
            };
            // Other answers of a tier say nothing about the file.
            if elsewhere.is_some() && blame == Some(FailureAttribution::Resource) {
                continue;
            }
            if !error.kind.is_temporary() {
                return Err(error.into());
            }
            if bytes.len() >= good_until {
                retry.reset();
                good_until = bytes.len() + chunk;
            }
            // Its origin answers, and this file fails there: tiers are asked first from now on.
            if blame != Some(FailureAttribution::Origin) && error.kind.is_of_the_server() && has_others && !is_detour {
                is_detour = true;
                continue;
            }
            // A server that is down is waited for, until the deadline; and so is a file that may be
            // down with it.
            if blame == Some(FailureAttribution::Origin) && retries > 0 {
                continue;
            }
            let Some(pause) = retry.after(&error.kind, FailureAttribution::Origin) else {
                return Err(error.into());
            };
            log::debug!("{error}; retrying in {pause:.1?}");
            tokio::time::sleep(pause).await;
        }
        Ok(bytes)
    }

    /// One request for what is missing after `bytes`. Also returns the attribution of a failure, if
    /// there is one.
    async fn attempt(
        &self,
        wanted: &Wanted<'_>,
        bytes: &mut Vec<u8>,
        turn: Permit,
        elsewhere: Option<&Candidate>,
    ) -> (Option<FailureAttribution>, Result<(), ReadError>) {
        let from = wanted.bytes.start + bytes.len() as u64;
        let (url, rest) = (wanted.entry.url(), from..wanted.bytes.end);
        let client = &self.downloader.client;
        if let Some(Candidate { tier, url }) = elsewhere {
            let modified = wanted.entry.settled().and_then(|settled| settled.modified);
            let answer = tier.range(url, rest, Expected::Version(wanted.version, modified)).await;
            let body = match answer {
                Ok(found) => found.body,
                Err(error) if error.kind.is_of_the_origin() => {
                    turn.failed_altogether(&error);
                    return (Some(FailureAttribution::Origin), Err(error.into()));
                }
                Err(error) => {
                    let blame = turn.ended(Some(&error)).then_some(FailureAttribution::Resource);
                    return (blame, Err(error.into()));
                }
            };
            turn.answered();
            return (None, self.receive(body, 0, wanted.len(), bytes).await);
        }
        let answer = client.range(url, rest, Some(wanted.version)).await;
        let blame = match &answer {
            Err(error) if error.kind.is_of_the_origin() => Some(turn.failed(error)),
            _ => {
                turn.ended(answer.as_ref().err());
                None
            }
        };
        let result = match answer {
            Ok(answer) => self.take(wanted, answer, from, bytes).await,
            Err(error) => Err(error.into()),
        };
        (blame, result)
    }

    async fn take(
        &self,
        wanted: &Wanted<'_>,
        answer: RangeAnswer,
        from: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let answer = match answer {
            RangeAnswer::Doubtful { told, answer } => match self.downloader.weigh(wanted.entry, &told).await? {
                Weighed::Same => *answer,
                Weighed::Another => RangeAnswer::Changed(None),
                Weighed::Again => {
                    let (kind, url) = (HttpErrorKind::Interrupted, redact(wanted.entry.url()));
                    return Err(HttpError { kind, url }.into());
                }
            },
            answer => answer,
        };
        let (body, skip) = wanted.body_of(answer, from)?;
        self.receive(body, skip, wanted.len(), bytes).await
    }

    /// Takes from a body what follows its first `skip` bytes, until there are `len` in total.
    async fn receive(&self, mut body: Body, mut skip: u64, len: usize, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
        while bytes.len() < len
            && let Some(piece) = body.next().await?
        {
            self.downloader.throttle.take(piece.len()).await;
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            // At most the length of the piece.
            let piece = &piece[skipped as usize..];
            bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
        }
        Ok(())
    }
}

impl Wanted<'_> {
    fn len(&self) -> usize {
        // At most the available memory.
        (self.bytes.end - self.bytes.start) as usize
    }

    /// The body of an answer of the right version to a request for the bytes at `from`, and how
    /// many bytes of it to skip.
    fn body_of(&self, answer: RangeAnswer, from: u64) -> Result<(Body, u64), ReadError> {
        let (version, body, skip) = match answer {
            RangeAnswer::Partial { version, body, .. } => (version, body, 0),
            RangeAnswer::Whole {
                size, validator, body, ..
            } => {
                let size = size.unwrap_or(self.version.size);
                (Version { size, validator }, body, from)
            }
            RangeAnswer::Changed(_) | RangeAnswer::Doubtful { .. } | RangeAnswer::PastEnd { .. } => {
                self.entry.expect_same(false)?;
                return Err(ReadError::Changed);
            }
        };
        self.entry.expect_same(version == *self.version)?;
        Ok((body, skip))
    }

    fn bad_answer(&self, what: &str) -> HttpError {
        HttpError {
            kind: HttpErrorKind::BadAnswer(what.to_owned()),
            url: redact(self.entry.url()),
        }
    }
}
