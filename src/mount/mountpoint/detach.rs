//! Ends a mount.
//!
//! [`unmount`] serves `fetchfs unmount`, and a daemon that a signal stops. When it has succeeded in [`Mode::Normal`],
//! nothing is left: no mount, no process, no lock. A daemon ends by itself after the kernel has removed its mount, and a
//! Rust program lets go of what belongs to the mount. So the caller only waits for that ([`Ending`]).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::busy::{self, Holder};
use super::daemon::Daemon;
use super::ending::Ending;
use super::probe::{Pulse, probe};
use super::{FSTYPE, RunFile, fusermount, table};
use crate::util::events;

/// Maximum time for an unmounted daemon to record its downloads and end, or for a program to let go of its mount.
const ENDING: Duration = Duration::from_secs(10);

/// The same after a lazy unmount, where the daemon ends at once only if the mount is not in use.
const ENDING_LAZY: Duration = Duration::from_secs(1);

/// Maximum time to retry while no user of the mount is visible: the kernel ends a killed process's reads and closes its
/// files after the process has disappeared from `/proc`.
const LEAVING: Duration = Duration::from_secs(1);

/// Maximum time to retry while all users are dying: they release the mount when they are scheduled and their last
/// request is answered.
const DYING: Duration = Duration::from_secs(10);

/// Interval of these retries.
const AGAIN: Duration = Duration::from_millis(20);

/// What to do with a mount that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Refuse.
    Normal,
    /// Remove the mount from the tree now; it ends when its last user closes its files.
    Lazy,
}

/// How a mount ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is left (except the caller, if that is the daemon).
    Wholly,
    /// Unmounted here, but still mounted in these places, by bind mounts.
    Elsewhere(Vec<PathBuf>),
    /// Removed from the tree, but its daemon still serves users. Only in [`Mode::Lazy`].
    Detached {
        /// The daemon.
        pid: u32,
    },
}

/// Why a mount did not end. Each `Display` is the sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnmountError {
    /// Not a mountpoint.
    #[error("{} is not a mountpoint: nothing is mounted there", .0.display())]
    NotMounted(PathBuf),
    /// Another file system is mounted there.
    #[error("{path} is a mount of {source_name} ({fstype}), not of fetchfs; end it with `umount {path}`", path = path.display())]
    NotFetchfs {
        /// The path as it was given.
        path: PathBuf,
        /// The file system type in the mount table.
        fstype: String,
        /// The source in the mount table.
        source_name: String,
    },
    /// The mount is in use.
    #[error("{} is busy: {}", path.display(), busy::sentence(holders))]
    Busy {
        /// The mountpoint.
        path: PathBuf,
        /// Its users, as far as this process may see them.
        holders: Vec<Holder>,
    },
    /// The mount is gone, but its daemon still runs.
    #[error("{} is unmounted, but its daemon (pid {pid}) has not ended within {} s; see its log", path.display(), ENDING.as_secs())]
    StillEnding {
        /// The mountpoint.
        path: PathBuf,
        /// The daemon.
        pid: u32,
    },
    /// The kernel or fusermount3 refused for another reason.
    #[error("can't unmount {}: {reason}", path.display())]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// Its message.
        reason: String,
    },
}

/// Ends the fetchfs mount at `path` and waits for its daemon, unless that is this process. Removes a dead mount even if
/// it is in use.
///
/// # Errors
/// - `path` is not a mount of fetchfs.
/// - It is in use, and the mode is not lazy.
/// - The caller may not unmount it.
pub(crate) fn unmount(path: &Path, mode: Mode) -> Result<Ended, UnmountError> {
    let place = table::locate(path).map_err(|error| unreachable_path(path, &error))?;
    let path = place.path;
    let Some(mount) = place.mount else {
        return Err(UnmountError::NotMounted(path));
    };
    if mount.fstype != FSTYPE {
        return Err(UnmountError::NotFetchfs {
            path,
            fstype: mount.fstype,
            source_name: mount.source,
        });
    }
    let daemon = Daemon::of(&mount);
    // This process ends after it has returned from here, if at all.
    let ending = daemon
        .as_ref()
        .filter(|daemon| !daemon.is_this_process())
        .map(Ending::of);
    match from_table(&path, mode) {
        Ok(()) => {}
        Err(Refusal::NotMounted) => return Err(UnmountError::NotMounted(path)),
        Err(Refusal::Other(reason)) => return Err(UnmountError::Refused { path, reason }),
        // No process can do anything in a dead mount, so its end harms none.
        Err(Refusal::Busy) if daemon.is_none() && probe(&path) == Pulse::Dead => {
            from_table(&path, Mode::Lazy).map_err(|refusal| UnmountError::Refused {
                path: path.clone(),
                reason: refusal.to_string(),
            })?;
        }
        // It may be free soon: a process that was killed a moment ago has not released its files yet.
        Err(Refusal::Busy) => {
            let holders = busy::of(&mount);
            let limit = match holders.are_dying {
                true => DYING,
                false if holders.all.is_empty() => LEAVING,
                false => Duration::ZERO,
            };
            if !soon_free(&path, limit) {
                let holders = holders.all;
                return Err(UnmountError::Busy { path, holders });
            }
        }
    }
    let elsewhere = table::elsewhere(&mount);
    if !elsewhere.is_empty() {
        return Ok(Ended::Elsewhere(elsewhere));
    }
    let Some((daemon, ending)) = daemon.as_ref().zip(ending) else {
        return Ok(Ended::Wholly);
    };
    let pid = daemon.pid();
    let patience = match mode {
        Mode::Normal => ENDING,
        Mode::Lazy => ENDING_LAZY,
    };
    match mode {
        _ if ending.wait(patience) => Ok(Ended::Wholly),
        Mode::Normal => Err(UnmountError::StillEnding { path, pid }),
        Mode::Lazy => {
            daemon.forget();
            Ok(Ended::Detached { pid })
        }
    }
}

