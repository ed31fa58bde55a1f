//! Directories: listings, and how a new one follows an old one.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use url::Url;

use super::file::RemoteFile;
use super::node::{Attributes, Ino, Kind, Node};
use super::walk::FileWalk;
use super::{Tree, TreeError};
use crate::http::redact;
use crate::source::{Entry, EntryKind, Listing, Name};

/// The bytes that `stat` shows for a directory: what local file systems show for a small one.
const SHOWN_SIZE: u64 = 4096;

/// A directory of the tree.
pub struct Directory {
    /// Where its listing is. `None` for the top of a mount of several sources, which never changes.
    pub(super) url: Option<Url>,
    /// Its date in its parent's listing.
    listed_time: Option<SystemTime>,
    state: RwLock<State>,
    /// Held by the one who asks for the listing; the others wait for the answer to the same question.
    refreshing: tokio::sync::Mutex<()>,
    /// The position after the file whose size was last asked for, for asking side by side.
    pub(super) resolved_until: AtomicUsize,
    /// Taken for the moment of a decision; nothing is taken under it.
    pub(super) file_walk: Mutex<FileWalk>,
}

#[derive(Default)]
struct State {
    snapshot: Option<Arc<Snapshot>>,
    /// When the listing was last asked for, with or without success.
    checked: Option<Instant>,
}

/// The names in a directory at one moment. An open directory keeps the one that it began with, so
/// that positions in it stay good.
pub struct Snapshot {
    children: Vec<(Name, Arc<Node>)>,
    by_name: HashMap<OsString, usize>,
    by_ino: HashMap<Ino, usize>,
    directories: u32,
    modified: Option<SystemTime>,
}

impl Snapshot {
    pub(super) fn new(children: Vec<(Name, Arc<Node>)>, modified: Option<SystemTime>) -> Snapshot {
        let by_name = children
            .iter()
            .enumerate()
            .map(|(i, (name, _))| (name.as_os_str().to_owned(), i))
            .collect();
        let by_ino = children
            .iter()
            .enumerate()
            .map(|(i, (_, node))| (node.ino, i))
            .collect();
        let directories = children.iter().filter(|(_, node)| node.is_directory()).count();
        Snapshot {
            children,
            by_name,
            by_ino,
            directories: u32::try_from(directories).unwrap_or(u32::MAX - 2),
            modified,
        }
    }

    /// The names and their nodes, in the listing's order.
    pub fn children(&self) -> &[(Name, Arc<Node>)] {
        &self.children
    }

    /// The node with this name.
    pub fn get(&self, name: &OsStr) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|&i| &self.children[i].1)
    }

    /// Where a node stands in the listing.
    pub(super) fn position(&self, ino: Ino) -> Option<usize> {
        self.by_ino.get(&ino).copied()
    }

    /// The directories after this one, or all of them.
    pub(super) fn directories_after(&self, ino: Option<Ino>) -> impl Iterator<Item = &Arc<Node>> {
        let start = ino.map_or(0, |ino| self.position(ino).map_or(usize::MAX, |at| at + 1));
        self.children
            .iter()
            .skip(start)
            .map(|(_, node)| node)
            .filter(|node| node.is_directory())
    }

    /// The position of the next file after this one.
    pub(super) fn next_file(&self, after: usize) -> Option<usize> {
        let rest = self.children.iter().enumerate().skip(after + 1);
        rest.filter(|(_, (_, node))| !node.is_directory())
            .map(|(at, _)| at)
            .next()
    }

    fn with(&self, name: &OsStr, node: Arc<Node>) -> Snapshot {
        let mut children = self.children.clone();
        if let Some(&i) = self.by_name.get(name) {
            children[i].1 = node;
        }
        Snapshot::new(children, self.modified)
    }
}

impl Directory {
    /// A directory whose names come from a listing.
    pub fn listed(url: Url, listed_time: Option<SystemTime>) -> Directory {
        Directory {
            url: Some(url),
            listed_time,
            state: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            resolved_until: AtomicUsize::new(0),
            file_walk: Mutex::default(),
        }
    }

