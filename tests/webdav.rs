//! WebDAV servers as packaged, and those with one peculiarity: names, sizes, dates, bytes, and how many requests they cost.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use fetchfs::internals::events;

use crate::common::files::{assert_same, drop_pages, sha256, sha256_of, write_file};
use crate::common::servers::{Guard, PASSWORD, USER, WebServer};
use crate::common::{Mount, fetchfs, run, temporary_directory, wait_until};
use crate::origin::Content;

/// The sub-directories of [`tree`], and so its listings but one.
const DIRECTORIES: usize = 4;

/// The files of [`tree`] with bytes.
const WITH_BYTES: usize = 18;

/// A tree with names that are hard for URLs and for XML, with dates of their own.
fn tree() -> tempfile::TempDir {
    let root = temporary_directory();
    let long = "l".repeat(251) + ".bin";
    let files: [(&str, u64); WITH_BYTES + 1] = [
        ("empty.txt", 0),
        ("1023.bin", 1023),
        ("chunks.bin", 200_007),
        ("two  spaces", 300),
        ("%41", 301),
        ("100%", 302),
        ("a#b?c=d", 303),
        ("plus+plus", 304),
        ("a&amp;b;c", 305),
        ("it's \"quoted\" <b>", 306),
        ("gr\u{fc}\u{df}e \u{65e5}\u{672c} \u{1f3ac}.mkv", 307),
        ("nfc-\u{e9}", 308),
        ("nfd-e\u{301}", 309),
        (".leading", 310),
        ("trailing.", 311),
        (&long, 312),
        ("[brackets] {braces}/@ ~!$'()*,=:", 313),
        ("dir%20encoded/a+b/leaf", 70_000),
        ("back`tick^caret|pipe", 314),
    ];
    for (number, (name, size)) in files.into_iter().enumerate() {
        let path = root.path().join(name);
        write_file(&path, &Content::noise(size, size));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 86_399 * number as u64);
        fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(date))
            .expect("to date a file");
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

/// Asserts that the mount shows the tree but for `hidden`, with sizes, dates to the second, and contents.
#[track_caller]
fn assert_shows(mount: &Mount, root: &Path, hidden: &[&str]) {
    let expected: BTreeSet<PathBuf> = paths(root, Path::new(""))
        .into_iter()
        .filter(|path| !hidden.iter().any(|name| path.as_os_str() == OsStr::new(name)))
        .collect();
    assert_eq!(paths(&mount.root(), Path::new("")), expected);
    for path in &expected {
        let (seen, real) = (fs::metadata(mount.path(path)), fs::metadata(root.join(path)));
        let (seen, real) = (seen.expect("to stat"), real.expect("a file of the test"));
        let seconds = |metadata: &fs::Metadata| {
            let since = metadata
                .modified()
                .expect("a time")
                .duration_since(SystemTime::UNIX_EPOCH);
            since.expect("after 1970").as_secs()
        };
        assert_eq!(seconds(&seen), seconds(&real), "the date of {}", path.display());
        if real.is_file() {
            assert_eq!(seen.len(), real.len(), "the size of {}", path.display());
            assert_same(
                &fs::read(mount.path(path)).expect("to read"),
                &fs::read(root.join(path)).expect("to read"),
                &path.display().to_string(),
            );
        }
    }
}

/// Asserts that the server's tree is mounted by `dav://`.
#[track_caller]
fn shows_what_is_there(server: &WebServer, root: &Path, hidden: &[&str]) {
    let mount = Mount::start_of(&server.dav_url("/"));
    assert_shows(&mount, root, hidden);
    let below = Mount::start_of(&server.dav_url("/dir%2520encoded/a+b"));
    assert_eq!(fs::metadata(below.path("leaf")).expect("to stat").len(), 70_000);
}

/// The kinds of sources that `fetchfs status` shows.
#[track_caller]
fn kinds(mount: &Mount) -> String {
    let status = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
    let status: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    status[0]["kinds"].to_string()
}

/// Number of requests by method.
fn count(methods: &[String], method: &str) -> usize {
    methods.iter().filter(|each| *each == method).count()
}

#[test]
fn nginx_dav_ext() {
    let root = tree();
    shows_what_is_there(&WebServer::nginx_dav(root.path(), false), root.path(), &[".leading"]);
}

#[test]
fn apache_mod_dav() {
    let root = tree();
    shows_what_is_there(&WebServer::apache_dav(root.path()), root.path(), &[]);
}

#[test]
fn lighttpd_mod_webdav() {
    let root = tree();
    shows_what_is_there(&WebServer::lighttpd_dav(root.path()), root.path(), &[]);
}

#[test]
fn rclone_serve_webdav() {
    let root = tree();
    shows_what_is_there(&WebServer::rclone_dav(root.path()), root.path(), &[]);
}

#[test]
fn wsgidav() {
    let root = tree();
    shows_what_is_there(&WebServer::wsgidav(root.path()), root.path(), &[]);
}

#[test]
fn copyparty() {
    let root = tree();
    shows_what_is_there(&WebServer::copyparty(root.path()), root.path(), &[".leading"]);
}

