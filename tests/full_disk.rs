//! A cache directory that can't be written costs speed, and nothing else: reads bypass it until it can be written.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use fetchfs::internals::events;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::disk::Disk;
use crate::common::files::{
    advise_random, assert_same, drop_pages, errno_of, open_direct, pread, read_direct, sha256, sha256_of, try_pread,
};
use crate::common::{Mount, PATIENCE, fetchfs, is_root, run, temporary_directory};
use crate::origin::{Content, Fault, Framing, Gate, Origin};

const MIB: u64 = 1 << 20;

/// The files of an origin. One is longer than the bypass memory, and the sizes are odd.
pub const FILES: [(&str, u64); 3] = [("small", 1000), ("film", 50 * MIB + 77), ("other", 3 * MIB - 1)];

/// Number of log lines that say that reads bypass the cache, for whatever reason.
pub fn bypasses(mount: &Mount) -> usize {
    let reasons = [
        events::CACHE_BYPASSED,
        events::CACHE_DIR_GONE,
        events::CACHE_UNAVAILABLE,
        events::DESCRIPTORS_EXHAUSTED,
        events::FILE_TOO_LARGE,
        events::HOLES_UNSUPPORTED,
    ];
    reasons.into_iter().map(|reason| mount.events(reason)).sum()
}

pub fn origin() -> Origin {
    let origin = Origin::start();
    for (seed, (name, size)) in (0..).zip(FILES) {
        origin.add(&format!("/{name}"), Content::noise(size, seed));
    }
    origin
}

/// A mount whose cache is in this directory.
pub fn mount_with_cache_in(directory: &Path, origin: &Origin) -> Mount {
    let cache = directory.join("cache");
    let cache = cache.to_str().expect("a path of the harness");
    Mount::of(&origin.url("/"))
        .with("--cache-dir", cache)
        .with("--cache-size", "100MiB")
        .with("--min-free", "1MiB")
        .start()
}

/// Reads all files with several readers and compares them.
pub fn read_all(mount: &Mount) {
    std::thread::scope(|scope| {
        for (seed, (name, size)) in (0..).zip(FILES) {
            for _ in 0..2 {
                scope.spawn(move || {
                    let path = mount.path(name);
                    drop_pages(&path);
                    let content = Content::noise(size, seed);
                    assert_eq!(sha256(&path), sha256_of(&content), "{name}");
                    // And in the middle, across the edge of a MiB.
                    let middle = (size / 2 / MIB * MIB).saturating_sub(10)..size / 2 / MIB * MIB + 10;
                    drop_pages(&path);
                    let read = pread(&path, middle.clone());
                    assert_same(&read, &content.read(middle.start..middle.end.min(size)), name);
                });
            }
        }
    });
}

/// Reads until the daemon logs that the cache works again.
fn read_until_it_is_over(mount: &Mount) {
    let deadline = Instant::now() + PATIENCE;
    while mount.events(events::CACHE_BACK) == 0 {
        assert!(Instant::now() < deadline, "the cache is never written again");
        read_all(mount);
    }
}

/// Reads all files repeatedly until nothing is fetched any more. (A handle that the kernel has not released yet keeps
/// bypassing the cache.)
pub fn assert_all_is_cached(mount: &Mount, origin: &Origin) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mark = origin.log().mark();
        read_all(mount);
        let log = origin.log().since(mark);
        let asked: Vec<_> = (FILES.iter())
            .filter(|(name, _)| !log.data(&format!("/{name}")).is_empty())
            .collect();
        if asked.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "fetched again and again: {asked:?}");
    }
}

/// Peak memory of the daemon in bytes.
fn peak_memory(mount: &Mount) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("the kernel tells it in KiB") << 10
}

/// In this order: the disk must be dropped before the directory that it is mounted on.
pub fn small_disk() -> (TempDir, Disk) {
    let directory = temporary_directory();
    let disk = Disk::tmpfs(directory.path(), 128, MsFlags::empty());
    (directory, disk)
}

#[test]
fn full_disk_is_bypassed_until_there_is_space() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, disk) = small_disk();
    let mount = mount_with_cache_in(directory.path(), &origin);
    let filler = disk.fill();
    read_all(&mount);
    read_all(&mount);
    // One line for each failure, and a failure lasts at least ten seconds.
    let begun = bypasses(&mount);
    assert!((1..4).contains(&begun), "it is said {begun} times");
    let peak = peak_memory(&mount);
    assert!(peak < 128 * MIB, "{peak} bytes of memory");
    fs::remove_file(filler).expect("to make room");
    read_until_it_is_over(&mount);
    assert_all_is_cached(&mount, &origin);
    assert_eq!(bypasses(&mount), 1, "and once only");
}

