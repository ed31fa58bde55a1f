//! Who uses a cache folder, and leaving it in good order.
//!
//! Every process that uses the folder holds a shared `flock` on its file `lock`. Who ends, and is then alone, makes all
//! data durable and notes that ([`ChunkIndex::set_clean`]): after a reboot nothing has to be verified. It is worth
//! little time: if much waits to be written, it is left undone, and what is served after a reboot is verified first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use procfs::{Current, Meminfo};

use crate::cache::index::ChunkIndex;

/// Bytes that may wait to be written for this process to wait for them when it ends: half a second of a common disk's work.
const WORTH_WAITING: u64 = 256 << 20;

/// The right to use a cache folder, held with others.
#[derive(Debug)]
pub struct DirLock {
    /// Locked; without it (a file system that has no locks) nobody knows who else is here, and the cache is never clean.
    lock: Option<File>,
}

impl DirLock {
    /// Enters. Waits at most for the moment in which another process leaves.
    pub fn enter(cache_dir: &Path) -> DirLock {
        let lock = lock_shared(&cache_dir.join("lock"))
            .inspect_err(|error| log::info!("{}: no lock ({error})", cache_dir.display()));
        DirLock { lock: lock.ok() }
    }

    /// Whether nobody else is here, and nobody can come for as long as this lives. Where that can't be told, nobody is.
    pub fn is_alone(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok())
    }

    /// Leaves; to be called when this process has ended recording. Whatever goes wrong here costs a verification later.
    pub fn leave(&self, index: &ChunkIndex) {
        self.leave_while(waiting_to_be_written(), index);
    }

    /// Leaves while so many bytes wait to be written to disk, if that can be told.
    fn leave_while(&self, waiting: Option<u64>, index: &ChunkIndex) {
        let Some(lock) = &self.lock else { return };
        let Some(session) = index.session() else { return };
        if waiting.is_none_or(|bytes| bytes > WORTH_WAITING) {
            log::info!("much waits to be written to disk: after a reboot the cache will be verified as it is read");
            return;
        }
        // Of all processes that have used the folder since the machine was started, killed ones among them.
        if nix::unistd::syncfs(lock).is_ok() && lock.try_lock().is_ok() {
            index.set_clean(session);
        }
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
    fn the_kernel_tells_how_much_waits_to_be_written() {
        assert!(waiting_to_be_written().is_some_and(|bytes| bytes < 1 << 50));
    }

    #[test]
    fn the_cache_is_clean_when_the_last_one_leaves_and_little_has_to_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        let (first, second) = (DirLock::enter(dir.path()), DirLock::enter(dir.path()));
        first.leave_while(Some(0), &index);
        assert!(!index.is_clean(), "somebody else is still there");
        drop(first);
        second.leave_while(Some(WORTH_WAITING + 1), &index);
        second.leave_while(None, &index);
        assert!(!index.is_clean(), "that would take long");
        second.leave_while(Some(WORTH_WAITING), &index);
        assert!(index.is_clean());
    }
}
