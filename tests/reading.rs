//! All ways of reading give the server's bytes.
//!
//! The file is compared byte by byte, or by SHA-256, through every way that the kernel offers to read it. They reach
//! the daemon as requests of different sizes, alignments and orders.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::Command;

use proptest::test_runner::{Config, TestRunner};

use crate::common::files::{
    advise_random, assert_same, drop_pages, open_direct, pread, read_direct, sha256, sha256_of,
};
use crate::common::files::{try_pread, write_sparse};
use crate::common::servers::WebServer;
use crate::common::{Mount, is_root, run, temporary_directory};
use crate::origin::{Content, Origin};

/// The chunk size of these mounts, in bytes.
const CHUNK: u64 = 64 * 1024;

/// A mount of an origin with one file, `f`, in chunks of [`CHUNK`].
struct OneFile {
    content: Content,
    mount: Mount,
    _origin: Origin,
}

impl OneFile {
    fn of(size: u64) -> OneFile {
        let (origin, content) = (Origin::start(), Content::noise(size, 11));
        origin.add("/f", content.clone());
        let mount = Mount::of(&origin.url("/")).with("--chunk-size", "64KiB").start();
        OneFile {
            content,
            mount,
            _origin: origin,
        }
    }

    fn open(&self) -> File {
        File::open(self.mount.path("f")).expect("to open the file")
    }
}

#[test]
fn sequential_reads_match_the_server() {
    let origin = Origin::start();
    let sizes = [
        0,
        1,
        4095,
        4096,
        4097,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        5 * CHUNK - 1,
        5 * CHUNK,
        5 * CHUNK + 1,
        20_000_000,
    ];
    let files = sizes.map(|size| (size.to_string(), Content::noise(size, size)));
    files
        .iter()
        .for_each(|(name, content)| origin.add(&format!("/{name}"), content.clone()));
    let mount = Mount::of(&origin.url("/")).with("--chunk-size", "64KiB").start();
    for (name, content) in &files {
        let path = mount.path(name);
        assert_eq!(
            fs::metadata(&path).expect("to stat").len(),
            content.size(),
            "the size of {name}"
        );
        assert_eq!(sha256(&path), sha256_of(content), "the bytes of {name}");
    }
}

#[test]
fn single_file_source_is_mounted_under_its_name() {
    let (origin, content) = (Origin::start(), Content::noise(300_000, 1));
    origin.add("/deep/with space.bin", content.clone());
    origin.add("/other.bin", "other");
    let mount = Mount::of(&origin.url("/deep/with space.bin"))
        .and(&origin.url("/other.bin"))
        .start();
    assert_eq!(sha256(&mount.path("with space.bin")), sha256_of(&content));
    assert_eq!(fs::read(mount.path("other.bin")).expect("to read"), b"other");
    assert_eq!(fs::read_dir(mount.root()).expect("to list").count(), 2);
}

