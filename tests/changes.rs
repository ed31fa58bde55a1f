//! Files that change on the server. An open file gives the version that it opened, or an error; a new open gives the
//! new version.
//!
//! `--attr-ttl 0` makes each open ask the server, so that no test waits for a version to become stale.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use fetchfs::internals::events;

use crate::common::files::{
    self, advise_random, assert_same, drop_pages, errno_of, open_direct, read_direct, sha256, sha256_of, try_pread,
};
use crate::common::{Mount, fetchfs, run, wait_until};
use crate::origin::{Content, Fault, Gate, Origin, Validators};

const MIB: u64 = 1 << 20;

/// The size of the first version.
const SIZE: u64 = 32 * MIB;

/// The chunk size of these mounts. A partially fetched chunk is not cached.
const CHUNK: u64 = 64 << 10;

/// The part of the first version that is read and cached: its first chunk.
const CACHED: std::ops::Range<u64> = 0..CHUNK;
const ELSEWHERE: std::ops::Range<u64> = 28 * MIB..28 * MIB + 4096;

/// The validators that servers send for a version.
const KINDS: [Validators; 3] = [Validators::Strong, Validators::Weak, Validators::DateOnly];

fn origin_with(kind: Validators) -> (Origin, Content) {
    let (origin, old) = (Origin::start(), Content::noise(SIZE, 51));
    origin.add("/f", old.clone());
    origin.set_validators("/f", kind);
    (origin, old)
}

fn mount_of(origin: &Origin) -> Mount {
    Mount::of(&origin.url("/"))
        .with("--attr-ttl", "0")
        .with("--chunk-size", "64KiB")
        .start()
}

/// Opens the file and asserts that its beginning is this content's.
#[track_caller]
fn open_and_read(mount: &Mount, content: &Content) -> File {
    let file = File::open(mount.path("f")).expect("to open");
    advise_random(&file);
    assert_same(
        &try_pread(&file, CACHED).expect("to read"),
        &content.read(CACHED),
        "the beginning",
    );
    file
}

/// Drops the kernel's pages of an open file, so that its next read reaches the daemon.
fn forget_pages(file: &File) {
    // SAFETY: the descriptor is open; the call only gives advice.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(result, 0, "posix_fadvise: {}", io::Error::from_raw_os_error(result));
}

#[track_caller]
fn assert_stale<T>(outcome: io::Result<T>, what: &str) {
    assert_eq!(errno_of(outcome), libc::ESTALE, "{what}");
}

/// Asserts that the old handle returns the cached part of the old version and otherwise ESTALE, and that the name
/// gives the new version.
#[track_caller]
fn assert_old_and_new(mount: &Mount, handle: &File, old: &Content, new: &Content, what: &str) {
    let old_inode = handle.metadata().expect("to stat the handle").ino();
    for _ in 0..2 {
        assert_stale(try_pread(handle, ELSEWHERE), what);
        forget_pages(handle);
        assert_same(&try_pread(handle, CACHED).expect(what), &old.read(CACHED), what);
    }
    let path = mount.path("f");
    assert_eq!(sha256(&path), sha256_of(new), "{what}");
    let shown = fs::metadata(&path).expect("to stat");
    assert_eq!(shown.len(), new.size(), "{what}");
    assert_ne!(
        shown.ino(),
        old_inode,
        "{what}: a version has an inode number of its own"
    );
    forget_pages(handle);
    assert_same(&try_pread(handle, CACHED).expect(what), &old.read(CACHED), what);
    assert_stale(try_pread(handle, ELSEWHERE), what);
}

#[test]
fn open_file_that_changes_returns_an_error() {
    for kind in KINDS {
        for new_size in [SIZE, 3 * MIB + 1, SIZE + 1] {
            let (origin, old) = origin_with(kind);
            let mount = mount_of(&origin);
            let handle = open_and_read(&mount, &old);
            let new = Content::noise(new_size, 52);
            origin.add("/f", new.clone());
            assert_old_and_new(&mount, &handle, &old, &new, &format!("{kind:?}, now {new_size} bytes"));
        }
    }
}

