//! Widely used servers as packaged: their listings, what `stat` shows, and what `cp -r` copies.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::files::{drop_pages, pread, sha256, sha256_of, write_file};
use crate::common::servers::{ApacheIndex, Certificates, WebServer};
use crate::common::{Mount, run, temporary_directory};
use crate::origin::Content;

const MIB: u64 = 1 << 20;

/// A tree that is hard for index pages: nested and empty directories, sizes that are rounded, long and unusual names.
fn tree() -> tempfile::TempDir {
    let root = temporary_directory();
    let long = format!("{}.bin", "long name ".repeat(20));
    let files: [(&str, u64); 16] = [
        ("empty.txt", 0),
        ("one.txt", 1),
        ("1023.bin", 1023),
        ("1024.bin", 1024),
        ("rounded.bin", 1_300_007),
        ("chunk.bin", 256 * 1024),
        ("with space & more.txt", 300),
        ("100% #1 what?.txt", 301),
        ("plus+equals=.txt", 302),
        ("it's \"quoted\".txt", 303),
        ("größe 日本 🎬.mkv", 304),
        ("semi;colon,comma.txt", 305),
        ("[brackets] {braces}.txt", 306),
        (&long, 307),
        ("dir with space/below/leaf.bin", 70_000),
        ("dir%20encoded/file.txt", 12),
    ];
    for (name, size) in files {
        write_file(&root.path().join(name), &Content::noise(size, size));
    }
    fs::create_dir(root.path().join("empty directory")).expect("a directory");
    root
}

/// All paths below a directory, relative to it; directories end in `/`.
fn paths(directory: &Path, prefix: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let entry = entry.expect("an entry");
        let path = prefix.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            all.extend(paths(&entry.path(), &path));
            all.insert(path.join(""));
        } else {
            all.insert(path);
        }
    }
    all
}

/// Asserts that the mount of this server shows the files on the server's disk.
fn shows_what_is_there(start: impl Fn(&Path) -> WebServer) {
    let root = tree();
    let server = start(root.path());
    let mount = Mount::start_of(&server.url("/"));
    let expected = paths(root.path(), Path::new(""));
    assert_eq!(paths(&mount.root(), Path::new("")), expected);
    for path in &expected {
        let (seen, real) = (
            fs::metadata(mount.path(path)).expect("to stat"),
            fs::metadata(root.path().join(path)),
        );
        let real = real.expect("a file of the test");
        if real.is_file() {
            assert_eq!(seen.len(), real.len(), "the size of {}", path.display());
            let (seen, real) = (seen.modified().expect("a time"), real.modified().expect("a time"));
            let apart = real.duration_since(seen).unwrap_or_else(|earlier| earlier.duration());
            // Index pages show minutes.
            assert!(apart <= Duration::from_secs(60), "{} is {apart:?} off", path.display());
        }
    }
    let copy = temporary_directory();
    run(Command::new("cp").arg("-r").arg(mount.path(".")).arg(copy.path())).succeeded();
    run(Command::new("diff").arg("-r").arg(root.path()).arg(copy.path())).succeeded();
}

#[test]
fn nginx() {
    shows_what_is_there(WebServer::nginx);
}

#[test]
fn apache_with_a_plain_list() {
    shows_what_is_there(|root| WebServer::apache(root, ApacheIndex::Plain));
}

#[test]
fn apache_with_columns() {
    shows_what_is_there(|root| WebServer::apache(root, ApacheIndex::Fancy));
}

#[test]
fn apache_with_a_table() {
    shows_what_is_there(|root| WebServer::apache(root, ApacheIndex::Table));
}

#[test]
fn lighttpd() {
    shows_what_is_there(WebServer::lighttpd);
}

#[test]
fn caddy() {
    shows_what_is_there(WebServer::caddy);
}

#[test]
fn nginx_without_ranges() {
    shows_what_is_there(WebServer::nginx_without_ranges);
}

#[test]
fn nginx_with_gzip() {
    shows_what_is_there(WebServer::nginx_with_gzip);
}

#[test]
fn rclone_serve_http() {
    shows_what_is_there(WebServer::rclone);
}

