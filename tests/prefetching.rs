//! `fetchfs prefetch`: what is fetched on request, and how a prefetch is cancelled.
//!
//! The origin's log is the evidence: prefetched files are read without a request, and cancelled ones are not
//! requested.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::files::{assert_same, pread, sha256, sha256_of};
use crate::common::process::{self, Pidfd, Ran, assert_refuses};
use crate::common::{Mount, PATIENCE, fetchfs, run};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// The default chunk size.
const CHUNK: u64 = 256 * 1024;

/// An origin with a large file, a small one, and nested directories.
pub(crate) fn site() -> Origin {
    let origin = Origin::start();
    for (path, size) in [
        ("/large", 40 * MIB),
        ("/small", 1000),
        ("/empty", 0),
        ("/dir/a", 3 * MIB + 17),
        ("/dir/b c", CHUNK),
        ("/dir/deep/d", 5000),
    ] {
        origin.add(path, content(path, size));
    }
    origin
}

pub(crate) fn content(path: &str, size: u64) -> Content {
    Content::noise(size, path.len() as u64)
}

pub(crate) fn fetchfs_with(words: &[&str], paths: &[PathBuf]) -> Command {
    let mut command = fetchfs();
    command.args(words).args(paths);
    command
}

pub(crate) fn prefetch(words: &[&str], paths: &[PathBuf]) -> Ran {
    run(fetchfs_with(&["prefetch"], &[]).args(words).args(paths))
}

/// Number of data requests for any of these paths since `mark`.
pub(crate) fn data_requests(origin: &Origin, mark: usize, paths: &[&str]) -> usize {
    let since = origin.log().since(mark);
    paths.iter().map(|path| since.data(path).len()).sum()
}

#[test]
fn prefetched_file_is_read_without_requests() {
    let origin = site();
    let mut mount = Mount::start_of(&origin.url("/"));
    let paths = ["large", "small", "empty"].map(|name| mount.path(name));
    let ran = prefetch(&[], &paths).succeeded();
    assert!(ran.out.starts_with("3 files: 40.0 MiB fetched in "), "{ran:?}");
    let mark = origin.log().mark();
    assert_eq!(sha256(&mount.path("large")), sha256_of(&content("/large", 40 * MIB)));
    assert_eq!(sha256(&mount.path("small")), sha256_of(&content("/small", 1000)));
    assert_eq!(data_requests(&origin, mark, &["/large", "/small"]), 0);

    // It is recorded, too.
    mount.remount();
    let mark = origin.log().mark();
    let ran = prefetch(&[], &paths).succeeded();
    assert!(
        ran.out.contains("0 B fetched") && ran.out.contains("40.0 MiB were in the cache already"),
        "{ran:?}"
    );
    assert_eq!(sha256(&mount.path("large")), sha256_of(&content("/large", 40 * MIB)));
    assert_eq!(data_requests(&origin, mark, &["/large", "/small"]), 0);
}

#[test]
fn prefetch_of_a_directory_honours_recursive() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    let ran = prefetch(&[], &[mount.path("dir")]).succeeded();
    assert!(ran.out.contains("1 directory skipped (use --recursive)"), "{ran:?}");
    let all = origin.log().all();
    assert!(!all.data("/dir/a").is_empty() && !all.data("/dir/b c").is_empty());
    assert!(all.data("/dir/deep/d").is_empty() && all.data("/small").is_empty());

    let mark = origin.log().mark();
    prefetch(&["--recursive"], &[mount.root()]).succeeded();
    let since = origin.log().since(mark);
    assert!(since.data("/dir/a").is_empty(), "that is in the cache");
    assert!(!since.data("/dir/deep/d").is_empty() && !since.data("/large").is_empty());
    let mark = origin.log().mark();
    assert_eq!(
        sha256(&mount.path("dir/a")),
        sha256_of(&content("/dir/a", 3 * MIB + 17))
    );
    assert_eq!(
        sha256(&mount.path("dir/deep/d")),
        sha256_of(&content("/dir/deep/d", 5000))
    );
    assert_eq!(data_requests(&origin, mark, &["/dir/a", "/dir/deep/d"]), 0);
}

#[test]
fn prefetch_of_a_range_fetches_only_its_chunks() {
    let origin = site();
    let mount = Mount::start_of(&origin.url("/"));
    prefetch(&["--range", "0-1M,-64K"], &[mount.path("large")]).succeeded();
    let fetched = origin.log().all().body_bytes("/large");
    assert_eq!(fetched, MIB + CHUNK);
    let mark = origin.log().mark();
    let whole = content("/large", 40 * MIB);
    for range in [0..MIB, 40 * MIB - 64 * 1024..40 * MIB] {
        assert_same(
            &pread(&mount.path("large"), range.clone()),
            &whole.read(range),
            "a range",
        );
    }
    let since = origin.log().since(mark).ranges("/large");
    let again = |asked: &&std::ops::Range<u64>| asked.start < MIB || asked.end > 40 * MIB - 64 * 1024;
    assert_eq!(since.iter().find(again), None, "{since:?}");
    assert_refuses(
        &prefetch(&["--range", "0-5"], &[mount.path("dir")]),
        &["/dir", "byte ranges are for files"],
    );
}

