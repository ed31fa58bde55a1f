//! Parsing of whole pages: recorded from real servers, hand-written, and generated.

mod handmade;
mod properties;
mod recorded;
mod repositories;
mod servers;

use url::Url;

use super::NotAnIndex;
use crate::source::{Entry, EntryKind, LeftOut, ListedSize, ListedTime, Listing, ListingConfig};

/// The URL of the pages.
const PAGE: &str = "http://origin.test/corpus/";

/// Parses a page with the default limits.
fn parse(page: &Url, body: &[u8], charset: Option<&str>) -> Result<Listing, NotAnIndex> {
    super::parse(page, body, charset, &ListingConfig::default())
}

/// Parses a page, as UTF-8, from [`PAGE`].
fn read(html: &str) -> Result<Listing, NotAnIndex> {
    parse(&Url::parse(PAGE).unwrap(), html.as_bytes(), None)
}

/// The names of a listing, a `/` after each directory's.
fn names(listing: &Listing) -> Vec<String> {
    let slash = |entry: &Entry| if entry.kind == EntryKind::Directory { "/" } else { "" };
    listing
        .entries
        .iter()
        .map(|entry| format!("{}{}", entry.name.as_os_str().display(), slash(&entry)))
        .collect()
}

/// A date, without seconds if the page has none.
fn shown_date(listed: ListedTime) -> String {
    let text = humantime::format_rfc3339_seconds(listed.time)
        .to_string()
        .replace('T', " ");
    text[..if listed.exact { 19 } else { 16 }].to_owned()
}

/// The first entry.
fn first(listing: &Listing) -> Entry {
    listing.entries.get(0).unwrap()
}

fn size(entry: Entry) -> ListedSize {
    match entry.kind {
        EntryKind::File(size) => size,
        EntryKind::Directory => panic!("{entry:?} is a directory"),
    }
}
