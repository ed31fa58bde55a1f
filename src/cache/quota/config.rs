//! What the cache may take, as the user says it or as it follows from the disk.

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::{Statvfs, statvfs};

/// The default of `min_free`, at most: enough for a system to go on.
const MIN_FREE: u64 = 1 << 30;

/// A part of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of its size.
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

/// What the user wants; what he does not say follows from the file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuotaConfig {
    /// What the cache may take. Default: half of what is free or the cache's already when it is opened.
    pub size: Option<Share>,
    /// What is to stay free. Default: a twentieth of the file system, 1 GiB at most.
    pub min_free: Option<Share>,
    /// Chunks that were not used for so long go. Default: they stay.
    pub max_age: Option<Duration>,
}

impl QuotaConfig {
    /// Bytes that the cache may take on this disk, of which it has `recorded` ones already.
    pub(super) fn size_on(&self, disk: &Statvfs, recorded: u64) -> u64 {
        self.size
            .map_or((free_bytes(disk) + recorded) / 2, |share| share.of(bytes_of(disk)))
    }

    /// Bytes that it may take while there is no disk for it.
    pub(super) fn size_on_nothing(&self) -> u64 {
        self.size.map_or(0, |share| share.of(0))
    }

    /// Bytes that are to stay free on this disk.
    pub(super) fn min_free_on(&self, disk: &Statvfs) -> u64 {
        let total = bytes_of(disk);
        self.min_free.map_or(MIN_FREE.min(total / 20), |share| share.of(total))
    }
}

/// Half of the file system that a folder is on, or is to be made on; nothing if that can't be told.
pub fn half_of_disk(folder: &Path) -> u64 {
    let disk = folder.ancestors().find_map(|place| statvfs(place).ok());
    disk.map_or(0, |disk| bytes_of(&disk) / 2)
}

fn bytes_of(disk: &Statvfs) -> u64 {
    disk.blocks() * disk.fragment_size()
}

/// Bytes that a file system has for us.
pub(in crate::cache) fn free_bytes(disk: &Statvfs) -> u64 {
    disk.blocks_available() * disk.fragment_size()
}