    /// A directory whose names are given once.
    pub fn fixed() -> Directory {
        Directory {
            url: None,
            ..Directory::listed(Url::parse("http://-/").expect("a constant"), None)
        }
    }

    /// The names, if they were asked for within `ttl`.
    pub fn fresh(&self, ttl: Duration) -> Option<Arc<Snapshot>> {
        let state = self.state.read();
        let is_fresh = self.url.is_none() || state.checked.is_some_and(|checked| checked.elapsed() < ttl);
        state.snapshot.clone().filter(|_| is_fresh)
    }

    /// The names as they were last heard of, however old.
    pub fn last_known(&self) -> Option<Arc<Snapshot>> {
        self.state.read().snapshot.clone()
    }

    pub(super) fn set(&self, snapshot: Snapshot) {
        *self.state.write() = State {
            snapshot: Some(Arc::new(snapshot)),
            checked: Some(Instant::now()),
        };
    }

    /// What `stat` shows.
    pub fn attributes(&self, ino: Ino, mounted: SystemTime) -> Attributes {
        let snapshot = self.last_known();
        let modified = self
            .listed_time
            .or(snapshot.as_ref().and_then(|s| s.modified))
            .unwrap_or(mounted);
        let links = snapshot.map_or(1, |snapshot| 2 + snapshot.directories);
        Attributes {
            ino,
            is_directory: true,
            size: SHOWN_SIZE,
            is_exact: true,
            modified,
            links,
        }
    }
}

