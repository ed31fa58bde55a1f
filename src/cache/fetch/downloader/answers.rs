//! Answers: which version an answer belongs to, and whether its body is what was requested.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Buf;

use super::{ChunkDownloader, Fetch};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::index::CatalogUpdate;
use crate::http::{HttpErrorKind, Validator, Version, redact};
use crate::origin::{AliasName, Body, RangeAnswer, Weighed};
use crate::util::events;

/// Maximum bytes of an answer that is read once only to learn its length. Answers that servers
/// generate while sending are shorter. A file that is listed as longer is believed to be as long as
/// listed; it must end exactly there.
const MOST_COUNTED: u64 = 64 << 20;

/// Maximum bytes of such an answer that is kept in memory meanwhile. Each fetch may hold one, and
/// pages are shorter.
const MOST_KEPT: u64 = 1 << 20;

/// Maximum time for which an answer is held, unread, while the server is asked for its version.
const LONGEST_HELD: Duration = Duration::from_secs(2);

fn is_countable(listed: &Version) -> bool {
    listed.size <= MOST_COUNTED
}

impl ChunkDownloader {
    /// Asks the server whether an answer that names another version (`told`) is of the settled
    /// version after all.
    async fn weigh(&self, entry: &CacheEntry, told: &AliasName) -> Result<Weighed, ReadError> {
        let Some(settled) = entry.settled().filter(|_| !entry.is_changed()) else {
            return Ok(Weighed::Another);
        };
        // Three short reads, and seldom.
        let (client, samples) = (&self.client, entry.samples());
        let is_same = client.weigh(entry.url(), &settled.version, settled.modified, told, samples);
        Ok(is_same.await?)
    }
}

impl Fetch {
    /// Requests what is left and validates the answer. `None` if there is nothing left: the file
    /// ends before the position.
    pub(super) async fn ask(&mut self, position: &mut Box<Position>) -> Result<Option<Body>, ReadError> {
        let entry = Arc::clone(&self.order.entry);
        let settled = entry.settled().map(|settled| settled.version.clone());
        // A listing's size is no version, but it tells a file from a login page.
        let is_hint = settled.is_none() && self.hint_is_good;
        let known = settled.or(is_hint.then(|| Version {
            size: entry.size_hint(),
            validator: Validator::None,
        }));
        let want = position.offset()..self.request_end();
        if want.is_empty() {
            // It was cut a moment ago.
            return Ok(None);
        }
        let client = &self.downloader.client;
        let answer = client.range_by(Some(&*self), entry.url(), want.clone(), known.as_ref());
        let Some(answer) = self.resolve(answer.await?).await? else {
            return Box::pin(self.ask(position)).await;
        };
        match answer {
            RangeAnswer::Partial {
                version,
                modified,
                body,
                ..
            } => {
                if self.settle_by_head(&version).await? {
                    // The data that came may be of an older version than that of the HEAD answer.
                    drop(body);
                    return Box::pin(self.ask(position)).await;
                }
                self.settle(version, modified).await?;
                Ok(Some(body))
            }
            RangeAnswer::Whole {
                size,
                validator,
                modified,
                mut body,
            } => {
                let (size, body) = match (size, known) {
                    (Some(size), _) => (size, body),
                    // Only a listing gives the length, perhaps of another representation: a body
                    // generated while sending may be longer or shorter than the listed file.
                    (None, known) if entry.settled().is_none() && known.as_ref().is_none_or(is_countable) => {
                        let (size, counted) = self.count(body).await?;
                        let Some(counted) = counted else {
                            self.settle(Version { size, validator }, modified).await?;
                            return Box::pin(self.ask(position)).await;
                        };
                        (size, counted)
                    }
                    (None, Some(known)) => {
                        body.expect(known.size);
                        (known.size, body)
                    }
                    (None, None) => return Err(self.bad_answer("its length is unknown").into()),
                };
                self.settle(Version { size, validator }, modified).await?;
                let is_all_we_asked_for = want.start == 0 && want.end >= size;
                if is_all_we_asked_for {
                    return Ok(Some(body));
                }
                // The whole file is more than the memory has room for.
                if entry.settled().is_some_and(|settled| settled.memory.is_some()) {
                    return self.skip(body, want.start).await.map(Some);
                }
                self.go_linear(position)?;
                Ok(Some(body))
            }
            RangeAnswer::PastEnd { size } => {
                self.settle_by_size(size).await?;
                Ok(None)
            }
            RangeAnswer::Changed(_) if is_hint => {
                // The listing was wrong, or old. What the server says of the file itself counts.
                log::debug!("{}: its size differs from the size in the listing", redact(entry.url()));
                self.hint_is_good = false;
                Box::pin(self.ask(position)).await
            }
            RangeAnswer::Changed(_) | RangeAnswer::Doubtful { .. } => self.expect_same(false).map(|()| None),
        }
    }

