//! Pages that real servers wrote for one directory (`tests/fixtures/listings/record.sh`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::http::Validator;
use crate::source::web_index::index_page::size::agree;

/// A page, without `.html`, and the charset that its server declared.
const PAGES: [(&str, Option<&str>); 18] = [
    ("nginx", None),
    ("nginx-rounded", None),
    ("nginx-fancyindex", None),
    ("nginx-fancyindex-rounded", None),
    ("apache-plain", Some("ISO-8859-1")),
    ("apache-fancy", Some("ISO-8859-1")),
    ("apache-fancy-wide", Some("ISO-8859-1")),
    ("apache-fancy-nosize", Some("ISO-8859-1")),
    ("apache-fancy-nodate", Some("ISO-8859-1")),
    ("apache-fancy-bare", Some("ISO-8859-1")),
    ("apache-fancy-old", Some("ISO-8859-1")),
    ("apache-table", Some("ISO-8859-1")),
    ("apache-table-styled", Some("UTF-8")),
    ("apache-table-nosize", Some("ISO-8859-1")),
    ("apache-table-bare", Some("ISO-8859-1")),
    ("lighttpd", Some("utf-8")),
    ("caddy", Some("utf-8")),
    ("python", Some("utf-8")),
];

/// The sizes for which the corpus has a file `size-<bytes>`.
const SIZES: [u64; 15] = [
    0,
    1,
    99,
    512,
    972,
    973,
    999,
    1023,
    1024,
    1536,
    9999,
    10000,
    1_048_576,
    1_073_741_823,
    5_368_709_120,
];

const DIRECTORIES: [&str; 7] = ["sub", "sub dir", "dir#hash", "dir:colon", "dir?", "dir%41", "empty"];

/// The awkward names of the corpus, but for the one of 255 bytes. Each such file holds its name.
const NAMES: [&[u8]; 46] = [
    b"new\nline",
    b"tab\there",
    b"two words",
    b" leading",
    b"trailing ",
    b"100%",
    b"a%20b",
    b"%2e%2e",
    b"hash#tag",
    b"#",
    b"what?",
    b"?C=N",
    b"?C=N;O=D",
    b"a+b",
    b"a&b",
    b"a&amp;b",
    b"it's",
    b"say \"hi\"",
    b"<b>",
    b"a;b",
    b"a:b",
    b"http:",
    b"back\\slash",
    b"a=b",
    b"comma,",
    b"at@",
    b"dollar$",
    b"star*",
    b"bang!",
    b"[brackets]",
    b"{braces}",
    b"pipe|",
    b"caret^",
    b"back`tick",
    b"~tilde",
    b"-",
    b"-rf",
    b"(parens)",
    b"...",
    b"..two",
    b".dotfile",
    b"Parent Directory",
    b"Name",
    "ünïcödé".as_bytes(),
    "日本語.txt".as_bytes(),
    b"latin1-\xe9",
];

fn recorded(page: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/listings")
        .join(page)
        .with_extension("html");
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; record.sh beside it records it", file.display()))
}

fn listing(page: &str, charset: Option<&str>) -> Listing {
    parse(&Url::parse(PAGE).unwrap(), &recorded(page), charset).unwrap()
}

/// An entry as a line: name, size, date, URL below the page. `~` before a rounded size; no seconds in a date that lacks
/// them.
fn line(entry: &Entry) -> String {
    let size = match entry.kind {
        EntryKind::Directory => "dir".to_owned(),
        EntryKind::File(ListedSize::Exact(bytes)) => bytes.to_string(),
        EntryKind::File(ListedSize::Rounded(bytes)) => format!("~{bytes}"),
        EntryKind::File(ListedSize::Unknown) => "?".to_owned(),
    };
    let date = entry.modified.map_or("-".to_owned(), shown_date);
    // The first bytes identify the long name.
    let short = |text: String| {
        if text.len() > 60 {
            format!("{}.. ({})", &text[..8], text.len())
        } else {
            text
        }
    };
    let path = entry
        .url
        .as_str()
        .strip_prefix(PAGE)
        .unwrap_or("not below the page")
        .to_owned();
    format!(
        "{:<20} {size:>11}  {date:<19}  {}",
        short(format!("{:?}", entry.name.as_os_str())),
        short(path)
    )
}

/// The names that a server must show, with `/` after a directory's.
fn expected_names(page: &str) -> BTreeSet<Vec<u8>> {
    let sized = SIZES.iter().map(|size| format!("size-{size}").into_bytes());
    let directories = DIRECTORIES.iter().map(|name| format!("{name}/").into_bytes());
    let awkward = NAMES.iter().map(|name| name.to_vec());
    let all = sized.chain(directories).chain(awkward).chain([vec![b'n'; 255]]);
    // nginx hides names that begin with a dot.
    all.filter(|name| !(page.starts_with("nginx") && name.starts_with(b".")))
        .collect()
}

