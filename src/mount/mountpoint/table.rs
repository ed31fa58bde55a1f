//! The mount table: `/proc/self/mountinfo` (proc_pid_mountinfo(5)), and the mount that a path is on.
//!
//! Parsed here: `procfs` leaves the kernel's escapes (`\040`) in paths and sources, and fails on the whole table if one
//! mount point is not UTF-8. It does not parse `mnt_id` in `/proc/PID/fdinfo` at all.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Unique among all mounts of all mount namespaces, for as long as the mount lives.
    pub id: u64,
    /// The mount on which this one is.
    pub parent: u64,
    /// `major:minor`, as `st_dev` of the files in it.
    pub device: (u32, u32),
    /// The part of the file system that is shown there: `/`, or the source of a bind mount.
    pub root: PathBuf,
    /// Absolute.
    pub mount_point: PathBuf,
    /// With the subtype: `fuse.fetchfs`.
    pub fstype: String,
    /// Free text, by convention the device or URL.
    pub source: String,
    /// The file system's own options: `rw,user_id=0,group_id=0`.
    pub super_options: String,
}

impl Mount {
    /// Returns true if a process answers requests to this mount.
    pub(super) fn is_fuse(&self) -> bool {
        matches!(self.fstype.as_str(), "fuse" | "fuseblk") || self.fstype.starts_with("fuse.")
    }

    /// The user who made a FUSE mount.
    pub(super) fn owner(&self) -> Option<u32> {
        self.super_options
            .split(',')
            .find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// A path, and the mount exactly there.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// The topmost mount whose mount point this path is.
    pub mount: Option<Mount>,
}

/// All mounts of this process's mount namespace.
pub(super) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The other mount points of the file system of `mount`, by bind mounts.
pub(super) fn elsewhere(mount: &Mount) -> Vec<PathBuf> {
    let others = read().unwrap_or_default().into_iter();
    others
        .filter(|other| other.device == mount.device && other.id != mount.id)
        .map(|other| other.mount_point)
        .collect()
}

/// Resolves a path without a request to the file system that is mounted there.
///
/// An `O_PATH` open walks to the path and stops; the mounted file system receives no request. `/proc` then has the
/// descriptor's path and its mount id. Only directories on the way there can block, if they are in a blocked mount
/// themselves.
pub(super) fn locate(path: &Path) -> io::Result<Place> {
    // Not by `OpenOptions`: with musl, its access mode masks `O_PATH` out.
    let handle = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let fd = handle.as_raw_fd();
    let path = fs::read_link(format!("/proc/self/fd/{fd}"))?;
    let id = mount_id(&fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?);
    let mount = read()?
        .into_iter()
        .find(|mount| Some(mount.id) == id && mount.mount_point == path);
    Ok(Place { path, mount })
}

/// The `mnt_id` line of `/proc/PID/fdinfo/FD`.
pub(super) fn mount_id(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// Format: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, with any number of fields
/// before the `-`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let mut text = || fields.next().map(|field| String::from_utf8_lossy(field));
    let id = text()?.parse().ok()?;
    let parent = text()?.parse().ok()?;
    let device = text()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mut path = || Some(PathBuf::from(OsString::from_vec(unescape(fields.next()?))));
    let (root, mount_point) = (path()?, path()?);
    let mut rest = fields.skip_while(|&field| field != b"-").skip(1);
    let mut text = || {
        rest.next()
            .map(|field| String::from_utf8_lossy(&unescape(field)).into_owned())
    };
    Some(Mount {
        id,
        parent,
        device,
        root,
        mount_point,
        fstype: text()?,
        source: text()?,
        super_options: text()?,
    })
}

/// Decodes `\040` and the like, which the kernel writes for bytes that would end a field.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal.map(|digits| {
            digits
                .iter()
                .fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'))
        }) {
            Some(value @ 0..=0xff) => {
                bytes.push(value as u8);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = r"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
75 22 0:42 /a\040b /mnt/my\040films\134\011x ro,nosuid,nodev shared:7 master:1 - fuse.fetchfs http://host/a\040b ro,user_id=1000,group_id=100,default_permissions
76 22 0:43 / /tmp rw - tmpfs  rw
broken line
77 22 0:44 / /srv rw - fuse sshfs#host rw,user_id=0
";

    #[test]
    fn a_line_of_the_table_is_read_with_its_escapes() {
        let mounts = parse(TABLE.as_bytes());
        assert_eq!(mounts.len(), 4);
        let films = &mounts[1];
        assert_eq!(films.mount_point, Path::new("/mnt/my films\\\tx"));
        assert_eq!(films.root, Path::new("/a b"));
        assert_eq!((films.id, films.parent, films.device), (75, 22, (0, 42)));
        assert_eq!(
            (films.fstype.as_str(), films.source.as_str()),
            ("fuse.fetchfs", "http://host/a b")
        );
        assert_eq!(films.owner(), Some(1000));
        assert!(films.is_fuse() && mounts[3].is_fuse() && !mounts[0].is_fuse());
        assert_eq!((mounts[2].source.as_str(), mounts[2].owner()), ("", None));
    }

    #[test]
    fn only_exact_paths_are_mountpoints() {
        let proc = locate(Path::new("/proc/../proc/.")).unwrap();
        assert_eq!(proc.path, Path::new("/proc"));
        assert_eq!(proc.mount.unwrap().fstype, "proc");
        assert_eq!(locate(Path::new("/proc/self/fd")).unwrap().mount, None);
    }

    #[test]
    fn links_are_followed_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink("target", &link).unwrap();
        assert_eq!(locate(&link).unwrap().path, target.canonicalize().unwrap());
        assert_eq!(
            locate(&dir.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_writes_is_read_without_panic(table in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&table);
            let _ = unescape(&table);
        }
    }
}
