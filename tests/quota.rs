//! The cache's size is never exceeded, whatever is read, and all bytes are right although chunks come and go.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::files::{advise_random, assert_same, drop_pages, on_disk, sha256, sha256_of, try_pread};
use crate::common::mount::fetchfs;
use crate::common::{Mount, PATIENCE, temporary_directory};
use crate::full_disk::bypasses;
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;

/// The least useful size with the default chunks and connections is half of this.
const QUOTA: u64 = 16 * MIB;

/// Measures the size of the cache until `is_over`, and returns the largest. The daemons are stopped during each
/// measurement. Otherwise one file would count before its eviction, and another after its growth.
fn watch(mounts: &[&Mount], cache: &Path, is_over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !is_over.load(Ordering::Relaxed) {
        mounts.iter().for_each(|mount| stop(mount));
        let now = on_disk(cache);
        if now > QUOTA {
            let parts = ["data", "index.db", "index.db-wal"].map(|part| on_disk(&cache.join(part)));
            eprintln!("{now} bytes: data, index and its log take {parts:?}");
        }
        most = most.max(now);
        mounts.iter().for_each(|mount| mount.signal(Signal::SIGCONT));
        std::thread::yield_now();
    }
    most
}

/// Stops a daemon. Returns when none of its threads runs any more.
fn stop(mount: &Mount) {
    mount.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", mount.pid());
    let is_stopped = |task: fs::DirEntry| {
        // A thread that ends meanwhile runs no more either.
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| !matches!(rest.trim().chars().next(), Some('R' | 'S')))
    };
    while !fs::read_dir(&tasks).into_iter().flatten().flatten().all(is_stopped) {
        std::thread::yield_now();
    }
}

/// Guard: ends the measurement, also if a reader fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The largest size of the cache during `work`.
fn most_during(mounts: &[&Mount], cache: &Path, work: impl FnOnce()) -> u64 {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(mounts, cache, &is_over));
        let over = Over(&is_over);
        work();
        drop(over);
        watching.join().expect("the one who watches")
    })
}

/// An origin with `/0`, `/1`, ...: noise of this size each.
fn origin_of(files: u64, size: u64) -> Origin {
    let origin = Origin::start();
    for number in 0..files {
        origin.add(&format!("/{number}"), Content::noise(size, number));
    }
    origin
}

/// Reads a whole file in pieces, and compares.
fn read_through(mount: &Mount, number: u64, size: u64) {
    let content = Content::noise(size, number);
    drop_pages(&mount.path(number.to_string()));
    let file = File::open(mount.path(number.to_string())).expect("to open");
    for at in (0..size).step_by(MIB as usize) {
        let piece = at..(at + MIB).min(size);
        let read = try_pread(&file, piece.clone()).unwrap_or_else(|error| panic!("{number} at {at}: {error}"));
        assert_same(&read, &content.read(piece), &format!("{number} at {at}"));
    }
}

#[test]
fn quota_holds_under_eight_readers() {
    const SIZE: u64 = 10 * MIB;
    let origin = origin_of(40, SIZE);
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start();
    let most = most_during(&[&mount], &mount.cache(), || {
        std::thread::scope(|scope| {
            for reader in 0..8 {
                let mount = &mount;
                // Twice: evicted chunks are fetched again.
                scope.spawn(move || (0..10).for_each(|turn| read_through(mount, (reader * 5 + turn) % 40, SIZE)));
            }
        });
    });
    assert!(most <= QUOTA, "{most} bytes");
    assert!(most > QUOTA / 2, "{most} bytes: it is there to be used");
}

