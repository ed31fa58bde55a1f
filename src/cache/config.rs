//! What the cache goes by.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chunk::{self, ChunkSize};
use super::error::CacheError;
use super::quota::{QuotaConfig, Share};
use crate::origin::Logins;

/// See the module.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The folder that holds the index and the data files.
    pub folder: PathBuf,
    /// The size of the chunks of entries that are new. Default: 256 KiB.
    pub chunk_size: ChunkSize,
    /// What the cache may take.
    pub quota: QuotaConfig,
    /// Fetches at once to one origin. Default: 16.
    pub max_connections: usize,
    /// Bytes per second, over all fetches. Default: no limit.
    pub bandwidth: Option<u64>,
    /// Tries after the first. Default: 3.
    pub retries: u32,
    /// How long a reader waits at most. Default: 2 minutes.
    pub read_timeout: Duration,
    /// Separates what one login sees from what others see. Default: no separation.
    pub logins: Logins,
}

impl CacheConfig {
    /// The defaults, in this folder.
    pub fn in_folder(folder: &Path) -> CacheConfig {
        CacheConfig {
            folder: folder.to_owned(),
            chunk_size: chunk::DEFAULT_CHUNK_SIZE,
            quota: QuotaConfig::default(),
            max_connections: 16,
            bandwidth: None,
            retries: 3,
            read_timeout: Duration::from_secs(120),
            logins: Logins::default(),
        }
    }

    /// Bytes that the cache has to take at least: two chunks for each connection.
    pub(super) fn least_size(&self) -> u64 {
        2 * self.max_connections as u64 * self.chunk_size.bytes()
    }

    /// Whether the size that the user has asked for is enough.
    pub(super) fn check_size(&self) -> Result<(), CacheError> {
        let least = self.least_size();
        match self.quota.size {
            Some(Share::Bytes(size)) if size < least => Err(CacheError::TooSmall { size, least }),
            _ => Ok(()),
        }
    }
}
