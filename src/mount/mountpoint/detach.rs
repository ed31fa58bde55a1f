//! Ending a mount.
//!
//! [`unmount`] is what `fetchfs unmount` does, and what a daemon does with its own mount when it is told to stop. When
//! it has succeeded in [`Mode::Normal`], nothing is left: no mount, no process, no lock. A daemon ends by itself once
//! the kernel has taken its mount away, so all there is to do then is to wait for it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::busy::{self, Holder};
use super::daemon::Daemon;
use super::probe::{Pulse, probe};
use super::{FSTYPE, RunFile, fusermount, table};

/// How long an unmounted daemon may take to record what it has downloaded and to end.
const ENDING: Duration = Duration::from_secs(10);

/// The same after a lazy unmount, where it ends at once only if nobody uses the mount.
const ENDING_LAZY: Duration = Duration::from_secs(1);

/// How long somebody may use the mount whom nobody can see: the kernel ends a killed process's reads and closes its files
/// after the process is no longer to be found.
const LEAVING: Duration = Duration::from_secs(1);

/// How long those may use the mount who are seen to have been killed: they let go as soon as they get the processor, and their last request
/// is answered.
const DYING: Duration = Duration::from_secs(10);

/// How often it is tried meanwhile.
const AGAIN: Duration = Duration::from_millis(20);

/// What to do about files that are open in the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refuse while anything in the mount is in use.
    Normal,
    /// Take the mount out of the tree now; it ends when its last user lets go.
    Lazy,
}

/// How a mount ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Nothing of it is left (but the caller, when that is the daemon).
    Wholly,
    /// It is no longer where it was unmounted, and still in these places: it had been bound.
    Elsewhere(Vec<PathBuf>),
    /// Out of the tree, but its daemon still serves somebody. Only in [`Mode::Lazy`].
    Detached {
        /// The daemon.
        pid: u32,
    },
}

/// Why a mount did not end. Each `Display` is the sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing is mounted there.
    #[error("{} is not a mountpoint: nothing is mounted there", .0.display())]
    NotMounted(PathBuf),
    /// Something is mounted there that is none of our business.
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
        /// Who uses it, as far as this process may see that.
        holders: Vec<Holder>,
    },
    /// The mount is gone, its daemon isn't.
    #[error("{} is unmounted, but its daemon (pid {pid}) has not ended within {} s; its log may say why", path.display(), ENDING.as_secs())]
    StillEnding {
        /// The mountpoint.
        path: PathBuf,
        /// The daemon.
        pid: u32,
    },
    /// The kernel or fusermount3 said no, for another reason.
    #[error("can't unmount {}: {reason}", path.display())]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// What was said.
        reason: String,
    },
}

/// Ends the fetchfs mount at `path` and waits for its daemon, unless that is this process. A dead mount is removed,
/// whoever still looks at it.
///
/// # Errors
/// When `path` is not a mount of fetchfs, when it is in use and the mode is not lazy, or when it is not the caller's to end.
pub fn unmount(path: &Path, mode: Mode) -> Result<Ended, UnmountError> {
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
    let mine = daemon.as_ref().is_some_and(Daemon::is_this_process);
    match from_table(&path, mode) {
        Ok(()) => {}
        Err(Refusal::NotMounted) => return Err(UnmountError::NotMounted(path)),
        Err(Refusal::Other(reason)) => return Err(UnmountError::Refused { path, reason }),
        // Nobody can do anything in a dead mount, and no one can be harmed by its end.
        Err(Refusal::Busy) if daemon.is_none() && probe(&path) == Pulse::Dead => {
            from_table(&path, Mode::Lazy).map_err(|refusal| UnmountError::Refused {
                path: path.clone(),
                reason: refusal.to_string(),
            })?;
        }
        // Perhaps nobody uses it any more: who was killed a moment ago has yet to let go of its files.
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
    match (daemon, mode) {
        (Some(daemon), Mode::Normal) if !mine && !daemon.wait(ENDING) => Err(UnmountError::StillEnding {
            path,
            pid: daemon.pid(),
        }),
        (Some(daemon), Mode::Lazy) if !mine && !daemon.wait(ENDING_LAZY) => {
            daemon.forget();
            Ok(Ended::Detached { pid: daemon.pid() })
        }
        _ => Ok(Ended::Wholly),
    }
}

/// Takes away the mount that this process serves, from wherever it was moved or bound to: first as [`Mode::Normal`], and what is in use
/// as [`Mode::Lazy`].
pub fn unmount_own(mark: &RunFile) {
    let Some(device) = mark.device() else { return };
    let mounts = table::read().unwrap_or_default().into_iter();
    // The last that was mounted may be inside another.
    for mount in mounts.filter(|mount| mount.device == device).rev() {
        let path = &mount.mount_point;
        let is_on_top = table::locate(path).is_ok_and(|place| place.mount.is_some_and(|top| top.id == mount.id));
        if !is_on_top {
            log::warn!(
                "something else was mounted over {}: what is below it ends with this process",
                path.display()
            );
            continue;
        }
        let gone = unmount(path, Mode::Normal).or_else(|busy| {
            log::info!("{busy}");
            unmount(path, Mode::Lazy)
        });
        if let Err(error) = gone {
            log::warn!("{error}");
        }
    }
}

/// Tries again to take away a mount whose last user seems to be leaving. True when it is gone.
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

/// Takes the topmost mount at `path` out of the mount table: by umount2(2), or fusermount3 where that is not for this
/// process. `path` is absolute and without symbolic links, and no link that somebody put there meanwhile is followed.
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
