//! Checks whether a FUSE mount is alive, which only the mount itself can show.
//!
//! For a dead daemon the kernel answers (ENOTCONN). A living daemon answers itself. A stuck one never answers, and a
//! process that waits for it can't even be killed. So a child process sends the request. Without an answer it is
//! killed; it may live until the mount ends, but it holds none of our descriptors open.
//!
//! The child keeps the mount busy, so callers probe only if they have no other evidence: a fetchfs daemon is alive
//! while its [`super::RunFile`] is locked.

use std::ffi::CString;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};

/// Maximum time of a living daemon for one `stat`, in milliseconds. A remote file system may ask its server first.
const PATIENCE_MS: u16 = 3000;

/// The state of a FUSE mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It answers. An access error is an answer too.
    Alive,
    /// Its daemon has ended.
    Dead,
    /// Its daemon holds it but does not answer.
    Silent,
}

/// Probes the mount at `path`.
pub(super) fn probe(path: &Path) -> Pulse {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return Pulse::Alive;
    };
    let Ok((mut answer, question)) = std::io::pipe() else {
        return Pulse::Silent;
    };
    let question_fd = question.as_raw_fd();
    // SAFETY: there may be other threads, so the child may only make async-signal-safe calls and must not return; `ask`
    // does just that, on values that were made before.
    match unsafe { fork() } {
        // SAFETY: this is that child.
        Ok(ForkResult::Child) => unsafe { ask(&path, question_fd) },
        Ok(ForkResult::Parent { child }) => {
            drop(question);
            let pulse = listen(&mut answer);
            // Failures only mean that the child has ended. One that has answered is ending, so waiting for it does not
            // block.
            if pulse == Pulse::Silent {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            } else {
                let _ = waitpid(child, None);
            }
            pulse
        }
        Err(_) => Pulse::Silent,
    }
}

fn listen(answer: &mut PipeReader) -> Pulse {
    let mut ready = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    if !matches!(poll(&mut ready, PATIENCE_MS), Ok(1)) {
        return Pulse::Silent;
    }
    let mut errno = [0; 4];
    match answer.read_exact(&mut errno).map(|()| i32::from_ne_bytes(errno)) {
        Ok(libc::ENOTCONN | libc::ECONNABORTED) => Pulse::Dead,
        Ok(_) => Pulse::Alive,
        Err(_) => Pulse::Silent,
    }
}

/// The child: stats `path` and writes the errno to `question`.
///
/// # Safety
/// Call it only in a freshly forked child; `question` must be an open pipe.
unsafe fn ask(path: &CString, question: RawFd) -> ! {
    // SAFETY: raw system calls on our own descriptors, memory that outlives them, and an exit that runs no destructor.
    unsafe {
        // No descriptor of the parent may stay open here: another process may wait for the end of its output, or for a
        // lock.
        libc::dup2(question, 0);
        libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
        let mut stat = std::mem::zeroed::<libc::statx>();
        // Without FORCE_SYNC the kernel answers from its attribute cache for a daemon that died a moment ago.
        let flags = libc::AT_STATX_FORCE_SYNC;
        let errno = if libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_TYPE, &mut stat) == 0 {
            0
        } else {
            *libc::__errno_location()
        };
        libc::write(0, (&raw const errno).cast(), size_of_val(&errno));
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_alive() {
        assert_eq!(probe(Path::new("/proc")), Pulse::Alive);
        assert_eq!(probe(Path::new("/no/such/path")), Pulse::Alive);
    }
}
