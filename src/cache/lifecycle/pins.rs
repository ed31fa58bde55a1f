//! What the user wants of the cache: jobs, pins, and to be rid of something. Most of these block for a query.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::Cache;
use crate::cache::entry::cache_entry::CacheEntry;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::eviction::evictor::evict_all;
use crate::cache::index::{Holding, JobRow, PinRow, Record};
use crate::cache::sharing::locks::{Lock, try_lock};
use crate::http::redact;

/// Who fetches bytes that nobody reads yet: when that ends, whichever way, the index is told that they are new. A reader
/// sees to that itself.
pub struct BackgroundUse {
    versions: Arc<VersionStore>,
    entry: Arc<CacheEntry>,
}

impl Drop for BackgroundUse {
    fn drop(&mut self) {
        // Without a data file there is nothing to be told of.
        if let Some(settled) = self
            .entry
            .settled()
            .filter(|settled| !settled.cached_file.has_no_file())
        {
            self.versions.note_use(&settled.cached_file);
        }
    }
}

/// What became of a wish to unpin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpinned {
    /// It was pinned and is not any more.
    Done,
    /// It was not pinned.
    WasNot,
    /// It stays pinned, because a directory above it is: its URL, without secrets.
    Below(String),
}

/// The right to do a job: no other mount over the folder has it. Given back when dropped.
#[derive(Debug)]
pub struct JobLease {
    /// Locked at the job's place; `None` on a file system that has no locks.
    _file: Option<File>,
}

/// Its bytes are never written; each job has the lock on one of them.
const JOB_LOCKS: &str = "jobs.lock";

/// What became of a wish to evict.
#[derive(Debug, Clone, Default)]
pub struct Evicted {
    /// Versions that are gone, each with its bytes.
    pub gone: Vec<Holding>,
    /// Versions that stay because somebody uses them.
    pub in_use: Vec<Holding>,
    /// Versions that stay because they are pinned.
    pub pinned: Vec<Holding>,
}

impl Cache {
    /// To be held while bytes of an entry are fetched ahead of any reader.
    pub fn bringing(&self, entry: &Arc<CacheEntry>) -> BackgroundUse {
        BackgroundUse {
            versions: Arc::clone(self.versions()),
            entry: Arc::clone(entry),
        }
    }

    /// Records that a job is to be done, and returns when that is committed. False if it can't be.
    pub fn record_job(&self, job: JobRow) -> bool {
        self.versions().index.commit([Record::Job(job)])
    }

    /// Returns when all that was recorded before is on its way to the disk.
    pub fn sync_index(&self) {
        self.versions().index.sync();
    }

    /// Records that a job is done, or no longer wanted. Queued, not waited for.
    pub fn forget_job(&self, key: &str) {
        self.versions().index.record(Record::JobDone { key: key.to_owned() });
    }

    /// The recorded jobs of a source, in the order in which they were asked for.
    pub fn jobs(&self, source: &str) -> Vec<JobRow> {
        self.versions().index.jobs(source)
    }

    /// Whether this job of a source is still to be done. A query. `None` if the index does not tell.
    pub fn has_job(&self, source: &str, key: &str) -> Option<bool> {
        self.versions().index.has_job(source, key)
    }

    /// Takes the right to do a job; `None` while another mount has it. Some system calls.
    pub fn take_job(&self, key: &str) -> Option<JobLease> {
        let mut options = File::options();
        let opened = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.folder.join(JOB_LOCKS));
        // An offset is positive.
        let place = (xxh3_64(key.as_bytes()) >> 1, 1);
        match opened.and_then(|file| Ok(try_lock(&file, place, Lock::Exclusive)?.then_some(file))) {
            Ok(None) => None,
            Ok(file) => Some(JobLease { _file: file }),
            Err(error) => {
                // Two who do the same lose time, and nothing else.
                log::debug!("no lock for a prefetch job: {error}");
                Some(JobLease { _file: None })
            }
        }
    }

    /// From now on a file stays in the cache, whatever its version, or everything below a directory does: what is there
    /// already, and what comes. False if that can't be recorded.
    pub fn pin(&self, url: &Url, is_directory: bool) -> bool {
        self.versions().index.commit([Record::Pin(PinRow {
            url_key: self.versions().url_key(url),
            url: redact(url).into(),
            is_directory,
        })])
    }

    /// Takes a pin back.
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

    /// What is pinned: URLs, without secrets. Those of directories end in `/`.
    pub fn pins(&self) -> Vec<String> {
        self.versions().index.pins()
    }

    /// Deletes what is cached of a file, in all versions, or of the files below a directory. What a read is using stays, and
    /// what another process or the kernel has open; so does what is pinned, unless `even_pinned`.
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

    /// Drops all that is here of an entry, of one that is open here chunk by chunk. False if some of it had to stay.
    fn drop_all_of(&self, holding: &Holding) -> bool {
        let versions = self.versions();
        if !versions.is_in_place() {
            return false;
        }
        if let Some(cached_file) = versions.cached_files.get(&holding.key) {
            return evict_all(versions, cached_file);
        }
        // The rows go before the bytes: a crash in between leaves a file that nobody trusts.
        let gone = versions
            .store
            .remove_unused(&holding.key, || versions.index.forget(&holding.key));
        gone.inspect(|bytes| versions.quota.adjust(-bytes.cast_signed()))
            .is_some()
    }

    /// Closes an entry that is only kept open for its next reader.
    fn let_go_if_kept(&self, holding: &Holding) {
        self.idle_files.let_go_of(|entry| {
            let settled = entry.settled();
            settled.is_some_and(|settled| settled.cached_file.key == holding.key)
        });
    }
}
