//! Pins and evictions by the user: pins outlive the quota, and `evict` also deletes chunks of open files.

use std::fs::File;
use std::process::Command;

use crate::common::Mount;
use crate::common::files::{assert_same, drop_pages, sha256, sha256_of, try_pread};
use crate::common::mount::fetchfs;
use crate::common::process::run;
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;

fn site() -> Origin {
    let origin = Origin::start();
    origin.add("/kept", Content::noise(3 * MIB + 5, 1));
    for number in 0..4 {
        origin.add(&format!("/{number}"), Content::noise(16 * MIB, 10 + number));
    }
    origin
}

fn fetchfs_on(mount: &Mount, words: &[&str], name: &str) -> Command {
    let mut command = fetchfs();
    command.args(words).arg(mount.path(name));
    command
}

#[test]
fn pinned_files_survive_many_times_the_quota() {
    let origin = site();
    let mount = Mount::of(&origin.url("/"))
        .with("--cache-size", "16MiB")
        .with("--max-connections", "4")
        .start();
    run(&mut fetchfs_on(&mount, &["prefetch"], "kept")).succeeded();
    run(&mut fetchfs_on(&mount, &["pin", "--no-fetch"], "kept")).succeeded();
    for number in 0..4 {
        let expected = sha256_of(&Content::noise(16 * MIB, 10 + number));
        assert_eq!(sha256(&mount.path(number.to_string())), expected);
    }
    let mark = origin.log().mark();
    drop_pages(&mount.path("kept"));
    assert_eq!(sha256(&mount.path("kept")), sha256_of(&Content::noise(3 * MIB + 5, 1)));
    assert_eq!(origin.log().since(mark).body_bytes("/kept"), 0);
    // Unpinned files have been evicted: four times the quota can't fit.
    for number in 0..4 {
        let path = mount.path(number.to_string());
        drop_pages(&path);
        assert_eq!(sha256(&path), sha256_of(&Content::noise(16 * MIB, 10 + number)));
    }
    let log = origin.log().since(mark);
    let again: u64 = (0..4).map(|number| log.body_bytes(&format!("/{number}"))).sum();
    assert!(again > 32 * MIB, "{again} bytes");
}

#[test]
fn open_file_can_be_evicted_and_is_refetched() {
    let origin = site();
    let mount = Mount::of(&origin.url("/")).with("--no-passthrough", "").start();
    let (content, file) = (
        Content::noise(3 * MIB + 5, 1),
        File::open(mount.path("kept")).expect("to open"),
    );
    assert_same(
        &try_pread(&file, 0..3 * MIB).expect("to read"),
        &content.read(0..3 * MIB),
        "before",
    );
    let mark = origin.log().mark();
    let ran = run(&mut fetchfs_on(&mount, &["evict"], "kept")).succeeded();
    assert!(ran.out.contains("evicted"), "{ran:?}");
    drop_pages(&mount.path("kept"));
    assert_same(
        &try_pread(&file, 0..3 * MIB).expect("to read"),
        &content.read(0..3 * MIB),
        "after",
    );
    assert!(origin.log().since(mark).body_bytes("/kept") >= 3 * MIB);
}
