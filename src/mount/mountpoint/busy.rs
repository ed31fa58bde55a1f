//! Finds the processes that keep a mount busy.
//!
//! The kernel only reports EBUSY. So this searches the processes as fuser(1) and lsof(8) do, but without a request to
//! the mount itself. It compares links in `/proc` by name, descriptors by mount id, and mappings by device number. An
//! ordinary user does not see other users' processes.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use procfs::process::{Process, StatFlags};

use super::table::{self, Mount};

/// Maximum time of the search. Reading `/proc/PID/maps` waits for that process's memory lock, which the process may
/// hold while it waits for a page of a blocked mount.
const PATIENCE: Duration = Duration::from_secs(5);

/// Threads of the search. Reading about a process in execve(2) blocks until it has closed its files; if one of them is
/// in a mount that does not answer, that may be for ever. Blocked threads end with this process.
const SEARCHERS: usize = 8;

/// Maximum number of processes named in a message; the rest are counted.
const NAMED_MAX: usize = 5;

/// A user of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A process, with its first use of the mount that was found.
    Process {
        /// Its id.
        pid: u32,
        /// The name of its command.
        comm: String,
        /// How it uses the mount.
        what: Use,
    },
    /// Another mount, on a directory of this one.
    Mount(PathBuf),
}

impl Holder {
    /// The process; `None` for a mount.
    fn pid(&self) -> Option<u32> {
        match self {
            Holder::Mount(_) => None,
            Holder::Process { pid, .. } => Some(*pid),
        }
    }
}

/// How a process uses a mount. Paths are relative to the mountpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Use {
    /// As its working directory.
    WorkingDirectory,
    /// As its root directory (chroot).
    Root,
    /// It executes this file.
    Program(PathBuf),
    /// It has this file or directory open.
    Open(PathBuf),
    /// It has this file mapped into its memory.
    Mapped(PathBuf),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(path) => write!(f, "{} is mounted inside it", path.display()),
            Self::Process { pid, comm, what } => write!(f, "{comm} (pid {pid}) {what}"),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkingDirectory => write!(f, "has its working directory there"),
            Self::Root => write!(f, "has its root directory there"),
            Self::Program(path) => write!(f, "runs {}", path.display()),
            Self::Open(path) if path.as_os_str().is_empty() => write!(f, "has the directory open"),
            Self::Open(path) => write!(f, "has {} open", path.display()),
            Self::Mapped(path) => write!(f, "has {} mapped", path.display()),
        }
    }
}

/// The text after "/mnt is busy: ".
pub(super) fn sentence(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "the process that uses it is not visible (a blocked command, another user's process, a loop device); \
                look as root, or use --lazy"
            .to_owned();
    }
    let mut text = holders
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    if holders.len() > NAMED_MAX {
        text.push_str(&format!("; and {} more", holders.len() - NAMED_MAX));
    }
    text + if holders.len() == 1 {
        "; end it or use --lazy"
    } else {
        "; end them or use --lazy"
    }
}

/// The users of a mount.
#[derive(Debug)]
pub(super) struct BusyProcesses {
    /// All of them, ordered by process id.
    pub all: Vec<Holder>,
    /// True if all are killed processes that have not released their files yet.
    pub are_dying: bool,
}

/// Finds the users of `mount`, except this process. Returns what was found within [`PATIENCE`].
pub(super) fn of(mount: &Mount) -> BusyProcesses {
    let mut all: Vec<Holder> = table::read()
        .unwrap_or_default()
        .into_iter()
        .filter(|other| other.parent == mount.id)
        .map(|other| Holder::Mount(other.mount_point))
        .collect();
    let mut are_dying = all.is_empty();
    let (sender, receiver) = channel();
    search(mount, &sender);
    drop(sender);
    let deadline = Instant::now() + PATIENCE;
    while let Ok((holder, is_dying)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        // The process may have been found by another of its uses.
        if !all.iter().any(|other| other.pid() == holder.pid()) {
            all.push(holder);
            are_dying &= is_dying;
        }
    }
    all.sort_by_key(Holder::pid);
    are_dying &= !all.is_empty();
    BusyProcesses { all, are_dying }
}

