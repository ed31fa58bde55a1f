//! The directory tree of one mount: what `fuse` and `control` call.
//!
//! It is put together here, and each call goes to the part that answers it. Methods whose name ends in `_now` answer
//! from memory and never wait. The others may ask the origin.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use url::Url;

use super::error::TreeError;
use super::file::files::Files;
use super::file::resolver::{DateHold, Resolver};
use super::file::revalidator::Revalidator;
use super::listing::listing_cache::ListingCache;
use super::listing::listings::Listings;
use super::listing::name_first::{First, NameFirst};
use super::listing::unlisted::UnlistedNames;
use super::nodes::changes::Changes;
use super::nodes::dates::{Clock, Clocks};
use super::nodes::ino::{Ino, NOWHERE, ROOT};
use super::nodes::node::{Directory, DirectoryNames, Node, Snapshot};
use super::nodes::remote_file::RemoteFile;
use super::nodes::store::NodeStore;
use super::prefetch::readdir_prefetch::ReaddirPrefetch;
use super::request::requests::Requests;
use super::root::root_builder::{RootBuilder, root_node};
use super::root::top::Top;
use super::shared::{AttributesChanged, Shared};
use crate::cache::{Cache, CacheEntry};
use crate::origin::{Client, DownOrigin};
use crate::source::{LeftOut, Quota, Sources};
use crate::util::shared_duration::SharedDuration;

/// Settings of a [`Tree`].
#[derive(Debug, Clone)]
pub(crate) struct TreeConfig {
    /// How long a listing or a file's version counts as fresh. Default: 10 s.
    pub ttl: SharedDuration,
    /// Retries of a request that fails while the origin answers others. Default: 3.
    pub retries: u32,
    /// Maximum time that a caller waits for an answer, all attempts together. Default: 2 min.
    pub patience: Duration,
    /// Most names held in memory over all directories. A single directory may have more. Default: 5,000,000.
    pub most_names: usize,
}

/// The directory tree of one mount.
pub(crate) struct Tree {
    shared: Arc<Shared>,
    sources: Arc<Sources>,
    listing_cache: Arc<ListingCache>,
    listings: Arc<Listings>,
    unlisted: Arc<UnlistedNames>,
    name_first: NameFirst,
    files: Arc<Files>,
    resolver: Resolver,
    prefetch: Arc<ReaddirPrefetch>,
}

impl Tree {
    /// Builds a tree whose root holds `top`.
    pub(crate) fn new(
        cache: Arc<Cache>,
        client: Client,
        sources: Arc<Sources>,
        config: TreeConfig,
        top: Top,
        runtime: Handle,
        attributes_changed: AttributesChanged,
    ) -> Arc<Tree> {
        let TreeConfig {
            ttl,
            retries,
            patience,
            most_names,
        } = config;
        let clocks = Clocks::new(|_| Clock::default());
        let root = root_node(&top, &clocks);
        let shared = Arc::new(Shared {
            requests: Requests::new(client.clone(), Arc::clone(&cache), retries, patience, runtime.clone()),
            cache,
            client,
            nodes: NodeStore::of(&root, clocks),
            ttl,
            attributes_changed,
            runtime,
        });
        let listing_cache = Arc::new(ListingCache::new(Arc::clone(&shared), most_names));
        let listings = Arc::new(Listings::new(Arc::clone(&shared), Arc::clone(&listing_cache)));
        let revalidator = Arc::new(Revalidator {
            shared: Arc::clone(&shared),
        });
        let builder = RootBuilder {
            shared: &shared,
            revalidator: &revalidator,
            listing_cache: &listing_cache,
            listings: &listings,
        };
        builder.fill(&root, top);
        let files = Arc::new(Files {
            shared: Arc::clone(&shared),
            revalidator,
        });
        let prefetch = ReaddirPrefetch::new(Arc::clone(&shared), Arc::clone(&listings), Arc::clone(&files));
        let unlisted = Arc::new(UnlistedNames::new(Arc::clone(&shared)));
        Arc::new(Tree {
            sources,
            name_first: NameFirst {
                shared: Arc::clone(&shared),
                listings: Arc::clone(&listings),
                unlisted: Arc::clone(&unlisted),
            },
            unlisted,
            resolver: Resolver {
                shared: Arc::clone(&shared),
                files: Arc::clone(&files),
            },
            prefetch: Arc::new(prefetch),
            shared,
            listing_cache,
            listings,
            files,
        })
    }

