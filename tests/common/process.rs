//! Processes: every wait for one has a limit, and none outlives the test that started it.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

use super::PATIENCE;

/// A process handle that, unlike a process id, never refers to another process.
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// The process with this id; `None` if it does not exist.
    pub fn open(pid: u32) -> Option<Pidfd> {
        // SAFETY: takes two integers, returns a descriptor without another owner, or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        // SAFETY: a new descriptor, checked to be valid.
        (descriptor >= 0).then(|| Pidfd(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }))
    }

    /// Sends a signal. Does nothing if the process has ended.
    pub fn signal(&self, signal: Signal) {
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and no siginfo is passed.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, null, 0) };
    }

    /// Waits for its end. Returns false if it did not end within `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let mut poll = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            let left = deadline.saturating_duration_since(Instant::now()).as_millis() as i32;
            // SAFETY: one pollfd, on the stack.
            let ready = unsafe { libc::poll(&raw mut poll, 1, left) };
            if ready >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return ready > 0;
            }
        }
    }
}

/// Starts a process that gets SIGTERM when the test process dies. Ctrl-C and a closed terminal end it. A shell that
/// runs the tests in the background, or nohup(1), ignores these signals, and the process would inherit that.
#[track_caller]
pub fn spawn(command: &mut Command) -> Child {
    spawn_tied(command, Signal::SIGTERM)
}

/// The same with another signal for the death of the test process.
#[track_caller]
pub fn spawn_tied(command: &mut Command, death: Signal) -> Child {
    let parent = std::process::id();
    let tie = move || {
        nix::sys::prctl::set_pdeathsig(death)?;
        for ends in [Signal::SIGINT, Signal::SIGHUP] {
            // SAFETY: the default action runs no handler.
            unsafe { signal(ends, SigHandler::SigDfl) }?;
        }
        // The parent may have died before the call above.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::Error::other("orphaned"))
        }
    };
    // SAFETY: prctl, sigaction and getppid are async-signal-safe.
    unsafe { command.pre_exec(tie) };
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

/// Waits for a child's end; `None` if it did not end within `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let ended = Pidfd::open(child.id()).is_none_or(|process| process.wait(limit));
    ended.then(|| child.wait().expect("a child can be waited for"))
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 128 + signal if it was killed, as in a shell.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Asserts that the command succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Ran {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// Asserts that the command fails with one sentence on standard error that contains these words.
#[track_caller]
pub fn assert_refuses(ran: &Ran, words: &[&str]) {
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.err.starts_with("fetchfs: "), "{ran:?}");
    assert_eq!(ran.err.trim_end().lines().count(), 1, "one sentence: {ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is missing: {ran:?}");
    }
    assert!(!ran.out.contains("fetchfs: "), "errors go to standard error: {ran:?}");
}

/// Runs a command to its end. Fails the test if it does not end, or if a process that it left behind keeps its output
/// open: `$(command)` would hang in a user's shell.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command);
    let out = collect(child.stdout.take().expect("piped"));
    let err = collect(child.stderr.take().expect("piped"));
    let Some(status) = wait(&mut child, PATIENCE) else {
        child.kill().expect("to kill a child");
        child.wait().expect("a child can be waited for");
        panic!(
            "{command:?} did not end; stderr: {}",
            err.recv_timeout(PATIENCE).unwrap_or_default()
        );
    };
    let [out, err] = [out, err].map(|stream| {
        stream
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{command:?} left its output open"))
    });
    Ran {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        out,
        err,
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// The processes with this text in their command line, except this one. The text should be a path of the test, so
/// that they are its own processes.
pub fn processes_about(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let about = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(about).collect()
}
