//! Finds the fetchfs mount that a user's path is in, and that mount's control socket.
//!
//! This sends no request to the mount itself, which may be dead or blocked by a silent server. So symbolic links are
//! followed up to the mountpoint and not beyond (a fetchfs mount contains none). The rest of the path is taken
//! literally.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;

use super::FSTYPE;
use super::daemon::Daemon;
use super::probe::{Pulse, probe};
use super::table::{self, Mount};

/// Maximum number of links on the way to a mountpoint; the kernel's own limit (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A path in a fetchfs mount.
#[derive(Debug, Clone)]
pub(crate) struct InMount {
    /// Absolute, without symbolic links.
    pub mountpoint: PathBuf,
    /// Relative to the root of the file system, without `.` and `..`; empty for the root itself.
    pub inside: PathBuf,
    /// The directory of the file system that is shown at the mountpoint, in the same form: empty for its root.
    pub root: PathBuf,
    /// The file system's other mountpoints.
    pub elsewhere: Vec<PathBuf>,
    /// The address of the daemon's control socket.
    pub address: SocketAddr,
}

/// Why no daemon can be asked about a path. Each `Display` is the sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InMountError {
    /// The path is in no fetchfs mount.
    #[error("{} is not in a fetchfs mount; `fetchfs status` lists the mounts", .0.display())]
    NotInMount(PathBuf),
    /// The mount is dead.
    #[error("the process that served {path} is gone; mount it again, or clean up with `fetchfs unmount {path}`", path = .0.display())]
    DaemonGone(PathBuf),
    /// The mount is alive, but its daemon is not reachable from here.
    #[error(
        "{} is served by a process that can't be reached: it runs in another container or network namespace, or \
         hangs",
        .0.display()
    )]
    Unreachable(PathBuf),
    /// No process was found, and the mount was not asked whether it has one.
    #[error("no process serves {path}; `fetchfs unmount {path}` cleans up after one that is gone", path = .0.display())]
    NoProcess(PathBuf),
    /// The mount is another user's.
    #[error("{} is another user's mount; only that user and root can do this", .0.display())]
    NotYours(PathBuf),
    /// The path can't be followed.
    #[error("can't resolve {}: {error}", path.display())]
    Io {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// Finds the mount that `path` is in.
///
/// # Errors
/// If it is in none, or in one whose daemon is not reachable.
pub(crate) fn find(path: &Path) -> Result<InMount, InMountError> {
    find_by(path, without_process)
}

/// [`find`] that sends no request to the mount in any case, and so never waits for it.
///
/// # Errors
/// As for [`find`]; [`InMountError::NoProcess`] where that would have asked the mount.
pub(crate) fn find_unasked(path: &Path) -> Result<InMount, InMountError> {
    find_by(path, InMountError::NoProcess)
}

fn find_by(path: &Path, without_process: impl FnOnce(PathBuf) -> InMountError) -> Result<InMount, InMountError> {
    let failed = |error| InMountError::Io {
        path: path.to_owned(),
        error,
    };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let mounts = table::read().map_err(failed)?;
    let is_mountpoint = |place: &Path| mounts.iter().any(|m| m.fstype == FSTYPE && m.mount_point == place);
    let found = split(&absolute, is_mountpoint, |place| fs::read_link(place).ok());
    let (mountpoint, inside) = found.ok_or_else(|| InMountError::NotInMount(path.to_owned()))?;
    match table::locate(&mountpoint).map_err(failed)?.mount {
        Some(mount) if mount.fstype == FSTYPE => in_mount(&mount, &inside, without_process),
        // Another file system is mounted over it.
        _ => Err(InMountError::NotInMount(path.to_owned())),
    }
}

/// All fetchfs mounts that this user may control, in the order of the mount table. One with several mountpoints appears
/// once.
///
/// # Errors
/// If the mount table can't be read.
pub(crate) fn all() -> io::Result<Vec<Result<InMount, InMountError>>> {
    all_by(without_process)
}

/// [`all`] that sends no request to any mount, and so never waits for one.
///
/// # Errors
/// As for [`all`].
pub(crate) fn all_unasked() -> io::Result<Vec<Result<InMount, InMountError>>> {
    all_by(InMountError::NoProcess)
}

fn all_by(without_process: fn(PathBuf) -> InMountError) -> io::Result<Vec<Result<InMount, InMountError>>> {
    let mut mounts = table::read()?;
    mounts.retain(|mount| mount.fstype == FSTYPE && is_allowed(mount));
    // Prefer a mountpoint that shows the whole file system to a bind mount of a part.
    mounts.sort_by_key(|mount| mount.root != Path::new("/"));
    let mut seen = HashSet::new();
    mounts.retain(|mount| seen.insert(mount.device));
    Ok(mounts
        .iter()
        .map(|mount| in_mount(mount, Path::new(""), without_process))
        .collect())
}

/// A fetchfs mount, as far as the mount table and its process show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Where it is; one that shows the whole file system comes before those that show a part of it.
    pub mountpoint: PathBuf,
    /// Its other mountpoints.
    pub elsewhere: Vec<PathBuf>,
    /// Its sources, without secrets.
    pub source: String,
    /// The user who made it.
    pub user: Option<u32>,
    /// The process that serves it; `None` if there is none, or none that can be reached from here.
    pub pid: Option<u32>,
    /// Whether this user may control it.
    pub is_allowed: bool,
}

