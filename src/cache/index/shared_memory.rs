//! SQLite's shared memory (`index.db-shm`), and surviving the loss of its pages.
//!
//! In WAL mode SQLite maps that file to share the index of its log with other connections and
//! processes, and accesses it without a system call. An access to a page that can't be provided
//! raises SIGBUS, which ends the process. Possible causes:
//!
//! - another program truncates the file;
//! - a copy-on-write file system is full;
//! - the file is immutable;
//! - the disk is gone.
//!
//! Other modes of SQLite map nothing, but let only one process in at a time, or make each reader
//! wait until a commit has reached the disk.
//!
//! **So the signal handler replaces the mapping with private memory**, all of it at once, filled
//! with what can still be read of the file, and the interrupted access continues. From then on the
//! mapping is [lost](is_lost): other processes do not see what is written there. The private memory
//! serves only to get out of SQLite. What was read since may be wrong. **Nothing may be
//! committed**, because the log would get pages that were made without knowledge of other
//! processes. The connections are closed without a checkpoint and reopened
//! ([`connections`](super::connections)).
//!
//! SQLite calls mmap(2) for nothing else here, so its calls show which memory this is. (Its setting
//! that maps the database is off.)

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};

use rusqlite::ffi;

/// Maximum number of mappings: SQLite makes one of 32 KiB for each 16 MiB of its log, in units of
/// at least a page.
const MOST: usize = 256;

/// A mapping. Written by the threads that map, read by the signal handler: only atomics.
struct Mapping {
    /// Address; 0 if there is no mapping.
    start: AtomicUsize,
    len: AtomicUsize,
    /// The file, which SQLite keeps open for as long as it is mapped, and the offset of the mapping
    /// in it.
    file: AtomicI32,
    offset: AtomicI64,
    is_lost: AtomicBool,
}

static MAPPINGS: [Mapping; MOST] = [const {
    Mapping {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        file: AtomicI32::new(-1),
        offset: AtomicI64::new(0),
        is_lost: AtomicBool::new(false),
    }
}; MOST];

/// Number of lost mappings.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// True while a thread changes the table or the mappings. A spin lock, because a signal handler
/// can't sleep.
static IS_CHANGING: AtomicBool = AtomicBool::new(false);

/// The previous action for SIGBUS.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Returns true if other processes no longer see what SQLite writes into its shared memory.
pub(super) fn is_lost() -> bool {
    LOST.load(Ordering::Acquire) > 0
}

/// Makes SQLite map its shared memory through this module. Call it before opening a database; later
/// calls do nothing.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let set = |vfs: *mut ffi::sqlite3_vfs, name: &CStr, call: ffi::sqlite3_syscall_ptr| {
            // SAFETY: SQLite's default VFS is never freed, and does not keep the name.
            unsafe { (*vfs).xSetSystemCall.map(|set_call| set_call(vfs, name.as_ptr(), call)) }
        };
        // SAFETY: this requests the default VFS; SQLite initialises itself if necessary.
        let vfs = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        if vfs.is_null() {
            return;
        }
        // SAFETY: both have the types that SQLite calls them by: those of mmap(2) and munmap(2).
        let calls = unsafe {
            [
                std::mem::transmute::<MapCall, unsafe extern "C" fn()>(map),
                std::mem::transmute::<UnmapCall, unsafe extern "C" fn()>(unmap),
            ]
        };
        set(vfs, c"mmap", Some(calls[0]));
        set(vfs, c"munmap", Some(calls[1]));
        handle_signal();
    });
}

type MapCall = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, libc::off_t) -> *mut c_void;
type UnmapCall = unsafe extern "C" fn(*mut c_void, usize) -> c_int;

unsafe extern "C" fn map(
    at: *mut c_void,
    len: usize,
    access: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // SAFETY: SQLite's own call, unchanged.
    let mapped = unsafe { libc::mmap(at, len, access, flags, file, offset) };
    if mapped != libc::MAP_FAILED {
        let _changing = Changing::begin();
        // If the table is full, a fault in this mapping has its previous effect.
        if let Some(free) = MAPPINGS.iter().find(|one| one.start.load(Ordering::Acquire) == 0) {
            free.len.store(len, Ordering::Relaxed);
            free.file.store(file, Ordering::Relaxed);
            free.offset.store(offset, Ordering::Relaxed);
            free.start.store(mapped as usize, Ordering::Release);
        }
    }
    mapped
}

unsafe extern "C" fn unmap(at: *mut c_void, len: usize) -> c_int {
    let _changing = Changing::begin();
    if let Some(known) = MAPPINGS
        .iter()
        .find(|one| one.start.load(Ordering::Acquire) == at as usize)
    {
        known.start.store(0, Ordering::Release);
        if known.is_lost.swap(false, Ordering::AcqRel) {
            LOST.fetch_sub(1, Ordering::AcqRel);
        }
    }
    // SAFETY: SQLite's own call, unchanged.
    unsafe { libc::munmap(at, len) }
}

/// Guard of [`IS_CHANGING`]. No code under it accesses mapped memory.
struct Changing;

impl Changing {
    fn begin() -> Changing {
        while IS_CHANGING.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        Changing
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        IS_CHANGING.store(false, Ordering::Release);
    }
}

fn handle_signal() {
    // SAFETY: all zeros is a valid value; the handler has the type that SA_SIGINFO requires; both
    // pointers are valid for the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        let mut before = MaybeUninit::<libc::sigaction>::uninit();
        if libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr()) == 0 {
            let _ = BEFORE.set(before.assume_init());
        }
    }
}

/// Runs in the thread that touched the page: only atomics and system calls, no allocation.
unsafe extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: thread-local, and always valid.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes it to a handler that was set with SA_SIGINFO.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // A signal sent by a process has a code of at most 0, and is ignored.
    if code > 0
        && !lose(at)
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: this action was in force before. The fault happens again when the handler
        // returns.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Replaces all mappings with private memory, if the address is in one of them. Returns false if it
/// is not.
fn lose(at: usize) -> bool {
    let _changing = Changing::begin();
    let living = || MAPPINGS.iter().filter(|one| one.start.load(Ordering::Acquire) != 0);
    let has_it = |one: &&Mapping| {
        let start = one.start.load(Ordering::Acquire);
        (start..start + one.len.load(Ordering::Relaxed)).contains(&at)
    };
    let Some(hit) = living().find(has_it) else { return false };
    // If another thread was faster, the address is accessible now.
    hit.is_lost.load(Ordering::Acquire) || living().all(replace)
}

fn replace(mapping: &Mapping) -> bool {
    let [start, len] = [&mapping.start, &mapping.len].map(|number| number.load(Ordering::Acquire));
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: the new memory replaces the mapping at `start` only after what is readable of the
    // file was copied into it. SQLite recognises zeros as invalid, and rebuilds the content from
    // its log.
    let is_replaced = unsafe {
        let copy = libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0);
        if copy == libc::MAP_FAILED {
            return false;
        }
        let (file, offset) = (
            mapping.file.load(Ordering::Relaxed),
            mapping.offset.load(Ordering::Relaxed),
        );
        libc::pread(file, copy, len, offset);
        let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        libc::mremap(copy, len, len, fixed, start as *mut c_void) != libc::MAP_FAILED
    };
    if is_replaced && !mapping.is_lost.swap(true, Ordering::AcqRel) {
        LOST.fetch_add(1, Ordering::AcqRel);
    }
    is_replaced
}
