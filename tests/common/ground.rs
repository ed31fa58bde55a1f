//! Grounds: a mountpoint and a cache for `fetchfs mount` in the background, as users call it.
//!
//! [`Mount`](super::Mount) knows its process, because it stays in the foreground. Here the serving process is found
//! by the mountpoint in its command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::log::Log;
use super::mount::{detach, is_mounted, mount_line};
use super::process::{Pidfd, Ran, processes_about};
use super::{PATIENCE, fetchfs, is_root, run, temporary_directory};
use crate::origin::{Content, Origin};

/// A mountpoint and a cache beside it. Dropping it ends the mount and its process.
pub struct Ground {
    pub home: TempDir,
}

impl Ground {
    /// A ground without a mount.
    pub fn new() -> Ground {
        let home = temporary_directory();
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        Ground { home }
    }

    /// The mountpoint.
    pub fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// `fetchfs mount` of a source, with options, in the background.
    pub fn command(&self, source: &str, options: &[&str]) -> Command {
        let mut command = fetchfs();
        self.arguments(&mut command, source, options);
        command
    }

    /// Adds the same arguments to another command.
    pub fn arguments(&self, command: &mut Command, source: &str, options: &[&str]) {
        let home = self.home.path();
        command
            .arg("mount")
            .arg("--cache-dir")
            .arg(home.join("cache"))
            .arg("--log-file")
            .arg(home.join("log"));
        command.args(options).arg(source).arg(self.mountpoint());
    }

    /// Mounts a source, in the background.
    #[track_caller]
    pub fn mount(&self, source: &str, options: &[&str]) {
        run(&mut self.command(source, options)).succeeded();
    }

    /// The daemon's log so far.
    pub fn log(&self) -> Log {
        Log::read(&self.home.path().join("log"))
    }

    /// `fetchfs unmount`.
    pub fn unmount(&self, options: &[&str]) -> Ran {
        run(fetchfs().arg("unmount").args(options).arg(self.mountpoint()))
    }

    /// The processes that serve the mountpoint.
    pub fn processes(&self) -> Vec<u32> {
        processes_about(self.home.path().to_str().expect("a path of the harness"))
    }

    /// Waits until no process serves the mountpoint.
    #[track_caller]
    pub fn wait_for_the_end(&self) {
        for process in self.processes().into_iter().filter_map(Pidfd::open) {
            assert!(process.wait(PATIENCE), "a daemon is left");
        }
    }

    /// Asserts that neither a mount nor a process is left.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        assert!(!is_mounted(&self.mountpoint()), "{:?}", mount_line(&self.mountpoint()));
        assert!(self.processes().is_empty(), "left: {:?}", self.processes());
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for process in self.processes().into_iter().filter_map(Pidfd::open) {
            process.signal(Signal::SIGTERM);
            if !process.wait(Duration::from_secs(5)) {
                process.signal(Signal::SIGKILL);
                process.wait(PATIENCE);
            }
        }
        detach(&self.mountpoint());
        if std::thread::panicking() {
            self.log().show("log", usize::MAX);
        }
    }
}

/// An origin with a short file and a large one.
pub fn hello() -> Origin {
    let origin = Origin::start();
    origin.add("/hello.txt", "hello\n");
    origin.add("/large", Content::noise(64 << 20, 61));
    origin
}

/// Runs a shell script in a mount namespace of its own, where it may mount over /dev and /sbin without effect on
/// other processes.
pub fn in_namespace(script: &str, arguments: &[&Path]) -> Ran {
    // The namespace begins with a copy of other tests' mounts, which would keep those alive.
    // Nor are logs of tests left on a machine without a system log.
    let script =
        format!("umount --all --lazy --types fuse.fetchfs 2>/dev/null || :\nmount -t tmpfs none /var/log\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-eu", "-c", &script, "sh"]).args(arguments);
    command.env("FETCHFS", env!("CARGO_BIN_EXE_fetchfs"));
    run(&mut command)
}
