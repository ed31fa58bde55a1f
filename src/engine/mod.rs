//! What fetches and keeps, for everything in this process that reads: the threads of the runtime, the HTTP client and the cache.
//!
//! A mount has an engine, and so has a [`crate::Cache`] of a Rust program; a mount that a program makes over its cache uses that
//! cache's. So bytes that one of them has fetched are there for the other, and both keep to one limit of connections. The engine has
//! threads of its own: **nothing here runs on the caller's runtime**, and whatever waits ([`Engine::wait`]) blocks on a channel.

mod network_folder;
mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::bounded;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};

use crate::cache::quota::QuotaConfig;
use crate::cache::{Cache, CacheConfig, ChunkSize};
use crate::config::EngineConfig;
use crate::origin::{ChunkTier, Client, Logins, MirrorTier, SharedTier};
use crate::util::clock;
pub(crate) use network_folder::refuse_shared;

/// Threads of the asynchronous runtime. They only move bodies from sockets to buffers.
const WORKERS: usize = 2;

/// Threads that an engine and a mount start, with some to spare: [`WORKERS`], those of the session with the kernel and the one that waits
/// for them, seven that move bytes between the kernel, the disk and the index, one that looks for interrupted readers, and one at least for
/// what blocks.
const THREADS: usize = 20;

/// How often a mount looks after itself on a thread for what blocks.
pub(crate) const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How long a thread of the runtime for what blocks stays without work. Longer than [`HOUSEKEEPING`], so that one always stays: where the
/// system gives no more threads, what blocks waits for that one, and would wait for ever if there were none.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long tasks may take to end after everything is recorded: they have nothing to lose.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// See the module. Dropped, it ends: what waits gets an error, and what is whole is recorded.
pub(crate) struct Engine {
    config: EngineConfig,
    client: Client,
    cache: Arc<Cache>,
    handle: Handle,
    /// Taken out when it ends.
    runtime: Mutex<Option<Runtime>>,
    has_left: AtomicBool,
}

impl Engine {
    /// Opens the cache and starts the threads.
    ///
    /// # Errors
    /// What prevents it, as one sentence for the user.
    pub(crate) fn open(config: EngineConfig) -> anyhow::Result<Arc<Engine>> {
        if !config.unshared_cache {
            refuse_shared(&config.cache_dir)?;
        }
        let cache_config = cache_config(&config)?;
        threads::can_start(THREADS)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("download")
            .thread_keep_alive(BLOCKING_KEEP_ALIVE)
            .enable_all()
            .build()
            .context("can't start the threads for downloads")?;
        let handle = runtime.handle().clone();
        let opened = || -> anyhow::Result<_> {
            let client = Client::new(config.http.clone())?;
            clock::restore(&config.cache_dir);
            let cache_config = CacheConfig {
                tiers: tiers(&client, &handle),
                ..cache_config
            };
            let cache = Cache::open(cache_config, client.clone(), &handle)?;
            Ok((client, cache))
        };
        let (client, cache) = match opened() {
            Ok(opened) => opened,
            Err(error) => {
                end(runtime);
                return Err(error);
            }
        };
        Ok(Arc::new(Engine {
            config,
            client,
            cache,
            handle,
            runtime: Mutex::new(Some(runtime)),
            has_left: AtomicBool::new(false),
        }))
    }

    /// What it was opened with.
    pub(crate) fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Asks servers.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Keeps bytes.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Where asynchronous work runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.handle
    }

    /// Does asynchronous work while the calling thread blocks, which may be another runtime's. `None` if the engine ends before it is done.
    pub(crate) fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (done, outcome) = bounded(1);
        self.handle.spawn(async move {
            // It is being waited for.
            let _ = done.send(work.await);
        });
        outcome.recv().ok()
    }

    /// Ends all waits with an error and all work, and returns when what is whole is recorded.
    pub(crate) fn close(&self) {
        self.cache.close();
        if let Some(runtime) = self.runtime.lock().take() {
            end(runtime);
        }
    }

    /// Sees to it that nothing has to be verified after a reboot; after [`Self::close`]. May take a moment.
    pub(crate) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::AcqRel) {
            self.cache.leave();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
        self.leave();
    }
}

/// The places besides the origins that a client may have bytes from.
fn tiers(client: &Client, runtime: &Handle) -> Vec<Arc<dyn ChunkTier>> {
    let shared = SharedTier::new(client.clone(), runtime).map(|tier| Arc::new(tier) as Arc<dyn ChunkTier>);
    let mirrors: Arc<dyn ChunkTier> = Arc::new(MirrorTier::new(client.clone()));
    shared.into_iter().chain([mirrors]).collect()
}

/// Ends a runtime. A thread of another one must not wait for that: tokio panics then.
fn end(runtime: Runtime) {
    if Handle::try_current().is_ok() {
        runtime.shutdown_background();
    } else {
        runtime.shutdown_timeout(LAST_WORDS);
    }
}

fn cache_config(config: &EngineConfig) -> anyhow::Result<CacheConfig> {
    let chunk_size = ChunkSize::new(config.chunk_size.into()).with_context(|| {
        format!(
            "--chunk-size: {} bytes are not a power of two from 4 KiB to 64 MiB",
            config.chunk_size
        )
    })?;
    Ok(CacheConfig {
        folder: config.cache_dir.clone(),
        chunk_size,
        quota: QuotaConfig {
            size: config.cache_size,
            min_free: config.min_free,
            max_age: config.max_age,
        },
        max_connections: config.http.max_connections,
        bandwidth: config.bwlimit.clone(),
        read_ahead: config.read_ahead,
        retries: config.retries,
        read_timeout: config.read_timeout,
        logins: Logins::default(),
        tiers: Vec::new(),
    })
}
