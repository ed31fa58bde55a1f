//! The cost of a walk through the tree: as many requests as there are things to see, but in parallel.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{Mount, run};
use crate::origin::{Content, Fault, Origin};

/// A tree of `outer` × `inner` directories with a file in each.
fn tree_of(outer: usize, inner: usize) -> Origin {
    let origin = Origin::start();
    for a in 0..outer {
        for b in 0..inner {
            origin.add(&format!("/d{a:02}/s{b:02}/leaf"), Content::noise(10, 1));
        }
    }
    origin
}

/// A mount with a `ttl` longer than a test, so that a slow machine does not change what is requested.
fn mount_of(origin: &Origin) -> Mount {
    Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start()
}

fn walk(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("to list");
    let paths = entries.map(|entry| entry.expect("an entry"));
    let mut paths: Vec<_> = paths
        .map(|entry| (entry.file_type().expect("a type").is_dir(), entry.path()))
        .collect();
    paths.sort();
    1 + paths
        .iter()
        .filter(|(is_dir, _)| *is_dir)
        .map(|(_, path)| walk(path))
        .sum::<usize>()
}

#[test]
fn walk_lists_each_directory_once_in_parallel() {
    let origin = tree_of(6, 12);
    // Long enough that parallel requests overlap.
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = mount_of(&origin);
    assert_eq!(walk(&mount.root()), 1 + 6 + 6 * 12);
    let requests = origin.log().all();
    assert_eq!(requests.0.len(), 1 + 6 + 6 * 12, "one request for each directory");
    assert!(
        requests.max_in_flight() >= 4,
        "{} side by side",
        requests.max_in_flight()
    );
    assert!(
        requests.max_in_flight() <= 13,
        "{} side by side",
        requests.max_in_flight()
    );
}

/// A program that searches one directory does not go on beside it, where a directory may be long.
#[test]
fn walk_asks_for_nothing_beside_the_directory_it_began_in() {
    let origin = tree_of(3, 12);
    let mount = mount_of(&origin);
    assert_eq!(walk(&mount.path("d01")), 1 + 12);
    let log = origin.log().all().0;
    let beside: Vec<_> = log
        .iter()
        .filter(|request| request.path != "/" && !request.path.starts_with("/d01/"))
        .collect();
    assert!(beside.is_empty(), "{beside:?}");
}

#[test]
fn random_directory_access_prefetches_nothing() {
    let origin = tree_of(6, 12);
    let mount = mount_of(&origin);
    for name in ["d03/s05", "d01/s07", "d05/s11", "d00/s03"] {
        assert_eq!(fs::read_dir(mount.path(name)).expect("to list").count(), 1);
    }
    let listed: BTreeSet<_> = origin
        .log()
        .all()
        .0
        .iter()
        .map(|exchange| exchange.path.clone())
        .collect();
    let expected = [
        "/",
        "/d03/",
        "/d03/s05/",
        "/d01/",
        "/d01/s07/",
        "/d05/",
        "/d05/s11/",
        "/d00/",
        "/d00/s03/",
    ];
    assert_eq!(listed, expected.map(str::to_owned).into());
}

/// `cp`, `rm` and `du` sort by inode number, which is unrelated to the listing's order.
#[test]
fn copy_in_inode_order_is_prefetched() {
    const FILES: usize = 60;
    let origin = Origin::start();
    for number in 0..FILES {
        origin.add(&format!("/d/f{number:02}"), Content::noise(3000, number as u64));
        origin.add(&format!("/e/s{number:02}/leaf"), Content::noise(10, 1));
    }
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = mount_of(&origin);
    for (directory, requests) in [("d", 1 + FILES), ("e", 1 + 2 * FILES)] {
        let entries = fs::read_dir(mount.path(directory)).expect("to list");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry"))
            .map(|entry| (entry.ino(), entry.path()))
            .collect();
        paths.sort();
        let mark = origin.log().mark();
        for (_, path) in paths {
            let file = if path.is_dir() {
                let mut below = fs::read_dir(&path).expect("to list");
                below.next().expect("a leaf").expect("an entry").path()
            } else {
                path
            };
            fs::read(file).expect("to read");
        }
        let asked = origin.log().since(mark);
        assert!(asked.0.len() <= requests, "{directory}: {} requests", asked.0.len());
        assert!(
            asked.max_in_flight() >= 4,
            "{directory}: {} side by side",
            asked.max_in_flight()
        );
    }
}

#[test]
fn small_files_in_order_are_prefetched_in_one_request_each() {
    const FILES: usize = 60;
    let origin = Origin::start();
    let content = |number: usize| Content::noise(3000 + number as u64, number as u64);
    for number in 0..FILES {
        origin.add(&format!("/f{number:02}"), content(number));
    }
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = mount_of(&origin);
    for number in 0..FILES {
        let read = fs::read(mount.path(format!("f{number:02}"))).expect("to read");
        assert!(read == content(number).read(0..3000 + number as u64), "file {number}");
    }
    let requests = origin.log().all();
    assert_eq!(
        requests.0.len(),
        1 + FILES,
        "the listing, and one request for each file"
    );
    assert!(
        requests.max_in_flight() >= 4,
        "{} side by side",
        requests.max_in_flight()
    );
}

#[test]
fn random_small_file_reads_prefetch_nothing() {
    let origin = Origin::start();
    for number in 0..60 {
        origin.add(&format!("/f{number:02}"), Content::noise(3000, number));
    }
    let mount = mount_of(&origin);
    for number in [40, 3, 27, 11, 55] {
        fs::read(mount.path(format!("f{number:02}"))).expect("to read");
    }
    assert_eq!(origin.log().all().0.len(), 1 + 5);
}

