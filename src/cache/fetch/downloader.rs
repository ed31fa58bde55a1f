//! `ChunkDownloader`: carries out fetches.
//!
//! The manager starts each fetch here. A fetch is one HTTP Range request, or several when
//! connections break: each try continues at the byte that the last one reached. The head of an
//! answer is validated before a byte counts ([`crate::origin::RangeAnswer`]). The first answer for
//! a file also gives its version and size.
//!
//! The body is streamed to the data file as it comes: a full
//! buffer is written while the next one fills. So the number
//! of connections bounds the memory, whatever is read.
//!
//! All bodies of the mount share one [`Throttle`]. A throttled fetch reads late from the socket,
//! and TCP slows the server down.

mod answers;
mod body;
mod failures;
mod route;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use url::Url;

use super::file_writer::WriteJob;
use super::manager::{ChunkManager, FetchControl, Fetcher};
use super::scheduler::{FetchId, FetchOrder};
use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::storage::descriptor_exhaustion::DescriptorExhaustion;
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{ChunkTier, Client, Permit, Route, Throttle};
use failures::Failures;
use route::{Candidate, RoutePermit};

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
    /// Notified when there is no descriptor left for a connection.
    pub shortage: DescriptorExhaustion,
}

impl Fetcher for ChunkDownloader {
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            // The position outlives the end report. As long as the manager knows this fetch, it may
            // wake readers for the written part of an unfinished chunk, and dropping the position
            // would lose that part.
            let mut position = None;
            let entry = Arc::clone(&order.entry);
            let mut end = EndReport {
                manager: Arc::clone(&manager),
                fetch: order.id,
                result: None,
            };
            let fetch = Fetch {
                downloader: self,
                manager,
                order,
                control: Arc::clone(&control),
                linear: false,
                hint_is_good: true,
                next_suspect: u64::MAX,
                given_up_at: None,
            };
            tokio::select! {
                result = fetch.run(&mut position) => end.result = Some(result),
                // The manager has forgotten this fetch already and ignores its reports.
                () = control.stopped() => if let Some(position) = position.take() {
                    entry.leave_unfinished(position);
                },
            }
        });
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
    downloader: Arc<ChunkDownloader>,
    manager: Arc<ChunkManager>,
    order: FetchOrder,
    control: Arc<FetchControl>,
    /// The server sends the whole file, whatever range was requested.
    linear: bool,
    /// No answer has contradicted the size that the listing gave.
    hint_is_good: bool,
    /// Byte offset of the next chunk to verify instead of to fetch.
    next_suspect: u64,
    /// Byte offset at which a connection was last given up.
    given_up_at: Option<u64>,
}

impl Fetch {
    /// Runs the fetch, and leaves the position that it has reached in `kept`.
    async fn run(mut self, kept: &mut Option<Box<Position>>) -> Result<(), ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let mut reached = self.order.bytes.start;
        if let Some(position) = entry.take_unfinished(entry.chunk.index(reached)) {
            reached = position.offset();
            *kept = Some(position);
        }
        let mut failures = Failures::new(self.downloader.retries, reached + entry.chunk.bytes());
        while reached < self.end() {
            if let Some(verified) = self.verify(reached).await? {
                (reached, *kept) = (verified, None);
                continue;
            }
            let before = reached;
            let RoutePermit { permit, elsewhere } = self.wait_for_permit(reached, &mut failures).await;
            let asked = Instant::now();
            let health = self.downloader.client.health_of(entry.url());
            let traffic = health.traffic();
            kept.get_or_insert_with(|| Position::at_chunk_edge(before));
            let (permit, result) = self.attempt(kept, permit, elsewhere.as_ref(), asked).await;
            reached = kept.as_ref().map_or(before, |position| position.offset());
            let error = match result {
                Ok(()) if reached >= self.end() => break,
                // It must get further than before. Otherwise a server that sends the whole file
                // each time, and ends early without an error, would be asked without end.
                Ok(()) if reached > before => continue,
                Ok(()) => self.bad_answer("no bytes"),
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
            failures.reached(reached, entry.chunk.bytes());
            match &elsewhere {
                Some(candidate) => self.retry_after_tier(candidate, error, permit, &mut failures).await?,
                None if error.kind == HttpErrorKind::Denied(403) && self.downloader.retries > 0 => {
                    let had_others = health.had_others(traffic);
                    return Err(self.note_denial(error, asked, had_others, &failures).into());
                }
                None if !error.kind.is_temporary() => return Err(error.into()),
                None if permit.is_none() && error.kind.is_of_the_server() && self.try_tiers(&mut failures) => {}
                None => match self.retry_after(error, permit, asked, &mut failures).await {
                    Err(error) if !self.try_tiers(&mut failures) => return Err(error.into()),
                    Err(_) | Ok(()) => {}
                },
            }
        }
        Ok(())
    }

