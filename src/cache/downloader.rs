//! `ChunkDownloader`: carries out fetches.
//!
//! A fetch is one HTTP Range request, or several when connections break: each try goes on from the
//! byte that the last one reached. The answer's head is judged before a byte counts
//! ([`crate::http::RangeAnswer`]); the first one for a file also tells its version and size. The
//! body is streamed to the data file as it comes: what has been [`gathered`](super::gathered) is
//! written while more gathers. So memory is bounded by the number of connections, whatever is read.
//!
//! All bodies of the mount share one [`Throttle`]. Taking from it late means reading late from the
//! socket, and TCP tells the server.

mod failures;
mod mirrors;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use url::Url;

use super::entry::{CacheEntry, UrlKey};
use super::error::ReadError;
use super::file_writer::{Position, WriteJob};
use super::gathered::Gathered;
use super::index::Saying;
use super::manager::{ChunkManager, FetchControl, Fetcher};
use super::scheduler::{FetchId, FetchOrder};
use super::shortage::Shortage;
use super::versions::Versions;
use crate::http::{Body, Client, HttpError, HttpErrorKind, RangeAnswer, Throttle, Turn, Validator, Version, redact};
use failures::Failures;
pub(super) use mirrors::Leave;

/// The pause before the first retry; it doubles with each.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between tries while it is not known whether the file or its origin is to blame: as between those that
/// find out whether an origin is back.
pub(super) const LONGEST_DOUBT: Duration = Duration::from_secs(5);

/// The longest answer that is read once only to find out how long it is, in bytes. What servers make while they send it is
/// shorter. A file that is listed as longer is believed to be as long as that; it has to end exactly there.
const MOST_COUNTED: u64 = 64 << 20;

fn is_countable(listed: &Version) -> bool {
    listed.size <= MOST_COUNTED
}

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
    pub versions: Arc<Versions>,
    /// The threads that write.
    pub writers: Sender<WriteJob>,
    /// See [`OnResize`].
    pub on_resize: OnResize,
    /// Told when there is no descriptor left for a connection.
    pub shortage: Shortage,
}

impl Fetcher for ChunkDownloader {
    fn start(self: Arc<Self>, manager: Arc<ChunkManager>, order: FetchOrder, control: Arc<FetchControl>) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
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
            };
            tokio::select! {
                result = fetch.run() => end.result = Some(result),
                // The manager has forgotten this fetch already; what it reports now is ignored.
                () = control.stopped() => {}
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
}

