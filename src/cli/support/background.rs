//! Moving to the background once the mount is up.
//!
//! `fetchfs mount` returns when the mount answers, or with the reason why it can't. So the process forks at once,
//! before any thread or runtime exists. The child does everything: checks, mount, service. It reports through a pipe,
//! on which the parent waits.
//!
//! Until then the child stays in the terminal's session and the caller's process group. So Ctrl-C ends both, and
//! warnings reach the terminal. Also, autofs and systemd's automount let only that process group look behind the
//! mountpoint that they guard. [`Ready::up`] then detaches the child.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure;
use crate::mount::{Ready, UP};
use crate::util::events;
use anyhow::{Context, bail};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Runs `body` in a child process. In the parent it returns when `body` has called [`Ready::up`]; in the child it
/// never returns.
///
/// # Errors
/// The error of `body` before that call.
pub(in crate::cli) fn start(body: impl FnOnce(Ready) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (report, reporter) = io::pipe().context("can't make a pipe")?;
    // SAFETY: this process has one thread, so the child gets a complete copy: no other thread can hold a lock at the
    // fork.
    match unsafe { fork() }.context("can't start a process")? {
        ForkResult::Parent { child } => {
            drop(reporter);
            listen(report, child)
        }
        ForkResult::Child => {
            drop(report);
            std::process::exit(serve(reporter, body))
        }
    }
}

/// Runs the child. Returns its exit status.
fn serve(mut reporter: PipeWriter, body: impl FnOnce(Ready) -> anyhow::Result<()>) -> i32 {
    let told = Arc::new(AtomicBool::new(false));
    let outcome = match reporter.try_clone() {
        Ok(report) => body(Ready::for_parent(report, Arc::clone(&told))),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            let text = failure::sentence(&error);
            // The parent prints it while it waits; afterwards only the log is left.
            if told.load(Ordering::Relaxed) || reporter.write_all(text.as_bytes()).is_err() {
                log::error!(event = events::MOUNT_FAILED; "{text}");
            }
            failure::FAILED.into()
        }
    }
}

/// Runs the parent: waits for the child's report.
fn listen(mut report: PipeReader, child: Pid) -> anyhow::Result<()> {
    let mut first = [0];
    match report.read_exact(&mut first) {
        Ok(()) if first == [UP] => return Ok(()),
        Ok(()) => {
            let mut text = first.to_vec();
            report.read_to_end(&mut text)?;
            bail!("{}", String::from_utf8_lossy(&text));
        }
        Err(_) => {}
    }
    match waitpid(child, None) {
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            bail!("the background process was killed by {signal} before the mount was ready")
        }
        Ok(WaitStatus::Exited(_, code)) => {
            bail!("the background process exited with status {code} before the mount was ready")
        }
        _ => bail!("the background process exited before the mount was ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_a_sentence_is_the_error() {
        let (report, mut reporter) = io::pipe().unwrap();
        reporter.write_all(b"no such host").unwrap();
        drop(reporter);
        assert_eq!(listen(report, Pid::this()).unwrap_err().to_string(), "no such host");
    }

    #[test]
    fn the_parent_returns_while_the_child_still_holds_the_pipe() {
        let (report, mut reporter) = io::pipe().unwrap();
        reporter.write_all(&[UP]).unwrap();
        listen(report, Pid::this()).unwrap();
    }

    #[test]
    fn a_failure_goes_to_the_parent_while_it_waits() {
        let (mut report, reporter) = io::pipe().unwrap();
        let failure = anyhow::anyhow!("refused").context("http://host/");
        assert_eq!(serve(reporter, |_ready| Err(failure)), 1);
        let mut text = String::new();
        report.read_to_string(&mut text).unwrap();
        assert_eq!(text, "http://host/: refused");
    }

    #[test]
    fn a_child_that_dies_silently_is_noticed() {
        let (report, reporter) = io::pipe().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(reporter);
        child.kill().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let text = listen(report, pid).unwrap_err().to_string();
        assert_eq!(
            text,
            "the background process was killed by SIGKILL before the mount was ready"
        );
        assert!(child.wait().is_err(), "somebody else has waited for it");
    }
}
