//! Locks between processes, on ranges of a file.
//!
//! They are `F_OFD_SETLK` locks (fcntl(2)), not `flock`. The kernel releases them with the open
//! file, however the process ends. A shared lock becomes exclusive, or stays as it was, in one
//! step; `flock` releases the first before it requests the second, and another process may get in
//! between.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::peers::FileLocks;

/// The locks of the kernel on whole data files.
#[derive(Debug)]
pub(crate) struct KernelLocks;

impl FileLocks for KernelLocks {
    fn try_exclusive(&self, file: &File) -> io::Result<bool> {
        try_lock(file, WHOLE, Lock::Exclusive)
    }

    fn share(&self, file: &File) -> io::Result<()> {
        // Weakening a lock never waits.
        lock(file, WHOLE, Lock::Shared)
    }
}

/// The kind of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Others may hold it too, shared.
    Shared,
    /// No other process may hold it.
    Exclusive,
    /// Released.
    None,
}

/// The range of a whole file.
const WHOLE: (u64, u64) = (0, 0);

/// Takes, changes or releases the lock on `len` bytes from `start` (0 bytes: to the end). Returns
/// false if another open file holds it; then this file's lock is unchanged.
///
/// # Errors
/// If the file system has no such locks.
pub(super) fn try_lock(file: &File, (start, len): (u64, u64), lock: Lock) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(start, len, lock))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock when its holders release it. They hold it for milliseconds.
///
/// # Errors
/// If the file system has no such locks.
pub(super) fn lock(file: &File, (start, len): (u64, u64), lock: Lock) -> io::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&range(start, len, lock))) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns true if another open file has a lock there that prevents an exclusive one.
pub(super) fn is_locked_by_others(file: &File, (start, len): (u64, u64)) -> bool {
    let mut range = range(start, len, Lock::Exclusive);
    // After an error, assume that it is locked.
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut range)).is_err() || i32::from(range.l_type) != libc::F_UNLCK
}

fn range(start: u64, len: u64, lock: Lock) -> libc::flock {
    let kind = match lock {
        Lock::Shared => libc::F_RDLCK,
        Lock::Exclusive => libc::F_WRLCK,
        Lock::None => libc::F_UNLCK,
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as libc::off_t,
        l_len: len as libc::off_t,
        // The kernel requires 0 here for this kind of lock.
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_lock_that_can_t_become_exclusive_stays_shared() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(path.path()).unwrap();
        let (one, other) = (open(), open());
        assert!(try_lock(&one, WHOLE, Lock::Shared).unwrap() && try_lock(&other, WHOLE, Lock::Shared).unwrap());
        assert!(!try_lock(&one, WHOLE, Lock::Exclusive).unwrap());
        try_lock(&other, WHOLE, Lock::None).unwrap();
        assert!(!try_lock(&other, WHOLE, Lock::Exclusive).unwrap(), "one still has it");
        assert!(is_locked_by_others(&other, WHOLE) && !is_locked_by_others(&one, WHOLE));
        assert!(try_lock(&one, WHOLE, Lock::Exclusive).unwrap());
        drop(one);
        assert!(
            try_lock(&other, WHOLE, Lock::Exclusive).unwrap(),
            "it goes with the open file"
        );
    }

    #[test]
    fn ranges_are_locked_apart() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(path.path()).unwrap();
        let (one, other) = (open(), open());
        assert!(try_lock(&one, (7, 1), Lock::Exclusive).unwrap());
        assert!(try_lock(&other, (8, 1), Lock::Exclusive).unwrap());
        assert!(is_locked_by_others(&other, (7, 1)) && !is_locked_by_others(&other, (9, 1)));
    }
}