/// The date that each file of the corpus has, to the second.
fn expected_time(entry: &Entry) -> SystemTime {
    let unix = match entry.name.as_bytes() {
        b"size-1" => 1_782_950_398, // 2026-07-01 23:59:58
        b"size-512" => 946_684_799, // 1999-12-31 23:59:59
        _ => 1_795_348_800,         // 2026-11-22 12:00:00
    };
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
}

#[test]
fn what_is_read_from_each_page() {
    for (page, charset) in PAGES {
        let listing = listing(page, charset);
        let lines: Vec<String> = listing.entries.iter().map(|entry| line(&entry)).collect();
        insta::with_settings!({ omit_expression => true, description => format!("{page}.html") }, {
            insta::assert_snapshot!(page, format!("{}\n\n{} refused", lines.join("\n"), listing.left_out.refused));
        });
    }
}

#[test]
fn each_page_gives_every_name_once() {
    for (page, charset) in PAGES {
        let listing = listing(page, charset);
        let with_slash = |entry: Entry| {
            let slash: &[u8] = if entry.kind == EntryKind::Directory { b"/" } else { b"" };
            [entry.name.as_bytes(), slash].concat()
        };
        let found: BTreeSet<Vec<u8>> = listing.entries.iter().map(with_slash).collect();
        assert_eq!(found.len(), listing.entries.len(), "{page}");
        assert_eq!(found, expected_names(page), "{page}");
        assert!(listing.left_out.is_nothing(), "{page}");
    }
}

#[test]
fn an_exact_size_is_right_and_a_rounded_one_is_near() {
    for (page, charset) in PAGES {
        for entry in listing(page, charset).entries.iter() {
            let name = entry.name.as_bytes();
            let bytes = match std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.strip_prefix("size-"))
            {
                Some(bytes) => bytes.parse().unwrap(),
                None => name.len() as u64,
            };
            match entry.kind {
                EntryKind::File(ListedSize::Exact(size)) => assert_eq!(size, bytes, "{page} {entry:?}"),
                EntryKind::File(size @ ListedSize::Rounded(_)) => assert!(agree(size, bytes), "{page} {entry:?}"),
                EntryKind::File(ListedSize::Unknown) | EntryKind::Directory => {}
            }
        }
    }
}

/// Guards against a change that makes a page's sizes or dates disappear, which only the snapshots would notice
/// otherwise.
#[test]
fn sizes_and_dates_are_found_where_the_page_has_them() {
    let sizes = |page: &str, wanted: fn(ListedSize) -> bool| {
        let charset = PAGES.iter().find(|(name, _)| *name == page).unwrap().1;
        let listing = listing(page, charset);
        let sizes: Vec<ListedSize> = listing
            .entries
            .iter()
            .filter(|entry| entry.kind != EntryKind::Directory)
            .map(size)
            .collect();
        sizes.into_iter().filter(|&size| wanted(size)).count()
    };
    let exact: fn(ListedSize) -> bool = |size| matches!(size, ListedSize::Exact(_));
    let unknown: fn(ListedSize) -> bool = |size| size == ListedSize::Unknown;
    let all_but_dotfiles = NAMES.len() + SIZES.len() + 1 - 3;
    for page in ["nginx", "nginx-fancyindex"] {
        assert_eq!(sizes(page, exact), all_but_dotfiles, "{page}");
    }
    assert_eq!(sizes("caddy", exact), all_but_dotfiles + 3);
    for page in [
        "apache-fancy",
        "apache-fancy-wide",
        "apache-fancy-nodate",
        "apache-fancy-old",
        "apache-table",
    ] {
        assert_eq!(
            sizes(page, exact),
            all_but_dotfiles + 3 - 10,
            "{page}: below 973 bytes Apache is exact"
        );
        assert_eq!(sizes(page, unknown), 0, "{page}");
    }
    for page in [
        "python",
        "apache-plain",
        "apache-fancy-nosize",
        "apache-fancy-bare",
        "apache-table-nosize",
    ] {
        assert_eq!(sizes(page, unknown), all_but_dotfiles + 3, "{page}");
    }
    assert_eq!(sizes("lighttpd", unknown), 1, "0.0K is no size");
}

#[test]
fn a_listed_date_is_the_files_own() {
    for (page, charset) in PAGES {
        for entry in listing(page, charset).entries.iter() {
            let Some(listed) = entry.modified else { continue };
            let off = expected_time(&entry).duration_since(listed.time).unwrap();
            assert!(
                off < Duration::from_secs(if listed.exact { 1 } else { 60 }),
                "{page} {entry:?}"
            );
        }
    }
}

#[test]
fn an_empty_directory_is_an_empty_listing() {
    let page = Url::parse(PAGE).unwrap().join("empty/").unwrap();
    for (name, charset) in PAGES {
        let listing = parse(&page, &recorded(&format!("{name}-empty")), charset);
        assert_eq!(
            listing,
            Ok(Listing {
                entries: crate::source::Entries::of(&page),
                left_out: LeftOut::default(),
                modified: None,
                is_marked: true,
                has_external: false,
                validator: Validator::None,
            }),
            "{name}"
        );
    }
}
