//! Names in listings, and what the listings say of them.

use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::Name;
use crate::origin::{ListedSize, Published};

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