#[test]
fn disk_full_during_a_read_fails_no_read() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, disk) = small_disk();
    let mount = mount_with_cache_in(directory.path(), &origin);
    let content = Content::noise(FILES[1].1, 1);
    let path = mount.path(FILES[1].0);
    for at in (0..content.size()).step_by(MIB as usize) {
        if at == 8 * MIB {
            disk.fill();
        }
        let piece = at..(at + MIB).min(content.size());
        assert_same(&pread(&path, piece.clone()), &content.read(piece), &format!("at {at}"));
    }
}

#[test]
fn read_only_cache_dir_is_bypassed_until_writable() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let directory = temporary_directory();
    let mount = mount_with_cache_in(directory.path(), &origin);
    let read_only = Disk::tmpfs(&directory.path().join("cache/data"), 128, MsFlags::MS_RDONLY);
    read_all(&mount);
    assert_eq!(bypasses(&mount), 1, "one line says so");
    drop(read_only);
    read_until_it_is_over(&mount);
    assert_all_is_cached(&mount, &origin);
}

#[test]
fn deleted_cache_dir_fails_no_read() {
    let origin = origin();
    let directory = temporary_directory();
    let mount = mount_with_cache_in(directory.path(), &origin);
    assert_eq!(pread(&mount.path("small"), 0..1000).len(), 1000);
    fs::remove_dir_all(directory.path().join("cache")).expect("to remove it");
    read_all(&mount);
    read_all(&mount);
    assert_eq!(mount.events(events::CACHE_DIR_GONE), 1);
    // Files written there could not be found again.
    assert!(!directory.path().join("cache").exists());
}

#[test]
fn restored_cache_dir_is_used_again() {
    let origin = origin();
    let directory = temporary_directory();
    let mount = mount_with_cache_in(directory.path(), &origin);
    let [cache, moved] = ["cache", "moved"].map(|name| directory.path().join(name));
    fs::rename(&cache, &moved).expect("to move it");
    read_all(&mount);
    assert!(!cache.exists());
    let says_so = || {
        let status = run(fetchfs().arg("status").arg(mount.root())).succeeded().out;
        status.contains("its directory is gone or was replaced; reads bypass the cache")
    };
    assert!(says_so());
    fs::rename(&moved, &cache).expect("to move it back");
    mount.wait_for_event(events::CACHE_DIR_BACK, 1);
    assert!(!says_so());
    assert_all_is_cached(&mount, &origin);
}

#[test]
fn file_system_without_hole_punching_is_bypassed() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let directory = temporary_directory();
    let _disk = Disk::ramfs(directory.path());
    let mount = mount_with_cache_in(directory.path(), &origin);
    read_all(&mount);
    read_all(&mount);
    assert_eq!(mount.events(events::HOLES_UNSUPPORTED), 1);
    assert_eq!(bypasses(&mount), 1, "and that is all");
    let data = fs::read_dir(directory.path().join("cache/data")).expect("its folder");
    assert_eq!(data.count(), 0);
}

#[test]
fn bypass_reads_use_mirrors() {
    if !is_root() {
        return;
    }
    let (origin, mirror, directory) = (origin(), origin(), temporary_directory());
    let _disk = Disk::ramfs(directory.path());
    let cache = directory.path().join("cache");
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-dir", cache.to_str().expect("a path of the harness"))
        .with("--cache-size", "100MiB")
        .with("--min-free", "1MiB")
        .with("--mirror", &mirror.url("/"))
        .start();
    let content = Content::noise(FILES[1].1, 1);
    let film = open_direct(&mount.path("film"));
    let read_at = |place: u64| {
        let read = read_direct(&film, place, 4096).expect("to read");
        assert_same(&read, &content.read(place..place + 4096), "around the cache");
    };
    read_at(0);
    assert!(mirror.log().all().0.is_empty(), "the source answers");
    let fails = origin.on("/film").data().fault(Fault::Status(500));
    read_at(20 * MIB);
    fails.lift();
    // A broken response is continued here.
    mirror.on("/film").data().times(1).fault(Fault::ResetAfter(10_000));
    origin.go_down();
    read_at(30 * MIB);
    assert_eq!(sha256(&mount.path("film")), sha256_of(&content));
    // No other version is mixed in. (The end of the film is in memory by now, but its beginning is not.)
    mirror.replace_keeping_date("/film", Content::noise(FILES[1].1, 9));
    drop_pages(&mount.path("film"));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_at(4 * MIB));
        mount.wait_for_event(events::MIRROR_SKIPPED, 1);
        origin.come_back();
        reading.join().expect("the source's bytes");
    });
    assert_eq!(mount.events(events::HOLES_UNSUPPORTED), 1);
}

