//! The names that a mount's directories show, in memory and in the index, and how a new listing replaces an old one.
//!
//! - An entry of a new listing keeps its old node if it can be the same file or directory.
//! - A file with another version gets a new node with a new number.
//! - With too many names in memory, the least recently listed directories drop theirs ([`lru`](super::lru)).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::kinds::{correct, corrected, with_slash};
use super::lru::ListingLru;
use super::stored;
use crate::cache::ShownFile;
use crate::http::redact;
use crate::source::{Entries, EntryKind, LeftOut, ListedSize, Listing, PATH_MAX};
use crate::util::clock;
use crate::util::events;
use crate::util::plural::{count, verb};
use crate::vfs::nodes::directory::{CachedLookup, Fingerprint};
use crate::vfs::nodes::file_text::FileText;
use crate::vfs::nodes::ino;
use crate::vfs::nodes::listed_names::ListedNames;
use crate::vfs::nodes::node::{Directory, Kind, Node, Snapshot};
use crate::vfs::nodes::totals::Totals;
use crate::vfs::shared::Shared;

/// How long a listing is not fetched again after a failure, unless [`Shared::ttl`] is shorter. After an outage the
/// origin's names should count again soon.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// The listings of a mount.
pub(in crate::vfs) struct ListingCache {
    shared: Arc<Shared>,
    /// Most names in memory.
    most_names: usize,
    /// Locked for the moment of a decision.
    lru: Mutex<ListingLru>,
    totals: Arc<Totals>,
    /// Sum of what the current listings of all directories leave out. Locked for the moment of a change.
    left_out: Mutex<LeftOut>,
}

impl ListingCache {
    pub(in crate::vfs) fn new(shared: Arc<Shared>, most_names: usize) -> ListingCache {
        ListingCache {
            shared,
            most_names,
            lru: Mutex::default(),
            totals: Arc::default(),
            left_out: Mutex::default(),
        }
    }

    /// Number of files known now, and the sum of their sizes in bytes.
    pub(in crate::vfs) fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// What the listings name and the tree does not show.
    pub(in crate::vfs) fn left_out(&self) -> LeftOut {
        *self.left_out.lock()
    }

    /// Makes a listing from the origin or a mirror the directory's names, and stores it. `None` if the node is no
    /// directory.
    pub(in crate::vfs) fn replace(
        &self,
        node: &Arc<Node>,
        mut listing: Listing,
        is_by_mirror: bool,
    ) -> Option<Arc<Snapshot>> {
        let directory = node.directory()?;
        self.leave_out(directory, &mut listing);
        if let Some(before) = directory.last_known() {
            correct(&before, &mut listing);
        }
        self.store(directory, &listing);
        self.store_others(directory);
        let validator = std::mem::take(&mut listing.validator);
        let names = self.show(node, directory, listing, false);
        let mut state = directory.state.write();
        state.is_by_mirror = is_by_mirror;
        if !is_by_mirror {
            (state.validator, state.whole_at) = (validator, Some(Instant::now()));
        }
        drop(state);
        match &directory.url {
            Some(url) if !is_by_mirror => directory.note_answer(directory.source.fresh_for(url, self.shared.ttl.get())),
            _ => self.retry_soon(directory),
        }
        Some(names)
    }

    /// Makes a stored listing the directory's names until the origin gives newer ones. `None` if the node is no
    /// directory.
    pub(in crate::vfs) fn show_stored(&self, node: &Arc<Node>, mut listing: Listing) -> Option<Arc<Snapshot>> {
        let directory = node.directory()?;
        let validator = std::mem::take(&mut listing.validator);
        let names = self.show(node, directory, listing, true);
        directory.state.write().validator = validator;
        Some(names)
    }

    /// The origin says that its listing is still the one with the directory's names.
    pub(super) fn confirm(&self, directory: &Directory, url: &Url) {
        let mut state = directory.state.write();
        state.is_stored = false;
        state.whole_at.get_or_insert_with(Instant::now);
        drop(state);
        directory.note_answer(directory.source.fresh_for(url, self.shared.ttl.get()));
        self.shared.cache.catalog().note_shown(url);
    }

    /// Treats the names as fresh for a short time, because the source itself could not be asked.
    pub(super) fn retry_soon(&self, directory: &Directory) {
        directory.set_fresh_for(self.shared.ttl.get().min(PAUSE_AFTER_FAILURE));
    }

    /// A snapshot of some names of a listing that is being received, for a directory without known names. `None` if the node is no
    /// directory.
    pub(super) fn show_early(&self, node: &Arc<Node>, mut entries: Entries) -> Option<Arc<Snapshot>> {
        let directory = node.directory()?;
        entries.retain(is_within_path_max);
        let (survivors, found) = {
            let state = directory.state.read();
            (state.survivors.clone(), found_before(&state.unlisted))
        };
        // If another node has the name, the complete listing decides which one stays.
        entries.retain(|entries, at| {
            let survivor = || survivors.get(entries.name(at)).and_then(Weak::upgrade);
            let old = survivor().or_else(|| found.get(entries.name(at)).cloned());
            old.is_none_or(|old| old.still_fits(entries, at) && !old.is_ghost())
        });
        let context = directory.context(node.ino, &entries);
        let snapshot = Snapshot::new(ListedNames::new(entries, context, None, None));
        // Nothing is replaced before the listing is complete.
        drop(self.pin_nodes(node, None, &survivors, &found, &snapshot));
        Some(Arc::new(snapshot))
    }

