//! Listings: how a directory's names are fetched, and how a new listing replaces an old one.
//!
//! - The first look-up in a directory uses the listing that an earlier mount stored, if there is one.
//! - A stored listing, or one older than the tree's `ttl`, is served if the origin takes too long for a new one
//!   ([`limiter`](super::request::limiter)).
//! - An entry of a new listing keeps its old node if it can be the same file or directory.

pub(super) mod dates;
pub(super) mod directory;
pub(super) mod kinds;
pub(super) mod lru;
pub(super) mod readdir_prefetch;
pub(super) mod sizes;
pub(super) mod snapshot;
pub(super) mod stored;
pub(super) mod unlisted;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{RemoteFile, version_text};
use super::listing::dates::Dates;
use super::listing::directory::{Directory, Kept};
use super::listing::kinds::{correct, with_slash};
use super::listing::snapshot::Snapshot;
use super::node::{Ino, Kind, Node};
use super::nodes::{directory_number, number};
use super::request::Urgency;
use super::request::mirror_lookup::{Answered, Authority};
use super::{Tree, TreeError};
use crate::cache::{Cache, ShownFile};
use crate::http::{HttpError, HttpErrorKind, redact};
use crate::source::{Entry, EntryKind, ListedSize, ListedTime, Listing, PATH_MAX};
use crate::util::clock;
use crate::util::plural::{count, verb};

/// How long a listing is not fetched again after a failure, unless [`Tree::ttl`] is shorter. After an outage the
/// origin's names should count again soon.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// From this many names a listing takes seconds to fetch and parse. Then look-ups use the known names, and the
/// listing is fetched in the background. (With 1,000,000 names each look-up after the `ttl` took 2 s, and the limiter
/// took the server for silent.)
const LARGE: usize = 50_000;

impl Tree {
    /// The names in a directory. They are fetched again if they are older than the tree's `ttl`; old names are served
    /// while the origin is silent.
    ///
    /// # Errors
    /// If the names were never known and can't be fetched, or if the origin says that the directory is gone.
    pub async fn list(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<Snapshot>, TreeError> {
        self.list_for(node, self.waiting()).await
    }

    /// [`Self::list`], with an urgency.
    pub(super) async fn list_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        asker: Urgency,
    ) -> Result<Arc<Snapshot>, TreeError> {
        let Kind::Directory(directory) = &node.kind else {
            return Err(TreeError::NotADirectory);
        };
        if let Some(snapshot) = directory.fresh() {
            return Ok(snapshot);
        }
        let Some(url) = &directory.url else {
            return Err(TreeError::NotFound);
        };
        let known = match directory.last_known() {
            Some(known) => Some(known),
            None => self.look_up_stored(node, directory, url, asker).await?,
        };
        let Some(known) = known else {
            return self.list_again(node, directory, url, asker).await;
        };
        if known.children().len() >= LARGE {
            self.list_behind(node, directory);
            return Ok(known);
        }
        let (tree, asked, asker) = (Arc::clone(self), Arc::clone(node), asker.who_knows_something());
        let ask = async move {
            match &asked.kind {
                Kind::Directory(directory) => {
                    let url = directory.url.as_ref().ok_or(TreeError::NotFound)?;
                    tree.list_again(&asked, directory, url, asker).await
                }
                Kind::File(_) => Err(TreeError::NotADirectory),
            }
        };
        let is_stored = directory.state.read().is_stored;
        let answer = if is_stored {
            self.ask_in_passing(url, ask).await
        } else {
            self.ask_for_newer(url, ask).await
        };
        answer.unwrap_or(Ok(known))
    }

    /// Fetches a listing in the background, unless a request for it is in flight.
    fn list_behind(self: &Arc<Self>, node: &Arc<Node>, directory: &Directory) {
        let url = directory.url.as_ref();
        let Some(url) = url.filter(|_| !self.client.is_offline() && directory.refreshing.try_lock().is_ok()) else {
            return;
        };
        let (tree, node, url) = (Arc::clone(self), Arc::clone(node), url.clone());
        self.runtime.spawn(async move {
            if let Kind::Directory(directory) = &node.kind {
                // The next look-up reports an error.
                tree.list_again(&node, directory, &url, Urgency::Refreshing).await.ok();
            }
        });
    }