#[test]
fn open_file_larger_than_the_quota_is_readable() {
    const SIZE: u64 = 64 * MIB;
    let origin = origin_of(1, SIZE);
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start();
    let content = Content::noise(SIZE, 0);
    let file = File::open(mount.path("0")).expect("to open");
    advise_random(&file);
    let most = most_during(&[&mount], &mount.cache(), || {
        for turn in 0..3 {
            for at in (0..SIZE).step_by(MIB as usize) {
                // From both ends, so that evicted chunks are not only behind the reader.
                let at = if turn % 2 == 0 { at } else { SIZE - MIB - at };
                let piece = at..at + MIB / 2;
                drop_pages(&mount.path("0"));
                assert_same(
                    &try_pread(&file, piece.clone()).expect("to read"),
                    &content.read(piece),
                    &format!("turn {turn} at {at}"),
                );
            }
        }
    });
    assert!(most <= QUOTA, "{most} bytes");
}

#[test]
fn two_mounts_share_quota_and_chunks() {
    const SIZE: u64 = 10 * MIB;
    let origin = origin_of(12, SIZE);
    origin.add("/12", Content::noise(SIZE / 4, 12));
    let cache = temporary_directory();
    let folder = cache.path().join("shared");
    let folder = folder.to_str().expect("a path of the harness");
    let mounts = [0, 1].map(|_| {
        let plan = Mount::of(&origin.url("/")).with("--cache-dir", folder);
        plan.with("--cache-size", "16MiB").with("--min-free", "0").start()
    });
    // A file that fits is fetched once.
    read_through(&mounts[0], 12, SIZE / 4);
    // The reply includes all recorded chunks, so this waits until they are recorded.
    nix::sys::statvfs::statvfs(&mounts[0].root()).expect("df");
    let fetched = origin.log().mark();
    read_through(&mounts[1], 12, SIZE / 4);
    assert_eq!(origin.log().since(fetched).body_bytes("/12"), 0, "it was fetched again");
    let most = most_during(&[&mounts[0], &mounts[1]], Path::new(folder), || {
        std::thread::scope(|scope| {
            for (number, mount) in mounts.iter().enumerate() {
                // Files open in both mounts could not be evicted by either, so each reads its own files.
                for reader in 0..2 {
                    scope.spawn(move || {
                        for turn in 0..10 {
                            read_through(mount, (2 * (turn + 3 * reader) + number as u64) % 12, SIZE);
                        }
                    });
                }
            }
        });
    });
    assert!(most <= QUOTA, "{most} bytes");
}

#[test]
fn quota_holds_after_kill_9() {
    const SIZE: u64 = 10 * MIB;
    let origin = origin_of(12, SIZE);
    let mut mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start();
    for round in 0..3_u64 {
        std::thread::scope(|scope| {
            let path = mount.path("11");
            // The read fails when the daemon is killed.
            scope.spawn(move || fs::read(path).map(|bytes| bytes.len()));
            origin.log().wait_for("the middle of a file", |log| {
                log.body_bytes("/11") > (2 * round + 1) * MIB
            });
            mount.kill();
        });
        mount.start();
        let most = most_during(&[&mount], &mount.cache(), || {
            (0..6).for_each(|number| read_through(&mount, number, SIZE));
        });
        assert!(most <= QUOTA, "{most} bytes");
    }
}

#[test]
fn passthrough_files_in_use_are_not_evicted() {
    // Only root can register a backing file.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const SIZE: u64 = 3 * MIB;
    let origin = origin_of(20, SIZE);
    let mut mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start();
    (0..2).for_each(|number| read_through(&mount, number, SIZE));
    mount.remount();
    let [open, mapped] = [0, 1].map(|number| File::open(mount.path(number.to_string())).expect("to open"));
    let map = memmap(&mapped);
    // The kernel reports the end of this handle, but not of the mapping.
    drop(mapped);
    (2..20).for_each(|number| read_through(&mount, number, SIZE));
    // Evicted chunks would read as zeros.
    drop_pages(&mount.path("0"));
    let content = [0, 1].map(|number| Content::noise(SIZE, number).read(0..SIZE));
    assert_same(
        &try_pread(&open, 0..SIZE).expect("to read"),
        &content[0],
        "the open file",
    );
    assert_same(&map, &content[1], "the mapping");
}