    /// Removes what can't be shown, and logs once and counts what a listing leaves out.
    fn leave_out(&self, directory: &Directory, listing: &mut Listing) {
        let url = || {
            directory
                .url
                .as_ref()
                .map_or_else(String::new, |url| redact(url).to_string())
        };
        let named = listing.entries.len();
        listing.entries.retain(is_within_path_max);
        let too_long = (named - listing.entries.len()) as u64;
        if too_long > 0 {
            log::warn!(
                event = events::PATH_TOO_LONG;
                "{}: {} {} not shown, because the URL's path is longer than {PATH_MAX} bytes; does the directory \
                 contain itself?",
                url(),
                count(too_long, "directory"),
                verb(too_long, "is", "are")
            );
        }
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

    /// Replaces the names. Entries that look the same keep their nodes. If the tree then holds too many names, other
    /// directories drop theirs.
    fn show(&self, node: &Arc<Node>, directory: &Directory, listing: Listing, is_stored: bool) -> Arc<Snapshot> {
        let before = directory.last_known();
        let (survivors, mut found) = {
            let mut state = directory.state.write();
            let found = found_before(&state.unlisted);
            (std::mem::take(&mut state.survivors), found)
        };
        if let Some(partial) = directory.incoming.current() {
            let shown = partial.pinned().into_iter();
            found.extend(shown.map(|(names, at, node)| (names.name(at).to_owned(), node)));
        }
        let Listing { entries, modified, .. } = listing;
        let is_unsized =
            |at| matches!(entries.kind(at), EntryKind::File(size) if !matches!(size, ListedSize::Exact(_)));
        directory.dates.set_mixed((0..entries.len()).any(is_unsized));
        let same = before.clone().filter(|before| before.is_same(&entries, modified));
        let is_same = same.is_some();
        let mut replaced = Vec::new();
        let snapshot = same.unwrap_or_else(|| {
            let stored = stored_before(before.as_deref(), &entries, is_stored);
            let context = directory.context(node.ino, &entries);
            let snapshot = Snapshot::new(ListedNames::new(entries, context, stored, modified));
            replaced = self.pin_nodes(node, before.as_deref(), &survivors, &found, &snapshot);
            Arc::new(snapshot)
        });
        directory
            .state
            .write()
            .show(Arc::clone(&snapshot), is_stored, &self.totals);
        // The kernel may now look these up again, and has to find the new names.
        replaced.iter().for_each(|old| old.mark_replaced());
        if !is_same {
            let numbers = replaced.iter().map(|old| old.ino).chain([node.ino]);
            let known = numbers.filter(|&ino| self.shared.nodes.table.is_known(ino));
            known.for_each(|ino| (self.shared.attributes_changed)(ino));
        }
        let leaving = self.lru.lock().listed(node, snapshot.len(), self.most_names);
        for other in leaving.iter().filter_map(|other| other.directory()) {
            other.drop_names(|ino| self.shared.nodes.table.is_known(ino));
        }
        snapshot
    }

    /// Pins the nodes of new names that can't be created from the listing. Returns the nodes that are gone, or have
    /// another one in their place.
    fn pin_nodes(
        &self,
        node: &Node,
        before: Option<&Snapshot>,
        survivors: &HashMap<OsString, Weak<Node>>,
        found: &HashMap<OsString, Arc<Node>>,
        names: &Snapshot,
    ) -> Vec<Arc<Node>> {
        let mut shown = HashMap::new();
        if before.is_none() {
            // New entries of a listing were not shown before, or the listing now says something else of them.
            shown = self.shown_before(names);
        }
        let (listed, entries) = (&names.listed, names.listed.entries());
        let mut replaced = Vec::new();
        let mut is_still_there = vec![false; before.map_or(0, Snapshot::len)];
        let mut near = 0;
        for at in 0..names.len() {
            let old = match before {
                Some(before) => before.listed.find_near(names.name(at), near).and_then(|there| {
                    near = there + 1;
                    is_still_there[there] = true;
                    self.shared.nodes.existing(node.ino, before, there)
                }),
                None => survivors.get(names.name(at)).and_then(Weak::upgrade),
            };
            // The name was found before it was listed.
            let old = old.or_else(|| found.get(names.name(at)).cloned());
            let ino = listed.ino(at);
            match old {
                Some(old) if old.still_fits(entries, at) => {
                    if let Some(directory) = old.directory() {
                        directory.set_listed_time(entries.modified(at));
                    }
                    if old.ino != ino || old.has_own_state() {
                        names.pin(at, old);
                    }
                }
                Some(old) => {
                    let child = self.shared.nodes.add_listed(listed, at, None);
                    old.note_successor(&child);
                    names.pin(at, child);
                    replaced.push(old);
                }
                None => {
                    let shown = shown.remove(&at);
                    // The kernel may reference a node of an older listing that has this number.
                    let other = self.shared.nodes.get(ino);
                    let is_it = |other: &Arc<Node>| other.parent() == node.ino && other.still_fits(entries, at);
                    if shown.is_some() || other.is_some_and(|other| !is_it(&other)) {
                        names.pin(at, self.shared.nodes.add_listed(listed, at, shown));
                    }
                }
            }
        }
        if let Some(before) = before {
            let gone = (0..before.len()).filter(|&there| !is_still_there[there]);
            replaced.extend(gone.filter_map(|there| self.shared.nodes.existing(node.ino, before, there)));
        }
        let gone = survivors.iter().filter(|(name, _)| listed.find(name).is_none());
        replaced.extend(gone.filter_map(|(_, old)| old.upgrade()));
        replaced
    }

    /// The nodes that earlier mounts showed for these files, by their positions. Only files whose listed size and
    /// date are the same.
    fn shown_before(&self, names: &Snapshot) -> HashMap<usize, ShownFile> {
        let entries = names.listed.entries();
        let files = || (0..entries.len()).filter(|&at| !entries.is_directory(at));
        let urls = files().map(|at| (at, entries.url(at)));
        let shown = self.shared.cache.catalog().shown(files().count(), urls).into_iter();
        let is_same = |(at, shown): &(usize, ShownFile)| match entries.kind(*at) {
            EntryKind::File(size) => shown.listed == FileText(size, entries.modified(*at)).to_string(),
            EntryKind::Directory => false,
        };
        shown.filter(is_same).collect()
    }

    /// Stores a listing in the catalog, unless the stored one is the same.
    fn store(&self, directory: &Directory, listing: &Listing) {
        let Some(url) = &directory.url else { return };
        let catalog = self.shared.cache.catalog();
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
    fn store_others(&self, directory: &Directory) {
        let Some(url) = &directory.url else { return };
        let (source, catalog) = (&directory.source, self.shared.cache.catalog());
        source.store_others(url, &mut |other, listing| {
            let row = stored::write(other, source.kind(), listing);
            // What may be secret is never stored, so there is nothing to do later.
            row.is_none_or(|row| catalog.keep_listing(other, row))
        });
    }

    /// Drops a directory's names, because the origin says that it does not exist.
    pub(super) fn forget(&self, directory: &Directory, url: &Url) {
        directory.forget();
        self.shared.cache.catalog().forget_listing(url);
    }

    /// Replaces a changed node by a new node for the new version.
    pub(in crate::vfs) fn replace_changed(&self, parent: &Node, name: &OsStr, changed: &Node) -> Arc<Node> {
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
        let url = file.url();
        let (number, next) = if file.is_directory() {
            let below = with_slash(&url);
            let number = ino::of_directory(&below);
            (
                number,
                self.shared
                    .nodes
                    .directory(file.source(), parent.ino, below, file.listed_time()),
            )
        } else {
            let next = file.next_version();
            let number = match next.version() {
                Some(version) => ino::of_file(&url, Some(&version)),
                None => ino::of_successor(&url, changed.ino),
            };
            (number, Kind::File(next))
        };
        let node = self.shared.nodes.add(number, next);
        if let Some((names, at)) = place {
            names.replace(at, Arc::clone(&node));
        }
        drop(state);
        if node.is_directory() {
            self.shared.cache.catalog().forget_file(&url);
            if let Some((names, url)) = names.as_deref().zip(directory.url.as_ref()) {
                self.store(directory, &corrected(names, url));
            }
        }
        node
    }
}

/// Whether programs can reach the entry at this position. A directory that contains itself must end at some depth, or `find` would
/// never end.
fn is_within_path_max(entries: &Entries, at: usize) -> bool {
    !entries.is_directory(at) || entries.url(at).path().len() <= PATH_MAX
}

/// The nodes of names that were found before they were listed.
fn found_before(unlisted: &HashMap<OsString, CachedLookup<Node>>) -> HashMap<OsString, Arc<Node>> {
    let found = unlisted.iter();
    let found = found.filter_map(|(name, lookup)| Some((name.clone(), Arc::clone(lookup.node.as_ref()?))));
    found.collect()
}

/// Which entries come from an earlier mount's listing: all, if the listing does; otherwise those that are unchanged
/// since.
fn stored_before(before: Option<&Snapshot>, entries: &Entries, is_stored: bool) -> Option<Box<[bool]>> {
    if is_stored {
        return Some(vec![true; entries.len()].into());
    }
    let before = &before.filter(|before| before.listed.has_stored())?.listed;
    let mut near = 0;
    let is_stored = |at| {
        let there = before.find_near(entries.name(at), near);
        let there = there.inspect(|there| near = there + 1);
        there.is_some_and(|there| before.is_stored(there) && before.entries().is_same_at(there, entries, at))
    };
    Some((0..entries.len()).map(is_stored).collect())
}
