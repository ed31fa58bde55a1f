//! `Catalogue`: what origins have said of directories and files, kept for the time when they can't be asked.
//!
//! The tree writes down here what it is told, and looks here when a mount is new or an origin silent. Only an origin's
//! own word replaces or drops anything; how old a word is, the tree has to judge.

use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::entry::UrlKey;
use super::index::ChunkIndex;
use super::index::Saying;
pub use super::index::{FileRow as StoredFile, ListingRow as StoredListing};
use crate::http::{Version, redact};

/// See the module. Looking something up is one query; writing something down returns at once.
pub struct Catalogue {
    index: Arc<ChunkIndex>,
}

impl Catalogue {
    pub(super) fn new(index: Arc<ChunkIndex>) -> Catalogue {
        Catalogue { index }
    }

    /// The last listing of a directory, in the tree's own text.
    pub fn listing(&self, directory: &Url) -> Option<StoredListing> {
        self.index.listing(&UrlKey::new(directory))
    }

    /// Writes a directory's listing down.
    pub fn keep_listing(&self, directory: &Url, row: StoredListing) {
        self.index.note(Saying::Listing {
            url_key: UrlKey::new(directory),
            url: redact(directory),
            row,
        });
    }

    /// The origin says that there is no such directory.
    pub fn forget_listing(&self, directory: &Url) {
        let url_key = UrlKey::new(directory);
        self.index.note(Saying::NoListing { url_key });
    }

    /// The version of a file that its origin last called the current one.
    pub fn file(&self, url: &Url) -> Option<StoredFile> {
        self.index.file(&UrlKey::new(url))
    }

    /// Writes down which version of a file is the current one.
    pub fn keep_file(&self, url: &Url, version: Version, modified: Option<SystemTime>) {
        self.index.note(Saying::File {
            url_key: UrlKey::new(url),
            row: StoredFile { version, modified },
        });
    }

    /// The origin says that there is no such file.
    pub fn forget_file(&self, url: &Url) {
        let url_key = UrlKey::new(url);
        self.index.note(Saying::NoFile { url_key });
    }
}
