//! Ends the waits of interrupted processes, in place of the kernel's FUSE_INTERRUPT.
//!
//! A process that waits for a synchronous reply (look-up, open, listing, direct read) can't be killed until it has
//! the reply. The kernel's FUSE_INTERRUPT is meant for this. fuser 0.18 refuses it, and after the first refusal the
//! kernel sends no more. Instead, a thread here checks each request that has waited longer than [`LOOK_EVERY`]. If a
//! signal is pending for its thread, or the thread is gone, the wait ends with EINTR.
//!
//! The kernel can't name a thread outside the pid namespace of the mount: its requests have the pid 0. If such
//! threads are possible, a [`super::relay`] takes the kernel's interrupts off the device before `fuser` reads them,
//! and notes them here by request number ([`Outside`]). The kernel does not say which signal it was. So these waits
//! end by any caught signal, and by a stop. A wait that ends within [`GRACE`] of the signal is not interrupted: a
//! shell that looks up names while one of its children ends gets its names.
//!
//! A finished wait costs nothing: dropping its [`Wait`] removes its state here.

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use libc::pid_t;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::cache::ReadError;
use crate::util::panic_guard::contained;

/// How often waiting requests are checked. Ctrl-C seems immediate, and a thousand waits cost a hundredth of a core.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long the wait of an invisible thread goes on after an interrupt. Most waits end within that time; and the next
/// check after it is within a second of the signal.
const GRACE: Duration = LOOK_EVERY;

/// The signals that end a wait if the program catches them. (The kernel turns an uncaught fatal signal into SIGKILL
/// for each thread.) People and `timeout`(1) send these signals to end a program. Others, such as SIGCHLD or
/// SIGWINCH, would fail reads that should go on.
const ENDING: [Signal; 6] = [
    Signal::SIGKILL,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGALRM,
];

/// The registry of waiting requests. Dropping it ends its thread.
pub(crate) struct Interrupts {
    begun: Sender<Waiting>,
    outside: Arc<Outside>,
    /// Whether all waits end, because the mount does.
    all_end: Arc<AtomicBool>,
}

/// The thread that made a request, and the request's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requester {
    /// The request's `pid`: a thread id. 0 if the thread is outside the mount's pid namespace.
    pub thread: u32,
    /// A request's `unique`.
    pub request: u64,
}

/// Requests of threads whose signals `/proc` does not show. The relay notes each one before `fuser` reads it, until
/// it is answered. So an interrupt before the wait begins is not lost, and one after its end leaves no state.
pub(crate) struct Outside {
    /// Whether `/proc` shows the pid namespace of the request's thread ids. Otherwise a number means another process
    /// there.
    sees_proc: bool,
    /// Request number to the time of its interrupt. **Never locked while another lock is held.**
    requests: Mutex<HashMap<u64, Option<Instant>>>,
}

/// Guard of one wait. Keep it until the wait is over.
pub(crate) struct Wait {
    /// Taken and called to end the wait. Called without the lock.
    end: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct Waiting {
    requester: Requester,
    since: Instant,
    wait: Weak<Wait>,
}

impl Interrupts {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start() -> std::io::Result<Interrupts> {
        let (begun, waiting) = unbounded();
        let outside = Arc::new(Outside::new());
        let noted = Arc::clone(&outside);
        let all_end = Arc::<AtomicBool>::default();
        let ending = Arc::clone(&all_end);
        std::thread::Builder::new()
            .name("interrupts".into())
            .spawn(move || look_after(&waiting, &noted, &ending))?;
        Ok(Interrupts {
            begun,
            outside,
            all_end,
        })
    }

    /// Ends all waits, and those that begin later, within a second.
    pub(crate) fn end_all(&self) {
        self.all_end.store(true, Ordering::Relaxed);
    }

    /// The error of a wait that is ended now. When the mount ends it is not EINTR, after which programs read again.
    pub(crate) fn reason(&self) -> ReadError {
        if self.all_end.load(Ordering::Relaxed) {
            ReadError::ShuttingDown
        } else {
            ReadError::Cancelled
        }
    }

    /// The registry for the kernel's interrupts.
    pub(crate) fn outside(&self) -> &Arc<Outside> {
        &self.outside
    }

    /// Registers a wait for the reply to a request.
    pub(crate) fn begin_wait(&self, requester: Requester) -> Arc<Wait> {
        let wait = Arc::new(Wait { end: Mutex::new(None) });
        // The thread outlives this sender.
        let _ = self.begun.send(Waiting {
            requester,
            since: Instant::now(),
            wait: Arc::downgrade(&wait),
        });
        wait
    }

