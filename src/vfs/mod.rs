//! The directory tree: it maps names to remote files.
//!
//! `fuse` calls it for look-ups, listings, attributes and opens; `control` calls it to resolve paths. It asks each
//! directory's [`Source`](crate::source::Source) for listings, and the origins for versions of files.
//!
//! - A directory's listing is fetched at the first look-up in it. A look-up fetches it again once it is older than
//!   `ttl`.
//! - Each name has a [`Node`] with an inode number that stays the same while mounted. A name that a new listing still
//!   has keeps its node.
//! - A file with another version gets a **new node with a new number**. So the kernel never takes cached pages of the
//!   old version for the new one's.
//! - **Unreachable is neither gone nor changed.** If a listing can't be fetched again, the old one is still served.
//!   Only a 404 or 410 removes a name; only another validator makes a new version.
//! - A silent origin delays known answers only briefly (`request::limiter`). Listings that an earlier mount stored
//!   are served at once and revalidated in the background (`listing::stored`).
//!
//! Methods whose name ends in `_now` answer from memory and never wait. The others may ask the origin. They use
//! connections of their own ([`METADATA_CONNECTIONS`]), so `ls` never waits behind a read.

#![forbid(unsafe_code)]

mod error;
mod file;
mod listing;
mod nodes;
mod per_origin;
mod prefetch;
mod request;
mod root;

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::cache::Cache;
use crate::origin::{Client, Down};
use crate::source::{LeftOut, Sources};
pub(crate) use error::TreeError;
use listing::lru::ListingLru;
pub(crate) use listing::sizes::DateHold;
use listing::unlisted::Allowance;
pub(crate) use nodes::attributes::Attributes;
use nodes::dates::Clocks;
pub(crate) use nodes::ino::{Ino, ROOT};
pub(crate) use nodes::node::{Node, Snapshot};
use nodes::store::NodeStore;
use nodes::totals::Totals;
use per_origin::PerOrigin;
use prefetch::readdir_prefetch::{DirectoryWalks, FileWalks};
pub(crate) use request::limiter::METADATA_CONNECTIONS;
use request::requests::Requests;
pub(crate) use root::top::{Naming, Top, TopError};

/// Settings of a [`Tree`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeConfig {
    /// How long a listing or a file's version counts as fresh. Default: 10 s.
    pub ttl: Duration,
    /// Data connections to one origin. Prefetching leaves some of them free. Default: 16.
    pub connections: usize,
    /// Retries of a request that fails while the origin answers others. Default: 3.
    pub retries: u32,
    /// Maximum time that a caller waits for an answer, all attempts together. Default: 2 min.
    pub patience: Duration,
    /// Most names held in memory over all directories. A single directory may have more. Default: 2,000,000.
    pub most_names: usize,
}

/// The directory tree of one mount.
pub(crate) struct Tree {
    cache: Arc<Cache>,
    client: Client,
    sources: Arc<Sources>,
    /// How long a listing or a file's version counts as fresh.
    ttl: Duration,
    most_names: usize,
    /// Locked for the moment of a decision.
    remembered: Mutex<ListingLru>,
    nodes: NodeStore,
    requests: Requests,
    /// Budget of requests for names that no listing has.
    allowances: PerOrigin<Arc<Mutex<Allowance>>>,
    totals: Arc<Totals>,
    /// Sum of what the current listings of all directories leave out. Locked for the moment of a change.
    left_out: Mutex<LeftOut>,
    /// Runs prefetches and revalidation in the background.
    runtime: Handle,
    /// Locked for the moment of a decision.
    directory_walks: Mutex<DirectoryWalks>,
    /// Locked for the moment of a decision.
    file_walks: Mutex<FileWalks>,
    /// Most small files that are prefetched ahead of a walk.
    files_ahead: usize,
    on_resize: OnResize,
}

/// Called with the number of a file that is longer than its listing said.
pub(crate) type OnResize = Arc<dyn Fn(Ino) + Send + Sync>;

impl Tree {
    /// Builds a tree whose root holds `top`.
    pub(crate) fn new(
        cache: Arc<Cache>,
        client: Client,
        sources: Arc<Sources>,
        config: TreeConfig,
        top: Top,
        runtime: Handle,
        on_resize: OnResize,
    ) -> Arc<Tree> {
        let clocks = Clocks::default();
        let root = top.root(&clocks);
        let requests = Requests::new(
            client.clone(),
            Arc::clone(&cache),
            config.retries,
            config.patience,
            runtime.clone(),
        );
        let tree = Arc::new(Tree {
            cache,
            client,
            sources,
            ttl: config.ttl,
            most_names: config.most_names,
            remembered: Mutex::default(),
            nodes: NodeStore::of(&root, clocks),
            requests,
            allowances: PerOrigin::default(),
            totals: Arc::default(),
            left_out: Mutex::default(),
            runtime,
            directory_walks: Mutex::default(),
            file_walks: Mutex::default(),
            files_ahead: prefetch::readdir_prefetch::files_ahead(config.connections),
            on_resize,
        });
        tree.plant(&root, top);
        tree
    }

