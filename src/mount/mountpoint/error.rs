//! Why a mount can't be made. Each `Display` is the whole sentence for the user: what happened, where, and what to do.

use std::io;
use std::path::PathBuf;

/// An obstacle to a mount.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The mountpoint does not exist.
    #[error("the mountpoint {path} does not exist; create it with `mkdir -p {path}`", path = .0.display())]
    Missing(PathBuf),
    /// The mountpoint is a file.
    #[error("the mountpoint {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The caller may not read the mountpoint.
    #[error("the mountpoint {} is not readable for this user; choose a directory of your own", .0.display())]
    NotReadable(PathBuf),
    /// Ordinary users may mount only on a directory that they can write to.
    #[error("the mountpoint {} is not writable for this user; choose a directory of your own", .0.display())]
    NotWritable(PathBuf),
    /// The mount would hide files in the mountpoint.
    #[error("the mountpoint {} is not empty, and a mount would hide what is in it; choose an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// The mount would be in the directory that it shows.
    #[error("the mountpoint {mountpoint} is inside the source {source_dir}, so the mount would contain itself; choose a directory elsewhere",
        mountpoint = mountpoint.display(), source_dir = source_dir.display())]
    InsideSource {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// The directory that is to be mounted.
        source_dir: PathBuf,
    },
    /// A living FUSE mount is there.
    #[error("{} is busy: {source_name} ({fstype}) is mounted there; end that with `{end} {path}` or choose another directory",
        path.display(), end = end(fstype), path = path.display())]
    Busy {
        /// The mountpoint.
        path: PathBuf,
        /// The file system type in the mount table.
        fstype: String,
        /// The source in the mount table.
        source_name: String,
    },
    /// A FUSE mount is there whose daemon is alive but does not answer.
    #[error("{} is busy: {source_name} ({fstype}) is mounted there and does not answer; end that with `{end} --lazy {path}`",
        path.display(), end = end(fstype), path = path.display())]
    Silent {
        /// The mountpoint.
        path: PathBuf,
        /// The file system type in the mount table.
        fstype: String,
        /// The source in the mount table.
        source_name: String,
    },
    /// A dead mount is there and can't be removed.
    #[error("a dead mount is on {path} and can't be removed: {reason}; try `umount --lazy {path}` as root", path = path.display())]
    Stale {
        /// The mountpoint.
        path: PathBuf,
        /// The message of the attempt.
        reason: String,
    },
    /// A descriptor that was to be handed over is not open.
    #[error(
        "there is no open file descriptor {0}; the process that starts fetchfs must leave it open (without close-on-exec)"
    )]
    NotOpen(i32),
    /// A descriptor that was to be handed over is of something else.
    #[error("file descriptor {fd} is {what}, not /dev/fuse; open /dev/fuse and mount(2) with it first")]
    NotTheDevice {
        /// The descriptor.
        fd: i32,
        /// What it is.
        what: String,
    },
    /// The mount of a descriptor is not where it should be.
    #[error("no mount of file descriptor {fd} is on {path}; mount(2) there first, with fd={fd}, or name /dev/fd/{fd} instead", path = path.display())]
    NotMountedWith {
        /// The mountpoint.
        path: PathBuf,
        /// The descriptor.
        fd: i32,
    },
    /// Another fetchfs is about to mount on the same path, or has not quite ended there.
    #[error("another fetchfs (pid {pid}) uses {}; wait for it, or end it with `kill {pid}`", path.display())]
    Taken {
        /// The mountpoint.
        path: PathBuf,
        /// The other process.
        pid: u32,
    },
    /// There is no `/dev/fuse`.
    #[error(
        "/dev/fuse is missing: the kernel's FUSE module is not loaded; run `modprobe fuse` as root \
         (a container needs `--device /dev/fuse --cap-add SYS_ADMIN`)"
    )]
    NoDevice,
    /// `/dev/fuse` can't be opened by the caller.
    #[error(
        "/dev/fuse can't be opened: permission denied; it should be writable for all users: run `chmod 0666 /dev/fuse` as root, \
         or mount as root"
    )]
    DeviceDenied,
    /// Not root, and there is no setuid helper to mount on the user's behalf.
    #[error(
        "an ordinary user mounts through `fusermount3`, which is not installed; install the package fuse3, or mount as root"
    )]
    NoHelper,
    /// Root without the capability to mount.
    #[error(
        "the kernel does not let this process mount: it has no CAP_SYS_ADMIN \
         (a container needs `--device /dev/fuse --cap-add SYS_ADMIN`)"
    )]
    NotPermitted,
    /// An ordinary user requests `allow_other`, and the administrator has not allowed it.
    #[error(
        "--allow-other is not allowed for ordinary users here; add the line `user_allow_other` to /etc/fuse.conf as root, or leave it out"
    )]
    OtherNotAllowed,
    /// The kernel or fusermount3 refused for a reason without a kind of its own.
    #[error("can't mount on {}: {reason}", path.display())]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// The message of the kernel or fusermount3.
        reason: String,
    },
    /// Another operation failed.
    #[error("can't {doing} {}: {error}", path.display())]
    Io {
        /// The operation, as the text after "can't".
        doing: &'static str,
        /// Its object.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// The command that ends a mount of this type.
fn end(fstype: &str) -> &'static str {
    if fstype == super::FSTYPE {
        "fetchfs unmount"
    } else {
        "umount"
    }
}
