//! Disk health: whether the cache directory can be written, known from the last writes, once for
//! all files.
//!
//! The disk is **in trouble** after a write failed for a reason other than the remote file: a full
//! disk, a quota, a file system that is read-only, gone or broken. For [`PAUSE`] nothing is fetched
//! for the cache then, and reads of missing bytes bypass it ([`memory_store`](crate::cache::entry::memory_store)). After that the
//! next read tries the cache again: a successful write ends the trouble, a failed one begins
//! another pause.
//!
//! A directory that can't be opened at the start of the mount is in trouble until it can be
//! ([`cache_dir`](crate::cache::entry::cache_dir)). A directory that is **gone**, or was replaced,
//! does not show by writes: open files can still be written, but no later mount would find them.
//! That trouble lasts for as long as the directory is gone.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::util::events;

/// Pause after a failed write. Each try costs a request whose bytes are lost; and the cache should
/// work again soon after the user has freed space.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// The health of one cache directory's disk.
#[derive(Debug)]
pub(crate) struct DiskHealth {
    /// The cache directory, for messages.
    folder: String,
    /// True if `until` is set: checked by reads without missing bytes, and by successful writes.
    is_any: AtomicBool,
    /// The end of the pause, if there is trouble. No other lock is taken under it.
    until: Mutex<Option<Instant>>,
    /// True if the directory is not in its place.
    is_gone: AtomicBool,
    /// True if the directory could not be opened yet.
    is_shut: AtomicBool,
    /// True if the disk itself has failed since the mount began.
    is_disk_bad: AtomicBool,
    /// Why the last write failed, or the directory could not be opened. No other lock is taken
    /// under it.
    why: Mutex<String>,
}

impl DiskHealth {
    /// Without trouble, for the cache in this directory.
    pub(crate) fn none_in(folder: &Path) -> DiskHealth {
        DiskHealth {
            folder: folder.display().to_string(),
            is_any: AtomicBool::new(false),
            until: Mutex::new(None),
            is_gone: AtomicBool::new(false),
            is_shut: AtomicBool::new(false),
            is_disk_bad: AtomicBool::new(false),
            why: Mutex::default(),
        }
    }

    /// Returns true if the cache must not be used now.
    pub(crate) fn is_on(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
            || self.is_shut.load(Ordering::Acquire)
            || self.is_any.load(Ordering::Acquire) && self.is_on_at(Instant::now())
    }

    /// A description of the trouble for the user: a sentence without its end.
    pub(crate) fn told(&self) -> Option<String> {
        if self.is_gone.load(Ordering::Acquire) {
            return Some("its directory is gone or was replaced".to_owned());
        }
        let what = match self.is_shut.load(Ordering::Acquire) {
            true => "its directory can't be used at the moment",
            false if self.is_any.load(Ordering::Acquire) => "it can't be written",
            false => return None,
        };
        Some(format!("{what} ({})", self.why.lock()))
    }

    /// Sets whether the directory is in its place and the same. Returns true if that has changed.
    pub(crate) fn folder_is(&self, in_place: bool) -> bool {
        if self.is_gone.swap(!in_place, Ordering::AcqRel) != in_place {
            return false;
        }
        if in_place {
            log::info!(event = events::CACHE_DIR_BACK; "the cache directory {} is back", self.folder);
        } else {
            log::warn!(
                event = events::CACHE_DIR_GONE;
                "the cache directory {} is gone or was replaced; reads bypass the cache until it is back, or until \
                 you mount again",
                self.folder
            );
        }
        true
    }

    /// The directory can't be opened for now, for this reason.
    pub(crate) fn folder_is_shut(&self, why: &dyn Display) {
        *self.why.lock() = why.to_string();
        self.is_shut.store(true, Ordering::Release);
        log::warn!(
            event = events::CACHE_UNAVAILABLE;
            "the cache directory {} can't be used at the moment ({why}); nothing is cached, and reads bypass the \
             cache until it can be used",
            self.folder
        );
    }

    /// The directory that could not be opened is open.
    pub(crate) fn folder_is_open(&self) {
        self.is_shut.store(false, Ordering::Release);
        log::info!(
            event = events::CACHE_AVAILABLE;
            "the cache directory {} can be used now; files are cached again",
            self.folder
        );
    }