/// Sends each process that uses `mount`, and whether it is dying; some are sent twice. Mappings come last, because a
/// process may have thousands.
fn search(mount: &Mount, found: &Sender<(Holder, bool)>) {
    let numbers = || {
        // Not `procfs::process::all_processes`, which holds a descriptor per process.
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        numbers.filter(|&pid: &u32| pid != std::process::id())
    };
    let open = numbers().map(|pid| (pid, open_in as fn(&Mount, &Path) -> Option<Use>));
    let mapped = numbers().map(|pid| (pid, mapped_in as _));
    let questions: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(open.chain(mapped).collect()));
    for _ in 0..SEARCHERS {
        let (mount, found, questions) = (mount.clone(), found.clone(), Arc::clone(&questions));
        // If the system refuses threads, fewer search; without any, nothing is found.
        let _ = thread::Builder::new().spawn(move || {
            let next = || questions.lock().pop_front();
            while let Some((pid, use_of)) = next() {
                let dir = PathBuf::from(format!("/proc/{pid}"));
                let Some(what) = use_of(&mount, &dir) else { continue };
                let (comm, is_dying) = name_and_is_dying(dir);
                if found.send((Holder::Process { pid, comm, what }, is_dying)).is_err() {
                    return;
                }
            }
        });
    }
}

/// How the process with the `/proc` directory `process` uses `mount`, mappings excepted.
fn open_in(mount: &Mount, process: &Path) -> Option<Use> {
    let inside = |link: &str| inside(mount, &fs::read_link(process.join(link)).ok()?);
    if inside("cwd").is_some() {
        return Some(Use::WorkingDirectory);
    }
    if inside("root").is_some() {
        return Some(Use::Root);
    }
    if let Some(path) = inside("exe") {
        return Some(Use::Program(path));
    }
    for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let number = descriptor.file_name();
        let Some(path) = fs::read_link(descriptor.path())
            .ok()
            .and_then(|link| self::inside(mount, &link))
        else {
            continue;
        };
        // The path alone does not prove it: it may be in another mount namespace, or beneath this mount.
        let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
        if table::mount_id(&info).is_none_or(|id| id == mount.id) {
            return Some(Use::Open(path));
        }
    }
    None
}

/// A file of `mount` that the process has mapped.
fn mapped_in(mount: &Mount, process: &Path) -> Option<Use> {
    mapping(mount, &fs::read_to_string(process.join("maps")).unwrap_or_default()).map(Use::Mapped)
}

/// The command name of the process with the `/proc` directory `dir`, and whether it was killed or has ended, so that
/// the kernel closes its files soon.
fn name_and_is_dying(dir: PathBuf) -> (String, bool) {
    const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(process) = Process::new_with_root(dir) else {
        return (String::new(), true);
    };
    // In this order: a signal that is no longer pending, because the process acts on it, shows as the exit that
    // follows.
    let is_killed = process
        .status()
        .is_ok_and(|status| (status.sigpnd | status.shdpnd) & SIGKILL != 0);
    let Ok(stat) = process.stat() else {
        return (String::new(), true);
    };
    let is_exiting = stat.flags & StatFlags::PF_EXITING.bits() != 0;
    (stat.comm, is_killed || is_exiting)
}

fn inside(mount: &Mount, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(&mount.mount_point).ok().map(Path::to_owned)
}

