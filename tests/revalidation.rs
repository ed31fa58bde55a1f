//! Listings with validators: what is unchanged costs a 304, and a validator that does not cover sizes is found out.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fetchfs::internals::events;

use crate::common::files::names_in;
use crate::common::process::run;
use crate::common::servers::WebServer;
use crate::common::{Mount, temporary_directory, wait_until};
use crate::origin::{Content, Origin, PageTags, Requests};
use crate::prefetching::fetchfs_with;

/// Three files in `/d`, whose pages have tags.
fn site(tags: PageTags) -> Origin {
    let origin = Origin::with_files(&["/d/a", "/d/b", "/d/c"]);
    origin.set_page_tags(tags);
    origin
}

/// Each look asks the server.
fn asking_mount(source: &str) -> Mount {
    Mount::of(source).with("--attr-ttl", "0").start()
}

#[test]
fn unchanged_listing_costs_a_304() {
    let origin = site(PageTags::OfPage);
    let mut mount = asking_mount(&origin.url("/"));
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c"]);
    let mark = origin.log().mark();
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c"]);
    let asked = origin.log().since(mark);
    let of_directory = asked.statuses("/d/");
    assert!(
        !of_directory.is_empty() && of_directory.iter().all(|&status| status == 304),
        "{asked:?}"
    );

    origin.add("/d/new", Content::noise(7, 2));
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c", "new"]);
    assert_eq!(fs::metadata(mount.path("d/new")).expect("a file").len(), 7);
    let mark = origin.log().mark();
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c", "new"]);
    assert!(
        origin
            .log()
            .since(mark)
            .statuses("/d/")
            .iter()
            .all(|&status| status == 304)
    );

    // The validator is stored with the listing.
    mount.unmount();
    let mark = origin.log().mark();
    let before = origin.log().all().gets("/d/").len();
    mount.start();
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c", "new"]);
    origin
        .log()
        .wait_for("a request for the stored listing", |log| log.gets("/d/").len() > before);
    assert_eq!(names_in(&mount.path("d")), ["a", "b", "c", "new"]);
    let asked = origin.log().since(mark);
    let of_both = [asked.statuses("/"), asked.statuses("/d/")].concat();
    assert!(of_both.iter().all(|&status| status == 304), "{asked:?}");
}

/// A server may make the tag from the directory's date, which does not change with a file's size.
#[test]
fn listing_that_changes_under_its_tag_is_found_out() {
    let origin = site(PageTags::OfNames);
    let mount = asking_mount(&origin.url("/"));
    let size = || fs::metadata(mount.path("d/a")).expect("a file").len();
    assert_eq!(size(), 1000);
    origin.add("/d/a", Content::noise(2000, 1));
    assert_eq!(size(), 1000, "the server says that nothing has changed");
    let ran = run(&mut fetchfs_with(&["refresh"], &[mount.path("d")])).succeeded();
    assert_eq!(ran.out, "1 directory: 0 new, 0 gone, 1 changed\n");
    assert_eq!(size(), 2000);
    assert_eq!(mount.events(events::VALIDATORS_IGNORED), 1);
    origin.add("/d/a", Content::noise(3000, 1));
    assert_eq!(size(), 3000, "its tags count no more");
}

#[test]
fn unchanged_document_costs_a_304_after_a_remount() {
    let origin = Origin::start();
    let mut list = String::new();
    for folder in ["one", "two/deep"] {
        let path = format!("/files/{folder}/x");
        origin.add(&path, Content::noise(100, 1));
        list.push_str(&format!("{}\t{folder}/x\t100\n", origin.url(&path)));
    }
    origin.add("/l.txt", list.as_str());
    let mut mount = Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1h").start();
    let look = |mount: &Mount| {
        assert_eq!(names_in(&mount.path("one")), ["x"]);
        assert_eq!(names_in(&mount.path("two/deep")), ["x"]);
    };
    look(&mount);
    mount.unmount();
    let mark = origin.log().mark();
    mount.start();
    look(&mount);
    let asked = |log: &Requests| log.statuses("/l.txt").len();
    let before = asked(&Requests(origin.log().all().0[..mark].to_vec()));
    origin
        .log()
        .wait_for("a request for the document", |log| asked(log) > before);
    look(&mount);
    assert_eq!(origin.log().since(mark).statuses("/l.txt"), [304]);
}

/// A page that is a file on the server, as mirrors and package indexes have, is confirmed as any file is.
#[test]
fn nginx_confirms_a_page_that_is_a_file() {
    let site = temporary_directory();
    let write = |names: &[&str], seconds: u64| {
        let path = site.path().join("index.html");
        let rows: String = names
            .iter()
            .map(|name| format!("<a href=\"{name}\">{name}</a>\n"))
            .collect();
        let page = format!("<title>Index of /</title><h1>Index of /</h1><pre>{rows}</pre>");
        fs::write(&path, page).expect("a page");
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        let file = File::open(path).expect("a page");
        file.set_times(FileTimes::new().set_modified(date)).expect("to date it");
    };
    write(&["a"], 0);
    let server = WebServer::nginx(site.path());
    let mount = asking_mount(&server.url("/"));
    let look = || {
        let before = server.requests().len();
        let names = names_in(&mount.path(""));
        let asked = server.requests().split_off(before);
        let of_directory = asked.iter().filter(|line| line.path == "/");
        (names, of_directory.map(|line| line.status).collect::<Vec<u16>>())
    };
    look();
    let (names, statuses) = look();
    assert_eq!(names, ["a"]);
    assert!(
        !statuses.is_empty() && statuses.iter().all(|&status| status == 304),
        "{statuses:?}"
    );
    write(&["a", "b"], 60);
    let (names, statuses) = look();
    assert_eq!(names, ["a", "b"]);
    assert!(statuses.contains(&200), "{statuses:?}");
}