/// One PROPFIND a directory, and one GET a file: nothing else is asked.
#[test]
fn requests_of_ls_find_and_cp() {
    let root = tree();
    for server in [
        WebServer::nginx_dav(root.path(), false),
        WebServer::apache_dav(root.path()),
    ] {
        let mount = Mount::start_of(&server.dav_url("/"));
        run(Command::new("ls").arg("-l").arg(mount.root())).succeeded();
        assert_eq!(count(&server.methods(), "PROPFIND"), 1, "{:?}", server.methods());
        run(Command::new("find").arg(mount.root()).args(["-size", "+1k"])).succeeded();
        let methods = server.methods();
        assert_eq!(
            (count(&methods, "PROPFIND"), methods.len()),
            (1 + DIRECTORIES, 1 + DIRECTORIES),
            "{methods:?}"
        );
        let copy = temporary_directory();
        run(Command::new("cp").arg("-r").arg(mount.root()).arg(copy.path())).succeeded();
        let methods = server.methods();
        let files = paths(&mount.root(), Path::new(""));
        let with_bytes = files
            .iter()
            .filter(|path| !path.as_os_str().as_bytes().ends_with(b"/"))
            .count()
            - 1;
        assert_eq!(count(&methods, "GET"), with_bytes, "{methods:?}");
        assert_eq!(methods.len(), 1 + DIRECTORIES + with_bytes, "{methods:?}");
    }
}

/// A listing that has the entity tags of what is cached leaves nothing to ask. Another tag shows a change, even of a file
/// with the same size and date.
#[test]
fn listed_tags_confirm_what_is_cached() {
    let root = tree();
    let server = WebServer::apache_dav(root.path());
    let mut mount = Mount::start_of(&server.dav_url("/"));
    assert_shows(&mount, root.path(), &[]);
    let before = server.methods().len();
    mount.remount();
    assert_shows(&mount, root.path(), &[]);
    let methods = server.methods().split_off(before);
    assert_eq!(methods, vec!["PROPFIND"; 1 + DIRECTORIES]);
    let (path, new) = (root.path().join("100%"), Content::noise(302, 1));
    let date = fs::metadata(&path).and_then(|metadata| metadata.modified());
    write_file(&path, &new);
    let date = date.expect("a date") + Duration::from_millis(1);
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(date))
        .expect("to date a file");
    mount.remount();
    assert_same(
        &fs::read(mount.path("100%")).expect("to read"),
        &new.read(0..302),
        "the new version",
    );
}

#[test]
fn webdav_is_recognised_without_index_page() {
    let root = tree();
    for server in [
        WebServer::nginx_dav(root.path(), false),
        WebServer::apache_dav(root.path()),
        WebServer::lighttpd_dav(root.path()),
        WebServer::rclone_dav(root.path()),
    ] {
        for path in ["/", "/dir%2520encoded"] {
            let mut mount = Mount::start_of(&server.url(path));
            assert_eq!(kinds(&mount), "[\"webdav\"]", "{path}");
            assert_ne!(fs::read_dir(mount.root()).expect("to list").count(), 0);
            mount.unmount();
        }
    }
}

#[test]
fn index_page_comes_before_webdav() {
    let root = tree();
    let server = WebServer::nginx_dav(root.path(), true);
    let by_page = Mount::start_of(&server.url("/"));
    assert_eq!(kinds(&by_page), "[\"index\"]");
    let by_type = Mount::of(&server.url("/")).with("--type", "webdav").start();
    assert_eq!(kinds(&by_type), "[\"webdav\"]");
}

#[test]
fn single_file_by_webdav() {
    let root = tree();
    for server in [
        WebServer::nginx_dav(root.path(), false),
        WebServer::rclone_dav(root.path()),
    ] {
        let mount = Mount::start_of(&server.dav_url("/chunks.bin"));
        assert_eq!(
            sha256(&mount.path("chunks.bin")),
            sha256_of(&Content::noise(200_007, 200_007))
        );
    }
}

#[test]
fn read_only_login_is_enough() {
    let root = tree();
    for guard in [Guard::Basic, Guard::Digest] {
        let server = WebServer::apache_dav_guarded(root.path(), guard);
        let url = server
            .dav_url("/")
            .replacen("dav://", &format!("dav://{USER}:{PASSWORD}@"), 1);
        let mount = Mount::start_of(&url);
        assert_shows(&mount, root.path(), &[]);
        let methods = server.methods();
        assert!(
            methods
                .iter()
                .all(|method| ["PROPFIND", "GET"].contains(&method.as_str())),
            "{methods:?}"
        );
        mount.log().assert_hides(PASSWORD);
    }
}

