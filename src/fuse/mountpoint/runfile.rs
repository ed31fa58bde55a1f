//! Which process serves a mount.
//!
//! The mount table doesn't say. So a daemon keeps a small file for its mountpoint in the runtime directory, locked (flock(2)) for
//! as long as it lives: **the pid in the file is that of a living daemon if, and only if, the file is locked.** The kernel drops the lock
//! however the process ends, so a file left by `kill -9` misleads nobody, and the next daemon takes it over.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, User, geteuid};
use xxhash_rust::xxh3::xxh3_64;

use super::MountError;
use super::table::Mount;
use crate::config::default_cache_dir;

/// Where the files of root's mounts are.
const SYSTEM_DIR: &str = "/run/fetchfs";

/// How long a new daemon waits for one that is just ending on the same mountpoint, as after `umount /mnt && mount /mnt`.
const HANDOVER: Duration = Duration::from_secs(5);

/// The mark that this process serves a mountpoint. Removed on drop.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    /// Holds the lock.
    _locked: File,
}

impl RunFile {
    /// Leaves the mark. To be called by the process that will serve the mount, before it mounts: two daemons that are started
    /// on one mountpoint at the same time are told apart here.
    ///
    /// # Errors
    /// When another daemon has it, or no runtime directory can be written to.
    pub fn create(mountpoint: &Path) -> Result<RunFile, MountError> {
        let name = file_name(mountpoint);
        let mut failure = None;
        for dir in directories(geteuid()) {
            let path = dir.join(&name);
            match DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .and_then(|()| take(&path, mountpoint))
            {
                Ok(locked) => return Ok(RunFile { path, _locked: locked }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let pid = read_pid(&path).unwrap_or_default();
                    return Err(MountError::Taken {
                        path: mountpoint.to_owned(),
                        pid,
                    });
                }
                Err(error) => failure = Some((path, error)),
            }
        }
        let (path, error) = failure.unwrap_or_else(|| (SYSTEM_DIR.into(), io::ErrorKind::NotFound.into()));
        Err(MountError::Io {
            doing: "write the run file",
            path,
            error,
        })
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // Before the lock goes, so that no other daemon can have taken it. If it fails the file is stale, which is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates, locks and writes the file; `WouldBlock` when another daemon holds it for longer than [`HANDOVER`].
fn take(path: &Path, mountpoint: &Path) -> io::Result<File> {
    let mut patient = true;
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if patient => {
                patient = false;
                if let Some(daemon) = Daemon::in_file(path) {
                    daemon.wait(HANDOVER);
                }
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A daemon that ended between our open and our lock has removed this very file: then the lock is worth nothing.
        if fs::metadata(path).is_ok_and(|there| there.ino() == file.metadata().map_or(0, |ours| ours.ino())) {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            file.write_all(mountpoint.as_os_str().as_bytes())?;
            file.write_all(b"\n")?;
            return Ok(file);
        }
    }
}

/// A living daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pid: u32,
    /// Stays with the process even when its pid is given to another.
    process: OwnedFd,
}

impl Daemon {
    /// The daemon that serves a mount, if it is alive and has left a mark where this user can see it.
    pub fn of(mount: &Mount) -> Option<Daemon> {
        let owner = mount.owner().map_or_else(geteuid, Uid::from_raw);
        let name = file_name(&mount.mount_point);
        directories(owner)
            .into_iter()
            .find_map(|dir| Daemon::in_file(&dir.join(&name)))
    }

    fn in_file(path: &Path) -> Option<Daemon> {
        let pid = read_pid(path)?;
        let process = open_process(pid).ok()?;
        // Only now is it certain that the pid was the daemon's when it was opened.
        is_locked(path).then_some(Daemon { pid, process })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the caller is the daemon.
    pub fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Waits until the process has ended; false when it hasn't within `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let mut ended = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut ended, patience), Ok(1))
    }
}

fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call (pidfd_open(2), Linux 5.3) with two plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else knows its number.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a mark to look at it. It may be in a directory of another user's, so it is neither followed nor waited for.
fn open_mark(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn read_pid(path: &Path) -> Option<u32> {
    let mut text = String::new();
    open_mark(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok().filter(|&pid| pid > 0)
}

fn is_locked(path: &Path) -> bool {
    open_mark(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The mountpoint's path as a name of fixed length.
fn file_name(mountpoint: &Path) -> String {
    format!("{:016x}", xxh3_64(mountpoint.as_os_str().as_bytes()))
}

/// Where the marks of a user's mounts may be, the best place first. The caches are for machines without a session manager.
fn directories(owner: Uid) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if owner.is_root() {
        places.push(PathBuf::from(SYSTEM_DIR));
    } else {
        if owner == geteuid()
            && let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
        {
            places.push(dir.join("fetchfs"));
        }
        // The default of that variable; it may not be set in cron, and is not another user's to root.
        places.push(PathBuf::from(format!("/run/user/{owner}/fetchfs")));
    }
    if owner == geteuid() {
        places.extend(default_cache_dir().map(|dir| dir.join("run")));
    } else if let Ok(Some(user)) = User::from_uid(owner) {
        places.push(user.dir.join(".cache/fetchfs/run"));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_worth_as_much_as_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        fs::write(&path, "1\n/a much longer line that a dead daemon has left\n").unwrap();
        assert!(Daemon::in_file(&path).is_none(), "no lock, no daemon");

        let locked = take(&path, Path::new("/mnt")).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n/mnt\n", std::process::id())
        );
        let daemon = Daemon::in_file(&path).unwrap();
        assert!(daemon.is_this_process());
        assert!(!daemon.wait(Duration::ZERO));

        drop(locked);
        assert!(Daemon::in_file(&path).is_none());
    }

    #[test]
    fn what_is_no_mark_is_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        assert!(Daemon::in_file(&path).is_none());
        for text in ["", "x\n", "0\n", "-4\n", "99999999999\n"] {
            fs::write(&path, text).unwrap();
            assert!(Daemon::in_file(&path).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let daemon = Daemon {
            pid: child.id(),
            process: open_process(child.id()).unwrap(),
        };
        assert!(!daemon.wait(Duration::ZERO));
        child.kill().unwrap();
        assert!(daemon.wait(Duration::from_secs(10)));
        child.wait().unwrap();
    }

    #[test]
    fn root_finds_the_marks_of_others() {
        let places = directories(Uid::from_raw(4_000_000));
        assert_eq!(places, [PathBuf::from("/run/user/4000000/fetchfs")]);
        if geteuid().is_root() {
            assert_eq!(directories(Uid::from_raw(0))[0], Path::new("/run/fetchfs"));
        }
    }
}