impl Fetch {
    async fn run(mut self) -> Result<(), ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let mut position = Position::at_chunk_edge(self.order.bytes.start);
        let mut failures = Failures::new(self.downloader.retries, position.offset() + entry.chunk.bytes());
        while position.offset() < self.end() {
            if let Some(reached) = self.verify(position.offset()).await? {
                position = Position::at_chunk_edge(reached);
                continue;
            }
            let before = position.offset();
            let Leave { turn, mirror } = self.leave(&mut failures).await;
            let asked = Instant::now();
            let (reached, turn, result) = self.attempt(position, turn, mirror.as_ref(), asked).await;
            position = reached;
            let error = match result {
                Ok(()) if position.offset() >= self.end() => break,
                // Further than before, that is: whoever sends the whole file each time, and breaks off
                // somewhere without a word, would be asked for ever.
                Ok(()) if position.offset() > before => continue,
                Ok(()) => self.bad_answer("no bytes"),
                Err(ReadError::Http(error)) => error,
                Err(error) => return Err(error),
            };
            failures.reached(position.offset(), entry.chunk.bytes());
            match &mirror {
                Some(mirror) => self.outlive_mirror(mirror, error, turn, &mut failures).await?,
                None if !error.kind.is_temporary() => return Err(error.into()),
                None if turn.is_none() && error.kind.is_of_the_server() && self.takes_detour(&mut failures) => {}
                None => match self.outlive(error, turn, asked, &mut failures).await {
                    Err(error) if !self.takes_detour(&mut failures) => return Err(error.into()),
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
        let next = settled.resident.suspects.next_from(entry.chunk.count(offset));
        let next = next.map_or(u64::MAX, |chunk| chunk * entry.chunk.bytes());
        if next != offset {
            self.next_suspect = next;
            return Ok(None);
        }
        let (versions, manager) = (Arc::clone(&self.downloader.versions), Arc::clone(&self.manager));
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

    /// One request, and its body to the data file. Gives back the position reached in any case, and the turn if the origin
    /// has not answered.
    async fn attempt(
        &mut self,
        mut position: Box<Position>,
        turn: Turn,
        mirror: Option<&Url>,
        asked: Instant,
    ) -> (Box<Position>, Option<Turn>, Result<(), ReadError>) {
        let answer = match mirror {
            None => self.ask(&mut position).await,
            Some(mirror) => self.ask_mirror(mirror, &position).await,
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
            Ok(Some(body)) => {
                self.manager.answered(self.order.id);
                let (answered, from) = (Instant::now(), position.offset());
                let (position, result) = self.stream(body, position).await;
                let bytes = position.offset().saturating_sub(from);
                self.manager
                    .measured(&self.order.entry.origin, answered - asked, bytes, answered.elapsed());
                (position, turn, result)
            }
            Ok(None) => (position, turn, Ok(())),
            Err(error) => (position, turn, Err(error)),
        }
    }

    /// Asks for what is left and judges the answer. `None` when there is nothing to be had: the
    /// file ends before the position.
    async fn ask(&mut self, position: &mut Box<Position>) -> Result<Option<Body>, ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let settled = entry.settled().map(|settled| settled.version.clone());
        // A listing's size is no version, but it tells a file from a page that says "log in".
        let is_hint = settled.is_none() && self.hint_is_good;
        let known = settled.or(is_hint.then(|| Version {
            size: entry.size_hint,
            validator: Validator::None,
        }));
        let want = position.offset()..self.request_end();
        if want.is_empty() {
            // It was cut a moment ago.
            return Ok(None);
        }
        match self
            .downloader
            .client
            .range(&entry.url, want.clone(), known.as_ref())
            .await?
        {
            RangeAnswer::Partial {
                version,
                modified,
                body,
                ..
            } => {
                self.settle(version, modified).await?;
                Ok(Some(body))
            }
            RangeAnswer::Whole {
                size,
                validator,
                modified,
                mut body,
            } => {
                let size = match (size, known) {
                    (Some(size), _) => size,
                    // Nobody says how long it is but a listing, which may mean another form of it: what is made while it is sent
                    // is longer, or shorter, than the file that it is made of.
                    (None, known) if entry.settled().is_none() && known.as_ref().is_none_or(is_countable) => {
                        let size = self.count(body).await?;
                        self.settle(Version { size, validator }, modified).await?;
                        return Box::pin(self.ask(position)).await;
                    }
                    (None, Some(known)) => {
                        body.expect(known.size);
                        known.size
                    }
                    (None, None) => return Err(self.bad_answer("its length is not said").into()),
                };
                self.settle(Version { size, validator }, modified).await?;
                let is_all_we_asked_for = want.start == 0 && want.end >= size;
                if !is_all_we_asked_for {
                    self.go_linear(position)?;
                }
                Ok(Some(body))
            }
            RangeAnswer::PastEnd { size } => {
                self.settle_by_size(size).await?;
                Ok(None)
            }
            RangeAnswer::Changed(_) if is_hint => {
                // The listing was wrong, or old. What the server says of the file itself counts.
                log::debug!("{} has another size than its listing says", redact(&entry.url));
                self.hint_is_good = false;
                Box::pin(self.ask(position)).await
            }
            RangeAnswer::Changed(_) => self.expect_same(false).map(|()| None),
        }
    }

    /// How long a body is that does not say it. It is not kept: what it is a version of is not known before its end.
    async fn count(&self, mut body: Body) -> Result<u64, ReadError> {
        let mut size = 0;
        while let Some(piece) = body.next().await? {
            self.downloader.throttle.take(piece.len()).await;
            size += piece.len() as u64;
            if size > MOST_COUNTED {
                return Err(self.bad_answer("its length is not said").into());
            }
        }
        Ok(size)
    }

    /// Makes sure that the entry is of a version of this size, which is all that is known of it: a
    /// range past the end was asked for.
    async fn settle_by_size(&self, size: u64) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if let Some(settled) = entry.settled() {
            // A neighbour has learnt the version meanwhile; this answer says nothing else.
            return self.expect_same(settled.size() == size);
        }
        if size == 0 {
            let validator = Validator::None;
            return self.settle(Version { size, validator }, None).await;
        }
        // The version has a name too, maybe, which the answers to come will have. Its first byte tells.
        match self.downloader.client.range(&entry.url, 0..1, None).await? {
            RangeAnswer::Partial {
                version,
                modified,
                mut body,
                ..
            } => {
                self.settle(version, modified).await?;
                // Reading it gives the connection back. Nobody needs the byte.
                let _ = body.next().await;
                self.expect_same(entry.size() == size)
            }
            _ => Err(self.bad_answer("it refuses the file's first byte").into()),
        }
    }

    /// Makes sure that the entry is of the version that an answer is of.
    async fn settle(&self, version: Version, modified: Option<SystemTime>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if entry.settled().is_none() {
            let (downloader, manager) = (Arc::clone(&self.downloader), Arc::clone(&self.manager));
            let (entry, version) = (Arc::clone(entry), version.clone());
            // A task of its own, that goes on if this fetch is stopped: else the next one would find
            // the data file still being opened by this one, and locked; or nobody would be told.
            let settling = self.downloader.runtime.spawn(async move {
                downloader.versions.settle(&entry, &version, modified).await?;
                manager.settled(entry.id);
                // Of what is shorter the kernel learns by the read that ends early ([`Reader::is_past_the_end`]).
                if entry.size() > entry.size_hint {
                    (downloader.on_resize)(&entry);
                }
                Ok::<(), ReadError>(())
            });
            // It fails only if it panics, or if the runtime is going down.
            settling.await.map_err(|err| ReadError::Store(err.to_string()))??;
        }
        // An answer that was asked for by version has been compared; this is for fetches that began
        // side by side, before the version was known.
        self.expect_same(entry.settled().is_some_and(|settled| settled.version == version))
    }

    fn expect_same(&self, is_same: bool) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if let (false, Some(settled)) = (is_same, entry.settled()) {
            self.downloader.versions.index.note(Saying::Outdated {
                url_key: UrlKey::new(&entry.url),
                version: settled.version.clone(),
            });
        }
        entry.expect_same(is_same)
    }