    /// Byte offset before which this fetch ends, by what is known now.
    fn end(&self) -> u64 {
        match self.order.entry.settled() {
            Some(settled) if self.linear => settled.size(),
            Some(settled) => self.control.end().min(settled.size()),
            None => self.control.end(),
        }
    }

    /// Byte offset before which the current request ends.
    fn request_end(&self) -> u64 {
        if self.linear {
            self.end()
        } else {
            self.end().min(self.next_suspect)
        }
    }

    /// Verifies the unverified chunks from `offset` on before any request is sent. Returns the
    /// offset reached, or `None` if the chunk at `offset` is not good.
    async fn verify(&mut self, offset: u64) -> Result<Option<u64>, ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let settled = entry.settled().filter(|settled| settled.memory.is_none());
        let Some(settled) = settled.filter(|_| !self.linear) else {
            return Ok(None);
        };
        // Stop before a chunk that is not unverified.
        let next = settled.cached_file.unverified.next_from(entry.chunk.count(offset));
        let next = next.map_or(u64::MAX, |chunk| chunk * entry.chunk.bytes());
        if next != offset {
            self.next_suspect = next;
            return Ok(None);
        }
        let (versions, manager) = (
            Arc::clone(self.downloader.cache_dir.versions()),
            Arc::clone(&self.manager),
        );
        let (fetch, bytes) = (self.order.id, offset..self.end());
        let shared = Arc::clone(&entry);
        let verifying = self.downloader.runtime.spawn_blocking(move || {
            let settled = shared.settled()?;
            let verified = |reached| manager.progress(shared.id, fetch, reached);
            Some(versions.verify(&shared, settled, &bytes, verified))
        });
        // It fails only if it panics, or if the runtime shuts down.
        verifying.await.map_err(|err| ReadError::Store(err.to_string()))
    }

    /// Sends one request and streams its body to the data file. The position advances; it is
    /// missing only during a write. Returns the permit if the origin has not answered.
    async fn attempt(
        &mut self,
        kept: &mut Option<Box<Position>>,
        permit: Permit,
        elsewhere: Option<&Candidate>,
        asked: Instant,
    ) -> (Option<Permit>, Result<(), ReadError>) {
        let position = kept.get_or_insert_with(|| Position::at_chunk_edge(self.order.bytes.start));
        let answer = match elsewhere {
            None => self.ask(position).await,
            Some(candidate) => self.ask_tier(candidate, position).await,
        };
        let permit = match &answer {
            Err(ReadError::Http(error)) if error.kind.is_of_the_origin() => Some(permit),
            Err(ReadError::Http(error)) => {
                permit.ended(Some(error));
                None
            }
            _ if elsewhere.is_some() => {
                permit.answered();
                None
            }
            _ => {
                let answered = self.downloader.client.health_of(self.order.entry.url());
                if permit.is_to(&answered) {
                    permit.answered();
                } else {
                    answered.answered();
                }
                None
            }
        };
        match answer {
            Ok(Some(mut body)) => {
                // A tier's answer uses a slot of the file's own origin.
                let origin = match elsewhere {
                    None => body.origin().unwrap_or_else(|| self.order.entry.origin.clone()),
                    Some(_) => self.order.entry.origin.clone(),
                };
                if elsewhere.is_none() {
                    self.manager.answered(self.order.id, &origin);
                }
                let (answered, from) = (Instant::now(), position.offset());
                // Time spent waiting for a connection is not the server's.
                let asked = body.sent().into_std().max(asked);
                if self.given_up_at == Some(from) {
                    body.trust_connection();
                }
                let result = self.stream(body, kept).await;
                let bytes = kept
                    .as_ref()
                    .map_or(0, |position| position.offset().saturating_sub(from));
                // Time in which the connection was silent is not the server's either.
                if !is_given_up(&result) {
                    let serves = self.downloader.client.serves(&origin);
                    self.manager.serves(&origin, serves);
                    self.manager
                        .measured(&origin, answered - asked, bytes, answered.elapsed());
                }
                (permit, result)
            }
            Ok(None) => (permit, Ok(())),
            Err(error) => (permit, Err(error)),
        }
    }

    fn bad_answer(&self, what: &str) -> HttpError {
        self.error(HttpErrorKind::BadAnswer(what.to_owned()))
    }

    fn error(&self, kind: HttpErrorKind) -> HttpError {
        let url = redact(self.order.entry.url());
        HttpError { kind, url }
    }
}

impl Route for Fetch {
    fn leads_to<'a>(&'a self, target: &'a Url) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let Some(origin) = Origin::of(target) else { return };
            if !self.manager.leads_to(self.order.id, &origin) {
                // This fetch is stopped; the next one begins at the redirect's target.
                self.downloader.client.note_redirect(self.order.entry.url(), target);
                std::future::pending().await
            }
        })
    }
}

fn is_given_up(result: &Result<(), ReadError>) -> bool {
    matches!(result, Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain)
}
