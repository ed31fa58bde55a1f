//! Names that are not there: media scanners look for thousands of them beside the files.

use std::fs;
use std::io::ErrorKind;
use std::time::Instant;

use crate::common::{Mount, PATIENCE};
use crate::origin::{Content, Origin};

const NAMES: usize = 1000;

/// A mount of a list, whose directories are known to be complete.
fn mount_of_list(origin: &Origin) -> Mount {
    origin.add("/files/film.mkv", Content::noise(1000, 1));
    let list = format!("{}\tfilms/film.mkv\t1000\n", origin.url("/files/film.mkv"));
    origin.add("/l.txt", list.as_str());
    Mount::of(&origin.url("/l.txt")).with("--attr-ttl", "1h").start()
}

/// Looks for names that are absent.
fn scan(mount: &Mount, round: usize) {
    for number in 0..NAMES {
        let sought = fs::symlink_metadata(mount.path(format!("films/{round}-{number}.nfo")));
        assert_eq!(sought.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    }
}

/// Number of reads by the mount's process (proc_pid_io(5)): each request of the kernel is one.
fn reads(mount: &Mount) -> usize {
    let io = fs::read_to_string(format!("/proc/{}/io", mount.pid())).expect("its counts");
    let count = io.lines().find_map(|line| line.strip_prefix("syscr: "));
    count.expect("a count").parse().expect("a number")
}

/// The kernel keeps for a moment that a name is absent. A machine may be too busy to look twice within that moment, so
/// it is tried until it is not.
#[test]
fn absent_names_cost_no_request_and_few_lookups() {
    let origin = Origin::start();
    let mount = mount_of_list(&origin);
    assert_eq!(fs::read_dir(mount.path("films")).expect("to list").count(), 1);
    let mark = origin.log().mark();
    let deadline = Instant::now() + PATIENCE;
    for round in 0.. {
        let start = reads(&mount);
        scan(&mount, round);
        let first = reads(&mount) - start;
        assert!(first >= NAMES, "each name is looked up once: {first}");
        scan(&mount, round);
        let second = reads(&mount) - start - first;
        if second < NAMES / 10 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{second} look-ups of {NAMES} names that were absent"
        );
    }
    assert_eq!(origin.log().since(mark).0.len(), 0);
}
