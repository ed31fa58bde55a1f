//! Refuses a cache directory on a file system that other hosts may use as well.
//!
//! **A cache is used by one kernel at a time.** Mounts that share a directory coordinate by locks (`F_OFD_SETLK`, and
//! SQLite's) and by shared memory pages (SQLite's index of its log). On a network file system each host has its own of
//! both. Two hosts would assign the same space twice, and take zeros for data where the other has not written yet.
//!
//! So such a directory is refused, unless the user says that no other host uses it. FUSE counts as a network file
//! system: sshfs looks the same as an encrypted home.

use std::path::Path;

use anyhow::bail;
use nix::sys::statfs::{FsType, statfs};

/// File systems that another host may share, by `f_type` (statfs(2), and the kernel's `include/uapi/linux/magic.h`).
const SHARED: [(u32, &str); 18] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x2003_0528, "OrangeFS"),
    (0x786F_4256, "VirtualBox"),
];

/// Refuses a directory on such a file system. One that does not exist yet is judged by its nearest existing parent.
///
/// # Errors
/// The sentence for the user.
pub(crate) fn refuse_shared(folder: &Path) -> anyhow::Result<()> {
    // If no parent can be checked, creating the directory reports the error.
    let found = folder.ancestors().find_map(|path| statfs(path).ok());
    if let Some(name) = found.and_then(|found| shared_name(found.filesystem_type())) {
        bail!(
            "the cache directory {} is on a network file system ({name}), and would be damaged if another host used \
             it at the same time; choose a directory on a local disk with --cache-dir, or use --unshared-cache if \
             no other host uses it",
            folder.display()
        );
    }
    Ok(())
}

fn shared_name(fs: FsType) -> Option<&'static str> {
    // Some architectures sign-extend these 32 bits.
    let magic = fs.0 as u32;
    SHARED
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(shared_name(FsType(0x6969)), Some("NFS"));
        assert_eq!(shared_name(FsType(0xFF53_4D42_u32 as i32 as _)), Some("CIFS"));
        assert_eq!(shared_name(FsType(0xEF53)), None, "ext4");
        assert_eq!(shared_name(FsType(0x0102_1994)), None, "tmpfs");
        assert_eq!(shared_name(FsType(0x794C_7630)), None, "overlayfs");
    }

    #[test]
    fn a_folder_yet_to_be_made_is_judged_by_its_place() {
        refuse_shared(&tempfile::tempdir().unwrap().path().join("a/b")).unwrap();
    }
}
