//! The directory whose listing is read: makes the URLs of its names.

use url::Url;

use crate::source::listing::builder::{ListingBuilder, TooManyNames};
use crate::source::listing::segment;
use crate::source::receiving::EarlyNames;
use crate::source::{EntryKind, ListedTime, Listing, ListingConfig};

/// What a document says of one name of the directory.
pub(super) struct Row {
    /// The bytes that the server has for it.
    pub(super) name: Vec<u8>,
    /// The query that its URL needs.
    pub(super) query: Option<String>,
    pub(super) kind: EntryKind,
    pub(super) modified: Option<ListedTime>,
}

/// A directory whose names are being read.
pub(super) struct Directory {
    /// Its URL up to its last `/`.
    base: String,
    query_links: bool,
    builder: ListingBuilder,
}

impl Directory {
    /// The directory that the document at this URL lists.
    pub(super) fn new(page: &Url, config: &ListingConfig) -> Directory {
        let mut base = page.clone();
        base.set_query(None);
        base.set_fragment(None);
        let mut base = String::from(base);
        base.truncate(base.rfind('/').map_or(0, |slash| slash + 1));
        Directory {
            base,
            query_links: config.query_links,
            builder: ListingBuilder::new(page, config.max_entries),
        }
    }

    /// From now on, names go to `early` as they are added.
    pub(super) fn pass_on(&mut self, early: EarlyNames) {
        self.builder.pass_on(early);
    }

    /// Adds a name. One with a `/` is refused: a listing of one directory has none. One with a query is left out unless
    /// [`ListingConfig::query_links`].
    pub(super) fn add(&mut self, row: Row) -> Result<(), TooManyNames> {
        if row.name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return self.builder.refuse();
        }
        let slash = if row.kind == EntryKind::Directory { "/" } else { "" };
        let mut url = format!("{}{}{slash}", self.base, segment::encode(&row.name));
        if let Some(query) = &row.query {
            if !self.query_links {
                return self.builder.leave_out(|left_out| &mut left_out.queries);
            }
            url = format!("{url}?{query}");
        }
        match Url::parse(&url) {
            Ok(url) => self.builder.add(row.name, url, row.kind, row.modified),
            Err(_) => self.builder.refuse(),
        }
    }

    /// The finished listing.
    pub(super) fn finish(self) -> Listing {
        self.builder.finish(None)
    }
}
