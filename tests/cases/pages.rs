//! Index pages in unusual forms: what counts as a name, a directory, an empty directory.

use std::fs;
use std::path::Path;

use fetchfs::internals::events;

use super::versions::ask;
use crate::common::servers::WebServer;
use crate::common::{Mount, run, wait_until};
use crate::prefetching::fetchfs_with;

/// The names in a directory, sorted.
#[track_caller]
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("to list");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a name").file_name().into_string().expect("text");
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// What `fetchfs status` reports as left out.
#[track_caller]
fn left_out(mount: &Mount) -> String {
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    status[0]["left_out"].as_str().unwrap_or_default().to_owned()
}

/// These pages have no known title; their parent lists them as directories.
#[test]
fn empty_directory_is_recognised() {
    for page in ["empty-go.html", "empty-tomcat.html"] {
        let server = WebServer::case("page-of.py", &["PORT", page]);
        let mount = Mount::start_of(&server.url("/"));
        assert_eq!(names(&mount.path("x")), [""; 0], "{page}");
    }
}

/// Listings of an unsupported kind, and pages that only a script fills in.
#[test]
fn listing_error_describes_the_response() {
    for (page, says) in [
        ("api.json", "it is JSON, but no directory listing"),
        ("bucket.xml", "S3 bucket"),
        ("scripted", "script"),
    ] {
        let server = match page {
            "scripted" => WebServer::case("scripted.py", &["PORT", "never"]),
            page => WebServer::case("page-of.py", &["PORT", page]),
        };
        let url = server.url(if page == "scripted" { "/" } else { "/x/" });
        let home = tempfile::tempdir().expect("a folder");
        let mut command = crate::common::mount::fetchfs();
        let ran = run(command
            .args(["mount", "--cache-dir"])
            .arg(home.path().join("cache"))
            .arg(url)
            .arg(home.path()));
        assert!(
            ran.code == 1 && ran.err.contains(says) && !ran.err.contains("needs one"),
            "{page}: {ran:?}"
        );
    }
}

/// At the root of a mount, no parent shows that it is a directory.
#[test]
fn page_without_names_is_not_mounted() {
    let server = WebServer::case("page-of.py", &["PORT", "empty-go.html"]);
    let mut command = crate::common::mount::fetchfs();
    let home = tempfile::tempdir().expect("a folder");
    let ran = run(command
        .args(["mount", "--cache-dir"])
        .arg(home.path().join("cache"))
        .arg(server.url("/x/"))
        .arg(home.path()));
    assert!(ran.code == 1 && ran.err.contains("not an index page"), "{ran:?}");
}

