//! FUSE passthrough: the kernel reads the data file of a complete file directly.
//!
//! With passthrough (Linux 6.9) an open reply may name a backing file. Every read and mapping through that handle
//! then goes to the local file, without a request here. It needs CAP_SYS_ADMIN, and a complete data file, because the
//! kernel reads a hole as zeros. Without either, this process serves the file.
//!
//! The kernel refuses, with EIO, to open one inode in both modes or with two backing files (`fuse_file_io_open` in
//! `fs/fuse/iomode.c`). So an inode keeps its mode while it is open, and later opens take the same mode. A file that
//! becomes complete while open is passed through from the next open after its last close.
//!
//! **The kernel reads what the data file holds, and fetchfs can't repair it.** So each open checks that the data file
//! has its size and can be read. Once the disk or the index has failed, files are served by this process.
//!
//! Nothing of a passed-through file is evicted: each inode has a [`Hold`]. (A mapping may outlive the handle that it
//! was made through; the store detects that itself.)

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::connection::{Backing, Connection};
use crate::cache::entry::cached_file::Hold;
use crate::cache::{Cache, CacheEntry};
use crate::util::events;
use crate::vfs::Ino;

/// The open inodes and their modes.
pub(crate) struct Passthrough {
    /// False if the kernel lacks it, the process may not use it, or the user turned it off.
    is_on: AtomicBool,
    /// Held over the system call that registers a backing file, which takes microseconds: two opens of one inode must
    /// not decide differently.
    open: Mutex<HashMap<Ino, Mode>>,
    connection: Arc<Connection>,
}

enum Mode {
    /// Number of handles that this process serves.
    Served(usize),
    /// Number of handles that the kernel serves from this backing file. The hold prevents its eviction.
    PassedThrough(usize, Arc<Backing>, Hold),
}

impl Passthrough {
    /// An empty table. `wanted` is the user's choice.
    pub(crate) fn new(wanted: bool, connection: Arc<Connection>) -> Passthrough {
        Passthrough {
            is_on: AtomicBool::new(wanted),
            open: Mutex::default(),
            connection,
        }
    }

    /// Whether to ask the kernel for passthrough.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Turns passthrough off, because the kernel lacks it.
    pub(crate) fn turn_off(&self, why: &str) {
        if self.is_on.swap(false, Ordering::Relaxed) {
            // Logged once: it stays off.
            log::info!(
                event = events::PASSTHROUGH_OFF;
                "no FUSE passthrough: {why}; cached files are served by this process"
            );
        }
    }

    /// Counts an open. The reply must name the backing file, if one is returned. Otherwise this process serves the
    /// handle.
    ///
    /// # Errors
    /// If the kernel reads the file for other handles, and the data file has been damaged: this handle would read the
    /// same.
    pub(crate) fn opened(&self, ino: Ino, cache: &Cache, entry: &CacheEntry) -> io::Result<Option<Arc<Backing>>> {
        let mut open = self.open.lock();
        match open.get_mut(&ino) {
            Some(Mode::PassedThrough(handles, backing, hold)) => {
                hold.check()?;
                *handles += 1;
                Ok(Some(Arc::clone(backing)))
            }
            Some(Mode::Served(handles)) => {
                *handles += 1;
                Ok(None)
            }
            None => {
                let Some((backing, hold)) = self.backing(cache, entry) else {
                    open.insert(ino, Mode::Served(1));
                    return Ok(None);
                };
                let backing = Arc::new(backing);
                open.insert(ino, Mode::PassedThrough(1, Arc::clone(&backing), hold));
                Ok(Some(backing))
            }
        }
    }

    fn backing(&self, cache: &Cache, entry: &CacheEntry) -> Option<(Backing, Hold)> {
        if !self.is_wanted() {
            return None;
        }
        // The kernel may still have the listing's size, and learns of a smaller one only by a short read from this
        // process.
        if entry.size() < entry.size_hint() {
            return None;
        }
        let cached_file = &entry.settled()?.cached_file;
        let hold = cache.hold_for_kernel(entry)?;
        match self.connection.open_backing(cached_file) {
            Ok(backing) => Some((backing, hold)),
            Err(error) if is_for_good(&error) => {
                self.turn_off(&error.to_string());
                None
            }
            Err(error) => {
                log::info!(event = events::PASSTHROUGH_FAILED; "FUSE passthrough failed this time: {error}");
                None
            }
        }
    }

    /// Counts a release.
    pub(crate) fn released(&self, ino: Ino) {
        let mut open = self.open.lock();
        let Some(Mode::Served(handles) | Mode::PassedThrough(handles, ..)) = open.get_mut(&ino) else {
            return;
        };
        *handles -= 1;
        if *handles == 0 {
            open.remove(&ino);
        }
    }
}

/// Whether the kernel's refusal of a backing file is permanent (`fuse_backing_open` in `fs/fuse/backing.c`): the
/// process lacks the capability, or the cache's file system is unsuitable. Other errors, such as too many open files,
/// are temporary.
fn is_for_good(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EPERM | Errno::ENOSYS | Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ELOOP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_does_not_turn_passthrough_off() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOTTY, libc::EOPNOTSUPP, libc::ELOOP] {
            assert!(is_for_good(&error(errno)), "{}", error(errno));
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR, libc::EIO] {
            assert!(!is_for_good(&error(errno)), "{}", error(errno));
        }
    }
}
