//! Passthrough: complete cached files that the kernel reads directly.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

use crate::common::files::drop_pages;
use crate::common::{Mount, PATIENCE, cached, wait_until};
use crate::origin::{Content, Origin};

const MIB: u64 = 1 << 20;

/// A mount whose cache has all of `/file`, without pages in the kernel's memory.
fn with_complete_file(options: &[(&str, &str)]) -> (Origin, Mount, Vec<u8>) {
    let origin = Origin::start();
    let content = Content::noise(5 * MIB + 123, 7);
    origin.add("/file", content.clone());
    let plan = options
        .iter()
        .fold(Mount::of(&origin.url("/")), |plan, (option, value)| {
            plan.with(option, value)
        });
    let mut mount = plan.start();
    let bytes = content.read(0..5 * MIB + 123);
    assert!(fs::read(mount.path("file")).expect("to read") == bytes);
    mount.remount();
    (origin, mount, bytes)
}

fn read_all(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map(|()| bytes)
}

#[test]
fn complete_file_is_read_without_the_daemon() {
    // Only root can register a backing file. All other tests cover the fallback.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (_origin, mut mount, bytes) = with_complete_file(&[]);
    let file = File::open(mount.path("file")).expect("to open");
    // Nothing was read of it yet: all bytes now come from the data file.
    mount.kill();
    assert!(read_all(&file, bytes.len()).expect("to read") == bytes);
}

/// The kernel would read the rest of it as if it were complete.
#[test]
fn truncated_passthrough_file_is_refetched_on_open() {
    let (_origin, mut mount, bytes) = with_complete_file(&[]);
    let change = |length: u64| {
        for data in cached::data_files(&mount.cache()) {
            File::options()
                .write(true)
                .open(data)
                .expect("it")
                .set_len(length)
                .expect("a length");
        }
    };
    assert!(fs::read(mount.path("file")).expect("to read") == bytes);
    for length in [0, 1, MIB, bytes.len() as u64 - 1, bytes.len() as u64 + 4096] {
        change(length);
        // The kernel releases a file after its reader has closed it; until then it has the truncated file.
        wait_until("the file to be closed and fetched again", || {
            File::open(mount.path("file")).is_ok()
        });
        drop_pages(&mount.path("file"));
        assert!(
            fs::read(mount.path("file")).expect("to read") == bytes,
            "{length} bytes were left"
        );
    }
    // While the kernel reads it for other handles, it can't be read in another mode, and the file must not change.
    change(bytes.len() as u64);
    mount.remount();
    let file = File::open(mount.path("file")).expect("to open");
    for data in cached::data_files(&mount.cache()) {
        File::options()
            .write(true)
            .open(data)
            .expect("it")
            .set_len(0)
            .expect("a length");
    }
    if let Ok(second) = fs::read(mount.path("file")) {
        assert!(second == bytes, "by an ordinary user");
    }
    drop(file);
    let deadline = Instant::now() + PATIENCE;
    while !fs::read(mount.path("file")).is_ok_and(|read| read == bytes) {
        assert!(Instant::now() < deadline, "it is never read again");
    }
}

/// There `fuser` has a socket in place of the device, and the kernel takes no backing file on a socket.
#[test]
fn passthrough_works_in_a_container() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let origin = Origin::start();
    let content = Content::noise(5 * MIB + 123, 7);
    origin.add("/file", content.clone());
    let mut mount = Mount::of(&origin.url("/")).in_pid_namespace().start();
    let bytes = content.read(0..5 * MIB + 123);
    assert!(fs::read(mount.path("file")).expect("to read") == bytes);
    mount.remount();
    // The first handle is closed, which unregisters its backing file.
    for _ in 0..2 {
        let file = File::open(mount.path("file")).expect("to open");
        assert!(read_all(&file, bytes.len()).expect("to read") == bytes);
    }
    drop_pages(&mount.path("file"));
    let file = File::open(mount.path("file")).expect("to open");
    mount.kill();
    assert!(read_all(&file, bytes.len()).expect("to read") == bytes);
}

#[test]
fn bytes_are_the_same_without_passthrough() {
    let (origin, mut mount, bytes) = with_complete_file(&[("-o", "no_passthrough")]);
    let before = origin.log().all().data("/file").len();
    assert!(fs::read(mount.path("file")).expect("to read") == bytes);
    assert_eq!(origin.log().all().data("/file").len(), before, "it is all in the cache");
    mount.remount();
    let file = File::open(mount.path("file")).expect("to open");
    mount.kill();
    let error = read_all(&file, bytes.len()).expect_err("nobody is there to answer");
    assert!(
        matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)),
        "{error}"
    );
}

#[test]
fn file_completed_while_open_can_be_reopened() {
    let origin = Origin::start();
    let content = Content::noise(3 * MIB, 8);
    origin.add("/file", content.clone());
    let mount = Mount::start_of(&origin.url("/"));
    let first = File::open(mount.path("file")).expect("to open");
    let bytes = content.read(0..3 * MIB);
    assert!(read_all(&first, bytes.len()).expect("to read") == bytes);
    // The kernel would refuse a handle of the other mode beside the first one.
    let second = File::open(mount.path("file")).expect("to open beside");
    assert!(read_all(&second, bytes.len()).expect("to read") == bytes);
    drop((first, second));
    assert!(fs::read(mount.path("file")).expect("to read once more") == bytes);
}

#[test]
fn many_handles_share_one_backing_file() {
    let (_origin, mount, bytes) = with_complete_file(&[]);
    let files: Vec<_> = (0..20)
        .map(|_| File::open(mount.path("file")).expect("to open"))
        .collect();
    for file in files.iter().rev() {
        assert!(read_all(file, bytes.len()).expect("to read") == bytes);
    }
}

#[test]
fn kernel_read_ahead_is_larger_without_passthrough() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let origin = Origin::start();
    let served = || Mount::of(&origin.url("/")).with("-o", "no_passthrough");
    let plans = [
        (Mount::of(&origin.url("/")), 128),
        (served(), 512),
        (served().in_pid_namespace(), 512),
    ];
    for (plan, expected) in plans {
        let mount = plan.start();
        let device = fs::metadata(mount.root()).expect("to stat").dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let read_ahead: u32 = fs::read_to_string(&file)
            .expect(&file)
            .trim()
            .parse()
            .expect("a number");
        assert_eq!(read_ahead, expected, "KiB");
    }
}