    /// The names that an earlier mount stored, at the first look-up.
    async fn look_up_stored(
        self: &Arc<Self>,
        node: &Arc<Node>,
        directory: &Directory,
        url: &Url,
        asker: Urgency,
    ) -> Result<Option<Arc<Snapshot>>, TreeError> {
        let _one_at_a_time = self.in_time(url, asker, directory.refreshing.lock()).await?;
        if std::mem::replace(&mut directory.state.write().is_searched, true) {
            return Ok(directory.last_known());
        }
        let (tree, of, wanted) = (Arc::clone(self), Arc::clone(node), url.clone());
        let find = move |cache: &Cache| {
            let listing = stored::read(&wanted, &cache.catalogue().listing(&wanted)?)?;
            tree.take_stored_listing(&of, listing)
        };
        // If the query fails, no names count as stored.
        Ok(self.with_cache(find).await.ok().flatten())
    }

    /// Fetches the names in a directory, unless another request did meanwhile.
    async fn list_again(
        self: &Arc<Self>,
        node: &Arc<Node>,
        directory: &Directory,
        url: &Url,
        asker: Urgency,
    ) -> Result<Arc<Snapshot>, TreeError> {
        // A prefetch is useless while a request for the same directory is in flight, and would delay the next one.
        let _one_at_a_time = match asker {
            Urgency::Guessing => directory.refreshing.try_lock().map_err(|_| TreeError::NotAsked)?,
            Urgency::Waiting(_) | Urgency::Refreshing => self.in_time(url, asker, directory.refreshing.lock()).await?,
        };
        if let Some(snapshot) = directory.fresh() {
            return Ok(snapshot);
        }
        if matches!(asker, Urgency::Guessing) {
            if directory.has_failed() {
                return Err(TreeError::NotAsked);
            }
        } else if let Some(error) = directory.take_unseen_failure() {
            return Err(error);
        }
        let known = directory.last_known();
        // A mirror's answer never replaces the source's own.
        let who = if known.is_none() || directory.state.read().is_by_mirror {
            Authority::Anybody
        } else {
            Authority::Source
        };
        let question = |there: Option<Url>| async move { self.source.list(url, there.as_ref().unwrap_or(url)).await };
        let answer = self.ask(url, who, asker, question).await;
        let answer = answer.and_then(|told| match &known {
            Some(known) if !known.may_become(&told.answer) => Err(stands_in(url)),
            _ => Ok(told),
        });
        match (answer, known) {
            (Ok(Answered { answer, is_by_mirror }), _) => {
                let (tree, of) = (Arc::clone(self), Arc::clone(node));
                // A long listing takes a while to process, and the runtime's threads have response bodies to copy.
                let taken = self
                    .with_cache(move |_| tree.take_listing(&of, answer, is_by_mirror))
                    .await?;
                taken.ok_or(TreeError::NotADirectory)
            }
            (Err(TreeError::NotFound), known) => {
                if known.is_some() {
                    log::warn!("{}: the server says that it is gone", redact(url));
                }
                directory.forget();
                directory.note_failure(asker, &TreeError::NotFound);
                self.cache.catalogue().forget_listing(url);
                Err(TreeError::NotFound)
            }
            (Err(TreeError::NotAsked), Some(snapshot)) => {
                self.cache.catalogue().note_shown(url);
                Ok(snapshot)
            }
            (Err(error), Some(snapshot)) => {
                log::warn!("{error}; showing the directory as it was");
                self.cache.catalogue().note_shown(url);
                directory.believe_for(self.ttl.min(PAUSE_AFTER_FAILURE));
                Ok(snapshot)
            }
            (Err(error), None) => {
                if !matches!(error, TreeError::NotAsked) {
                    directory.note_failure(asker, &error);
                }
                Err(error)
            }
        }
    }

