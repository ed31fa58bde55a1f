//! The configured size of the cache, and its defaults from the disk.

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::{Statvfs, statvfs};

/// Maximum of the default of `min_free`: enough for a system to keep working.
const MIN_FREE: u64 = 1 << 30;

/// A part of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// This many bytes.
    Bytes(u64),
    /// Percent of its size.
    Percent(u8),
}

impl Share {
    fn of(self, total: u64) -> u64 {
        match self {
            Share::Bytes(bytes) => bytes,
            Share::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// The user's settings; a missing one follows from the file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuotaConfig {
    /// Maximum size of the cache. Default: half of the bytes that are free or in the cache already
    /// when it is opened.
    pub size: Option<Share>,
    /// Space to leave free. Default: a twentieth of the file system, 1 GiB at most.
    pub min_free: Option<Share>,
    /// Chunks unused for this long are evicted. Default: they stay.
    pub max_age: Option<Duration>,
}

impl QuotaConfig {
    /// Maximum bytes of the cache on this disk, with `recorded` bytes in it already.
    pub(super) fn size_on(&self, disk: &Statvfs, recorded: u64) -> u64 {
        self.size
            .map_or((free_bytes(disk) + recorded) / 2, |share| share.of(bytes_of(disk)))
    }

    /// Maximum bytes while there is no disk for it.
    pub(in crate::cache) fn size_on_nothing(&self) -> u64 {
        self.size.map_or(0, |share| share.of(0))
    }

    /// Bytes to leave free on this disk.
    pub(super) fn min_free_on(&self, disk: &Statvfs) -> u64 {
        let total = bytes_of(disk);
        self.min_free.map_or(MIN_FREE.min(total / 20), |share| share.of(total))
    }
}

/// Half of the file system of a directory, which may not exist yet; 0 if unknown.
pub(crate) fn half_of_disk(folder: &Path) -> u64 {
    let disk = folder.ancestors().find_map(|place| statvfs(place).ok());
    disk.map_or(0, |disk| bytes_of(&disk) / 2)
}

fn bytes_of(disk: &Statvfs) -> u64 {
    disk.blocks() * disk.fragment_size()
}

/// Free bytes of a file system for this user.
pub(in crate::cache) fn free_bytes(disk: &Statvfs) -> u64 {
    disk.blocks_available() * disk.fragment_size()
}
