//! Whether a FUSE mount is alive: the one question that only the mount itself can answer.
//!
//! The kernel answers for a daemon that is dead (ENOTCONN), a living daemon answers itself, and one that is stuck never
//! answers. Whoever asked it then can't even be killed. So a child process asks. If it gets no answer it is killed,
//! which may not end it before the mount does; but it holds nothing of ours open. It does keep the mount busy, so
//! nobody asks who knows by other means: the daemon of a fetchfs mount is known to live by its [`super::RunFile`].

use std::ffi::CString;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};

/// How long a living daemon may take for one `stat`, in milliseconds. A remote file system may ask its server first.
const PATIENCE_MS: u16 = 3000;

/// What a FUSE mount said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// It answers. That it denies access is an answer too.
    Alive,
    /// Its daemon is gone.
    Dead,
    /// Nobody answers, though its daemon still holds it.
    Silent,
}

/// Asks the mount at `path`.
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
            // Failures only mean that it is gone already. One that has answered is ending, so waiting for it does not
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
/// To be called in a freshly forked child only; `question` must be an open pipe.
unsafe fn ask(path: &CString, question: RawFd) -> ! {
    // SAFETY: raw system calls on our own descriptors, memory that outlives them, and an exit that runs no destructor.
    unsafe {
        // Nothing of the parent's may stay open here: somebody may wait for the end of its output, or for a lock to be
        // free.
        libc::dup2(question, 0);
        libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
        let mut stat = std::mem::zeroed::<libc::statx>();
        // Without FORCE_SYNC the kernel answers for a daemon that died a moment ago, from what it told before.
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