#[test]
fn replacement_with_same_date_is_detected() {
    for (kind, new_size) in [
        (Validators::Strong, SIZE),
        (Validators::Strong, SIZE - 1),
        (Validators::Weak, SIZE - 1),
        (Validators::DateOnly, SIZE - 1),
        (Validators::None, SIZE - 1),
    ] {
        let (origin, old) = origin_with(kind);
        let mount = mount_of(&origin);
        let handle = open_and_read(&mount, &old);
        let new = Content::noise(new_size, 53);
        origin.replace_keeping_date("/f", new.clone());
        assert_old_and_new(&mount, &handle, &old, &new, &format!("{kind:?}, now {new_size} bytes"));
    }
}

#[test]
fn change_during_a_read_returns_old_bytes_then_an_error() {
    for kind in KINDS {
        let (origin, old) = origin_with(kind);
        // One connection, so that part of the file is not yet requested when it changes.
        let mount = Mount::of(&origin.url("/"))
            .with("--attr-ttl", "0")
            .with("--max-connections", "1")
            .start();
        let gate = Gate::new();
        // The second half of the old version is held back until there is a new version.
        let switch = origin
            .on("/f")
            .data()
            .starting_at(SIZE / 2)
            .fault(Fault::Hold(gate.clone()));
        let new = Content::noise(SIZE, 54);
        let mut file = File::open(mount.path("f")).expect("to open");
        let mut read = vec![0; (SIZE / 4) as usize];
        io::Read::read_exact(&mut file, &mut read).expect("the first quarter");
        assert_same(&read, &old.read(0..SIZE / 4), "the first quarter");
        origin.add("/f", new.clone());
        switch.lift();
        gate.open();
        let error = io::copy(
            &mut file,
            &mut Checked {
                content: &old,
                at: SIZE / 4,
            },
        )
        .expect_err("it has changed");
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{kind:?}");
        assert_eq!(sha256(&mount.path("f")), sha256_of(&new), "{kind:?}");
    }
}

/// Compares a stream with a content from a place on. Fails the test at the first wrong byte.
struct Checked<'a> {
    content: &'a Content,
    at: u64,
}

impl io::Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.at + bytes.len() as u64;
        assert_same(
            bytes,
            &self.content.read(self.at..end),
            &format!("from byte {}", self.at),
        );
        self.at = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn change_between_open_and_read_gives_one_version() {
    for new_size in [SIZE, 5 * MIB + 3] {
        // Nothing is cached: the first bytes decide which version the handle has.
        let (origin, old) = origin_with(Validators::Strong);
        let mount = mount_of(&origin);
        let handle = File::open(mount.path("f")).expect("to open");
        let new = Content::noise(new_size, 55);
        origin.add("/f", new.clone());
        assert_same(
            &try_pread(&handle, CACHED).expect("to read"),
            &new.read(CACHED),
            "the beginning",
        );
        let end = new_size - 4096..new_size;
        assert_same(
            &try_pread(&handle, end.clone()).expect("to read"),
            &new.read(end),
            "the end",
        );
        assert_eq!(sha256(&mount.path("f")), sha256_of(&new));
        drop((handle, mount));

        // The beginning is cached: the handle has the version that was current at the open.
        origin.add("/f", old.clone());
        let mount = mount_of(&origin);
        drop(open_and_read(&mount, &old));
        drop_pages(&mount.path("f"));
        let handle = File::open(mount.path("f")).expect("to open");
        advise_random(&handle);
        origin.add("/f", new.clone());
        assert_same(
            &try_pread(&handle, CACHED).expect("to read"),
            &old.read(CACHED),
            "what is cached",
        );
        assert_old_and_new(&mount, &handle, &old, &new, "changed after it was opened");
    }
}

