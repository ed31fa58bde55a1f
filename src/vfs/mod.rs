//! Names → remote files: the directory tree as the file system shows it.
//!
//! The tree asks a [`Source`] for a listing when somebody first looks into a directory, and again
//! when the listing is older than `ttl` and somebody looks again. It gives every name a [`Node`]
//! with a number that stays the same while mounted. When a listing is asked for again, names that
//! it still has keep their nodes; a file that has another version gets a **new node with a new
//! number**, so that the kernel's pages of the old one can never be taken for the new one's.
//!
//! **Unreachable is neither gone nor changed**: when a listing can't be had again, the old one goes
//! on being shown. Only a 404 or 410 makes a name disappear, only another validator a new version.
//! Nor is what is known held back for long while the origin keeps silent ([`gate`]). What was told to
//! earlier mounts counts as known too: it is shown at once, and asked for again behind ([`stored`]).
//!
//! What can be answered from memory has a `_now` form that never waits; the others may ask the
//! origin. They use connections of their own ([`METADATA_CONNECTIONS`]), so `ls` never waits
//! behind a read.

#![forbid(unsafe_code)]

mod error;
mod file;
mod listing;
mod node;
mod nodes;
mod request;
mod root;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

use crate::cache::Cache;
use crate::http::{MOST_ORIGINS, Origin};
use crate::origin::{Client, Down};
use crate::source::{LeftOut, Source};
pub use error::TreeError;
use listing::dates::Clock;
use listing::lru::ListingLru;
use listing::readdir_prefetch::{DirectoryWalks, FileWalks};
pub use listing::sizes::DateHold;
pub use listing::snapshot::Snapshot;
use listing::unlisted::Allowance;
pub use node::{Attributes, Ino, Node, ROOT};
use node::{Counted, Kind, Totals};
use nodes::Nodes;
use request::limiter::Limiter;
pub use root::top::{Naming, Top, TopEntry, TopError, TopListing};

/// Requests for listings and metadata at once to one origin, beside the data connections.
pub const METADATA_CONNECTIONS: usize = 8;

/// What the tree goes by.
#[derive(Debug, Clone, Copy)]
pub struct TreeConfig {
    /// How long a listing or a file's version is believed without asking again. Default: 10 s.
    pub ttl: Duration,
    /// Data connections to one origin, of which fetching ahead leaves some free. Default: 16.
    pub connections: usize,
    /// How often a question is asked again that failed for a reason of its own. Default: 3.
    pub retries: u32,
    /// The longest that anybody waits for an answer, all tries together. Default: 2 min.
    pub patience: Duration,
    /// The most names that are remembered, over all directories; that of one directory may be more. Default: 2,000,000.
    pub most_names: usize,
}

/// See the module.
pub struct Tree {
    cache: Arc<Cache>,
    client: Client,
    source: Arc<dyn Source>,
    /// How long a listing or a file's version is believed without asking again.
    ttl: Duration,
    /// Retries of one question.
    retries: u32,
    /// The longest that anybody waits for its answer.
    patience: Duration,
    most_names: usize,
    /// Taken for the moment of a decision.
    remembered: Mutex<ListingLru>,
    nodes: Nodes,
    /// Taken for a look-up only; the permits are awaited without it.
    gates: Mutex<HashMap<Origin, &'static Limiter>>,
    /// Questions for names that are not listed. Taken for a look-up only.
    allowances: Mutex<HashMap<Origin, Arc<Mutex<Allowance>>>>,
    /// Taken for a look-up only.
    clocks: Mutex<HashMap<Origin, Arc<Clock>>>,
    totals: Arc<Totals>,
    /// What the last listings of all directories leave out. Taken for the moment of a change.
    left_out: Mutex<LeftOut>,
    /// Where guesses at what comes next are carried out.
    runtime: Handle,
    /// Taken for the moment of a decision.
    directory_walks: Mutex<DirectoryWalks>,
    /// Likewise.
    file_walks: Mutex<FileWalks>,
    /// Small files fetched ahead of a walk, at most.
    files_ahead: usize,
}

impl Tree {
    /// A tree with this at its top.
    pub fn new(
        cache: Arc<Cache>,
        client: Client,
        source: Arc<dyn Source>,
        config: TreeConfig,
        top: Top,
        runtime: Handle,
    ) -> Arc<Tree> {
        let clock = Arc::<Clock>::default();
        let root = top.root(Arc::clone(&clock));
        let clocks = top.url().and_then(Origin::of).map(|origin| (origin, clock));
        let tree = Arc::new(Tree {
            cache,
            client,
            source,
            ttl: config.ttl,
            retries: config.retries,
            patience: config.patience,
            most_names: config.most_names,
            remembered: Mutex::default(),
            nodes: Nodes::of(&root),
            gates: Mutex::default(),
            allowances: Mutex::default(),
            clocks: Mutex::new(clocks.into_iter().collect()),
            totals: Arc::default(),
            left_out: Mutex::default(),
            runtime,
            directory_walks: Mutex::default(),
            file_walks: Mutex::default(),
            files_ahead: listing::readdir_prefetch::files_ahead(config.connections),
        });
        tree.plant(&root, top);
        tree
    }

    /// The node with this number, if it was ever shown and is still there.
    pub fn node(&self, ino: Ino) -> Option<Arc<Node>> {
        self.nodes.get(ino)
    }

    /// The kernel is about to be told of a node, and knows it until it [forgets](Self::forget) it as often.
    pub fn refer(&self, node: &Arc<Node>) {
        self.nodes.refer(node);
    }