#[test]
fn random_ranges_match_the_server() {
    const SIZE: u64 = 40 * CHUNK + 123;
    let it = OneFile::of(SIZE);
    let (file, path) = (it.open(), it.mount.path("f"));
    advise_random(&file);
    let config = Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let ranges = (0..SIZE + 1000, 0..3 * CHUNK, proptest::bool::ANY);
    let outcome = TestRunner::new(config).run(&ranges, |(offset, length, cold)| {
        if cold {
            drop_pages(&path);
        }
        let read = try_pread(&file, offset..offset + length).expect("to read");
        assert_same(
            &read,
            &it.content.read(offset..offset + length),
            &format!("{length} bytes at {offset}"),
        );
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn ranges_across_chunk_edges_are_complete() {
    let it = OneFile::of(8 * CHUNK);
    let file = it.open();
    advise_random(&file);
    // From the back, so that no read-ahead helps.
    for edge in (1..8).rev().map(|chunk| chunk * CHUNK) {
        for (before, after) in [(1, 1), (3, 5), (1, 0), (0, 1), (CHUNK, CHUNK), (CHUNK - 1, 1)] {
            let range = edge - before..edge + after;
            let read = try_pread(&file, range.clone()).expect("to read");
            assert_same(
                &read,
                &it.content.read(range),
                &format!("{before} bytes before and {after} after {edge}"),
            );
        }
    }
}

#[test]
fn reads_stop_at_end_of_file() {
    let it = OneFile::of(2 * CHUNK + 7);
    let size = it.content.size();
    let mut file = it.open();
    assert_same(
        &pread(&it.mount.path("f"), size - 3..size + 100),
        &it.content.read(size - 3..size),
        "the end",
    );
    for beyond in [size, size + 1, size + CHUNK, 1 << 40] {
        assert_eq!(file.read_at(&mut [0; 10], beyond).expect("to read"), 0, "at {beyond}");
    }
    assert_eq!(file.seek(SeekFrom::End(-2)).expect("to seek"), size - 2);
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).expect("to read");
    assert_same(&rest, &it.content.read(size - 2..size), "after a seek");
}

#[test]
fn eight_parallel_readers_get_the_whole_file() {
    let origin = Origin::start();
    let contents: Vec<Content> = (0..4)
        .map(|seed| Content::noise(6 * 1024 * 1024 + seed, seed))
        .collect();
    let path = |index: usize| format!("/f{index}");
    contents
        .iter()
        .enumerate()
        .for_each(|(index, content)| origin.add(&path(index), content.clone()));
    let mount = Mount::start_of(&origin.url("/"));
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let (content, file) = (&contents[reader % 4], mount.path(format!("f{}", reader % 4)));
            scope.spawn(move || assert_eq!(sha256(&file), sha256_of(content), "reader {reader}"));
        }
    });
    for (index, content) in contents.iter().enumerate() {
        // A fetch that must yield to a reader may be in flight already. Its bytes are kept.
        let sent = origin.log().all().body_bytes(&path(index));
        assert!(
            sent < content.size() * 3 / 2,
            "{sent} bytes for two readers of {}",
            content.size()
        );
    }
}

#[test]
fn eight_readers_in_different_orders_get_correct_bytes() {
    const BLOCK: u64 = 100_000;
    let it = OneFile::of(8 * 1024 * 1024);
    let blocks = it.content.size().div_ceil(BLOCK);
    std::thread::scope(|scope| {
        for reader in 0..8 {
            let it = &it;
            scope.spawn(move || {
                let file = it.open();
                for step in 0..blocks {
                    // Odd strides visit every block once, in a different order for each reader.
                    let block = (reader * 11 + step * [1, 5, 7, 13, 17, 19, 23, 29][reader as usize]) % blocks;
                    let range = block * BLOCK..(block + 1) * BLOCK;
                    let read = try_pread(&file, range.clone()).expect("to read");
                    assert_same(
                        &read,
                        &it.content.read(range),
                        &format!("reader {reader}, block {block}"),
                    );
                }
            });
        }
    });
}

#[test]
fn mmap_reads_the_file() {
    let it = OneFile::of(20 * CHUNK + 5);
    let (file, size) = (it.open(), it.content.size() as usize);
    let expected = it.content.whole();
    for sharing in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
        drop_pages(&it.mount.path("f"));
        let mapped = Mapped::new(&file, size, sharing).expect("to map the file");
        for at in (0..size).rev().step_by(30_011) {
            assert_eq!(mapped.bytes()[at], expected[at], "byte {at}");
        }
        assert_same(mapped.bytes(), &expected, "the mapping");
    }
}

#[test]
fn readv_fills_all_its_buffers() {
    let it = OneFile::of(4 * CHUNK);
    let (mut a, mut b, mut c) = (vec![0; 10], vec![0; CHUNK as usize], vec![0; 999]);
    let offset = CHUNK - 5;
    let mut buffers = [&mut a, &mut b, &mut c].map(|buffer| io::IoSliceMut::new(buffer));
    let read = nix::sys::uio::preadv(it.open(), &mut buffers, offset as i64).expect("to read");
    assert_eq!(read as u64, 10 + CHUNK + 999);
    assert_same(
        &[a, b, c].concat(),
        &it.content.read(offset..offset + read as u64),
        "three buffers",
    );
}