    /// Makes a listing from the origin or a mirror the directory's names, and stores it. `None` if the node is no
    /// directory.
    pub(super) fn take_listing(
        &self,
        node: &Arc<Node>,
        mut listing: Listing,
        is_by_mirror: bool,
    ) -> Option<Arc<Snapshot>> {
        let Kind::Directory(directory) = &node.kind else {
            return None;
        };
        let url = || {
            directory
                .url
                .as_ref()
                .map(|url| redact(url).to_string())
                .unwrap_or_default()
        };
        let named = listing.entries.len();
        // A directory that contains itself must end at some depth, or `find` would never end.
        listing
            .entries
            .retain(|entry| entry.kind != EntryKind::Directory || entry.url.path().len() <= PATH_MAX);
        let left_out = (named - listing.entries.len()) as u64;
        if left_out > 0 {
            log::warn!(
                "{}: {} {} not shown, because a URL's path is longer than {PATH_MAX} bytes; does it contain itself?",
                url(),
                count(left_out, "directory"),
                verb(left_out, "is", "are")
            );
        }
        self.note_left_out(directory, &listing, url);
        if let Some(before) = directory.last_known() {
            correct(&before, &mut listing);
        }
        self.keep(directory, &listing);
        let taken = self.take_names(node, directory, listing, false);
        directory.state.write().is_by_mirror = is_by_mirror;
        // The source is asked again soon.
        let time = if is_by_mirror {
            self.ttl.min(PAUSE_AFTER_FAILURE)
        } else {
            self.ttl
        };
        directory.believe_for(time);
        Some(taken)
    }

    /// Logs once what a listing leaves out, and counts it.
    fn note_left_out(&self, directory: &Directory, listing: &Listing, url: impl Fn() -> String) {
        let now = listing.left_out;
        let before = std::mem::replace(&mut directory.state.write().left_out, now);
        if now == before {
            return;
        }
        self.left_out.lock().change(before, now);
        if !now.is_nothing() {
            log::warn!("{}: {now}", url());
        }
    }

    /// Makes a stored listing the directory's names until the origin gives newer ones. `None` if the node is no
    /// directory.
    pub(super) fn take_stored_listing(&self, node: &Arc<Node>, listing: Listing) -> Option<Arc<Snapshot>> {
        match &node.kind {
            Kind::Directory(directory) => Some(self.take_names(node, directory, listing, true)),
            Kind::File(_) => None,
        }
    }

    /// Replaces the names. Entries that look the same keep their nodes. If the tree then holds too many names, other
    /// directories drop theirs.
    fn take_names(&self, node: &Arc<Node>, directory: &Directory, listing: Listing, is_stored: bool) -> Arc<Snapshot> {
        let before = directory.last_known();
        let survivors = std::mem::take(&mut directory.state.write().survivors);
        let is_unsized =
            |entry: &Entry| matches!(entry.kind, EntryKind::File(size) if !matches!(size, ListedSize::Exact(_)));
        directory.dates.set_mixed(listing.entries.iter().any(is_unsized));
        let mut shown = if before.is_none() {
            self.shown_before(&listing)
        } else {
            // New entries of a listing were not shown before, or the listing now says something else of them.
            HashMap::new()
        };
        let children = listing.entries.into_iter().enumerate().map(|(at, entry)| {
            let name = entry.name.as_os_str();
            let old = match &before {
                Some(before) => before.listed(name).cloned(),
                None => survivors.get(name).and_then(Weak::upgrade),
            };
            let child = match old {
                Some(old) if old.still_fits(&entry) => {
                    if let Kind::Directory(directory) = &old.kind {
                        directory.set_listed_time(entry.modified);
                    }
                    old
                }
                old => {
                    let child = self.add_listed(node.ino, directory, &entry, is_stored, shown.remove(&at));
                    if let Some(Kind::File(file)) = old.as_ref().map(|old| &old.kind) {
                        file.note_successor(&child);
                    }
                    child
                }
            };
            (entry.name, child)
        });
        let snapshot = Arc::new(Snapshot::new(children.collect(), listing.modified));
        {
            let mut state = directory.state.write();
            (state.snapshot, state.is_stored, state.failed) = (Some(Arc::clone(&snapshot)), is_stored, None);
        }
        let names = snapshot.children().len();
        let leaving = self.remembered.lock().listed(node, names, self.most_names);
        for other in leaving {
            if let Kind::Directory(other) = &other.kind {
                other.let_go(|ino| self.nodes.is_known(ino));
            }
        }
        snapshot
    }

