//! The user's requests to the cache: jobs, pins, and evictions. Most of these block for a query.

use std::sync::Arc;

use url::Url;

use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::eviction::evictor::evict_all;
use crate::cache::facade::Cache;
use crate::cache::index::{Holding, JobRow, PinRow, Record};
use crate::cache::sharing::JobLease;
use crate::http::redact;

/// A fetch without a reader. When this is dropped, the index records the recency of the new bytes.
/// A reader does that itself.
pub struct BackgroundUse {
    versions: Arc<VersionStore>,
    entry: Arc<CacheEntry>,
}

impl Drop for BackgroundUse {
    fn drop(&mut self) {
        // Without a data file there is nothing to record.
        if let Some(settled) = self
            .entry
            .settled()
            .filter(|settled| !settled.cached_file.has_no_file())
        {
            self.versions.note_use(&settled.cached_file);
        }
    }
}

/// The result of an unpin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpinned {
    /// It was pinned and is not any more.
    Done,
    /// It was not pinned.
    WasNot,
    /// It stays pinned because of a directory above it: that directory's URL, without secrets.
    Below(String),
}

/// The result of an eviction by the user.
#[derive(Debug, Clone, Default)]
pub struct Evicted {
    /// Deleted versions, each with its bytes.
    pub gone: Vec<Holding>,
    /// Versions that stay because they are in use.
    pub in_use: Vec<Holding>,
    /// Versions that stay because they are pinned.
    pub pinned: Vec<Holding>,
}

impl Cache {
    /// Hold this while bytes of an entry are fetched without a reader.
    pub fn bringing(&self, entry: &Arc<CacheEntry>) -> BackgroundUse {
        BackgroundUse {
            versions: Arc::clone(self.versions()),
            entry: Arc::clone(entry),
        }
    }

    /// Records a job, and returns when that is committed. Returns false if it can't be.
    pub fn record_job(&self, job: JobRow) -> bool {
        self.versions().index.commit([Record::Job(job)])
    }

    /// Returns when everything recorded before is committed.
    pub fn sync_index(&self) {
        self.versions().index.sync();
    }

    /// Records that a job is done, or no longer wanted. Returns at once.
    pub fn forget_job(&self, key: &str) {
        self.versions().index.record(Record::JobDone { key: key.to_owned() });
    }

    /// The recorded jobs of a source, in the order of their requests.
    pub fn jobs(&self, source: &str) -> Vec<JobRow> {
        self.versions().index.jobs(source)
    }

    /// Whether this job of a source is still to be done. A query. `None` after an error of the
    /// index.
    pub fn has_job(&self, source: &str, key: &str) -> Option<bool> {
        self.versions().index.has_job(source, key)
    }

    /// Takes the lease of a job; `None` while another mount has it. Some system calls.
    pub fn take_job(&self, key: &str) -> Option<JobLease> {
        JobLease::take(&self.folder, key)
    }

    /// Pins a file in all its versions, or everything below a directory: cached and future bytes
    /// stay in the cache. Returns false if that can't be recorded.
    pub fn pin(&self, url: &Url, is_directory: bool) -> bool {
        self.versions().index.commit([Record::Pin(PinRow {
            url_key: self.versions().url_key(url),
            url: redact(url).into(),
            is_directory,
        })])
    }

    /// Removes a pin.
    pub fn unpin(&self, url: &Url) -> Unpinned {
        let (index, url_key) = (&self.versions().index, self.versions().url_key(url));
        if index.has_pin(&url_key) {
            index.record(Record::Unpin { url_key });
            index.sync();
            return Unpinned::Done;
        }
        match index.pins_above(&redact(url)).pop() {
            Some(above) => Unpinned::Below(above),
            None => Unpinned::WasNot,
        }
    }

    /// Returns true if a pin covers a file or directory. Two queries at most.
    pub fn is_pinned(&self, url: &Url) -> bool {
        let index = &self.versions().index;
        index.has_pin(&self.versions().url_key(url)) || !index.pins_above(&redact(url)).is_empty()
    }

    /// The pinned URLs, without secrets. Those of directories end in `/`.
    pub fn pins(&self) -> Vec<String> {
        self.versions().index.pins()
    }

    /// Deletes the cached bytes of a file, in all versions, or of the files below a directory.
    /// Bytes that a read, another process or the kernel uses stay, and pinned ones unless
    /// `even_pinned`.
    pub fn evict(&self, url: &Url, is_directory: bool, even_pinned: bool) -> Evicted {
        let index = &self.versions().index;
        let held = if is_directory {
            index.holdings_below(&redact(url))
        } else {
            index.holdings_of(&self.versions().url_key(url))
        };
        let mut evicted = Evicted::default();
        for holding in held {
            if holding.is_pinned && !even_pinned {
                evicted.pinned.push(holding);
                continue;
            }
            self.let_go_if_kept(&holding);
            if self.drop_all_of(&holding) {
                evicted.gone.push(holding);
            } else {
                evicted.in_use.push(holding);
            }
        }
        evicted
    }

    /// Deletes all bytes of an entry; of an open one chunk by chunk. Returns false if some had to
    /// stay.
    fn drop_all_of(&self, holding: &Holding) -> bool {
        let versions = self.versions();
        if !versions.is_in_place() {
            return false;
        }
        if let Some(cached_file) = versions.cached_files.get(&holding.key) {
            return evict_all(versions, cached_file);
        }
        // The rows are deleted before the bytes: a crash in between leaves a file that is not
        // trusted.
        let gone = versions
            .store
            .remove_unused(&holding.key, || versions.index.forget(&holding.key));
        gone.inspect(|&bytes| {
            versions.quota.adjust(-bytes.cast_signed());
            versions.counters.evicted_files.add(1);
            versions.counters.evicted_bytes.add(bytes);
        })
        .is_some()
    }

    /// Closes an idle entry.
    fn let_go_if_kept(&self, holding: &Holding) {
        self.idle_files.let_go_of(|entry| {
            let settled = entry.settled();
            settled.is_some_and(|settled| settled.cached_file.key == holding.key)
        });
    }
}
