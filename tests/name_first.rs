//! Look-ups in directories whose listings are long: a program that opens one file does not wait for all names.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::Mount;
use crate::common::files::assert_same;
use crate::origin::{Content, Fault, Gate, Origin};

/// Enough names for a page of more than a mebibyte.
const NAMES: usize = 12_000;

/// A directory `/big` with many names, a file and a directory among them.
fn site() -> Origin {
    let origin = Origin::start();
    for number in 0..NAMES {
        origin.add(&format!("/big/name-{number:06}"), Content::noise(10, 1));
    }
    origin.add("/big/film", Content::noise(5000, 2));
    origin.add("/big/sub/leaf", Content::noise(700, 3));
    origin
}

#[test]
fn file_in_a_long_listing_is_read_before_the_listing_ends() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--attr-ttl", "1h").start();
    let gate = Gate::new();
    origin.on("/big/").fault(Fault::HoldAfter(1_200_000, gate.clone()));
    let film = fs::read(mount.path("big/film")).expect("to read");
    assert_same(&film, &Content::noise(5000, 2).whole(), "a file");
    let leaf = fs::read(mount.path("big/sub/leaf")).expect("to read");
    assert_same(&leaf, &Content::noise(700, 3).whole(), "a file below");
    let inode = |name: &str| fs::metadata(mount.path(name)).expect("its attributes").ino();
    let before = ["big/film", "big/sub", "big/sub/leaf"].map(inode);

    gate.open();
    assert_eq!(fs::read_dir(mount.path("big")).expect("to list").count(), NAMES + 2);
    let after = ["big/film", "big/sub", "big/sub/leaf"].map(inode);
    assert_eq!(before, after, "the listing changes no inode number");
    let listed = fs::read_dir(mount.path("big")).expect("to list");
    let mut listed = listed.map(|entry| entry.expect("an entry"));
    let film = listed.find(|entry| entry.file_name() == "film").expect("it is listed");
    assert_eq!(std::os::unix::fs::DirEntryExt::ino(&film), before[0]);
    // The listing was requested once, and went on behind the look-ups.
    let complete = |log: &crate::origin::Requests| {
        let gets = log.gets("/big/").into_iter();
        gets.filter(|request| request.range.is_none() && request.body_bytes > 1_200_000)
            .count()
    };
    assert_eq!(complete(&origin.log().all()), 1);
    let mark = origin.log().mark();
    let again = fs::read(mount.path("big/film")).expect("to read");
    assert_same(&again, &Content::noise(5000, 2).whole(), "a file");
    assert_eq!(origin.log().since(mark).data("/big/film").len(), 0, "it is cached");
}

#[test]
fn absence_is_only_known_from_the_listing() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    let gate = Gate::new();
    origin.on("/big/").fault(Fault::HoldAfter(1_200_000, gate.clone()));
    std::thread::scope(|scope| {
        let sought = scope.spawn(|| fs::read_dir(mount.path("big")).map(Iterator::count));
        let absent = scope.spawn(|| fs::symlink_metadata(mount.path("big/nothing")).map(|_| ()));
        gate.wait_for_arrivals(1);
        origin.log().wait_for("a request for the name", |log| {
            log.0
                .iter()
                .any(|request| request.path == "/big/nothing" && request.status == Some(404))
        });
        gate.open();
        assert_eq!(sought.join().expect("a thread").expect("to list"), NAMES + 2);
        let error = absent.join().expect("a thread").expect_err("it is absent");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
}