    /// The result of `work`, or `None` as soon as the requesting thread is interrupted.
    pub(crate) async fn unless_ended<T>(&self, requester: Requester, work: impl Future<Output = T>) -> Option<T> {
        let (end, ended) = oneshot::channel();
        let wait = self.begin_wait(requester);
        wait.on_end(move || {
            // The receiver is gone if the work is done.
            let _ = end.send(());
        });
        tokio::select! {
            biased;
            done = work => Some(done),
            Ok(()) = ended => None,
        }
    }
}

impl Requester {
    /// The requester of a request.
    pub(crate) fn of(request: &fuser::Request) -> Requester {
        Requester {
            thread: request.pid(),
            request: request.unique().into(),
        }
    }
}

impl Outside {
    fn new() -> Outside {
        let shown = fs::read_link("/proc/self");
        Outside {
            sees_proc: shown.is_ok_and(|shown| shown.to_str() == Some(&std::process::id().to_string())),
            requests: Mutex::default(),
        }
    }

    /// Whether the signals of this thread are invisible.
    fn is_unseen(&self, thread: u32) -> bool {
        thread == 0 || !self.sees_proc
    }

    /// Notes that the kernel has sent a request.
    pub(crate) fn sent(&self, requester: Requester) {
        if self.is_unseen(requester.thread) {
            self.requests.lock().insert(requester.request, None);
        }
    }

    /// Notes an interrupt of this request. Ignored if the request is answered already.
    pub(crate) fn interrupted(&self, request: u64) {
        self.interrupted_at(request, Instant::now());
    }

    fn interrupted_at(&self, request: u64, now: Instant) {
        if let Some(interrupted) = self.requests.lock().get_mut(&request) {
            interrupted.get_or_insert(now);
        }
    }

    /// Notes that the request is about to be answered.
    pub(crate) fn answered(&self, request: u64) {
        self.requests.lock().remove(&request);
    }

