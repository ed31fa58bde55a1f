//! The page: how the file `usage` is laid out, made and mapped, and how its words are waited on.
//!
//! It holds nothing but atomics, for which any bytes are a value; so whatever another process, or an older fetchfs, has left in it can be
//! read. Two words are there to be waited on (futex(2)), across processes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::cache::quota::locks::{Lock, lock};

/// Processes that may use a cache folder at a time.
pub const SLOTS: usize = 64;

/// Bytes of the file.
pub const LEN: u64 = 4096;

/// Past the bytes themselves: what is locked there means a slot, or joining.
const SLOT_LOCKS: u64 = LEN;
pub const JOIN_LOCK: (u64, u64) = (LEN + SLOTS as u64, 1);

/// Says that the page is laid out as [`Page`] is.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ffsuse01");

/// See the module.
#[repr(C)]
pub struct Page {
    /// [`MAGIC`], when it has been begun.
    pub magic: AtomicU64,
    /// Bytes of data files, allocated or reserved.
    pub used: AtomicU64,
    /// All bytes that ever came in: the logical clock.
    pub grown: AtomicU64,
    /// Bytes that went since the first one joined.
    pub freed: AtomicU64,
    /// Bytes that the index takes.
    pub index: AtomicU64,
    /// Bytes that the folders of data files take.
    pub folders: AtomicU64,
    /// What the clock was at the last audit; 0 if one is due.
    pub audited: AtomicU64,
    /// Bytes: the size that all keep to.
    pub limit: AtomicU64,
    /// Changes when somebody needs room.
    pub wanted: AtomicU32,
    /// Changes when somebody has made some.
    pub relieved: AtomicU32,
    /// One for each process.
    pub slots: [Slot; SLOTS],
}

/// What stands in it of one process.
#[repr(C)]
pub struct Slot {
    /// Bytes: the size that it was told to keep to.
    pub limit: AtomicU64,
    /// Bytes that it has reserved and not settled.
    pub reserved: AtomicU64,
    /// Its number, for messages; 0 if there is none.
    pub process: AtomicU64,
}

const _: () = assert!(size_of::<Page>() as u64 <= LEN);

/// The byte that the holder of a slot has locked.
pub fn slot_lock(slot: usize) -> (u64, u64) {
    (SLOT_LOCKS + slot as u64, 1)
}

/// The file with its page, locked for joining.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path) -> io::Result<(File, MmapRaw)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // Before it gets its page: of two that make it, the second must not write zeros over the first one's counts.
    lock(&file, JOIN_LOCK, Lock::Exclusive)?;
    let allocated = fallocate(&file, FallocateFlags::empty(), 0, LEN as libc::off_t);
    allocated_or_written(&file, allocated)?;
    let map = map(&file)?;
    Ok((file, map))
}

/// Allocated, and not only sized: on a full disk the first touch of a hole would be a SIGBUS. Where that can't be asked for (some
/// network file systems), the page is written; they know no holes either.
fn allocated_or_written(file: &File, allocated: nix::Result<()>) -> io::Result<()> {
    match allocated {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            let len = file.metadata()?.len();
            file.write_all_at(&vec![0; LEN.saturating_sub(len) as usize], len)
        }
        allocated => Ok(allocated?),
    }
}

/// The page of a file.
///
/// # Errors
/// What the system says.
pub fn map(file: &File) -> io::Result<MmapRaw> {
    MmapOptions::new().len(LEN as usize).map_raw(file)
}

/// Sleeps unless the word has changed from `seen`; see futex(2). May return early for no reason.
pub fn wait(word: &AtomicU32, seen: u32, longest: Duration) {
    let timeout = libc::timespec {
        tv_sec: longest.as_secs() as libc::time_t,
        tv_nsec: longest.subsec_nanos().into(),
    };
    // SAFETY: both pointers are good for the call. Whatever it returns, the caller looks for himself.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            &raw const timeout,
        )
    };
}

/// Changes the word, and wakes who sleeps on it.
pub fn wake(word: &AtomicU32) {
    word.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the pointer is good for the call, which wakes who sleeps on it in any process.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_can_be_allocated_the_page_is_written_and_what_is_in_it_stays() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"counts", 0).unwrap();
        for _ in 0..2 {
            allocated_or_written(&file, Err(Errno::EOPNOTSUPP)).unwrap();
            assert_eq!(file.metadata().unwrap().len(), LEN);
        }
        let mut back = [1; LEN as usize];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back.starts_with(b"counts") && back[6..].iter().all(|&byte| byte == 0));
        let full = allocated_or_written(&file, Err(Errno::ENOSPC)).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    }
}
