//! The mountpoint: attaches a FUSE mount to the kernel's mount table and detaches it. No FUSE protocol here.
//!
//! `cli` and the composition root call this in the following order: [`resolve`] the user's path, [`check()`] that it can
//! be mounted on, create the [`RunFile`], [`mount`]; later, from another process, [`unmount`]. The descriptor that
//! [`mount`] returns goes to [`crate::fuse::Connection::start`]. fuser could mount by itself, but as root it omits the
//! subtype, so that `findmnt -t fuse.fetchfs` shows nothing, and its errors are no help to users.
//!
//! **Nothing here blocks on a dead or blocked mount.** A `stat` on the root of a FUSE mount waits for its daemon,
//! uninterruptibly. So:
//!
//! - Mounts are read from `/proc/self/mountinfo`.
//! - A path is resolved by an `O_PATH` descriptor, which the kernel opens without a request to the file system
//!   (`table::locate`).
//! - Users of a mount are found in `/proc` by name and mount id (`busy`).
//! - Only the mount itself can show whether it is alive. A child process that may be abandoned asks it (`probe`).

mod attach;
mod busy;
mod check;
mod daemon;
mod detach;
mod ending;
mod error;
mod fusermount;
mod locate_mount;
mod probe;
mod read_ahead;
mod runfile;
mod table;

pub(crate) use crate::config::DESCRIPTORS;
pub(crate) use attach::{MountFlags, handed_over, mount, take_over};
pub(crate) use check::{check, check_device, check_is_outside, may_allow_other, resolve};
pub(crate) use detach::{Ended, Mode, unmount, unmount_own};
pub(crate) use error::MountError;
pub(crate) use fusermount::find as helper;
pub(crate) use locate_mount::{InMount, InMountError, Listed, all, find, list};
pub(crate) use locate_mount::{all_unasked, find_unasked};
pub(crate) use read_ahead::raise_read_ahead;
pub(crate) use runfile::RunFile;

/// The type of a fetchfs mount in mount tables: the file system type `fuse` with a subtype.
pub(crate) const FSTYPE: &str = "fuse.fetchfs";
