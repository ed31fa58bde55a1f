//! A broken transfer continues where it stopped. Failed and silent requests are retried after growing pauses, and not
//! for ever.

use std::fs::File;
use std::time::Duration;

use crate::cache::{assert_reads, origin_with};
use crate::common::Mount;
use crate::common::files::{assert_same, errno_of, open_direct, read_direct, try_pread};
use crate::origin::{End, Fault, Gate};

const MIB: u64 = 1 << 20;

/// The default chunk size.
const CHUNK: u64 = 256 * 1024;

#[test]
fn retry_continues_at_the_reached_byte() {
    for (fault, what) in [
        (Fault::ResetAfter(1_234_567), "reset"),
        (Fault::CloseAfter(1_234_567), "short body"),
    ] {
        let (origin, content) = origin_with(8 * MIB);
        // One response for everything, so that the fetch is long enough to break at the fault.
        let switch = origin.on("/f").data().covering(0).times(1).fault(fault);
        let mount = Mount::of(&origin.url("/")).with("--chunk-size", "4MiB").start();
        assert_reads(&mount.path("f"), &content);
        assert_eq!(switch.hits(), 1);
        let log = origin.log().all();
        let broken = log
            .data("/f")
            .into_iter()
            .find(|request| request.end == Some(End::Cut))
            .expect("a broken one");
        let reached = broken.range.map_or(0, |range| range.first) + broken.body_bytes;
        let went_on = log.ranges("/f").iter().any(|range| range.start == reached);
        assert!(
            went_on,
            "{what}: {reached} bytes were there, and then it asked for {:?}",
            log.ranges("/f")
        );
        assert_eq!(log.body_bytes("/f"), content.size(), "{what}: no byte came twice");
    }
}

#[test]
fn repeatedly_broken_connection_still_completes() {
    let (origin, content) = origin_with(2 * MIB);
    origin.on("/f").data().fault(Fault::ResetAfter(300_000));
    let mount = Mount::of(&origin.url("/")).with("--chunk-size", "1MiB").start();
    // More breaks than there are retries: an attempt with progress is no failure.
    assert_reads(&mount.path("f"), &content);
}

#[test]
fn retries_back_off_and_succeed() {
    let (origin, content) = origin_with(CHUNK);
    origin.on("/f").data().times(2).fault(Fault::Status(503));
    let mount = Mount::start_of(&origin.url("/"));
    assert_reads(&mount.path("f"), &content);
    let log = origin.log().all();
    let came: Vec<_> = log.gets("/f").iter().map(|request| request.came).collect();
    assert_eq!(came.len(), 3, "two refusals and an answer");
    let (first, second) = (came[1] - came[0], came[2] - came[1]);
    // 500 ms and 1 s, each varied by a quarter. An upper bound would measure the machine's load.
    assert!(first >= Duration::from_millis(370), "asked again after {first:?}");
    assert!(
        second >= Duration::from_millis(740),
        "asked the third time after {second:?}"
    );
}

#[test]
fn retry_after_is_honoured() {
    let (origin, content) = origin_with(CHUNK);
    origin.on("/f").data().times(1).fault(Fault::RetryAfter(2));
    let mount = Mount::start_of(&origin.url("/"));
    assert_reads(&mount.path("f"), &content);
    let log = origin.log().all();
    let came: Vec<_> = log.gets("/f").iter().map(|request| request.came).collect();
    assert!(
        came[1] - came[0] >= Duration::from_secs(2),
        "asked again after {:?}",
        came[1] - came[0]
    );
}

#[test]
fn silent_server_times_out_and_is_retried() {
    for fault in [Fault::Hold(Gate::new()), Fault::HoldAfter(50_000, Gate::new())] {
        let (origin, content) = origin_with(CHUNK);
        origin.on("/f").data().times(1).fault(fault.clone());
        let mount = Mount::of(&origin.url("/")).with("--timeout", "1s").start();
        assert_reads(&mount.path("f"), &content);
        let ends: Vec<_> = origin
            .log()
            .all()
            .gets("/f")
            .iter()
            .map(|request| request.end)
            .collect();
        assert_eq!(ends[0], Some(End::ClientLeft), "{fault:?}: {ends:?}");
    }
}

#[test]
fn no_read_exceeds_read_timeout() {
    let (origin, _) = origin_with(CHUNK);
    let gate = Gate::new();
    let switch = origin.on("/f").data().fault(Fault::Hold(gate.clone()));
    let mount = Mount::of(&origin.url("/")).with("--read-timeout", "1s").start();
    let started = std::time::Instant::now();
    let errno = errno_of(try_pread(&File::open(mount.path("f")).expect("to open"), 0..10));
    assert!([libc::EIO, libc::ETIMEDOUT].contains(&errno), "errno {errno}");
    // By the server's silence alone it would be 30 s, four times.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "the read took {:?}",
        started.elapsed()
    );
    switch.lift();
    gate.open();
}

#[test]
fn permanent_failure_returns_an_error_until_it_ends() {
    let (origin, content) = origin_with(CHUNK);
    let mount = Mount::of(&origin.url("/")).with("--retries", "1").start();
    let file = open_direct(&mount.path("f"));
    let switch = origin.on("/f").data().fault(Fault::Status(500));
    assert_eq!(errno_of(read_direct(&file, 0, 4096)), libc::EIO);
    assert_eq!(switch.hits(), 2, "asked twice, as --retries 1 says");
    switch.lift();
    assert_same(
        &try_pread(&file, 0..CHUNK).expect("to read"),
        &content.whole(),
        "the same handle, later",
    );
}
