//! A relay between the kernel and `fuser` that passes the kernel's interrupts to [`super::interrupts`].
//!
//! The kernel sends FUSE_INTERRUPT if a waiting thread has a signal. `fuser` 0.18 declines the first one, and then
//! the kernel sends no more. That is no loss if `/proc` shows the thread. It does not show threads outside the
//! mount's pid namespace, for example a reader outside the container in which fetchfs runs: their requests have the
//! pid 0.
//!
//! So in a pid namespace other than the machine's own, and only there, `fuser` gets one end of a socket pair in place
//! of `/dev/fuse`. Two threads here copy between the other end and the device, one for each direction. They keep the
//! interrupts.
//!
//! - **One packet is one message**, as on the device: SOCK_SEQPACKET keeps message boundaries. No message is larger
//!   than [`MESSAGE`]. Reads of requests are limited to it, and [`super::open_directory`] limits listings; the bytes
//!   of files do not come this way ([`super::connection`]).
//! - **Requests keep their order.** One thread reads the device, so an interrupt is noted after its request.
//!   Unanswered requests are tracked in both directions.
//! - **Neither thread waits for the other, nor for an origin.** Replies are read from the socket whatever happens to
//!   requests. Notifications bypass the relay.
//! - **The session ends as on the device.** There a read fails with ENODEV once the mount is gone, and that ends a
//!   thread of `fuser`. The end of a socket would be an error to it. FUSE_DESTROY, which the kernel sends only for
//!   other mounts, ends a thread as well, and each thread gets one. Any other end of the relay closes the socket: the
//!   session breaks and unmounts.
//!
//! The cost is one more thread switch per request, and one more per reply other than file bytes. So mounts without
//! such readers do without a relay. With passthrough, reads cost nothing more, because they reach neither process.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, getsockopt, send, setsockopt, shutdown, socketpair, sockopt,
};
use nix::unistd::{read, write};

use super::interrupts::{Interrupts, Outside, Requester};
use crate::util::events;
use crate::util::panic_guard::contained;

/// Largest message in bytes. Beyond 16 KiB the kernel spreads a packet over pages, up to some 80 KiB
/// (`unix_dgram_sendmsg` in the kernel's `net/unix/af_unix.c`). A larger packet needs contiguous memory, which a
/// kernel may lack after a long uptime. A reply that can't be sent leaves its reader waiting for ever.
const MESSAGE: usize = LARGEST_ANSWER + 4096;

/// Largest reply through a relay in bytes, without headers.
pub(super) const LARGEST_ANSWER: usize = 64 << 10;

/// The session's `max_write` with a relay. Nothing is ever written, but the kernel refuses to read requests into a
/// buffer smaller than this and 80 bytes.
pub(super) const MAX_WRITE: u32 = LARGEST_ANSWER as u32;

/// Socket buffer in bytes. The kernel counts more than a packet's own bytes, and a packet must be smaller than this.
const UNDER_WAY: usize = 1 << 20;

/// The inode of the machine's own pid namespace (`PROC_PID_INIT_INO` in the kernel's `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// From `include/uapi/linux/fuse.h`.
const FUSE_FORGET: u32 = 2;
const FUSE_INTERRUPT: u32 = 36;
const FUSE_DESTROY: u32 = 38;
const FUSE_BATCH_FORGET: u32 = 42;
/// `sizeof(struct fuse_in_header)`.
const REQUEST_HEADER: usize = 40;

/// Whether there may be readers that the kernel can't name to this process.
pub(super) fn is_needed() -> bool {
    // Without /proc there may be such readers, but no way to find out.
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() != INITIAL_PID_NAMESPACE)
}

/// Starts the relay of a mount's `/dev/fuse`. Returns the descriptor for `fuser`, which uses `session_threads`
/// threads, and a receiver for the kernel's receipt of the first reply, which settles the session's parameters.
///
/// # Errors
/// If sockets of sufficient size or threads can't be created. The device is untouched then.
pub(super) fn start(
    device: OwnedFd,
    session_threads: usize,
    interrupts: &Interrupts,
) -> io::Result<(OwnedFd, Receiver<()>)> {
    let (ours, fusers) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    for socket in [&ours, &fusers] {
        // The kernel caps this at net.core.wmem_max. The next check shows whether it suffices.
        let _ = setsockopt(socket, sockopt::SndBuf, &UNDER_WAY);
        if getsockopt(socket, sockopt::SndBuf)? < 2 * MESSAGE {
            return Err(io::Error::new(ErrorKind::QuotaExceeded, "net.core.wmem_max is too low"));
        }
    }
    let relay = Arc::new(Relay {
        device,
        socket: ours,
        session_threads,
        outside: Arc::clone(interrupts.outside()),
    });
    let answers = Arc::clone(&relay);
    let (settle, settled) = bounded(1);
    thread::Builder::new()
        .name("relay-answers".into())
        .spawn(move || answers.until_the_end("relaying answers", |relay| relay.copy_answers(&settle)))?;
    // Last, because it reads the device. If it can't be started, the other thread ends with the socket that is
    // dropped here.
    thread::Builder::new()
        .name("relay-requests".into())
        .spawn(move || relay.until_the_end("relaying requests", Relay::copy_requests))?;
    Ok((fusers, settled))
}

struct Relay {
    device: OwnedFd,
    socket: OwnedFd,
    session_threads: usize,
    outside: Arc<Outside>,
}