/// A mount of one file of 32 MiB over a read-only cache directory. The file is open, and its version is known.
fn reading_around() -> (Origin, Mount, File, (Disk, TempDir)) {
    let origin = Origin::start();
    origin.add("/f", Content::noise(32 * MIB, 7));
    let directory = temporary_directory();
    let mount = mount_with_cache_in(directory.path(), &origin);
    let read_only = Disk::tmpfs(&directory.path().join("cache/data"), 128, MsFlags::MS_RDONLY);
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_eq!(try_pread(&file, 0..1).expect("to read").len(), 1);
    (origin, mount, file, (read_only, directory))
}

#[test]
fn bypass_reads_check_versions_and_deadlines() {
    if !is_root() {
        return;
    }
    let (origin, _mount, file, _disk) = reading_around();
    let content = Content::noise(32 * MIB, 7);
    let for_once = Some(1);
    let harmless = [
        (Fault::ShorterRange(100_000), None),
        (Fault::IgnoreRange(Framing::Length), None),
        (Fault::IgnoreRange(Framing::UntilClose), None),
        (Fault::CloseAfter(300_000), for_once),
        (Fault::ResetAfter(300_000), for_once),
        (Fault::Status(500), for_once),
        (Fault::Status(503), for_once),
        // A label on exactly the requested bytes.
        (Fault::ClaimGzip, None),
    ];
    // Each at a separate place that is not in memory.
    let mut places = (1..16).map(|number| 2 * number * MIB..2 * number * MIB + MIB);
    for ((fault, times), place) in harmless.into_iter().zip(places.by_ref()) {
        let rule = origin.on("/f").data();
        let rule = match times {
            Some(times) => rule.times(times),
            None => rule,
        };
        let switch = rule.fault(fault.clone());
        let what = format!("{fault:?}");
        let read = try_pread(&file, place.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&read, &content.read(place), &what);
        assert!(switch.hits() > 0, "{what} was not met");
        switch.lift();
    }
    for (fault, place) in [Fault::ShiftedRange(10)].into_iter().zip(places.by_ref()) {
        let switch = origin.on("/f").data().fault(fault.clone());
        assert_eq!(errno_of(try_pread(&file, place)), libc::EIO, "{fault:?}");
        switch.lift();
    }
    origin.add("/f", Content::noise(32 * MIB, 8));
    let place = places.next().expect("another place");
    assert_eq!(
        errno_of(try_pread(&file, place)),
        libc::ESTALE,
        "it is another file now"
    );
}

#[test]
fn sequential_bypass_reader_requests_each_mib_once() {
    if !is_root() {
        return;
    }
    let (origin, _mount, file, _disk) = reading_around();
    let before = origin.log().mark();
    let content = Content::noise(32 * MIB, 7);
    for at in (0..32 * MIB).step_by(64 << 10) {
        let piece = at..at + (64 << 10);
        let read = try_pread(&file, piece.clone()).expect("to read");
        assert_same(&read, &content.read(piece), &format!("at {at}"));
    }
    // The first MiB was present already.
    assert_eq!(origin.log().since(before).data("/f").len(), 31);
}

#[test]
fn bypass_read_ends_with_the_mount() {
    if !is_root() {
        return;
    }
    let (origin, mut mount, file, _disk) = reading_around();
    let gate = Gate::new();
    origin.on("/f").data().fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || try_pread(&file, 8 * MIB..8 * MIB + 1));
        gate.wait_for_arrivals(1);
        mount.signal(Signal::SIGTERM);
        // After an error the kernel may ask again, when the mount is gone.
        let errno = errno_of(reader.join().expect("the reader"));
        assert!([libc::EIO, libc::ENOTCONN].contains(&errno), "{errno}");
    });
    assert!(mount.wait().success());
}

#[test]
fn locked_index_does_not_delay_cached_reads() {
    const FILES: u64 = 20;
    const SIZE: u64 = MIB + 1;
    let origin = Origin::start();
    (0..FILES).for_each(|number| origin.add(&format!("/{number}"), Content::noise(SIZE, number)));
    let mut mount = Mount::start_of(&origin.url("/"));
    let read = |mount: &Mount, number: u64| {
        let path = mount.path(number.to_string());
        assert_eq!(sha256(&path), sha256_of(&Content::noise(SIZE, number)), "{number}");
    };
    (0..FILES).for_each(|number| read(&mount, number));
    mount.remount();
    // The directory is known then, and one file is open.
    read(&mount, 0);
    let index = rusqlite::Connection::open(mount.cache().join("index.db")).expect("the index");
    index.execute_batch("BEGIN IMMEDIATE").expect("to lock it");
    let (mark, begun) = (origin.log().mark(), Instant::now());
    (0..FILES).for_each(|number| read(&mount, number));
    // SQLite waits for ten seconds, and each file would have waited as long.
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let log = origin.log().since(mark);
    let fetched: u64 = (0..FILES).map(|number| log.body_bytes(&format!("/{number}"))).sum();
    assert_eq!(fetched, 0, "all of it is here");
    index.execute_batch("ROLLBACK").expect("to let go of it");
}
