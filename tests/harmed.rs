//! What others do to the cache's index while a mount uses it costs no read and no wrong byte, and is over with the next mount.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::files::{assert_same, drop_pages, pread, sha256, sha256_of};
use crate::common::{Mount, cached, fetchfs, run};
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;

/// The sizes of the files: one is read before the harm is done, one before and after, one after.
const SIZES: [u64; 3] = [MIB + 1, 5 * MIB, 3 * MIB - 7];

fn content(number: usize) -> Content {
    Content::noise(SIZES[number], 110 + number as u64)
}

/// Reads files from the daemon, by several readers at once.
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

/// Harms it, reads, mounts anew and reads, and anew once more: then all is cached, and sound.
#[track_caller]
fn costs_no_read(what: &str, harm: impl Fn(&Path)) {
    // One that is all in its log yet, and one that is all in its file.
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
    // What the harmed index knew and the next one does not is what a mount gives back sooner or later.
    run(fetchfs()
        .args(["cache", "verify", "--repair", "--cache-dir"])
        .arg(&cache));
    cached::assert_sound(&cache);
}

#[test]
fn an_index_that_is_deleted_under_a_mount_costs_no_read() {
    costs_no_read("the index alone", |index| fs::remove_file(index).expect("to delete"));
    costs_no_read("the index and what is beside it", |index| {
        for end in ["", "-wal", "-shm"] {
            fs::remove_file(index.with_file_name(format!("index.db{end}"))).expect("to delete");
        }
    });
}

#[test]
fn an_index_that_is_cut_off_under_a_mount_costs_no_read() {
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

#[test]
fn an_index_that_is_overwritten_or_replaced_under_a_mount_costs_no_read() {
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