/// Unmounts what this process serves, wherever it was moved or bound: first in [`Mode::Normal`], then, if in use, in
/// [`Mode::Lazy`].
pub(crate) fn unmount_own(mark: &RunFile) {
    let Some(device) = mark.device() else { return };
    let mounts = table::read().unwrap_or_default().into_iter();
    // Latest first: it may be inside another.
    for mount in mounts.filter(|mount| mount.device == device).rev() {
        let path = &mount.mount_point;
        let is_on_top = table::locate(path).is_ok_and(|place| place.mount.is_some_and(|top| top.id == mount.id));
        if !is_on_top {
            log::warn!(
                event = events::MOUNT_COVERED;
                "another file system is mounted over {}; the mount below it ends with this process",
                path.display()
            );
            continue;
        }
        let gone = unmount(path, Mode::Normal).or_else(|busy| {
            log::info!(event = events::MOUNT_BUSY; "{busy}");
            unmount(path, Mode::Lazy)
        });
        if let Err(error) = gone {
            log::warn!(event = events::UNMOUNT_FAILED; "{error}");
        }
    }
}

/// Retries the unmount of a mount whose last user seems to be ending. Returns true when it is unmounted.
fn soon_free(path: &Path, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        std::thread::sleep(AGAIN);
        match from_table(path, Mode::Normal) {
            Err(Refusal::Busy) => {}
            outcome => return matches!(outcome, Ok(()) | Err(Refusal::NotMounted)),
        }
    }
    false
}

/// Why the mount table was not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is in use")]
    Busy,
    #[error("nothing is mounted there")]
    NotMounted,
    #[error("{0}")]
    Other(String),
}

/// Removes the topmost mount at `path` from the mount table: by umount2(2), or fusermount3 if this process may not.
/// `path` is absolute and without symbolic links; a link placed there meanwhile is not followed.
pub(super) fn from_table(path: &Path, mode: Mode) -> Result<(), Refusal> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, mode == Mode::Lazy);
    match umount2(path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => by_helper(path, mode),
        Err(Errno::EBUSY) => Err(Refusal::Busy),
        Err(Errno::EINVAL | Errno::ENOENT) => Err(Refusal::NotMounted),
        Err(errno) => Err(Refusal::Other(errno.desc().to_owned())),
    }
}

fn by_helper(path: &Path, mode: Mode) -> Result<(), Refusal> {
    let Some(program) = fusermount::find() else {
        let advice = "an ordinary user unmounts through `fusermount3`, which is not installed; install the package fuse3, or unmount as root";
        return Err(Refusal::Other(advice.to_owned()));
    };
    fusermount::unmount(&program, path, mode == Mode::Lazy).map_err(|words| match words {
        // strerror(EBUSY), in the C locale.
        words if words.contains("resource busy") => Refusal::Busy,
        words if words.contains("not found in /etc/mtab") => {
            Refusal::Other("it was mounted by another user; unmount it as that user or as root".to_owned())
        }
        words => Refusal::Other(words),
    })
}

fn unreachable_path(path: &Path, error: &io::Error) -> UnmountError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => UnmountError::NotMounted(path.to_owned()),
        _ => UnmountError::Refused {
            path: path.to_owned(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_mount_of_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            unmount(dir.path(), Mode::Lazy),
            Err(UnmountError::NotMounted(_))
        ));
        assert!(matches!(
            unmount(&dir.path().join("none"), Mode::Normal),
            Err(UnmountError::NotMounted(_))
        ));
        let error = unmount(Path::new("/proc"), Mode::Lazy).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/proc is a mount of proc (proc), not of fetchfs; end it with `umount /proc`"
        );
    }
}
