//! The user's requests to a mount that is up: prefetch, status and the like, over a socket.
//!
//! [`serve`] listens for them beside the kernel's requests, above the tree and the cache as [`crate::fuse`] is; [`Client`]
//! is the other end, which the command line uses. What they say to each other is in [`protocol`]. Only the user who made
//! the mount gets in, and root. Nothing that comes in can hurt the mount: connections, lines and times are bounded, and
//! what a request starts ends with its connection, unless it was asked to go on in the background.

mod client;
mod jobs;
mod keeping;
mod prefetch;
pub mod protocol;
mod server;
pub mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use url::Url;

use crate::cache::Cache;
use crate::vfs::Tree;
pub use client::{Client, ClientError};
use jobs::Jobs;
use prefetch::Tools;
pub use server::{serve, serve_at};

/// What is told of the mount.
#[derive(Debug)]
pub struct About {
    /// What is mounted, without secrets.
    pub source: String,
    /// Where.
    pub mountpoint: PathBuf,
    /// Where fetched bytes are kept.
    pub cache_dir: PathBuf,
    /// Connections to one origin at a time.
    pub connections: usize,
    /// Whether the network is never asked.
    pub is_offline: bool,
    /// When it was mounted.
    pub since: Instant,
}

/// What requests work with.
pub struct Control {
    about: About,
    tree: Arc<Tree>,
    cache: Arc<Cache>,
    jobs: Arc<Jobs>,
}

impl Control {
    /// Control over a mount of these sources. Goes on with the jobs that an earlier mount of the sources has left, which blocks for a query.
    pub fn new(about: About, sources: &[Url], tree: Arc<Tree>, cache: Arc<Cache>, runtime: Handle) -> Arc<Control> {
        let tools = Tools {
            tree: Arc::clone(&tree),
            cache: Arc::clone(&cache),
            connections: about.connections,
            is_offline: about.is_offline,
        };
        let jobs = Jobs::new(tools, runtime, jobs::source_key(sources));
        jobs.resume();
        Arc::new(Control {
            about,
            tree,
            cache,
            jobs,
        })
    }

    fn tools(&self) -> Tools {
        Tools {
            tree: Arc::clone(&self.tree),
            cache: Arc::clone(&self.cache),
            connections: self.about.connections,
            is_offline: self.about.is_offline,
        }
    }

    /// Does something that blocks for a query or a system call, on a thread for that. `None` if it can't be done.
    async fn with_cache<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Cache>) -> T + Send + 'static) -> Option<T> {
        let cache = Arc::clone(&self.cache);
        // It fails only if the work panics, or if the runtime is going down.
        tokio::task::spawn_blocking(move || work(&cache)).await.ok()
    }
}
