//! The run file of the process that serves a mount, or is about to; [`super::daemon`] reads it.
//!
//! It distinguishes two daemons that are started on one mountpoint at the same time, and finds a daemon in another
//! network namespace. A daemon keeps a small file for its mountpoint in the runtime directory, locked (flock(2)) for as
//! long as it lives. **The pid in the file is that of a living daemon if, and only if, the file is locked.** The kernel
//! releases the lock however the process ends. So a file left by `kill -9` misleads no reader, and the next daemon
//! replaces it.
//!
//! A daemon may outlive its mount: after a lazy unmount it serves files that are still open. The mountpoint is then
//! free for the next mount, so such a file is replaced although it is locked.
//!
//! Runtime directories are cleared at a logout or by age. The daemon then creates the file again ([`RunFile::renew`]).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::geteuid;
use parking_lot::Mutex;

use super::daemon::{Daemon, MOUNTED, address_of, belongs_to, directories, file_name, read_mark, read_pid, socket_of};
use super::{MountError, table};

/// How long a new daemon waits for one that is ending on the same mountpoint, as after `umount /mnt && mount /mnt`.
const HANDOVER: Duration = Duration::from_secs(5);

/// The claim of this process on a mountpoint. Removed on drop.
#[derive(Debug)]
pub(crate) struct RunFile {
    mountpoint: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    file: Mutex<File>,
    /// The mount's device number, once it is mounted.
    device: OnceLock<(u32, u32)>,
}

impl RunFile {
    /// Creates the run file, which excludes a second daemon on the same mountpoint. Must be called by the process that
    /// will serve the mount.
    ///
    /// # Errors
    /// If another daemon has the mountpoint, or no runtime directory is writable.
    pub(crate) fn create(mountpoint: &Path) -> Result<RunFile, MountError> {
        let name = file_name(mountpoint);
        let mut failure = None;
        for dir in directories(geteuid()) {
            let path = dir.join(&name);
            match own_directory(&dir).and_then(|()| take(&path, mountpoint)) {
                Ok(file) => {
                    return Ok(RunFile {
                        mountpoint: mountpoint.to_owned(),
                        path,
                        file: Mutex::new(file),
                        device: OnceLock::new(),
                    });
                }
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
        let (path, error) = failure.expect("there is a directory to try for everybody");
        Err(MountError::Io {
            doing: "write the run file",
            path,
            error,
        })
    }

    /// The claimed mountpoint.
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The path of this daemon's control socket: beside the run file, in a directory that only its user may enter. A
    /// socket that a killed daemon left there must be removed first; the socket is removed together with the run file.
    pub(crate) fn control_socket(&self) -> PathBuf {
        socket_of(&self.path)
    }

    /// The abstract address of the control socket, by which it is found from its mount. `None` before the mount.
    pub(crate) fn control_address(&self) -> Option<SocketAddr> {
        address_of(self.device()?).ok()
    }

    /// The device number of the mount, once it is mounted.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        self.device.get().copied()
    }

    /// Whether the mount is still there, at its mountpoint or elsewhere. Reads the mount table alone; true if that does not
    /// tell.
    pub(crate) fn is_mounted(&self) -> bool {
        let (Some(device), Ok(mounts)) = (self.device(), table::read()) else {
            return true;
        };
        mounts.iter().any(|mount| mount.device == device)
    }

    /// Records the mount's device. From now on, a mountpoint without a mount means that it was unmounted.
    pub(super) fn mounted(&self) {
        self.mounted_as(None);
    }

    /// [`Self::mounted`], of a mount whose device is known.
    pub(super) fn mounted_as(&self, device: Option<(u32, u32)>) {
        // If the write fails, the claim lasts longer than necessary.
        let _ = writeln!(&*self.file.lock(), "{MOUNTED}");
        let at_path = || table::locate(&self.mountpoint).ok()?.mount.map(|mount| mount.device);
        if let Some(device) = device.or_else(at_path) {
            let _ = self.device.set(device);
        }
    }

    /// Creates the run file again if it was deleted. Returns true if so: then the socket beside it is gone as well.
    pub(crate) fn renew(&self) -> bool {
        if self.path.exists() {
            return false;
        }
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let made = own_directory(dir).and_then(|()| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&self.path)?;
            file.try_lock()?;
            write_mark(&mut file, &self.mountpoint)?;
            writeln!(file, "{MOUNTED}")?;
            Ok(file)
        });
        match made {
            Ok(file) => *self.file.lock() = file,
            Err(error) => log::debug!("can't recreate the run file {}: {error}", self.path.display()),
        }
        self.path.exists()
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // Before the lock is released, so that no other daemon can have taken the file; a daemon that has replaced it
        // has a file of its own. If the removal fails, the file is stale, which is harmless.
        if is_at(&self.file.lock(), &self.path) {
            let _ = fs::remove_file(self.control_socket());
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates, locks and writes the file; `WouldBlock` if another daemon holds it for longer than [`HANDOVER`].
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
            Err(TryLockError::WouldBlock) if has_lost_its_mount(path, mountpoint) => {
                if is_at(&file, path) {
                    fs::remove_file(path)?;
                }
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A daemon that ended between our open and our lock has removed this very file: then the lock is void.
        if is_at(&file, path) {
            file.set_len(0)?;
            write_mark(&mut file, mountpoint)?;
            return Ok(file);
        }
    }
}

fn write_mark(file: &mut File, mountpoint: &Path) -> io::Result<()> {
    writeln!(file, "{}", std::process::id())?;
    file.write_all(mountpoint.as_os_str().as_bytes())?;
    file.write_all(b"\n")
}

/// Returns true if `path` still names this file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Returns true if the daemon that holds the file at `path` has mounted and was unmounted.
fn has_lost_its_mount(path: &Path, mountpoint: &Path) -> bool {
    let had_one = read_mark(path).is_some_and(|text| text.lines().last() == Some(MOUNTED));
    had_one && table::locate(mountpoint).is_ok_and(|place| place.mount.is_none())
}

/// Creates a directory that only this user may enter, or checks that it is one.
fn own_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if belongs_to(dir, geteuid()) {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
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
    fn daemon_without_its_mount_frees_the_mountpoint() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mountpoint) = (dir.path().join("mark"), dir.path().join("mountpoint"));
        fs::create_dir(&mountpoint).unwrap();
        let mark = |file| RunFile {
            mountpoint: mountpoint.clone(),
            path: path.clone(),
            file: Mutex::new(file),
            device: OnceLock::new(),
        };
        let old = mark(take(&path, &mountpoint).unwrap());
        assert!(!has_lost_its_mount(&path, &mountpoint), "it has not had one yet");
        old.mounted();
        assert!(has_lost_its_mount(&path, &mountpoint));
        assert!(
            !has_lost_its_mount(&path, Path::new("/proc")),
            "something is mounted there"
        );

        fs::remove_file(&path).unwrap();
        assert!(old.renew() && !old.renew(), "it is made again once");
        assert!(Daemon::in_file(&path).is_some_and(|daemon| daemon.is_this_process()));
        fs::remove_file(&path).unwrap();
        let new = mark(take(&path, &mountpoint).unwrap());
        drop(old);
        assert!(path.exists(), "the new daemon's mark");
        drop(new);
        assert!(!path.exists());
    }
}
