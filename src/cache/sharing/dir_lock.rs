//! The directory lock: which processes use a cache directory, and a clean shutdown.
//!
//! Every process that uses the directory holds a shared `flock` on its file `lock`. The last
//! process to leave makes all data durable and marks the index clean: after a reboot nothing has to
//! be verified. That may take little time only. If much data waits to be written, it is skipped,
//! and chunks are verified after a reboot.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use procfs::{Current, Meminfo};

use crate::util::events;

/// Maximum bytes waiting to be written for which this process waits at its end: half a second of a
/// common disk's work.
const WORTH_WAITING: u64 = 256 << 20;

/// The shared lock on a cache directory.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// The locked file. `None` on a file system without locks: then other processes are unknown,
    /// and the cache is never clean.
    lock: Option<File>,
}

impl DirLock {
    /// Takes the shared lock. Waits at most for the moment in which another process leaves.
    pub(crate) fn enter(cache_dir: &Path) -> DirLock {
        let lock = lock_shared(&cache_dir.join("lock")).inspect_err(
            |error| log::info!(event = events::CACHE_LOCK_FAILED; "{}: can't lock ({error})", cache_dir.display()),
        );
        DirLock { lock: lock.ok() }
    }

    /// Returns true if no other process uses the directory, or if locks are unsupported. With
    /// locks, none can enter for as long as this lives.
    pub(crate) fn is_alone(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok())
    }

    /// Makes all data durable, if no other process uses the directory and that takes little time.
    /// Returns true if so; then no other process can enter for as long as this lives.
    pub(crate) fn sync_if_last(&self) -> bool {
        self.sync_if_little_waits(waiting_to_be_written())
    }

    fn sync_if_little_waits(&self, waiting: Option<u64>) -> bool {
        let Some(lock) = &self.lock else { return false };
        if waiting.is_none_or(|bytes| bytes > WORTH_WAITING) {
            log::info!(
                event = events::CACHE_NOT_FLUSHED;
                "the cache was not flushed to disk in time; after a reboot, cached chunks will be verified \
                        when they are read"
            );
            return false;
        }
        // Data of all processes since boot, also of killed ones.
        nix::unistd::syncfs(lock).is_ok() && lock.try_lock().is_ok()
    }
}

fn lock_shared(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.lock_shared()?;
    Ok(file)
}

/// Bytes that wait to be written to any disk of this machine (proc_meminfo(5)).
fn waiting_to_be_written() -> Option<u64> {
    let memory = Meminfo::current().ok()?;
    Some(memory.dirty + memory.writeback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_page_count_is_read() {
        assert!(waiting_to_be_written().is_some_and(|bytes| bytes < 1 << 50));
    }

    #[test]
    fn data_is_made_durable_by_the_last_process_if_little_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (DirLock::enter(dir.path()), DirLock::enter(dir.path()));
        assert!(!first.sync_if_little_waits(Some(0)), "another process is still there");
        drop(first);
        assert!(
            !second.sync_if_little_waits(Some(WORTH_WAITING + 1)),
            "that would take long"
        );
        assert!(!second.sync_if_little_waits(None));
        assert!(second.sync_if_little_waits(Some(WORTH_WAITING)));
        assert!(second.is_alone());
    }
}