#[test]
fn change_during_an_outage_shows_after_it() {
    for kind in KINDS {
        let (origin, old) = origin_with(kind);
        let mount = Mount::of(&origin.url("/"))
            .with("--attr-ttl", "0")
            .with("--chunk-size", "64KiB")
            .with("--retries", "0")
            .start();
        let handle = open_and_read(&mount, &old);
        origin.go_down();
        let new = Content::noise(SIZE, 56);
        origin.add("/f", new.clone());
        drop(open_and_read(&mount, &old));
        let errno = errno_of(try_pread(&handle, ELSEWHERE));
        assert_eq!(errno, libc::EIO, "{kind:?}: down is not changed");
        origin.come_back();
        assert_old_and_new(&mount, &handle, &old, &new, &format!("{kind:?}, back"));
    }
}

#[test]
fn cached_version_is_not_served_as_the_next() {
    let (origin, old) = (Origin::start(), Content::noise(3 * MIB, 57));
    origin.add("/f", old.clone());
    let mut mount = Mount::start_of(&origin.url("/"));
    assert_eq!(sha256(&mount.path("f")), sha256_of(&old));
    // The size is the same, so only the validator differs.
    let new = Content::noise(3 * MIB, 58);
    origin.add("/f", new.clone());
    mount.remount();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&new));
    let newer = Content::noise(2 * MIB + 1, 59);
    origin.add("/f", newer.clone());
    mount.remount();
    assert_eq!(sha256(&mount.path("f")), sha256_of(&newer));
    assert_eq!(fs::metadata(mount.path("f")).expect("to stat").size(), newer.size());
}

#[test]
fn replaced_file_is_complete_despite_a_late_listing() {
    for new_size in [3 * MIB - 5, 3 * MIB + 5, 0] {
        let (origin, old) = (Origin::start(), Content::noise(3 * MIB, 68));
        origin.add("/f", old.clone());
        let mut mount = Mount::start_of(&origin.url("/"));
        assert_eq!(sha256(&mount.path("f")), sha256_of(&old));
        mount.unmount();
        let new = Content::noise(new_size, 69);
        origin.add("/f", new.clone());
        let gate = Gate::new();
        origin.on("/").fault(Fault::Hold(gate.clone()));
        mount.start();
        // The kernel caches the old size for 10 s.
        assert_eq!(fs::metadata(mount.path("f")).expect("to stat").size(), old.size());
        assert_eq!(sha256(&mount.path("f")), sha256_of(&new), "now {new_size} bytes");
        assert_eq!(fs::metadata(mount.path("f")).expect("to stat").size(), new_size);
        gate.open();
    }
}

#[test]
fn replaced_version_is_not_served_offline() {
    let (origin, old) = origin_with(Validators::Strong);
    let mut mount = mount_of(&origin);
    let handle = open_and_read(&mount, &old);
    // Only a read of the old version meets the new version.
    origin.add("/f", Content::noise(SIZE, 60));
    assert_stale(try_pread(&handle, ELSEWHERE), "changed");
    drop(handle);
    mount.unmount();
    mount.add_option("--offline", "");
    mount.start();
    let outcome = File::open(mount.path("f")).and_then(|file| try_pread(&file, CACHED));
    assert_eq!(errno_of(outcome), libc::ENETUNREACH);
}

#[test]
fn page_cache_never_mixes_versions() {
    let (origin, old) = (Origin::start(), Content::noise(MIB, 61));
    origin.add("/f", old.clone());
    let mount = mount_of(&origin);
    let read = |path: &Path| files::pread(path, 0..MIB);
    let mut content = old;
    for round in 0..5 {
        // Twice: the second read comes from the kernel's pages.
        assert_same(&read(&mount.path("f")), &content.whole(), &format!("round {round}"));
        assert_same(
            &read(&mount.path("f")),
            &content.whole(),
            &format!("round {round}, from pages"),
        );
        content = Content::noise(MIB, 62 + round);
        origin.add("/f", content.clone());
    }
}

