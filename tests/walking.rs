//! What a walk through the tree costs: as many requests as there are things to see, but not one after another.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::Mount;
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
fn a_walk_lists_each_directory_once_and_several_side_by_side() {
    let origin = tree_of(6, 12);
    // Long enough that what is asked for side by side is seen side by side.
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(walk(&mount.root()), 1 + 6 + 6 * 12);
    let requests = origin.log().all();
    assert_eq!(requests.0.len(), 1 + 6 + 6 * 12, "one request for each directory");
    assert!(
        requests.max_in_flight() >= 4,
        "{} side by side",
        requests.max_in_flight()
    );
    assert!(
        requests.max_in_flight() <= 8,
        "{} side by side",
        requests.max_in_flight()
    );
}

#[test]
fn directories_opened_here_and_there_are_all_that_is_listed() {
    let origin = tree_of(6, 12);
    let mount = Mount::start_of(&origin.url("/"));
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

#[test]
fn small_files_read_in_order_are_fetched_ahead_each_with_one_request() {
    const FILES: usize = 60;
    let origin = Origin::start();
    let content = |number: usize| Content::noise(3000 + number as u64, number as u64);
    for number in 0..FILES {
        origin.add(&format!("/f{number:02}"), content(number));
    }
    origin.on_any().fault(Fault::Latency(Duration::from_millis(20)));
    let mount = Mount::start_of(&origin.url("/"));
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
fn small_files_read_here_and_there_are_all_that_is_fetched() {
    let origin = Origin::start();
    for number in 0..60 {
        origin.add(&format!("/f{number:02}"), Content::noise(3000, number));
    }
    let mount = Mount::start_of(&origin.url("/"));
    for number in [40, 3, 27, 11, 55] {
        fs::read(mount.path(format!("f{number:02}"))).expect("to read");
    }
    assert_eq!(origin.log().all().0.len(), 1 + 5);
}
