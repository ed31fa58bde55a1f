//! Sources: where a directory tree comes from.
//!
//! A [`Source`] turns the URL of a directory into a [`Listing`]: its names, and the facts that the listing has of each.
//! `vfs` requests a listing when a program opens or searches the directory. A source keeps no listings, so any listing
//! can be requested again. Of a file it knows the [`Content`], which the cache opens.
//!
//! One folder per kind of source, all in one [`registry`]. Today: directories that a web server lists (`web_index`, with
//! its parsers [`index_page`] for HTML and [`data_index`] for JSON and XML), WebDAV ([`webdav`]), directories of this machine
//! ([`local_directory`]), and single files ([`file`]), which need no listing.
//!
//! A listing is not trusted. Whatever kind of source it comes from, each name has passed [`Name::new`], so it is
//! exactly one path component.

#![forbid(unsafe_code)]

mod archive;
mod asked;
pub mod data_index;
mod date;
pub(crate) mod document;
mod entity_tag;
mod entries;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod index_page;
pub(crate) mod library;
mod list;
mod listing_builder;
mod local;
mod local_directory;
mod m3u;
mod metalink;
mod name_index;
mod receiving;
pub(crate) mod registry;
pub mod s3;
mod segment;
mod web_index;
pub mod webdav;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::http::Validator;
pub(crate) use crate::origin::{ListedSize, Published};
use crate::origin::{Metadata, as_directory};
use crate::util::shared_duration::SharedDuration;
pub(crate) use asked::Asked;
pub(crate) use entity_tag::EntityTag;
pub(crate) use entries::Entries;
pub(crate) use entries::{seconds, time};
pub(crate) use error::{SourceError, SourceErrorKind};
pub(crate) use file::SingleFile;
pub(crate) use library::{LIBRARY, Library};
pub(crate) use receiving::NameSink;
pub(crate) use registry::{Opened, SourceSpec, Sources};
use s3::S3Config;
pub(crate) use web_index::INDEX;

/// A future that a [`Source`] returns: boxed, because the kind of source is chosen at run time.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which entries listings have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingConfig {
    /// Maximum names in one listing. Default: 1,000,000. Each takes some 80 bytes while the directory is known, and 230
    /// while the kernel knows it.
    pub max_entries: usize,
    /// True if links to other directories and other origins have names here. Default: false.
    pub external_links: bool,
    /// True if links with a query have names here: `a.csv?download=1` is `a.csv`, requested with its query. Default:
    /// false.
    pub query_links: bool,
}

impl Default for ListingConfig {
    fn default() -> Self {
        ListingConfig {
            max_entries: 1_000_000,
            external_links: false,
            query_links: false,
        }
    }
}

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

/// The contents of a directory at the time of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, in the order of the page, each name once.
    pub entries: Entries,
    /// Links on the page that the directory does not show, by reason.
    pub left_out: LeftOut,
    /// When the listing itself was last modified, if the origin says so.
    pub modified: Option<SystemTime>,
    /// True if the page has a mark of a listing, besides names. **An empty listing without a mark proves nothing.** It
    /// is an empty directory only if its parent's listing shows the directory; not at the top of a mount, and not in
    /// place of known names. A page for people in a listing's place, such as a login form, may have a link that looks
    /// like a name.
    pub is_marked: bool,
    /// True if an entry is there only because of [`ListingConfig::external_links`].
    pub has_external: bool,
    /// By which the server can tell later whether the listing has changed ([`Source::list_if_changed`]).
    pub validator: Validator,
}

impl Listing {
    /// A listing of these entries that says nothing else, and leaves nothing out.
    pub(crate) fn of(entries: Entries) -> Listing {
        Listing {
            entries,
            left_out: LeftOut::default(),
            modified: None,
            is_marked: true,
            has_external: false,
            validator: Validator::None,
        }
    }

    /// Returns true if the page shows that it is a listing: by a mark, or by names.
    pub fn is_evident(&self) -> bool {
        self.is_marked || !self.entries.is_empty() || !self.left_out.is_nothing()
    }

    /// Returns true if this may be the successor of a listing with the names `is_known`. Not if it has no mark and none
    /// of these names.
    pub fn may_follow(&self, is_known: impl Fn(&OsStr) -> bool) -> bool {
        self.is_marked || (0..self.entries.len()).any(|position| is_known(self.entries.name(position)))
    }
}

/// Number of links that the directory does not show, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Their names are no path component, even escaped: `.`, `..`, longer than [`NAME_MAX`], or invalid text.
    pub refused: usize,
    /// They have a query, and [`ListingConfig::query_links`] is off.
    pub queries: usize,
    /// They lead to another directory or origin, and [`ListingConfig::external_links`] is off.
    pub elsewhere: usize,
    /// Files that share a directory's name: the directory is shown.
    pub both: usize,
    /// Files in a document whose URLs are not of http or https.
    pub unsupported: usize,
    /// Files that their server does not give to the public.
    pub private: usize,
    /// Names of a file system that are neither files nor directories: devices, sockets, pipes, and symbolic links that lead
    /// nowhere or back to a directory that they are in.
    pub special: usize,
}

impl LeftOut {
    /// Returns true if everything is shown.
    pub fn is_nothing(&self) -> bool {
        *self == LeftOut::default()
    }