#[test]
fn page_cache_of_an_evicted_version_is_not_reused() {
    /// More files than the cache keeps open without a reader.
    const OTHERS: u64 = 70;
    for kind in [Validators::Strong, Validators::DateOnly] {
        let (origin, old) = origin_with(kind);
        for number in 0..OTHERS {
            origin.add(&format!("/other/{number:02}"), Content::noise(10, number));
        }
        let mount = mount_of(&origin);
        drop(open_and_read(&mount, &old));
        for number in 0..OTHERS {
            files::pread(&mount.path(format!("other/{number:02}")), 0..10);
        }
        // The cache has evicted all of it, but the kernel may still have its pages.
        let url = origin.url("/f");
        run(fetchfs()
            .args(["cache", "clear", &url, "--cache-dir"])
            .arg(mount.cache()))
        .succeeded();
        let new = Content::noise(SIZE, 70);
        match kind {
            Validators::Strong => origin.replace_keeping_date("/f", new.clone()),
            _ => origin.add("/f", new.clone()),
        }
        let handle = open_and_read(&mount, &new);
        assert_same(
            &try_pread(&handle, ELSEWHERE).expect("to read"),
            &new.read(ELSEWHERE),
            "elsewhere",
        );
    }
}

#[test]
fn changing_etags_fall_back_to_dates() {
    let origin = Origin::start();
    let content = Content::noise(8 * MIB, 61);
    origin.add("/f", content.clone());
    origin.add("/g", content.clone());
    let _tags = origin.on_any().fault(Fault::AnotherTag(Arc::default()));
    let mut mount = Mount::of(&origin.url("/")).with("--attr-ttl", "0s").start();
    // The first reader finds it out, because its bytes would be of two versions.
    let first = open_direct(&mount.path("f"));
    for offset in [0, 4 * MIB] {
        let part = read_direct(&first, offset, 4096).expect("to read");
        assert_same(&part, &content.read(offset..offset + 4096), "one answer");
    }
    drop(first);
    assert_eq!(mount.events(events::VALIDATORS_DIFFER), 1);
    for name in ["f", "g"] {
        assert_eq!(sha256(&mount.path(name)), sha256_of(&content), "{name}");
    }
    // Cached bytes are not fetched again, nor after a remount.
    for _ in 0..2 {
        let mark = origin.log().mark();
        for name in ["f", "g"] {
            drop_pages(&mount.path(name));
            assert_eq!(sha256(&mount.path(name)), sha256_of(&content), "{name}");
        }
        let asked = origin.log().since(mark);
        // Except for the first byte, whose response gives the version.
        assert!(asked.body_bytes("/f") < 10 && asked.body_bytes("/g") < 10, "{asked:?}");
        mount.remount();
    }
    // Another date is another version.
    let handle = File::open(mount.path("f")).expect("to open");
    let next = Content::noise(8 * MIB, 62);
    origin.add("/f", next.clone());
    assert_eq!(sha256(&mount.path("f")), sha256_of(&next), "the next version");
    drop(handle);
}

/// `tail -F` reads a replaced file a second after opening it. By then the server may have the next version.
#[test]
fn opened_replacement_is_readable_after_the_next() {
    let origin = Origin::start();
    origin.add("/log", "first\n");
    let mount = mount_of(&origin);
    let mut followed = File::open(mount.path("log")).expect("to open");
    assert_eq!(io::read_to_string(&mut followed).expect("to read"), "first\n");
    origin.add("/log", "first\nsecond\n");
    let mark = origin.log().mark();
    let mut followed = File::open(mount.path("log")).expect("to open");
    wait_until("the new version", || origin.log().since(mark).body_bytes("/log") >= 13);
    origin.add("/log", "first\nsecond\nthird\n");
    assert_eq!(io::read_to_string(&mut followed).expect("to read"), "first\nsecond\n");
    assert_eq!(
        fs::read_to_string(mount.path("log")).expect("to read"),
        "first\nsecond\nthird\n"
    );
    assert_eq!(errno_of(followed.metadata()), libc::ESTALE);
}
