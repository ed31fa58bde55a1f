//! `Catalog`: what origins have said of directories and files, kept for the time when they can't be asked.
//!
//! The tree writes down here what it is told, and looks here when a mount is new or an origin silent. Only an origin's
//! own word replaces or drops anything; how old a word is, the tree has to judge.
//!
//! **Names have their part of the cache's size** ([`NAMES`]) and no more: else a walk through a large tree would push out the
//! files that are cached. Those go of which was told longest ago; they are asked for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use url::Url;

use super::entry::cache_dir::CacheDir;
use super::index::ChunkIndex;
use super::index::{CatalogUpdate, ROW};
pub use super::index::{FileRow as StoredFile, ListingRow as StoredListing, ShownRow as ShownFile};
use super::key::UrlKey;
use super::quota::Quota;
use crate::http::{Version, redact};
use crate::util::clock;

/// See the module. Looking something up is one query; writing something down returns at once.
pub struct Catalog {
    cache_dir: Arc<CacheDir>,
    /// Bytes of names that were written down since the oldest were dropped last.
    written: AtomicU64,
}

/// The part of the cache's size that listings take at most, and that versions of files do of which nothing is cached: a
/// twentieth together. A listing of 10,000 names is some 600 KB.
const NAMES: u64 = 25;
const VERSIONS: u64 = 100;

/// A listing that is confirmed is written down again after such a part of the age that it may reach: so it never reaches it while it is
/// looked at, and is there again when it was not for a while.
const NOTED_AGAIN: u32 = 4;

/// Rows that are read at a time under the lock of the reading connection.
const AT_A_TIME: usize = 256;

impl Catalog {
    pub(super) fn new(cache_dir: Arc<CacheDir>) -> Catalog {
        Catalog {
            cache_dir,
            written: AtomicU64::new(0),
        }
    }

    fn index(&self) -> &ChunkIndex {
        &self.cache_dir.versions().index
    }

    fn url_key(&self, url: &Url) -> UrlKey {
        self.cache_dir.versions().url_key(url)
    }

    fn quota(&self) -> &Arc<Quota> {
        &self.cache_dir.versions().quota
    }

    /// Drops the oldest names if they may be too many, now that so many bytes more are written down.
    fn keep_small(&self, bytes: u64) {
        let limit = self.quota().size();
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if written < limit / NAMES / 4 {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        self.index().note(CatalogUpdate::Most {
            listings: limit / NAMES,
            files: limit / VERSIONS,
        });
    }

    /// Whether what was not used for long is dropped, so that uses are worth being noted.
    pub fn ages(&self) -> bool {
        self.quota().max_age().is_some()
    }

    /// Whether what was written down then is there for certain, and is not about to be too old.
    pub fn has_lately(&self, then: SystemTime) -> bool {
        self.quota().max_age().is_none_or(|age| {
            let since = clock::now().duration_since(then);
            since.is_ok_and(|since| since < age / NOTED_AGAIN)
        })
    }

    /// The last listing of a directory, in the tree's own text.
    pub fn listing(&self, directory: &Url) -> Option<StoredListing> {
        let found = self.index().listing(&self.url_key(directory));
        found.inspect(|_| self.note_shown(directory))
    }

    /// A directory's listing that was written down is of use.
    pub fn note_shown(&self, directory: &Url) {
        if self.ages() {
            let url_key = self.url_key(directory);
            self.index().note(CatalogUpdate::UsedListing { url_key });
        }
    }

    /// Writes a directory's listing down, if there is room for it. False if that is to be tried again when it is told the next time: there
    /// is no folder for it yet.
    pub fn keep_listing(&self, directory: &Url, row: StoredListing) -> bool {
        if self.cache_dir.is_fallback() {
            return false;
        }
        let bytes = row.names.len() as u64;
        if bytes > self.quota().size() / NAMES || !self.quota().has_room_in_index(bytes) {
            log::debug!("{}: its listing is not kept: there is no room", redact(directory));
            self.forget_listing(directory);
            return true;
        }
        self.index().note(CatalogUpdate::Listing {
            url_key: self.url_key(directory),
            url: redact(directory).into(),
            row,
        });
        self.keep_small(bytes);
        true
    }

    /// The origin says that there is no such directory.
    pub fn forget_listing(&self, directory: &Url) {
        let url_key = self.url_key(directory);
        self.index().note(CatalogUpdate::NoListing { url_key });
    }

    /// The version of a file that its origin last called the current one.
    pub fn file(&self, url: &Url) -> Option<StoredFile> {
        let url_key = self.url_key(url);
        let found = self.index().file(&url_key);
        if found.is_some() && self.ages() {
            self.index().note(CatalogUpdate::UsedFile { url_key });
        }
        found
    }

    /// Writes down which version of a file is the current one.
    pub fn keep_file(&self, url: &Url, version: Version, modified: Option<SystemTime>) {
        self.index().note(CatalogUpdate::File {
            url_key: self.url_key(url),
            row: StoredFile { version, modified },
        });
        self.keep_small(ROW);
    }

    /// The last shown state of those of a directory's files that have one, from this mount or an earlier one.
    ///
    /// Reads no more rows than there are files. For a large directory that is listed for the first time, the table is shorter, and
    /// is read as a whole.
    pub fn shown<T>(&self, number: usize, files: impl Iterator<Item = (T, Url)>) -> Vec<(T, ShownFile)> {
        let mut files = files.map(|(file, url)| (file, self.url_key(&url)));
        match self.index().all_shown(number) {
            // Without computing the keys of what may be a million files.
            Some(all) if all.is_empty() => Vec::new(),
            Some(mut all) => files
                .filter_map(|(file, key)| Some((file, all.remove(key.as_str())?)))
                .collect(),
            None => {
                let mut shown = Vec::new();
                loop {
                    let (some, keys): (Vec<_>, Vec<_>) = files.by_ref().take(AT_A_TIME).unzip();
                    if keys.is_empty() {
                        return shown;
                    }
                    let mut found = self.index().shown(&keys);
                    let pairs = some.into_iter().zip(keys);
                    shown.extend(pairs.filter_map(|(file, key)| Some((file, found.remove(key.as_str())?))));
                }
            }
        }
    }

    /// Writes down what the current version of a file is shown as. Nothing is written of a file of whose version nothing is.
    pub fn keep_shown(&self, url: &Url, listed: String, ino: u64) {
        self.index().note(CatalogUpdate::Shown {
            url_key: self.url_key(url),
            listed,
            ino,
        });
    }

    /// The origin says that there is no such file.
    pub fn forget_file(&self, url: &Url) {
        let url_key = self.url_key(url);
        self.index().note(CatalogUpdate::NoFile { url_key });
    }
}
