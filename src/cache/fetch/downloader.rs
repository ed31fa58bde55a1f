//! `ChunkDownloader`: carries out fetches.
//!
//! The manager starts each fetch here. A fetch is one HTTP Range request, or several when
//! connections break: each try continues at the byte that the last one reached. The head of an
//! answer is validated before a byte counts ([`crate::origin::RangeAnswer`]). The first answer for
//! a file also gives its version and size.
//!
//! The body is streamed to the data file as it comes: a full buffer is written while the next one
//! fills. So the number of connections bounds the memory, whatever is read.
//!
//! All bodies of the mount share one [throttle](ChunkDownloader::throttle). A throttled fetch reads
//! late from the socket, and TCP slows the server down.

mod answers;
mod body;
mod fetch_job;
mod piece_requests;
mod race;
mod retries;
mod route;
mod settling;

use std::sync::Arc;
use std::time::Instant;

use super::manager::{ChunkManager, FetchControl, Fetcher};
use super::scheduler::{FetchId, FetchOrder};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::integrity::pieces::PieceFilter;
use crate::http::{HttpErrorKind, Origin};
use crate::origin::Permit;
use crate::stats::Phase;
use answers::RangeRequests;
use body::BodyError;
pub(crate) use fetch_job::ChunkDownloader;
use fetch_job::FetchJob;
use retries::{FailedRequest, FetchRetries};
use route::{RoutePermit, TierUrl};

impl Fetcher for ChunkDownloader {
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        let runtime = self.runtime.clone();
        let phase = Arc::clone(control.phase());
        runtime.spawn(phase.track(async move {
            // The position outlives the end report. As long as the manager knows this fetch, it may
            // wake readers for the written part of an unfinished chunk, and dropping the position
            // would lose that part.
            let mut reached = Reached::default();
            let entry = Arc::clone(&order.entry);
            let mut end = EndReport {
                manager: Arc::clone(&manager),
                fetch: order.id,
                result: None,
            };
            let fetch = Fetch {
                job: FetchJob {
                    downloader: self,
                    manager,
                    order,
                    control: Arc::clone(&control),
                    linear: false,
                    next_suspect: u64::MAX,
                    request_at: None,
                    distrusts_cache: false,
                },
                requests: RangeRequests::default(),
                given_up_at: None,
            };
            tokio::select! {
                result = fetch.run(&mut reached) => end.result = Some(result),
                // The manager has forgotten this fetch already and ignores its reports.
                () = control.stopped() => reached.leave(&entry),
            }
        }));
    }
}

/// How far a fetch has come.
#[derive(Default)]
struct Reached {
    /// `None` while a write is in progress, and before the first request.
    position: Option<Box<Position>>,
    /// Of a file with hashes of its pieces: what the body of an answer passes through.
    filter: Option<PieceFilter>,
}

impl Reached {
    /// Leaves it to the next fetch.
    fn leave(self, entry: &CacheEntry) {
        let Some(mut position) = self.position else { return };
        // Bytes that were yielded and not written are lost.
        let filter = self.filter.filter(|filter| filter.yielded() == position.offset());
        position.filter = filter;
        entry.leave_unfinished(position);
    }

    /// Byte offset in the file of the next byte to receive.
    fn received(&self) -> u64 {
        let filter = self.filter.as_ref().map(PieceFilter::at);
        filter
            .or(self.position.as_ref().map(|position| position.offset()))
            .unwrap_or(0)
    }
}

/// Reports the end of a fetch when dropped, so that its waiters are woken in any case, even after a
/// panic.
struct EndReport {
    manager: Arc<ChunkManager>,
    fetch: FetchId,
    result: Option<Result<(), ReadError>>,
}

impl Drop for EndReport {
    fn drop(&mut self) {
        let result = self
            .result
            .take()
            .unwrap_or_else(|| Err(ReadError::Store("the download ended unexpectedly".into())));
        self.manager.ended(self.fetch, result);
    }
}

