//! Attaches a mount.
//!
//! Uses mount(2) directly where the process may, else fusermount3. Both give the same mount: type `fuse.fetchfs`, the
//! URL as its source, read-only, nosuid, nodev, permissions checked by the kernel.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::unistd::{getegid, geteuid};

use super::check::{DEVICE, unusable_device};
use super::{FSTYPE, MountError, RunFile, fusermount};

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
