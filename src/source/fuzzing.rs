//! Parsers of listings and documents, for the fuzz targets (`fuzz/`) and for properties.
//!
//! Each function accepts any bytes and panics if the result breaks a promise: of a listing, that each name is one component
//! of a path, and each URL directly below the directory's; of a document, those of [`document`](super::document).

#[cfg(test)]
mod mutations;

use url::Url;

use super::document::{DocumentError, LARGEST, Parsed, address, tree::DocumentTree};
use super::s3::BucketListing;
use super::web_index::data_index;
use super::{EntryKind, ListedSize, Listing, ListingConfig, Name, webdav as dav};

/// The directory of listings.
const DIRECTORY: &str = "https://host.example/pub/";

/// An answer to PROPFIND.
pub fn webdav(bytes: &[u8]) {
    let directory = Url::parse(DIRECTORY).expect("a URL");
    let asked = Url::parse("http://mirror.example/a/pub/").expect("a URL");
    if let Ok(listing) = dav::parse(&directory, &asked, bytes, None, &ListingConfig::default()) {
        check_listing(&listing);
    }
}

/// A listing in JSON or XML.
pub fn data_listing(bytes: &[u8]) {
    let page = Url::parse(DIRECTORY).expect("a URL");
    if let Some(Ok(listing)) = data_index::parse(&page, bytes, &ListingConfig::default()) {
        check_listing(&listing);
    }
}

/// A page of a bucket's listing.
pub fn s3(bytes: &[u8]) {
    let directory = Url::parse(DIRECTORY).expect("a URL");
    for is_encoded in [true, false] {
        let mut listing = BucketListing::new(&directory, b"names/", &ListingConfig::default());
        let _ = listing.add_page(bytes, is_encoded);
        listing.finish().iter().for_each(check_listing);
    }
}

/// AWS's files, and the output of a `credential_process`.
pub fn aws(bytes: &[u8]) {
    super::s3::read_any(&String::from_utf8_lossy(bytes));
}

fn check_listing(listing: &Listing) {
    for entry in listing.entries.iter() {
        let name = entry.name.as_bytes();
        assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{entry:?}");
        let below = entry.url.as_str().strip_prefix(DIRECTORY).expect("it is below");
        let below = below.trim_end_matches('/');
        assert!(!below.is_empty() && !below.contains(['/', '?', '#']), "{entry:?}");
    }
}

/// A list of URLs.
pub fn list(bytes: &[u8]) {
    check(super::document::list::parse, bytes);
    super::document::list::is_list(bytes);
}

/// A playlist.
pub fn m3u(bytes: &[u8]) {
    check(super::document::m3u::parse, bytes);
}

/// A Metalink.
pub fn metalink(bytes: &[u8]) {
    check(
        |document, body| super::document::metalink::parse(document, body, &["de".to_owned()]),
        bytes,
    );
}

/// The metadata of an item of the Internet Archive, which is never on this machine.
pub fn archive(bytes: &[u8]) {
    check_at(
        "https://host.example/metadata/item",
        super::document::archive::parse,
        bytes,
    );
}

fn check(parse: impl Fn(&Url, &[u8]) -> Result<Parsed, DocumentError>, bytes: &[u8]) {
    for document in ["https://host.example/pub/list?v=2", "file:///home/me/list"] {
        check_at(document, &parse, bytes);
    }
}

fn check_at(document: &str, parse: impl Fn(&Url, &[u8]) -> Result<Parsed, DocumentError>, bytes: &[u8]) {
    let document = Url::parse(document).expect("a URL");
    match parse(&document, bytes) {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text}");
        }
        Ok(parsed) => check_tree(&document, parsed),
    }
}

fn check_tree(document: &Url, parsed: Parsed) {
    for file in &parsed.files {
        assert!(!file.path.is_empty(), "{file:?}");
        assert!(file.size.is_none_or(|size| size <= LARGEST), "{file:?}");
    }
    let number = parsed.files.len();
    let root = address::root("list", document).expect("it has a path");
    let Ok(tree) = DocumentTree::new(&root, parsed, None, 10_000) else {
        return;
    };
    let (mut shown, mut places) = (0, vec![Vec::<Name>::new()]);
    while let Some(place) = places.pop() {
        let listing = tree.listing(&place).expect("its parent lists it");
        shown += listing.left_out.both + listing.left_out.refused;
        let mut names = std::collections::HashSet::new();
        for entry in listing.entries.iter() {
            let name = entry.name.as_bytes();
            assert!(!name.is_empty() && name != b"." && name != b"..", "{entry:?}");
            assert!(!name.contains(&b'/') && !name.contains(&0), "{entry:?}");
            assert!(names.insert(entry.name.clone()), "{entry:?}");
            match entry.kind {
                EntryKind::Directory => {
                    let mut below = place.clone();
                    below.push(entry.name);
                    assert_eq!(
                        address::split("list", &entry.url),
                        Some((document.clone(), below.clone()))
                    );
                    places.push(below);
                }
                EntryKind::File(size) => {
                    shown += 1;
                    assert!(!matches!(size, ListedSize::Rounded(_)));
                    assert!(matches!(entry.url.scheme(), "http" | "https"), "{}", entry.url);
                    assert!(entry.url.fragment().is_none(), "{}", entry.url);
                }
            }
        }
    }
    // Only repeated lines are neither shown nor counted.
    assert!(shown >= number.min(1), "{shown} of {number}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::web_index::{data_index, index_page};
    use crate::source::{ListingConfig, webdav};

    /// Documents that open an element, an array or an object again and again: none is read by recursion, so no stack ends.
    #[test]
    fn deep_documents_are_read_or_refused() {
        const DEEP: usize = 20_000;
        let url = Url::parse("https://host.example/d/").expect("a URL");
        for (before, part) in [
            ("", "["),
            ("", "{\"a\":"),
            ("[{\"name\": \"x\", \"size\": ", "["),
            ("[{\"url\": ", "["),
            ("", "<a>"),
            ("<list>", "<directory>"),
            (
                "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">",
                "<file name=\"x\">",
            ),
            ("<D:multistatus xmlns:D=\"DAV:\"><D:response>", "<D:prop>"),
        ] {
            let text = format!("{before}{}", part.repeat(DEEP));
            let bytes = text.as_bytes();
            list(bytes);
            m3u(bytes);
            metalink(bytes);
            let _ = data_index::parse(&url, bytes, &ListingConfig::default());
            let _ = index_page::parse(&url, bytes, None, &ListingConfig::default());
            let _ = webdav::parse(&url, &url, bytes, None, &ListingConfig::default());
        }
    }
}
