//! A request that exceeds the cache is refused, and other files do not pay for it. Chunks give way to other needs of
//! the disk, and to age.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use nix::mount::MsFlags;
use nix::sys::statvfs::statvfs;

use crate::common::disk::Disk;
use crate::common::files::{drop_pages, on_disk, sha256, sha256_of};
use crate::common::mount::Plan;
use crate::common::process::{Ran, assert_refuses, run};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, temporary_directory};
use crate::full_disk::bypasses;
use crate::origin::{Content, IndexStyle, Origin};
use crate::prefetching::{content, data_requests, fetchfs_with, prefetch, site, wait_until_no_job_is_left};

const MIB: u64 = 1 << 20;

/// A site with files that each fit into a cache of 16 MiB, but not all together.
fn site_with_many() -> Origin {
    let origin = site();
    for number in 0..5 {
        let path = format!("/many/{number}");
        origin.add(&path, content(&path, 4 * MIB));
    }
    origin
}

fn small_cache(origin: &Origin) -> Mount {
    Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--min-free", "0")
        .start()
}

/// An earlier version evicted its own beginning and other files, and reported 14 of 40 MiB with exit status 0.
#[test]
fn oversized_prefetch_is_rejected_without_eviction() {
    let origin = site_with_many();
    let mount = small_cache(&origin);
    prefetch(&[], &[mount.path("dir")]).succeeded();
    for (name, said) in [
        ("large", "40.0 MiB would be cached"),
        ("many", "20.0 MiB would be cached"),
    ] {
        assert_refuses(&prefetch(&[], &[mount.path(name)]), &[name, said, "--cache-size"]);
    }
    let mark = origin.log().mark();
    assert_eq!(data_requests(&origin, 0, &["/large", "/many/0", "/many/4"]), 0);
    assert_eq!(
        sha256(&mount.path("dir/a")),
        sha256_of(&content("/dir/a", 3 * MIB + 17))
    );
    assert_eq!(data_requests(&origin, mark, &["/dir/a"]), 0, "it is still there");
    // A part of it fits, also if it is named in overlapping ranges.
    prefetch(&["--range", "0-6M,1M-7M,2M-"], &[mount.path("many/0")]).succeeded();
    prefetch(&["--range", "0-6M,1M-7M"], &[mount.path("large")]).succeeded();
}

#[test]
fn prefetch_counts_disk_blocks_of_tiny_files() {
    const FILES: u64 = 4500;
    let origin = Origin::start();
    for number in 0..FILES {
        origin.add(&format!("/tiny/{number}"), Content::noise(1, number));
    }
    let mount = small_cache(&origin);
    // The files have 4500 bytes, in as many blocks.
    let ran = prefetch(&[], &[mount.path("tiny")]);
    // On a busy machine it has shown its progress before.
    let err = ran.err.lines().last().unwrap_or_default().to_owned();
    assert_refuses(
        &Ran { err, ..ran },
        &["/tiny", "would be cached, but the cache holds", "--cache-size"],
    );
    assert_eq!(origin.log().all().data("/tiny/0").len(), 0);
}