/// dav_ext answers 500 for a directory with a broken link in it; its index page has the other names.
#[test]
fn failing_propfind_falls_back_to_the_index_page() {
    let root = tree();
    symlink("/nonexistent", root.path().join("dir%20encoded/broken")).expect("a link");
    let server = WebServer::nginx_dav(root.path(), true);
    let mount = Mount::of(&server.url("/")).with("--type", "webdav").start();
    let names: Vec<_> = fs::read_dir(mount.path("dir%20encoded"))
        .expect("to list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(names.contains(&"a+b".into()), "{names:?}");
    assert_eq!(
        fs::read(mount.path("dir%20encoded/a+b/leaf")).expect("to read").len(),
        70_000
    );
    let statuses: Vec<u16> = server.requests().iter().map(|line| line.status).collect();
    assert!(statuses.contains(&500), "{statuses:?}");
}

#[test]
fn cached_tree_is_there_without_the_server() {
    let root = tree();
    let server = WebServer::nginx_dav(root.path(), false);
    let mut mount = Mount::of(&server.dav_url("/"))
        .with("--retries", "0")
        .with("--attr-ttl", "0")
        .start();
    assert_shows(&mount, root.path(), &[".leading"]);
    drop(server);
    drop_pages(&mount.path("chunks.bin"));
    assert_shows(&mount, root.path(), &[".leading"]);
    mount.remount();
    assert_shows(&mount, root.path(), &[".leading"]);
    assert_eq!(kinds(&mount), "[\"webdav\"]");
}

/// The contents of the files of `webdav.py`, but for `a.bin`.
const SMALL: [(&str, &str); 3] = [
    ("100%.txt", "percent\n"),
    ("b c.txt", "b and c\n"),
    ("sub/d.txt", "d\n"),
];

/// A mount of `webdav.py` in this mode.
#[track_caller]
fn case(mode: &str) -> (WebServer, Mount) {
    let server = WebServer::case("webdav.py", &[mode, "PORT", "OTHER"]);
    let mount = Mount::of(&server.dav_url("/dav/"))
        .with("--chunk-size", "64KiB")
        .start();
    (server, mount)
}

/// Asserts that a mount of `webdav.py` shows all of its files.
#[track_caller]
fn assert_shows_case(mount: &Mount, mode: &str) {
    for (name, text) in SMALL {
        let read = fs::read(mount.path(name)).unwrap_or_else(|error| panic!("{mode}: {name}: {error}"));
        assert_same(&read, text.as_bytes(), &format!("{mode}: {name}"));
    }
    assert_eq!(
        fs::metadata(mount.path("a.bin")).expect("to stat").len(),
        1 << 20,
        "{mode}"
    );
    assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 4, "{mode}");
}

/// `df` shows the room at the server, which is asked for with the top of the mount and nowhere else.
#[test]
fn df_shows_the_quota_of_the_server() {
    let (server, mut mount) = case("quota");
    let shown = |mount: &Mount| {
        let found = nix::sys::statvfs::statvfs(&mount.root()).expect("df");
        let bytes = |blocks: u64| blocks * found.fragment_size();
        (
            bytes(found.blocks()),
            bytes(found.blocks_free()),
            found.blocks_available(),
        )
    };
    assert_eq!(shown(&mount), (8 << 30, 5 << 30, 0));
    assert_shows_case(&mount, "quota");
    let asked = |server: &WebServer| {
        server
            .printed()
            .lines()
            .filter(|line| line.starts_with("QUOTA"))
            .count()
    };
    assert_eq!(asked(&server), 1, "{}", server.printed());
    mount.remount();
    wait_until("the stored listing is confirmed", || asked(&server) == 2);
    wait_until("the quota is known", || shown(&mount) == (8 << 30, 5 << 30, 0));
}

#[test]
fn propfind_is_redirected_as_propfind() {
    for mode in ["301", "302", "307", "308"] {
        let (server, mount) = case(mode);
        assert_shows_case(&mount, mode);
        let printed = server.printed();
        assert!(printed.contains("PROPFIND /real/dav/ 207"), "{mode}: {printed}");
    }
}

/// The links of files lead to another server, and end after three requests.
#[test]
fn expired_links_are_asked_for_again() {
    let (server, mount) = case("links");
    assert_shows_case(&mount, "links");
    let whole = fs::read(mount.path("a.bin")).expect("to read");
    assert_eq!(whole.len(), 1 << 20);
    let file = fs::File::open(mount.path("a.bin")).expect("to open");
    drop(file);
    drop_pages(&mount.path("a.bin"));
    assert_same(
        &fs::read(mount.path("a.bin")).expect("to read"),
        &whole,
        "from the cache",
    );
    let printed = server.printed();
    assert!(
        printed.contains("GET /dav/a.bin 302") && printed.contains("GET /link/"),
        "{printed}"
    );
}

#[test]
fn faulty_hrefs_lead_to_the_files() {
    for mode in ["prefix", "relative", "raw"] {
        let (_server, mount) = case(mode);
        assert_shows_case(&mount, mode);
    }
}

#[test]
fn index_page_in_place_of_a_broken_root() {
    let (server, mount) = case("broken");
    assert_shows_case(&mount, "broken");
    assert_eq!(kinds(&mount), "[\"webdav\"]");
    assert_ne!(mount.log().events(events::INDEX_PAGE_USED), 0);
    assert!(server.printed().contains("PROPFIND /dav/ 500"));
}
