//! `fetchfs explain` names what a slow read waited for.
//!
//! The origin holds a read in one phase until that phase is by far the longest, as `explain` itself says while the read
//! waits. Only then it goes on. So the longest phase does not depend on how fast the machine is.

use std::time::Duration;

use serde_json::Value;

use crate::common::black_hole::BlackHole;
use crate::common::files::{open_direct, read_direct};
use crate::common::process::assert_refuses;
use crate::common::{Mount, run, wait_until};
use crate::origin::{Fault, Gate};
use crate::prefetching::fetchfs_with;
use crate::status::{ReaderProcess, origin_with};

const MIB: u64 = 1 << 20;

/// How long a read is held at least.
const HELD: Duration = Duration::from_secs(1);

fn explained(mount: &Mount, path: &str) -> Value {
    let ran = run(&mut fetchfs_with(&["explain", "--json"], &[mount.path(path)])).succeeded();
    let all: Value = serde_json::from_str(&ran.out).expect("JSON");
    all[0].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The only read of a file that is in this state.
fn only(mount: &Mount, path: &str, state: &str) -> Option<Value> {
    let explained = explained(mount, path);
    let slow = explained["slow"].as_array().expect("a list").clone();
    let mut found = slow.into_iter().filter(|read| read["state"] == state);
    let first = found.next();
    assert_eq!(found.next(), None, "one read at most is {state}");
    first
}

/// Waits until the read of a file has been held in this phase for long, compared with what else it waited for.
fn wait_until_held(mount: &Mount, path: &str, phase: &str) -> Value {
    let mut last = Value::Null;
    wait_until(phase, || {
        last = only(mount, path, "waiting").unwrap_or_default();
        let held = number(&last["times_us"][phase]);
        held > HELD.as_micros() as u64 && held > 4 * (number(&last["took_us"]) - held)
    });
    assert_eq!(last["mostly"], phase);
    last
}

/// Waits until the held read has its bytes.
fn wait_until_done(mount: &Mount, path: &str, phase: &str) -> Value {
    let mut done = Value::Null;
    wait_until("the read is done", || {
        done = only(mount, path, "done").unwrap_or_default();
        !done.is_null()
    });
    assert_eq!(done["mostly"], phase, "{done:#}");
    let times = done["times_us"].as_object().expect("an object").values().map(number);
    let (sum, took) = (times.sum::<u64>(), number(&done["took_us"]));
    // Each of them is rounded down.
    assert!(
        sum <= took && took < sum + 10,
        "the phases are all of the time: {done:#}"
    );
    done
}

#[test]
fn read_held_before_the_first_byte_says_so() {
    let origin = origin_with(&[("/dir/held", 8 * MIB), ("/other", MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let gate = Gate::new();
    origin.on("/dir/held").data().fault(Fault::Hold(gate.clone()));
    let _reader = ReaderProcess::of(&mount.path("dir/held"), 2 * MIB);
    gate.wait_for_arrivals(1);
    let waiting = wait_until_held(&mount, "dir/held", "first_byte");
    assert!(waiting["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
    gate.open();
    let done = wait_until_done(&mount, "dir/held", "first_byte");
    assert_eq!((&done["offset"], &done["length"]), (&(2 * MIB).into(), &65536.into()));
    assert_eq!(done["process"]["name"], "dd");
    assert_eq!(done["server"], format!("http://{}", origin.address()));
    assert_eq!(done["miss"], "not_cached");
    assert_eq!(done["url"], origin.url("/dir/held"));

    // Directories show the reads below them.
    for (path, reads) in [("", 1), ("dir", 1)] {
        let slow = explained(&mount, path)["slow"].clone();
        assert_eq!(slow.as_array().map(Vec::len), Some(reads), "{path}: {slow:#}");
        assert_eq!(slow[0]["path"], mount.path("dir/held").display().to_string());
    }
    assert_eq!(explained(&mount, "")["reads"]["waited"], 1);

    // A file that was not read.
    let other = explained(&mount, "other");
    assert_eq!(other["slow"], serde_json::json!([]));
    assert_eq!(
        (&other["reads"]["cached"], &other["reads"]["waited"]),
        (&0.into(), &0.into())
    );

    // It needs no server, and no connection to one.
    run(&mut fetchfs_with(&["set"], &[mount.root(), "offline=true".into()])).succeeded();
    origin.go_down();
    assert_eq!(explained(&mount, "dir/held")["slow"][0]["mostly"], "first_byte");
}

#[test]
fn read_held_within_the_body_says_so() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let gate = Gate::new();
    origin.on("/data").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    gate.wait_for_arrivals(1);
    wait_until_held(&mount, "data", "transferring");
    gate.open();
    wait_until_done(&mount, "data", "transferring");
}

#[test]
fn read_behind_another_is_queued() {
    let origin = origin_with(&[("/held", 8 * MIB), ("/next", 8 * MIB)]);
    let mount = Mount::of(&origin.url("/")).with("--max-connections", "1").start();
    let gate = Gate::new();
    for path in ["/held", "/next"] {
        origin.on(path).data().fault(Fault::Hold(gate.clone()));
    }
    let _holder = ReaderProcess::of(&mount.path("held"), 0);
    gate.wait_for_arrivals(1);
    let _reader = ReaderProcess::of(&mount.path("next"), 0);
    let waiting = wait_until_held(&mount, "next", "queued");
    let advice = waiting["advice"].as_str().expect("a text");
    assert!(advice.contains("max_connections=2"), "{advice}");
    gate.open();
    wait_until_done(&mount, "next", "queued");
}

#[test]
fn throttled_read_names_the_limit() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::of(&origin.url("/")).with("--bwlimit", "1KiB").start();
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    let waiting = wait_until_held(&mount, "data", "throttled");
    assert!(
        waiting["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("bwlimit=off"))
    );
    run(&mut fetchfs_with(&["set"], &[mount.root(), "bwlimit=off".into()])).succeeded();
    wait_until_done(&mount, "data", "throttled");
}

#[test]
fn read_without_a_connection_waits_for_one() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    std::fs::metadata(mount.path("data")).expect("it is listed");
    origin.go_down();
    let hole = BlackHole::at(origin.address());
    let _reader = ReaderProcess::of(&mount.path("data"), 0);
    hole.wait_for_attempt();
    wait_until_held(&mount, "data", "connecting");
}

#[test]
fn interrupted_read_of_a_failing_server_is_remembered() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    origin.on("/data").data().fault(Fault::Status(503));
    let reader = ReaderProcess::of(&mount.path("data"), 0);
    wait_until_held(&mount, "data", "backing_off");
    drop(reader);
    let mut failed = Value::Null;
    wait_until("the read has ended", || {
        failed = only(&mount, "data", "failed").unwrap_or_default();
        !failed.is_null()
    });
    assert_eq!(failed["mostly"], "backing_off");
    assert!(failed["error"].is_string(), "{failed:#}");
}

#[test]
fn text_names_reads_of_closed_files_and_refuses_what_is_not_there() {
    let origin = origin_with(&[("/data", 8 * MIB)]);
    let mount = Mount::start_of(&origin.url("/"));
    let file = open_direct(&mount.path("data"));
    for _ in 0..3 {
        read_direct(&file, MIB, 4096).expect("to read");
    }
    drop(file);
    wait_until("it is closed", || {
        let reads = explained(&mount, "data")["reads"].clone();
        number(&reads["cached"]) + number(&reads["waited"]) == 3
    });
    let ran = run(&mut fetchfs_with(&["explain"], &[mount.path("data")])).succeeded();
    let path = mount.path("data").display().to_string();
    assert!(ran.out.starts_with(&path) && ran.out.contains("3 reads"), "{}", ran.out);
    assert_refuses(&run(&mut fetchfs_with(&["explain"], &[mount.path("none")])), &["none"]);
    assert_refuses(
        &run(&mut fetchfs_with(&["explain"], &[mount.home()])),
        &["is not in a fetchfs mount"],
    );
}