#[test]
fn prefetch_stops_when_the_cache_is_too_small() {
    let origin = site_with_many();
    origin.set_index_style(IndexStyle::NamesOnly);
    let mount = small_cache(&origin);
    let ran = prefetch(&["--recursive"], &[mount.root()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("--cache-size"), "{ran:?}");
}

#[test]
fn prefetch_reports_eviction_by_pins() {
    let origin = site_with_many();
    let mount = small_cache(&origin);
    let pinned = [mount.path("many/0"), mount.path("many/1")];
    prefetch(&[], &pinned).succeeded();
    run(&mut fetchfs_with(&["pin", "--no-fetch"], &pinned)).succeeded();
    assert_refuses(
        &prefetch(&["--range", "0-11M"], &[mount.path("large")]),
        &["/large", "--cache-size"],
    );
}

#[test]
fn oversized_job_waits_for_a_larger_cache() {
    let origin = site_with_many();
    let mut mount = small_cache(&origin);
    prefetch(&["--background"], &[mount.path("large")]).succeeded();
    let deadline = Instant::now() + PATIENCE;
    let shown = loop {
        let shown = prefetch(&["--list"], &[mount.root()]).succeeded().out;
        if shown.contains("waiting: ") {
            break shown;
        }
        assert!(Instant::now() < deadline, "{shown}");
    };
    assert!(shown.contains("raise --cache-size"), "{shown}");
    mount.unmount();
    mount.add_option("--cache-size", "200MiB");
    mount.start();
    wait_until_no_job_is_left(&mount);
    let mark = origin.log().mark();
    assert_eq!(sha256(&mount.path("large")), sha256_of(&content("/large", 40 * MIB)));
    assert_eq!(data_requests(&origin, mark, &["/large"]), 0);
}

/// A disk of 64 MiB with a cache on it. Only root can mount one.
struct SmallDisk {
    // Dropped before the directory that it is mounted on.
    _disk: Disk,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    const SIZE: u64 = 64 * MIB;

    fn new() -> SmallDisk {
        let directory = temporary_directory();
        SmallDisk {
            _disk: Disk::tmpfs(directory.path(), SmallDisk::SIZE / MIB, MsFlags::empty()),
            directory,
        }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn plan(&self, origin: &Origin) -> Plan {
        let cache = self.cache();
        Mount::of(&origin.url("/"))
            .with("--cache-dir", cache.to_str().expect("a path of the harness"))
            .with("--max-connections", "4")
    }

    fn free(&self) -> u64 {
        let disk = statvfs(self.directory.path()).expect("df");
        disk.blocks_available() * disk.fragment_size()
    }
}

const FILE: u64 = 10 * MIB;

fn ten_files() -> Origin {
    let origin = Origin::start();
    (0..10).for_each(|number| origin.add(&format!("/{number}"), Content::noise(FILE, number)));
    origin
}

#[track_caller]
fn read_through(mount: &Mount, number: u64) {
    let path = mount.path(number.to_string());
    drop_pages(&path);
    assert_eq!(sha256(&path), sha256_of(&Content::noise(FILE, number)), "{number}");
}

#[test]
fn min_free_holds_and_the_cache_shrinks() {
    if !is_root() {
        return;
    }
    const MIN_FREE: u64 = 16 * MIB;
    // Fits into the free space: the cache shrinks when it needs room, and not while the filler is written.
    const FILLER: u64 = 14 * MIB;
    let (disk, origin) = (SmallDisk::new(), ten_files());
    let plan = disk.plan(&origin).with("--cache-size", "60MiB");
    let mount = plan.with("--min-free", "16MiB").start();
    for number in 0..8 {
        read_through(&mount, number);
        assert!(disk.free() >= MIN_FREE, "{} bytes free after {number}", disk.free());
    }
    let before = on_disk(&disk.cache());
    assert!(before > 30 * MIB, "{before} bytes: it is there to be used");
    let filler = disk.directory.path().join("filler");
    fs::write(&filler, vec![1; FILLER as usize]).expect("to fill");
    for number in 8..10 {
        read_through(&mount, number);
    }
    assert!(disk.free() >= MIN_FREE, "{} bytes free beside the filler", disk.free());
    let after = on_disk(&disk.cache());
    assert!(after <= SmallDisk::SIZE - FILLER - MIN_FREE, "{after} bytes");
    // And it grows again when the filler is gone.
    fs::remove_file(&filler).expect("to delete");
    (0..5).for_each(|number| read_through(&mount, number));
    assert!(on_disk(&disk.cache()) > after + 10 * MIB);
    assert_eq!(bypasses(&mount), 0, "nothing had to be read around the cache");
}

#[test]
fn defaults_work_on_a_small_disk() {
    if !is_root() {
        return;
    }
    let (disk, origin) = (SmallDisk::new(), ten_files());
    let mount = disk.plan(&origin).start();
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let mount = &mount;
            scope.spawn(move || (0..5).for_each(|turn| read_through(mount, (reader + 2 * turn) % 10)));
        }
    });
    // Half of the free space, by default.
    let taken = on_disk(&disk.cache());
    assert!((8 * MIB..=SmallDisk::SIZE / 2).contains(&taken), "{taken} bytes");
}

#[test]
fn percentage_is_of_the_cache_disk() {
    if !is_root() {
        return;
    }
    let (disk, origin) = (SmallDisk::new(), ten_files());
    let plan = disk.plan(&origin).with("--cache-size", "10%");
    let mount = plan.with("--min-free", "25%").start();
    let ran = run(fetchfs().args(["status", "--json"]).arg(mount.root())).succeeded();
    let status: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let limit = status[0]["cache_limit"].as_u64().expect("a number");
    assert_eq!(limit, SmallDisk::SIZE / 100 * 10);
    (0..3).for_each(|number| read_through(&mount, number));
    let taken = on_disk(&disk.cache());
    assert!(taken <= limit, "{taken} of {limit} bytes");
}

#[test]
fn max_age_evicts_files_and_they_are_refetched() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--max-age", "2s").start();
    let expected = sha256_of(&content("/dir/a", 3 * MIB + 17));
    assert_eq!(sha256(&mount.path("dir/a")), expected);
    let data = mount.cache().join("data");
    let deadline = Instant::now() + PATIENCE;
    while on_disk(&data) >= MIB {
        assert!(Instant::now() < deadline, "{} bytes stay", on_disk(&data));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let mark = origin.log().mark();
    drop_pages(&mount.path("dir/a"));
    assert_eq!(sha256(&mount.path("dir/a")), expected);
    assert!(data_requests(&origin, mark, &["/dir/a"]) > 0, "it was gone");
}

#[test]
fn max_age_evicts_listings() {
    let origin = site();
    let mut mount = Mount::of(&origin.url("/"))
        .with("--max-age", "2s")
        .with("--attr-ttl", "100ms")
        .start();
    let names = |mount: &Mount| fs::read_dir(mount.path("dir")).expect("to list").count();
    let told = names(&mount);
    let index = rusqlite::Connection::open(mount.cache().join("index.db")).expect("the index");
    let rows = || {
        let sql = "SELECT (SELECT count(*) FROM listings) + (SELECT count(*) FROM remote_files)";
        index.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("its rows")
    };
    let wait_until = |what: &str, is_so: &dyn Fn(i64) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(rows()) {
            assert!(Instant::now() < deadline, "{what}: {} rows", rows());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    // Twice: the mount still knows the names after they are deleted, and stores an equal listing again.
    for _ in 0..2 {
        wait_until("they are not kept", &|rows| {
            assert_eq!(names(&mount), told);
            rows > 0
        });
        wait_until("they stay", &|rows| rows == 0);
    }
    mount.unmount();
    drop(index);
    mount.start();
    let mark = origin.log().mark();
    assert_eq!(names(&mount), told);
    assert!(!origin.log().since(mark).gets("/dir/").is_empty(), "next request in");
}
