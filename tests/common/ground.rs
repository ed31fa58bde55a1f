//! Grounds: a mountpoint and a cache for `fetchfs mount` as users call it, which goes to the background.
//!
//! [`Mount`](super::Mount) knows its process, because it stays in the foreground. Here nobody tells which process serves, so it is
//! found by the place that its command line names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::mount::{detach, is_mounted, mount_line};
use super::process::{Pidfd, Ran, processes_about};
use super::{PATIENCE, fetchfs, is_root, run, temporary_directory};
use crate::origin::{Content, Origin};

/// A mountpoint, and a cache beside it. Dropped, it ends whatever was mounted there and whoever served it.
pub struct Ground {
    pub home: TempDir,
}

impl Ground {
    /// Nothing is mounted yet.
    pub fn new() -> Ground {
        let home = temporary_directory();
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        Ground { home }
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// `fetchfs mount` of a source, with options, into the background.
    pub fn command(&self, source: &str, options: &[&str]) -> Command {
        let mut command = fetchfs();
        self.arguments(&mut command, source, options);
        command
    }

    /// The same, for a command that is more than that.
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

    /// `fetchfs unmount`.
    pub fn unmount(&self, options: &[&str]) -> Ran {
        run(fetchfs().arg("unmount").args(options).arg(self.mountpoint()))
    }

    /// The processes that serve here.
    pub fn processes(&self) -> Vec<u32> {
        processes_about(self.home.path().to_str().expect("a path of the harness"))
    }

    /// Waits until nobody serves here any more.
    #[track_caller]
    pub fn wait_for_the_end(&self) {
        for process in self.processes().into_iter().filter_map(Pidfd::open) {
            assert!(process.wait(PATIENCE), "a daemon is left");
        }
    }

    /// Neither a mount nor a process.
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
            let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            eprintln!("--- the daemon's log:\n{log}");
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

/// A shell script in a mount namespace of its own, where it may put things over /dev and /sbin that nobody else sees.
pub fn in_namespace(script: &str, arguments: &[&Path]) -> Ran {
    // The namespace begins with a copy of other tests' mounts, which would keep those alive.
    let script = format!("umount --all --lazy --types fuse.fetchfs 2>/dev/null || :\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-eu", "-c", &script, "sh"]).args(arguments);
    command.env("FETCHFS", env!("CARGO_BIN_EXE_fetchfs"));
    run(&mut command)
}
