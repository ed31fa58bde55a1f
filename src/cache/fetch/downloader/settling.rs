//! Settling: which version of the file an answer belongs to. The first answer settles the entry; every
//! later one is compared with the settled version.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fetch_job::FetchJob;
use crate::cache::error::ReadError;
use crate::cache::index::CatalogUpdate;
use crate::http::{HttpErrorKind, Validator, Version};
use crate::origin::{Comparison, RangeAnswer, VersionLabel};

/// Maximum time for which an answer is held, unread, while the server is asked for its version.
const LONGEST_HELD: Duration = Duration::from_secs(2);

/// The version of the entry of a fetch.
pub(super) struct Settling<'a> {
    pub(super) job: &'a FetchJob,
}

impl Settling<'_> {
    /// Checks that the entry is of the version of an answer, and settles the entry if it has none.
    pub(super) async fn settle(&self, version: Version, modified: Option<SystemTime>) -> Result<(), ReadError> {
        let (job, entry) = (self.job, &self.job.order.entry);
        if entry.settled().is_none() {
            let (downloader, manager) = (Arc::clone(&job.downloader), Arc::clone(&job.manager));
            let (entry, version) = (Arc::clone(entry), version.clone());
            // A task of its own, so that it continues if this fetch is stopped. Otherwise the next
            // fetch would find the data file locked, still being opened by this one, or the change
            // of size would not be reported.
            let settling = job.downloader.runtime.spawn(async move {
                let versions = downloader.cache_dir.versions();
                versions.settle(&entry, &version, modified).await?;
                manager.report(|scheduler| scheduler.settled(entry.id));
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
        if let Some(settled) = entry.settled()
            && let Some(hash) = job.downloader.client.digest_of(entry.url(), &settled.version)
        {
            settled.cached_file.check.note_digest(hash);
        }
        // An answer to a request that named the version has been compared already. This is for
        // fetches that began side by side, before the version was known.
        let is_same = match entry.settled() {
            Some(settled)
                if settled.version == version
                    && !job.downloader.client.is_named_now_and_then(entry.url(), &version) =>
            {
                true
            }
            Some(settled) if settled.size() == version.size => {
                let told = VersionLabel::of_version(&version, modified);
                let held = tokio::time::timeout(LONGEST_HELD, self.compare_version(&told)).await;
                match held.unwrap_or(Ok(Comparison::Again))? {
                    Comparison::Same => true,
                    Comparison::Another => false,
                    // Handled like an interrupted answer.
                    Comparison::Again => return Err(job.error(HttpErrorKind::Interrupted).into()),
                }
            }
            _ => false,
        };
        self.expect_same(is_same)
    }

    /// Settles the entry by a HEAD answer, if the first partial answer names no version and HEAD
    /// does. Returns true if it did.
    pub(super) async fn settle_by_head(&self, told: &Version) -> Result<bool, ReadError> {
        let entry = &self.job.order.entry;
        if told.validator != Validator::None || entry.settled().is_some() {
            return Ok(false);
        }
        let client = &self.job.downloader.client;
        match client.named_by_head(entry.url(), told.size).await {
            Some((version, modified)) => self.settle(version, modified).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Checks that the entry's version has this size, which is all that is known: a range past the
    /// end was requested.
    pub(super) async fn settle_by_size(&self, size: u64) -> Result<(), ReadError> {
        let entry = &self.job.order.entry;
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
        match self.job.downloader.client.range(entry.url(), 0..1, None).await? {
            RangeAnswer::Partial {
                version,
                modified,
                mut body,
                ..
            } => {
                self.settle(version, modified).await?;
                // Reading the byte returns the connection to the pool. The byte itself is not used.
                let _ = body.next().await;
            }
            RangeAnswer::Whole {
                size: Some(told),
                validator,
                modified,
                ..
            } => {
                let version = Version { size: told, validator };
                self.settle(version, modified).await?;
            }
            _ => {
                let what = "it rejects a range that starts at the file's first byte";
                return Err(self.job.bad_answer(what).into());
            }
        }
        self.expect_same(entry.size() == size)
    }

    /// Finds out whether an answer with contradicting validators is of the settled version. `None`
    /// if the request has to be repeated.
    pub(super) async fn resolve(&self, answer: RangeAnswer) -> Result<Option<RangeAnswer>, ReadError> {
        let RangeAnswer::Doubtful { told, answer } = answer else {
            return Ok(Some(answer));
        };
        let held = tokio::time::timeout(LONGEST_HELD, self.compare_version(&told)).await;
        let (weighed, answer) = match held {
            Ok(weighed) => (weighed?, Some(*answer)),
            Err(_) => {
                // A server that serves one connection at a time answers nothing else while this one
                // is unread.
                drop(answer);
                (self.compare_version(&told).await?, None)
            }
        };
        Ok(match weighed {
            Comparison::Same => answer,
            Comparison::Another => Some(RangeAnswer::Changed(None)),
            Comparison::Again => None,
        })
    }

    /// Asks the server whether an answer that names another version (`told`) is of the settled
    /// version after all.
    async fn compare_version(&self, told: &VersionLabel) -> Result<Comparison, ReadError> {
        let entry = &self.job.order.entry;
        let Some(settled) = entry.settled().filter(|_| !entry.is_changed()) else {
            return Ok(Comparison::Another);
        };
        // Three short reads, and seldom.
        let (client, samples) = (&self.job.downloader.client, entry.samples());
        let is_same = client.compare_version(entry.url(), &settled.version, settled.modified, told, &samples);
        Ok(is_same.await?)
    }

    /// Checks that an answer was of the entry's version.
    pub(super) fn expect_same(&self, is_same: bool) -> Result<(), ReadError> {
        let entry = &self.job.order.entry;
        if let (false, Some(settled)) = (is_same, entry.settled()) {
            let versions = self.job.downloader.cache_dir.versions();
            versions.index.note(CatalogUpdate::Outdated {
                url_key: versions.url_key(entry.url()),
                version: settled.version.clone(),
            });
        }
        entry.expect_same(is_same)
    }
}
