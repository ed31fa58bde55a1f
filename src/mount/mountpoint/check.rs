//! Checks whether a mount can be made, before anything is started for it.
//!
//! Finds all common obstacles, because at this point one sentence can still explain them. [`super::mount`] finds those
//! that only an attempt shows (a security module, a limit on mounts).

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::daemon::Daemon;
use super::detach::{self, Mode};
use super::probe::{Pulse, probe};
use super::{MountError, fusermount, table};
use crate::util::events;

pub(super) const DEVICE: &str = "/dev/fuse";

/// The administrator's settings for ordinary users (mount.fuse3(8)).
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Maximum number of stacked dead mounts that are removed. Each is left by one killed daemon.
const DEAD_MOUNTS_MAX: usize = 16;

/// Makes a mountpoint absolute and free of symbolic links. Works on a dead mount too.
///
/// # Errors
/// If it does not exist, or can't be reached.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    match table::locate(path) {
        Ok(place) => Ok(place.path),
        Err(error) => Err(unreachable_path(path, error)),
    }
}

/// Checks whether this process can mount on `path`, as [`resolve`] returned it. Removes a dead FUSE mount there, left
/// by a killed daemon.
///
/// # Errors
/// The obstacle.
pub(crate) fn check(path: &Path, allow_other: bool) -> Result<(), MountError> {
    let other = remove_dead_mounts(path)?;
    // Reading an autofs mount point would trigger the very mount that is being made (x-systemd.automount).
    if other.as_deref() != Some("autofs") {
        check_directory(path)?;
    }
    check_device()?;
    if !geteuid().is_root() {
        fusermount::find().ok_or(MountError::NoHelper)?;
        if allow_other && !may_allow_other() {
            return Err(MountError::OtherNotAllowed);
        }
    }
    Ok(())
}

/// Checks that a mountpoint is not in the directory that is to be mounted, under whatever path. A walk through that mount
/// would never end.
///
/// # Errors
/// [`MountError::InsideSource`].
pub(crate) fn check_is_outside(mountpoint: &Path, source: &Path) -> Result<(), MountError> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    // The mount itself will tell what is wrong with a source that can't be read.
    let Some(of_source) = identity(source) else {
        return Ok(());
    };
    if mountpoint.ancestors().any(|above| identity(above) == Some(of_source)) {
        return Err(MountError::InsideSource {
            mountpoint: mountpoint.to_owned(),
            source_dir: source.to_owned(),
        });
    }
    Ok(())
}

/// Removes dead FUSE mounts from `path`. Returns the type of another file system that is mounted there: an empty volume
/// in a container is a valid mountpoint.
fn remove_dead_mounts(path: &Path) -> Result<Option<String>, MountError> {
    for _ in 0..DEAD_MOUNTS_MAX {
        let place = table::locate(path).map_err(|error| unreachable_path(path, error))?;
        let Some(mount) = place.mount else { return Ok(None) };
        if !mount.is_fuse() {
            return Ok(Some(mount.fstype));
        }
        let pulse = if Daemon::of(&mount).is_some() {
            Pulse::Alive
        } else {
            probe(path)
        };
        let (path, fstype, source_name) = (path.to_owned(), mount.fstype, mount.source);
        match pulse {
            Pulse::Alive => {
                return Err(MountError::Busy {
                    path,
                    fstype,
                    source_name,
                });
            }
            Pulse::Silent => {
                return Err(MountError::Silent {
                    path,
                    fstype,
                    source_name,
                });
            }
            Pulse::Dead => {
                log::warn!(
                    event = events::DEAD_MOUNT_REMOVED;
                    "removing the dead mount of {source_name} from {}", path.display()
                );
                detach::from_table(&path, Mode::Lazy).map_err(|refusal| MountError::Stale {
                    path,
                    reason: refusal.to_string(),
                })?;
            }
        }
    }
    Err(MountError::Stale {
        path: path.to_owned(),
        reason: "there is one more under each that is removed".to_owned(),
    })
}

fn check_directory(path: &Path) -> Result<(), MountError> {
    let mut names = fs::read_dir(path).map_err(|error| unreachable_path(path, error))?;
    match names.next() {
        None => Ok(()),
        Some(Ok(_)) => Err(MountError::NotEmpty(path.to_owned())),
        Some(Err(error)) => Err(unreachable_path(path, error)),
    }
}

/// Checks that the kernel's FUSE device can be opened.
///
/// # Errors
/// The obstacle.
pub(crate) fn check_device() -> Result<(), MountError> {
    match OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE)
    {
        Ok(_) => Ok(()),
        Err(error) => Err(unusable_device(error)),
    }
}

pub(super) fn unusable_device(error: io::Error) -> MountError {
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::NotFound, _) | (_, Some(libc::ENODEV | libc::ENXIO)) => MountError::NoDevice,
        // EPERM is from a container's device cgroup.
        (ErrorKind::PermissionDenied, Some(libc::EPERM)) => MountError::NotPermitted,
        (ErrorKind::PermissionDenied, _) => MountError::DeviceDenied,
        _ => MountError::Io {
            doing: "open",
            path: DEVICE.into(),
            error,
        },
    }
}

pub(super) fn unreachable_path(path: &Path, error: io::Error) -> MountError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound => MountError::Missing(path),
        ErrorKind::NotADirectory => MountError::NotADirectory(path),
        ErrorKind::PermissionDenied => MountError::NotReadable(path),
        _ => MountError::Io {
            doing: "look at the mountpoint",
            path,
            error,
        },
    }
}

/// Returns true if ordinary users may mount for others.
pub(crate) fn may_allow_other() -> bool {
    allows_other(&fs::read_to_string(FUSE_CONF).unwrap_or_default())
}

/// Returns true if fuse.conf has the line `user_allow_other`.
fn allows_other(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| {
        line.split('#')
            .next()
            .is_some_and(|line| line.trim() == "user_allow_other")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountpoint_errors_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let (file, none) = (dir.path().join("file"), dir.path().join("none"));
        fs::write(&file, "").unwrap();
        assert!(matches!(resolve(&none), Err(MountError::Missing(_))));
        assert!(matches!(check_directory(&file), Err(MountError::NotADirectory(_))));
        assert!(matches!(check_directory(dir.path()), Err(MountError::NotEmpty(_))));
        fs::remove_file(&file).unwrap();
        check_directory(dir.path()).unwrap();
    }

    #[test]
    fn an_ordinary_mount_is_no_obstacle_by_itself() {
        assert_eq!(remove_dead_mounts(Path::new("/proc")).unwrap().as_deref(), Some("proc"));
        assert!(matches!(check(Path::new("/proc"), false), Err(MountError::NotEmpty(_))));
    }

    #[test]
    fn a_commented_line_allows_nothing() {
        assert!(!allows_other("# user_allow_other\n#user_allow_other\nmount_max = 10\n"));
        assert!(allows_other("mount_max = 10\n  user_allow_other # yes\n"));
    }
}
