//! Reports that the mount answers: to systemd, or to the parent process of a mount in the background.

use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use sd_notify::NotifyState;

/// First byte of a success report. Any other byte begins the error sentence.
pub(crate) const UP: u8 = 0;

/// The process that waits for the mount to be up. Consumed once it is.
#[derive(Debug)]
pub(crate) struct Ready(Waiting);

#[derive(Debug)]
enum Waiting {
    /// A foreground mount, perhaps under systemd.
    Foreground,
    /// The parent process that the user started.
    Parent { report: PipeWriter, told: Arc<AtomicBool> },
}

impl Ready {
    /// For a process that stays in the foreground.
    pub(crate) fn foreground() -> Ready {
        Ready(Waiting::Foreground)
    }

    /// For a child whose parent reads `report`. `told` becomes true once the parent knows.
    pub(crate) fn for_parent(report: PipeWriter, told: Arc<AtomicBool>) -> Ready {
        Ready(Waiting::Parent { report, told })
    }

    /// Reports that the mount answers. In the background this process detaches from the terminal: own session,
    /// working directory `/`, and no standard input, output or error. In the foreground it notifies systemd, if
    /// systemd asks.
    ///
    /// # Errors
    /// If the waiting parent is gone because it was killed. The mount must end then.
    pub(crate) fn up(self) -> io::Result<()> {
        match self.0 {
            Waiting::Foreground => sd_notify::notify(&[NotifyState::Ready]),
            Waiting::Parent { mut report, told } => {
                setsid()?;
                std::env::set_current_dir("/")?;
                let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
                dup2_stdin(&null)?;
                dup2_stdout(&null)?;
                dup2_stderr(&null)?;
                report.write_all(&[UP])?;
                told.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}
