//! Names are those of the server: all of them, each once, and as last listed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::common::files::{sha256, sha256_of};
use crate::common::{Mount, fetchfs, run};
use crate::filesystem::{names, small_tree, stat};
use crate::origin::{Content, Fault, IndexStyle, Origin};

#[test]
fn names_match_the_server() {
    let long = "n".repeat(251) + ".txt";
    let utf8 = "é".repeat(127);
    let nasty = [
        "with space",
        " leading",
        "trailing ",
        "100%",
        "%41",
        "a%2Fb",
        "#hash",
        "what?",
        "a=b&c=d",
        "plus+plus",
        "it's",
        "\"quoted\"",
        "<b>bold<b>",
        "semi;colon",
        "co:lon",
        "http:",
        "back\\slash",
        "-dash",
        "~tilde",
        ".hidden",
        "...",
        "..a",
        "*",
        "[x]",
        "{y}",
        "|",
        "^",
        "`",
        "$HOME",
        "!",
        "@",
        ",",
        "größe",
        "Ελληνικά",
        "日本語",
        "🎬.mkv",
        "e\u{301}",
        "é",
        "\u{202e}rtl",
        "&amp;",
        "&#65;",
        &long,
        &utf8,
    ];
    let origin = Origin::start();
    for name in nasty {
        origin.add(&format!("/{name}"), name);
        origin.add(&format!("/in/{name} too/file"), name);
    }
    for style in [IndexStyle::Nginx, IndexStyle::NamesOnly] {
        origin.set_index_style(style);
        let mount = Mount::start_of(&origin.url("/"));
        let expected: BTreeSet<String> = nasty
            .iter()
            .map(|name| (*name).to_owned())
            .chain(["in".to_owned()])
            .collect();
        assert_eq!(names(&mount.root()), expected, "{style:?}");
        for name in nasty {
            let read = fs::read(mount.path(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
            assert_eq!(read, name.as_bytes(), "{name:?}");
            assert_eq!(stat(&mount.path(name)).len(), name.len() as u64);
            if name.len() <= 250 {
                let below = fs::read(mount.path(format!("in/{name} too/file")));
                assert_eq!(
                    below.unwrap_or_else(|error| panic!("{name:?}: {error}")),
                    name.as_bytes()
                );
            }
        }
    }
}

#[test]
fn missing_name_is_enoent() {
    let origin = small_tree();
    let mount = Mount::start_of(&origin.url("/"));
    let errno = |name: &str| {
        fs::metadata(mount.path(name))
            .err()
            .and_then(|error| error.raw_os_error())
    };
    assert_eq!(errno("nothing"), Some(libc::ENOENT));
    assert_eq!(errno("dir/nothing"), Some(libc::ENOENT));
    assert_eq!(errno("empty/nothing"), Some(libc::ENOENT));
    assert_eq!(errno("top/below"), Some(libc::ENOTDIR));
    assert_eq!(errno(&"n".repeat(256)), Some(libc::ENOENT));
    assert_eq!(errno(&"n".repeat(1024)), Some(libc::ENAMETOOLONG));
    assert_eq!(fs::read_dir(mount.path("empty")).expect("to list").count(), 0);
}

#[test]
fn large_directory_lists_each_name_once() {
    let origin = Origin::start();
    let expected: BTreeSet<String> = (0..3000).map(|number| format!("file number {number}")).collect();
    expected.iter().for_each(|name| origin.add(&format!("/{name}"), "x"));
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(names(&mount.root()), expected);
    let ls = run(Command::new("ls").arg("-l").arg(mount.root())).succeeded();
    assert_eq!(ls.out.lines().count(), 1 + expected.len());
    let heads = origin
        .log()
        .all()
        .0
        .iter()
        .filter(|request| request.method == "HEAD")
        .count();
    assert_eq!(heads, 0, "the page tells the sizes");
    assert!(
        origin.log().all().gets("/").len() <= 3,
        "one page, asked for once and perhaps at the start"
    );
}

#[test]
fn single_file_is_named_by_url_or_content_disposition() {
    let (origin, content) = (Origin::start(), Content::noise(70_000, 44));
    origin.add("/download", content.clone());
    let disposition = "attachment; filename=\"../x\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%231.pdf";
    origin
        .on("/download")
        .fault(Fault::Header("Content-Disposition", disposition));
    let source = origin.url("/download") + "?id=7";
    let mount = Mount::start_of(&source);
    assert_eq!(names(&mount.root()), BTreeSet::from(["download".to_owned()]));
    let mount = Mount::of(&source).with("--content-disposition", "").start();
    assert_eq!(names(&mount.root()), BTreeSet::from(["größe #1.pdf".to_owned()]));
    assert_eq!(sha256(&mount.path("größe #1.pdf")), sha256_of(&content));
}

#[test]
fn type_says_what_a_source_is() {
    let origin = Origin::start();
    origin.add("/pub/f", Content::noise(10, 1));
    for (path, option, kind, name) in [
        ("/pub/", "ro", "index", "f"),
        ("/pub", "type=index", "index", "f"),
        ("/pub/", "type=file", "file", "pub"),
        ("/pub/f", "ro", "file", "f"),
    ] {
        let mount = Mount::of(&origin.url(path)).with("-o", option).start();
        assert_eq!(
            names(&mount.root()),
            BTreeSet::from([name.to_owned()]),
            "{path} {option}"
        );
        let ran = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
        let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(status[0]["kinds"], serde_json::json!([kind]));
    }
    let refused = run(fetchfs().args(["mount", "--type", "ftp", &origin.url("/pub/"), "/mnt"]));
    assert!(
        refused.err.contains(" index,") && refused.err.contains(" file"),
        "{refused:?}"
    );
}

#[test]
fn listing_changes_appear_after_attr_ttl() {
    let origin = small_tree();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "0").start();
    assert!(!names(&mount.root()).contains("new"));
    origin.add("/new", "hello");
    origin.remove("/top");
    assert_eq!(
        names(&mount.root()),
        BTreeSet::from(["dir", "empty", "new"].map(str::to_owned))
    );
    assert_eq!(fs::read(mount.path("new")).expect("to read"), b"hello");
    assert!(fs::metadata(mount.path("top")).is_err());
}

#[test]
fn failed_listing_is_an_error_not_an_empty_directory() {
    let origin = small_tree();
    let mount = Mount::of(&origin.url("/"))
        .with("--retries", "0")
        .with("--attr-ttl", "0")
        .start();
    origin.on("/dir/").fault(Fault::Status(500));
    let errno = fs::read_dir(mount.path("dir")).and_then(|mut entries| entries.next().transpose());
    assert_eq!(
        errno.map(|entry| entry.is_some()).map_err(|error| error.raw_os_error()),
        Err(Some(libc::EIO))
    );
}
