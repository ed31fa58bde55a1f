//! A mount by one of the tools: a guard that leaves neither a mount nor a process, whatever became of the run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::process::{self, Usage};
use super::tool::Tool;

/// How long a tool may take to mount.
const STARTING: Duration = Duration::from_secs(60);

/// How long a tool may take to end after it was unmounted: to write down what it has cached.
const LEAVING: Duration = Duration::from_secs(30);

/// Lines of the daemon's output that are shown when something failed.
const TAIL: usize = 5;

/// A mounted directory; unmounted when dropped.
pub struct Mounted {
    daemon: Child,
    mountpoint: PathBuf,
    output: PathBuf,
    /// From the start of the program until the mount answered.
    pub took: Duration,
    /// Dropped, it ends the watchdog.
    leash: Option<mpsc::Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl Mounted {
    /// Mounts by `command`, of this tool, on `mountpoint`, which is made here, and returns when the mount answers. What
    /// the command says goes to the file `output`. After `lifetime` the daemon is killed, so that who reads from it gets
    /// an error and no reader hangs for ever.
    ///
    /// # Errors
    /// When it does not come to answer.
    pub fn start(
        tool: Tool,
        mut command: Command,
        mountpoint: PathBuf,
        output: &Path,
        lifetime: Duration,
    ) -> Result<Mounted> {
        fs::create_dir_all(&mountpoint)?;
        let said = fs::File::create(output)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let outside = fs::metadata(output)?.dev();
        let begun = Instant::now();
        let daemon = process::spawn(&mut command)?;
        let (leash, watchdog) = watch(daemon.id(), mountpoint.clone(), lifetime);
        let mut mounted = Mounted {
            daemon,
            mountpoint,
            output: output.to_owned(),
            took: Duration::ZERO,
            leash: Some(leash),
            watchdog: Some(watchdog),
        };
        let up = process::poll_until(STARTING, || {
            if let Some(status) = mounted.daemon.try_wait()? {
                bail!("{} ended: {status}; {}", tool.id(), mounted.tail());
            }
            // Another device is the mount's; and as its attributes were answered, it is served.
            Ok(fs::metadata(&mounted.mountpoint)
                .is_ok_and(|root| root.dev() != outside)
                .then_some(()))
        })?;
        mounted.took = begun.elapsed();
        up.with_context(|| format!("{} did not mount; {}", tool.id(), mounted.tail()))?;
        Ok(mounted)
    }

    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// What the daemon has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn usage(&self) -> Result<Usage> {
        process::usage(self.daemon.id()).with_context(|| self.tail())
    }

    /// Unmounts, and returns when the daemon has ended of itself.
    ///
    /// # Errors
    /// When it must be forced.
    pub fn end(mut self) -> Result<()> {
        let busy = process::poll_until(LEAVING, || Ok(self.try_unmount(MntFlags::empty()).then_some(())))?;
        if busy.is_none() {
            bail!("the mount stays busy; {}", self.tail());
        }
        match process::wait(&mut self.daemon, LEAVING)? {
            Some(_) => Ok(()),
            None => bail!("the daemon does not end; {}", self.tail()),
        }
    }

    /// Whether nothing is mounted any more.
    fn try_unmount(&self, flags: MntFlags) -> bool {
        match umount2(&self.mountpoint, flags) {
            Ok(()) | Err(Errno::EINVAL) => true,
            Err(Errno::EPERM) => {
                let mut command = Command::new("fusermount3");
                command.arg("-u").arg(&self.mountpoint).stderr(Stdio::null());
                if flags.contains(MntFlags::MNT_DETACH) {
                    command.arg("-z");
                }
                process::run(&mut command, LEAVING).is_ok()
            }
            Err(_) => false,
        }
    }

    fn tail(&self) -> String {
        let said = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        format!("it said: {}", lines[lines.len().saturating_sub(TAIL)..].join(" / "))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The watchdog goes first: it may only signal a process that nobody has waited for.
        drop(self.leash.take());
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
        if matches!(self.daemon.try_wait(), Ok(None)) {
            self.try_unmount(MntFlags::MNT_DETACH);
        }
        process::end(&mut self.daemon);
        // What a daemon left that was killed.
        self.try_unmount(MntFlags::MNT_DETACH);
    }
}

fn watch(pid: u32, mountpoint: PathBuf, lifetime: Duration) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let (leash, released) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if released.recv_timeout(lifetime) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("    {} s are over: the daemon is killed", lifetime.as_secs());
            process::signal(pid, Signal::SIGKILL);
            let _ = umount2(&mountpoint, MntFlags::MNT_DETACH);
        }
    });
    (leash, watchdog)
}
