//! Letting those go who have been told to: the kernel's interrupts, without the kernel's word.
//!
//! A process that waits for a synchronous answer (a look-up, an open, a listing, a read around the page cache) can't be
//! killed until it has that answer. For this the kernel has FUSE_INTERRUPT; fuser 0.18 refuses it, and after the first
//! refusal the kernel sends no more. What serves instead: a thread here looks, every [`LOOK_EVERY`], at those who have
//! waited for that long whether a signal is waiting for them, and if so, or if they are gone altogether, has their wait
//! ended; they get EINTR, which is what a signal is for.
//!
//! The kernel can't name a thread that is outside the pid namespace of the mount: its requests have the pid 0. Where there may be such threads, a
//! [`super::relay`] takes the kernel's interrupts off the device before `fuser` sees them, and notes them here by the number of the request
//! ([`Outside`]). Which signal it was the kernel does not say; so these waits end by any signal that the program catches, and by a stop. A wait that is over
//! within [`GRACE`] of the signal is not one of them: a shell that looks for names while one of its children ends gets its names.
//!
//! A wait that is over costs nothing: its [`Wait`] is dropped, and with it what was known of it here.

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs;
use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use libc::pid_t;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::util::panic_guard::contained;

/// How often those who wait are looked at. Whoever presses Ctrl-C sees it work at once, and a thousand who wait cost a
/// hundredth of a core.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long after an interrupt the wait of a thread that can't be looked at goes on. Most waits are over by then; and the next look after it is within a
/// second of the signal.
const GRACE: Duration = LOOK_EVERY;

/// The signals that end a wait when they are caught. (One that is not caught and would end the process is turned into
/// SIGKILL by the kernel, for each thread.) Those that people and `timeout`(1) send to end a program; others, such as
/// SIGCHLD or SIGWINCH, would make reads fail that nobody wanted to end.
const ENDING: [Signal; 6] = [
    Signal::SIGKILL,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGALRM,
];

/// Looks after those who wait. Dropped, it ends its thread.
pub struct Interrupts {
    begun: Sender<Waiting>,
    outside: Arc<Outside>,
}

/// Which thread made a request, and the request's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester {
    /// A request's `pid`: the kernel names the thread. 0 if it is outside the mount's pid namespace.
    pub thread: u32,
    /// A request's `unique`.
    pub request: u64,
}

/// Requests that the kernel's interrupts are for, because their threads can't be looked at. The relay notes each from before `fuser` reads it
/// until it is answered; so nothing is lost when an interrupt is earlier than the wait, and nothing is kept when it is later.
pub struct Outside {
    /// Whether `/proc` shows the pid namespace that requests are named in. Else a number means another process there.
    sees_proc: bool,
    /// By their numbers: when they were interrupted. **Never locked while another lock is taken.**
    requests: Mutex<HashMap<u64, Option<Instant>>>,
}

/// Somebody's wait. Keep it until the wait is over.
pub struct Wait {
    /// Taken and called when it shall end. Nothing is called under the lock.
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
    /// When the system gives none.
    pub fn start() -> std::io::Result<Interrupts> {
        let (begun, waiting) = unbounded();
        let outside = Arc::new(Outside::new());
        let noted = Arc::clone(&outside);
        std::thread::Builder::new()
            .name("interrupts".into())
            .spawn(move || look_after(&waiting, &noted))?;
        Ok(Interrupts { begun, outside })
    }

    /// Where the kernel's interrupts are noted.
    pub fn outside(&self) -> &Arc<Outside> {
        &self.outside
    }

    /// A wait for the answer to a request begins.
    pub fn begin_wait(&self, requester: Requester) -> Arc<Wait> {
        let wait = Arc::new(Wait { end: Mutex::new(None) });
        // The thread ends only after this does.
        let _ = self.begun.send(Waiting {
            requester,
            since: Instant::now(),
            wait: Arc::downgrade(&wait),
        });
        wait
    }

