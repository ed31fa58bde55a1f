//! Where a directory tree comes from.
//!
//! A [`Source`] turns the URL of a directory into a [`Listing`]: the names in it, and what the
//! listing itself said of each. The tree above asks for a listing when somebody looks into the
//! directory; the source keeps no state of its own, so any listing can be asked for again.
//!
//! One file a kind of source. Today: index pages of web servers ([`index_page`]) and single
//! files, which need no listing at all.
//!
//! A listing is not to be trusted. Whatever kind of source it comes from, each name has gone
//! through [`Name::new`], so it is exactly one path component.

#![forbid(unsafe_code)]

mod entries;
pub mod index_page;
mod web;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::pin::Pin;
use std::time::SystemTime;

use url::Url;

pub use entries::Entries;
pub(crate) use entries::{seconds, time};
pub use web::WebIndex;

/// A future that a [`Source`] returns: boxed, because the kind of source is chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is taken from listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingConfig {
    /// The most names in one of them. Default: 1,000,000. Each takes some 80 bytes while the directory is known, and 300 while
    /// the kernel knows it.
    pub max_entries: usize,
    /// Whether what is linked to in other directories and on other origins has a name here. Default: no.
    pub external_links: bool,
    /// Whether links with a query have names here: `a.csv?download=1` is `a.csv`, asked for with its query. Default: no.
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

/// Why a page that is none is refused, and what to do about it.
pub const NO_INDEX_PAGE: &str = "it is not an index page of a directory; a directory needs one of the server (autoindex), a file a URL without `/` at its end";

/// One kind of directory tree.
pub trait Source: Send + Sync + 'static {
    /// Asks at `there` for the names in the directory at `directory`: that is its own URL, or where a mirror has it. The
    /// entries' URLs are below `directory` in either case.
    ///
    /// # Errors
    /// When the origin can't be reached, refuses, or answers with something that is no listing.
    /// None of these says that the directory is empty or gone, except a 404 or 410.
    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url)
    -> BoxFuture<'a, Result<Listing, crate::http::HttpError>>;
}

/// What a directory held when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries, in the order of the page, each name once.
    pub entries: Entries,
    /// What the page lists and the directory does not show, by the reason.
    pub left_out: LeftOut,
    /// When the listing itself was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    /// Whether it says itself that it is a listing, beyond having names in it. **An empty one that is not marked proves nothing**: it
    /// is an empty directory if there is a directory, as its parent's listing shows; at the top of a mount, or in the place of
    /// names that were known, it is not. A page for people that comes in a listing's
    /// place, as a login form does, may have a link that looks like a name.
    pub is_marked: bool,
    /// Whether any of it is there because what lies on other origins was asked for ([`ListingConfig::external_links`]).
    pub has_external: bool,
}

impl Listing {
    /// Whether anything on the page shows that it is a listing: a mark, or names.
    pub fn is_evident(&self) -> bool {
        self.is_marked || !self.entries.is_empty() || !self.left_out.is_nothing()
    }

    /// Whether this may be what has become of a listing of whose names `is_known` tells. Not if nothing says that it is one,
    /// and no name has stayed.
    pub fn may_follow(&self, is_known: impl Fn(&OsStr) -> bool) -> bool {
        self.is_marked || (0..self.entries.len()).any(|position| is_known(self.entries.name(position)))
    }
}

/// How many links of a listing have no name in the directory, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Their names are no path component, even escaped: `.`, `..`, longer than [`NAME_MAX`], or bytes that are no text.
    pub refused: usize,
    /// They have a query, and [`ListingConfig::query_links`] is off.
    pub queries: usize,
    /// They lead to another directory or origin, and [`ListingConfig::external_links`] is off.
    pub elsewhere: usize,
    /// Files whose name is also that of a directory: the directory is shown.
    pub both: usize,
}

impl LeftOut {
    /// Whether everything is shown.
    pub fn is_nothing(&self) -> bool {
        *self == LeftOut::default()
    }

    /// Takes account of a directory that leaves out `now` where it left out `before`.
    pub fn change(&mut self, before: LeftOut, now: LeftOut) {
        let change = |total: &mut usize, before: usize, now: usize| *total = (*total + now).saturating_sub(before);
        change(&mut self.refused, before.refused, now.refused);
        change(&mut self.queries, before.queries, now.queries);
        change(&mut self.elsewhere, before.elsewhere, now.elsewhere);
        change(&mut self.both, before.both, now.both);
    }
}

impl fmt::Display for LeftOut {
    /// `2 links with a query are not shown (--query-links shows them), 1 name is not shown, being no file name`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (
                self.queries,
                "link with a query",
                "links with a query",
                " (--query-links shows such)",
            ),
            (
                self.elsewhere,
                "link to another place",
                "links to other places",
                " (--external-links shows such)",
            ),
            (self.refused, "name", "names", ", being no possible file name"),
            (self.both, "file", "files", ", being called as a directory is"),
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

/// One name in a listing, and what the listing said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name under which it is shown.
    pub name: Name,
    /// Where its bytes, or its own listing, are. Directories end in `/`.
    pub url: Url,
    /// File or directory.
    pub kind: EntryKind,
    /// The date that the listing shows, if any.
    pub modified: Option<ListedTime>,
}

/// What kind of thing a listed name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Has a listing of its own.
    Directory,
    /// Has bytes.
    File(ListedSize),
}

/// A file's size as the listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedSize {
    /// Bytes, exact: the page printed every digit.
    Exact(u64),
    /// Bytes, rounded by the page (`1.2M`): good for a first look, never for reading. Never 0.
    Rounded(u64),
    /// The page shows no size.
    Unknown,
}

/// A date as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedTime {
    /// The date, taken as UTC unless the page names a zone. Hours off where a server lists its local time
    /// ([`index_page`]): to be shown until the file's own date is known, and not to be compared with that.
    pub time: SystemTime,
    /// False when the page leaves out the seconds (nginx, Apache). Says nothing about the zone.
    pub exact: bool,
}

/// A name from a listing that is exactly one path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(OsString);

/// The longest name that is shown, in bytes: what every kernel takes from a FUSE server (`FUSE_NAME_MAX` in `fs/fuse/fuse_i.h`, 1,024)
/// less one. Other file systems end at 255 (`NAME_MAX` in `linux/limits.h`), so what has a longer name can be read here, and
/// be copied only under another name.
pub const NAME_MAX: usize = 1023;

/// The longest path that Linux takes, in bytes (`PATH_MAX` in `linux/limits.h`). No program could open what has a longer one, and only
/// a tree without end has such paths: nothing goes farther down.
pub const PATH_MAX: usize = 4096;

impl Name {
    /// Takes the bytes of a name, percent-decoded. What Linux allows in a name is taken as it is, control characters among it; a `/`
    /// and a NUL, which it does not, are shown escaped (`%2F`, `%00`).
    ///
    /// `None` for what can't be one path component even so: empty, `.`, `..`, or longer than [`NAME_MAX`].
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

    /// The name as the file system shows it.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