    /// Reads over the first bytes of a body.
    async fn skip(&self, mut body: Body, bytes: u64) -> Result<Body, ReadError> {
        let mut left = bytes;
        while left > 0
            && let Some(mut piece) = body.next().await?
        {
            self.downloader.throttle.take(piece.len()).await;
            let skipped = left.min(piece.len() as u64);
            left -= skipped;
            piece.advance(skipped as usize);
            body.put_back(piece);
        }
        Ok(body)
    }

    /// Measures the length of a body that does not state it, and returns the body too if it is
    /// short. A generated body may have another length the next time.
    async fn count(&self, mut body: Body) -> Result<(u64, Option<Body>), ReadError> {
        let (mut size, mut pieces) = (0, Vec::new());
        while let Some(piece) = body.next().await? {
            self.downloader.throttle.take(piece.len()).await;
            size += piece.len() as u64;
            if size > MOST_COUNTED {
                return Err(self.bad_answer("its length is unknown").into());
            }
            if size <= MOST_KEPT {
                pieces.push(piece);
            } else {
                pieces.clear();
            }
        }
        Ok((size, (size <= MOST_KEPT).then(|| body.again(pieces))))
    }

    /// Checks that the entry's version has this size, which is all that is known: a range past the
    /// end was requested.
    pub(super) async fn settle_by_size(&self, size: u64) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if let Some(settled) = entry.settled() {
            // A concurrent fetch has settled the version; this answer adds nothing.
            return self.expect_same(settled.size() == size);
        }
        if size == 0 {
            let validator = Validator::None;
            return self.settle(Version { size, validator }, None).await;
        }
        // The version may also have a validator, which later answers will carry. The answer for the
        // first byte shows it.
        match self.downloader.client.range(entry.url(), 0..1, None).await? {
            RangeAnswer::Partial {
                version,
                modified,
                mut body,
                ..
            } => {
                self.settle(version, modified).await?;
                // Reading the byte returns the connection to the pool. The byte itself is not used.
                let _ = body.next().await;
                self.expect_same(entry.size() == size)
            }
            RangeAnswer::Whole {
                size: Some(told),
                validator,
                modified,
                ..
            } => {
                let version = Version { size: told, validator };
                self.settle(version, modified).await?;
                self.expect_same(entry.size() == size)
            }
            _ => Err(self
                .bad_answer("it rejects a range that starts at the file's first byte")
                .into()),
        }
    }

    /// Checks that the entry is of the version of an answer, and settles the entry if it has none.
    pub(super) async fn settle(&self, version: Version, modified: Option<SystemTime>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if entry.settled().is_none() {
            let (downloader, manager) = (Arc::clone(&self.downloader), Arc::clone(&self.manager));
            let (entry, version) = (Arc::clone(entry), version.clone());
            // A task of its own, so that it continues if this fetch is stopped. Otherwise the next
            // fetch would find the data file locked, still being opened by this one, or the change
            // of size would not be reported.
            let settling = self.downloader.runtime.spawn(async move {
                downloader
                    .cache_dir
                    .versions()
                    .settle(&entry, &version, modified)
                    .await?;
                manager.settled(entry.id);
                // A shorter file needs no report: the kernel notices by the read that ends early
                // ([`Reader::is_past_the_end`]).
                if entry.size() > entry.size_hint() {
                    entry.has_resized();
                }
                Ok::<(), ReadError>(())
            });
            // It fails only if it panics, or if the runtime shuts down.
            settling.await.map_err(|err| ReadError::Store(err.to_string()))??;
        }
        // An answer to a request that named the version has been compared already. This is for
        // fetches that began side by side, before the version was known.
        let is_same = match entry.settled() {
            Some(settled)
                if settled.version == version
                    && !self.downloader.client.is_named_now_and_then(entry.url(), &version) =>
            {
                true
            }
            Some(settled) if settled.size() == version.size => {
                let told = AliasName::as_version(&version, modified);
                let held = tokio::time::timeout(LONGEST_HELD, self.downloader.weigh(entry, &told)).await;
                match held.unwrap_or(Ok(Weighed::Again))? {
                    Weighed::Same => true,
                    Weighed::Another => false,
                    // Handled like an interrupted answer.
                    Weighed::Again => return Err(self.error(HttpErrorKind::Interrupted).into()),
                }
            }
            _ => false,
        };
        self.expect_same(is_same)
    }

    /// Finds out whether an answer with contradicting validators is of the settled version. `None`
    /// if the request has to be repeated.
    async fn resolve(&self, answer: RangeAnswer) -> Result<Option<RangeAnswer>, ReadError> {
        let RangeAnswer::Doubtful { told, answer } = answer else {
            return Ok(Some(answer));
        };
        let entry = &self.order.entry;
        let held = tokio::time::timeout(LONGEST_HELD, self.downloader.weigh(entry, &told)).await;
        let (weighed, answer) = match held {
            Ok(weighed) => (weighed?, Some(*answer)),
            Err(_) => {
                // A server that serves one connection at a time answers nothing else while this one
                // is unread.
                drop(answer);
                (self.downloader.weigh(entry, &told).await?, None)
            }
        };
        Ok(match weighed {
            Weighed::Same => answer,
            Weighed::Another => Some(RangeAnswer::Changed(None)),
            Weighed::Again => None,
        })
    }

    /// Settles the entry by a HEAD answer, if the first partial answer names no version and HEAD
    /// does. Returns true if it did.
    async fn settle_by_head(&self, told: &Version) -> Result<bool, ReadError> {
        let entry = &self.order.entry;
        if told.validator != Validator::None || entry.settled().is_some() {
            return Ok(false);
        }
        match self.downloader.client.named_by_head(entry.url(), told.size).await {
            Some((version, modified)) => self.settle(version, modified).await.map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn expect_same(&self, is_same: bool) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if let (false, Some(settled)) = (is_same, entry.settled()) {
            self.downloader
                .cache_dir
                .versions()
                .index
                .note(CatalogUpdate::Outdated {
                    url_key: self.downloader.cache_dir.versions().url_key(entry.url()),
                    version: settled.version.clone(),
                });
        }
        entry.expect_same(is_same)
    }

    /// From now on this fetch brings the whole file from its first byte, for all of the entry's
    /// waiters.
    pub(super) fn go_linear(&mut self, position: &mut Box<Position>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if !entry.ignores_range() {
            log::info!(
                event = events::RANGE_IGNORED;
                "{}: the server ignores Range, so the file is downloaded from its beginning",
                redact(entry.url())
            );
            entry.mark_ignores_range();
        }
        self.linear = true;
        // What was written up to the old position is kept until no waiter is woken for it any more.
        let before = std::mem::replace(position, Position::at_chunk_edge(0));
        let is_wanted = self.manager.goes_linear(self.order.id);
        drop(before);
        if is_wanted {
            Ok(())
        } else {
            Err(ReadError::ShuttingDown)
        }
    }
}