    /// The kernel has forgotten a node that it was told of so often.
    pub fn forget(&self, ino: Ino, references: u64) {
        self.nodes.forget(ino, references);
    }

    /// Has every listing asked for again when it is looked at next.
    pub fn refresh(&self) {
        for node in self.nodes.all() {
            if let Kind::Directory(directory) = &node.kind {
                directory.expire();
            }
        }
    }

    /// Looks a name up, if memory can tell.
    pub fn lookup_now(&self, parent: &Node, name: &OsStr) -> Option<Result<Arc<Node>, TreeError>> {
        let Kind::Directory(directory) = &parent.kind else {
            return Some(Err(TreeError::NotADirectory));
        };
        let snapshot = directory.fresh()?;
        match snapshot.get(name) {
            None if snapshot.has_ghost(name) => Some(Err(TreeError::NotFound)),
            None => self.unlisted_now(directory, name),
            Some(node) => (node.is_ready() && !node.is_changed()).then(|| Ok(Arc::clone(node))),
        }
    }

    /// Looks a name up, asking the origin for what is not known: the listing, or a file's size.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] only by a listing's or the origin's word.
    pub async fn lookup(self: &Arc<Self>, parent: &Arc<Node>, name: &OsStr) -> Result<Arc<Node>, TreeError> {
        let asker = self.waiting();
        let snapshot = self.list_for(parent, asker).await?;
        let Some(node) = snapshot.get(name) else {
            if snapshot.has_ghost(name) {
                return Err(TreeError::NotFound);
            }
            return self.look_up_unlisted(parent, name).await;
        };
        let mut node = Arc::clone(node);
        loop {
            if node.is_changed() {
                node = self.replace_changed(parent, name, &node);
            }
            match self.resolve_for(&node, asker).await {
                Ok(()) => return Ok(node),
                // It turned out to be a directory, which changes no more.
                Err(TreeError::Changed) if node.is_changed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes down from the top by these names, as [`Self::lookup`] does. Gives back the last name's node, and that of the
    /// directory it is in; for no names the top, which is in none.
    ///
    /// # Errors
    /// As for [`Self::lookup`].
    pub async fn find(
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

    /// The names in a directory, if memory can tell.
    pub fn list_now(&self, node: &Node) -> Option<Result<Arc<Snapshot>, TreeError>> {
        match &node.kind {
            Kind::Directory(directory) => directory.fresh().map(Ok),
            Kind::File(_) => Some(Err(TreeError::NotADirectory)),
        }
    }

    /// What `stat` shows of a node, by what is known of it now.
    pub fn attributes(&self, node: &Node) -> Attributes {
        match &node.kind {
            Kind::Directory(directory) => directory.attributes(node.ino),
            Kind::File(file) => file.attributes(node.ino),
        }
    }

    /// The servers that are down, away or overloaded at this moment.
    pub fn servers_down(&self) -> Vec<Down> {
        self.client.down()
    }

    /// Files, and bytes in them, that are known now.
    pub fn known(&self) -> (u64, u64) {
        (
            self.totals.files.load(Ordering::Relaxed),
            self.totals.bytes.load(Ordering::Relaxed),
        )
    }

    /// What the listings name and the tree does not show.
    pub fn left_out(&self) -> LeftOut {
        *self.left_out.lock()
    }

    /// Makes a node, with this number if it can have that.
    fn add(&self, parent: Ino, wanted: Ino, kind: Kind) -> Arc<Node> {
        let counted = match &kind {
            Kind::File(file) => Some(Counted::new(&self.totals, file.shown_size())),
            Kind::Directory(_) => None,
        };
        self.nodes.add(wanted, |ino| Node {
            ino,
            parent,
            kind,
            _counted: counted,
        })
    }

    /// The clock by which the server of a URL lists dates.
    fn clock(&self, url: &Url) -> Arc<Clock> {
        let Some(origin) = Origin::of(url) else {
            return Arc::default();
        };
        let mut clocks = self.clocks.lock();
        if clocks.len() >= MOST_ORIGINS && !clocks.contains_key(&origin) {
            return Arc::default();
        }
        Arc::clone(clocks.entry(origin).or_default())
    }

    /// The gate to the origin of a URL.
    fn gate(&self, url: &Url) -> Option<&'static Limiter> {
        let mut origin = Origin::of(url)?;
        let mut gates = self.gates.lock();
        // They stay for as long as the process lives.
        if gates.len() >= MOST_ORIGINS && !gates.contains_key(&origin) {
            origin = Origin::nowhere();
        }
        let gate = gates
            .entry(origin.clone())
            .or_insert_with(|| Box::leak(Box::new(Limiter::new(origin))));
        Some(gate)
    }

    /// Asks for something newer than what is known; see [`Limiter::ask`]. Offline there is nothing newer.
    async fn ask_for_newer<T: Send + 'static>(
        &self,
        url: &Url,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.gate_online(url)?.ask(&self.runtime, ask).await
    }

    /// Asks for something newer than what an earlier mount was told; see [`Limiter::ask_in_passing`].
    async fn ask_in_passing<T: Send + 'static>(
        &self,
        url: &Url,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.gate_online(url)?.ask_in_passing(&self.runtime, ask).await
    }

    fn gate_online(&self, url: &Url) -> Option<&'static Limiter> {
        if self.client.is_offline() {
            return None;
        }
        self.gate(url)
    }
}