/// The fetchfs mounts of all users, in the order of the mount table. **Sends no request to any of them**, so that it
/// returns at once whatever state they are in.
///
/// # Errors
/// If the mount table can't be read.
pub(crate) fn list() -> io::Result<Vec<Listed>> {
    let mut mounts = table::read()?;
    mounts.retain(|mount| mount.fstype == FSTYPE);
    let mut listed: Vec<((u32, u32), Listed)> = Vec::new();
    let mut first: Vec<&Mount> = mounts.iter().collect();
    first.sort_by_key(|mount| mount.root != Path::new("/"));
    for mount in first {
        if let Some((_, known)) = listed.iter_mut().find(|(device, _)| *device == mount.device) {
            known.elsewhere.push(mount.mount_point.clone());
            continue;
        }
        let daemon = Daemon::of(mount);
        let new = Listed {
            mountpoint: mount.mount_point.clone(),
            elsewhere: Vec::new(),
            source: mount.source.clone(),
            user: mount.owner(),
            pid: daemon.map(|daemon| daemon.pid()),
            is_allowed: is_allowed(mount),
        };
        listed.push((mount.device, new));
    }
    Ok(listed.into_iter().map(|(_, mount)| mount).collect())
}

fn is_allowed(mount: &Mount) -> bool {
    geteuid().is_root() || mount.owner().is_none_or(|owner| owner == geteuid().as_raw())
}

/// Why a mount without a process has none, as the mount itself shows.
fn without_process(mountpoint: PathBuf) -> InMountError {
    match probe(&mountpoint) {
        Pulse::Dead => InMountError::DaemonGone(mountpoint),
        Pulse::Alive | Pulse::Silent => InMountError::Unreachable(mountpoint),
    }
}

fn in_mount(
    mount: &Mount,
    inside: &Path,
    without_process: impl FnOnce(PathBuf) -> InMountError,
) -> Result<InMount, InMountError> {
    let mountpoint = mount.mount_point.clone();
    if !is_allowed(mount) {
        return Err(InMountError::NotYours(mountpoint));
    }
    let Some(daemon) = Daemon::of(mount) else {
        return Err(without_process(mountpoint));
    };
    let root = mount.root.strip_prefix("/").unwrap_or(&mount.root).to_owned();
    Ok(InMount {
        mountpoint,
        inside: root.join(inside),
        root,
        elsewhere: table::elsewhere(mount),
        address: daemon.address().clone(),
    })
}

/// Splits an absolute path where it enters a mount, following links up to there. `None` if it enters none.
fn split(
    path: &Path,
    is_mountpoint: impl Fn(&Path) -> bool,
    link: impl Fn(&Path) -> Option<PathBuf>,
) -> Option<(PathBuf, PathBuf)> {
    let parts = |path: &Path| -> Vec<OsString> { path.components().map(|part| part.as_os_str().to_owned()).collect() };
    let mut rest = VecDeque::from(parts(path));
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    // The mountpoint, and the path in it, after entering it.
    let mut entered: Option<(PathBuf, PathBuf)> = None;
    while let Some(part) = rest.pop_front() {
        let component = Path::new(&part).components().next();
        match (component, &mut entered) {
            (Some(Component::Normal(name)), Some((_, inside))) => inside.push(name),
            (Some(Component::Normal(name)), None) => {
                let next = at.join(name);
                if is_mountpoint(&next) {
                    entered = Some((next, PathBuf::new()));
                } else if let Some(target) = link(&next) {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
                } else {
                    at = next;
                }
            }
            (Some(Component::ParentDir), Some((mountpoint, inside))) => {
                let leaves = !inside.pop();
                if leaves {
                    at = mountpoint.parent().unwrap_or(Path::new("/")).to_owned();
                    entered = None;
                }
            }
            (Some(Component::ParentDir), None) => {
                at.pop();
            }
            // The beginning of a path, or of a link's absolute target.
            (Some(Component::RootDir), None) => at = PathBuf::from("/"),
            _ => {}
        }
    }
    entered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn splits(path: &str) -> Option<(String, String)> {
        let link = |place: &Path| match place.to_str()? {
            "/home/films" => Some(PathBuf::from("/mnt/pub/films")),
            "/home/up" => Some(PathBuf::from("../mnt")),
            "/home/loop" => Some(PathBuf::from("loop")),
            _ => None,
        };
        let (mountpoint, inside) = split(Path::new(path), |place| place == Path::new("/mnt/pub"), link)?;
        Some((mountpoint.to_str()?.to_owned(), inside.to_str()?.to_owned()))
    }

    #[test]
    fn a_path_is_split_where_it_enters_the_mount() {
        let pub_ = |inside: &str| Some(("/mnt/pub".to_owned(), inside.to_owned()));
        assert_eq!(splits("/mnt/pub"), pub_(""));
        assert_eq!(splits("/mnt/pub/"), pub_(""));
        assert_eq!(splits("/mnt/pub/a b/./c"), pub_("a b/c"));
        assert_eq!(splits("/mnt/pub/a/../../pub/b"), pub_("b"));
        assert_eq!(splits("/home/films/x"), pub_("films/x"));
        assert_eq!(splits("/home/up/pub/y"), pub_("y"));
        assert_eq!(splits("/mnt/pub/a/../.."), None);
        assert_eq!(splits("/mnt/public"), None);
        assert_eq!(splits("/mnt"), None);
        assert_eq!(splits("/home/loop/x"), None);
    }

    #[test]
    fn path_outside_mounts_is_an_error() {
        let error = find(Path::new("/no/such/path")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/path is not in a fetchfs mount"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_inside_never_leads_out(path in "(/(mnt|pub|\\.\\.|\\.|home|films|up|x)){0,12}") {
            if let Some((mountpoint, inside)) = splits(&path) {
                prop_assert_eq!(mountpoint, "/mnt/pub");
                prop_assert!(Path::new(&inside).components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
