//! The configuration of the cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::chunk::{self, ChunkSize};
use super::error::CacheError;
use super::quota::{QuotaConfig, Share};
use crate::origin::{ChunkTier, Logins};
use crate::util::bandwidth::BandwidthLimit;

/// The configuration of one cache.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The directory of the index and the data files.
    pub folder: PathBuf,
    /// The chunk size of new entries. Default: 256 KiB.
    pub chunk_size: ChunkSize,
    /// The size of the cache.
    pub quota: QuotaConfig,
    /// Maximum number of concurrent fetches to one origin. Default: 16.
    pub max_connections: usize,
    /// Maximum bytes per second, over all fetches. Default: no limit.
    pub(crate) bandwidth: Option<BandwidthLimit>,
    /// Maximum bytes that are fetched ahead of a reader. Default: what pays.
    pub(crate) read_ahead: Option<u64>,
    /// Number of tries after the first. Default: 3.
    pub retries: u32,
    /// Maximum time that a reader waits. Default: 2 minutes.
    pub read_timeout: Duration,
    /// Separates what one login sees from what others see. Default: no separation.
    pub logins: Logins,
    /// Places besides the origin that may have bytes, in order of preference. Default: none.
    pub tiers: Vec<Arc<dyn ChunkTier>>,
}

impl CacheConfig {
    /// The defaults, in this directory.
    pub fn in_folder(folder: &Path) -> CacheConfig {
        CacheConfig {
            folder: folder.to_owned(),
            chunk_size: chunk::DEFAULT_CHUNK_SIZE,
            quota: QuotaConfig::default(),
            max_connections: 16,
            bandwidth: None,
            read_ahead: None,
            retries: 3,
            read_timeout: Duration::from_secs(120),
            logins: Logins::default(),
            tiers: Vec::new(),
        }
    }

    /// Bytes of the slices of a tier that is asked first.
    pub(super) fn slice(&self) -> Option<u64> {
        let first = self.tiers.iter().filter(|tier| tier.is_asked_first());
        first.filter_map(|tier| tier.slice()).next()
    }

    /// Minimum bytes of the cache: two chunks for each connection.
    pub(super) fn least_size(&self) -> u64 {
        CacheConfig::least_size_for(self.max_connections, self.chunk_size)
    }

    pub(super) fn least_size_for(max_connections: usize, chunk_size: ChunkSize) -> u64 {
        2 * max_connections as u64 * chunk_size.bytes()
    }

    /// Checks that the configured size reaches the minimum.
    pub(super) fn check_size(&self) -> Result<(), CacheError> {
        let least = self.least_size();
        match self.quota.size {
            Some(Share::Bytes(size)) if size < least => Err(CacheError::TooSmall { size, least }),
            _ => Ok(()),
        }
    }
}