#[test]
fn sendfile_sends_the_file() {
    let it = OneFile::of(10 * CHUNK + 3);
    let (file, mut target) = (it.open(), tempfile::tempfile().expect("a file"));
    let size = it.content.size();
    let mut sent = 0;
    while sent < size {
        let left = (size - sent) as usize;
        // SAFETY: both descriptors are open, and no offset is passed.
        let step = unsafe { libc::sendfile(target.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), left) };
        assert!(step > 0, "sendfile after {sent} bytes: {}", io::Error::last_os_error());
        sent += step as u64;
    }
    assert_same(&read_back(&mut target), &it.content.whole(), "what was sent");
}

#[test]
fn splice_moves_the_file_through_a_pipe() {
    let it = OneFile::of(10 * CHUNK + 3);
    let (file, mut target) = (it.open(), tempfile::tempfile().expect("a file"));
    let (reader, writer) = io::pipe().expect("a pipe");
    let splice = |from: i32, to: i32, length: usize| {
        let null = std::ptr::null_mut::<libc::loff_t>();
        // SAFETY: both descriptors are open, and no offsets are passed.
        let moved = unsafe { libc::splice(from, null, to, null, length, 0) };
        usize::try_from(moved).unwrap_or_else(|_| panic!("splice: {}", io::Error::last_os_error()))
    };
    loop {
        let mut inside = splice(file.as_raw_fd(), writer.as_raw_fd(), CHUNK as usize);
        if inside == 0 {
            break;
        }
        while inside > 0 {
            inside -= splice(reader.as_raw_fd(), target.as_raw_fd(), inside);
        }
    }
    assert_same(
        &read_back(&mut target),
        &it.content.whole(),
        "what came through the pipe",
    );
}

#[test]
fn o_direct_reads_the_file() {
    const LENGTH: usize = 300 * 1024;
    let it = OneFile::of(10 * CHUNK + 100);
    let file = open_direct(&it.mount.path("f"));
    let mut offset = 0;
    while offset < it.content.size() {
        let read = read_direct(&file, offset, LENGTH).expect("to read");
        assert!(!read.is_empty(), "the file ended at {offset}");
        let end = offset + read.len() as u64;
        assert_same(&read, &it.content.read(offset..end), &format!("at {offset}"));
        offset = end;
    }
    assert_eq!(offset, it.content.size());
}

#[test]
fn cp_and_tail_see_the_file() {
    let it = OneFile::of(30 * CHUNK + 1);
    let elsewhere = temporary_directory();
    let copy = elsewhere.path().join("copy");
    run(Command::new("cp").arg(it.mount.path("f")).arg(&copy)).succeeded();
    assert_eq!(sha256(&copy), sha256_of(&it.content));
    let tail = Command::new("tail")
        .args(["-c", "1000"])
        .arg(it.mount.path("f"))
        .output()
        .expect("tail");
    assert_same(
        &tail.stdout,
        &it.content.read(it.content.size() - 1000..u64::MAX),
        "the tail",
    );
}

