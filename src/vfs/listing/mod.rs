//! Listings: how a directory's names are fetched, and how a new listing replaces an old one.
//!
//! - The first look-up in a directory uses the listing that an earlier mount stored, if there is one.
//! - A stored listing, or one older than the tree's `ttl`, is served if the origin takes too long for a new one
//!   ([`limiter`](super::request::limiter)).
//! - An entry of a new listing keeps its old node if it can be the same file or directory.

pub(super) mod kinds;
pub(super) mod lru;
pub(super) mod sizes;
pub(super) mod stored;
pub(super) mod unlisted;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Weak};
use std::time::Duration;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::listing::kinds::{correct, with_slash};
use super::nodes::directory::Fingerprint;
use super::nodes::ino;
use super::nodes::listed_names::ListedNames;
use super::nodes::node::{Directory, Kind, Node, Snapshot};
use super::request::mirror_lookup::{Answer, Authority};
use super::request::urgency::Urgency;
use super::{Tree, TreeError};
use crate::cache::{Cache, ShownFile};
use crate::http::redact;
use crate::source::{Entries, EntryKind, ListedSize, Listing, PATH_MAX, SourceError};
use crate::util::clock;
use crate::util::events;
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
    pub(crate) async fn list(self: &Arc<Self>, node: &Arc<Node>) -> Result<Arc<Snapshot>, TreeError> {
        self.list_for(node, self.requests.waiting()).await
    }

    /// [`Self::list`], with an urgency.
    pub(super) async fn list_for(
        self: &Arc<Self>,
        node: &Arc<Node>,
        urgency: Urgency,
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
            None => self.look_up_stored(node, directory, url, urgency).await?,
        };
        let Some(known) = known else {
            return self.list_again(node, directory, url, urgency).await;
        };
        if known.len() >= LARGE {
            self.list_behind(node, directory);
            return Ok(known);
        }
        let (tree, asked, urgency) = (Arc::clone(self), Arc::clone(node), urgency.with_older_answer());
        let ask = async move {
            match &asked.kind {
                Kind::Directory(directory) => {
                    let url = directory.url.as_ref().ok_or(TreeError::NotFound)?;
                    tree.list_again(&asked, directory, url, urgency).await
                }
                Kind::File(_) => Err(TreeError::NotADirectory),
            }
        };
        let is_stored = directory.state.read().is_stored;
        let answer = if is_stored {
            self.requests.ask_in_passing(url, ask).await
        } else {
            self.requests.ask_for_newer(url, ask).await
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
        urgency: Urgency,
    ) -> Result<Option<Arc<Snapshot>>, TreeError> {
        let _one_at_a_time = self.requests.in_time(url, urgency, directory.refreshing.lock()).await?;
        if std::mem::replace(&mut directory.state.write().is_searched, true) {
            return Ok(directory.last_known());
        }
        let (tree, of, wanted) = (Arc::clone(self), Arc::clone(node), url.clone());
        let kind = directory.source.kind();
        let find = move |cache: &Arc<Cache>| {
            let listing = stored::read(&wanted, kind, &cache.catalog().listing(&wanted)?)?;
            tree.take_stored_listing(&of, listing)
        };
        // If the query fails, no names count as stored.
        Ok(self.cache.blocking(find).await.ok().flatten())
    }

    /// Fetches the names in a directory, unless another request did meanwhile.
    async fn list_again(
        self: &Arc<Self>,
        node: &Arc<Node>,
        directory: &Directory,
        url: &Url,
        urgency: Urgency,
    ) -> Result<Arc<Snapshot>, TreeError> {
        // A prefetch is useless while a request for the same directory is in flight, and would delay the next one.
        let _one_at_a_time = match urgency {
            Urgency::Prefetching => directory.refreshing.try_lock().map_err(|_| TreeError::NotAsked)?,
            Urgency::Waiting(_) | Urgency::Refreshing => {
                self.requests.in_time(url, urgency, directory.refreshing.lock()).await?
            }
        };
        if let Some(snapshot) = directory.fresh() {
            return Ok(snapshot);
        }
        if matches!(urgency, Urgency::Prefetching) {
            if directory.has_failed() {
                return Err(TreeError::NotAsked);
            }
        } else if let Some(error) = directory.take_unseen_failure() {
            return Err(error);
        }
        let known = directory.last_known();
        // A mirror's answer never replaces the source's own.
        let mirrors = self.client.mirrors_of(url);
        let who = if known.is_none() || directory.state.read().is_by_mirror {
            Authority::OrElsewhere(&mirrors)
        } else {
            Authority::Source
        };
        let source = &directory.source;
        let question = |there: Option<Url>| async move { source.list(url, there.as_ref().unwrap_or(url)).await };
        let answer = self.requests.ask(url, who, urgency, question).await;
        let answer = answer.and_then(|answer| match &known {
            Some(known) if !may_become(known, &answer.value) => Err(stands_in(url)),
            _ => Ok(answer),
        });
        match (answer, known) {
            (Ok(Answer { value, is_by_mirror }), _) => {
                let (tree, of) = (Arc::clone(self), Arc::clone(node));
                // A long listing takes a while to process, and the runtime's threads have response bodies to copy.
                let taken = self
                    .cache
                    .blocking(move |_| tree.take_listing(&of, value, is_by_mirror))
                    .await?;
                taken.ok_or(TreeError::NotADirectory)
            }
            (Err(TreeError::NotFound), known) => {
                if known.is_some() {
                    log::warn!(event = events::DIRECTORY_DELETED; "{}: deleted on the server", redact(url));
                }
                directory.forget();
                directory.note_failure(unseen(urgency, &TreeError::NotFound));
                self.cache.catalog().forget_listing(url);
                Err(TreeError::NotFound)
            }
            (Err(TreeError::NotAsked), Some(snapshot)) => {
                self.cache.catalog().note_shown(url);
                Ok(snapshot)
            }
            (Err(error), Some(snapshot)) => {
                log::warn!(event = events::LISTING_STALE; "{error}; showing the cached listing");
                self.cache.catalog().note_shown(url);
                directory.set_fresh_for(self.ttl.min(PAUSE_AFTER_FAILURE));
                Ok(snapshot)
            }
            (Err(error), None) => {
                if !matches!(error, TreeError::NotAsked) {
                    directory.note_failure(unseen(urgency, &error));
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
            .retain(|entries, at| !entries.is_directory(at) || entries.url(at).path().len() <= PATH_MAX);
        let left_out = (named - listing.entries.len()) as u64;
        if left_out > 0 {
            log::warn!(
                event = events::PATH_TOO_LONG;
                "{}: {} {} not shown, because the URL's path is longer than {PATH_MAX} bytes; does the directory \
                 contain itself?",
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
        self.keep_others(directory);
        let taken = self.take_names(node, directory, listing, false);
        directory.state.write().is_by_mirror = is_by_mirror;
        // The source is asked again soon.
        let time = match &directory.url {
            _ if is_by_mirror => self.ttl.min(PAUSE_AFTER_FAILURE),
            Some(url) => directory.source.fresh_for(url, self.ttl),
            None => self.ttl,
        };
        directory.set_fresh_for(time);
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
            log::warn!(event = events::NAMES_HIDDEN; "{}: {now}", url());
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
        let Listing { entries, modified, .. } = listing;
        let is_unsized =
            |at| matches!(entries.kind(at), EntryKind::File(size) if !matches!(size, ListedSize::Exact(_)));
        directory.dates.set_mixed((0..entries.len()).any(is_unsized));
        let same = before.clone().filter(|before| before.is_same(&entries, modified));
        let snapshot = same.unwrap_or_else(|| {
            let stored = stored_before(before.as_deref(), &entries, is_stored);
            let context = directory.context(&entries);
            let snapshot = Snapshot::new(ListedNames::new(entries, context, stored, modified));
            self.take_nodes(node, before.as_deref(), &survivors, &snapshot);
            Arc::new(snapshot)
        });
        directory
            .state
            .write()
            .show(Arc::clone(&snapshot), is_stored, &self.totals);
        let leaving = self.remembered.lock().listed(node, snapshot.len(), self.most_names);
        for other in leaving {
            if let Some(other) = other.directory() {
                other.drop_names(|ino| self.nodes.table.is_known(ino));
            }
        }
        snapshot
    }

    /// Pins the nodes of new names that can't be created from the listing.
    fn take_nodes(
        &self,
        node: &Node,
        before: Option<&Snapshot>,
        survivors: &HashMap<OsString, Weak<Node>>,
        names: &Snapshot,
    ) {
        let mut shown = HashMap::new();
        if before.is_none() {
            // New entries of a listing were not shown before, or the listing now says something else of them.
            shown = self.shown_before(names);
        }
        let entries = names.listed.entries();
        let mut near = 0;
        for at in 0..names.len() {
            let old = match before {
                Some(before) => before.listed.find_near(names.name(at), near).and_then(|there| {
                    near = there + 1;
                    self.nodes.existing(node.ino, before, there)
                }),
                None => survivors.get(names.name(at)).and_then(Weak::upgrade),
            };
            let ino = names.listed.ino(at);
            match old {
                Some(old) if old.still_fits(entries, at) => {
                    if let Kind::Directory(directory) = &old.kind {
                        directory.set_listed_time(entries.modified(at));
                    }
                    if old.ino != ino || old.has_own_state() {
                        names.pin(at, old);
                    }
                }
                Some(old) => {
                    let child = self.nodes.add_listed(node.ino, &names.listed, at, None);
                    old.note_successor(&child);
                    names.pin(at, child);
                }
                None => {
                    let shown = shown.remove(&at);
                    // The kernel may reference a node of an older listing that has this number.
                    let other = self.nodes.get(ino);
                    let is_it = |other: &Arc<Node>| other.parent == node.ino && other.still_fits(entries, at);
                    if shown.is_some() || other.is_some_and(|other| !is_it(&other)) {
                        names.pin(at, self.nodes.add_listed(node.ino, &names.listed, at, shown));
                    }
                }
            }
        }
    }

    /// The nodes that earlier mounts showed for these files, by their positions. Only files whose listed size and
    /// date are the same.
    fn shown_before(&self, names: &Snapshot) -> HashMap<usize, ShownFile> {
        let entries = names.listed.entries();
        let files = || (0..entries.len()).filter(|&at| !entries.is_directory(at));
        let urls = files().map(|at| (at, entries.url(at)));
        let shown = self.cache.catalog().shown(files().count(), urls).into_iter();
        let is_same = |(at, shown): &(usize, ShownFile)| match entries.kind(*at) {
            EntryKind::File(size) => shown.listed == stored::file_text(size, entries.modified(*at)),
            EntryKind::Directory => false,
        };
        shown.filter(is_same).collect()
    }

    /// Stores a listing in the catalog, unless the stored one is the same.
    pub(super) fn keep(&self, directory: &Directory, listing: &Listing) {
        let Some(url) = &directory.url else { return };
        let catalog = self.cache.catalog();
        let Some(row) = stored::write(url, directory.source.kind(), listing) else {
            log::debug!(
                "{}: its links may contain secrets or other servers, so its listing is not saved",
                redact(url)
            );
            return catalog.forget_listing(url);
        };
        let fingerprint = Fingerprint {
            names: xxh3_64(&row.names),
            modified: row.modified,
        };
        let stored = directory.state.read().stored;
        if stored.is_some_and(|(stored, at)| stored == fingerprint && catalog.has_lately(at)) {
            return;
        }
        let now = clock::now();
        directory.state.write().stored = catalog.keep_listing(url, row).then_some((fingerprint, now));
    }

    /// Stores the listings of other directories that came with this one's.
    fn keep_others(&self, directory: &Directory) {
        let Some(url) = &directory.url else { return };
        let (source, catalog) = (&directory.source, self.cache.catalog());
        source.store_others(url, &mut |other, listing| {
            let row = stored::write(other, source.kind(), listing);
            // What may be secret is never stored, so there is nothing to do later.
            row.is_none_or(|row| catalog.keep_listing(other, row))
        });
    }

    /// Replaces a changed node by a new node for the new version.
    pub(super) fn replace_changed(&self, parent: &Node, name: &OsStr, changed: &Node) -> Arc<Node> {
        let (Kind::Directory(directory), Kind::File(file)) = (&parent.kind, &changed.kind) else {
            // Only files change, and only directories contain them.
            unreachable!("a changed node is a file in a directory")
        };
        // Locked until the end, so that the node is replaced once.
        let state = directory.state.write();
        let names = state.snapshot().cloned();
        let place = names.as_ref().and_then(|names| Some((names, names.listed.find(name)?)));
        let current = place
            .and_then(|(names, at)| names.pinned(at))
            .filter(|node| !node.is_changed() && !node.is_ghost());
        if let Some(replaced_meanwhile) = current {
            return replaced_meanwhile;
        }
        if file.is_directory() {
            let number = ino::of_directory(&with_slash(&file.url()));
            let node = self.nodes.add(parent.ino, number, self.directory_instead(file));
            if let Some((names, at)) = place {
                names.replace(at, Arc::clone(&node));
            }
            drop(state);
            if let Some(names) = names {
                self.keep_corrected(directory, &names);
            }
            return node;
        }
        let next = file.next_version();
        let number = match next.version() {
            Some(version) => ino::of_file(&file.url(), Some(&version)),
            None => ino::of_successor(&file.url(), changed.ino),
        };
        let node = self.nodes.add(parent.ino, number, Kind::File(next));
        if let Some((names, at)) = place {
            names.replace(at, Arc::clone(&node));
        }
        node
    }
}

/// Which entries come from an earlier mount's listing: all, if the listing does; otherwise those that are unchanged
/// since.
fn stored_before(before: Option<&Snapshot>, entries: &Entries, is_stored: bool) -> Option<Box<[bool]>> {
    if is_stored {
        return Some(vec![true; entries.len()].into());
    }
    let before = before.filter(|before| before.listed.has_stored())?;
    let mut near = 0;
    let is_stored = |at| {
        let there = before.listed.find_near(entries.name(at), near);
        let there = there.inspect(|there| near = there + 1);
        there.is_some_and(|there| {
            before.listed.is_stored(there) && before.listed.entries().is_same_at(there, entries, at)
        })
    };
    Some((0..entries.len()).map(is_stored).collect())
}

/// The error for an answer that is a web page for people instead of a listing.
fn stands_in(url: &Url) -> TreeError {
    let why = "it does not look like an index page, and all earlier names are missing; is a login needed?";
    TreeError::Source(SourceError::not_a_listing(url, why))
}

/// Whether a listing may be the successor of these names: see [`Listing::may_follow`].
fn may_become(names: &Snapshot, listing: &Listing) -> bool {
    names.len() == 0 || listing.may_follow(|name| names.listed.find(name).is_some())
}

/// The error of a fetch that the next look-up reports: a refusal that a prefetch received and the server would repeat.
fn unseen(urgency: Urgency, error: &TreeError) -> Option<TreeError> {
    let is_lasting = match error {
        TreeError::NotFound => true,
        TreeError::Source(error) => !error.is_temporary(),
        _ => false,
    };
    (urgency.is_prefetch() && is_lasting).then(|| error.clone())
}
