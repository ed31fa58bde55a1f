//! The kernel's mount table: getting a FUSE mount into it and out again. No FUSE protocol here.
//!
//! `cli` and the composition root call this, in this order: [`resolve`] what was typed, [`check`] that it can be
//! mounted on, take the [`RunFile`], [`mount`]; later, from another process, [`unmount`]. The file descriptor that
//! [`mount`] returns is handed to [`crate::fuse::Connection::start`]. fuser could mount by itself, but as root it leaves the
//! subtype out, so that `findmnt -t fuse.fetchfs` shows nothing, and its errors are not sentences.
//!
//! **Nothing here hangs on a dead or blocked mount.** A `stat` on the root of a FUSE mount asks its daemon and waits
//! for it, uninterruptibly. So what is mounted where is read from `/proc/self/mountinfo`, a path is resolved by an
//! `O_PATH` descriptor, which the kernel opens without asking the file system (`table::locate`), users of a mount are
//! found in `/proc` by name and mount id (`holders`), and the one question that has to be put to the mount itself,
//! whether it is alive, is put by a child process that may be left behind (`probe`).

mod attach;
mod busy;
mod check;
mod daemon;
mod detach;
mod error;
mod fusermount;
mod locate_mount;
mod probe;
mod read_ahead;
mod runfile;
mod table;

pub use attach::{MountFlags, mount};
pub use busy::{Holder, Use};
pub use check::{check, resolve};
pub use detach::{Ended, Mode, UnmountError, unmount, unmount_own};
pub use error::MountError;
pub use locate_mount::{InMount, InMountError, all, find};
pub use read_ahead::raise_read_ahead;
pub use runfile::RunFile;

/// What the kernel calls a fetchfs mount: the file system type `fuse` with a subtype.
pub const FSTYPE: &str = "fuse.fetchfs";