/// A running fetch.
struct Fetch {
    job: FetchJob,
    requests: RangeRequests,
    /// Byte offset at which a connection was last given up.
    given_up_at: Option<u64>,
}

impl Fetch {
    /// Runs the fetch, and leaves what it has reached in `kept`.
    async fn run(mut self, kept: &mut Reached) -> Result<(), ReadError> {
        let (downloader, entry) = (Arc::clone(&self.job.downloader), Arc::clone(&self.job.order.entry));
        let mut reached = self.job.order.bytes.start;
        if let Some(mut position) = entry.take_unfinished(entry.chunk.index(reached)) {
            reached = position.offset();
            kept.filter = position.filter.take();
            kept.position = Some(position);
        }
        let mut retries = FetchRetries::new(downloader.retries, reached + entry.chunk.bytes());
        while reached < self.job.end() {
            if let Some(verified) = self.verify(reached).await? {
                (reached, *kept) = (verified, Reached::default());
                continue;
            }
            let before = reached;
            let RoutePermit { permit, mut tier } = retries.permit(&self.job, reached).await?;
            let asked = Instant::now();
            let health = downloader.client.health_of(entry.url());
            let traffic = health.traffic();
            kept.position.get_or_insert_with(|| Position::at_chunk_edge(before));
            let received = kept.received();
            let (permit, result) = self.attempt(kept, permit, &mut tier, asked).await;
            reached = kept.position.as_ref().map_or(before, |position| position.offset());
            let error = match result {
                Ok(()) if reached >= self.job.end() => break,
                // It must get further than before. Otherwise a server that sends the whole file
                // each time, and ends early without an error, would be asked without end.
                Ok(()) if reached > before || kept.received() > received => continue,
                // What was written before is good. Another URL is asked, if there is one.
                Err(ReadError::Rejected) => {
                    kept.filter = None;
                    continue;
                }
                Ok(()) => self.job.bad_answer("no bytes"),
                // This is no failure: the fetch continues over another connection.
                Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain => {
                    self.given_up_at = Some(reached);
                    continue;
                }
                Err(ReadError::Http(error)) => error,
                // Other fetches begin the unfinished chunks again.
                Err(ReadError::Lost) => return Ok(()),
                Err(error) => return Err(error),
            };
            let failed = FailedRequest {
                error,
                asked,
                permit,
                tier,
                had_others: health.had_others(traffic),
            };
            retries.after(&self.job, failed, reached).await?;
        }
        Ok(())
    }

    /// Verifies the unverified chunks from `offset` on before any request is sent. Returns the
    /// offset reached, or `None` if the chunk at `offset` is not good.
    async fn verify(&mut self, offset: u64) -> Result<Option<u64>, ReadError> {
        let job = &mut self.job;
        let entry = Arc::clone(&job.order.entry);
        let settled = entry.settled().filter(|settled| settled.memory.is_none());
        let Some(settled) = settled.filter(|_| !job.linear) else {
            return Ok(None);
        };
        // Stop before a chunk that is not unverified.
        let next = settled.cached_file.unverified.next_from(entry.chunk.count(offset));
        let next = next.map_or(u64::MAX, |chunk| chunk * entry.chunk.bytes());
        if next != offset {
            job.next_suspect = next;
            return Ok(None);
        }
        let versions = Arc::clone(job.downloader.cache_dir.versions());
        let (manager, shared) = (Arc::clone(&job.manager), Arc::clone(&entry));
        let (fetch, bytes) = (job.order.id, offset..job.end());
        let verifying = job.downloader.runtime.spawn_blocking(move || {
            let settled = shared.settled()?;
            let verified = |reached| manager.progress(shared.id, fetch, reached);
            Some(versions.verify(&shared, settled, &bytes, verified))
        });
        // It fails only if it panics, or if the runtime shuts down.
        verifying.await.map_err(|err| ReadError::Store(err.to_string()))
    }

