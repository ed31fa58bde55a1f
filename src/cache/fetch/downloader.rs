//! `ChunkDownloader`: carries out fetches.
//!
//! A fetch is one HTTP Range request, or several when connections break: each try goes on from the
//! byte that the last one reached. The answer's head is judged before a byte counts
//! ([`crate::origin::RangeAnswer`]); the first one for a file also tells its version and size. The
//! body is streamed to the data file as it comes: what has been [`buffer`](crate::cache::storage::write_buffer) is
//! written while more gathers. So memory is bounded by the number of connections, whatever is read.
//!
//! All bodies of the mount share one [`Throttle`]. Taking from it late means reading late from the
//! socket, and TCP tells the server.

mod answers;
mod body;
mod failures;
mod mirrors;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use url::Url;

use super::file_writer::WriteJob;
use super::manager::{ChunkManager, FetchControl, Fetcher};
use super::scheduler::{FetchId, FetchOrder};
use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::storage::descriptor_exhaustion::DescriptorExhaustion;
use crate::http::{HttpError, HttpErrorKind, redact};
use crate::origin::{Client, Permit, Throttle};
use failures::Failures;
pub(in crate::cache) use failures::UNTIL_READY;
pub(in crate::cache) use mirrors::RoutePermit;

/// The pause before the first retry; it doubles with each.
pub(in crate::cache) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between tries while it is not known whether the file or its origin is to blame: as between those that
/// find out whether an origin is back.
pub(in crate::cache) const LONGEST_DOUBT: Duration = Duration::from_secs(5);

/// Told when a file is longer than its listing said.
pub type OnResize = Box<dyn Fn(&CacheEntry) + Send + Sync>;

/// See the module.
pub struct ChunkDownloader {
    /// Where the tasks run.
    pub runtime: Handle,
    /// What they ask.
    pub client: Client,
    /// The one token bucket.
    pub throttle: Throttle,
    /// Tries after the first that brought nothing, before a fetch fails.
    pub retries: u32,
    /// Opens data files for versions that become known.
    pub cache_dir: Arc<CacheDir>,
    /// The threads that write.
    pub writers: Sender<WriteJob>,
    /// See [`OnResize`].
    pub on_resize: OnResize,
    /// Told when there is no descriptor left for a connection.
    pub shortage: DescriptorExhaustion,
}

impl Fetcher for ChunkDownloader {
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            // Outlives the report: for as long as the manager knows of this fetch it may wake readers for what it has written of a
            // chunk, and that goes when nobody keeps it.
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
                // The manager has forgotten this fetch already; what it reports now is ignored.
                () = control.stopped() => if let Some(position) = position.take() {
                    entry.leave_unfinished(position);
                },
            }
        });
    }
}

/// Reports the end of a fetch when dropped, so that its waiters hear of it whatever happened,
/// a panic included.
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

/// One fetch under way.
struct Fetch {
    downloader: Arc<ChunkDownloader>,
    manager: Arc<ChunkManager>,
    order: FetchOrder,
    control: Arc<FetchControl>,
    /// The server sends the whole file, whatever range is asked for.
    linear: bool,
    /// No answer has contradicted the size that the listing gave.
    hint_is_good: bool,
    /// Byte offset of the next chunk that is to be verified rather than fetched.
    next_suspect: u64,
    /// Byte offset at which a connection was given up last.
    given_up_at: Option<u64>,
}