impl Relay {
    /// Runs one direction. If it ends before the mount does, the session is ended.
    fn until_the_end(&self, what: &str, copy: impl FnOnce(&Relay) -> nix::Result<()>) {
        match contained(what, || copy(self)) {
            Some(Ok(())) => return,
            Some(Err(errno)) => log::error!(event = events::RELAY_FAILED; "{what}: {}", errno.desc()),
            None => {}
        }
        // The other side may have closed it.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Copies from the kernel to `fuser` until the mount is gone.
    fn copy_requests(&self) -> nix::Result<()> {
        let mut buffer = vec![0; MESSAGE];
        loop {
            let message = match read(&self.device, &mut buffer) {
                Ok(size) => &buffer[..size],
                // As in `fuser`: the request was withdrawn, or the call was interrupted.
                Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => continue,
                Err(Errno::ENODEV) => break,
                Err(errno) => return Err(errno),
            };
            match Request::parse(message) {
                Some(Request::Interrupt(request)) => {
                    self.outside.interrupted(request);
                    continue;
                }
                Some(Request::Answered(requester)) => self.outside.sent(requester),
                Some(Request::Unanswered) | None => {}
            }
            self.pass(message)?;
        }
        (0..self.session_threads).try_for_each(|_| self.pass(&destroy()))
    }

    /// Passes a request to `fuser`.
    fn pass(&self, request: &[u8]) -> nix::Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                // The session has ended, and the mount is about to end.
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Copies from `fuser` to the kernel until `fuser` closes its end.
    fn copy_answers(&self, settle: &Sender<()>) -> nix::Result<()> {
        let mut buffer = vec![0; MESSAGE];
        loop {
            let message = match read(&self.socket, &mut buffer) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(()),
                Ok(size) => &buffer[..size],
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            if let Some(request) = request_of(message) {
                self.outside.answered(request);
            }
            match write(&self.device, message) {
                // The mount has ended meanwhile, and the request with it.
                Ok(_) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                // The kernel has then ended the request with an error.
                Err(errno) => {
                    log::error!(event = events::REPLY_REJECTED; "the kernel rejected a reply: {}", errno.desc())
                }
            }
            // The channel is full from the second reply on.
            let _ = settle.try_send(());
        }
    }
}

/// What the relay must know of a request.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// The thread that waits for this request has a signal.
    Interrupt(u64),
    /// The request will be answered.
    Answered(Requester),
    Unanswered,
}

impl Request {
    /// Parses `fuse_in_header`, and `fuse_interrupt_in` after it. `None` if the message is shorter.
    fn parse(message: &[u8]) -> Option<Request> {
        let opcode = u32_at(message, 4)?;
        let requester = Requester {
            thread: u32_at(message, 32)?,
            request: u64_at(message, 8)?,
        };
        match opcode {
            FUSE_INTERRUPT => Some(Request::Interrupt(u64_at(message, REQUEST_HEADER)?)),
            FUSE_FORGET | FUSE_BATCH_FORGET => Some(Request::Unanswered),
            _ => Some(Request::Answered(requester)),
        }
    }
}

/// The request that a message of `fuser` answers (`fuse_out_header`).
fn request_of(answer: &[u8]) -> Option<u64> {
    u64_at(answer, 8)
}

/// A request that ends a thread of `fuser`. The kernel ignores the reply to it, because its own requests have even
/// numbers.
fn destroy() -> [u8; REQUEST_HEADER] {
    let mut request = [0; REQUEST_HEADER];
    request[0..4].copy_from_slice(&(REQUEST_HEADER as u32).to_ne_bytes());
    request[4..8].copy_from_slice(&FUSE_DESTROY.to_ne_bytes());
    request[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
    request
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u64_at(message: &[u8], at: usize) -> Option<u64> {
    let bytes = message.get(at..at + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request by thread 7 with number 12, followed by `rest`.
    fn request(opcode: u32, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![0; REQUEST_HEADER];
        message[0..4].copy_from_slice(&((REQUEST_HEADER + rest.len()) as u32).to_ne_bytes());
        message[4..8].copy_from_slice(&opcode.to_ne_bytes());
        message[8..16].copy_from_slice(&12_u64.to_ne_bytes());
        message[32..36].copy_from_slice(&7_u32.to_ne_bytes());
        message.extend_from_slice(rest);
        message
    }

    #[test]
    fn requests_are_distinguished() {
        let lookup = Request::parse(&request(1, b"name\0"));
        let by = Requester { thread: 7, request: 12 };
        assert_eq!(lookup, Some(Request::Answered(by)));
        let interrupt = request(FUSE_INTERRUPT, &34_u64.to_ne_bytes());
        assert_eq!(Request::parse(&interrupt), Some(Request::Interrupt(34)));
        for opcode in [FUSE_FORGET, FUSE_BATCH_FORGET] {
            assert_eq!(Request::parse(&request(opcode, &[0; 16])), Some(Request::Unanswered));
        }
    }

    #[test]
    fn what_is_too_short_is_no_request() {
        let interrupt = request(FUSE_INTERRUPT, &34_u64.to_ne_bytes());
        for length in 0..36 {
            assert_eq!(Request::parse(&interrupt[..length]), None, "{length} bytes");
        }
        assert_eq!(Request::parse(&interrupt[..REQUEST_HEADER + 7]), None);
        assert_eq!(request_of(&[0; 15]), None);
        assert_eq!(request_of(&[1; 16]), Some(0x0101_0101_0101_0101));
    }

    #[test]
    fn the_last_request_is_one_that_fuser_can_read() {
        let by = Requester {
            thread: 0,
            request: u64::MAX,
        };
        assert_eq!(Request::parse(&destroy()), Some(Request::Answered(by)));
        assert_eq!(u32_at(&destroy(), 0), Some(40));
    }
}
