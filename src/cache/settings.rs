//! What of the configuration can change while the cache is in use.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::config::CacheConfig;
use super::error::CacheError;
use super::facade::Cache;
use super::fetch::readahead::MAX_WINDOW;
use super::quota::{QuotaConfig, Share};
use crate::util::bandwidth::BandwidthLimit;

/// The current values.
pub(super) struct Settings {
    /// Maximum bytes that are fetched ahead of a reader; `u64::MAX` is no limit but the cache's room.
    read_ahead: AtomicU64,
    sizes: Mutex<Sizes>,
}

/// What the size of the cache depends on.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    quota: QuotaConfig,
    max_connections: usize,
}

/// Another size of the cache, which [`Cache::check_size`] has checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSize(Sizes);

impl Settings {
    pub(super) fn new(config: &CacheConfig) -> Settings {
        Settings {
            read_ahead: AtomicU64::new(config.read_ahead.unwrap_or(u64::MAX)),
            sizes: Mutex::new(Sizes {
                quota: config.quota,
                max_connections: config.max_connections,
            }),
        }
    }

    /// The configuration with the current values.
    pub(super) fn current(&self, config: &CacheConfig) -> CacheConfig {
        let sizes = *self.sizes.lock();
        CacheConfig {
            quota: sizes.quota,
            max_connections: sizes.max_connections,
            ..config.clone()
        }
    }
}

impl Cache {
    /// Maximum bytes that are fetched ahead of a reader.
    pub(super) fn read_ahead(&self) -> u64 {
        self.settings.read_ahead.load(Ordering::Relaxed)
    }

    /// Fetches at most this much ahead of a reader from now on, also of those that read already. `None` leaves it to what
    /// pays.
    pub(crate) fn set_read_ahead(&self, most: Option<u64>) {
        self.settings
            .read_ahead
            .store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The most that is fetched ahead, if that is less than what the configuration allows. Some system calls.
    pub(crate) fn read_ahead_beyond(&self) -> Option<u64> {
        let most = self.versions().quota.most_ahead().min(MAX_WINDOW);
        let wanted = self.read_ahead();
        (wanted != u64::MAX && wanted > most && !self.is_fallback()).then_some(most)
    }

    /// The size of the cache, if that is less than the configured one because another mount of the directory has a smaller
    /// one. Some system calls.
    pub(crate) fn limit_of_others(&self) -> Option<u64> {
        if self.is_fallback() {
            return None;
        }
        let (quota, sizes) = (&self.versions().quota, *self.settings.sizes.lock());
        // Without a configured size it follows from the free space, which changes.
        sizes.quota.size?;
        let (configured, counts) = (quota.size_of(&sizes.quota)?, quota.size());
        (counts < configured && quota.has_others()).then_some(counts)
    }

    /// Returns true if there is no origin to fetch from.
    pub(super) fn is_offline(&self) -> bool {
        self.downloader.client.is_offline()
    }

    /// Keeps to this bandwidth from now on, also for what is being fetched.
    pub(crate) fn set_bandwidth(&self, limit: Option<BandwidthLimit>) {
        self.manager
            .set_throttled(limit.is_some() || self.downloader.client.has_rates());
        self.downloader.throttle.set_limit(limit);
    }

    /// Checks another size of the cache, for [`Self::resize`].
    ///
    /// # Errors
    /// If it is below the minimum for this many connections.
    pub(crate) fn check_size(
        &self,
        size: Option<Share>,
        min_free: Option<Share>,
        max_connections: usize,
    ) -> Result<NewSize, CacheError> {
        let quota = QuotaConfig {
            size,
            min_free,
            ..self.settings.sizes.lock().quota
        };
        let least = CacheConfig::least_size_for(max_connections, self.chunk_size);
        let new = match self.is_fallback() {
            true => quota.size.map(|_| quota.size_on_nothing()).filter(|size| *size > 0),
            false => self.versions().quota.size_of(&quota),
        };
        match new {
            Some(size) if size < least => Err(CacheError::TooSmall { size, least }),
            _ => Ok(NewSize(Sizes { quota, max_connections })),
        }
    }

    /// Bytes to leave free on the file system; `None` while the directory can't be opened.
    pub(crate) fn min_free(&self) -> Option<u64> {
        (!self.is_fallback()).then(|| self.versions().quota.min_free())
    }

    /// The cache directory.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Changes the size of the cache and the number of connections. A smaller size evicts at once what is too much. Some
    /// system calls.
    pub(crate) fn resize(&self, NewSize(sizes): NewSize) {
        *self.settings.sizes.lock() = sizes;
        self.manager.set_most_connections(sizes.max_connections);
        if !self.is_fallback() {
            self.versions().quota.resize(&sizes.quota);
        }
    }
}
