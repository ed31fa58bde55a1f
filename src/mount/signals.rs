//! What signals do to a mount.
//!
//! The rule: **no signal that can be handled ends the process before its mount is taken away**, because what would be left is
//! a dead mount, in which everything fails. TERM, INT, QUIT and ABRT unmount. HUP opens the log file anew and has listings asked for
//! again; if the terminal of a mount in the foreground was closed, it unmounts. All other signals whose default is to end or to stop
//! the process are ignored, but SIGSEGV and SIGBUS, whose handlers are Rust's own. A true fault ends the process all the same: the kernel
//! does not let one be ignored.

use std::fs::OpenOptions;
use std::mem::MaybeUninit;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::End;
use crate::logging;
use crate::vfs::Tree;

/// Signals that mean nothing to a mount. SIGXFSZ: a write past a limit of file sizes (`ulimit -f`) is to fail, which is dealt with
/// where it is made. SIGTTOU: a line of the log in a terminal that is another job's is to be written. SIGPIPE is ignored by every Rust
/// program.
const IGNORED: [libc::c_int; 15] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGFPE,
    libc::SIGSYS,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGXFSZ,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// How often a terminal is looked at after SIGHUP, and how long between: when the shell that it was opened for ends, the signal comes a
/// moment before the terminal is taken away.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Ignores what means nothing. To be called before a file is opened.
pub(super) fn ignore_the_meaningless() {
    for number in IGNORED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        // SAFETY: no handler is set, so no code runs. A number that the system does not know is an error without effect.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Begins to watch for the other signals, which end the mount by a word through `ends`.
///
/// # Errors
/// When the system refuses to install a handler.
pub(super) fn watch(runtime: &Runtime, is_foreground: bool, tree: &Arc<Tree>, ends: Sender<End>) -> anyhow::Result<()> {
    // Under nohup(1), which ignores SIGHUP, a terminal may be closed.
    let minds_terminal = is_foreground && !is_ignored(libc::SIGHUP) && has_terminal();
    let _in_runtime = runtime.enter();
    let of = |kind: SignalKind, name| signal(kind).with_context(|| format!("can't watch for {name}"));
    let mut interrupt = of(SignalKind::interrupt(), "SIGINT")?;
    let mut terminate = of(SignalKind::terminate(), "SIGTERM")?;
    let mut quit = of(SignalKind::quit(), "SIGQUIT")?;
    // abort(3) does not return from it, whatever is done here.
    let mut abort = of(SignalKind::from_raw(libc::SIGABRT), "SIGABRT")?;
    let mut hangup = of(SignalKind::hangup(), "SIGHUP")?;
    let mut cpu_time = of(SignalKind::from_raw(libc::SIGXCPU), "SIGXCPU")?;
    let mut stop = of(SignalKind::from_raw(libc::SIGTSTP), "SIGTSTP")?;
    let tree = Arc::clone(tree);
    runtime.spawn(async move {
        let name = loop {
            tokio::select! {
                _ = interrupt.recv() => break "SIGINT",
                _ = terminate.recv() => break "SIGTERM",
                _ = quit.recv() => break "SIGQUIT",
                _ = abort.recv() => break "SIGABRT",
                _ = hangup.recv() => {
                    logging::reopen();
                    log::info!("SIGHUP: listings will be asked for again");
                    tree.refresh();
                    if minds_terminal && hangs_up(&mut hangup).await {
                        break "the terminal was closed";
                    }
                }
                _ = cpu_time.recv() => if is_cpu_time_limited() {
                    break "SIGXCPU";
                },
                // A stopped process answers no request: every reader would hang.
                _ = stop.recv() => log::warn!("a mount can't be stopped (SIGTSTP): its readers would hang; without --foreground it leaves the terminal"),
            }
        };
        let _ = ends.send(End::Signal(name));
    });
    Ok(())
}

/// Whether the terminal is gone after SIGHUP, or goes now.
async fn hangs_up(again: &mut Signal) -> bool {
    for _ in 0..LOOKS {
        if !has_terminal() {
            return true;
        }
        // Another SIGHUP meanwhile has nothing new to say.
        let _ = tokio::time::timeout(BETWEEN_LOOKS, again.recv()).await;
    }
    false
}

/// Whether this process has a controlling terminal: `/dev/tty` (tty(4)) can be opened only by one that has, and no longer when
/// it was closed.
fn has_terminal() -> bool {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
        .is_ok()
}

/// Whether SIGXCPU, which comes at the soft limit of CPU time, will be followed by SIGKILL at the hard one.
fn is_cpu_time_limited() -> bool {
    getrlimit(Resource::RLIMIT_CPU).is_ok_and(|(_, hard)| hard != libc::RLIM_INFINITY)
}

fn is_ignored(number: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and the kernel fills what is behind the pointer.
    unsafe {
        libc::sigaction(number, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_recognized() {
        assert!(is_ignored(libc::SIGPIPE), "Rust's own doing");
        assert!(!is_ignored(libc::SIGCONT));
    }
}
