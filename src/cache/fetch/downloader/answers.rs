//! What an answer means for a fetch: which version it is of, and whether its body is what was asked for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ChunkDownloader, Fetch};
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::index::CatalogUpdate;
use crate::http::{HttpErrorKind, Validator, Version, redact};
use crate::origin::{AliasName, Body, RangeAnswer, Weighed};

/// The longest answer that is read once only to find out how long it is, in bytes. What servers make while they send it is
/// shorter. A file that is listed as longer is believed to be as long as that; it has to end exactly there.
const MOST_COUNTED: u64 = 64 << 20;

/// The longest such answer that is kept in memory while it is counted, in bytes. Each fetch may hold one, and pages are shorter.
const MOST_KEPT: u64 = 1 << 20;

/// How long an answer is held, unread, while the server is asked which version it is of.
const LONGEST_HELD: Duration = Duration::from_secs(2);

fn is_countable(listed: &Version) -> bool {
    listed.size <= MOST_COUNTED
}

impl ChunkDownloader {
    /// Finds out if an answer that was `told` to be of another version is of the settled one after all. Asks the server.
    pub(in crate::cache) async fn weigh(&self, entry: &CacheEntry, told: &AliasName) -> Result<Weighed, ReadError> {
        let Some(settled) = entry.settled().filter(|_| !entry.is_changed()) else {
            return Ok(Weighed::Another);
        };
        // Three short reads, and seldom.
        let (client, samples) = (&self.client, entry.samples());
        let is_same = client.weigh(&entry.url, &settled.version, settled.modified, told, samples);
        Ok(is_same.await?)
    }
}

impl Fetch {
    /// Asks for what is left and judges the answer. `None` when there is nothing to be had: the
    /// file ends before the position.
    pub(super) async fn ask(&mut self, position: &mut Box<Position>) -> Result<Option<Body>, ReadError> {
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
        let answer = self.downloader.client.range(&entry.url, want.clone(), known.as_ref());
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
                    // What came may be of an older version than HEAD spoke of.
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
                    // Nobody says how long it is but a listing, which may mean another form of it: what is made while it is sent
                    // is longer, or shorter, than the file that it is made of.
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
            RangeAnswer::Changed(_) | RangeAnswer::Doubtful { .. } => self.expect_same(false).map(|()| None),
        }
    }

    /// How long a body is that does not say it; and the body once more, if it is short. What is made anew for each request may be of
    /// another length the next time.
    async fn count(&self, mut body: Body) -> Result<(u64, Option<Body>), ReadError> {
        let (mut size, mut pieces) = (0, Vec::new());
        while let Some(piece) = body.next().await? {
            self.downloader.throttle.take(piece.len()).await;
            size += piece.len() as u64;
            if size > MOST_COUNTED {
                return Err(self.bad_answer("its length is not said").into());
            }
            if size <= MOST_KEPT {
                pieces.push(piece);
            } else {
                pieces.clear();
            }
        }
        Ok((size, (size <= MOST_KEPT).then(|| body.again(pieces))))
    }

    /// Makes sure that the entry is of a version of this size, which is all that is known of it: a
    /// range past the end was asked for.
    pub(super) async fn settle_by_size(&self, size: u64) -> Result<(), ReadError> {
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
            _ => Err(self.bad_answer("it refuses the file's first byte").into()),
        }
    }

    /// Makes sure that the entry is of the version that an answer is of.
    pub(super) async fn settle(&self, version: Version, modified: Option<SystemTime>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if entry.settled().is_none() {
            let (downloader, manager) = (Arc::clone(&self.downloader), Arc::clone(&self.manager));
            let (entry, version) = (Arc::clone(entry), version.clone());
            // A task of its own, that goes on if this fetch is stopped: else the next one would find
            // the data file still being opened by this one, and locked; or nobody would be told.
            let settling = self.downloader.runtime.spawn(async move {
                downloader
                    .cache_dir
                    .versions()
                    .settle(&entry, &version, modified)
                    .await?;
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
        let is_same = match entry.settled() {
            Some(settled)
                if settled.version == version
                    && !self.downloader.client.is_named_now_and_then(&entry.url, &version) =>
            {
                true
            }
            Some(settled) if settled.size() == version.size => {
                let told = AliasName::as_version(&version, modified);
                let held = tokio::time::timeout(LONGEST_HELD, self.downloader.weigh(entry, &told)).await;
                match held.unwrap_or(Ok(Weighed::Again))? {
                    Weighed::Same => true,
                    Weighed::Another => false,
                    // As if it had broken off.
                    Weighed::Again => return Err(self.error(HttpErrorKind::Interrupted).into()),
                }
            }
            _ => false,
        };
        self.expect_same(is_same)
    }

    /// Finds out if an answer that its validators contradict is of the settled version. `None` if it has to be asked for again.
    async fn resolve(&self, answer: RangeAnswer) -> Result<Option<RangeAnswer>, ReadError> {
        let RangeAnswer::Doubtful { told, answer } = answer else {
            return Ok(Some(answer));
        };
        let entry = &self.order.entry;
        let held = tokio::time::timeout(LONGEST_HELD, self.downloader.weigh(entry, &told)).await;
        let (weighed, answer) = match held {
            Ok(weighed) => (weighed?, Some(*answer)),
            Err(_) => {
                // A server that serves one connection at a time answers nothing else while this one is not read.
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

    /// Settles the entry by what HEAD says, where the first part that came names no version and HEAD does. Returns true if it did.
    async fn settle_by_head(&self, told: &Version) -> Result<bool, ReadError> {
        let entry = &self.order.entry;
        if told.validator != Validator::None || entry.settled().is_some() {
            return Ok(false);
        }
        match self.downloader.client.named_by_head(&entry.url, told.size).await {
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
                    url_key: self.downloader.cache_dir.versions().url_key(&entry.url),
                    version: settled.version.clone(),
                });
        }
        entry.expect_same(is_same)
    }

    /// From now on this fetch brings the whole file from its first byte, for all who wait for any of it.
    pub(super) fn go_linear(&mut self, position: &mut Box<Position>) -> Result<(), ReadError> {
        let entry = &self.order.entry;
        if !entry.ignores_range() {
            log::info!(
                "{}: the server ignores Range, so the file is downloaded from its beginning",
                redact(&entry.url)
            );
            entry.mark_ignores_range();
        }
        self.linear = true;
        // What was written up to the old position is kept until nobody is woken for it any more.
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