impl Tree {
    /// The names in a directory, asked for again if they are older than the tree's `ttl`. Old names
    /// are shown while the origin keeps silent.
    ///
    /// # Errors
    /// When they were never known and can't be had now, or when the origin says that the directory
    /// is gone.
    pub async fn list(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<Snapshot>, TreeError> {
        let Kind::Directory(directory) = &node.kind else {
            return Err(TreeError::NotADirectory);
        };
        if let Some(snapshot) = directory.fresh(self.ttl) {
            return Ok(snapshot);
        }
        let Some(url) = &directory.url else {
            return Err(TreeError::NotFound);
        };
        let Some(known) = directory.last_known() else {
            return self.list_again(node, directory, url).await;
        };
        let (tree, asked) = (Arc::clone(self), Arc::clone(node));
        let ask = async move {
            match &asked.kind {
                Kind::Directory(directory @ Directory { url: Some(url), .. }) => {
                    tree.list_again(&asked, directory, url).await
                }
                _ => Err(TreeError::NotADirectory),
            }
        };
        self.ask_for_newer(url, ask).await.unwrap_or(Ok(known))
    }

    /// Asks the origin for the names in a directory, unless somebody else did meanwhile.
    async fn list_again(&self, node: &Node, directory: &Directory, url: &Url) -> Result<Arc<Snapshot>, TreeError> {
        let _one_at_a_time = directory.refreshing.lock().await;
        if let Some(snapshot) = directory.fresh(self.ttl) {
            return Ok(snapshot);
        }
        let answer = self.ask(url, self.source.list(url)).await;
        match (answer.map_err(TreeError::from), directory.last_known()) {
            (Ok(listing), _) => {
                self.take_listing(node, directory, listing);
                directory.last_known().ok_or(TreeError::NotFound)
            }
            (Err(TreeError::NotFound), _) => Err(TreeError::NotFound),
            (Err(error), Some(snapshot)) => {
                log::warn!("{error}; showing the directory as it was");
                directory.state.write().checked = Some(Instant::now());
                Ok(snapshot)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Makes a listing the directory's names. Names that were there before and look the same keep
    /// their nodes.
    pub(super) fn take_listing(&self, node: &Node, directory: &Directory, listing: Listing) {
        if listing.refused > 0 {
            let url = directory.url.as_ref().map(redact).unwrap_or_default();
            log::warn!(
                "{url}: {} names are not shown, because they are no safe file names",
                listing.refused
            );
        }
        let before = directory.last_known();
        let children = listing.entries.into_iter().map(|entry| {
            let old = before.as_ref().and_then(|old| old.get(entry.name.as_os_str()));
            let child = match old {
                Some(old) if old.still_fits(&entry) => Arc::clone(old),
                _ => self.add(node.ino, new_kind(&entry)),
            };
            (entry.name, child)
        });
        directory.set(Snapshot::new(children.collect(), listing.modified));
    }

    /// Puts a new node, of the new version, in the place of one that has changed.
    pub(super) fn replace_changed(&self, parent: &Node, name: &OsStr, changed: &Node) -> Arc<Node> {
        let (Kind::Directory(directory), Kind::File(file)) = (&parent.kind, &changed.kind) else {
            // Only files change, and only directories have them.
            unreachable!("a changed node is a file in a directory")
        };
        let mut state = directory.state.write();
        let current = state
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.get(name))
            .filter(|node| !node.is_changed());
        if let Some(replaced_meanwhile) = current {
            return Arc::clone(replaced_meanwhile);
        }
        let node = self.add(parent.ino, Kind::File(file.next_version()));
        state.snapshot = state
            .snapshot
            .as_ref()
            .map(|snapshot| Arc::new(snapshot.with(name, Arc::clone(&node))));
        node
    }
}

fn new_kind(entry: &Entry) -> Kind {
    match entry.kind {
        EntryKind::Directory => Kind::Directory(Directory::listed(
            entry.url.clone(),
            entry.modified.map(|listed| listed.time),
        )),
        EntryKind::File(size) => Kind::File(RemoteFile::listed(entry.url.clone(), size, entry.modified)),
    }
}

impl Node {
    /// Whether a listing's entry can be the same thing as this node.
    fn still_fits(&self, entry: &Entry) -> bool {
        match (&self.kind, entry.kind) {
            (Kind::Directory(directory), EntryKind::Directory) => directory.url.as_ref() == Some(&entry.url),
            (Kind::File(file), EntryKind::File(size)) => {
                !file.is_changed() && file.still_fits(&entry.url, size, entry.modified)
            }
            _ => false,
        }
    }
}

/// How many files' sizes are asked for ahead of the one that was asked about.
const RESOLVE_AHEAD: usize = 64;

impl Tree {
    /// Makes sure that a file's size is known exactly; and, when a directory's files are asked
    /// about one after another (`ls -l`), asks for the next ones side by side.
    ///
    /// # Errors
    /// When the origin does not tell.
    pub async fn resolve(self: &Arc<Self>, node: &Arc<Node>) -> Result<(), TreeError> {
        if node.has_exact_size() {
            return Ok(());
        }
        self.resolve_ahead(node);
        self.resolve_one(node).await
    }

    /// Starts asking for what comes after `node` in its directory, if it is where the asking stands.
    fn resolve_ahead(self: &Arc<Self>, node: &Arc<Node>) {
        let Some(parent) = self.node(node.parent) else { return };
        let Kind::Directory(directory) = &parent.kind else {
            return;
        };
        let Some(snapshot) = directory.last_known() else { return };
        let children = snapshot.children();
        let Some(at) = snapshot.position(node.ino) else { return };
        // The last position asked for; the reader follows it at some distance.
        let asked = directory.resolved_until.load(Ordering::Relaxed);
        if at > asked || at + 2 * RESOLVE_AHEAD < asked {
            // Elsewhere: an isolated question, and perhaps the first of a row from there.
            directory.resolved_until.store(at + 1, Ordering::Relaxed);
            return;
        }
        let until = (at + 1 + RESOLVE_AHEAD).min(children.len());
        if directory.resolved_until.fetch_max(until, Ordering::Relaxed) >= until {
            return;
        }
        for (_, child) in &children[asked.max(at + 1)..until] {
            if child.has_exact_size() {
                continue;
            }
            let (tree, child) = (Arc::clone(self), Arc::clone(child));
            // Who asks about it will hear of its error; here it was only a guess.
            self.runtime.spawn(async move { tree.resolve_one(&child).await.ok() });
        }
    }
}
