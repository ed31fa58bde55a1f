//! Attaches a mount.
//!
//! Uses mount(2) directly where the process may, else fusermount3. Both give the same mount: type `fuse.fetchfs`, the
//! URL as its source, read-only, nosuid, nodev, permissions checked by the kernel.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::MsFlags;
use nix::sys::stat::makedev;
use nix::unistd::{getegid, geteuid};

use super::check::{DEVICE, resolve, unreachable_path, unusable_device};
use super::{DESCRIPTORS, FSTYPE, MountError, RunFile, fusermount, table};

/// The device number of `/dev/fuse` (the kernel's Documentation/admin-guide/devices.txt).
const FUSE_MAJOR: u64 = 10;
const FUSE_MINOR: u64 = 229;

/// Flags of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountFlags {
    /// The source in mount tables. Must not contain secrets: every user of the machine can read it.
    pub source: String,
    /// Allow access by other users.
    pub allow_other: bool,
    /// Make the kernel refuse to execute files.
    pub noexec: bool,
}

/// Mounts on the mountpoint of `mark`, which this process has claimed and [`super::check()`] has accepted. Returns the
/// mount's `/dev/fuse` for [`crate::fuse::Connection::start`]. The mount answers no request until a session runs on it.
///
/// Dropping the descriptor leaves a dead mount; call [`super::unmount`] first.
///
/// # Errors
/// If the kernel or fusermount3 refuses.
pub(crate) fn mount(mark: &RunFile, flags: &MountFlags) -> Result<OwnedFd, MountError> {
    let path = mark.mountpoint();
    let device = match mount_directly(path, flags) {
        Err(MountError::NotPermitted) => mount_by_helper(path, flags),
        done => done,
    }?;
    mark.mounted();
    Ok(device)
}

/// Where a mount is whose `/dev/fuse` another process hands over as the descriptor `fd`. `path` is its mountpoint, or
/// `/dev/fd/FD` if it may be anywhere. In the latter case that is also the answer if this process does not see the mount.
///
/// # Errors
/// If the descriptor is none of `/dev/fuse`, or another mount or none is on `path`.
pub(crate) fn handed_over(fd: RawFd, path: &Path) -> Result<PathBuf, MountError> {
    check_descriptor(fd)?;
    let device = device_of(fd);
    if path.starts_with(DESCRIPTORS) {
        let mut mounts = table::read().unwrap_or_default().into_iter();
        let whole = |mount: &table::Mount| Some(mount.device) == device && mount.root == Path::new("/");
        let seen = mounts.rfind(whole).map(|mount| mount.mount_point);
        return Ok(seen.unwrap_or_else(|| path.to_owned()));
    }
    let place = resolve(path).and_then(|path| table::locate(&path).map_err(|error| unreachable_path(&path, error)))?;
    let is_it = |mount: &table::Mount| mount.is_fuse() && device.is_none_or(|device| mount.device == device);
    match place.mount.as_ref().is_some_and(is_it) {
        true => Ok(place.path),
        false => Err(MountError::NotMountedWith { path: place.path, fd }),
    }
}

/// Takes the descriptor that [`handed_over`] has accepted, for a mount that the owner of `mark` serves. To be called once.
///
/// # Errors
/// If it was closed meanwhile.
pub(crate) fn take_over(mark: &RunFile, fd: RawFd) -> Result<OwnedFd, MountError> {
    check_descriptor(fd)?;
    // SAFETY: the descriptor is open. This process got it when it began, for this purpose, and takes it only here.
    let device = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| MountError::Io {
        doing: "take over",
        path: descriptor_path(fd),
        error: errno.into(),
    })?;
    mark.mounted_as(device_of(fd));
    Ok(device)
}

/// Checks that a descriptor is one of `/dev/fuse`, whatever name that has in a container.
fn check_descriptor(fd: RawFd) -> Result<(), MountError> {
    let path = format!("/proc/self/fd/{fd}");
    let Ok(found) = fs::metadata(&path) else {
        return Err(MountError::NotOpen(fd));
    };
    if found.file_type().is_char_device() && found.rdev() == makedev(FUSE_MAJOR, FUSE_MINOR) {
        return Ok(());
    }
    let what = fs::read_link(path).map_or_else(|_| "something else".to_owned(), |what| what.display().to_string());
    Err(MountError::NotTheDevice { fd, what })
}

