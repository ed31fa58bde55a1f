//! Answers of real servers for the corpus of `tests/fixtures/servers/` (`tests/fixtures/webdav/`), with their heads.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

use super::*;
use crate::source::ListedTime;
use crate::source::receiving::{Collected, EarlyNames};
use crate::source::webdav::certain_names::CertainNames;

/// A server, the corpus' names that it does not list, and those that it writes otherwise.
const SERVERS: [(&str, &[&str], &[&str]); 9] = [
    ("apache", &[], &[]),
    ("asgi", &["a\\tb", "a\\nb", "latin1-\\xe9"], &[]),
    (
        "copyparty",
        &["...", "..two", ".dotfile", "a\\tb", "a\\nb", "latin1-\\xe9"],
        &[],
    ),
    ("dufs", &["latin1-\\xe9"], &[]),
    ("lighttpd", &[], &[]),
    ("nginx", &["...", "..two", ".dotfile"], &[]),
    // `a&b` and `a&amp;b` are one name to it.
    ("npmdav", &["a\\tb", "a\\nb", "a&amp;b", "a\\\\b", "latin1-\\xe9"], &[]),
    ("rclone", &["a\\tb", "a\\nb"], &["a\u{2409}b", "a\u{240a}b"]),
    ("wsgidav", &["a\\tb", "a\\nb", "latin1-\\xe9"], &[]),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The body of a recorded answer.
fn body(server: &str, page: &str) -> Vec<u8> {
    let file = fixtures().join(format!("webdav/{server}.{page}.txt"));
    let answer = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let end_of_head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = match end_of_head {
        Some(at) => &answer[at + 4..],
        None => {
            let at = answer.windows(2).position(|bytes| bytes == b"\n\n").expect("a head");
            &answer[at + 2..]
        }
    };
    body.to_vec()
}

/// The sizes and dates of the corpus' names on a page.
fn truth(page: &str) -> BTreeMap<Vec<u8>, (Option<u64>, SystemTime)> {
    let text = fs::read_to_string(fixtures().join("servers/corpus.tsv")).unwrap();
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let lines = text.lines().map(fields).filter(|fields| fields[0] == page);
    let facts = |fields: &[String]| (fields[2].parse().ok(), humantime::parse_rfc3339(&fields[3]).unwrap());
    lines
        .map(|fields| (percent_decode_str(&fields[1]).collect(), facts(&fields)))
        .collect()
}

#[test]
fn awkward_names_have_sizes_and_dates() {
    let truth = truth("names");
    for (server, missing, others) in SERVERS {
        let listing = parse_at("http://origin.test/names/", &body(server, "names")).unwrap();
        let mut left = truth.clone();
        for entry in listing.entries.iter() {
            let name = entry.name.as_bytes();
            if others.iter().any(|other| other.as_bytes() == name) {
                continue;
            }
            let (size, time) = left.remove(name).unwrap_or_else(|| panic!("{server}: {entry:?}"));
            if entry.kind != EntryKind::File(ListedSize::Unknown) {
                assert_eq!(
                    entry.kind,
                    EntryKind::File(ListedSize::Exact(size.unwrap())),
                    "{server}: {entry:?}"
                );
            }
            assert_eq!(
                entry.modified,
                Some(ListedTime { time, exact: true }),
                "{server}: {entry:?}"
            );
            assert_eq!(
                percent_decode_str(entry.url.path()).collect::<Vec<_>>(),
                [b"/names/", name].concat()
            );
        }
        let left: Vec<String> = left.keys().map(|name| name.escape_ascii().to_string()).collect();
        assert_eq!(left, missing, "{server} lacks");
        assert!(listing.is_marked && listing.modified.is_some(), "{server}");
    }
}

#[test]
fn empty_directory_is_marked() {
    for (server, ..) in SERVERS {
        let listing = parse_at("http://origin.test/empty/", &body(server, "empty")).unwrap();
        assert!(listing.entries.is_empty() && listing.is_marked, "{server}");
    }
}

#[test]
fn a_file_is_no_directory() {
    for (server, ..) in SERVERS.into_iter().filter(|(server, ..)| *server != "lighttpd") {
        let answer = parse_at("http://origin.test/sizes/s999", &body(server, "file"));
        assert_eq!(answer, Err(NotMultistatus::NoDirectory), "{server}");
    }
}

#[test]
fn what_is_further_below_is_left_out() {
    let listing = parse_at("http://origin.test/deep/", &body("rclone", "infinity")).unwrap();
    assert_eq!(names(&listing), ["a/"]);
    assert!(listing.left_out.is_nothing());
}

/// All of these servers begin with the directory itself, so each name is certain as soon as it is there.
#[test]
fn names_are_certain_before_the_end() {
    let url = Url::parse("http://origin.test/names/").unwrap();
    for (server, ..) in SERVERS {
        let body = body(server, "names");
        let listing = parse_at(url.as_str(), &body).unwrap();
        let (early, ()) = Collected::of(|early| certain_of(&url, &body, early));
        Collected::assert_is_part_of(&early, &listing);
        assert_eq!(early.len(), listing.entries.len(), "{server}");
    }
}

#[test]
fn nothing_is_certain_after_another_beginning() {
    let url = Url::parse("http://origin.test/names/").unwrap();
    for first in ["/names/a", "/prefix/names/", "/"] {
        let body = multistatus(&[response(first), response("/names/b")].concat());
        let (early, ()) = Collected::of(|early| certain_of(&url, body.as_bytes(), early));
        assert!(early.is_empty(), "{first}");
    }
}

fn certain_of(url: &Url, body: &[u8], early: &EarlyNames) {
    let config = ListingConfig::default();
    let mut certain = CertainNames::new(url, url, early, &config);
    let text = String::from_utf8_lossy(body);
    let read = crate::source::webdav::multistatus::read(text.as_bytes(), config.max_entries, |responses| {
        certain.add(responses)
    });
    assert!(read.is_ok());
}
