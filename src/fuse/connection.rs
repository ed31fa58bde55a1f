//! The mount's `/dev/fuse`: notifications, read replies, and the descriptor that `fuser` gets.
//!
//! Two messages go to the kernel unasked: that an inode's attributes have changed, and which data file it may read
//! directly ([`super::passthrough`]). They are written to the device itself, because `fuser` may have the socket of a
//! [`relay`] instead. So a notification has reached the kernel when the call returns, ahead of any later reply.
//!
//! With a relay, the bytes of files are also written to the device: they are large for a socket, and they take most
//! of the time. `fuser` still needs a reply of its own. It comes second, so the kernel ignores it (ENOENT).
//!
//! **The kernel is never asked to drop pages.** That call waits for each page that is being read, and no signal ends
//! it (`invalidate_inode_pages2_range` in the kernel's `mm/truncate.c`). If this process were killed in it, it could
//! not end: the page waits for our reply, and the waiting thread keeps the descriptor open that would end the
//! connection.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;
use fuser::{BackingId, ReplyData};
use nix::errno::Errno;
use nix::sys::uio::writev;

use super::interrupts::{Interrupts, Requester};
use super::relay;
use crate::util::events;
use crate::vfs::Ino;

/// `FUSE_NOTIFY_INVAL_INODE` in `include/uapi/linux/fuse.h`.
const INVALIDATE_INODE: i32 = 2;

/// A negative offset leaves the pages alone (`fuse_reverse_inval_inode` in the kernel's `fs/fuse/inode.c`).
const ATTRIBUTES_ONLY: i64 = -1;

mod ioctl {
    // FUSE_DEV_IOC_BACKING_CLOSE in `include/uapi/linux/fuse.h`.
    nix::ioctl_write_ptr!(backing_close, 229, 2, u32);
}

/// The connection with the kernel. One per mount.
pub(crate) struct Connection {
    /// Empty until the mount is attached.
    device: OnceLock<OwnedFd>,
    /// Empty without a relay. Receives a message once the kernel has the session's first reply.
    relayed: OnceLock<Receiver<()>>,
    interrupts: Arc<Interrupts>,
}

/// Guard: a data file that the kernel reads directly, registered until this is dropped.
pub(crate) struct Backing {
    connection: Arc<Connection>,
    id: u32,
}

impl Connection {
    /// A connection without a device yet. Starts the thread that ends waits.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn new() -> io::Result<Arc<Connection>> {
        Ok(Arc::new(Connection {
            device: OnceLock::new(),
            relayed: OnceLock::new(),
            interrupts: Arc::new(Interrupts::start()?),
        }))
    }

    /// Sets the `/dev/fuse` of the attached mount. Returns the descriptor for `fuser`, which uses `session_threads`
    /// threads: the device or a relay's socket.
    ///
    /// # Errors
    /// If no descriptor can be created.
    pub(crate) fn start(&self, device: OwnedFd, session_threads: usize) -> io::Result<OwnedFd> {
        let own = self.device.get_or_init(|| device);
        if relay::is_needed() {
            match relay::start(own.try_clone()?, session_threads, &self.interrupts) {
                Ok((socket, settled)) => {
                    let _ = self.relayed.set(settled);
                    return Ok(socket);
                }
                Err(error) => {
                    log::warn!(
                        event = events::RELAY_OFF;
                        "no relay to the kernel ({error}): programs outside this pid namespace can't be interrupted while they wait"
                    );
                }
            }
        }
        own.try_clone()
    }

    /// Whether `fuser` has the socket of a relay.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed.get().is_some()
    }

    /// Waits until the kernel has the parameters of the session that `fuser` began. Earlier changes of the mount's
    /// settings would be overwritten.
    pub(crate) fn wait_until_settled(&self) {
        if let Some(settled) = self.relayed.get() {
            // An error means that the relay and the session have ended.
            let _ = settled.recv();
        }
    }

    /// The registry of waits that interrupts end.
    pub(crate) fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// Replies to a read.
    pub(crate) fn answer_read(&self, requester: Requester, reply: ReplyData, bytes: &[u8]) {
        if !self.is_relayed() {
            return reply.data(bytes);
        }
        if let Some(device) = self.device.get() {
            let header = answer_header(requester.request, bytes.len());
            match writev(device, &[IoSlice::new(&header), IoSlice::new(bytes)]) {
                // The mount has ended meanwhile, and the request with it.
                Ok(_) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    log::error!(
                        event = events::REPLY_REJECTED;
                        "the kernel rejected the reply to a read: {}", errno.desc()
                    )
                }
            }
        }
        // Never an empty reply: it would mark the end of the file, if the kernel had not taken the bytes.
        reply.error(fuser::Errno::EIO);
    }

    /// Invalidates an inode's attributes in the kernel; its pages stay. Never blocks. Does nothing before the mount
    /// is attached.
    pub(crate) fn attributes_changed(&self, ino: Ino) {
        if let Some(device) = self.device.get() {
            // The kernel may have forgotten the inode (ENOENT): then there is nothing to invalidate.
            let _ = nix::unistd::write(device, &invalidation(ino));
        }
    }

    /// Registers a file that the kernel reads directly, once an open reply names it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn open_backing(self: &Arc<Self>, file: impl AsFd) -> io::Result<Backing> {
        let id = BackingId::create_raw(self.device()?, file)?;
        Ok(Backing {
            connection: Arc::clone(self),
            id,
        })
    }

    fn device(&self) -> io::Result<BorrowedFd<'_>> {
        let device = self.device.get().ok_or(Errno::ENOTCONN)?;
        Ok(device.as_fd())
    }
}

