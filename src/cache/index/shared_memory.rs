//! SQLite's shared memory (`index.db-shm`), and going on when its pages can't be had.
//!
//! In WAL mode SQLite maps that file to share the index of its log with other connections and processes, and touches it without a
//! system call. A page that can't be had then is a SIGBUS, which ends a process: when somebody cuts the file off, on a file
//! system that copies on write and is full, in a file that may not be changed, on a disk that is gone. Other modes of SQLite
//! that map nothing let one process in at a time, or have each reader wait until a commit has reached the disk.
//!
//! **So the signal puts memory of this process in the place of what was mapped**, all of it at once, with what can still be read
//! of the file in it, and what was under way goes on. From then on it is [lost](is_lost): no other process sees what is written
//! there. It must not be used for more than getting out of SQLite: what was read since is not to be believed, and **nothing may be
//! committed**, because the log would have pages in it that were made without knowing of others. The connections are closed
//! without a checkpoint and opened anew ([`connections`](super::connections)).
//!
//! Which memory it is is known from the calls of mmap(2) that SQLite makes for nothing else here. (It has a setting
//! to map the database, which is off.)

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};

use rusqlite::ffi;

/// Mappings at a time: SQLite makes one of 32 KiB for each 16 MiB of its log, in units of a page at least.
const MOST: usize = 256;

/// What is mapped. Written by the threads that map, read by the signal handler: nothing but atomics.
struct Mapping {
    /// 0 if there is none.
    start: AtomicUsize,
    len: AtomicUsize,
    /// The file, which SQLite keeps open for as long as it is mapped, and where in it the mapping begins.
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

/// How many of them are lost.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Held by the one who changes the table, or what is mapped. Spun for, because a signal handler can't sleep on a lock.
static IS_CHANGING: AtomicBool = AtomicBool::new(false);

/// What SIGBUS meant before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Whether other processes no longer see what SQLite writes into its shared memory.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Acquire) > 0
}

/// Has SQLite map its shared memory by way of this module. To be called before a database is opened; does something once.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let set = |vfs: *mut ffi::sqlite3_vfs, name: &CStr, call: ffi::sqlite3_syscall_ptr| {
            // SAFETY: the default file system of SQLite lives for ever, and copies nothing of the name.
            unsafe { (*vfs).xSetSystemCall.map(|set_call| set_call(vfs, name.as_ptr(), call)) }
        };
        // SAFETY: it asks for the default one; SQLite initialises itself if need be.
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
    // SAFETY: SQLite's own call, as it is.
    let mapped = unsafe { libc::mmap(at, len, access, flags, file, offset) };
    if mapped != libc::MAP_FAILED {
        let _changing = Changing::begin();
        // Where there is no place left, a fault in it is what it was before.
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
    // SAFETY: SQLite's own call, as it is.
    unsafe { libc::munmap(at, len) }
}

/// See [`IS_CHANGING`]. Nothing that is done meanwhile touches what is mapped.
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
    // SAFETY: all zeros is a value of it; the handler has the type that SA_SIGINFO asks for; both pointers are good for the call.
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

/// Runs in whichever thread touched the page: atomics and system calls, and no memory of an allocator's.
unsafe extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: of this thread, and always there.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel gives it to a handler that was set with SA_SIGINFO.
    let (code, at) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // One that a process has sent has a code that is not above 0, and means nothing.
    if code > 0
        && !lose(at)
        && let Some(before) = BEFORE.get()
    {
        // SAFETY: it was in force before. The fault happens again when this returns.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Puts memory of this process in the place of all that is mapped, if the address is in it. False if it is not.
fn lose(at: usize) -> bool {
    let _changing = Changing::begin();
    let living = || MAPPINGS.iter().filter(|one| one.start.load(Ordering::Acquire) != 0);
    let has_it = |one: &&Mapping| {
        let start = one.start.load(Ordering::Acquire);
        (start..start + one.len.load(Ordering::Relaxed)).contains(&at)
    };
    let Some(hit) = living().find(has_it) else { return false };
    // Another thread was faster: what is there now can be touched.
    hit.is_lost.load(Ordering::Acquire) || living().all(replace)
}

fn replace(mapping: &Mapping) -> bool {
    let [start, len] = [&mapping.start, &mapping.len].map(|number| number.load(Ordering::Acquire));
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: new memory, which becomes what is mapped at `start` when it has what can be read of the file. SQLite finds zeros
    // to be none of its, and makes what belongs there from its log.
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