    /// The node with this inode number, if a reply has named it and it still exists.
    pub(crate) fn node(&self, ino: Ino) -> Option<Arc<Node>> {
        self.nodes.get(ino)
    }

    /// Counts one kernel reference to a node. Call it before each reply that names the node; [`forget`](Self::forget)
    /// releases the references.
    pub(crate) fn refer(&self, node: &Arc<Node>) {
        self.nodes.table.refer(node);
    }

    /// Releases `references` kernel references of a node (FORGET).
    pub(crate) fn forget(&self, ino: Ino, references: u64) {
        // Dropped after the lock: this may be the last reference to a directory with many names.
        drop(self.nodes.table.forget(ino, references));
    }

    /// Marks every listing as stale, so that the next look-up fetches it again.
    pub(crate) fn refresh(&self) {
        self.sources.expire();
        for node in self.nodes.table.all() {
            if let Some(directory) = node.directory() {
                directory.expire();
            }
        }
    }

    /// Looks a name up in memory. `None` if the origin has to be asked.
    pub(crate) fn lookup_now(&self, parent: &Node, name: &OsStr) -> Option<Result<Arc<Node>, TreeError>> {
        let Some(directory) = parent.directory() else {
            return Some(Err(TreeError::NotADirectory));
        };
        let snapshot = directory.fresh()?;
        let Some(at) = snapshot.listed.find(name) else {
            return self.unlisted_now(directory, name);
        };
        if snapshot.is_ghost(at) {
            return Some(Err(TreeError::NotFound));
        }
        let node = self.child(parent, &snapshot, at);
        (node.is_ready() && !node.is_changed()).then_some(Ok(node))
    }

    /// The node at this position of a directory's names.
    pub(crate) fn child(&self, parent: &Node, names: &Snapshot, at: usize) -> Arc<Node> {
        self.nodes.child(parent, names, at)
    }

    /// Looks a name up. Asks the origin for the listing or a file's size where they are unknown or stale.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] only if a listing lacks the name or the origin says so.
    pub(crate) async fn lookup(self: &Arc<Self>, parent: &Arc<Node>, name: &OsStr) -> Result<Arc<Node>, TreeError> {
        let asker = self.requests.waiting();
        let snapshot = self.list_for(parent, asker).await?;
        let Some(at) = snapshot.listed.find(name) else {
            return self.look_up_unlisted(parent, name).await;
        };
        if snapshot.is_ghost(at) {
            return Err(TreeError::NotFound);
        }
        let mut node = self.child(parent, &snapshot, at);
        loop {
            if node.is_changed() {
                node = self.replace_changed(parent, name, &node);
            }
            match self.resolve_for(&node, asker).await {
                Ok(()) => return Ok(node),
                // The file turned out to be a directory, which can't change any more.
                Err(TreeError::Changed) if node.is_changed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Resolves a path from the root, one [`Self::lookup`] a name. Returns the last name's node and its parent
    /// directory. For an empty path it returns `None` and the root.
    ///
    /// # Errors
    /// As for [`Self::lookup`].
    pub(crate) async fn find(
        self: &Arc<Self>,
        names: impl Iterator<Item = &OsStr>,
    ) -> Result<(Option<Arc<Node>>, Arc<Node>), TreeError> {
        let (mut parent, mut node) = (None, self.node(ROOT).ok_or(TreeError::NotFound)?);
        for name in names {
            let child = self.lookup(&node, name).await?;
            parent = Some(std::mem::replace(&mut node, child));
        }
        Ok((parent, node))
    }

    /// The origins that are down, unreachable or overloaded now.
    pub(crate) fn servers_down(&self) -> Vec<Down> {
        self.client.down()
    }

    /// Number of files known now, and the sum of their sizes in bytes.
    pub(crate) fn known(&self) -> (u64, u64) {
        self.totals.get()
    }

    /// What the listings name and the tree does not show.
    pub(crate) fn left_out(&self) -> LeftOut {
        *self.left_out.lock()
    }
}

#[cfg(test)]
mod tests;
