//! Sources: where a directory tree comes from.
//!
//! A [`Source`] turns the URL of a directory into a [`Listing`]: its names, and the facts that the listing has of each.
//! `vfs` requests a listing when a program opens or searches the directory. A source keeps no listings, so any listing
//! can be requested again. Of a file it knows the [`Content`], which the cache opens.
//!
//! | folder or file | what it has |
//! |---|---|
//! | [`registry`] | the kinds of source, and which one a URL is |
//! | [`listing`] | what a listing is, and what parsers share |
//! | [`receiving`] | long listings, read while they are received |
//! | [`web_index`] | the kind `index`: directories that a web server lists in HTML, JSON or XML |
//! | [`webdav`], [`s3`] | directories of a WebDAV server, and of a bucket |
//! | [`document`] | trees that one document names: lists, playlists, Metalinks, items of the Internet Archive |
//! | [`local_directory`], [`local`] | directories and documents of this machine |
//! | [`file`] | single files, which need no listing |
//! | [`library`] | many sources in one tree |
//!
//! A listing is not trusted. Whatever kind of source it comes from, each name has passed [`Name::new`], so it is
//! exactly one path component.

#![forbid(unsafe_code)]

mod asked;
pub(crate) mod document;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub(crate) mod library;
mod listing;
mod local;
mod local_directory;
mod receiving;
pub(crate) mod registry;
pub mod s3;
pub(crate) mod web_index;
pub mod webdav;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::http::Validator;
pub(crate) use crate::origin::{ListedSize, Published};
use crate::origin::{Metadata, as_directory};
use crate::util::shared_duration::SharedDuration;
pub(crate) use asked::Asked;
pub(crate) use error::{SourceError, SourceErrorKind};
pub(crate) use file::SingleFile;
pub(crate) use library::{LIBRARY, Library};
pub use listing::ListingConfig;
pub(crate) use listing::{
    EntityTag, Entries, Entry, EntryKind, LeftOut, ListedTime, Listing, NAME_MAX, Name, PATH_MAX, seconds, time,
};
pub(crate) use receiving::NameSink;
pub(crate) use registry::{Opened, SourceSpec, Sources};
use s3::S3Config;
pub(crate) use web_index::INDEX;

/// A future that a [`Source`] returns: boxed, because the kind of source is chosen at run time.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Settings of a mount's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceConfig {
    /// Which entries listings have.
    pub listings: ListingConfig,
    /// How long a document counts as fresh for the directories in it. Default: 10 s.
    pub ttl: SharedDuration,
    /// Countries whose mirrors in a Metalink are preferred, in lower case, the most preferred first. Default: none.
    pub metalink_locations: Vec<String>,
    /// How S3 is reached.
    pub s3: S3Config,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig {
            listings: ListingConfig::default(),
            ttl: Duration::from_secs(10).into(),
            metalink_locations: Vec::new(),
            s3: S3Config::default(),
        }
    }
}

/// The error for a page that is not a listing, and what to do about it.
pub(crate) const NO_INDEX_PAGE: &str = "it is not an index page; a directory needs one from the server (autoindex), and \
                                 the URL of a file has no `/` at its end";

/// One kind of source.
///
/// A directory's URL ends in `/`, and contains the URLs of its sub-directories. A URL need not be one of HTTP, but for
/// those of files' bytes. HTTP requests obey the limits, the health and the deadlines of their origin by `vfs`; a source
/// that does something else has to see to it that it ends.
pub(crate) trait Source: Send + Sync + 'static {
    /// The name of its kind, which stored listings have.
    fn kind(&self) -> &'static str;

    /// The URL of HTTP that a URL named by the user stands for. Called once for each source, before anything else, and
    /// asks no server.
    ///
    /// # Errors
    /// If there is none.
    fn address(&self, url: &Url) -> Result<Url, SourceError> {
        Ok(url.clone())
    }

    /// Finds out what is at a URL that the user has named. `None` if the answer is not of this kind; not if the user
    /// has named the kind.
    ///
    /// # Errors
    /// As for [`Self::list`].
    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>>;

    /// The URL of the directory that a URL named by the user may be: its key in memory and in the cache. A kind whose
    /// tree is one document has directories of its own below that URL ([`Origin`](crate::http::Origin) knows them).
    fn directory(&self, url: &Url) -> Url {
        as_directory(url)
    }

    /// Requests the names in the directory `directory` from `there`: its own URL, or its URL on a mirror. The entries'
    /// URLs are below `directory` in either case.
    ///
    /// # Errors
    /// If the origin is unreachable, refuses, or responds with something else than a listing.
    /// [`SourceErrorKind::NotFound`] only if it says that the directory is gone.
    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>>;

    /// [`Self::list`], and passes names on before the listing is complete, if it is long and names are certain by then. A kind
    /// whose names are not certain before the end lists.
    ///
    /// # Errors
    /// As for [`Self::list`]. Names that were passed on do not count then.
    fn list_early<'a>(
        &'a self,
        directory: &'a Url,
        there: &'a Url,
        _names: &'a Arc<dyn NameSink>,
    ) -> BoxFuture<'a, Result<Listing, SourceError>> {
        self.list(directory, there)
    }

    /// [`Self::list`] at the directory's own URL, unless the server says that its listing is still the one with the
    /// validator `known`: then `None`. A kind without validators lists.
    ///
    /// # Errors
    /// As for [`Self::list`].
    fn list_if_changed<'a>(
        &'a self,
        directory: &'a Url,
        _known: &'a Validator,
    ) -> BoxFuture<'a, Result<Option<Listing>, SourceError>> {
        Box::pin(async move { self.list(directory, directory).await.map(Some) })
    }

    /// The listing of a directory, if the source knows it without a request and it still counts as fresh.
    fn list_now(&self, _directory: &Url) -> Option<Result<Listing, SourceError>> {
        None
    }

    /// How long the listing of a directory that was just requested counts as fresh, if the user's setting is `ttl`. Less if
    /// it comes from a document that was requested before.
    fn fresh_for(&self, _directory: &Url, ttl: Duration) -> Duration {
        ttl
    }

    /// Passes to `store` the listings that came with the one of `directory` and were not stored yet. `store` returns
    /// false for one that has to be stored later.
    fn store_others(&self, _directory: &Url, _store: &mut dyn FnMut(&Url, &Listing) -> bool) {}

    /// How much room there is at the source, if it says so.
    fn quota(&self) -> Option<Quota> {
        None
    }

    /// The user wants to see what is new: no earlier answer counts as fresh any more.
    fn expire(&self) {}

    /// Returns true if a listing may lack names that exist. Then a look-up of such a name asks the origin for it.
    fn may_omit_names(&self, _directory: &Url) -> bool {
        false
    }

    /// Finds out what a name is that was taken for a file, with this size in its listing, by the origin's answer to a
    /// request for it. A source whose listings are right about that does without.
    fn tell_apart<'a>(&'a self, _file: &'a Url, _size: ListedSize, _answer: &'a Metadata) -> BoxFuture<'a, NameKind> {
        Box::pin(std::future::ready(NameKind::File))
    }
}

/// How much room there is at a source, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// What may still be stored there.
    pub available: u64,
    /// What is stored there.
    pub used: u64,
}

/// What is at a URL that the user has named.
pub(crate) enum Found {
    /// A directory: its URL, and its listing.
    Directory(Url, Listing),
    /// A file, and the origin's answer.
    File(Metadata),
}

/// What a name is by the origin's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// A file.
    File,
    /// A directory, at the same URL with a `/`.
    Directory,
    /// A web page in place of a file. It counts as a file if a listing has the name. Some servers answer any name so.
    Page,
}
