//! A failing disk under a mount's cache costs speed, but fails no read. The disks: a full copy-on-write file system,
//! a file system that was shut down, and immutable files.
//!
//! Each is a file system in an image file. If one can't be made, its tests do nothing: its tools are missing, the
//! kernel lacks it, or the tests run as an ordinary user.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::files::{sha256, sha256_of};
use crate::common::mount::detach;
use crate::common::{Mount, fetchfs, is_root, run, temporary_directory};
use crate::full_disk::{FILES, assert_all_is_cached, mount_with_cache_in, origin, read_all};
use crate::origin::Content;

/// Size of the image in bytes.
const SIZE: u64 = 400 << 20;

/// A mounted file system in an image file.
struct Image {
    home: TempDir,
}

impl Image {
    fn of(kind: &str) -> Option<Image> {
        if !is_root() {
            return None;
        }
        let home = temporary_directory();
        let file = home.path().join("image");
        File::create(&file)
            .expect("a file")
            .set_len(SIZE)
            .expect("a sparse file");
        fs::create_dir(home.path().join("disk")).expect("a mountpoint");
        let image = Image { home };
        // Not in the PATH after `su`.
        let make = Path::new("/sbin").join(format!("mkfs.{kind}"));
        let is_done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_mounted = is_done(Command::new(make).arg("-q").arg(&file))
            && is_done(
                Command::new("mount")
                    .args(["-o", "loop", "-t", kind])
                    .arg(&file)
                    .arg(image.path()),
            );
        is_mounted.then_some(image)
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// Fills all free space.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).expect("a file");
        for length in [1 << 20, 4096] {
            // Noise can't be compressed. The loop ends when there is no space.
            let block = Content::noise(length, 5).whole();
            while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
        }
    }

    /// Shuts the file system down: every call fails from now on.
    fn shut_down(&self) {
        let disk = File::open(self.path()).expect("to open it");
        // _IOR('X', 125, __u32), the same for ext4 and XFS; 2 means without a flush.
        let (request, how) = (0x8004_587d_u32, 2_u32);
        // SAFETY: the call reads one number.
        let result = unsafe { libc::ioctl(disk.as_raw_fd(), libc::Ioctl::from(request), &raw const how) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        detach(&self.path());
    }
}

/// Reads files, makes the disk fail, and reads old and new files again.
fn costs_no_read(kind: &str, fail: impl Fn(&Image)) {
    let Some(image) = Image::of(kind) else { return };
    let origin = origin();
    let mut mount = mount_with_cache_in(&image.path(), &origin);
    for (seed, (name, size)) in (0..).zip(FILES).filter(|(_, (name, _))| *name != "other") {
        assert_eq!(
            sha256(&mount.path(name)),
            sha256_of(&Content::noise(size, seed)),
            "{name}"
        );
    }
    // Complete files may be passed through.
    mount.remount();
    assert_eq!(sha256(&mount.path("small")), sha256_of(&Content::noise(FILES[0].1, 0)));
    fail(&image);
    for _ in 0..3 {
        read_all(&mount);
    }
    run(fetchfs().arg("status").arg(mount.root())).succeeded();
    mount.unmount();
}

#[test]
fn full_copy_on_write_disk_fails_no_read() {
    costs_no_read("btrfs", Image::fill);
}

#[test]
fn disk_shutdown_fails_no_read() {
    costs_no_read("ext4", Image::shut_down);
    costs_no_read("xfs", Image::shut_down);
}

fn change_attributes(image: &Image, how: &str) {
    let mut chattr = Command::new("chattr");
    chattr.args(["-R", how]).arg(image.path().join("cache"));
    run(&mut chattr).succeeded();
}

#[test]
fn immutable_cache_dir_fails_no_read_and_is_reused() {
    for kind in ["ext4", "btrfs", "xfs"] {
        costs_no_read(kind, |image| change_attributes(image, "+i"));
        let Some(image) = Image::of(kind) else { continue };
        let origin = origin();
        let mount: Mount = mount_with_cache_in(&image.path(), &origin);
        assert_eq!(sha256(&mount.path("small")), sha256_of(&Content::noise(FILES[0].1, 0)));
        change_attributes(&image, "+i");
        read_all(&mount);
        change_attributes(&image, "-i");
        assert_all_is_cached(&mount, &origin);
    }
}