/// The device number of the mount to which a `/dev/fuse` belongs. `None` without a mount, and on kernels that do not show
/// it.
fn device_of(fd: RawFd) -> Option<(u32, u32)> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let mut lines = text.lines();
    let number: u32 = lines.find_map(|line| line.strip_prefix("fuse_connection:")?.trim().parse().ok())?;
    // As in the kernel's include/linux/kdev_t.h.
    Some((number >> 20, number & 0xf_ffff))
}

fn descriptor_path(fd: RawFd) -> PathBuf {
    Path::new(DESCRIPTORS).join(fd.to_string())
}

/// Mounts through fusermount3.
fn mount_by_helper(path: &Path, flags: &MountFlags) -> Result<OwnedFd, MountError> {
    let Some(program) = fusermount::find() else {
        return Err(if geteuid().is_root() {
            MountError::NotPermitted
        } else {
            MountError::NoHelper
        });
    };
    fusermount::mount(&program, path, &fusermount_options(flags)).map_err(|reason| {
        let path = path.to_owned();
        match reason {
            reason if reason.contains("user_allow_other") => MountError::OtherNotAllowed,
            reason if reason.contains("no write access to mountpoint") => MountError::NotWritable(path),
            reason => MountError::Refused { path, reason },
        }
    })
}

/// Mounts by mount(2). [`MountError::NotPermitted`] if this process may not.
fn mount_directly(path: &Path, flags: &MountFlags) -> Result<OwnedFd, MountError> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(unusable_device)?;
    let mut bits = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    bits.set(MsFlags::MS_NOEXEC, flags.noexec);
    let data = kernel_options(flags, device.as_raw_fd());
    match nix::mount::mount(
        Some(flags.source.as_str()),
        path,
        Some(FSTYPE),
        bits,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(device.into()),
        Err(Errno::EPERM | Errno::EACCES) => Err(MountError::NotPermitted),
        Err(Errno::ENODEV) => Err(MountError::NoDevice),
        Err(errno) => Err(MountError::Refused {
            path: path.to_owned(),
            reason: errno.desc().to_owned(),
        }),
    }
}

/// The kernel's mount options (Documentation/filesystems/fuse.rst). `rootmode` is the file type of the root in octal: a
/// directory.
fn kernel_options(flags: &MountFlags, device: i32) -> String {
    let (user, group) = (geteuid(), getegid());
    let mut options = format!("fd={device},rootmode=40000,user_id={user},group_id={group},default_permissions");
    push_common(&mut options, flags);
    options
}

fn fusermount_options(flags: &MountFlags) -> String {
    let subtype = FSTYPE.trim_start_matches("fuse.");
    // The escaping of libfuse's fuse_opt_add_opt_escaped, which fusermount3 reads.
    let source = flags.source.replace('\\', r"\\").replace(',', r"\,");
    let mut options = format!("ro,nosuid,nodev,default_permissions,subtype={subtype},fsname={source}");
    if flags.noexec {
        options.push_str(",noexec");
    }
    push_common(&mut options, flags);
    options
}

fn push_common(options: &mut String, flags: &MountFlags) {
    if flags.allow_other {
        options.push_str(",allow_other");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_backslashes_in_a_url_do_not_end_the_option() {
        let flags = MountFlags {
            source: r"http://h/a,b\c".to_owned(),
            allow_other: true,
            noexec: true,
        };
        insta::assert_snapshot!(fusermount_options(&flags), @r"ro,nosuid,nodev,default_permissions,subtype=fetchfs,fsname=http://h/a\,b\\c,noexec,allow_other");
    }

    #[test]
    fn mount_options_reach_the_kernel() {
        let flags = MountFlags {
            allow_other: true,
            ..MountFlags::default()
        };
        let (user, group) = (geteuid(), getegid());
        let expected = format!("fd=9,rootmode=40000,user_id={user},group_id={group},default_permissions,allow_other");
        assert_eq!(kernel_options(&flags, 9), expected);
    }
}
