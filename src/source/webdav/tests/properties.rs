//! Properties of every answer.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};
use proptest::prelude::*;

use super::*;
use crate::source::{NAME_MAX, Name};

/// Parts of answers, which get further than random bytes do.
const PARTS: [&str; 34] = [
    "<D:multistatus xmlns:D=\"DAV:\">",
    "<multistatus xmlns=\"DAV:\">",
    "</D:multistatus>",
    "<D:response>",
    "</D:response>",
    "<D:href>",
    "</D:href>",
    "<D:href>/d/</D:href>",
    "/d/a",
    "http://h/d/b/",
    "<D:propstat>",
    "</D:propstat>",
    "<D:prop>",
    "</D:prop>",
    "<D:resourcetype>",
    "</D:resourcetype>",
    "<D:collection/>",
    "<D:getcontentlength>",
    "</D:getcontentlength>",
    "99999999999999999999",
    "<D:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</D:getlastmodified>",
    "<D:status>HTTP/1.1 404 Not Found</D:status>",
    "<D:iscollection>1</D:iscollection>",
    "<?xml version='1.0' encoding='utf-16'?>",
    "&amp;",
    "&#0;",
    "&x;",
    "&",
    "<![CDATA[",
    "]]>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "%",
    "/../",
    "\u{feff}",
];

fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => prop::sample::select(PARTS.to_vec()).prop_map(|part| part.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => "[a-z/.%:?#]{0,6}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

/// Hrefs of all kinds in a well-formed answer.
fn any_members() -> impl Strategy<Value = Vec<String>> {
    let href = prop_oneof!["[a-z/.%:?# é\\\\]{0,8}", "(/d/|/|//|/d/e/|http://x)?[a%2F.e]{0,5}/?"];
    prop::collection::vec(href, 0..8)
}

/// The ways in which servers encode names: as little as they can, and as much.
const SETS: [&AsciiSet; 2] = [
    &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'&')
        .add(b'/')
        .add(b'<')
        .add(b'>')
        .add(b'?'),
    NON_ALPHANUMERIC,
];

/// Bytes that are one path component.
fn safe_name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..=NAME_MAX),
        "[ -~]{1,12}".prop_map(String::into_bytes),
        "\\PC{1,20}".prop_map(String::into_bytes),
        "[.%/?#&;:+ ~a2e<>\"'\\\\]{1,5}".prop_map(String::into_bytes),
    ];
    let is_name = |bytes: &Vec<u8>| Name::new(bytes.clone()).is_some_and(|name| name.as_bytes() == bytes);
    let is_of_python = |bytes: &Vec<u8>| {
        bytes
            .windows(2)
            .any(|pair| pair == [0xed, 0xb2] || pair == [0xed, 0xb3])
    };
    bytes
        .prop_filter("one component", is_name)
        .prop_filter("not Python's way to write a byte", move |bytes| !is_of_python(bytes))
}

/// Name, size, whether it is a directory.
type File = (Vec<u8>, u64, bool);

fn directory() -> impl Strategy<Value = Vec<File>> {
    prop::collection::hash_map(safe_name(), (any::<u64>(), any::<bool>()), 0..20).prop_map(|files| {
        files
            .into_iter()
            .map(|(name, (size, is_directory))| (name, size, is_directory))
            .collect()
    })
}

/// Each name is one path component, and each URL directly below the directory.
fn check(listing: &Listing, directory: &Url) {
    for entry in listing.entries.iter() {
        assert!(Name::new(entry.name.as_bytes().to_vec()).is_some());
        let url = entry.url.as_str();
        let below = url
            .strip_prefix(directory.as_str())
            .unwrap_or_else(|| panic!("{entry:?}"));
        let is_directory = entry.kind == EntryKind::Directory;
        let segment = below.strip_suffix('/').unwrap_or(below);
        assert_eq!(segment.len() < below.len(), is_directory, "{entry:?}");
        assert!(!segment.is_empty() && !segment.contains(['/', '?', '#']), "{entry:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_yield_a_listing_or_an_error(answer in any_answer(), any in any::<Vec<u8>>()) {
        let url = Url::parse("http://h/d/").unwrap();
        for body in [&answer, &any] {
            if let Ok(listing) = parse_at(url.as_str(), body) {
                check(&listing, &url);
            }
        }
    }

    #[test]
    fn any_hrefs_stay_below_the_directory(hrefs in any_members()) {
        let url = Url::parse("http://h/d/").unwrap();
        let responses: String = hrefs.iter().map(|href| response(&href.replace('&', "&amp;"))).collect();
        if let Ok(listing) = parse_at(url.as_str(), multistatus(&responses).as_bytes()) {
            check(&listing, &url);
        }
    }

    #[test]
    fn a_directory_survives(files in directory(), set in 0..SETS.len(), prefix in "(/|/dav/|http://x:1/|/a%20b/c/)") {
        let mut responses = response(&prefix);
        for (name, size, is_directory) in &files {
            let (kind, slash) = if *is_directory { ("<D:collection/>", "/") } else { ("", "") };
            responses += &format!(
                "<D:response><D:href>{prefix}{}{slash}</D:href><D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype>\
                 <D:getcontentlength>{size}</D:getcontentlength></D:prop></D:propstat></D:response>",
                percent_encode(name, SETS[set])
            );
        }
        let url = Url::parse("http://h/").unwrap().join(&prefix).unwrap();
        let listing = parse_at(url.as_str(), multistatus(&responses).as_bytes()).unwrap();
        let found: Vec<File> = listing.entries.iter().map(|entry| match entry.kind {
            EntryKind::File(ListedSize::Exact(size)) => (entry.name.as_bytes().to_vec(), size, false),
            _ => (entry.name.as_bytes().to_vec(), 0, true),
        }).collect();
        let expected: Vec<File> = files
            .into_iter()
            .map(|(name, size, is_directory)| (name, if is_directory { 0 } else { size }, is_directory))
            .collect();
        prop_assert_eq!(found, expected);
        check(&listing, &url);
    }
}
