//! Small file systems in memory, mounted by a test. Only root can mount one.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::mount::detach;

/// A small file system, mounted in place. Dropping it unmounts it.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// A tmpfs of this size.
    #[track_caller]
    pub fn tmpfs(path: &Path, mib: u64, flags: MsFlags) -> Disk {
        Disk::of("tmpfs", path, flags, Some(&format!("size={mib}m,mode=755")))
    }

    /// A ramfs, which has no way to free a part of a file.
    #[track_caller]
    pub fn ramfs(path: &Path) -> Disk {
        Disk::of("ramfs", path, MsFlags::empty(), None)
    }

    #[track_caller]
    fn of(kind: &str, path: &Path, flags: MsFlags, options: Option<&str>) -> Disk {
        mount(Some(kind), path, Some(kind), flags, options).expect("to mount a small disk");
        Disk { path: path.to_owned() }
    }

    /// Writes a file that takes all free space, to the last byte.
    pub fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = File::create(&path).expect("a file");
        for block in [1 << 20, 4096, 1] {
            let bytes = vec![1; block];
            loop {
                match file.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("filling the disk: {error}"),
                }
            }
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        detach(&self.path);
    }
}
