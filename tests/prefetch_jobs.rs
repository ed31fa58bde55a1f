//! Prefetch jobs in the background, with all answers of the server, and beside other mounts over the same cache.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fetchfs::internals::events;

use crate::common::files::{pread, sha256, sha256_of};
use crate::common::{Mount, PATIENCE, fetchfs, process, run};
use crate::origin::{Fault, Gate, Origin};
use crate::prefetching::{content, data_requests, fetchfs_with, prefetch, site, wait_until_no_job_is_left};

const MIB: u64 = 1 << 20;

/// Polls the list of jobs until `is_so`; jobs have no event to wait for.
#[track_caller]
pub fn wait_until_jobs(mount: &Mount, what: &str, is_so: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = prefetch(&["--list"], &[mount.root()]).succeeded().out;
        if is_so(&shown) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{what}: {shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn assert_is_read_without_a_request(origin: &Origin, mount: &Mount, name: &str, size: u64) {
    let (mark, path) = (origin.log().mark(), format!("/{name}"));
    assert_eq!(sha256(&mount.path(name)), sha256_of(&content(&path, size)), "{name}");
    assert_eq!(data_requests(origin, mark, &[&path]), 0, "{name}");
}

/// An expired login and a portal's page say nothing about the files.
#[test]
fn job_survives_all_temporary_errors() {
    let origin = site();
    let faults = [
        ("dir/a", 3 * MIB + 17, Fault::Status(403)),
        ("large", 40 * MIB, Fault::LoginPage),
        ("small", 1000, Fault::Status(401)),
    ];
    let mut mount = Mount::of(&origin.url("/")).with("--retries", "0").start();
    let mut switches = Vec::new();
    for (name, _, fault) in &faults {
        switches.push(origin.on(&format!("/{name}")).data().fault(fault.clone()));
        prefetch(&["--background"], &[mount.path(name)]).succeeded();
    }
    // A finished job: its file does not exist.
    prefetch(&["--background"], &[mount.path("none")]).succeeded();
    wait_until_jobs(&mount, "each but the last waits", |shown| {
        let is_done =
            |shown: &str| shown.contains("done ") && shown.contains("/none\n") && shown.contains(", 1 failed");
        shown.matches("waiting: ").count() == 3 && is_done(shown)
    });
    switches.into_iter().for_each(|switch| switch.lift());
    // A new mount tries at once.
    mount.kill();
    mount.start();
    wait_until_no_job_is_left(&mount);
    for (name, size, _) in faults {
        assert_is_read_without_a_request(&origin, &mount, name, size);
    }
}

#[test]
fn job_waits_while_the_mount_is_offline() {
    let origin = site();
    let gate = Gate::new();
    let held = origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let mut mount = Mount::start_of(&origin.url("/"));
    // The listing is cached then.
    prefetch(&[], &[mount.path("dir/b c")]).succeeded();
    prefetch(&["--background"], &[mount.path("large")]).succeeded();
    gate.wait_for_arrivals(1);
    mount.kill();
    held.lift();
    gate.open();

    mount.add_option("--offline", "");
    mount.start();
    let mark = origin.log().mark();
    // A new request is recorded, too.
    prefetch(&["--background"], &[mount.path("dir/a")]).succeeded();
    let shown = wait_until_jobs(&mount, "both wait", |shown| shown.matches("waiting: ").count() == 2);
    assert!(shown.contains("/large: this mount is offline"), "{shown}");
    let listed = prefetch(&["--list", "--json"], &[mount.root()]).succeeded().out;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(listed[0]["mountpoint"], mount.root().display().to_string());
    mount.unmount();
    assert_eq!(origin.log().mark(), mark, "nobody was asked");

    let cache = mount.cache();
    let plan = Mount::of(&origin.url("/")).with("--cache-dir", cache.to_str().expect("a path of the harness"));
    let online = plan.start();
    wait_until_no_job_is_left(&online);
    assert_is_read_without_a_request(&origin, &online, "large", 40 * MIB);
    assert_is_read_without_a_request(&origin, &online, "dir/a", 3 * MIB + 17);
}

/// Two mounts of an origin over one cache; the second begins after `between`.
fn two_mounts(origin: &Origin, between: impl FnOnce(&Mount)) -> [Mount; 2] {
    let first = Mount::start_of(&origin.url("/"));
    between(&first);
    let cache = first.cache();
    let plan = Mount::of(&origin.url("/")).with("--cache-dir", cache.to_str().expect("a path of the harness"));
    let second = plan.start();
    [first, second]
}

#[test]
fn job_moves_to_another_mount_of_the_cache() {
    let origin = site();
    let gate = Gate::new();
    let held = origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let [mut first, second] = two_mounts(&origin, |first| {
        prefetch(&["--background"], &[first.path("large")]).succeeded();
        gate.wait_for_arrivals(1);
    });
    wait_until_jobs(&second, "it waits", |shown| {
        shown.contains("/large: another mount of the same cache fetches it")
    });
    held.lift();
    let mark = origin.log().mark();
    first.kill();
    wait_until_no_job_is_left(&second);
    gate.open();
    assert!(data_requests(&origin, mark, &["/large"]) > 0, "the second has done it");
    assert_is_read_without_a_request(&origin, &second, "large", 40 * MIB);
}

#[test]
fn job_can_be_cancelled_from_any_mount() {
    let origin = site();
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let [first, mut second] = two_mounts(&origin, |first| {
        prefetch(&["--background"], &[first.path("large")]).succeeded();
        gate.wait_for_arrivals(1);
    });
    wait_until_jobs(&second, "it waits", |shown| {
        shown.contains("another mount of the same cache fetches it")
    });
    prefetch(&["--cancel", "1"], &[second.root()]).succeeded();
    wait_until_jobs(&first, "it is cancelled", str::is_empty);
    first.wait_for_event(events::JOB_CANCELLED, 1);
    gate.open();
    origin.log().wait_for("the end of its requests", |log| log.all_ended());
    let fetched = origin.log().all().body_bytes("/large");
    assert!(fetched < 40 * MIB, "{fetched} bytes");
    second.remount();
    assert_eq!(prefetch(&["--list"], &[second.root()]).succeeded().out, "");
}

#[test]
fn prefetch_skips_chunks_of_another_mount() {
    let origin = site();
    let [first, second] = two_mounts(&origin, |_| {});
    // From now on the second mount knows what was cached of the file: one chunk.
    let open = std::fs::File::open(second.path("large")).expect("to open");
    pread(&second.path("large"), 20 * MIB..20 * MIB + 1);
    prefetch(&[], &[first.path("large")]).succeeded();
    // The reply includes all recorded chunks, so this waits until they are recorded.
    nix::sys::statvfs::statvfs(&first.root()).expect("df");
    let mark = origin.log().mark();
    let ran = prefetch(&[], &[second.path("large")]).succeeded();
    assert_eq!(data_requests(&origin, mark, &["/large"]), 0, "{ran:?}");
    drop(open);
    assert_is_read_without_a_request(&origin, &second, "large", 40 * MIB);
}

/// An earlier version let sixteen of them take all connections of the socket: other requests got no answer, and none
/// could be cancelled.
#[test]
fn waiting_prefetches_do_not_block_other_commands() {
    const CLIENTS: usize = 20;
    let origin = site();
    let gate = Gate::new();
    origin.on("/large").data().fault(Fault::HoldAfter(1000, gate.clone()));
    let mount = Mount::start_of(&origin.url("/"));
    prefetch(&[], &[mount.path("small")]).succeeded();
    let start = |_| process::spawn(fetchfs_with(&["prefetch"], &[mount.path("large")]).stdout(Stdio::null()));
    let mut running: Vec<Child> = (0..CLIENTS).map(start).collect();
    let deadline = Instant::now() + PATIENCE;
    // Sixteen at a time, and each of them waits for the file's three pieces.
    while waiters(&mount) < 16 * 3 {
        assert!(Instant::now() < deadline, "they don't begin");
    }
    let paths: [PathBuf; 1] = [mount.path("small")];
    let ran = run(&mut fetchfs_with(&["evict"], &paths)).succeeded();
    assert!(ran.out.starts_with("1 file: "), "{ran:?}");
    gate.open();
    for child in &mut running {
        let status = process::wait(child, PATIENCE).expect("it ends");
        assert!(status.success(), "{status}");
    }
}

fn waiters(mount: &Mount) -> u64 {
    let ran = run(&mut fetchfs_with(&["status", "--json"], &[mount.root()])).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    status[0]["origins"].as_array().map_or(0, |origins| {
        origins.iter().filter_map(|origin| origin["waiters"].as_u64()).sum()
    })
}

#[test]
fn pin_twice_makes_one_job_and_done_jobs_are_listed() {
    let (origin, gate) = (site(), Gate::new());
    origin.on("/large").data().fault(Fault::Hold(gate.clone()));
    let mount = Mount::start_of(&origin.url("/"));
    let pin = || run(fetchfs().arg("pin").arg(mount.path("large"))).succeeded().out;
    assert!(pin().starts_with("job 1 on "));
    gate.wait_for_arrivals(1);
    assert!(pin().starts_with("job 1 on "));
    let listed = prefetch(&["--list"], &[mount.root()]).succeeded().out;
    assert_eq!(listed.matches("job ").count(), 1, "{listed}");
    gate.open();
    wait_until_no_job_is_left(&mount);
    let listed = prefetch(&["--list"], &[mount.root()]).succeeded().out;
    assert!(
        listed.starts_with("done ") && listed.contains("40.0 MiB of 40.0 MiB"),
        "{listed}"
    );
}