#[test]
fn directory_wins_over_a_file_of_the_same_name() {
    let server = WebServer::case("page-of.py", &["PORT", "file-and-directory.html"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(names(&mount.path("x")), ["foo"]);
    assert_eq!(names(&mount.path("x/foo")), ["inner"]);
    assert!(left_out(&mount).contains("1 file is not shown"), "{}", left_out(&mount));
}

#[test]
fn directory_is_recognised_by_its_text() {
    let server = WebServer::case("directory-without-slash.py", &["PORT", "200"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(names(&mount.path("sub")), ["b.bin"]);
    assert_eq!(fs::read(mount.path("sub/b.bin")).expect("its bytes"), b"hello\n");
}

#[test]
fn query_links_are_counted_and_shown_on_request() {
    let server = WebServer::case("page-of.py", &["PORT", "query-links.html"]);
    let mount = Mount::start_of(&server.url("/"));
    assert_eq!(names(&mount.path("x")), [""; 0]);
    assert!(left_out(&mount).contains("1 link with a query"), "{}", left_out(&mount));
    assert_eq!(mount.events_with(events::NAMES_HIDDEN, " 1 "), 1);
    drop(mount);
    let mount = Mount::of(&server.url("/")).with("--query-links", "").start();
    assert_eq!(names(&mount.path("x")), ["a.csv"]);
    assert_eq!(fs::read(mount.path("x/a.csv")).expect("its bytes"), vec![b'q'; 3000]);
    assert_eq!(left_out(&mount), "");
}

#[test]
fn external_links_are_counted_and_shown_on_request() {
    let server = WebServer::case("links-elsewhere.py", &["PORT"]);
    let mount = Mount::start_of(&server.url("/"));
    for (directory, shown) in [
        ("some", &["a.txt", "b.txt"][..]),
        ("none", &[]),
        ("query", &[]),
        ("folder", &[]),
    ] {
        assert_eq!(names(&mount.path(directory)), shown, "{directory}");
    }
    let said = left_out(&mount);
    assert!(
        said.contains("2 links with a query") && said.contains("4 links outside the directory"),
        "{said}"
    );
    drop(mount);
    let mount = Mount::of(&server.url("/")).with("--external-links", "").start();
    assert_eq!(names(&mount.path("none")), ["c.txt", "d.txt"]);
    assert_eq!(names(&mount.path("some")), ["a.txt", "b.txt", "c.txt"]);
    assert_eq!(fs::read(mount.path("none/d.txt")).expect("its bytes"), b"data\n");
}

#[test]
fn javascript_pages_are_requested_in_plain_form() {
    for how in ["noscript", "asset"] {
        let server = WebServer::case("scripted.py", &["PORT", how]);
        let mut mount = Mount::start_of(&server.url("/"));
        assert_eq!(names(&mount.root()), ["sub", "top.txt"], "{how}");
        assert_eq!(names(&mount.path("sub")), ["b.txt"], "{how}");
        assert_eq!(
            fs::read(mount.path("sub/b.txt")).expect("its bytes"),
            b"hello\n",
            "{how}"
        );
        let asked = server.printed();
        assert!(
            !asked.contains("GET /sub/\n"),
            "{how}: the plain page is asked for at once: {asked}"
        );
        // The names have no query of that sort, so they are shown without the server.
        mount.unmount();
        drop(server);
        mount.add_option("--offline", "");
        mount.start();
        assert_eq!(names(&mount.path("sub")), ["b.txt"], "{how}");
    }
}

#[test]
fn pages_of_a_listing_are_followed() {
    for (how, last) in [
        ("rel", "GET /?from=3\n"),
        ("number", "GET /?page=3\n"),
        ("header", "GET /?from=4\n"),
    ] {
        let server = WebServer::case("paged.py", &["PORT", how]);
        let mount = Mount::start_of(&server.url("/"));
        assert_eq!(
            names(&mount.root()),
            ["endless", "f1", "f2", "f3", "f4", "f5", "f6"],
            "{how}"
        );
        assert_eq!(fs::read(mount.path("f6")).expect("its bytes"), b"0123456789", "{how}");
        let printed = server.printed();
        assert!(printed.contains(last), "{how}: {printed}");
        assert_eq!(left_out(&mount), "", "{how}: links to pages are no names");
        // A server that has a page for any number is not asked for all of them.
        assert_eq!(names(&mount.path("endless")), ["same"], "{how}");
        let endless = server
            .printed()
            .lines()
            .filter(|line| line.contains("/endless/?page="))
            .count();
        assert!(endless <= 2, "{how}: {endless}");
    }
}

/// Names are not gone because a page of their listing can't be had, and are gone when the server says so.
#[test]
fn failed_page_of_a_listing_takes_no_name_away() {
    let all = ["endless", "f1", "f2", "f3", "f4", "f5", "f6"];
    for how in ["rel", "number", "header"] {
        let server = WebServer::case("paged.py", &["PORT", how]);
        let mount = Mount::of(&server.url("/")).with("--attr-ttl", "0").start();
        assert_eq!(names(&mount.root()), all, "{how}");
        ask(&server, "POST", "/break");
        let failed = |line: &&str| line.ends_with("=3");
        let asked = || server.printed().lines().filter(failed).count();
        let before = asked();
        wait_until("the broken page to be asked for", || {
            // What is shown while it fails is the former listing, or an error.
            if let Ok(entries) = fs::read_dir(mount.root()) {
                assert_eq!(entries.count(), all.len(), "{how}");
            }
            asked() > before
        });
        if let Ok(entries) = fs::read_dir(mount.root()) {
            assert_eq!(entries.count(), all.len(), "{how}");
        }
        ask(&server, "POST", "/shrink");
        wait_until("the shorter listing", || {
            fs::read_dir(mount.root()).is_ok_and(|entries| entries.count() == all.len() - 2)
        });
        assert_eq!(names(&mount.root()), all[..5], "{how}");
    }
}

/// A tree whose directories are queries is shown by a later mount without the server, unless a query may be a secret.
#[test]
fn tree_of_queries_is_kept_unless_they_may_be_secret() {
    let files = ["a b.txt", "films/x.mkv", "films/new & old/y.mkv"];
    for (key, source, top) in [
        ("", "/list", ""),
        ("", "/list?dir=films", "films/"),
        ("s3cret", "/list?key=s3cret", ""),
    ] {
        let server = WebServer::case("query-tree.py", &["PORT", key][..1 + usize::from(!key.is_empty())]);
        let mut mount = Mount::of(&server.url(source)).with("--query-links", "").start();
        let read = |mount: &Mount| -> Vec<String> {
            let below = files.iter().filter_map(|file| file.strip_prefix(top));
            let read = |file: &str| fs::read_to_string(mount.path(file)).unwrap_or_else(|error| error.to_string());
            below.map(read).collect()
        };
        let expected: Vec<_> = files
            .iter()
            .filter(|file| file.starts_with(top))
            .map(|file| (*file).to_owned())
            .collect();
        assert_eq!(read(&mount), expected, "{source}");
        mount.unmount();
        let kept = run(std::process::Command::new("grep")
            .args(["-rla", "s3cret"])
            .arg(mount.cache()));
        assert_eq!(kept.out, "", "{source}: no key is stored");
        drop(server);
        if key.is_empty() {
            mount.add_option("--offline", "");
            mount.start();
            assert_eq!(read(&mount), expected, "{source}: without the server");
        }
    }
}

/// PEP 503: a file whose bytes contradict the hash in its link is not shown again.
#[test]
fn hashes_of_a_package_index_are_checked() {
    let server = WebServer::case("page-of.py", &["PORT", "simple-index.html"]);
    let mount = Mount::start_of(&server.url("/x/"));
    assert_eq!(mount.events_with(events::NOT_AN_INDEX, ""), 0, "its hashes mark it");
    assert_eq!(names(&mount.root()), ["x-1.0.tar.gz", "x-1.1.tar.gz"]);
    assert_eq!(fs::read(mount.path("x-1.0.tar.gz")).expect("its bytes"), b"0123456789");
    // It shows when the last byte is there, which the first reader may have by then.
    let _ = fs::read(mount.path("x-1.1.tar.gz"));
    mount.wait_for_event(events::HASH_MISMATCH, 1);
    let error = fs::read(mount.path("x-1.1.tar.gz")).expect_err("other bytes are published");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(fs::read(mount.path("x-1.0.tar.gz")).expect("its bytes"), b"0123456789");
}
