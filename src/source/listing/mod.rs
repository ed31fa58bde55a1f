//! Listings: the names in a directory, and what its source says of each.
//!
//! Parsers collect a listing with [`ListingBuilder`](builder::ListingBuilder), which keeps each name once and within the maximum. What
//! listings have in common is read here: dates in [`date`], names in URLs' paths in [`segment`].

pub(in crate::source) mod builder;
pub(in crate::source) mod date;
mod entity_tag;
mod entries;
mod entry;
mod left_out;
mod name;
pub(in crate::source) mod name_index;
pub(in crate::source) mod segment;

use std::ffi::OsStr;
use std::time::SystemTime;

pub(crate) use self::entity_tag::EntityTag;
pub(crate) use self::entries::{Entries, seconds, time};
pub(crate) use self::entry::{Entry, EntryKind, ListedTime};
pub(crate) use self::left_out::LeftOut;
pub(crate) use self::name::{NAME_MAX, Name, PATH_MAX};
use crate::http::Validator;
use crate::origin::{ListedSize, Published};

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
