//! Signal handling of a mount.
//!
//! **No signal that can be handled ends the process before its mount is unmounted**: a dead mount would be left, in
//! which every access fails.
//!
//! - TERM, INT, QUIT and ABRT unmount.
//! - HUP reopens the log file, reads the config file and the file of a library again, and refreshes listings. If the
//!   terminal of a mount in the foreground was closed, it unmounts.
//! - USR1 writes the state of the mount to the log.
//! - All other signals that would end or stop the process are ignored, except SIGSEGV and SIGBUS, whose handlers are
//!   Rust's own. A true fault ends the process all the same: the kernel does not let it be ignored.

use std::fs::OpenOptions;
use std::mem::MaybeUninit;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use nix::sys::resource::{Resource, getrlimit};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::end::End;
use super::settings::Settings;
use crate::control::{Control, Reload};
use crate::logging;
use crate::util::events;
use crate::vfs::Tree;

/// Signals without a meaning for a mount.
///
/// - SIGUSR1 has one once the mount is there.
/// - SIGXFSZ: a write beyond a file size limit (`ulimit -f`) should fail; the code that writes handles that.
/// - SIGTTOU: log lines are written to a terminal even while another job has it.
/// - SIGPIPE: every Rust program ignores it.
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

/// How often, and at which interval, the terminal is checked after SIGHUP: when its shell ends, the signal comes a
/// moment before the terminal is closed.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Ignores the signals without a meaning. Must be called before any file is opened.
pub(super) fn ignore_the_meaningless() {
    for number in IGNORED.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        // SAFETY: no handler is set, so no code runs. A number that the system does not know is an error without effect.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

/// Starts watching for the other signals, which end the mount through `ends`.
///
/// # Errors
/// If the system refuses to install a handler.
pub(super) fn watch(
    runtime: &Handle,
    is_foreground: bool,
    tree: &Arc<Tree>,
    settings: &Arc<Settings>,
    reload: Option<Arc<Reload>>,
    ends: Sender<End>,
) -> anyhow::Result<()> {
    // nohup(1) ignores SIGHUP: then the terminal may be closed.
    let minds_terminal = is_foreground && !is_ignored(libc::SIGHUP) && has_terminal();
    let _in_runtime = runtime.enter();
    let of = |kind: SignalKind, name| signal(kind).with_context(|| format!("can't handle {name}"));
    let mut interrupt = of(SignalKind::interrupt(), "SIGINT")?;
    let mut terminate = of(SignalKind::terminate(), "SIGTERM")?;
    let mut quit = of(SignalKind::quit(), "SIGQUIT")?;
    // abort(3) ends the process after the handler, whatever that does.
    let mut abort = of(SignalKind::from_raw(libc::SIGABRT), "SIGABRT")?;
    let mut hangup = of(SignalKind::hangup(), "SIGHUP")?;
    let mut cpu_time = of(SignalKind::from_raw(libc::SIGXCPU), "SIGXCPU")?;
    let mut stop = of(SignalKind::from_raw(libc::SIGTSTP), "SIGTSTP")?;
    let (tree, settings) = (Arc::clone(tree), Arc::clone(settings));
    runtime.spawn(async move {
        let name = loop {
            tokio::select! {
                _ = interrupt.recv() => break "SIGINT",
                _ = terminate.recv() => break "SIGTERM",
                _ = quit.recv() => break "SIGQUIT",
                _ = abort.recv() => break "SIGABRT",
                _ = hangup.recv() => {
                    logging::reopen();
                    log::info!(event = events::REFRESH_REQUESTED; "SIGHUP: listings will be requested again");
                    tree.refresh();
                    let (settings, reload) = (Arc::clone(&settings), reload.clone());
                    tokio::task::spawn_blocking(move || match reload {
                        // It reads both files. The log says how it ends.
                        Some(reload) => drop(reload()),
                        None => drop(settings.read_again()),
                    });
                    if minds_terminal && hangs_up(&mut hangup).await {
                        break "the terminal was closed";
                    }
                }
                _ = cpu_time.recv() => if is_cpu_time_limited() {
                    break "SIGXCPU";
                },
                // A stopped process answers no request: every reader would hang.
                _ = stop.recv() => log::warn!(
                    event = events::SUSPEND_IGNORED;
                    "SIGTSTP is ignored, because programs that read from the mount would hang; to free the terminal, \
                     mount without --foreground"
                ),
            }
        };
        let _ = ends.send(End::Signal(name));
    });
    Ok(())
}

/// Writes the state of the mount to the log after SIGUSR1, until the runtime ends.
///
/// # Errors
/// If the system refuses to install a handler.
pub(super) fn report_on_request(runtime: &Handle, control: &Arc<Control>) -> anyhow::Result<()> {
    let _in_runtime = runtime.enter();
    let mut requests = signal(SignalKind::user_defined1()).context("can't handle SIGUSR1")?;
    let control = Arc::clone(control);
    runtime.spawn(async move {
        while requests.recv().await.is_some() {
            let report = control.report().await;
            log::info!(event = events::STATUS_REPORT; "SIGUSR1: {report}");
        }
    });
    Ok(())
}

/// Returns true if the terminal is gone after SIGHUP, or goes away now.
async fn hangs_up(again: &mut Signal) -> bool {
    for _ in 0..LOOKS {
        if !has_terminal() {
            return true;
        }
        // Another SIGHUP meanwhile changes nothing.
        let _ = tokio::time::timeout(BETWEEN_LOOKS, again.recv()).await;
    }
    false
}

/// Returns true if this process has a controlling terminal: only then can `/dev/tty` (tty(4)) be opened, and not after
/// the terminal was closed.
fn has_terminal() -> bool {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
        .is_ok()
}

/// Returns true if SIGXCPU, sent at the soft limit of CPU time, is followed by SIGKILL at the hard limit.
fn is_cpu_time_limited() -> bool {
    getrlimit(Resource::RLIMIT_CPU).is_ok_and(|(_, hard)| hard != libc::RLIM_INFINITY)
}

fn is_ignored(number: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: this sets nothing, and the kernel fills the structure behind the pointer.
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
