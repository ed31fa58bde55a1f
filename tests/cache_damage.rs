//! Damage to the cache's index while a mount uses it fails no read, gives no wrong byte, and ends with the next
//! mount.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::files::{assert_same, drop_pages, pread, sha256, sha256_of};
use crate::common::{Mount, cached, fetchfs, run};
use crate::origin::{Content, Fault, Gate, Origin};

const MIB: u64 = 1 << 20;

/// Sizes of three files: one is read before the damage, one before and after, one after.
const SIZES: [u64; 3] = [MIB + 1, 5 * MIB, 3 * MIB - 7];

fn content(number: usize) -> Content {
    Content::noise(SIZES[number], 110 + number as u64)
}

/// Reads files with several readers.
fn read_all(mount: &Mount, what: &str) {
    std::thread::scope(|scope| {
        for number in (0..SIZES.len()).chain(0..SIZES.len()) {
            scope.spawn(move || {
                let path = mount.path(number.to_string());
                drop_pages(&path);
                assert_eq!(sha256(&path), sha256_of(&content(number)), "{what}: file {number}");
            });
        }
    });
}

/// Damages the index, reads, remounts and reads, and remounts again: then all is cached and sound.
#[track_caller]
fn costs_no_read(what: &str, harm: impl Fn(&Path)) {
    // An index whose rows are all in the log, and one whose rows are all in the database.
    for is_old in [false, true] {
        costs_none(&format!("{what}, old: {is_old}"), is_old, &harm);
    }
}

#[track_caller]
fn costs_none(what: &str, is_old: bool, harm: &impl Fn(&Path)) {
    let origin = Origin::start();
    for number in 0..SIZES.len() {
        origin.add(&format!("/{number}"), content(number));
    }
    let mut mount = Mount::of(&origin.url("/")).with("--attr-ttl", "0").start();
    assert_eq!(sha256(&mount.path("0")), sha256_of(&content(0)), "{what}");
    let half = 0..SIZES[1] / 2;
    assert_same(&pread(&mount.path("1"), half.clone()), &content(1).read(half), what);
    if is_old {
        mount.remount();
        assert_eq!(sha256(&mount.path("0")), sha256_of(&content(0)), "{what}");
    }
    harm(&mount.cache().join("index.db"));
    for _ in 0..2 {
        read_all(&mount, what);
    }
    mount.remount();
    read_all(&mount, what);
    mount.remount();
    let mark = origin.log().mark();
    read_all(&mount, what);
    let again = origin.log().since(mark);
    let asked = |number: &usize| !again.data(&format!("/{number}")).is_empty();
    assert_eq!((0..SIZES.len()).find(asked), None, "{what}: fetched again: {again:?}");
    let cache = mount.cache();
    mount.unmount();
    // Chunks that only the damaged index knew are freed sooner or later.
    run(fetchfs()
        .args(["cache", "verify", "--repair", "--cache-dir"])
        .arg(&cache));
    cached::assert_sound(&cache);
}

#[test]
fn index_deleted_in_use_fails_no_read() {
    costs_no_read("the index alone", |index| fs::remove_file(index).expect("to delete"));
    costs_no_read("the index and what is beside it", |index| {
        for end in ["", "-wal", "-shm"] {
            fs::remove_file(index.with_file_name(format!("index.db{end}"))).expect("to delete");
        }
    });
}

#[test]
fn index_truncated_in_use_fails_no_read() {
    for length in [0, 100, 4096] {
        costs_no_read(&format!("cut to {length} bytes"), |index| {
            let file = File::options().write(true).open(index).expect("the index");
            file.set_len(length).expect("to cut it");
        });
    }
    costs_no_read("its log", |index| {
        let file = File::options().write(true).open(index.with_file_name("index.db-wal"));
        file.expect("its log").set_len(0).expect("to cut it");
    });
}

/// An earlier version mapped all of it into memory, and an access beyond the new end killed the process.
#[test]
fn truncated_shared_files_fail_no_read() {
    for name in ["usage", "index.db-shm"] {
        for length in [0, 100] {
            costs_no_read(&format!("{name} cut to {length} bytes"), |index| {
                let file = File::options()
                    .write(true)
                    .open(index.with_file_name(name))
                    .expect(name);
                file.set_len(length).expect("to cut it");
            });
        }
    }
}

/// The first of two mounts that accesses it must not mislead the other.
#[test]
fn truncated_shared_memory_fails_no_read_of_two_mounts() {
    let origin = Origin::start();
    (0..SIZES.len()).for_each(|number| origin.add(&format!("/{number}"), content(number)));
    let mut one = Mount::of(&origin.url("/")).with("--attr-ttl", "0").start();
    let cache = one.cache();
    let cache = cache.to_str().expect("a path of the harness");
    let mut other = Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .with("--cache-dir", cache)
        .start();
    for round in 0..3 {
        assert_eq!(sha256(&one.path("0")), sha256_of(&content(0)));
        let shared = File::options().write(true).open(Path::new(cache).join("index.db-shm"));
        shared.expect("it is there").set_len(0).expect("to cut it");
        std::thread::scope(|scope| {
            for mount in [&one, &other] {
                scope.spawn(move || read_all(mount, &format!("round {round}")));
            }
        });
    }
    other.unmount();
    one.remount();
    read_all(&one, "mount again");
    one.unmount();
    run(fetchfs()
        .args(["cache", "verify", "--repair", "--cache-dir"])
        .arg(cache));
    cached::assert_sound(Path::new(cache));
}

/// The written part of a chunk is lost if the file is truncated in the middle of it.
#[test]
fn truncated_chunk_never_reads_as_zeros() {
    let origin = Origin::start();
    let (size, chunk) = (8 * MIB, 4 * MIB);
    let content = Content::noise(size, 9);
    origin.add("/f", content.clone());
    for kept in [0, MIB] {
        let gate = Gate::new();
        let held = origin
            .on("/f")
            .data()
            .times(1)
            .fault(Fault::HoldAfter(chunk + 2 * MIB, gate.clone()));
        let mount = Mount::of(&origin.url("/")).with("--chunk-size", "4MiB").start();
        let path = mount.path("f");
        assert_same(&pread(&path, 0..MIB), &content.read(0..MIB), "its beginning");
        // Inside the chunk that is held back, and present: its reader is woken for its own bytes.
        let part = chunk + MIB..chunk + MIB + 4096;
        assert_same(&pread(&path, part.clone()), &content.read(part), "a part of a chunk");
        for data in cached::data_files(&mount.cache()) {
            File::options()
                .write(true)
                .open(data)
                .expect("it")
                .set_len(kept)
                .expect("to cut it");
        }
        gate.open();
        drop_pages(&path);
        assert_eq!(sha256(&path), sha256_of(&content), "cut to {kept}");
        held.lift();
        let (cache, mut mount) = (mount.cache(), mount);
        mount.unmount();
        cached::assert_sound(&cache);
    }
}

#[test]
fn index_replaced_in_use_fails_no_read() {
    let nonsense = Content::noise(20_000, 7).whole();
    for place in [0, 4096, 8192] {
        costs_no_read(&format!("overwritten from byte {place}"), |index| {
            let file = File::options().write(true).open(index).expect("the index");
            file.write_all_at(&nonsense, place).expect("to overwrite it");
        });
    }
    costs_no_read("replaced", |index| {
        let other = index.with_file_name("other");
        fs::write(&other, &nonsense).expect("to write");
        fs::rename(other, index).expect("to replace it");
    });
}