/// Lists these directories one after another. Returns how many of `tree_of`'s requests were in flight at a time.
fn side_by_side_of(paths: impl Iterator<Item = String>, outer: usize, inner: usize) -> usize {
    let origin = tree_of(outer, inner);
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = mount_of(&origin);
    for path in paths {
        fs::read_dir(mount.path(path)).expect("to list").for_each(drop);
    }
    origin.log().all().max_in_flight()
}

#[test]
fn two_parallel_walks_are_independent() {
    // Alternating, the worst case of two programs.
    let steps = (0..20).flat_map(|inner| ["d00", "d01"].map(|outer| format!("{outer}/s{inner:02}")));
    let together = side_by_side_of(steps, 2, 20);
    assert!(together >= 4, "{together} side by side");
}

#[test]
fn walk_in_another_order_is_detected() {
    let order = (0..24).map(|step| step ^ 1);
    let together = side_by_side_of(order.map(|inner| format!("d00/s{inner:02}")), 1, 24);
    assert!(together >= 4, "{together} side by side");
}

#[test]
fn file_prefetch_is_bounded_and_ends_out_of_order() {
    /// Three quarters of the 16 connections.
    const AHEAD: usize = 12;
    let origin = Origin::start();
    for number in 0..60 {
        origin.add(&format!("/f{number:02}"), Content::noise(3000, number));
    }
    let mount = mount_of(&origin);
    let in_order = 0..10;
    for number in in_order.clone().chain([50, 35]) {
        fs::read(mount.path(format!("f{number:02}"))).expect("to read");
    }
    let asked: BTreeSet<_> = origin
        .log()
        .all()
        .0
        .iter()
        .map(|request| request.path.clone())
        .collect();
    let expected: BTreeSet<_> = (0..in_order.end + AHEAD)
        .chain([50, 35])
        .map(|number| format!("/f{number:02}"))
        .chain(["/".to_owned()])
        .collect();
    assert!(asked.is_subset(&expected), "{:?}", asked.difference(&expected));
}

#[test]
fn cp_of_a_tree_requests_each_name_once() {
    let origin = Origin::start();
    let content = |number: usize| Content::noise(3000 + number as u64, number as u64);
    let files: Vec<String> = (0..40)
        .map(|number| format!("/d{}/e{}/f{number}", number % 2, number % 4))
        .collect();
    for (number, path) in files.iter().enumerate() {
        origin.add(path, content(number));
    }
    let mount = mount_of(&origin);
    let copy = mount.home().join("copy");
    run(Command::new("cp").arg("-r").arg(mount.root()).arg(&copy)).succeeded();
    for (number, path) in files.iter().enumerate() {
        assert!(
            fs::read(copy.join(&path[1..])).expect("a copy") == content(number).whole(),
            "{path}"
        );
    }
    // The root, two directories, four below them; and the files.
    assert_eq!(origin.log().all().0.len(), 1 + 2 + 4 + files.len());
}

#[test]
fn walk_over_many_directories_keeps_few_files_open() {
    const DIRECTORIES: usize = 200;
    /// Files that the cache keeps open after reads, and four times the number prefetched at a time.
    const MOST: usize = 64 + 4 * 12;
    let origin = Origin::start();
    for number in 0..DIRECTORIES * 6 {
        let (directory, file) = (number / 6, number % 6);
        origin.add(&format!("/d{directory:03}/f{file}"), Content::noise(300, number as u64));
    }
    let mount = mount_of(&origin);
    for number in 0..DIRECTORIES * 6 {
        let (directory, file) = (number / 6, number % 6);
        let read = fs::read(mount.path(format!("d{directory:03}/f{file}"))).expect("to read");
        assert!(read == Content::noise(300, number as u64).whole(), "file {number}");
    }
    let data = mount.cache().join("data");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", mount.pid())).expect("the daemon's descriptors");
    let open = descriptors
        .flatten()
        .filter(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target.starts_with(&data)))
        .count();
    assert!(open <= MOST, "{open} data files are open");
}

/// The number of requests of one walk over 140 directories in two levels. A directory for which `is_closed` holds
/// can't be listed: it has a page of its own.
fn requests_of_a_walk(is_closed: impl Fn(usize) -> bool) -> usize {
    let origin = tree_of(4, 34);
    for number in (0..4 * 34).filter(|number| is_closed(*number)) {
        let path = format!("/d{:02}/s{:02}/", number / 34, number % 34);
        origin.on(&path).fault(Fault::LoginPage);
    }
    let mount = mount_of(&origin);
    let mut found = Command::new("find");
    found.arg(mount.root()).args(["-type", "d"]);
    let found = found.output().expect("find");
    let names = String::from_utf8_lossy(&found.stdout).lines().count();
    assert_eq!(names, 1 + 4 + 4 * 34, "each directory is shown");
    origin.log().all().0.len()
}

/// An earlier version needed 1,840 requests for one `find` over 140 directories, 40 of them with an `index.html`:
/// each step prefetched all failed listings again.
#[test]
fn failed_listings_are_requested_once_per_walk() {
    const DIRECTORIES: usize = 1 + 4 + 4 * 34;
    assert_eq!(requests_of_a_walk(|_| false), DIRECTORIES, "none fails");
    assert_eq!(requests_of_a_walk(|number| number % 10 < 3), DIRECTORIES, "30 % fail");
    assert_eq!(requests_of_a_walk(|_| true), DIRECTORIES, "all fail");
}