impl Backing {
    /// The number that an open reply names.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let closed = self.connection.device().and_then(|device| {
            // SAFETY: the device is open, and the kernel reads one number from a valid address.
            unsafe { ioctl::backing_close(device.as_raw_fd(), &raw const self.id) }.map_err(io::Error::from)
        });
        if let Err(error) = closed {
            log::debug!("backing file {}: {error}", self.id);
        }
    }
}

/// `fuse_out_header` of a reply with `len` bytes.
fn answer_header(request: u64, len: usize) -> [u8; 16] {
    let mut header = [0; 16];
    let len = u32::try_from(header.len() + len).expect("a read has fewer than 4 GiB");
    header[0..4].copy_from_slice(&len.to_ne_bytes());
    header[8..16].copy_from_slice(&request.to_ne_bytes());
    header
}

/// The message that an inode's attributes have changed: `fuse_out_header` with the code instead of an error and
/// without a request's number, then `fuse_notify_inval_inode_out`.
fn invalidation(ino: Ino) -> [u8; 40] {
    let mut message = [0; 40];
    message[0..4].copy_from_slice(&40_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&INVALIDATE_INODE.to_ne_bytes());
    message[16..24].copy_from_slice(&ino.to_ne_bytes());
    message[24..32].copy_from_slice(&ATTRIBUTES_ONLY.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_notification_before_the_mount() {
        let connection = Connection::new().unwrap();
        connection.attributes_changed(7);
        let file = tempfile::tempfile().unwrap();
        let error = connection.open_backing(&file).map(|backing| backing.id()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    }

    #[test]
    fn an_answers_header_counts_itself() {
        let header = answer_header(0x0102_0304_0506_0708, 100);
        assert_eq!(header[0..4], 116_u32.to_ne_bytes());
        assert_eq!(header[4..8], [0; 4], "no error");
        assert_eq!(header[8..16], 0x0102_0304_0506_0708_u64.to_ne_bytes());
    }

    #[test]
    fn the_message_names_the_inode_and_no_pages() {
        let message = invalidation(0x1122_3344_5566_7788);
        assert_eq!(message[8..16], [0; 8], "no request's number");
        assert_eq!(message[16..24], 0x1122_3344_5566_7788_u64.to_ne_bytes());
        assert_eq!(message[24..32], [0xff; 8]);
        assert_eq!(message[32..40], [0; 8]);
    }
}