    /// The node with this inode number, if a reply has named it and it still exists.
    pub(crate) fn node(&self, ino: Ino) -> Option<Arc<Node>> {
        self.shared.nodes.get(ino)
    }

    /// The path of a node below the mountpoint, by the listings in memory. `None` if they do not have it (any more).
    pub(crate) fn path_of(&self, ino: Ino) -> Option<PathBuf> {
        let (mut names, mut at) = (Vec::new(), ino);
        while at != ROOT {
            let parent = self.node(at)?.parent();
            let listed = self.node(parent)?.last_known()?;
            names.push(listed.name(listed.position(at)?).to_owned());
            at = parent;
        }
        Some(names.iter().rev().collect())
    }

    /// Counts one kernel reference to a node. Call it before each reply that names the node; [`forget`](Self::forget)
    /// releases the references.
    pub(crate) fn refer(&self, node: &Arc<Node>) {
        self.shared.nodes.table.refer(node);
    }

    /// Releases `references` kernel references of a node (FORGET).
    pub(crate) fn forget(&self, ino: Ino, references: u64) {
        // Dropped after the lock: this may be the last reference to a directory with many names.
        drop(self.shared.nodes.table.forget(ino, references));
    }

    /// The directories that the kernel or this process refers to, by their URLs.
    pub(crate) fn directories(&self, is_wanted: impl Fn(&Url) -> bool) -> Vec<Arc<Node>> {
        let mut nodes = self.shared.nodes.table.all();
        nodes.retain(|node| node.is_directory() && node.url().is_some_and(|url| is_wanted(&url)));
        nodes
    }

    /// Marks every listing as stale, so that the next look-up fetches it again.
    pub(crate) fn refresh(&self) {
        self.sources.expire();
        for node in self.shared.nodes.table.all() {
            if let Some(directory) = node.directory() {
                directory.expire();
            }
        }
    }

    /// No document counts as fresh any more: the next listing of a directory in it asks for it again.
    pub(crate) fn expire_documents(&self) {
        self.sources.expire();
    }

    /// Asks the origin now what is in a directory, or which version a file has. Returns what has changed. A failure is
    /// not retried. A directory without a URL has what the user named, which does not change.
    ///
    /// # Errors
    /// If the origin gives no answer, or the directory is gone. What is known stays then.
    pub(crate) async fn refresh_now(&self, node: &Arc<Node>) -> Result<Changes, TreeError> {
        match node.directory() {
            None => self.files.refresh(node).await,
            Some(directory) if directory.url.is_none() => Ok(Changes::default()),
            Some(_) => self.listings.refresh(node).await,
        }
    }

    /// What is known below a directory: its sub-directories whose names are in memory. Of a directory without a URL, all
    /// that is in it.
    pub(crate) fn known_below(&self, node: &Node) -> Vec<(OsString, Arc<Node>)> {
        let Some(names) = node.last_known() else {
            return Vec::new();
        };
        let is_fixed = node.url().is_none();
        let is_known = |node: &Arc<Node>| is_fixed || node.directory().is_some_and(Directory::is_listed);
        let pinned = names.all_pinned().into_iter().filter(|(_, node)| is_known(node));
        pinned.map(|(at, node)| (names.name(at).to_owned(), node)).collect()
    }

    /// Most connections to one origin.
    pub(crate) fn max_connections(&self) -> usize {
        self.shared.client.max_connections()
    }

    /// Returns true if the network must not be used.
    pub(crate) fn is_offline(&self) -> bool {
        self.shared.client.is_offline()
    }