    /// From now on this fetch brings the whole file from its first byte, for all who wait for any of it.
    fn go_linear(&mut self, position: &mut Box<Position>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if !entry.ignores_range() {
            log::info!(
                "{}: the server ignores Range, so the file is downloaded from its beginning",
                redact(&entry.url)
            );
            entry.mark_ignores_range();
        }
        self.linear = true;
        *position = Position::at_chunk_edge(0);
        if self.manager.goes_linear(self.order.id) {
            Ok(())
        } else {
            Err(ReadError::ShuttingDown)
        }
    }

    /// Streams a body to the data file until it ends, breaks, or is no longer wanted.
    async fn stream(&self, body: Body, position: Box<Position>) -> (Box<Position>, Result<(), ReadError>) {
        let mut gathered = Gathered::from(position.offset());
        let mut idle = Some(position);
        let mut writing: Option<oneshot::Receiver<Written>> = None;
        let mut receiving = Some(self.receive(body));
        let mut result = Ok(());
        loop {
            tokio::select! {
                (body, piece) = async { receiving.as_mut().expect("guarded by the condition").await },
                    if receiving.is_some() && !gathered.is_full() =>
                {
                    receiving = None;
                    match piece {
                        Ok(Some(piece)) => if gathered.take(piece, self.request_end()).is_continue() {
                            receiving = Some(self.receive(body));
                        },
                        Ok(None) => {}
                        Err(error) => result = Err(error.into()),
                    }
                }
                written = async { writing.as_mut().expect("guarded by the condition").await }, if writing.is_some() => {
                    writing = None;
                    // The writer answers every job, unless its thread has died with it.
                    let (position, outcome) = written.unwrap_or_else(|_| {
                        (Position::at_chunk_edge(u64::MAX), Err(ReadError::Store("the writing thread has died".into())))
                    });
                    if let Err(error) = outcome {
                        return (position, Err(error));
                    }
                    idle = Some(position);
                }
                () = tokio::time::sleep_until(gathered.ripe_at()), if idle.is_some() && !gathered.is_empty() => {}
            }
            let Some(position) = idle.take() else { continue };
            // Cut short, it may be at its end before the body says anything more.
            let is_last = receiving.is_none() || gathered.received >= self.request_end();
            let ripe = gathered.ripe(tokio::time::Instant::now(), is_last);
            if ripe > 0 {
                writing = Some(self.write(gathered.cut(ripe), position));
            } else if is_last {
                return (position, result);
            } else {
                idle = Some(position);
            }
        }
    }

    /// Waits for the next piece of a body, and for the throttle to let it through.
    fn receive(&self, mut body: Body) -> Receiving {
        let downloader = Arc::clone(&self.downloader);
        Box::pin(async move {
            let piece = body.next().await;
            if let Ok(Some(piece)) = &piece {
                downloader.throttle.take(piece.len()).await;
            }
            (body, piece)
        })
    }

    fn write(&self, pieces: Vec<Bytes>, position: Box<Position>) -> oneshot::Receiver<Written> {
        let (done, writing) = oneshot::channel();
        let job = WriteJob {
            entry: Arc::clone(&self.order.entry),
            fetch: self.order.id,
            manager: Arc::clone(&self.manager),
            pieces,
            position,
            done,
        };
        // The channel holds one job for each fetch, so it is never full in practice; if the threads
        // are gone, dropping the job drops `done`, and that is noticed as their death.
        let _ = self.downloader.writers.send(job);
        writing
    }

    fn bad_answer(&self, what: &str) -> HttpError {
        HttpError {
            kind: HttpErrorKind::BadAnswer(what.to_owned()),
            url: redact(&self.order.entry.url),
        }
    }
}

/// What a writer answers: the position reached, and what went wrong.
type Written = (Box<Position>, Result<(), ReadError>);

type Receiving = Pin<Box<dyn Future<Output = (Body, Result<Option<Bytes>, HttpError>)> + Send>>;