impl Fetch {
    /// Leaves in `kept` the position that it has reached.
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
            let RoutePermit { turn, mirror } = self.leave(&mut failures).await;
            let asked = Instant::now();
            let traffic = self.downloader.client.health_of(&entry.url).traffic();
            kept.get_or_insert_with(|| Position::at_chunk_edge(before));
            let (turn, result) = self.attempt(kept, turn, mirror.as_ref(), asked).await;
            reached = kept.as_ref().map_or(before, |position| position.offset());
            let error = match result {
                Ok(()) if reached >= self.end() => break,
                // Further than before, that is: whoever sends the whole file each time, and breaks off
                // somewhere without a word, would be asked for ever.
                Ok(()) if reached > before => continue,
                Ok(()) => self.bad_answer("no bytes"),
                // Nothing has failed: it goes on, over another connection.
                Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain => {
                    self.given_up_at = Some(reached);
                    continue;
                }
                Err(ReadError::Http(error)) => error,
                // Others begin again what it had begun.
                Err(ReadError::Lost) => return Ok(()),
                Err(error) => return Err(error),
            };
            failures.reached(reached, entry.chunk.bytes());
            match &mirror {
                Some(mirror) => self.retry_after_mirror(mirror, error, turn, &mut failures).await?,
                None if error.kind == HttpErrorKind::Denied(403) && self.downloader.retries > 0 => {
                    return Err(self.note_denial(error, asked, traffic).into());
                }
                None if !error.kind.is_temporary() => return Err(error.into()),
                None if turn.is_none() && error.kind.is_of_the_server() && self.try_mirrors(&mut failures) => {}
                None => match self.retry_after(error, turn, asked, &mut failures).await {
                    Err(error) if !self.try_mirrors(&mut failures) => return Err(error.into()),
                    Err(_) | Ok(()) => {}
                },
            }
        }
        Ok(())
    }

    /// Byte offset before which this fetch is to end, by what is known now.
    fn end(&self) -> u64 {
        match self.order.entry.settled() {
            Some(settled) if self.linear => settled.size(),
            Some(settled) => self.control.end().min(settled.size()),
            None => self.control.end(),
        }
    }

    /// Byte offset before which the request under way is to end.
    fn request_end(&self) -> u64 {
        if self.linear {
            self.end()
        } else {
            self.end().min(self.next_suspect)
        }
    }

    /// Looks at what is here before anybody is asked: verifies the chunks from `offset` on that are suspect. Gives the
    /// offset reached, or `None` if the one at `offset` isn't.
    async fn verify(&mut self, offset: u64) -> Result<Option<u64>, ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let Some(settled) = entry.settled().filter(|_| !self.linear) else {
            return Ok(None);
        };
        // A chunk that is being fetched already is not looked at any more.
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
        // It fails only if it panics, or if the runtime is going down.
        verifying.await.map_err(|err| ReadError::Store(err.to_string()))
    }

    /// One request, and its body to the data file. Moves the position on, which is missing only while it is written to, and gives back the turn if
    /// the origin has not answered.
    async fn attempt(
        &mut self,
        kept: &mut Option<Box<Position>>,
        turn: Permit,
        mirror: Option<&Url>,
        asked: Instant,
    ) -> (Option<Permit>, Result<(), ReadError>) {
        let position = kept.get_or_insert_with(|| Position::at_chunk_edge(self.order.bytes.start));
        let answer = match mirror {
            None => self.ask(position).await,
            Some(mirror) => self.ask_mirror(mirror, position).await,
        };
        let turn = match &answer {
            Err(ReadError::Http(error)) if error.kind.is_of_the_origin() => Some(turn),
            Err(ReadError::Http(error)) => {
                turn.ended(Some(error));
                None
            }
            _ if mirror.is_some() => {
                turn.answered();
                None
            }
            _ => {
                let answered = self.downloader.client.health_of(&self.order.entry.url);
                if turn.is_to(&answered) {
                    turn.answered();
                } else {
                    answered.answered();
                }
                None
            }
        };
        match answer {
            Ok(Some(mut body)) => {
                self.manager.answered(self.order.id);
                let (answered, from) = (Instant::now(), position.offset());
                // What was spent waiting for a connection is not the server's time.
                let asked = body.sent().into_std().max(asked);
                if self.given_up_at == Some(from) {
                    body.trust_connection();
                }
                let result = self.stream(body, kept).await;
                let bytes = kept
                    .as_ref()
                    .map_or(0, |position| position.offset().saturating_sub(from));
                // A silence of the connection is not the server's either.
                if !is_given_up(&result) {
                    let serves = self.downloader.client.serves(&self.order.entry.url);
                    self.manager.serves(&self.order.entry.origin, serves);
                    self.manager
                        .measured(&self.order.entry.origin, answered - asked, bytes, answered.elapsed());
                }
                (turn, result)
            }
            Ok(None) => (turn, Ok(())),
            Err(error) => (turn, Err(error)),
        }
    }

    fn bad_answer(&self, what: &str) -> HttpError {
        self.error(HttpErrorKind::BadAnswer(what.to_owned()))
    }

    fn error(&self, kind: HttpErrorKind) -> HttpError {
        let url = redact(&self.order.entry.url);
        HttpError { kind, url }
    }
}

fn is_given_up(result: &Result<(), ReadError>) -> bool {
    matches!(result, Err(ReadError::Http(error)) if error.kind == HttpErrorKind::AskAgain)
}