#[test]
fn large_mapping_does_not_block_eviction() {
    // Only root can register a backing file.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const SIZE: u64 = 10 * MIB;
    // Enough new bytes that the twice-used ones are the coldest and are evicted first.
    const OTHERS: u64 = 140;
    let origin = origin_of(1, SIZE);
    (1..OTHERS).for_each(|number| origin.add(&format!("/{number}"), Content::noise(MIB, number)));
    let mut mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "20MiB")
        .with("--min-free", "0")
        .start();
    read_through(&mount, 0, SIZE);
    mount.remount();
    let mapped = File::open(mount.path("0")).expect("to open");
    let map = memmap(&mapped);
    drop(mapped);
    (1..OTHERS).for_each(|number| read_through(&mount, number, MIB));
    assert_eq!(bypasses(&mount), 0, "there was room");
    assert_same(&map, &Content::noise(SIZE, 0).read(0..SIZE), "the mapping");
}

#[test]
fn replaced_versions_are_evicted_first() {
    const SIZE: u64 = 6 * MIB;
    let origin = origin_of(3, SIZE);
    let mount = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .with("--cache-size", "24MiB")
        .with("--min-free", "0")
        .start();
    // Through two handles: of two current versions this would be the one that stays.
    (0..2).for_each(|_| read_through(&mount, 0, SIZE));
    read_through(&mount, 1, SIZE);
    origin.add("/0", Content::noise(SIZE + 1, 100));
    assert_eq!(sha256(&mount.path("0")), sha256_of(&Content::noise(SIZE + 1, 100)));
    read_through(&mount, 2, SIZE);
    // The reply includes all recorded chunks, so this waits until they are recorded.
    nix::sys::statvfs::statvfs(&mount.root()).expect("df");
    let index = rusqlite::Connection::open(mount.cache().join("index.db")).expect("the index");
    let sql = "SELECT url LIKE '%/0' AND size = ?1, complete FROM cache_entries";
    let mut query = index.prepare(sql).expect("the tables");
    let rows = query.query_map([SIZE as i64], |row| Ok((row.get(0)?, row.get(1)?)));
    let entries: Vec<(bool, bool)> = rows.expect("to ask").map(|row| row.expect("a row")).collect();
    assert_eq!(entries.iter().filter(|(is_old, _)| !is_old).count(), 3, "{entries:?}");
    // Some chunks of the old version may be left.
    for (is_old, is_complete) in &entries {
        assert_eq!(is_complete, &!is_old, "{entries:?}");
    }
}

/// Bytes that mounts count for the data files of a cache.
fn counted(cache: &Path) -> u64 {
    let page = fs::read(cache.join("usage")).expect("the count");
    u64::from_le_bytes(page[8..16].try_into().expect("eight bytes"))
}

#[test]
fn cache_clear_frees_quota_of_a_running_mount() {
    let origin = origin_of(1, 8 * MIB);
    let mut mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start();
    read_through(&mount, 0, 8 * MIB);
    // Its open files stay open.
    mount.remount();
    assert!(counted(&mount.cache()) >= 8 * MIB);
    let mut clear = fetchfs();
    clear.args(["cache", "clear", "--cache-dir"]).arg(mount.cache());
    assert!(clear.status().expect("to run").success());
    // No read happens meanwhile: the other mount must be notified.
    let deadline = Instant::now() + PATIENCE;
    while counted(&mount.cache()) > 0 {
        assert!(
            Instant::now() < deadline,
            "{} bytes are counted",
            counted(&mount.cache())
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn memmap(file: &File) -> memmap2::Mmap {
    // SAFETY: the test itself changes no mapped byte; that no other code does is under test.
    unsafe { memmap2::Mmap::map(file) }.expect("to map")
}
