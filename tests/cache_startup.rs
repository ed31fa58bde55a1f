//! A mount that begins over an unusable cache directory works: reads bypass the cache until the directory is usable.

use std::fs;
use std::path::Path;
use std::time::Instant;

use fetchfs::internals::events;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;

use crate::common::files::{assert_same, drop_pages, pread};
use crate::common::mount::fetchfs;
use crate::common::{PATIENCE, is_root, run, temporary_directory};
use crate::full_disk::{FILES, assert_all_is_cached, bypasses, mount_with_cache_in, origin, read_all, small_disk};
use crate::origin::{Content, Origin};
use crate::prefetching::prefetch;

/// Makes a file system read-only, or writable again.
fn remount(path: &Path, flags: MsFlags) {
    let flags = flags | MsFlags::MS_REMOUNT;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).expect("to remount");
}

/// The error of a `fetchfs mount` that this cache directory prevents.
fn refusal(cache: &Path, origin: &Origin) -> String {
    let place = temporary_directory();
    let mut command = fetchfs();
    command.args(["mount", "--cache-dir"]).arg(cache).arg(origin.url("/"));
    let output = command.arg(place.path()).output().expect("to run");
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Reads uncached files twice, makes the directory usable, and reads until nothing is fetched any more.
fn assert_begins_without(directory: &Path, origin: &Origin, make_usable: impl FnOnce()) {
    let mut mount = mount_with_cache_in(directory, origin);
    read_all(&mount);
    read_all(&mount);
    assert_eq!(mount.events(events::CACHE_UNAVAILABLE), 1, "one line says so");
    assert_eq!(
        (bypasses(&mount), mount.events(events::CACHE_AVAILABLE)),
        (1, 0),
        "and no other"
    );
    make_usable();
    mount.wait_for_event(events::CACHE_AVAILABLE, 1);
    assert_all_is_cached(&mount, origin);
    mount.remount();
    let mark = origin.log().mark();
    read_all(&mount);
    let log = origin.log().since(mark);
    for (name, _) in FILES {
        assert!(
            log.data(&format!("/{name}")).is_empty(),
            "{name} is there for the next mount"
        );
    }
}

#[test]
fn read_only_used_cache_dir_is_bypassed_until_writable() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, _disk) = small_disk();
    let mut used = mount_with_cache_in(directory.path(), &origin);
    let first = pread(&used.path("film"), 0..1000);
    used.unmount();
    assert_same(&first, &Content::noise(FILES[1].1, 1).read(0..1000), "film");
    remount(directory.path(), MsFlags::MS_RDONLY);
    assert_begins_without(directory.path(), &origin, || {
        remount(directory.path(), MsFlags::empty())
    });
}

#[test]
fn new_cache_dir_on_read_only_disk_is_bypassed() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, _disk) = small_disk();
    remount(directory.path(), MsFlags::MS_RDONLY);
    assert_begins_without(directory.path(), &origin, || {
        remount(directory.path(), MsFlags::empty())
    });
}

#[test]
fn new_cache_dir_on_full_disk_is_bypassed() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, disk) = small_disk();
    let filler = disk.fill();
    assert_begins_without(directory.path(), &origin, || {
        fs::remove_file(filler).expect("to make room")
    });
}

#[test]
fn cache_shrinks_at_start_on_a_full_disk() {
    if !is_root() {
        return;
    }
    let origin = origin();
    // A daemon that ends in order leaves less behind.
    for is_killed in [false, true] {
        let (directory, disk) = small_disk();
        let mut used = mount_with_cache_in(directory.path(), &origin);
        read_all(&used);
        // The reply includes all recorded chunks, so this waits until they are recorded.
        statvfs(&used.root()).expect("df");
        if is_killed {
            used.kill();
        } else {
            used.unmount();
        }
        disk.fill();
        let mount = mount_with_cache_in(directory.path(), &origin);
        read_all(&mount);
        assert_eq!(mount.events(events::CACHE_UNAVAILABLE), 0, "killed: {is_killed}");
        // The cache is used: the files that were read twice are in it.
        let (name, size) = FILES[0];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mark = origin.log().mark();
            let path = mount.path(name);
            drop_pages(&path);
            assert_eq!(pread(&path, 0..size).len() as u64, size);
            if origin.log().since(mark).data(&format!("/{name}")).is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "nothing is cached");
        }
    }
}

#[test]
fn commands_fail_clearly_without_a_cache_dir() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, _disk) = small_disk();
    remount(directory.path(), MsFlags::MS_RDONLY);
    let mount = mount_with_cache_in(directory.path(), &origin);
    for arguments in [&["--background"][..], &[]] {
        let said = prefetch(arguments, &[mount.path("other")]);
        assert_ne!(said.code, 0);
        assert!(said.err.contains("see the mount's log"), "{}", said.err);
    }
    let mut pin = fetchfs();
    let said = run(pin.arg("pin").arg(mount.path("other")));
    assert!(said.code != 0 && said.err.contains("can't be recorded"), "{}", said.err);
}

#[test]
fn foreign_directory_is_rejected_as_cache_dir() {
    let origin = origin();
    let directory = temporary_directory();
    let file = directory.path().join("file");
    fs::write(&file, "somebody's").expect("a file");
    let said = refusal(&file, &origin);
    assert!(said.contains("can't be used") && said.contains("--cache-dir"), "{said}");
    assert_eq!(fs::read(&file).expect("the file"), b"somebody's");
}

#[test]
fn newer_index_is_rejected_on_read_only_disk() {
    if !is_root() {
        return;
    }
    let origin = origin();
    let (directory, _disk) = small_disk();
    let mut used = mount_with_cache_in(directory.path(), &origin);
    used.unmount();
    let cache = directory.path().join("cache");
    let index = rusqlite::Connection::open(cache.join("index.db")).expect("the index");
    index
        .pragma_update(None, "user_version", 1_000_000)
        .expect("to write it");
    drop(index);
    remount(directory.path(), MsFlags::MS_RDONLY);
    let said = refusal(&cache, &origin);
    assert!(said.contains("newer fetchfs"), "{said}");
}
