//! A library: many sources in one mount, each at its place, with its own filter and credentials.

mod changes;
mod conditional;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fetchfs::internals::events;
use tempfile::TempDir;

use crate::common::files::{errno_of, write_file};
use crate::common::process::Ran;
use crate::common::servers::WebServer;
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::{Content, Fault, Origin};

/// A library's file, in a directory of its own.
struct Library {
    home: TempDir,
}

impl Library {
    fn new(text: &str) -> Library {
        let library = Library {
            home: temporary_directory(),
        };
        library.write(text);
        library
    }

    fn write(&self, text: &str) {
        self.add("library.toml", text);
    }

    /// A file beside it that only its owner can read.
    fn add(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("to write");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("to close it");
    }

    fn path(&self) -> String {
        let path = self.home.path().join("library.toml");
        path.to_str().expect("a path of the harness").to_owned()
    }

    #[track_caller]
    fn mount(&self) -> Mount {
        Mount::start_of(&self.path())
    }

    /// Runs a mount that must be refused.
    fn refused(&self) -> Ran {
        let mountpoint = temporary_directory();
        run(fetchfs().arg("mount").arg(self.path()).arg(mountpoint.path()))
    }
}

fn origin_with(files: &[(&str, &str)]) -> Origin {
    let origin = Origin::start();
    for (path, text) in files {
        origin.add(path, *text);
    }
    origin
}

