//! Parsing of whole pages: recorded from real servers, hand-written, and generated.

mod handmade;
mod properties;
mod recorded;
mod repositories;
mod servers;

use url::Url;

use super::{NotAnIndex, PageParser};
use crate::source::receiving::Collected;
use crate::source::{Entry, EntryKind, LeftOut, ListedSize, ListedTime, Listing, ListingConfig};

/// The URL of the pages.
const PAGE: &str = "http://origin.test/corpus/";

/// Parses a page with the default limits. Asserts that it is the same if it comes in two parts, and that what is certain before the
/// end is so at the end.
fn parse(page: &Url, body: &[u8], charset: Option<&str>) -> Result<Listing, NotAnIndex> {
    let config = ListingConfig::default();
    let whole = super::parse(page, body, charset, &config);
    let (one, other) = body.split_at(body.len() * 2 / 3);
    let (early, in_parts) = Collected::of(|early| {
        let mut parser = PageParser::new(page, charset, &config, early.clone());
        parser.push(one)?;
        parser.push(other)?;
        parser.finish().map(|(listing, _)| listing)
    });
    assert_eq!(in_parts, whole);
    if let Ok(listing) = &whole {
        Collected::assert_is_part_of(&early, listing);
    }
    whole
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