    /// A write has failed, for this reason.
    pub(crate) fn failed(&self, why: &dyn Display) {
        *self.why.lock() = why.to_string();
        if self.failed_at(Instant::now()) {
            log::warn!(
                event = events::CACHE_BYPASSED;
                "the cache in {} can't be written ({why}); reads bypass the cache until it can",
                self.folder
            );
        }
    }

    /// A write has succeeded.
    pub(crate) fn worked(&self) {
        if self.is_any.load(Ordering::Acquire) && self.worked_at(Instant::now()) {
            log::info!(event = events::CACHE_BACK; "the cache in {} can be written again", self.folder);
        }
    }

    /// A data file could not be read or written. The error may be a lack of space, or a failure of
    /// the disk.
    pub(crate) fn note_disk(&self, error: &io::Error) {
        let is_want_of_room = matches!(
            error.raw_os_error(),
            None | Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
        );
        if !is_want_of_room && !self.is_disk_bad.swap(true, Ordering::AcqRel) {
            log::warn!(
                event = events::DISK_ERROR;
                "I/O error on the disk of the cache directory {} ({error}); cached files are served without FUSE \
                 passthrough",
                self.folder
            );
        }
    }

    /// Returns true if the disk has failed: reads from it need a fallback then.
    pub(crate) fn has_disk_failed(&self) -> bool {
        self.is_disk_bad.load(Ordering::Acquire)
    }

    fn is_on_at(&self, now: Instant) -> bool {
        self.until.lock().is_some_and(|until| now < until)
    }

    /// Returns true if this begins the trouble.
    fn failed_at(&self, now: Instant) -> bool {
        let before = self.until.lock().replace(now + PAUSE);
        self.is_any.store(true, Ordering::Release);
        before.is_none()
    }

    /// Returns true if this ends the trouble. Not within the pause: of many concurrent writes, some
    /// may still find space when others do not.
    fn worked_at(&self, now: Instant) -> bool {
        let mut until = self.until.lock();
        let is_over = until.is_some_and(|until| now >= until);
        if is_over {
            *until = None;
            self.is_any.store(false, Ordering::Release);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_and_recovery_are_each_logged_once() {
        let (disk_health, start) = (DiskHealth::none_in(Path::new("/c")), Instant::now());
        assert!(
            !disk_health.is_on_at(start) && !disk_health.worked_at(start),
            "no trouble, no news"
        );
        assert!(disk_health.failed_at(start), "the first failure is news");
        assert!(!disk_health.failed_at(start), "the second is not");
        assert!(disk_health.is_on_at(start) && disk_health.is_on());
        let late = start + PAUSE;
        assert!(
            !disk_health.worked_at(late - Duration::from_millis(1)),
            "a write that was under way"
        );
        assert!(!disk_health.is_on_at(late), "the cache is to be tried");
        assert!(disk_health.worked_at(late), "and works");
        assert!(!disk_health.worked_at(late) && !disk_health.is_on_at(start));
    }

    #[test]
    fn missing_directory_is_a_failure_until_it_is_back() {
        let disk_health = DiskHealth::none_in(Path::new("/c"));
        assert!(!disk_health.folder_is(true) && !disk_health.is_on());
        assert!(
            disk_health.folder_is(false) && !disk_health.folder_is(false),
            "told once"
        );
        disk_health.worked();
        assert!(disk_health.is_on() && !disk_health.is_on_at(Instant::now()));
        assert!(disk_health.folder_is(true) && !disk_health.is_on());
    }

    #[test]
    fn unopened_directory_is_a_failure_until_open() {
        let disk_health = DiskHealth::none_in(Path::new("/c"));
        disk_health.folder_is_shut(&"full");
        disk_health.worked();
        assert!(disk_health.is_on() && !disk_health.is_on_at(Instant::now()));
        disk_health.folder_is_open();
        assert!(!disk_health.is_on());
    }

    #[test]
    fn a_try_that_fails_begins_another_pause_without_a_word() {
        let (disk_health, start) = (DiskHealth::none_in(Path::new("/c")), Instant::now());
        disk_health.failed_at(start);
        let second = start + 2 * PAUSE;
        assert!(!disk_health.is_on_at(second));
        assert!(!disk_health.failed_at(second), "it is known already");
        assert!(disk_health.is_on_at(second + PAUSE / 2) && !disk_health.is_on_at(second + PAUSE));
    }
}
