//! Listings that servers write for programs: names, sizes, dates and contents, and what `ls -l` costs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::common::servers::WebServer;
use crate::common::{Mount, temporary_directory};

/// Names that are awkward in URLs, in JSON or in XML.
fn names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        "plain",
        "two words",
        " lead",
        "trail ",
        "%41",
        "a%20b",
        "a%2Fb",
        "#",
        "a?b",
        "?",
        "a+b",
        "a&;b",
        "a&amp;b",
        "<b>",
        "it's \"quoted\"",
        "back\\slash",
        "\\u0041",
        "é",
        "e\u{301}",
        "日本 🎬",
        "..two",
        "...",
        ".dot",
        "trail.",
        "a:b",
        "http:x",
        "{x}",
        "[x]",
        "^`|",
        "tab\there",
        "new\nline",
        "\u{1}\u{7f}",
        "]",
        "null",
    ]
    .map(OsString::from)
    .into();
    names.push("n".repeat(255).into());
    names.push(OsStr::from_bytes(b"latin1-\xe9 \xff").to_owned());
    names
}

/// A directory with a file for each name, a directory `d` with one file, and an empty directory.
fn tree() -> tempfile::TempDir {
    let root = temporary_directory();
    for (number, name) in names().iter().enumerate() {
        // Each size is another, and so is each date.
        let content = [name.as_bytes(), &vec![b'.'; number * 100]].concat();
        fs::write(root.path().join(name), content).expect("a file");
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 86_399 * number as u64);
        let file = File::options()
            .write(true)
            .open(root.path().join(name))
            .expect("the file");
        file.set_modified(date).expect("its date");
    }
    fs::create_dir_all(root.path().join("d %41/below")).expect("directories");
    fs::write(root.path().join("d %41/inner"), "inner").expect("a file");
    root
}

/// What `ls -l` shows: names with sizes (of files) and dates.
fn long_list(directory: &Path) -> BTreeMap<OsString, (Option<u64>, i64)> {
    let entries = fs::read_dir(directory)
        .expect("to list")
        .map(|entry| entry.expect("an entry"));
    let facts = |entry: fs::DirEntry| {
        let metadata = entry.metadata().expect("to stat");
        let size = metadata.is_file().then_some(metadata.len());
        (entry.file_name(), (size, metadata.mtime()))
    };
    entries.map(facts).collect()
}

/// Asserts that the mount shows what is on the server's disk, but for names that begin with a dot if the server hides
/// them. Returns the server and the mount.
fn shows_exactly(start: impl Fn(&Path) -> WebServer, hides_dots: bool) -> (tempfile::TempDir, WebServer, Mount) {
    let root = tree();
    let server = start(root.path());
    let mount = Mount::start_of(&server.url("/"));
    for directory in ["", "d %41", "d %41/below"] {
        let mut expected = long_list(&root.path().join(directory));
        expected.retain(|name, _| !(hides_dots && name.as_bytes().starts_with(b".")));
        assert_eq!(long_list(&mount.path(directory)), expected, "{directory}");
    }
    (root, server, mount)
}

/// Asserts that each file has the content that it has on the server's disk.
fn reads_exactly(root: &Path, mount: &Mount) {
    for (name, (size, _)) in long_list(&mount.root()) {
        if size.is_some() {
            let (read, expected) = (fs::read(mount.path(&name)), fs::read(root.join(&name)));
            assert_eq!(read.expect("to read"), expected.expect("a file"), "{}", name.display());
        }
    }
}

/// Asserts that nothing but directories was requested, and each of them once.
fn only_directories_were_requested(server: &WebServer) {
    let mut paths: Vec<String> = server.requests().into_iter().map(|line| line.path).collect();
    paths.sort();
    assert_eq!(paths, ["/", "/d%20%2541/", "/d%20%2541/below/"]);
}

#[test]
fn nginx_in_json() {
    let (root, server, mount) = shows_exactly(|root| WebServer::nginx_with_format(root, "json"), true);
    only_directories_were_requested(&server);
    reads_exactly(root.path(), &mount);
}

#[test]
fn nginx_in_xml() {
    let (root, server, mount) = shows_exactly(|root| WebServer::nginx_with_format(root, "xml"), true);
    only_directories_were_requested(&server);
    reads_exactly(root.path(), &mount);
}

/// Caddy sends JSON if `Accept` names it. Its pages are made by a template that lists nothing.
#[test]
fn caddy_is_asked_for_json() {
    let start = |root: &Path| {
        let caddy = WebServer::caddy_with_template(root, "<title>files</title><a href=\"/\">home</a>");
        WebServer::nginx_before(caddy)
    };
    let (root, server, mount) = shows_exactly(start, false);
    only_directories_were_requested(&server);
    reads_exactly(root.path(), &mount);
}

#[test]
fn copyparty_is_asked_for_json() {
    let (root, server, mount) = shows_exactly(|root| WebServer::nginx_before(WebServer::copyparty(root)), true);
    let mut paths: Vec<String> = server.requests().into_iter().map(|line| line.path).collect();
    paths.sort();
    // Its first answer shows which server it is.
    assert_eq!(paths, ["/", "/?ls", "/d%20%2541/?ls", "/d%20%2541/below/?ls"]);
    reads_exactly(root.path(), &mount);
}

/// A server that has an API at the URLs of its directories is asked for pages, after one request.
#[test]
fn api_at_the_same_url_does_not_hide_pages() {
    for mode in ["api", "406"] {
        let server = WebServer::case("json-api.py", &["PORT", mode]);
        let mount = Mount::start_of(&server.url("/"));
        for directory in ["d", "e"] {
            let names: Vec<_> = long_list(&mount.path(directory)).into_keys().collect();
            assert_eq!(names, ["f"], "{mode}");
        }
        let printed = server.printed();
        let asked_for_json = printed.lines().filter(|line| line.ends_with(" json")).count();
        assert_eq!(asked_for_json, 1, "{mode}: {printed}");
    }
}
