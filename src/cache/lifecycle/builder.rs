//! Assembles a cache: over its directory, or, while that can't be opened, over a fallback
//! ([`folder`](super::folder)).

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;

use super::folder::{self, Folder};
use crate::cache::catalog::Catalog;
use crate::cache::config::CacheConfig;
use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::entry::idle_files::IdleFiles;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::error::CacheError;
use crate::cache::eviction::evictor::Evictor;
use crate::cache::facade::{Cache, OpenFolder};
use crate::cache::fetch::downloader::ChunkDownloader;
use crate::cache::fetch::file_writer;
use crate::cache::fetch::manager::ChunkManager;
use crate::cache::fetch::scheduler::Limits;
use crate::cache::integrity::verifier::Verifier;
use crate::cache::settings::Settings;
use crate::cache::sharing::DirLock;
use crate::cache::storage::descriptor_exhaustion::DescriptorExhaustion;
use crate::cache::storage::disk_health::DiskHealth;
use crate::origin::{Client, Logins, Throttle};
use crate::util::events;

/// Maximum bytes of one fetch. Shorter fetches spend more of their time waiting for the first byte;
/// longer ones keep a sequential reader waiting for the one it is in. Measured with the simulated
/// line of the scheduler's tests (16 connections of 20 MB/s and 50 ms), 4 GiB in sequence: 286 MB/s
/// with 8 MiB, 294 with 12.
pub(in crate::cache) const FETCH_LEN: u64 = 12 << 20;

/// Maximum bytes that a reader waits for a fetch to cover before its own: at the 20 MB/s of a
/// common connection that takes as long as a round trip of 50 ms, which a fetch of its own takes
/// too.
pub(in crate::cache) const SPLIT_DISTANCE: u64 = 1 << 20;

impl Cache {
    /// Opens the cache, and starts its threads and tasks on `runtime`. If its disk is full or
    /// read-only for now, that is logged, and reads bypass the cache until the directory can be
    /// opened.
    ///
    /// # Errors
    /// If the directory or the index in it can't be used, for a reason other than the
    /// disk.
    pub fn open(config: CacheConfig, client: Client, runtime: &Handle) -> Result<Arc<Cache>, CacheError> {
        config.check_size()?;
        let config = CacheConfig {
            logins: Logins::of(client.clone()),
            ..config
        };
        let (disk_health, counters) = (Arc::new(DiskHealth::none_in(&config.folder)), Arc::default());
        let opened = Folder::open_or_make_way(&config.folder)
            .and_then(|folder| folder.occupy(&config, Arc::clone(&disk_health), Arc::clone(&counters)));
        let (dir_lock, versions) = match opened {
            Ok((dir_lock, versions)) => (Some(dir_lock), versions),
            Err(error) => {
                let why = folder::may_pass(&config, &error).ok_or(error)?;
                disk_health.folder_is_shut(&why);
                (None, VersionStore::fallback(&config, disk_health, counters)?)
            }
        };
        Cache::with(versions, dir_lock, config, client, runtime)
    }

    /// Builds it over an open directory.
    #[cfg(test)]
    pub(in crate::cache) fn over(
        folder: Folder,
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
    ) -> Result<Arc<Cache>, CacheError> {
        let disk_health = Arc::new(DiskHealth::none_in(&config.folder));
        let occupied = folder.occupy(&config, disk_health, Arc::default())?;
        Cache::with(occupied.1, Some(occupied.0), config, client, runtime)
    }

    /// Builds it over an open version store, or the fallback.
    fn with(
        versions: Arc<VersionStore>,
        dir_lock: Option<DirLock>,
        config: CacheConfig,
        client: Client,
        runtime: &Handle,
    ) -> Result<Arc<Cache>, CacheError> {
        let counters = Arc::clone(&versions.counters);
        let cache_dir = CacheDir::new(versions);
        let writers = file_writer::start(&cache_dir).map_err(|error| no_thread(&config, &error))?;
        let idle_files = Arc::<IdleFiles>::default();
        let is_throttled = config.bandwidth.is_some() || client.has_rates();
        let downloader = Arc::new(ChunkDownloader {
            runtime: runtime.clone(),
            client,
            throttle: Throttle::new(config.bandwidth.clone()),
            retries: config.retries,
            tiers: config.tiers.clone(),
            cache_dir: Arc::clone(&cache_dir),
            writers,
            counters,
            shortage: DescriptorExhaustion::new(closing(&idle_files)),
        });
        let limits = Limits {
            fetches_per_origin: config.max_connections,
            fetch_len: FETCH_LEN,
            split_distance: SPLIT_DISTANCE,
            is_throttled,
            slice: config.slice(),
        };
        let manager = ChunkManager::new(limits, config.read_timeout, Arc::clone(&downloader) as _);
        runtime.spawn(Arc::clone(&manager).watch_waits());
        let cache = Arc::new(Cache {
            manager,
            downloader,
            patience: config.read_timeout,
            memory: Arc::default(),
            folder: config.folder.clone(),
            catalog: Catalog::new(Arc::clone(&cache_dir)),
            cache_dir,
            settings: Settings::new(&config),
            chunk_size: config.chunk_size,
            idle_files,
            occupied: OnceLock::new(),
        });
        match dir_lock {
            Some(dir_lock) => cache.hold(dir_lock, &config)?,
            None => folder::keep_trying(&cache, config, runtime),
        }
        Ok(cache)
    }

    /// Takes the guards of an open directory.
    fn hold(&self, dir_lock: DirLock, config: &CacheConfig) -> Result<(), CacheError> {
        let evictor = Evictor::start(Arc::clone(self.versions()), closing(&self.idle_files));
        let _evictor = evictor.map_err(|error| no_thread(config, &error))?;
        let verifier = Verifier::start(
            Arc::clone(self.versions()),
            self.downloader.client.clone(),
            self.downloader.runtime.clone(),
        );
        let _verifier = verifier.map_err(|error| no_thread(config, &error))?;
        // A cache has one directory.
        let _ = self.occupied.set(OpenFolder {
            dir_lock,
            _evictor,
            _verifier,
        });
        Ok(())
    }

    /// Opens the directory that could not be opened at start. Returns true if no further try is
    /// needed.
    pub(in crate::cache) fn swap_in(&self, config: &CacheConfig) -> bool {
        let config = &self.settings.current(config);
        let disk_health = Arc::clone(&self.versions().disk_health);
        let counters = Arc::clone(&self.versions().counters);
        let opened = Folder::open_or_make_way(&config.folder)
            .and_then(|folder| folder.occupy(config, Arc::clone(&disk_health), counters));
        match opened {
            Ok((dir_lock, versions)) => {
                self.cache_dir.swap_in(versions);
                if let Err(error) = self.hold(dir_lock, config) {
                    log::warn!(event = events::EVICTION_FAILED; "can't start eviction: {error}");
                }
                disk_health.folder_is_open();
                true
            }
            Err(error) => {
                log::debug!("{error}");
                false
            }
        }
    }
}

/// A function that closes idle files.
fn closing(idle_files: &Arc<IdleFiles>) -> impl Fn() + Send + Sync + use<> {
    let kept = Arc::clone(idle_files);
    move || kept.let_go_of_all()
}

fn no_thread(config: &CacheConfig, error: &std::io::Error) -> CacheError {
    CacheError::Folder {
        path: config.folder.display().to_string(),
        reason: format!("can't start a thread: {error}"),
    }
}