/// The first file of `mount` in the text of `/proc/PID/maps`: `ADDRESS PERMISSIONS OFFSET MAJOR:MINOR INODE   PATH`.
///
/// Parsed here, because `procfs` drops all lines if it can't parse one, and panics on a path like `/SYSV`.
fn mapping(mount: &Mount, maps: &str) -> Option<PathBuf> {
    let device = format!("{:02x}:{:02x}", mount.device.0, mount.device.1);
    let line = maps
        .lines()
        .find(|line| line.split_ascii_whitespace().nth(3) == Some(&device))?;
    let path = Path::new(&line[line.find('/')?..]);
    Some(inside(mount, path).unwrap_or_else(|| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    use nix::unistd::Pid;

    use super::*;

    fn mount() -> Mount {
        Mount {
            id: 75,
            parent: 22,
            device: (0, 42),
            root: "/".into(),
            mount_point: "/mnt".into(),
            fstype: super::super::FSTYPE.to_owned(),
            source: "http://host/".to_owned(),
            super_options: String::new(),
        }
    }

    fn process(pid: u32, comm: &str, what: Use) -> Holder {
        Holder::Process {
            pid,
            comm: comm.to_owned(),
            what,
        }
    }

    #[test]
    fn busy_message_names_process_and_use() {
        let two = [
            process(123, "bash", Use::WorkingDirectory),
            process(456, "cat", Use::Open("film.mkv".into())),
        ];
        insta::assert_snapshot!(sentence(&two), @"bash (pid 123) has its working directory there; cat (pid 456) has film.mkv open; end them or use --lazy");
        let one = [process(9, "mpv", Use::Mapped("a/film.mkv".into()))];
        insta::assert_snapshot!(sentence(&one), @"mpv (pid 9) has a/film.mkv mapped; end it or use --lazy");
        let nested = [Holder::Mount("/mnt/sub".into()), process(9, "ls", Use::Open("".into()))];
        insta::assert_snapshot!(sentence(&nested), @"/mnt/sub is mounted inside it; ls (pid 9) has the directory open; end them or use --lazy");
        insta::assert_snapshot!(sentence(&[]), @"the process that uses it is not visible (a blocked command, \
                                                 another user's process, a loop device); look as root, or use --lazy");
    }

    #[test]
    fn a_crowd_is_counted() {
        let crowd = vec![process(7, "sh", Use::Root); 8];
        assert!(sentence(&crowd).ends_with("; and 3 more; end them or use --lazy"));
    }

    #[test]
    fn mappings_are_known_by_their_device() {
        let maps = "\
55f0-55f1 r-xp 00000000 fe:00 1234                       /usr/bin/mpv
7f00-7f01 r--s 00000000 00:2a 17                         /mnt/my film.mkv
7f02-7f03 rw-p 00000000 00:00 0
";
        assert_eq!(mapping(&mount(), maps), Some("my film.mkv".into()));
        assert_eq!(
            mapping(
                &Mount {
                    device: (0, 43),
                    ..mount()
                },
                maps
            ),
            None
        );
    }

    #[test]
    fn a_killed_process_is_dying() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let place = format!("/proc/{}", child.id());
        let look = || name_and_is_dying(PathBuf::from(&place));
        assert_eq!(look(), ("sleep".to_owned(), false));
        child.kill().unwrap();
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(child.id().cast_signed())), ended).unwrap();
        assert!(look().1, "it is a zombie");
        child.wait().unwrap();
        assert!(look().1, "it is gone");
    }

    #[test]
    fn a_neighbour_with_the_same_beginning_is_not_inside() {
        assert_eq!(inside(&mount(), Path::new("/mnt/a")), Some("a".into()));
        assert_eq!(inside(&mount(), Path::new("/mnt2/a")), None);
    }

    #[test]
    fn process_is_found_by_cwd_and_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        fs::write(path.join("film"), "").unwrap();
        let here = Mount {
            mount_point: path.clone(),
            ..mount()
        };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&path)
            .spawn()
            .unwrap();
        let found = open_in(&here, &PathBuf::from(format!("/proc/{}", child.id())));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(Use::WorkingDirectory));

        let film = fs::File::open(path.join("film")).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&film);
        let id = table::mount_id(&fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap()).unwrap();
        assert_eq!(
            open_in(&Mount { id, ..here.clone() }, Path::new("/proc/self")),
            Some(Use::Open("film".into()))
        );
        assert_eq!(
            open_in(&here, Path::new("/proc/self")),
            None,
            "another mount of the same name"
        );
    }
}