/// A directory of 300 files, which is large enough to be asked for its tag first, and a small one.
fn tree() -> tempfile::TempDir {
    let root = temporary_directory();
    for (directory, files) in [("large", 300), ("small", 3)] {
        fs::create_dir(root.path().join(directory)).expect("a directory");
        for number in 0..files {
            fs::write(root.path().join(format!("{directory}/{number}")), "old").expect("a file");
        }
    }
    root
}

fn server_with_tags(mode: &str, root: &Path) -> WebServer {
    WebServer::case("davtags.py", &[mode, "PORT", root.to_str().expect("UTF-8")])
}

/// The depths of the PROPFINDs of `/large/` from the `from`th on.
fn depths(server: &WebServer, directory: &str, from: usize) -> Vec<String> {
    let start = format!("PROPFIND /{directory}/ ");
    let printed = server.printed();
    let lines = printed.lines().filter_map(|line| line.strip_prefix(&start));
    lines.skip(from).map(|rest| rest[..1].to_owned()).collect()
}

/// Asserts that a look at a directory of the mount sends PROPFINDs of these depths.
#[track_caller]
fn assert_asks(server: &WebServer, mount: &Mount, directory: &str, names: usize, expected: &[&str]) {
    let before = depths(server, directory, 0).len();
    assert_eq!(names_in(&mount.path(directory)).len(), names);
    let mut asked = depths(server, directory, before);
    asked.dedup();
    assert_eq!(asked, expected, "{}", server.printed());
}

#[test]
fn tag_of_a_large_collection_confirms_its_listing() {
    for mode in ["ctag", "owncloud"] {
        let root = tree();
        let server = server_with_tags(mode, root.path());
        let mut mount = asking_mount(&server.dav_url("/"));
        let size = |mount: &Mount| fs::metadata(mount.path("large/7")).expect("a file").len();
        assert_asks(&server, &mount, "large", 300, &["1"]);
        assert_asks(&server, &mount, "large", 300, &["0"]);
        fs::write(root.path().join("large/7"), "newer").expect("to change a file");
        assert_eq!(size(&mount), 5, "{mode}: the tag covers contents");
        fs::write(root.path().join("large/new"), "").expect("a file");
        assert_asks(&server, &mount, "large", 301, &["0", "1"]);
        assert_asks(&server, &mount, "large", 301, &["0"]);

        assert_asks(&server, &mount, "small", 3, &["1"]);
        assert_asks(&server, &mount, "small", 3, &["1"]);

        // The tag is stored with the listing.
        let before = depths(&server, "large", 0).len();
        mount.remount();
        assert_eq!(names_in(&mount.path("large")).len(), 301);
        wait_until("the stored listing is confirmed", || {
            depths(&server, "large", 0).len() > before
        });
        assert_eq!(names_in(&mount.path("large")).len(), 301);
        let asked = depths(&server, "large", before);
        assert!(asked.iter().all(|depth| depth == "0"), "{mode}: {asked:?}");
    }
}

/// The ETag of a collection may be made from its own date. It counts only where the server's protocol says more of it.
#[test]
fn tag_of_names_alone_confirms_nothing() {
    let root = tree();
    let server = server_with_tags("names", root.path());
    let mount = asking_mount(&server.dav_url("/"));
    assert_asks(&server, &mount, "large", 300, &["1"]);
    fs::write(root.path().join("large/7"), "newer").expect("to change a file");
    assert_asks(&server, &mount, "large", 300, &["1"]);
    assert_eq!(fs::metadata(mount.path("large/7")).expect("a file").len(), 5);
}

#[test]
fn change_tag_that_lies_is_found_out() {
    let root = tree();
    let server = server_with_tags("lying", root.path());
    let mount = asking_mount(&server.dav_url("/"));
    let size = || fs::metadata(mount.path("large/7")).expect("a file").len();
    assert_eq!(size(), 3);
    fs::write(root.path().join("large/7"), "newer").expect("to change a file");
    assert_eq!(size(), 3, "the server says that nothing has changed");
    let ran = run(&mut fetchfs_with(&["refresh"], &[mount.path("large")])).succeeded();
    assert_eq!(ran.out, "1 directory: 0 new, 0 gone, 1 changed\n");
    assert_eq!(mount.events(events::VALIDATORS_IGNORED), 1);
    fs::write(root.path().join("large/7"), "newest").expect("to change a file");
    assert_eq!(size(), 6, "its tags count no more");
    assert_asks(&server, &mount, "large", 300, &["1"]);
}