/// A prefetch that has taken every connection of its mount, and stops until the gate is opened.
fn prefetch_that_is_held(origin: &Origin) -> (Mount, Child, Gate) {
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "2").start();
    let running = process::spawn(fetchfs_with(&["prefetch"], &[mount.path("large")]).stdout(Stdio::piped()));
    gate.wait_for_arrivals(2);
    (mount, running, gate)
}

#[test]
fn reader_has_priority_over_a_prefetch() {
    let origin = site();
    let (mount, mut running, gate) = prefetch_that_is_held(&origin);
    assert_eq!(sha256(&mount.path("small")), sha256_of(&content("/small", 1000)));
    assert_eq!(running.try_wait().expect("a child"), None, "the prefetch still goes on");
    gate.open();
    let status = process::wait(&mut running, PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(origin.log().all().gets("/small").len(), 1);
}

#[test]
fn ctrl_c_cancels_a_prefetch() {
    let origin = site();
    let (mount, mut running, gate) = prefetch_that_is_held(&origin);
    Pidfd::open(running.id()).expect("it runs").signal(Signal::SIGINT);
    let status = process::wait(&mut running, PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(130));
    let mut said = String::new();
    let mut output = running.stdout.take().expect("its output");
    output.read_to_string(&mut said).expect("to read");
    // What was done until then: at most the start of the file.
    assert!(said.starts_with("interrupted: 0 of "), "{said}");
    wait_until_nobody_waits(&mount);
    // Each request continues to the end of its chunk, and no further.
    gate.open();
    origin.log().wait_for("the end of its requests", |log| log.all_ended());
    let asked = origin.log().all().data("/large").len();
    // All remaining requests would have come before this answer.
    assert_eq!(sha256(&mount.path("small")), sha256_of(&content("/small", 1000)));
    assert_eq!(origin.log().all().data("/large").len(), asked);
}

/// The detection of a client's end has no event, so the mount is polled.
#[track_caller]
fn wait_until_nobody_waits(mount: &Mount) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
        let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        if status[0]["origins"][0]["waiters"] == 0 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "somebody waits: {status}");
    }
}

#[test]
fn background_prefetch_survives_kill_9() {
    let origin = site();
    let gate = Gate::new();
    // The first piece arrives; the rest waits.
    let held = origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let mut mount = Mount::start_of(&origin.url("/"));
    let ran = prefetch(&["--background"], &[mount.path("large"), mount.path("dir")]).succeeded();
    assert!(ran.out.starts_with("job 1 on "), "{ran:?}");
    gate.wait_for_arrivals(1);
    let ran = prefetch(&["--list"], &[mount.root()]).succeeded();
    assert!(ran.out.contains("job 1 on ") && ran.out.contains("/large"), "{ran:?}");
    mount.kill();
    held.lift();
    gate.open();
    mount.start();
    wait_until_no_job_is_left(&mount);
    let mark = origin.log().mark();
    assert_eq!(sha256(&mount.path("large")), sha256_of(&content("/large", 40 * MIB)));
    assert_eq!(
        sha256(&mount.path("dir/a")),
        sha256_of(&content("/dir/a", 3 * MIB + 17))
    );
    assert_eq!(data_requests(&origin, mark, &["/large", "/dir/a"]), 0);
    mount.remount();
    assert_eq!(prefetch(&["--list"], &[mount.root()]).succeeded().out, "");
}

/// Jobs have no event to wait for, so the mount is polled.
#[track_caller]
pub(crate) fn wait_until_no_job_is_left(mount: &Mount) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while prefetch(&["--list"], &[mount.root()]).succeeded().out.contains("job") {
        assert!(std::time::Instant::now() < deadline, "the job does not end");
    }
}

#[test]
fn background_prefetch_can_be_cancelled() {
    let origin = site();
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let mut mount = Mount::start_of(&origin.url("/"));
    prefetch(&["--background"], &[mount.path("large")]).succeeded();
    gate.wait_for_arrivals(1);
    prefetch(&["--cancel", "1"], &[mount.root()]).succeeded();
    wait_until_nobody_waits(&mount);
    gate.open();
    origin.log().wait_for("the end of its requests", |log| log.all_ended());
    assert_refuses(&prefetch(&["--cancel", "1"], &[mount.root()]), &["no prefetch job 1"]);
    mount.remount();
    assert_eq!(prefetch(&["--list"], &[mount.root()]).succeeded().out, "");
}

#[test]
fn failed_path_is_reported_and_others_are_fetched() {
    let origin = site();
    let mut mount = Mount::start_of(&origin.url("/"));
    assert_refuses(&prefetch(&[], &[mount.path("none")]), &["/none", "no such file"]);
    origin.on("/dir/a").data().fault(Fault::Status(403));
    assert_refuses(&prefetch(&[], &[mount.path("dir")]), &["/dir/a", "403"]);
    assert!(!origin.log().all().data("/dir/b c").is_empty());
    assert_refuses(
        &prefetch(&[], &["/etc/passwd".into()]),
        &["/etc/passwd is not in a fetchfs mount"],
    );
    mount.kill();
    assert_refuses(&prefetch(&[], &[mount.path("small")]), &["is gone", "fetchfs unmount"]);
    mount.start();
    prefetch(&[], &[mount.path("small")]).succeeded();
}