#[track_caller]
fn names(directory: &Path) -> BTreeSet<String> {
    let listed = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name().into_string().expect("text");
    listed.map(name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[track_caller]
fn assert_text(path: &Path, text: &str) {
    let read = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(read, text, "{}", path.display());
}

/// The sources in `fetchfs status`: place, kind and state of each.
#[track_caller]
fn status(mount: &Mount) -> Vec<(String, String, String)> {
    let ran = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let sources = status[0]["sources"].as_array().expect("the sources").iter();
    sources
        .map(|source| (text(&source["at"]), text(&source["kind"]), text(&source["state"])))
        .collect()
}

#[test]
fn sources_of_all_kinds_are_in_one_mount() {
    let origin = origin_with(&[("/pub/a b.txt", "index"), ("/pub/d/deep.txt", "deep"), ("/l", "listed")]);
    let root = temporary_directory();
    write_file(&root.path().join("bucket/key/of.txt"), &Content::from("bucket"));
    write_file(&root.path().join("dav.txt"), &Content::from("dav"));
    let (dav, s3) = (WebServer::rclone_dav(root.path()), WebServer::rclone_s3(root.path()));
    let json = WebServer::nginx_with_format(root.path(), "json");
    let library = Library::new(&format!(
        r#"
        attr_ttl = "1s"
        [[source]]
        url = "{}"
        at = "web"
        [[source]]
        url = "{}"
        at = "/cloud/of ann/"
        [[source]]
        url = "s3://bucket/key/"
        at = "cloud/s3"
        endpoint-url = "{}"
        no_sign_request = true
        [[source]]
        url = "{}"
        at = "json"
        [[source]]
        url = "names.txt"
        at = "list"
        [[source]]
        url = "{}"
        at = "single"
        "#,
        origin.url("/pub/"),
        dav.dav_url("/"),
        s3.url("/"),
        json.url("/"),
        origin.url("/pub/a b.txt"),
    ));
    library.add("names.txt", &format!("{}\tin/here.txt\t6\n", origin.url("/l")));
    let mut mount = library.mount();
    let assert_shows = |mount: &Mount| {
        assert_eq!(names(&mount.root()), set(&["cloud", "json", "list", "single", "web"]));
        assert_eq!(names(&mount.path("cloud")), set(&["of ann", "s3"]));
        for (path, text) in [
            ("web/a b.txt", "index"),
            ("web/d/deep.txt", "deep"),
            ("cloud/of ann/dav.txt", "dav"),
            ("cloud/of ann/bucket/key/of.txt", "bucket"),
            ("cloud/s3/of.txt", "bucket"),
            ("json/bucket/key/of.txt", "bucket"),
            ("list/in/here.txt", "listed"),
            ("single/a b.txt", "index"),
        ] {
            assert_text(&mount.path(path), text);
        }
    };
    assert_shows(&mount);
    let expected = [
        ("web", "index", "up"),
        ("cloud/of ann", "webdav", "up"),
        ("cloud/s3", "s3", "up"),
        ("json", "index", "up"),
        ("list", "list", "up"),
        ("single", "file", "up"),
    ];
    let expected = expected.map(|(at, kind, state)| (at.to_owned(), kind.to_owned(), state.to_owned()));
    assert_eq!(status(&mount), expected);
    // What is cached is there without any server.
    drop((dav, s3, json));
    origin.go_down();
    mount.remount();
    assert_shows(&mount);
}

#[test]
fn first_source_wins_and_directories_merge() {
    let first = origin_with(&[
        ("/one", "1"),
        ("/both", "1"),
        ("/sub/one", "1"),
        ("/sub/deeper/one", "1"),
        ("/file-here", "1"),
        ("/directory-here/x", "1"),
    ]);
    let second = origin_with(&[
        ("/two", "2"),
        ("/both", "2"),
        ("/sub/two", "2"),
        ("/sub/deeper/two", "2"),
        ("/sub/only/two", "2"),
        ("/file-here/x", "2"),
        ("/directory-here", "2"),
    ]);
    let third = origin_with(&[("/three", "3"), ("/x/three", "3")]);
    let library = Library::new(&format!(
        "[[source]]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\nat = \"sub/deeper\"\n",
        first.url("/"),
        second.url("/"),
        third.url("/")
    ));
    let mut mount = library.mount();
    for _ in 0..2 {
        let root = ["both", "directory-here", "file-here", "one", "sub", "two"];
        assert_eq!(names(&mount.root()), set(&root));
        assert_text(&mount.path("both"), "1");
        assert_text(&mount.path("file-here"), "1");
        assert_text(&mount.path("directory-here/x"), "1");
        assert_eq!(names(&mount.path("sub")), set(&["deeper", "one", "only", "two"]));
        assert_eq!(names(&mount.path("sub/deeper")), set(&["one", "three", "two", "x"]));
        assert_text(&mount.path("sub/deeper/two"), "2");
        assert_text(&mount.path("sub/deeper/x/three"), "3");
        assert_text(&mount.path("sub/only/two"), "2");
        mount.remount();
    }
    // One of the sources is enough for its own names, and the last known ones of the other stay.
    second.go_down();
    mount.remount();
    assert_eq!(names(&mount.path("sub/deeper")), set(&["one", "three", "two", "x"]));
    assert_text(&mount.path("sub/one"), "1");
}

#[test]
fn filter_leaves_names_out() {
    let origin = origin_with(&[
        ("/a.mkv", "12345"),
        ("/b.srt", "12"),
        ("/c.txt", "12345"),
        ("/.hidden.mkv", "12345"),
        ("/trash/d.mkv", "12345"),
        ("/season/e.mkv", "12345"),
        ("/season/trailer.mkv", "12345"),
        ("/other/trailer.mkv", "12345"),
    ]);
    let source = |lines: &str| format!("[[source]]\nurl = \"{}\"\n{lines}\n", origin.url("/"));
    let library = Library::new(
        &[
            source("at = \"in\"\ninclude = [\"*.mkv\", \"*.srt\"]"),
            source("at = \"out\"\nexclude = [\"trash/\", \"/season/trailer.*\", \"*.{txt,srt}\"]\nhidden = false"),
            source("at = \"large\"\nmin_size = 5\nhidden = false"),
            source("at = \"small\"\nmax_size = 4"),
            source("at = \"new\"\nnewer = \"2999-01-01\""),
            source("at = \"old\"\nnewer = \"100d\"\nexclude = \"season\""),
        ]
        .concat(),
    );
    let mount = library.mount();
    let directories = ["other", "season", "trash"];
    let with = |names: &[&str]| set(&[&directories, names].concat());
    assert_eq!(names(&mount.path("in")), with(&[".hidden.mkv", "a.mkv", "b.srt"]));
    assert_eq!(names(&mount.path("out")), set(&["a.mkv", "other", "season"]));
    assert_eq!(names(&mount.path("out/season")), set(&["e.mkv"]));
    assert_eq!(names(&mount.path("out/other")), set(&["trailer.mkv"]));
    assert_eq!(errno_of(fs::metadata(mount.path("out/trash/d.mkv"))), libc::ENOENT);
    assert_eq!(errno_of(fs::metadata(mount.path("in/c.txt"))), libc::ENOENT);
    assert_eq!(names(&mount.path("large")), with(&["a.mkv", "c.txt"]));
    assert_eq!(names(&mount.path("small")), with(&["b.srt"]));
    assert_eq!(names(&mount.path("new/season")), set(&[]));
    assert_text(&mount.path("large/c.txt"), "12345");
    assert!(!names(&mount.path("old")).contains("season"));
}

#[test]
fn source_that_is_down_at_the_start_comes_back() {
    let (up, down) = (
        origin_with(&[("/a", "up")]),
        origin_with(&[("/b", "down"), ("/d/c", "deep")]),
    );
    let library = Library::new(&format!(
        "attr_ttl = 0\n[[source]]\nurl = \"{}\"\nat = \"up\"\n[[source]]\nurl = \"{}\"\nat = \"down\"\n",
        up.url("/"),
        down.url("/")
    ));
    down.go_down();
    let mut mount = library.mount();
    mount.wait_for_event(events::SOURCE_UNAVAILABLE, 1);
    assert_text(&mount.path("up/a"), "up");
    assert_eq!(errno_of(fs::read_dir(mount.path("down"))), libc::EIO);
    assert_eq!(errno_of(fs::read(mount.path("down/b"))), libc::EIO);
    assert_eq!(status(&mount)[1].2, "down");
    down.come_back();
    wait_until("it is listed", || fs::read_dir(mount.path("down")).is_ok());
    assert_text(&mount.path("down/b"), "down");
    assert_text(&mount.path("down/d/c"), "deep");
    assert_eq!(mount.events(events::SOURCE_AVAILABLE), 1);
    assert_eq!(status(&mount)[1].2, "up");
    // What is cached is there the next time.
    mount.unmount();
    down.go_down();
    mount.start();
    assert_eq!(names(&mount.path("down")), set(&["b", "d"]));
    assert_text(&mount.path("down/d/c"), "deep");
}

#[test]
fn each_source_at_a_server_has_its_own_login() {
    let origin = origin_with(&[("/ann/f", "of ann"), ("/ben/f", "of ben"), ("/all/f", "of all")]);
    // ann:1 and ben:2
    for (user, credentials) in [("ann", "YW5uOjE="), ("ben", "YmVuOjI=")] {
        for path in [format!("/{user}/"), format!("/{user}/f")] {
            let demand = Fault::Demand("Authorization", format!("Basic {credentials}"));
            origin.on(&path).fault(demand);
        }
    }
    origin.on("/all/f").fault(Fault::Demand("X-Key", "k".to_owned()));
    let library = Library::new(&format!(
        r#"
        [[source]]
        url = "{}"
        at = "ann"
        header = "Authorization: Basic YW5uOjE="
        max-connections = 2
        [[source]]
        url = "{}"
        at = "ben"
        login = "ben"
        password_command = "echo 2; echo more"
        header = ["@headers"]
        [[source]]
        url = "{}"
        at = "all"
        header = "X-Key: k"
        "#,
        origin.url("/ann/"),
        origin.url("/ben/"),
        origin.url("/all/")
    ));
    library.add("headers", "Authorization: Basic YmVuOjI=\n");
    let mount = library.mount();
    for user in ["ann", "ben", "all"] {
        assert_text(&mount.path(format!("{user}/f")), &format!("of {user}"));
    }
    for exchange in origin.log().all().0 {
        if exchange.path.starts_with("/all") {
            assert_eq!(exchange.header("authorization"), None);
        }
    }
    mount.log().assert_hides("YW5uOjE");
}

/// Two accounts at one server: what it sets for one is never sent for the other.
#[test]
fn each_source_at_a_server_has_its_own_cookies() {
    let origin = origin_with(&[("/ann/f", "of ann"), ("/ann/d/g", "of ann"), ("/ben/f", "of ben")]);
    for (user, cookie) in [("ann", "session=of-ann; Path=/"), ("ben", "session=of-ben; Path=/")] {
        origin
            .on(&format!("/{user}/"))
            .fault(Fault::Header("Set-Cookie", cookie));
        let demand = Fault::Demand("Cookie", format!("session=of-{user}"));
        origin.on(&format!("/{user}/f")).fault(demand);
    }
    let library = Library::new(&format!(
        "[[source]]\nurl = \"{}\"\nat = \"ann\"\nlogin = \"ann\"\npassword_command = \"echo 1\"\n\
         [[source]]\nurl = \"{}\"\nat = \"ben\"\nlogin = \"ben\"\npassword_command = \"echo 2\"\n",
        origin.url("/ann/"),
        origin.url("/ben/"),
    ));
    let mount = library.mount();
    // Each server's answer to one is between two requests of the other.
    for path in ["ann", "ben", "ann/d"] {
        names(&mount.path(path));
    }
    for user in ["ann", "ben"] {
        assert_text(&mount.path(format!("{user}/f")), &format!("of {user}"));
    }
    assert_text(&mount.path("ann/d/g"), "of ann");
    let all = origin.log().all().0;
    for exchange in &all {
        let other = if exchange.path.starts_with("/ann/") {
            "of-ben"
        } else {
            "of-ann"
        };
        let cookie = exchange.header("cookie").unwrap_or_default();
        assert!(!cookie.contains(other), "{}: {cookie}", exchange.path);
    }
}

#[test]
fn source_has_its_own_rate_and_connections() {
    let (origin, size) = (Origin::start(), 3_000_000);
    origin.add("/slow/f", Content::noise(size, 1));
    origin.add("/fast/f", Content::noise(size, 2));
    let source = |at: &str, more: &str| {
        format!(
            "[[source]]\nurl = \"{}\"\nat = \"{at}\"\n{more}",
            origin.url(&format!("/{at}/"))
        )
    };
    let text = source("slow", "bwlimit = \"1MB\"\nmax_connections = 2\n") + &source("fast", "");
    let mount = Library::new(&text).mount();
    assert_eq!(
        fs::read(mount.path("fast/f")).expect("to read"),
        Content::noise(size, 2).whole()
    );
    let begun = Instant::now();
    assert_eq!(
        fs::read(mount.path("slow/f")).expect("to read"),
        Content::noise(size, 1).whole()
    );
    // The last pieces are not waited for.
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(origin.log().all().max_in_flight() <= 2);
}