#[test]
fn file_above_4_gib_is_read_correctly_and_sparsely() {
    const EDGE: u64 = 1 << 32;
    let root = temporary_directory();
    let content = Content::noise(EDGE + 1_000_000_007, 6);
    let size = content.size();
    let places = [
        0..100_000,
        (1 << 31) - 50_000..(1 << 31) + 50_000,
        EDGE - 50_000..EDGE + 50_000,
        size - 100_000..size,
    ];
    write_sparse(&root.path().join("big"), size, &content, &places);
    let server = WebServer::nginx(root.path());
    let mount = Mount::start_of(&server.url("/"));
    let path = mount.path("big");
    assert_eq!(fs::metadata(&path).expect("to stat").len(), size);
    let file = File::open(&path).expect("to open");
    advise_random(&file);
    for place in places {
        let read = try_pread(&file, place.clone()).expect("to read");
        assert_same(&read, &content.read(place.clone()), &format!("{place:?}"));
    }
    assert_eq!(
        try_pread(&file, EDGE + 500_000_000..EDGE + 500_000_100).expect("to read"),
        [0; 100],
        "a hole"
    );
    let fetched = server.data_bytes_for("/big");
    assert!(
        fetched < 64 << 20,
        "{fetched} bytes were fetched for 400 kB that were read"
    );
}

/// There requests and replies pass through a relay, but the bytes of files bypass it; no reply is larger than the
/// relay accepts.
#[test]
fn mount_works_in_a_container() {
    if !is_root() {
        return;
    }
    const SIZE: u64 = 32 << 20;
    let (origin, content) = (Origin::start(), Content::noise(SIZE + 5, 12));
    origin.add("/f", content.clone());
    for number in 0..2000 {
        origin.add(&format!("/many/{number:0200}"), "x");
    }
    let plan = Mount::of(&origin.url("/")).in_pid_namespace();
    let mut mount = plan.with("-o", "no_passthrough").start();
    let (path, bytes) = (mount.path("f"), content.read(0..SIZE + 5));
    assert_eq!(sha256(&path), sha256_of(&content), "from the server");
    drop_pages(&path);
    assert_eq!(sha256(&path), sha256_of(&content), "from the cache");
    drop_pages(&path);
    let file = File::open(&path).expect("to open");
    let mapped = Mapped::new(&file, bytes.len(), libc::MAP_SHARED).expect("to map");
    assert_same(mapped.bytes(), &bytes, "through a mapping");
    let direct = read_direct(&open_direct(&path), 0, SIZE as usize).expect("to read");
    assert_same(&direct, &bytes[..SIZE as usize], "at once, past the kernel's pages");
    // As `ls` does, and with the largest buffer that the kernel allows.
    assert_eq!(fs::read_dir(mount.path("many")).expect("to list").count(), 2000);
    assert_eq!(count_at_once(&File::open(mount.path("many")).expect("to open")), 2002);
    drop((mapped, file));
    mount.unmount();
}

/// The number of entries in a directory, including the dots, read with a buffer of one MiB.
fn count_at_once(directory: &File) -> usize {
    let (mut buffer, mut count) = (vec![0_u8; 1 << 20], 0);
    loop {
        let (descriptor, room) = (directory.as_raw_fd(), buffer.len());
        // SAFETY: the kernel writes only to the buffer.
        let read = unsafe { libc::syscall(libc::SYS_getdents64, descriptor, buffer.as_mut_ptr(), room) };
        let read = usize::try_from(read).expect("to list");
        if read == 0 {
            return count;
        }
        let mut at = 0;
        while at < read {
            // `d_reclen` of `struct linux_dirent64`.
            at += usize::from(u16::from_ne_bytes([buffer[at + 16], buffer[at + 17]]));
            count += 1;
        }
    }
}

fn read_back(file: &mut File) -> Vec<u8> {
    file.flush().expect("to flush");
    file.rewind().expect("to rewind");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("to read back");
    bytes
}

/// A read-only mapping of a file.
struct Mapped {
    address: *mut libc::c_void,
    size: usize,
}

impl Mapped {
    fn new(file: &File, size: usize, sharing: libc::c_int) -> io::Result<Mapped> {
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping, which can't overlap an existing one.
        let address = unsafe { libc::mmap(anywhere, size, libc::PROT_READ, sharing, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Mapped { address, size })
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped while `self` lives, readable, and no file of the mount shrinks here.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.size) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and `bytes` can't outlive it.
        unsafe { libc::munmap(self.address, self.size) };
    }
}
