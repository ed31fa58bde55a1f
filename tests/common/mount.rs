//! A mounted fetchfs in a directory of its own.
//!
//! The daemon runs in the foreground as a child of the test, and reports by `NOTIFY_SOCKET` when it is ready. So the
//! test knows its process and the moment. ([`Ground`](super::ground::Ground) tests the background and the `unmount`
//! command.)

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fetchfs::internals::events::{self, Event};
use nix::mount::{MntFlags, umount2};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::log::Log;
use super::process::{self, Pidfd};
use super::{PATIENCE, program, temporary_directory};

/// Maximum lifetime of a daemon in a test, unless its plan says otherwise. A hanging reader gets an error then, and
/// the test fails with the log.
const LIFETIME: Duration = Duration::from_secs(180);

/// How long a guard waits for an orderly end before it kills the daemon.
const ORDERLY: Duration = Duration::from_secs(10);

/// Lines of the daemon's log that a failed test shows.
const TAIL: usize = 60;

/// The command under test, without settings from the environment of the tests.
pub fn fetchfs() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_fetchfs")))
}

/// The command in a pid namespace of its own, as in a container; the test process is outside. Needs root.
fn fetchfs_in_pid_namespace() -> Command {
    let mut command = Command::new("unshare");
    // unshare(1) waits for its child and ignores SIGTERM.
    command.args(["--pid", "--fork", "--kill-child=KILL", env!("CARGO_BIN_EXE_fetchfs")]);
    clean(command)
}

