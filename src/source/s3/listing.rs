//! The answers to ListObjectsV2, page by page, as one listing.
//!
//! **Keys are encoded or not, and not every server says which.** A request for encoded keys (`encoding-type=url`) is needed for
//! names that XML can't have. AWS, MinIO, moto and rclone confirm it by an element `EncodingType`; s3rver and others
//! ignore the request. So if a page does not say and has a `+` or `%` in a key, the answer is
//! [`Next::Plain`]: the page is to be requested without encoding. Encoded keys are a form's: a space is `+` or `%20`.

use percent_encoding::percent_decode_str;
use url::Url;

use super::address::encoded;
use super::xml::{self, XmlFault};
use crate::source::listing::builder::{ListingBuilder, TooManyNames};
use crate::source::listing::date;
use crate::source::{EntityTag, Entries, EntryKind, ListedSize, ListedTime, Listing, ListingConfig};

/// Pages without a name, one after the other, after which a listing counts as endless. AWS sends a few where many keys
/// were deleted.
const MOST_EMPTY_PAGES: usize = 1000;

/// Why an answer is no page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBucketListing {
    /// It is another document.
    #[error("it is no listing of an S3 bucket; does the endpoint speak S3?")]
    NoListing,
    /// It is not well-formed XML.
    #[error("the XML can't be read: {0}")]
    Malformed(String),
    /// It ends before its end tag.
    #[error("the XML ends early")]
    Truncated,
    /// It is not the last page, and the next one can't be requested.
    #[error("its next page can't be requested: the server gives no new continuation token")]
    NoToken,
    /// One page without names follows the other.
    #[error("its pages have no end")]
    Endless,
    /// More names than the caller allows.
    #[error("it has more than {0} names; raise --max-entries")]
    TooManyNames(usize),
}

impl From<XmlFault> for NotBucketListing {
    fn from(fault: XmlFault) -> NotBucketListing {
        match fault {
            XmlFault::Malformed(why) => NotBucketListing::Malformed(why),
            XmlFault::Truncated => NotBucketListing::Truncated,
        }
    }
}

/// What to request after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the listing is complete.
    Done,
    /// The page with this continuation token.
    Page(String),
    /// The same page with keys that are not encoded.
    Plain,
}

/// A listing of which pages are still to come. Holds the names, and never more than one page's text.
pub struct BucketListing {
    directory: Url,
    prefix: Vec<u8>,
    most: usize,
    builder: ListingBuilder,
    token: String,
    empty_pages: usize,
    /// True once a key or prefix has shown that the directory exists.
    exists: bool,
}

impl std::fmt::Debug for BucketListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketListing")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A key of a page, or a common prefix.
#[derive(Default)]
struct Item {
    key: String,
    size: Option<u64>,
    modified: Option<ListedTime>,
    tag: Option<EntityTag>,
    is_prefix: bool,
}

#[derive(Default)]
struct Page {
    items: Vec<Item>,
    /// From `EncodingType`.
    is_encoded: bool,
    is_truncated: bool,
    token: String,
}

impl BucketListing {
    /// An empty listing of the keys with this prefix, whose URLs are below `directory`.
    pub fn new(directory: &Url, prefix: &[u8], config: &ListingConfig) -> BucketListing {
        BucketListing {
            directory: directory.clone(),
            prefix: prefix.to_owned(),
            most: config.max_entries,
            builder: ListingBuilder::new(directory, config.max_entries),
            token: String::new(),
            empty_pages: 0,
            exists: prefix.is_empty(),
        }
    }