#[test]
fn through_squid_and_tinyproxy_with_tls_and_without() {
    let (root, content) = (temporary_directory(), Content::noise(3 * MIB + 5, 54));
    write_file(&root.path().join("f"), &content);
    let certificates = Certificates::new();
    let servers = [
        WebServer::nginx(root.path()),
        WebServer::nginx_with_tls(root.path(), &certificates),
    ];
    let starts: [fn() -> WebServer; 2] = [WebServer::squid, WebServer::tinyproxy];
    for start in starts {
        let proxy = start();
        for server in &servers {
            let plan = Mount::of(&server.url("/")).with("--ca-cert", &certificates.path("ca.pem"));
            let mut mount = plan.with("--proxy", &proxy.url("")).start();
            assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
            mount.unmount();
            let address = server.url("").split_once("//").expect("a URL").1.to_owned();
            assert!(
                proxy.noted().contains(&address),
                "it was not asked for {address}: {}",
                proxy.noted()
            );
        }
    }
}

#[test]
fn python_without_ranges() {
    shows_what_is_there(WebServer::python);
}

#[test]
fn subdirectory_of_a_server_is_a_source() {
    let root = tree();
    let server = WebServer::nginx(root.path());
    let mount = Mount::start_of(&server.url("/dir%20with%20space/"));
    assert_eq!(
        fs::metadata(mount.path("below/leaf.bin")).expect("to stat").len(),
        70_000
    );
    assert_eq!(
        fs::read_dir(mount.root()).expect("to list").count(),
        1,
        "the parent is no name in it"
    );
}

#[test]
fn non_utf8_names_are_shown_unchanged() {
    let root = temporary_directory();
    let name = OsStr::from_bytes(b"caf\xe9 \xff.txt");
    write_file(&root.path().join(name), &Content::noise(70_000, 52));
    // lighttpd refuses them with 400 by default.
    let apache = |root: &Path| WebServer::apache(root, ApacheIndex::Fancy);
    let servers: [fn(&Path) -> WebServer; 4] = [WebServer::nginx, apache, WebServer::caddy, WebServer::python];
    for start in servers {
        let server = start(root.path());
        let mount = Mount::start_of(&server.url("/"));
        let names: Vec<_> = fs::read_dir(mount.root())
            .expect("to list")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, [name]);
        assert_eq!(sha256(&mount.path(name)), sha256_of(&Content::noise(70_000, 52)));
    }
}

#[test]
fn query_of_a_single_file_is_sent_but_not_shown() {
    let root = temporary_directory();
    let content = Content::noise(70_000, 53);
    write_file(&root.path().join("a b.bin"), &content);
    let server = WebServer::nginx(root.path());
    let mount = Mount::start_of(&server.url("/a%20b.bin?token=x%26y&plain"));
    assert_eq!(sha256(&mount.path("a b.bin")), sha256_of(&content));
    let requests = server.requests();
    assert!(
        !requests.is_empty() && requests.iter().all(|line| line.path == "/a%20b.bin?token=x%26y&plain"),
        "{requests:?}"
    );
}

#[test]
fn each_byte_of_a_large_file_is_transferred_once() {
    let root = temporary_directory();
    let content = Content::noise(40_000_003, 51);
    write_file(&root.path().join("large"), &content);
    for server in [
        WebServer::nginx(root.path()),
        WebServer::apache(root.path(), ApacheIndex::Fancy),
    ] {
        let mount = Mount::start_of(&server.url("/"));
        for round in 0..2 {
            run(Command::new("cmp")
                .arg(mount.path("large"))
                .arg(root.path().join("large")))
            .succeeded();
            drop_pages(&mount.path("large"));
            // Apache's page rounds the size, so the mount requests it with one byte.
            let bytes = server.data_bytes_for("/large");
            assert!(
                bytes == content.size() || bytes == content.size() + 1,
                "round {round}: {bytes}"
            );
        }
        assert_eq!(
            pread(&mount.path("large"), 39_999_990..50_000_000),
            content.read(39_999_990..50_000_000)
        );
    }
}

#[test]
fn nginx_with_limit_req_is_walked_and_copied() {
    let root = temporary_directory();
    for number in 0..24 {
        let path = format!("d{:02}/f{number}", number / 3);
        write_file(&root.path().join(path), &Content::noise(500 + number, number));
    }
    let server = WebServer::nginx_that_limits(root.path());
    let mount = Mount::start_of(&server.url("/"));
    let find = run(Command::new("find").arg(mount.root())).succeeded();
    assert_eq!(find.out.lines().count(), 1 + 8 + 24, "{}", find.out);
    let copy = mount.home().join("copy");
    run(Command::new("cp").arg("-r").arg(mount.root()).arg(&copy)).succeeded();
    run(Command::new("diff").arg("-r").arg(root.path()).arg(&copy)).succeeded();
    let refused = server.requests().iter().filter(|line| line.status == 503).count();
    assert_ne!(refused, 0, "it never came to the limit");
}