fn clean(mut command: Command) -> Command {
    let foreign = |name: &str| {
        name.starts_with("FETCHFS_") || name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy")
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    command.env_remove("NOTIFY_SOCKET");
    // Nor settings from the user's config file.
    command.env("FETCHFS_CONFIG", "/dev/null");
    command
}

/// The options of a mount that is not started yet.
pub struct Plan {
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    sources: Vec<String>,
    lifetime: Duration,
    /// Limit of open files for the daemon.
    descriptors: Option<u64>,
    is_contained: bool,
}

impl Plan {
    /// Runs the daemon in a pid namespace of its own. Needs root.
    pub fn in_pid_namespace(mut self) -> Plan {
        self.is_contained = true;
        self
    }

    /// Extends the daemon's maximum lifetime by this time.
    pub fn living_for(mut self, time: Duration) -> Plan {
        self.lifetime = LIFETIME + time;
        self
    }

    /// Sets a hard limit of open files for the daemon (RLIMIT_NOFILE).
    pub fn with_descriptors(mut self, most: u64) -> Plan {
        self.descriptors = Some(most);
        self
    }

    /// Adds a source.
    pub fn and(mut self, source: &str) -> Plan {
        self.sources.push(source.to_owned());
        self
    }

    /// Adds an option with its value, or a flag (`""`).
    pub fn with(mut self, option: &str, value: &str) -> Plan {
        self.add(option, value);
        self
    }

    fn add(&mut self, option: &str, value: &str) {
        let words = [option, value].into_iter().filter(|word| !word.is_empty());
        self.arguments.extend(words.map(OsString::from));
    }

    /// Sets a variable in the daemon's environment.
    pub fn with_env(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Mounts with an empty cache.
    #[track_caller]
    pub fn start(self) -> Mount {
        let home = temporary_directory();
        fs::create_dir(home.path().join("mnt")).expect("a mountpoint");
        let mut mount = Mount {
            plan: self,
            home,
            daemon: None,
        };
        mount.start();
        mount
    }
}

/// A mount with its cache and its daemon. Dropping it leaves neither a mount nor a process, whatever the test did.
pub struct Mount {
    plan: Plan,
    home: TempDir,
    daemon: Option<Daemon>,
}

struct Daemon {
    child: Child,
    /// The daemon is the child's child, the first process of its pid namespace.
    is_contained: bool,
    /// Dropping it ends the watchdog.
    leash: mpsc::Sender<()>,
    watchdog: JoinHandle<()>,
}

impl Mount {
    /// Plans a mount of a source.
    pub fn of(source: &str) -> Plan {
        Plan {
            arguments: Vec::new(),
            environment: Vec::new(),
            sources: vec![source.to_owned()],
            lifetime: LIFETIME,
            descriptors: None,
            is_contained: false,
        }
    }

    /// Mounts a source with defaults.
    #[track_caller]
    pub fn start_of(source: &str) -> Mount {
        Mount::of(source).start()
    }

    /// The mountpoint.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// The cache directory.
    pub fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// The directory that holds mountpoint, cache and log.
    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// The daemon's log so far.
    pub fn log(&self) -> Log {
        Log::read(&self.home.path().join("log"))
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it is mounted").pid()
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        Pidfd::open(self.pid()).expect("the daemon runs").signal(signal);
    }

    /// Limits the daemon's descriptors; returns the previous limit.
    pub fn limit_descriptors(&self, most: u64) -> u64 {
        let pid = self.pid() as libc::pid_t;
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: one of the two limits is null, the other is on the stack.
        let read = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
        let new = libc::rlimit {
            rlim_cur: most,
            rlim_max: before.rlim_max,
        };
        // SAFETY: one of the two limits is null, the other is on the stack.
        let written = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut()) };
        assert_eq!((read, written), (0, 0), "{}", std::io::Error::last_os_error());
        before.rlim_cur
    }

    /// Adds an option or a flag to later starts.
    pub fn add_option(&mut self, option: &str, value: &str) {
        self.plan.add(option, value);
    }

    /// Changes the value of an option for later starts.
    pub fn replace_option(&mut self, option: &str, value: &str) {
        let at = self
            .plan
            .arguments
            .iter()
            .position(|word| word == option)
            .expect("the option");
        self.plan.arguments[at + 1] = value.into();
    }

    /// Mounts again with the same source, options, mountpoint and cache.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "it is mounted");
        let socket_path = self.home.path().join("notify");
        let _ = fs::remove_file(&socket_path);
        let socket = UnixDatagram::bind(&socket_path).expect("a socket for READY=1");
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.home.path().join("output"));
        let output = output.expect("a file for what the daemon prints");
        let is_contained = self.plan.is_contained;
        let (mut command, death) = if is_contained {
            (fetchfs_in_pid_namespace(), Signal::SIGKILL)
        } else {
            (fetchfs(), Signal::SIGTERM)
        };
        command
            .args(["mount", "--foreground", "-v", "--cache-dir"])
            .arg(self.cache());
        command
            .arg("--log-file")
            .arg(self.home.path().join("log"))
            .args(&self.plan.arguments);
        command
            .args(&self.plan.sources)
            .arg(self.root())
            .env("NOTIFY_SOCKET", &socket_path)
            .envs(self.plan.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("its copy"))
            .stderr(output);
        if let Some(most) = self.plan.descriptors {
            let limit = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?);
            // SAFETY: setrlimit is a single system call.
            unsafe { command.pre_exec(limit) };
        }
        let mut child = process::spawn_tied(&mut command, death);
        let lifetime = self.plan.lifetime;
        let (leash, released) = mpsc::channel::<()>();
        let process = Pidfd::open(child.id()).expect("a child that nobody has waited for");
        let watchdog = std::thread::spawn(move || {
            if released.recv_timeout(lifetime) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the daemon has lived for {lifetime:?}: something hangs, so it is killed");
                process.signal(Signal::SIGKILL);
            }
        });
        let ready = wait_until_ready(&socket, &mut child);
        self.daemon = Some(Daemon {
            child,
            leash,
            watchdog,
            is_contained,
        });
        if let Err(why) = ready {
            panic!("no mount: {why}");
        }
    }

    /// Ends the daemon with SIGTERM. It must exit with code 0 and leave no mount.
    #[track_caller]
    pub fn unmount(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "the daemon ended with {status}");
        assert!(!is_mounted(&self.root()), "the daemon is gone and its mount is not");
    }

    /// Unmounts in order, and mounts again over the same cache.
    #[track_caller]
    pub fn remount(&mut self) {
        self.unmount();
        self.start();
    }

    /// Kills the daemon, as an accident would. The dead mount stays; [`Mount::start`] must cope with it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Waits for the end of the daemon.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let daemon = self.daemon.as_mut().expect("it is mounted");
        let status = process::wait(&mut daemon.child, PATIENCE);
        let status = status.unwrap_or_else(|| panic!("the daemon has not ended within {PATIENCE:?}"));
        self.daemon.take().expect("looked at above").release();
        status
    }

    /// Waits until the daemon's log has this many lines of the event.
    #[track_caller]
    pub fn wait_for_event(&self, event: Event, times: usize) {
        self.wait_for_event_with(event, "", times);
    }

    /// [`Mount::wait_for_event`] for lines that contain a value.
    #[track_caller]
    pub fn wait_for_event_with(&self, event: Event, value: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.events_with(event, value) < times {
            assert!(
                Instant::now() < deadline,
                "the log never has {times} lines of {event} with {value:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Number of lines of the event in the daemon's log.
    pub fn events(&self, event: Event) -> usize {
        self.log().events(event)
    }

    /// [`Mount::events`] for lines that contain a value: a number, a URL, an option, a level.
    #[track_caller]
    pub fn events_with(&self, event: Event, value: &str) -> usize {
        self.log().events_with(event, value)
    }

    /// Whether a daemon of this mount has panicked. Debug assertions panic, too. Such a test fails at its end in any
    /// case.
    pub fn has_met_bug(&self) -> bool {
        self.events(events::PANIC) > 0
    }

    fn show_log(&self) {
        for name in ["output", "log"] {
            Log::read(&self.home.path().join(name)).show(name, TAIL);
        }
    }
}

impl Daemon {
    fn pid(&self) -> u32 {
        let pid = self.child.id();
        if !self.is_contained {
            return pid;
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        // The child's own id if it has ended: a signal to it is harmless.
        children.trim().parse().unwrap_or(pid)
    }

    fn release(self) {
        drop(self.leash);
        let _ = self.watchdog.join();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if let Some(process) = Pidfd::open(daemon.pid()) {
                process.signal(Signal::SIGTERM);
                if !process.wait(ORDERLY) {
                    process.signal(Signal::SIGKILL);
                }
            }
            let _ = daemon.child.wait();
            daemon.release();
        }
        detach(&self.root());
        if std::thread::panicking() {
            self.show_log();
        } else if self.has_met_bug() {
            self.show_log();
            panic!("the daemon met a bug, which its log tells");
        }
    }
}

/// Waits for `READY=1`, or for the end of the daemon.
fn wait_until_ready(socket: &UnixDatagram, child: &mut Child) -> Result<(), String> {
    // The socket does not report the child's end, so the child is checked between two short waits.
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    let deadline = Instant::now() + PATIENCE;
    let mut message = [0; 4096];
    while Instant::now() < deadline {
        match socket.recv(&mut message) {
            Ok(length)
                if message[..length]
                    .split(|&byte| byte == b'\n')
                    .any(|line| line == b"READY=1") =>
            {
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(format!("the notify socket: {error}")),
        }
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("the daemon ended with {status}"));
        }
    }
    Err(format!("no READY=1 within {PATIENCE:?}"))
}

/// Whether something is mounted there, dead or alive.
pub fn is_mounted(mountpoint: &Path) -> bool {
    mount_line(mountpoint).is_some()
}

/// The mountpoint's line in `/proc/self/mountinfo`.
pub fn mount_line(mountpoint: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the kernel's list of mounts");
    let wanted = mountpoint.to_str().expect("a path of the harness");
    mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(wanted))
        .map(str::to_owned)
}

/// Detaches a mount, whatever its state. Does nothing without a mount.
pub fn detach(mountpoint: &Path) {
    if is_mounted(mountpoint) && umount2(mountpoint, MntFlags::MNT_DETACH).is_err() {
        let mut command = Command::new(program("fusermount3", "fuse3"));
        let _ = command.args(["-u", "-z"]).arg(mountpoint).status();
    }
}
