//! Files: written, read in the ways of programs, and compared.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::PATIENCE;
use crate::origin::Content;

/// Bytes read or written at a time.
const BLOCK: u64 = 1 << 20;

/// A SHA-256 sum.
pub type Sum = [u8; 32];

/// The names in a directory, sorted.
#[track_caller]
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// The names below a directory with their folders, sorted.
pub fn tree(root: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("to list") {
            let entry = entry.expect("an entry");
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            // Without stat, which may ask a server for dates.
            if entry.file_type().expect("a type").is_dir() {
                found.push(format!("{name}/"));
                walk(&path, root, found);
            } else {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// The sum of the file at `path`, from its beginning to its end.
#[track_caller]
pub fn sha256(path: &Path) -> Sum {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: open: {error}", path.display()));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BLOCK as usize]);
    loop {
        let read = file
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("{}: read: {error}", path.display()));
        if read == 0 {
            return hash.finalize().into();
        }
        hash.update(&buffer[..read]);
    }
}

/// The sum of a content.
pub fn sha256_of(content: &Content) -> Sum {
    let mut hash = Sha256::new();
    blocks(content).for_each(|block| hash.update(block));
    hash.finalize().into()
}

/// Writes the content to disk, for a real server to serve.
pub fn write_file(path: &Path, content: &Content) {
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("its directory");
    let mut file = File::create(path).expect("a file");
    blocks(content).for_each(|block| file.write_all(&block).expect("room for a file"));
}

/// Writes a sparse file of `size` bytes that holds the content's bytes in these ranges only.
pub fn write_sparse(path: &Path, size: u64, content: &Content, ranges: &[Range<u64>]) {
    let file = File::create(path).expect("a file");
    file.set_len(size).expect("a sparse file");
    for range in ranges {
        file.write_all_at(&content.read(range.clone()), range.start)
            .expect("room for a few bytes");
    }
}

fn blocks(content: &Content) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..content.size().div_ceil(BLOCK)).map(|block| content.read(block * BLOCK..(block + 1) * BLOCK))
}

/// Reads the range by `pread` until it is full or the file ends.
pub fn try_pread(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], range.start + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Reads the range by `pread` until it is full or the file ends. An error fails the test.
#[track_caller]
pub fn pread(path: &Path, range: Range<u64>) -> Vec<u8> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: open: {error}", path.display()));
    try_pread(&file, range.clone()).unwrap_or_else(|error| panic!("{}: pread {range:?}: {error}", path.display()))
}

/// Asserts that both are the same bytes. A failure shows the first difference instead of the bytes.
#[track_caller]
pub fn assert_same(read: &[u8], expected: &[u8], what: &str) {
    let parts = read.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = parts {
        panic!(
            "{what}: byte {at} of {} is {:#04x} and should be {:#04x}",
            expected.len(),
            read[at],
            expected[at]
        );
    }
    assert_eq!(read.len(), expected.len(), "{what}: so many bytes, all of them right");
}

/// Drops the kernel's pages of the file, so that the next read reaches the daemon.
pub fn drop_pages(path: &Path) {
    let file = File::open(path).expect("the file");
    // SAFETY: the descriptor is open; the call only gives advice.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(result, 0, "posix_fadvise: {}", io::Error::from_raw_os_error(result));
}

/// Turns off the kernel's read-ahead for this descriptor, so that only the test's reads reach the daemon.
pub fn advise_random(file: &File) {
    // SAFETY: the descriptor is open; the call only gives advice.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    assert_eq!(result, 0, "posix_fadvise: {}", io::Error::from_raw_os_error(result));
}

/// The errno of a call that must fail.
#[track_caller]
pub fn errno_of<T>(outcome: io::Result<T>) -> i32 {
    let error = outcome.err().expect("an error");
    error.raw_os_error().expect("an error of the kernel's")
}

/// An alignment that O_DIRECT accepts on every file system.
const PAGE: usize = 4096;

/// Opens a file with O_DIRECT, so that each read reaches the daemon.
#[track_caller]
pub fn open_direct(path: &Path) -> File {
    try_open_direct(path).unwrap_or_else(|error| panic!("{}: open with O_DIRECT: {error}", path.display()))
}

/// The same, if it may fail.
pub fn try_open_direct(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

/// One `pread` on a file from [`open_direct`]. Offset and length are multiples of a page. Shorter at the end of the
/// file.
pub fn read_direct(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length + PAGE];
    let start = buffer.as_ptr().align_offset(PAGE);
    let read = file.read_at(&mut buffer[start..start + length], offset)?;
    Ok(buffer[start..start + read].to_vec())
}

/// Waits until a thread of this process waits in `pread`. It has no event, so the kernel is polled.
pub fn wait_until_blocked_in_pread(thread: nix::unistd::Pid) {
    let file = format!("/proc/self/task/{thread}/syscall");
    let deadline = Instant::now() + PATIENCE;
    let wanted = format!("{} ", libc::SYS_pread64);
    // "running", or the number of the system call in which the thread waits.
    while !fs::read_to_string(&file).is_ok_and(|call| call.starts_with(&wanted)) {
        assert!(Instant::now() < deadline, "thread {thread} never came to wait in pread");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that a folder and everything in it take on disk.
pub fn on_disk(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() * 512 + entries.map(|entry| on_disk(&entry.path())).sum::<u64>()
}
