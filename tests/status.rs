//! What `fetchfs status` says of a mount: exact figures, what waits and why, failures, open files.
//!
//! The origin's log is the evidence for figures. Reads are direct, so that each of them reaches the daemon.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::black_hole::BlackHole;
use crate::common::files::{errno_of, open_direct, read_direct};
use crate::common::process::{Ran, assert_refuses};
use crate::common::{Mount, run, wait_until};
use crate::origin::{Fault, Gate, Origin};
use crate::prefetching::{content, fetchfs_with, prefetch};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Chunks of the default size.
const CHUNK: u64 = 256 * KIB;

pub fn origin_with(files: &[(&str, u64)]) -> Origin {
    let origin = Origin::start();
    for &(path, size) in files {
        origin.add(path, content(path, size));
    }
    origin
}

/// The mount's status as JSON.
fn status_of(mount: &Mount) -> Value {
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let all: Value = serde_json::from_str(&ran.out).expect("JSON");
    all[0].clone()
}

fn text_of(mount: &Mount) -> String {
    run(&mut fetchfs_with(&["status"], &[mount.root()])).succeeded().out
}

/// A process that reads 64 KiB of a file at an offset. Killed when this is dropped.
pub struct ReaderProcess(Child);

impl ReaderProcess {
    pub fn of(path: &Path, offset: u64) -> ReaderProcess {
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", path.display()));
        dd.args(["of=/dev/null", "bs=65536", "count=1", "iflag=direct"]);
        dd.arg(format!("skip={}", offset / (64 * KIB)));
        let child = dd.stderr(Stdio::null()).spawn().expect("to start dd");
        ReaderProcess(child)
    }
}

impl Drop for ReaderProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn totals_are_those_of_the_origins_log() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("data"));
    let read = |offset: u64, len: u64| {
        let read = read_direct(&file, offset, len as usize).expect("to read");
        assert_eq!(read.len() as u64, len);
    };
    for offset in [3 * MIB, 7 * MIB, 5 * MIB] {
        read(offset, 64 * KIB);
    }
    read(7 * MIB, 64 * KIB);
    origin.log().wait_for("the end of all responses", |all| all.all_ended());
    let sent = origin.log().all().body_bytes("/data");
    let totals = &status_of(&mount)["totals"];
    assert_eq!(
        (&totals["miss_reads"], &totals["miss_bytes"]),
        (&3.into(), &(192 * KIB).into())
    );
    assert_eq!(
        (&totals["hit_reads"], &totals["hit_bytes"]),
        (&1.into(), &(64 * KIB).into())
    );
    assert_eq!(totals["fetched_bytes"], sent);
    assert_eq!(totals["used_bytes"], 192 * KIB);
    assert_eq!(totals["failed_reads"], 0);

    // What came with the first read is used by later ones, each byte once.
    read(3 * MIB, CHUNK);
    read(3 * MIB, CHUNK);
    let totals = &status_of(&mount)["totals"];
    assert_eq!(totals["used_bytes"], 128 * KIB + CHUNK);
    assert_eq!(totals["hit_bytes"], 64 * KIB + 2 * CHUNK);

    // Closing the file loses no count.
    drop(file);
    let closed = &status_of(&mount)["totals"];
    for name in ["hit_reads", "hit_bytes", "miss_reads", "miss_bytes", "used_bytes"] {
        assert_eq!(closed[name], totals[name], "{name}");
    }
}

/// Number of the reads that waited, over all causes.
fn waited(reads: &Value) -> u64 {
    let waited = reads["waited"].as_object().expect("an object");
    waited.values().filter_map(|cause| cause["count"].as_u64()).sum()
}