    /// Adds a page. `may_be_encoded` if the request asked for encoded keys.
    ///
    /// # Errors
    /// If it is no page of a listing, or there is no end to them.
    pub fn add_page(&mut self, body: &[u8], may_be_encoded: bool) -> Result<Next, NotBucketListing> {
        let text = String::from_utf8_lossy(body);
        let page = Page::read(text.trim_start_matches('\u{feff}'), self.most)?;
        let is_silent = may_be_encoded && !page.is_encoded;
        if is_silent && page.items.iter().any(|item| item.key.contains(['+', '%'])) {
            return Ok(Next::Plain);
        }
        self.empty_pages = if page.items.is_empty() { self.empty_pages + 1 } else { 0 };
        for item in page.items {
            let key = match page.is_encoded {
                true => percent_decode_str(&item.key.replace('+', " ")).collect(),
                false => item.key.into_bytes(),
            };
            let Some(rest) = key.strip_prefix(self.prefix.as_slice()) else {
                continue;
            };
            self.exists = true;
            let (name, kind) = match rest.strip_suffix(b"/") {
                Some(name) => (name, EntryKind::Directory),
                None if item.is_prefix => (rest, EntryKind::Directory),
                None => (
                    rest,
                    EntryKind::File(item.size.map_or(ListedSize::Unknown, ListedSize::Exact)),
                ),
            };
            if rest.is_empty() {
                // The mark of the directory itself.
                continue;
            }
            self.add(name, kind, item.modified, item.tag)
                .map_err(|TooManyNames| NotBucketListing::TooManyNames(self.most))?;
        }
        match page.is_truncated {
            false => Ok(Next::Done),
            true if self.empty_pages > MOST_EMPTY_PAGES => Err(NotBucketListing::Endless),
            true if page.token.is_empty() || page.token == self.token => Err(NotBucketListing::NoToken),
            true => {
                self.token.clone_from(&page.token);
                Ok(Next::Page(page.token))
            }
        }
    }

    fn add(
        &mut self,
        name: &[u8],
        kind: EntryKind,
        modified: Option<ListedTime>,
        tag: Option<EntityTag>,
    ) -> Result<(), TooManyNames> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return self.builder.refuse();
        }
        let slash = if kind == EntryKind::Directory { "/" } else { "" };
        let mut url = self.directory.clone();
        url.set_path(&format!("{}{}{slash}", self.directory.path(), encoded(name)));
        self.builder.add_tagged(name.to_owned(), url, kind, modified, tag)
    }

    /// The entries of the pages so far.
    pub(super) fn entries(&self) -> &Entries {
        self.builder.entries()
    }

    /// The finished listing; `None` if no key has the prefix, so there is no such directory.
    pub fn finish(self) -> Option<Listing> {
        self.exists.then(|| self.builder.finish(None))
    }
}

impl Page {
    fn read(text: &str, most: usize) -> Result<Page, NotBucketListing> {
        let mut page = Page::default();
        let mut item = Item::default();
        let mut is_listing = false;
        xml::read(text, |path, text| {
            match path {
                ["ListBucketResult"] => is_listing = true,
                // White space at the ends of a key is a part of it.
                ["ListBucketResult", "Contents", "Key"] | ["ListBucketResult", "CommonPrefixes", "Prefix"] => {
                    item.key = text
                }
                ["ListBucketResult", "Contents", "Size"] => item.size = text.trim().parse().ok(),
                ["ListBucketResult", "Contents", "LastModified"] => item.modified = date::read_alone(text.trim()),
                ["ListBucketResult", "Contents", "ETag"] => item.tag = EntityTag::of(&text),
                ["ListBucketResult", "IsTruncated"] => page.is_truncated = text.trim().eq_ignore_ascii_case("true"),
                ["ListBucketResult", "NextContinuationToken"] => page.token = text.trim().to_owned(),
                ["ListBucketResult", "EncodingType"] => page.is_encoded = text.trim().eq_ignore_ascii_case("url"),
                ["ListBucketResult", "Contents" | "CommonPrefixes"] => {
                    item.is_prefix = path[1] == "CommonPrefixes";
                    if page.items.len() > most {
                        return Err(NotBucketListing::TooManyNames(most));
                    }
                    page.items.push(std::mem::take(&mut item));
                }
                _ => {}
            }
            Ok(())
        })?;
        if is_listing {
            Ok(page)
        } else {
            Err(NotBucketListing::NoListing)
        }
    }
}
