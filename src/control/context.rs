//! What the requests to one mount use.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::jobs::{self, Jobs};
use super::options::Options;
use super::prefetch::Tools;
use super::protocol::Reloaded;
use crate::cache::{Cache, OpenReaders};
use crate::origin::Client;
use crate::source::{Library, SourceSpec};
use crate::stats::MountStats;
use crate::vfs::Tree;

/// Facts of the mount that `status` shows.
#[derive(Debug)]
pub(crate) struct About {
    /// The mounted URLs, without secrets.
    pub source: String,
    /// The names of the kinds of its sources.
    pub kinds: Vec<&'static str>,
    /// The mountpoint.
    pub mountpoint: PathBuf,
    /// The cache directory.
    pub cache_dir: PathBuf,
    /// When the mount began.
    pub since: Instant,
    /// Where the log is, for people.
    pub log: String,
    /// Where its status page is, if it has one: a URL, or `unix:PATH`.
    pub http: Option<String>,
    /// Whether the process goes on when the mount has ended.
    pub outlives_mount: bool,
}

/// Takes a changed library's file over, or says in one sentence why not.
pub(crate) type Reload = dyn Fn() -> Result<Reloaded, String> + Send + Sync;

/// A library that is mounted.
pub(crate) struct LibraryControl {
    /// Its sources.
    pub library: Arc<Library>,
    /// Reads its file again. Blocks.
    pub reload: Arc<Reload>,
}

/// What a mount consists of, as its status sees it.
pub(crate) struct Observed {
    /// Its names.
    pub tree: Arc<Tree>,
    /// Its bytes.
    pub cache: Arc<Cache>,
    /// Its requests.
    pub client: Client,
    /// Its open files.
    pub readers: Arc<OpenReaders>,
    /// The failures that its users saw, and what else is counted.
    pub stats: Arc<MountStats>,
}

/// Handles the requests to one mount.
pub(crate) struct Control {
    pub(super) about: About,
    /// The library, if one is mounted.
    pub(super) library: Option<LibraryControl>,
    pub(super) options: Arc<dyn Options>,
    pub(super) tree: Arc<Tree>,
    pub(super) cache: Arc<Cache>,
    pub(super) client: Client,
    pub(super) readers: Arc<OpenReaders>,
    pub(super) stats: Arc<MountStats>,
    pub(super) jobs: Arc<Jobs>,
    /// True once the mount has ended.
    over: watch::Sender<bool>,
}

impl Control {
    /// Control over a mount of `sources`. Resumes the jobs that an earlier mount of these sources left. Blocks for a
    /// query of the index.
    pub(crate) fn new(
        about: About,
        sources: &[SourceSpec],
        library: Option<LibraryControl>,
        options: Arc<dyn Options>,
        observed: Observed,
        runtime: Handle,
    ) -> Arc<Control> {
        let Observed {
            tree,
            cache,
            client,
            readers,
            stats,
        } = observed;
        let tools = Tools {
            tree: Arc::clone(&tree),
            cache: Arc::clone(&cache),
        };
        let jobs = Jobs::new(tools, runtime, jobs::source_key(sources));
        jobs.resume();
        Arc::new(Control {
            about,
            library,
            options,
            tree,
            cache,
            client,
            readers,
            stats,
            jobs,
            over: watch::Sender::new(false),
        })
    }

    /// The mount has ended: ends all connections and jobs. The next mount of the sources resumes the jobs.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
        self.jobs.stop();
    }

    /// Returns when the mount has ended.
    pub(crate) async fn over(&self) {
        // It fails only without a sender.
        let _ = self.over.subscribe().wait_for(|is_over| *is_over).await;
    }

    pub(super) fn tools(&self) -> Tools {
        Tools {
            tree: Arc::clone(&self.tree),
            cache: Arc::clone(&self.cache),
        }
    }

    /// [`Cache::blocking`]; `None` if the work panics or the runtime shuts down.
    pub(super) async fn with_cache<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Cache>) -> T + Send + 'static,
    ) -> Option<T> {
        self.cache.blocking(work).await.ok()
    }
}
