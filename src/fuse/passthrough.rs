//! Complete files, read without us: the kernel goes to the data file itself.
//!
//! With FUSE passthrough (Linux 6.9) an open may name a backing file, and every read and mapping through that handle is
//! the local file's: no request comes here. That needs CAP_SYS_ADMIN, and a file that is here as a whole, because the
//! kernel reads a hole as zeros. Without either, files are served as ever.
//!
//! The kernel refuses, with EIO, to have one inode open both ways, or with two backing files (`fuse_file_io_open` in
//! `fs/fuse/iomode.c`). So each inode has a mode for as long as it is open at all: who comes later takes the mode that he
//! finds. A file that becomes complete while it is open is passed through from its next first open on.
//!
//! **The kernel gets from the data file what is there, and fetchfs can't make up for what is not.** So it is looked at, at each open, whether the
//! file has its size and can be read; and once the disk or the index has failed, files are served.
//!
//! While it is, nothing of it is evicted: each inode that is open this way has a [`Hold`]. (A mapping may outlive the handle that it was made
//! through; the store notices that by itself.)

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::connection::{Backing, Connection};
use crate::cache::entry::cached_file::Hold;
use crate::cache::{Cache, CacheEntry};
use crate::vfs::Ino;

/// Which inodes are open, and how.
pub struct Passthrough {
    /// False when the kernel can't, the process may not, or the user does not want it.
    is_on: AtomicBool,
    /// Held over the system call that registers a backing file, a matter of microseconds: two opens of one inode must
    /// not decide differently.
    open: Mutex<HashMap<Ino, Mode>>,
    connection: Arc<Connection>,
}

enum Mode {
    /// So many handles that we serve.
    Served(usize),
    /// So many handles that the kernel serves, all from this backing file, of which nothing goes meanwhile.
    PassedThrough(usize, Arc<Backing>, Hold),
}

impl Passthrough {
    /// Nothing is open. `wanted` by the user.
    pub fn new(wanted: bool, connection: Arc<Connection>) -> Passthrough {
        Passthrough {
            is_on: AtomicBool::new(wanted),
            open: Mutex::default(),
            connection,
        }
    }

    /// Whether it is worth asking the kernel for.
    pub fn is_wanted(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// The kernel does not know it.
    pub fn turn_off(&self, why: &str) {
        if self.is_on.swap(false, Ordering::Relaxed) {
            // Once: it is off from here on.
            log::info!("no FUSE passthrough: {why}; cached files are served by this process");
        }
    }

    /// Counts an open. With a backing file the reply must name it; without one we serve the handle.
    ///
    /// # Errors
    /// When the kernel reads the file for others, and its data file is not as it was: it would read the same for this one.
    pub fn opened(&self, ino: Ino, cache: &Cache, entry: &CacheEntry) -> io::Result<Option<Arc<Backing>>> {
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
        // The kernel may still go by the listing's size, and learns of a smaller one only by a read that we end early.
        if entry.size() < entry.size_hint {
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
                log::info!("no FUSE passthrough for this time: {error}");
                None
            }
        }
    }

    /// Counts a release.
    pub fn released(&self, ino: Ino) {
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

/// Whether a backing file that the kernel refused will always be refused (`fuse_backing_open` in `fs/fuse/backing.c`): this
/// process may not, or the cache folder's file system can't. Anything else, as too many open files, passes.
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