    fn is_interrupted(&self, request: u64) -> bool {
        let since = self.requests.lock().get(&request).copied().flatten();
        since.is_some_and(|since| since.elapsed() >= GRACE)
    }
}

impl Wait {
    /// Sets the function that ends the wait.
    pub(crate) fn on_end(&self, end: impl FnOnce() + Send + 'static) {
        *self.end.lock() = Some(Box::new(end));
    }
}

fn look_after(begun: &Receiver<Waiting>, outside: &Outside, all_end: &AtomicBool) {
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut next_look = Instant::now();
    loop {
        let news = if waiting.is_empty() {
            begun.recv().ok()
        } else {
            match begun.recv_deadline(next_look) {
                Err(error) if error.is_timeout() => {
                    // Ending a wait runs code of other modules, which may panic.
                    let all_end = all_end.load(Ordering::Relaxed);
                    waiting.retain(|one| {
                        contained("ending a wait", || still_waits(one, outside, all_end)).unwrap_or(false)
                    });
                    next_look = Instant::now() + LOOK_EVERY;
                    continue;
                }
                news => news.ok(),
            }
        };
        let Some(news) = news else { return };
        if waiting.is_empty() {
            next_look = Instant::now() + LOOK_EVERY;
        }
        waiting.push(news);
    }
}

/// Whether a wait goes on. Ends it if its thread is interrupted, or if all waits end.
fn still_waits(waiting: &Waiting, outside: &Outside, all_end: bool) -> bool {
    let Some(wait) = waiting.wait.upgrade() else {
        return false;
    };
    let is_interrupted = || waiting.since.elapsed() >= LOOK_EVERY && is_told_to_end(waiting.requester, outside);
    if !all_end && !is_interrupted() {
        return true;
    }
    let end = wait.end.lock().take();
    // Without a function to end it yet, the wait is checked again.
    end.map(|end| end()).is_none()
}

/// Whether a thread is gone or has a pending [`ENDING`] signal. For an invisible thread: whether the kernel sent an
/// interrupt.
fn is_told_to_end(requester: Requester, outside: &Outside) -> bool {
    let Requester { thread, request } = requester;
    if outside.is_unseen(thread) {
        return outside.is_interrupted(request);
    }
    shows_the_end(fs::read_to_string(format!("/proc/{thread}/status")), thread)
}

/// Whether the result of reading a thread's status shows that its wait must end.
fn shows_the_end(status: io::Result<String>, thread: u32) -> bool {
    match status {
        Ok(status) => has_ending_signal(&status),
        // With `hidepid` (proc(5)) the threads of other users can't be read. They exist all the same.
        Err(_) => is_gone(thread),
    }
}

/// Whether no such thread exists. EPERM means that another user's thread exists.
fn is_gone(thread: u32) -> bool {
    let thread = pid_t::try_from(thread).map(Pid::from_raw);
    thread.is_ok_and(|thread| kill(thread, None) == Err(Errno::ESRCH))
}

/// Parses the signal masks of `/proc/<pid>/status` (proc(5)): pending for the thread or the process, and neither
/// blocked nor ignored.
///
/// Parsed by hand, because this runs for each waiting thread three times a second. `procfs` takes five times as long,
/// since it reads every field.
fn has_ending_signal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0)
    };
    let pending = (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & !mask("SigIgn:");
    ENDING.iter().any(|&signal| pending & bit(signal as c_int) != 0)
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tcat\nSigQ:\t0/1\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0\n"
        )
    }

    #[test]
    fn only_a_signal_that_ends_programs_and_gets_through_counts() {
        let (int, kill, child) = (bit(libc::SIGINT), bit(libc::SIGKILL), bit(libc::SIGCHLD));
        assert!(has_ending_signal(&status(kill, 0, 0, 0)));
        assert!(has_ending_signal(&status(0, int | child, 0, child)));
        assert!(!has_ending_signal(&status(0, 0, 0, 0)));
        assert!(!has_ending_signal(&status(0, child, 0, 0)), "not one of those");
        assert!(!has_ending_signal(&status(0, int, int, 0)), "blocked");
        assert!(!has_ending_signal(&status(0, int, 0, int)), "ignored");
        assert!(!has_ending_signal(""));
    }

    /// Above the largest pid that Linux assigns (PID_MAX_LIMIT).
    const GONE: u32 = 1 << 30;

    fn by(thread: u32) -> Requester {
        Requester { thread, request: 8 }
    }

    #[test]
    fn interrupt_state_of_live_and_dead_threads() {
        let outside = Outside::new();
        assert!(!is_told_to_end(by(std::process::id()), &outside));
        assert!(is_told_to_end(by(GONE), &outside));
    }

    #[test]
    fn kernel_interrupt_reaches_a_foreign_thread() {
        let (outside, earlier) = (Outside::new(), Instant::now() - GRACE);
        outside.interrupted_at(8, earlier);
        outside.sent(by(0));
        assert!(!is_told_to_end(by(0), &outside), "that was for another request");
        outside.interrupted_at(8, earlier);
        assert!(is_told_to_end(by(0), &outside));
        outside.answered(8);
        assert!(!is_told_to_end(by(0), &outside));
        outside.interrupted_at(8, earlier);
        assert!(outside.requests.lock().is_empty(), "nothing is kept of it");
    }

    #[test]
    fn interrupt_applies_after_a_delay() {
        let outside = Outside::new();
        outside.sent(by(0));
        // Not interrupted yet: the noted time is an hour from now.
        outside.interrupted_at(8, Instant::now() + Duration::from_secs(3600));
        assert!(!is_told_to_end(by(0), &outside));
        outside.sent(by(0));
        outside.interrupted_at(8, Instant::now() - GRACE);
        outside.interrupted(8);
        assert!(is_told_to_end(by(0), &outside));
    }

    #[test]
    fn of_a_thread_that_can_be_looked_at_the_signal_counts() {
        let earlier = Instant::now() - GRACE;
        let outside = Outside::new();
        outside.sent(by(std::process::id()));
        outside.interrupted_at(8, earlier);
        assert!(!is_told_to_end(by(std::process::id()), &outside));
        let blind = Outside {
            sees_proc: false,
            ..Outside::new()
        };
        blind.sent(by(GONE));
        assert!(!is_told_to_end(by(GONE), &blind));
        blind.interrupted_at(8, earlier);
        assert!(is_told_to_end(by(GONE), &blind));
    }

    #[test]
    fn a_thread_that_is_hidden_is_not_gone() {
        let hidden = || Err(io::ErrorKind::NotFound.into());
        assert!(!shows_the_end(hidden(), std::process::id()));
        // A thread that is not the first of its process.
        let other = std::thread::spawn(|| {
            shows_the_end(
                Err(io::ErrorKind::NotFound.into()),
                nix::unistd::gettid().as_raw() as u32,
            )
        });
        assert!(!other.join().unwrap());
        assert!(shows_the_end(hidden(), 1 << 30));
    }

    #[test]
    fn panicking_wait_does_not_affect_others() {
        let interrupts = Interrupts::start().unwrap();
        let first = interrupts.begin_wait(by(GONE));
        first.on_end(|| panic!("a bug"));
        let (ends, ended) = mpsc::channel();
        let second = interrupts.begin_wait(by(GONE));
        second.on_end(move || ends.send(()).unwrap());
        assert_eq!(ended.recv(), Ok(()));
        drop((first, second));
    }

    #[test]
    fn wait_of_a_dead_thread_ends_alone() {
        let interrupts = Interrupts::start().unwrap();
        let (ends, ended) = mpsc::channel();
        let waits = [std::process::id(), GONE].map(|thread| {
            let (wait, ends) = (interrupts.begin_wait(by(thread)), ends.clone());
            wait.on_end(move || ends.send(thread).unwrap());
            wait
        });
        assert_eq!(ended.recv(), Ok(GONE));
        drop((waits, ends));
        assert!(ended.recv().is_err(), "nobody else was ended");
    }
}