    /// What `work` brings, or `None` as soon as the thread that waits for it is told to end.
    pub async fn unless_ended<T>(&self, requester: Requester, work: impl Future<Output = T>) -> Option<T> {
        let (end, ended) = oneshot::channel();
        let wait = self.begin_wait(requester);
        wait.on_end(move || {
            // Nobody listens any more if the work is done.
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
    /// Of this request.
    pub fn of(request: &fuser::Request) -> Requester {
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

    /// Whether the signals of this thread can't be looked at.
    fn is_unseen(&self, thread: u32) -> bool {
        thread == 0 || !self.sees_proc
    }

    /// The kernel has sent a request.
    pub fn sent(&self, requester: Requester) {
        if self.is_unseen(requester.thread) {
            self.requests.lock().insert(requester.request, None);
        }
    }

    /// The thread that waits for this request has a signal. One that is answered by now is not noted.
    pub fn interrupted(&self, request: u64) {
        self.interrupted_at(request, Instant::now());
    }

    fn interrupted_at(&self, request: u64, now: Instant) {
        if let Some(interrupted) = self.requests.lock().get_mut(&request) {
            interrupted.get_or_insert(now);
        }
    }

    /// The request is about to be answered.
    pub fn answered(&self, request: u64) {
        self.requests.lock().remove(&request);
    }

    fn is_interrupted(&self, request: u64) -> bool {
        let since = self.requests.lock().get(&request).copied().flatten();
        since.is_some_and(|since| since.elapsed() >= GRACE)
    }
}

impl Wait {
    /// What ends it.
    pub fn on_end(&self, end: impl FnOnce() + Send + 'static) {
        *self.end.lock() = Some(Box::new(end));
    }
}

fn look_after(begun: &Receiver<Waiting>, outside: &Outside) {
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut next_look = Instant::now();
    loop {
        let news = if waiting.is_empty() {
            begun.recv().ok()
        } else {
            match begun.recv_deadline(next_look) {
                Err(error) if error.is_timeout() => {
                    // What ends a wait is somebody else's code.
                    waiting.retain(|one| contained("ending a wait", || still_waits(one, outside)).unwrap_or(false));
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

/// Whether a wait goes on. Ends it if its thread is told to end.
fn still_waits(waiting: &Waiting, outside: &Outside) -> bool {
    let Some(wait) = waiting.wait.upgrade() else {
        return false;
    };
    if waiting.since.elapsed() < LOOK_EVERY || !is_told_to_end(waiting.requester, outside) {
        return true;
    }
    let end = wait.end.lock().take();
    // Without anything to end it yet, it is looked at again.
    end.map(|end| end()).is_none()
}

/// Whether a thread is gone, or has one of the [`ENDING`] signals waiting for it; of a thread that can't be looked at, whether the kernel has
/// sent an interrupt.
fn is_told_to_end(requester: Requester, outside: &Outside) -> bool {
    let Requester { thread, request } = requester;
    if outside.is_unseen(thread) {
        return outside.is_interrupted(request);
    }
    shows_the_end(fs::read_to_string(format!("/proc/{thread}/status")), thread)
}

/// What the attempt to read a thread's status says of it.
fn shows_the_end(status: io::Result<String>, thread: u32) -> bool {
    match status {
        Ok(status) => has_ending_signal(&status),
        // With `hidepid` (proc(5)) the threads of others are not there to be read. They are all the same.
        Err(_) => is_gone(thread),
    }
}

/// Whether there is no such thread. One of somebody else's is there: EPERM.
fn is_gone(thread: u32) -> bool {
    let thread = pid_t::try_from(thread).map(Pid::from_raw);
    thread.is_ok_and(|thread| kill(thread, None) == Err(Errno::ESRCH))
}

/// Reads the signal masks of `/proc/<pid>/status` (proc(5)): pending for the thread or the process, and neither blocked
/// nor ignored.
///
/// By hand, because this is done for each waiting thread three times a second: `procfs` takes five times as long, since it reads every
/// field.
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

    /// Above the largest number that Linux gives (PID_MAX_LIMIT).
    const GONE: u32 = 1 << 30;

    fn by(thread: u32) -> Requester {
        Requester { thread, request: 8 }
    }

    #[test]
    fn this_thread_is_not_told_to_end_and_one_that_is_gone_is() {
        let outside = Outside::new();
        assert!(!is_told_to_end(by(std::process::id()), &outside));
        assert!(is_told_to_end(by(GONE), &outside));
    }

    #[test]
    fn a_thread_outside_is_told_to_end_by_the_kernel_while_its_request_is_unanswered() {
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
    fn an_interrupt_counts_after_a_while_and_the_first_one_decides() {
        let outside = Outside::new();
        outside.sent(by(0));
        // Not yet: an hour from now it will be.
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
        // A thread that is not its process's first.
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
    fn a_wait_whose_end_panics_is_over_and_the_next_one_is_ended_too() {
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
    fn the_wait_of_one_who_is_gone_ends_and_the_others_go_on() {
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
