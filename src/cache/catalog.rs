//! `Catalog`: what origins have said of directories and files, kept for the time when they can't be
//! asked.
//!
//! The directory tree stores here what it learns, and looks here when a mount is new or an origin
//! does not answer. Only an origin's answer replaces or deletes anything; the directory tree judges
//! the age.
//!
//! **Names have a limited part of the cache's size** ([`NAMES`]). Otherwise a walk through a large
//! tree would evict the cached files. The names stored longest ago are deleted first; they are
//! requested again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use url::Url;

use super::entry::cache_dir::CacheDir;
use super::index::ChunkIndex;
use super::index::{CatalogUpdate, ROW};
pub(crate) use super::index::{FileRow as StoredFile, ListingRow as StoredListing, ShownRow as ShownFile};
use super::key::UrlKey;
use super::quota::Quota;
use crate::http::{Version, redact};
use crate::util::clock;

/// The catalog of a mount. A look-up is one query; storing returns at once.
pub struct Catalog {
    cache_dir: Arc<CacheDir>,
    /// Bytes of names stored since the oldest were last deleted.
    written: AtomicU64,
}

/// Fractions of the cache's size: the maximum for listings, and for versions of files without
/// cached bytes. Together a twentieth. A listing of 10,000 names is some 600 KB.
const NAMES: u64 = 25;
const VERSIONS: u64 = 100;

/// A confirmed listing is stored again after this fraction of the maximum age. So it never reaches
/// that age while it is in use, nor shortly after.
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

    /// Deletes the oldest names if there may be too many, after `bytes` more were stored.
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

    /// Returns true if unused names are deleted after a time, so that uses have to be recorded.
    pub fn ages(&self) -> bool {
        self.quota().max_age().is_some()
    }

    /// Returns true if what was stored at that time is still there, and is not about to be too old.
    pub fn has_lately(&self, then: SystemTime) -> bool {
        self.quota().max_age().is_none_or(|age| {
            let since = clock::now().duration_since(then);
            since.is_ok_and(|since| since < age / NOTED_AGAIN)
        })
    }

    /// The last listing of a directory, in the format of the directory tree.
    pub fn listing(&self, directory: &Url) -> Option<StoredListing> {
        let found = self.index().listing(&self.url_key(directory));
        found.inspect(|_| self.note_shown(directory))
    }

    /// A stored listing of a directory was used.
    pub fn note_shown(&self, directory: &Url) {
        if self.ages() {
            let url_key = self.url_key(directory);
            self.index().note(CatalogUpdate::UsedListing { url_key });
        }
    }

    /// Stores a directory's listing, if there is space for it. Returns false if it should be stored
    /// again later: the cache directory is not open yet.
    pub fn keep_listing(&self, directory: &Url, row: StoredListing) -> bool {
        if self.cache_dir.is_fallback() {
            return false;
        }
        let bytes = row.names.len() as u64;
        if bytes > self.quota().size() / NAMES || !self.quota().has_room_in_index(bytes) {
            log::debug!("{}: the listing is not saved: no space in the cache", redact(directory));
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

    /// The origin says that the directory does not exist.
    pub fn forget_listing(&self, directory: &Url) {
        let url_key = self.url_key(directory);
        self.index().note(CatalogUpdate::NoListing { url_key });
    }

    /// The version of a file that its origin last called current.
    pub fn file(&self, url: &Url) -> Option<StoredFile> {
        let url_key = self.url_key(url);
        let found = self.index().file(&url_key);
        if found.is_some() && self.ages() {
            self.index().note(CatalogUpdate::UsedFile { url_key });
        }
        found
    }

    /// Stores the current version of a file.
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

    /// Stores what the current version of a file is shown as. Has no effect for a file without a
    /// stored version.
    pub fn keep_shown(&self, url: &Url, listed: String, ino: u64) {
        self.index().note(CatalogUpdate::Shown {
            url_key: self.url_key(url),
            listed,
            ino,
        });
    }

    /// The origin says that the file does not exist.
    pub fn forget_file(&self, url: &Url) {
        let url_key = self.url_key(url);
        self.index().note(CatalogUpdate::NoFile { url_key });
    }
}