#[test]
fn reads_are_counted_by_cause_and_misses_by_reason() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("data"));
    let read = |offset: u64| drop(read_direct(&file, offset, 4096).expect("to read"));
    let missed = |reason: &str| status_of(&mount)["reads"]["misses"][reason].as_u64().expect("a number");
    read(5 * MIB);
    assert_eq!(missed("not_cached"), 1);
    run(&mut fetchfs_with(&["evict"], &[mount.path("data")])).succeeded();
    read(5 * MIB);
    assert_eq!(missed("evicted"), 1);
    let gate = Gate::new();
    origin.on("/data").data().fault(Fault::HoldAfter(1000, gate.clone()));
    thread::scope(|scope| {
        // Both wait for the same chunk.
        scope.spawn(|| read(2 * MIB));
        gate.wait_for_arrivals(1);
        scope.spawn(|| read(2 * MIB + 8192));
        wait_until("both wait", || {
            status_of(&mount)["waiting"]["reads"] == serde_json::json!({ "transferring": 2 })
        });
        gate.open();
    });
    assert_eq!((missed("not_cached"), missed("in_flight")), (2, 1));
    read(2 * MIB);
    let status = status_of(&mount);
    let (reads, totals) = (&status["reads"], &status["totals"]);
    assert_eq!(reads["cached"]["count"], totals["hit_reads"]);
    assert_eq!(waited(reads), totals["miss_reads"]);
    let buckets = reads["cached"]["buckets"].as_array().expect("a list");
    assert_eq!(
        reads["cached"]["count"],
        buckets.iter().filter_map(Value::as_u64).sum::<u64>()
    );
    assert!(waited(reads) >= 4);
}

#[test]
fn miss_of_a_new_version_says_so() {
    let origin = origin_with(&[("/data", 4 * MIB), ("/other", 4 * MIB)]);
    let mut mount = Mount::start_of(&origin.url("/"));
    let read = |mount: &Mount, name: &str| {
        let file = open_direct(&mount.path(name));
        read_direct(&file, 2 * MIB, 4096).expect("to read");
    };
    // To its end: a chunk that is still on its way when the mount ends is not recorded.
    fs::read(mount.path("data")).expect("to read");
    mount.remount();
    origin.add("/data", content("/data", 5 * MIB));
    read(&mount, "data");
    read(&mount, "other");
    let misses = &status_of(&mount)["reads"]["misses"];
    assert_eq!(
        (&misses["version_changed"], &misses["not_cached"]),
        (&1.into(), &1.into()),
        "{misses:#}"
    );
}

#[test]
fn requests_are_counted_by_origin_and_status() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("data"));
    read_direct(&file, 4 * MIB, 4096).expect("to read");
    let all = origin.log().wait_for("the end of all responses", |all| all.all_ended());
    let status = status_of(&mount);
    let of_origin = &status["origins"][0];
    assert_eq!(of_origin["origin"], format!("http://{}", origin.address()));
    assert_eq!(of_origin["responses"]["206"], all.data("/data").len());
    let bodies = all.body_bytes("/data") + all.body_bytes("/");
    assert_eq!(of_origin["received_bytes"], bodies);
    assert_eq!(of_origin["unanswered_requests"], 0);
}

