//! The daemon of a mount as another process sees it: finds it by its mount, and waits for its end.
//!
//! **A daemon is found by its mount's device number.** It listens at an abstract socket (unix(7)) of that name, which
//! exists exactly as long as the process. Such a socket has no path that could be deleted, and the number stays the
//! same wherever the mount is moved or bound. The kernel reports which process listens. Any user may take such a name,
//! so a listener counts only if it is the mount's owner's or root's.
//!
//! Abstract names belong to a network namespace. A daemon in another one is found by its run file ([`super::RunFile`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, geteuid};
use xxhash_rust::xxh3::xxh3_64;

use super::table::Mount;

/// Directory of the run files of root's mounts.
const SYSTEM_DIR: &str = "/run/fetchfs";

/// The last line of the run file of a daemon that has mounted. The first line is the daemon's pid, the second its
/// mountpoint.
pub(super) const MOUNTED: &str = "mounted";

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    /// 0 if the daemon is in another pid namespace and has no number here.
    pid: u32,
    address: SocketAddr,
    /// Its run file, if that is in place.
    mark: Option<PathBuf>,
    /// Refers to the same process even after its pid is reused.
    process: OwnedFd,
}

impl Daemon {
    /// The daemon that serves a mount, if it is alive and reachable from here.
    pub(super) fn of(mount: &Mount) -> Option<Daemon> {
        let owner = mount.owner().map_or_else(geteuid, Uid::from_raw);
        let name = file_name(&mount.mount_point);
        let directories = directories(owner).into_iter();
        let marks: Vec<PathBuf> = directories
            .filter(|dir| belongs_to(dir, owner))
            .map(|dir| dir.join(&name))
            .collect();
        match Daemon::listening_for(mount.device, owner) {
            Some(daemon) => Some(Daemon {
                mark: marks.into_iter().find(|mark| read_pid(mark) == Some(daemon.pid)),
                ..daemon
            }),
            None => marks.iter().find_map(|mark| Daemon::in_file(mark)),
        }
    }

    /// The daemon that listens in the name of a device, if it is this user's or root's.
    fn listening_for(device: (u32, u32), owner: Uid) -> Option<Daemon> {
        let address = address_of(device).ok()?;
        let stream = UnixStream::connect_addr(&address).ok()?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials).ok()?;
        if peer.uid() != owner.as_raw() && peer.uid() != 0 {
            return None;
        }
        let pid = u32::try_from(peer.pid()).unwrap_or_default();
        let process = peer_process(&stream).or_else(|_| open_process(pid)).ok()?;
        Some(Daemon {
            pid,
            address,
            mark: None,
            process,
        })
    }

    /// The daemon with the run file at `path`, if it is alive.
    pub(super) fn in_file(path: &Path) -> Option<Daemon> {
        let pid = read_pid(path)?;
        let process = open_process(pid).ok()?;
        let address = SocketAddr::from_pathname(socket_of(path)).ok()?;
        // Only now is it certain that the pid was the daemon's when it was opened.
        is_locked(path).then(|| Daemon {
            pid,
            address,
            mark: Some(path.to_owned()),
            process,
        })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The address of its control socket.
    pub(super) fn address(&self) -> &SocketAddr {
        &self.address
    }

    /// Its process: readable once that has ended.
    pub(super) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Returns true if the caller is the daemon.
    pub(super) fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Removes its run file after the unmount, so that the mountpoint is free for the next mount.
    pub(super) fn forget(&self) {
        // If it fails, the next daemon replaces the file, a little later.
        if let Some(mark) = &self.mark {
            let _ = fs::remove_file(socket_of(mark));
            let _ = fs::remove_file(mark);
        }
    }

    /// Waits until the process has ended; returns false after `patience`.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let mut ended = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut ended, patience), Ok(1))
    }
}

/// The process at the other end of a connection, in whatever pid namespace (SO_PEERPIDFD, Linux 6.5).
fn peer_process(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut descriptor: libc::c_int = -1;
    let mut size = size_of_val(&descriptor) as libc::socklen_t;
    // SAFETY: the kernel writes one descriptor, for which there is room.
    let outcome = unsafe {
        let place = (&raw mut descriptor).cast();
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            place,
            &mut size,
        )
    };
    match outcome {
        // SAFETY: the kernel has just made this descriptor for us, close-on-exec; no other code knows its number.
        0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The control address of the daemon whose mount has this device number.
pub(super) fn address_of((major, minor): (u32, u32)) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("fetchfs/{major}:{minor}"))
}

fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call (pidfd_open(2), Linux 5.3) with two plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor for us, close-on-exec; no other code knows its number.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a run file to inspect it. It may be in another user's directory, so the open neither follows links nor blocks.
fn open_mark(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

pub(super) fn read_mark(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    open_mark(path)
        .ok()?
        .take(2 * libc::PATH_MAX as u64)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn read_pid(path: &Path) -> Option<u32> {
    read_mark(path)?.lines().next()?.parse().ok().filter(|&pid| pid > 0)
}

fn is_locked(path: &Path) -> bool {
    open_mark(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// A name of fixed length for the mountpoint's path.
pub(super) fn file_name(mountpoint: &Path) -> String {
    format!("{:016x}", xxh3_64(mountpoint.as_os_str().as_bytes()))
}

/// The control socket of the daemon with this run file.
pub(super) fn socket_of(mark: &Path) -> PathBuf {
    mark.with_extension("socket")
}

/// Returns true if this is a directory of that user, not one that another user has placed in `/tmp`.
pub(super) fn belongs_to(dir: &Path, owner: Uid) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir() && found.uid() == owner.as_raw())
}

/// Possible directories of a user's run files, best first. All follow from the user alone: `fetchfs unmount` knows
/// neither the options nor the environment of the mount command.
pub(super) fn directories(owner: Uid) -> Vec<PathBuf> {
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
        // The usual value of that variable, which is not set for cron and root.
        places.push(PathBuf::from(format!("/run/user/{owner}/fetchfs")));
    }
    // For machines without a session manager, and users without a home directory.
    places.push(PathBuf::from(format!("/tmp/fetchfs-{owner}")));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

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
            mark: None,
            address: address_of((0, 0)).unwrap(),
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
        assert_eq!(
            places,
            [
                PathBuf::from("/run/user/4000000/fetchfs"),
                "/tmp/fetchfs-4000000".into()
            ]
        );
        if geteuid().is_root() {
            assert_eq!(directories(Uid::from_raw(0))[0], Path::new("/run/fetchfs"));
        }
    }
}
