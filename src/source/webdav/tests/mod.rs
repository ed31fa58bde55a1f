//! Parsing of whole answers: recorded from real servers, hand-written, and generated.

mod handmade;
mod properties;
mod recorded;

use url::Url;

use super::NotMultistatus;
use crate::source::{EntryKind, ListedSize, Listing, ListingConfig};

/// Parses an answer that came for this URL.
fn parse_at(url: &str, body: &[u8]) -> Result<Listing, NotMultistatus> {
    let url = Url::parse(url).unwrap();
    super::parse(&url, &url, body, None, &ListingConfig::default())
}

/// A `multistatus` of these elements, with the usual prefix.
fn multistatus(responses: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<D:multistatus xmlns:D=\"DAV:\">{responses}</D:multistatus>")
}

/// A response for a file of 7 bytes, or for a directory if `href` ends in `/`.
fn response(href: &str) -> String {
    let properties = match href.ends_with('/') {
        true => "<D:resourcetype><D:collection/></D:resourcetype>",
        false => "<D:resourcetype/><D:getcontentlength>7</D:getcontentlength>",
    };
    format!(
        "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )
}

/// The names of a listing, a `/` after each directory's, and each file's size if it is not 7.
fn names(listing: &Listing) -> Vec<String> {
    let described = |at| {
        let name = listing.entries.name(at).to_string_lossy().into_owned();
        match listing.entries.kind(at) {
            EntryKind::Directory => name + "/",
            EntryKind::File(ListedSize::Exact(7)) => name,
            EntryKind::File(size) => format!("{name} {size:?}"),
        }
    };
    (0..listing.entries.len()).map(described).collect()
}

/// The paths of a listing's URLs.
fn paths(listing: &Listing) -> Vec<String> {
    listing
        .entries
        .iter()
        .map(|entry| entry.url.path().to_owned())
        .collect()
}