    /// Lets listings and attributes count as fresh for this time from now on. What is known counts as stale.
    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.shared.ttl.set(ttl);
        self.refresh();
    }

    /// Looks a name up in memory. `None` if the origin has to be asked.
    pub(crate) fn lookup_now(&self, parent: &Node, name: &OsStr) -> Option<Result<Arc<Node>, TreeError>> {
        let Some(directory) = parent.directory() else {
            return Some(Err(TreeError::NotADirectory));
        };
        let Some(names) = directory.fresh() else {
            let node = self.child_early(parent, name)?;
            return (node.is_ready() && !node.is_changed()).then_some(Ok(node));
        };
        let Some(at) = names.listed.find(name) else {
            return self.unlisted.look_up_now(directory, name);
        };
        if names.is_ghost(at) {
            return Some(Err(TreeError::NotFound));
        }
        let node = self.child(parent, &names, at);
        (node.is_ready() && !node.is_changed()).then_some(Ok(node))
    }

    /// Looks a name up. Asks the origin for the listing or a file's size where they are unknown or stale.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] only if a listing lacks the name or the origin says so.
    pub(crate) async fn lookup(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Arc<Node>, TreeError> {
        let urgency = self.shared.requests.waiting();
        let mut node = match self.child_early(parent, name) {
            Some(node) => node,
            None => {
                let names = match self.name_first.seek(parent, name, urgency).await? {
                    First::Names(names) => names,
                    First::Node(node) => return Ok(node),
                };
                let Some(at) = names.listed.find(name) else {
                    return self.unlisted.look_up(parent, name).await;
                };
                if names.is_ghost(at) {
                    return Err(TreeError::NotFound);
                }
                self.child(parent, &names, at)
            }
        };
        loop {
            if node.is_changed() {
                node = self.listing_cache.replace_changed(parent, name, &node);
            }
            match self.resolver.resolve(&node, urgency).await {
                Ok(()) => return Ok(node),
                // The file turned out to be a directory, which can't change any more.
                Err(TreeError::Changed) if node.is_changed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The node of a name that the listing which is being received has shown.
    fn child_early(&self, parent: &Node, name: &OsStr) -> Option<Arc<Node>> {
        let (names, at) = parent.directory()?.incoming.current()?.find(name)?;
        Some(self.child(parent, &names, at))
    }

    /// How long the kernel may keep that a look-up in this directory has found nothing.
    pub(crate) fn absent_for(&self, directory: &Node) -> Duration {
        directory.directory().map_or(Duration::ZERO, Directory::absent_for)
    }

    /// Resolves a path from the root, one [`Self::lookup`] a name. Returns the last name's node and its parent
    /// directory. For an empty path it returns `None` and the root.
    ///
    /// # Errors
    /// As for [`Self::lookup`].
    pub(crate) async fn find(
        &self,
        names: impl Iterator<Item = &OsStr>,
    ) -> Result<(Option<Arc<Node>>, Arc<Node>), TreeError> {
        let (mut parent, mut node) = (None, self.node(ROOT).ok_or(TreeError::NotFound)?);
        for name in names {
            let child = self.lookup(&node, name).await?;
            parent = Some(std::mem::replace(&mut node, child));
        }
        Ok((parent, node))
    }

    /// The names in a directory. They are fetched again if they are older than the `ttl`; old names are served while the
    /// origin is silent.
    ///
    /// # Errors
    /// If the names were never known and can't be fetched, or if the origin says that the directory is gone.
    pub(crate) async fn list(&self, node: &Arc<Node>) -> Result<Arc<Snapshot>, TreeError> {
        self.listings.list(node, self.shared.requests.waiting()).await
    }

    /// The names in a directory for a program that reads them one after the other, as [`Self::list`] gives them. While a long
    /// listing is received for the first time, those that have come.
    ///
    /// # Errors
    /// As for [`Self::list`], if the listing fails before it has names.
    pub(crate) async fn open_directory(&self, node: &Arc<Node>) -> Result<DirectoryNames, TreeError> {
        self.listings.open(node, self.shared.requests.waiting()).await
    }

    /// The node at this position of a directory's names.
    pub(crate) fn child(&self, parent: &Node, names: &Snapshot, at: usize) -> Arc<Node> {
        self.shared.nodes.child(parent, names, at)
    }

    /// Makes a file's size exact, if the server gives it. If a program asks for one file after another (`ls -l`), the
    /// next ones are requested in parallel.
    ///
    /// # Errors
    /// If the origin does not answer or refuses.
    pub(crate) async fn resolve(&self, node: &Arc<Node>) -> Result<(), TreeError> {
        self.resolver.resolve(node, self.shared.requests.waiting()).await
    }

    /// The entry to open, from memory. `None` if the origin or the index has to be asked.
    pub(crate) fn open_now(&self, node: &Node) -> Option<Result<Arc<CacheEntry>, TreeError>> {
        self.files.open_now(node)
    }

    /// The cache entry of a file's current version.
    ///
    /// # Errors
    /// [`TreeError::Changed`] if the node is of an outdated version.
    pub(crate) async fn open(&self, node: &Arc<Node>) -> Result<Arc<CacheEntry>, TreeError> {
        self.files.open(node, self.shared.requests.waiting()).await
    }

    /// The entry of what the cache has of a file: the open one, or that of the newest version. `None` if it has nothing.
    /// No server is asked. Blocks for a query and some system calls.
    pub(crate) fn cached_entry(&self, node: &Node) -> Option<Arc<CacheEntry>> {
        self.files.cached_entry(node.file()?)
    }

    /// The name of the kind of source that a node is of.
    pub(crate) fn kind_of(&self, node: &Node) -> Option<&'static str> {
        let parent = (!node.is_directory()).then(|| self.node(node.parent())).flatten();
        let directory = node.directory().or_else(|| parent.as_ref()?.directory())?;
        Some(directory.source.kind())
    }

    /// Opens a file by its URL, wherever it is, as [`Self::open`] does; its version is known then. No directory shows
    /// it.
    ///
    /// # Errors
    /// [`TreeError::IsADirectory`] when the origin says so; else as for [`Self::open`].
    pub(crate) async fn open_url(&self, url: &Url) -> Result<Arc<CacheEntry>, TreeError> {
        let file = RemoteFile::known(
            url,
            NOWHERE,
            None,
            self.shared.nodes.dates(url),
            self.sources.of_file(url),
        );
        let node = Arc::new(Node::unlisted(file));
        match self.open(&node).await {
            Err(TreeError::Changed) if node.file().is_some_and(RemoteFile::is_directory) => {
                Err(TreeError::IsADirectory)
            }
            opened => opened,
        }
    }

    /// Notes a file's dates. Returns the inode numbers whose attributes the kernel may have cached with other dates.
    pub(crate) fn note_dates(&self, node: &Arc<Node>) -> Vec<Ino> {
        self.resolver.note_dates(node)
    }

    /// Keeps a file's date unchanged for an open handle, until the guard is dropped.
    pub(crate) fn hold_date(&self, ino: Ino) -> Option<DateHold> {
        DateHold::new(self.node(ino)?)
    }

    /// Notes that a program opens a directory. Starts prefetches of the listings that a walk needs next.
    pub(crate) fn note_directory_opened(&self, node: &Arc<Node>) {
        self.prefetch.note_directory_opened(node);
    }

    /// Notes that a program opens a file. Starts prefetches of the small files that a walk opens next. Returns the
    /// prefetched entry of this file, to be held until the file is open.
    pub(crate) fn note_file_opened(&self, node: &Arc<Node>) -> Option<Arc<CacheEntry>> {
        self.prefetch.note_file_opened(node)
    }

    /// The origins that are down, unreachable or overloaded now.
    pub(crate) fn servers_down(&self) -> Vec<DownOrigin> {
        self.shared.client.down()
    }

    /// Number of files known now, and the sum of their sizes in bytes.
    pub(crate) fn known(&self) -> (u64, u64) {
        self.listing_cache.totals().get()
    }

    /// How much room there is at the source, if it says so.
    pub(crate) fn quota(&self) -> Option<Quota> {
        self.sources.quota()
    }

    /// What the listings name and the tree does not show.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.listing_cache.left_out()
    }
}