#[test]
fn evictions_are_counted() {
    let origin = origin_with(&[("/one", 2 * MIB), ("/two", MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let paths = [mount.path("one"), mount.path("two")];
    prefetch(&[], &paths).succeeded();
    assert_eq!(status_of(&mount)["totals"]["evicted_files"], 0);
    run(&mut fetchfs_with(&["evict"], &paths)).succeeded();
    let totals = &status_of(&mount)["totals"];
    assert_eq!(totals["evicted_files"], 2);
    assert!(totals["evicted_bytes"].as_u64() >= Some(3 * MIB), "{totals}");
    assert_eq!(totals["used_bytes"], 0, "no program has read them");
}

/// Waits until a read waits for this, and for nothing else.
fn wait_for_phase(mount: &Mount, phase: &str) -> Value {
    let mut last = Value::Null;
    wait_until(phase, || {
        last = status_of(mount);
        last["waiting"]["reads"] == serde_json::json!({ phase: 1 })
    });
    last
}

#[test]
fn waiting_read_shows_what_it_waits_for() {
    let origin = origin_with(&[
        ("/held", 8 * MIB),
        ("/cut", 8 * MIB),
        ("/next", 8 * MIB),
        ("/busy", 8 * MIB),
    ]);
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    let (before, within) = (Gate::new(), Gate::new());
    // Both, or the second one would take the connection of the first, which brings nothing.
    origin.on("/held").data().fault(Fault::Hold(before.clone()));
    origin.on("/next").data().fault(Fault::Hold(before.clone()));
    {
        let _reader = ReaderProcess::of(&mount.path("held"), 2 * MIB);
        before.wait_for_arrivals(1);
        let status = wait_for_phase(&mount, "first_byte");
        let longest = &status["waiting"]["longest"][0];
        assert_eq!(longest["url"], origin.url("/held"));
        assert_eq!(longest["offset"], 2 * MIB);
        let waited = |status: &Value| status["waiting"]["longest"][0]["waited_ms"].as_u64().expect("a number");
        let first = waited(&status);
        wait_until("it waits longer", || waited(&status_of(&mount)) > first);
        let shown = text_of(&mount);
        assert!(shown.contains("1 read waiting for the first byte"), "{shown}");

        // All connections are taken.
        let _queued = ReaderProcess::of(&mount.path("next"), 0);
        wait_until("the other one is queued", || {
            status_of(&mount)["waiting"]["reads"] == serde_json::json!({ "first_byte": 1, "queued": 1 })
        });
        before.open();
    }
    wait_until("nothing waits", || {
        status_of(&mount)["waiting"]["reads"] == serde_json::json!({})
    });

    origin.on("/cut").data().fault(Fault::HoldAfter(1000, within.clone()));
    {
        let _reader = ReaderProcess::of(&mount.path("cut"), 0);
        within.wait_for_arrivals(1);
        wait_for_phase(&mount, "transferring");
        within.open();
    }
    origin.on("/busy").data().fault(Fault::Status(503));
    {
        let _reader = ReaderProcess::of(&mount.path("busy"), 0);
        wait_for_phase(&mount, "backing_off");
    }
    wait_until("nothing waits", || {
        status_of(&mount)["waiting"]["reads"] == serde_json::json!({})
    });
}

#[test]
fn throttled_read_shows_as_throttled() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::of(&origin.url("/")).with("--bwlimit", "1KiB").start();
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    wait_for_phase(&mount, "throttled");
}

#[test]
fn read_without_a_connection_shows_as_connecting() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    fs::metadata(mount.path("data")).expect("it is listed");
    origin.go_down();
    let hole = BlackHole::at(origin.address());
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    hole.wait_for_attempt();
    wait_for_phase(&mount, "connecting");
}

#[test]
fn failures_are_listed_once_with_their_counts() {
    let origin = origin_with(&[("/broken", MIB), ("/dir/denied", MIB)]);
    origin.on("/broken").data().fault(Fault::Status(500));
    origin.on("/dir/").fault(Fault::Status(403));
    let mount = Mount::of(&origin.url("/")).with("--retries", "0").start();
    assert_eq!(status_of(&mount)["failures"], serde_json::json!([]));
    assert!(!text_of(&mount).contains("EIO"));
    let file = open_direct(&mount.path("broken"));
    for _ in 0..3 {
        assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::EIO);
    }
    let listed = fs::read_dir(mount.path("dir")).map(drop);
    assert_eq!(listed.expect_err("it is denied").kind(), ErrorKind::PermissionDenied);
    let status = status_of(&mount);
    let failures = status["failures"].as_array().expect("a list");
    let of = |operation: &str| {
        let mut found = failures.iter().filter(|seen| seen["operation"] == operation);
        (found.next().expect("it is listed"), found.next())
    };
    let (read, another) = of("read");
    assert_eq!(another, None);
    assert_eq!(
        (&read["errno"], &read["http_status"], &read["count"]),
        (&"EIO".into(), &500.into(), &3.into())
    );
    assert_eq!(read["url"], origin.url("/broken"));
    assert!(read["first"].as_u64() <= read["last"].as_u64() && read["last"].as_u64() > Some(1_600_000_000));
    let (list, _) = of("list");
    assert_eq!((&list["errno"], &list["http_status"]), (&"EACCES".into(), &403.into()));
    assert_eq!(list["url"], origin.url("/dir/"));
    assert_eq!(status["totals"]["failed_reads"], 3);
    let shown = text_of(&mount);
    for word in ["EIO", "EACCES", "/broken", "/dir/", "3 times"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn open_files_show_their_readers() {
    let origin = origin_with(&[("/dir/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    assert_eq!(status_of(&mount)["open_file_count"], 0);
    let file = open_direct(&mount.path("dir/data"));
    read_direct(&file, 4 * MIB, 64 << 10).expect("to read");
    let status = status_of(&mount);
    assert_eq!(status["open_file_count"], 1);
    let open = &status["open_files"][0];
    assert_eq!(open["path"], "dir/data");
    assert_eq!(open["url"], origin.url("/dir/data"));
    assert_eq!(open["position"], 4 * MIB + 64 * KIB);
    assert_eq!(open["read_bytes"], 64 * KIB);
    assert_eq!(open["process"]["pid"], std::process::id());
    drop(file);
    // The kernel releases a file a moment after its last close.
    wait_until("it is closed", || status_of(&mount)["open_file_count"] == 0);
}

fn check(mount: &Mount) -> Ran {
    run(&mut fetchfs_with(&["status", "--check"], &[mount.root()]))
}

#[test]
fn check_of_a_good_mount_succeeds() {
    let origin = origin_with(&[("/data", MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let mark = origin.log().mark();
    let ran = check(&mount).succeeded();
    assert_eq!(ran.out, format!("{}: well\n", mount.root().display()));
    assert!(origin.log().since(mark).gets("/").is_empty(), "no server is asked");
    // A server that is down is no fault of the mount: to start it again would not help.
    origin.go_down();
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    wait_until("the server is known to be down", || {
        check(&mount).succeeded().out.contains("is down: ")
    });
}

#[test]
fn check_of_a_dead_mount_fails() {
    let origin = origin_with(&[("/data", MIB)]);
    let mut mount = Mount::start_of(&origin.url("/"));
    mount.kill();
    let ran = check(&mount);
    assert_refuses(&ran, &["no process serves", "fetchfs unmount"]);
    assert_eq!(ran.out, "");
    let outside = run(&mut fetchfs_with(&["status", "--check"], &[mount.home()]));
    assert_refuses(&outside, &["is not in a fetchfs mount"]);
}

#[test]
fn check_of_a_frozen_mount_fails_in_time() {
    let origin = origin_with(&[("/data", MIB)]);
    let (frozen, other) = (Mount::start_of(&origin.url("/")), Mount::start_of(&origin.url("/")));
    frozen.signal(Signal::SIGSTOP);
    let ran = check(&frozen);
    let both = run(&mut fetchfs_with(
        &["status", "--check"],
        &[frozen.root(), other.root()],
    ));
    frozen.signal(Signal::SIGCONT);
    assert_refuses(&ran, &["its process has not responded for"]);
    assert_refuses(&both, &["its process has not responded for"]);
    assert_eq!(
        both.out,
        format!("{}: well\n", other.root().display()),
        "the other is well"
    );
    wait_until("it responds again", || check(&frozen).code == 0);
}

#[test]
fn status_names_options_and_log_in_narrow_lines() {
    let origin = origin_with(&[("/data", MIB)]);
    let mount = Mount::of(&origin.url("/"))
        .with("--retries", "5")
        .with("--exec", "")
        .start();
    let status = status_of(&mount);
    let options = status["options"].as_array().expect("a list");
    assert!(
        options.contains(&"--retries=5".into()) && options.contains(&"--exec".into()),
        "{options:?}"
    );
    assert_eq!(status["log"], mount.home().join("log").display().to_string());
    let shown = text_of(&mount);
    assert!(shown.starts_with(&mount.root().display().to_string()), "{shown}");
    for line in shown.lines() {
        let words = line.split_whitespace().count();
        assert!(line.chars().count() <= 80 || words <= 2, "{line}");
    }
}

#[test]
fn one_frame_of_top_shows_open_files_and_failures() {
    let origin = origin_with(&[("/dir/data", 8 * MIB), ("/broken", MIB)]);
    origin.on("/broken").data().fault(Fault::Status(500));
    let mount = Mount::of(&origin.url("/")).with("--retries", "0").start();
    let file = open_direct(&mount.path("dir/data"));
    read_direct(&file, 4 * MIB, 64 << 10).expect("to read");
    assert_eq!(
        errno_of(read_direct(&open_direct(&mount.path("broken")), 0, 4096)),
        libc::EIO
    );
    let ran = run(&mut fetchfs_with(&["top", "--once"], &[mount.root()])).succeeded();
    let root = mount.root().display().to_string();
    for part in [root.as_str(), "dir/data", "EIO", &origin.url("/broken"), "q quit"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    let without = run(&mut fetchfs_with(&["top"], &[mount.root()]));
    assert_refuses(&without, &["not a terminal", "--once"]);
}
