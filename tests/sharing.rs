//! Mounts over one cache fetch each byte once among them.

use std::fs;

use nix::sys::statvfs::statvfs;

use crate::common::files::{advise_random, assert_same, pread, sha256, sha256_of, try_pread};
use crate::common::ground::{Ground, hello};
use crate::common::{Mount, temporary_directory};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// The default of --chunk-size.
const CHUNK: u64 = 256 << 10;

/// Two mounts of an origin over one cache.
fn two_mounts(origin: &Origin) -> ([Mount; 2], tempfile::TempDir) {
    let cache = temporary_directory();
    let folder = cache.path().join("shared");
    let folder = folder.to_str().expect("a path of the harness");
    let mounts = [0, 1].map(|_| Mount::of(&origin.url("/")).with("--cache-dir", folder).start());
    (mounts, cache)
}

/// Waits until everything that a mount has fetched is recorded: the reply includes it.
fn wait_until_recorded(mount: &Mount) {
    statvfs(&mount.root()).expect("df");
}

#[test]
fn two_mounts_share_a_cache() {
    let (origin, first) = (hello(), Ground::new());
    let other = first.home.path().join("other");
    fs::create_dir(&other).expect("a mountpoint");
    first.mount(&origin.url("/"), &[]);
    let second =
        Mount::of(&origin.url("/")).with("--cache-dir", first.home.path().join("cache").to_str().expect("a path"));
    let second = second.start();
    let expected = sha256_of(&Content::noise(64 << 20, 61));
    std::thread::scope(|scope| {
        for path in [first.mountpoint().join("large"), second.path("large")] {
            scope.spawn(move || assert_eq!(sha256(&path), expected));
        }
    });
}

#[test]
fn chunks_of_another_mount_are_found_without_new_records() {
    let content = Content::noise(64 * MIB, 3);
    let origin = Origin::start();
    origin.add("/f", content.clone());
    let ([one, other], _cache) = two_mounts(&origin);
    let read = |mount: &Mount, at: u64| {
        let file = fs::File::open(mount.path("f")).expect("to open");
        advise_random(&file);
        // Whole chunks: a read ends when its own bytes are present, and a partial chunk is not recorded.
        try_pread(&file, at..at + CHUNK).expect("to read")
    };
    // The mount knows the file then, before anything of it is cached.
    read(&other, 0);
    read(&one, 40 * MIB);
    [&one, &other].into_iter().for_each(wait_until_recorded);
    let gate = Gate::new();
    origin.on("/f").data().fault(Fault::Hold(gate.clone()));
    std::thread::scope(|scope| {
        // It has searched for the other mount's chunks there, and its own is recorded only once it is complete.
        let blocked = scope.spawn(|| read(&other, 20 * MIB));
        gate.wait_for_arrivals(1);
        let mark = origin.log().mark();
        let here = read(&other, 40 * MIB);
        assert_same(
            &here,
            &content.read(40 * MIB..40 * MIB + CHUNK),
            "what the other has fetched",
        );
        // No mount had fetched what follows.
        let asked = origin.log().since(mark).ranges("/f");
        gate.open();
        assert!(
            !asked.iter().any(|range| range.contains(&(40 * MIB))),
            "it was fetched again: {asked:?}"
        );
        let fetched = blocked.join().expect("the reader");
        assert_same(&fetched, &content.read(20 * MIB..20 * MIB + CHUNK), "what nobody had");
    });
}

#[test]
fn read_ahead_skips_chunks_of_another_mount() {
    let content = Content::noise(24 * MIB, 4);
    let origin = Origin::start();
    origin.add("/f", content.clone());
    let ([one, other], _cache) = two_mounts(&origin);
    assert_eq!(pread(&other.path("f"), 0..1000).len(), 1000);
    assert_eq!(sha256(&one.path("f")), sha256_of(&content));
    [&one, &other].into_iter().for_each(wait_until_recorded);
    let mark = origin.log().mark();
    assert_eq!(sha256(&other.path("f")), sha256_of(&content));
    assert_eq!(origin.log().since(mark).body_bytes("/f"), 0, "it was fetched again");
}