    /// Updates a sum over directories after one changed from `before` to `now`.
    pub fn change(&mut self, before: LeftOut, now: LeftOut) {
        let change = |total: &mut usize, before: usize, now: usize| *total = (*total + now).saturating_sub(before);
        change(&mut self.refused, before.refused, now.refused);
        change(&mut self.queries, before.queries, now.queries);
        change(&mut self.elsewhere, before.elsewhere, now.elsewhere);
        change(&mut self.both, before.both, now.both);
        change(&mut self.unsupported, before.unsupported, now.unsupported);
        change(&mut self.private, before.private, now.private);
        change(&mut self.special, before.special, now.special);
    }
}

impl fmt::Display for LeftOut {
    /// `2 links with a query are not shown (use --query-links); 1 name is not shown (invalid file name)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (
                self.queries,
                "link with a query",
                "links with a query",
                " (use --query-links)",
            ),
            (
                self.elsewhere,
                "link outside the directory",
                "links outside the directory",
                " (use --external-links)",
            ),
            (self.refused, "name", "names", " (invalid file name)"),
            (self.both, "file", "files", " (same name as a directory)"),
            (self.unsupported, "file", "files", " (no URL of http or https)"),
            (self.private, "file", "files", " (not public)"),
            (self.special, "name", "names", " (neither a file nor a directory)"),
        ];
        let mut is_first = true;
        for (number, one, many, why) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            let (what, is) = if number == 1 { (one, "is") } else { (many, "are") };
            let separator = if is_first { "" } else { "; " };
            write!(f, "{separator}{number} {what} {is} not shown{why}")?;
            is_first = false;
        }
        Ok(())
    }
}

/// A name in a listing, and its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the mount.
    pub name: Name,
    /// The URL of its bytes, or of its own listing. Directories end in `/`.
    pub url: Url,
    /// File or directory.
    pub kind: EntryKind,
    /// The date that the listing shows, if any.
    pub modified: Option<ListedTime>,
    /// What else the source publishes of a file.
    pub published: Option<Arc<Published>>,
}

/// The kind of a listed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Has a listing of its own.
    Directory,
    /// Has bytes.
    File(ListedSize),
}

impl EntryKind {
    /// A directory, or a file of this size.
    pub(crate) fn of(is_directory: bool, size: ListedSize) -> EntryKind {
        if is_directory {
            EntryKind::Directory
        } else {
            EntryKind::File(size)
        }
    }
}

/// A date in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedTime {
    /// The date, as UTC unless the page names a zone. Wrong by hours if a server lists its local time ([`index_page`]).
    /// So it is shown until the file's own date is known, and never compared with that.
    pub time: SystemTime,
    /// False if the page omits the seconds (nginx, Apache). Says nothing about the zone.
    pub exact: bool,
}

/// A name from a listing that is exactly one path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(OsString);

/// Maximum length of a name, in bytes: the least that kernels accept from a FUSE server (`FUSE_NAME_MAX` in
/// `fs/fuse/fuse_i.h`, 1,024) less one. Other file systems allow 255 (`NAME_MAX` in `linux/limits.h`), so a file with a
/// longer name can be read here, but copied only under another name.
pub(crate) const NAME_MAX: usize = 1023;

/// Maximum length of a path on Linux, in bytes (`PATH_MAX` in `linux/limits.h`). No program could open a longer one,
/// and only an endless tree has such paths, so directories end there.
pub(crate) const PATH_MAX: usize = 4096;

impl Name {
    /// Makes a name from percent-decoded bytes. Every byte that Linux allows in a name is kept, control characters
    /// included. `/` and NUL, which it does not allow, are shown escaped (`%2F`, `%00`).
    ///
    /// `None` if that is no path component either: empty, `.`, `..`, or longer than [`NAME_MAX`].
    pub fn new(bytes: Vec<u8>) -> Option<Name> {
        let is_unsafe = |&byte: &u8| byte == b'/' || byte == 0;
        let bytes = if bytes.iter().any(is_unsafe) {
            bytes.into_iter().fold(Vec::new(), |mut name, byte| {
                match byte {
                    b'/' => name.extend_from_slice(b"%2F"),
                    0 => name.extend_from_slice(b"%00"),
                    byte => name.push(byte),
                }
                name
            })
        } else {
            bytes
        };
        let fits = !bytes.is_empty() && bytes.len() <= NAME_MAX && bytes != b"." && bytes != b"..";
        fits.then(|| Name(OsString::from_vec(bytes)))
    }

    /// The name that a URL gives: the last part of its path that is not empty, percent-decoded; the host's name without
    /// one. `None` if that can't be shown.
    pub fn of_url(url: &Url) -> Option<Name> {
        match url.path_segments()?.rfind(|segment| !segment.is_empty()) {
            Some(segment) => Name::new(percent_decode_str(segment).collect()),
            None => Name::new(url.host_str()?.as_bytes().to_vec()),
        }
    }

    /// The name in the mount.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_gives_a_name_by_its_last_path_part_or_host() {
        let name = |url: &str| {
            let name = Name::of_url(&Url::parse(url).unwrap())?;
            Some(name.as_os_str().to_str().unwrap().to_owned())
        };
        assert_eq!(name("http://h/films/a%20b%23.mkv?token=x").as_deref(), Some("a b#.mkv"));
        assert_eq!(name("http://h/films/").as_deref(), Some("films"));
        assert_eq!(name("http://host.example:81/").as_deref(), Some("host.example"));
        assert_eq!(name("http://h/a%2fb").as_deref(), Some("a%2Fb"), "one path component");
        assert_eq!(name("file:///"), None);
    }
}