    /// Sends one request and streams its body to the data file. The position advances; it is
    /// missing only during a write. Returns the permit if the origin has not answered. `tier` is what
    /// to ask, and then what has answered: a tier that is late loses to the file's own URL.
    async fn attempt(
        &mut self,
        kept: &mut Reached,
        permit: Permit,
        tier: &mut Option<TierUrl>,
        asked: Instant,
    ) -> (Option<Permit>, Result<(), ReadError>) {
        let start = self.job.order.bytes.start;
        let position = kept.position.get_or_insert_with(|| Position::at_chunk_edge(start));
        self.job.prepare_filter(position.offset(), &mut kept.filter).await;
        let answer = match tier.clone() {
            None => self.requests.ask(&mut self.job, position).await,
            Some(asked) => {
                let (answer, is_own) = self.requests.ask_tier(&mut self.job, &asked, position).await;
                tier.take_if(|_| is_own);
                answer
            }
        };
        let job = &self.job;
        let (client, entry) = (&job.downloader.client, &job.order.entry);
        let permit = match &answer {
            Err(ReadError::Http(error)) if error.kind.is_of_the_origin() => Some(permit),
            Err(ReadError::Http(error)) => {
                permit.ended(Some(error));
                None
            }
            _ => {
                let answered = client.health_of(entry.url());
                if tier.is_some() || permit.is_to(&answered) {
                    permit.answered();
                } else {
                    answered.answered();
                }
                None
            }
        };
        let mut body = match answer {
            Ok(Some(body)) => {
                Phase::Transferring.enter();
                body
            }
            Ok(None) => return (permit, Ok(())),
            Err(error) => return (permit, Err(error)),
        };
        // A tier's answer uses a slot of the file's own origin.
        let origin = body.origin().filter(|_| tier.is_none());
        let origin = origin.unwrap_or_else(|| entry.origin.clone());
        if tier.is_none() {
            job.manager
                .report(|scheduler| scheduler.answered(job.order.id, &origin));
        } else {
            job.manager.report(|scheduler| scheduler.answered_by_tier(&origin));
        }
        let server = tier.as_ref().and_then(|tier| Origin::of(&tier.url));
        job.control.note_server(server.as_ref().unwrap_or(&origin));
        let sender = tier.as_ref().map_or(entry.url(), |tier| &tier.url);
        if let Some(settled) = entry.settled() {
            settled.cached_file.check.note_contributor(sender);
        }
        let (answered, from) = (Instant::now(), position.offset());
        if job.linear {
            // It may have become so by this answer, which then begins with the first byte of the file.
            kept.filter = job.new_filter(from);
        }
        kept.filter.iter_mut().for_each(|filter| filter.note_sender(sender));
        let received = kept.received();
        // Time spent waiting for a connection is not the server's.
        let asked = body.sent().into_std().max(asked);
        if self.given_up_at == Some(from) {
            body.trust_connection();
        }
        let result = body::stream(job, body, &mut kept.position, &mut kept.filter).await;
        let bytes = kept.received().saturating_sub(received);
        let result = result.map_err(|error| match error {
            BodyError::Read(error) => error,
            BodyError::WrongPiece(wrong) => job.reject_piece(&wrong),
        });
        if let (Some(tier), Err(ReadError::Http(error))) = (tier.as_ref(), &result)
            && !matches!(error.kind, HttpErrorKind::AskAgain | HttpErrorKind::NoDescriptors)
        {
            tier.tier.broke_off(&tier.url);
        }
        // Time in which the connection was silent is not the server's either.
        if !matches!(&result, Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain) {
            let (serves, latency, time) = (client.serves(&origin), answered - asked, answered.elapsed());
            let is_of_a_tier = tier.is_some();
            job.manager.report(|scheduler| {
                scheduler.serves(&origin, serves);
                if is_of_a_tier {
                    scheduler.measured_by_tier(&origin, latency, bytes, time);
                } else {
                    scheduler.measured(&origin, latency, bytes, time);
                }
            });
        }
        if matches!(result, Err(ReadError::Rejected)) {
            // The cache may have had a part in it.
            self.job.distrusts_cache = true;
        }
        (permit, result)
    }
}