    /// The nodes that earlier mounts showed for files of this listing, by their positions. Only files whose listed
    /// size and date are the same.
    fn shown_before(&self, listing: &Listing) -> HashMap<usize, ShownFile> {
        let files = listing.entries.iter().enumerate();
        let files: Vec<_> = files
            .filter_map(|(at, entry)| match entry.kind {
                EntryKind::File(size) => Some((at, entry, size)),
                EntryKind::Directory => None,
            })
            .collect();
        let urls: Vec<_> = files.iter().map(|(_, entry, _)| &entry.url).collect();
        let shown = self.cache.catalogue().shown(&urls);
        let same = files.into_iter().zip(shown).filter_map(|((at, entry, size), shown)| {
            let shown = shown?;
            (shown.listed == stored::file_text(size, entry.modified)).then_some((at, shown))
        });
        same.collect()
    }

    fn add_listed(
        &self,
        parent: Ino,
        directory: &Directory,
        entry: &Entry,
        is_stored: bool,
        shown: Option<ShownFile>,
    ) -> Arc<Node> {
        let url = entry.url.clone();
        match entry.kind {
            EntryKind::Directory => {
                let number = directory_number(&url);
                self.add(
                    parent,
                    number,
                    Kind::Directory(Box::new(self.listed_directory(url, entry.modified))),
                )
            }
            EntryKind::File(size) => {
                let number = number(&[url.as_str(), &stored::file_text(size, entry.modified)]);
                let mut file = RemoteFile::listed(url, size, entry.modified, Arc::clone(&directory.dates));
                file.is_stored = is_stored;
                match shown {
                    Some(shown) => self.add(parent, shown.ino, Kind::File(file.shown_before(shown.file))),
                    None => self.add(parent, number, Kind::File(file)),
                }
            }
        }
    }

    /// A directory whose names come from a listing.
    pub(super) fn listed_directory(&self, url: Url, listed_time: Option<ListedTime>) -> Directory {
        let dates = Dates::by(self.clock(&url));
        Directory::listed(url, listed_time, dates)
    }

    /// Stores a listing in the catalog, unless the stored one is the same.
    pub(super) fn keep(&self, directory: &Directory, listing: &Listing) {
        let Some(url) = &directory.url else { return };
        let catalogue = self.cache.catalogue();
        let Some(row) = stored::write(url, listing) else {
            log::debug!(
                "{}: its links may hold secrets or lead to other servers, so its listing is not kept",
                redact(url)
            );
            return catalogue.forget_listing(url);
        };
        let kept = Kept {
            names: xxh3_64(&row.names),
            modified: row.modified,
            at: clock::now(),
        };
        let is_there = |before: &Kept| before.says_the_same(&kept) && catalogue.has_lately(before.at);
        if directory.state.read().kept.as_ref().is_some_and(is_there) {
            return;
        }
        directory.state.write().kept = catalogue.keep_listing(url, row).then_some(kept);
    }

    /// Replaces a changed node by a new node for the new version.
    pub(super) fn replace_changed(&self, parent: &Node, name: &OsStr, changed: &Node) -> Arc<Node> {
        let (Kind::Directory(directory), Kind::File(file)) = (&parent.kind, &changed.kind) else {
            // Only files change, and only directories contain them.
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
        if file.is_directory() {
            let instead = Kind::Directory(Box::new(self.directory_instead(file)));
            let number = directory_number(&with_slash(&file.url));
            let node = self.add(parent.ino, number, instead);
            let names = state
                .snapshot
                .as_ref()
                .map(|snapshot| Arc::new(snapshot.with(name, Arc::clone(&node))));
            state.snapshot = names.clone();
            drop(state);
            if let Some(names) = names {
                self.keep_corrected(directory, &names);
            }
            return node;
        }
        let next = file.next_version();
        // For an unknown version, the number follows from the node that it replaces.
        let version = next
            .version()
            .map_or_else(|| changed.ino.to_string(), |version| version_text(&version));
        let number = number(&[file.url.as_str(), &version]);
        let node = self.add(parent.ino, number, Kind::File(next));
        state.snapshot = state
            .snapshot
            .as_ref()
            .map(|snapshot| Arc::new(snapshot.with(name, Arc::clone(&node))));
        node
    }
}

/// The error for an answer that is a web page for people instead of a listing.
fn stands_in(url: &Url) -> TreeError {
    TreeError::Http(HttpError {
        kind: HttpErrorKind::BadAnswer(
            "nothing says that it is an index page, and none of the names is there that were; is a login needed?"
                .to_owned(),
        ),
        url: redact(url),
    })
}

impl Node {
    /// Whether a listing's entry can be the same file or directory as this node.
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
