//! Listings that are being received: the names that programs see before a directory's listing is complete.
//!
//! The names come in batches, and each batch is a [`Snapshot`]. A reader of the directory goes through them by position. When
//! the listing is complete, the names that no batch had follow, in its order. So a position means one name for as long as a
//! reader has the listing, and each name has one position.
//!
//! **Nothing here counts as the directory's names.** A name that no batch has is not absent, and if the listing fails, its
//! readers get the error after the last name.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::snapshot::{Child, Snapshot};
use crate::util::memory;
use crate::vfs::error::TreeError;

/// Number of names from which on a listing's memory is given back to the system when its readers are done.
const LARGE: usize = 100_000;

/// A listing that is being received.
pub(crate) struct PartialListing<N> {
    /// Locked for a look-up or a change. No I/O under it.
    state: Mutex<State<N>>,
    /// Notified of each batch, and of the end.
    changed: Notify,
    /// Programs that wait for the first names, or have them.
    readers: AtomicUsize,
}

struct State<N> {
    batches: Vec<Batch<N>>,
    /// Number of names in the batches.
    len: usize,
    /// The document that the names come from, counted from 1.
    document: u64,
    end: Option<End<N>>,
}

struct Batch<N> {
    /// The position of its first name.
    first: usize,
    names: Arc<Snapshot<N>>,
}

enum End<N> {
    /// The whole listing, and the positions there of the names that no batch has.
    Complete(Arc<Snapshot<N>>, Box<[u32]>),
    Failed(TreeError),
}

/// What is at a position of a listing.
pub(crate) enum Position<N> {
    /// The name at this position of a snapshot.
    Name(Arc<Snapshot<N>>, usize),
    /// Nothing yet.
    Later,
    /// The end of the listing.
    End,
    /// The listing has failed.
    Failed(TreeError),
}

impl<N: Child> PartialListing<N> {
    fn new(is_wanted: bool) -> PartialListing<N> {
        PartialListing {
            state: Mutex::new(State {
                batches: Vec::new(),
                len: 0,
                document: 0,
                end: None,
            }),
            changed: Notify::new(),
            readers: AtomicUsize::new(usize::from(is_wanted)),
        }
    }

    /// A program waits for the first names.
    pub(in crate::vfs) fn want(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any program has waited for names.
    pub(in crate::vfs) fn is_wanted(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Whether several programs have waited for names, or some have been received.
    pub(in crate::vfs) fn is_needed_by_others(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 1 || self.state.lock().len > 0
    }

    /// A document begins whose names are to be added. Returns its number.
    pub(in crate::vfs) fn begin_document(&self) -> u64 {
        let mut state = self.state.lock();
        state.document += 1;
        state.document
    }

    /// The batches so far, if `document` is the one that the names come from now.
    pub(in crate::vfs) fn batches(&self, document: u64) -> Option<Vec<Arc<Snapshot<N>>>> {
        let state = self.state.lock();
        let batches = state.batches.iter().map(|batch| Arc::clone(&batch.names));
        (state.document == document && state.end.is_none()).then(|| batches.collect())
    }

    /// Adds names of this document that no batch has, unless another document has begun.
    pub(in crate::vfs) fn add(&self, document: u64, names: Arc<Snapshot<N>>) {
        let mut state = self.state.lock();
        if state.document != document || state.end.is_some() || names.len() == 0 {
            return;
        }
        let first = state.len;
        state.len += names.len();
        state.batches.push(Batch { first, names });
        drop(state);
        self.changed.notify_waiters();
    }

    /// The nodes that stay with the names so far.
    pub(in crate::vfs) fn pinned(&self) -> Vec<(Arc<Snapshot<N>>, usize, Arc<N>)> {
        let of_batch = |names: Arc<Snapshot<N>>| {
            let pinned = names.all_pinned().into_iter();
            pinned.map(move |(at, node)| (Arc::clone(&names), at, node))
        };
        self.snapshots().into_iter().flat_map(of_batch).collect()
    }

    /// The names of each batch so far.
    fn snapshots(&self) -> Vec<Arc<Snapshot<N>>> {
        let state = self.state.lock();
        state.batches.iter().map(|batch| Arc::clone(&batch.names)).collect()
    }

    /// The listing is complete. If it lacks a name that its one document seemed to have, its readers get the error
    /// `contradicted`. (Between two documents a name may go.)
    pub(in crate::vfs) fn complete(&self, names: &Arc<Snapshot<N>>, contradicted: impl FnOnce() -> TreeError) {
        let mut is_lacking = false;
        // Only one task receives the listing, so no batch is added meanwhile.
        let batches = self.snapshots();
        let mut is_shown = vec![false; names.len()];
        let mut near = 0;
        for batch in batches {
            for at in 0..batch.len() {
                if let Some(there) = names.listed.find_near(batch.name(at), near) {
                    is_shown[there] = true;
                    near = there + 1;
                } else {
                    is_lacking = true;
                }
            }
        }
        if is_lacking && self.state.lock().document == 1 {
            return self.end(End::Failed(contradicted()));
        }
        // A listing has fewer names than a u32 can count.
        let rest = (0..).zip(&is_shown).filter(|(_, is_shown)| !**is_shown);
        let rest = rest.map(|(at, _)| at).collect();
        self.end(End::Complete(Arc::clone(names), rest));
    }

    fn end(&self, end: End<N>) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_waiters();
    }

    /// What is at this position.
    pub(crate) fn at(&self, position: usize) -> Position<N> {
        let state = self.state.lock();
        if let Some(after) = position.checked_sub(state.len) {
            return match &state.end {
                None => Position::Later,
                Some(End::Complete(names, rest)) => match rest.get(after) {
                    Some(&at) => Position::Name(Arc::clone(names), at as usize),
                    None => Position::End,
                },
                Some(End::Failed(error)) => Position::Failed(error.clone()),
            };
        }
        let next = state.batches.partition_point(|batch| batch.first <= position);
        let batch = &state.batches[next - 1];
        Position::Name(Arc::clone(&batch.names), position - batch.first)
    }

    /// Returns once there is something at this position: a name, the end, or a failure.
    pub(crate) async fn ready(&self, position: usize) {
        loop {
            // Before the look: a change after it is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !matches!(self.at(position), Position::Later) {
                return;
            }
            changed.await;
        }
    }

    /// A name of a batch.
    pub(in crate::vfs) fn find(&self, name: &OsStr) -> Option<(Arc<Snapshot<N>>, usize)> {
        let state = self.state.lock();
        let found = |batch: &Batch<N>| Some((Arc::clone(&batch.names), batch.names.listed.find(name)?));
        state.batches.iter().find_map(found)
    }

    /// Whether any names were received.
    pub(in crate::vfs) fn has_names(&self) -> bool {
        self.state.lock().len > 0
    }
}

impl<N> Drop for PartialListing<N> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.len >= LARGE {
            state.batches = Vec::new();
            memory::return_freed();
        }
    }
}

/// The listing that a directory receives now, if any.
pub(in crate::vfs) struct Incoming<N> {
    /// Locked for a look-up or a change.
    current: Mutex<Option<Arc<PartialListing<N>>>>,
    /// Notified when a listing is begun.
    begun: Notify,
    /// Whether a program waits for the names of the listing that is begun next.
    is_awaited: AtomicBool,
}

impl<N> Default for Incoming<N> {
    fn default() -> Self {
        Incoming {
            current: Mutex::new(None),
            begun: Notify::new(),
            is_awaited: AtomicBool::new(false),
        }
    }
}

impl<N: Child> Incoming<N> {
    /// The listing that is being received.
    pub(in crate::vfs) fn current(&self) -> Option<Arc<PartialListing<N>>> {
        self.current.lock().clone()
    }

    /// Notes that a program waits for the names of the listing that the caller is about to request.
    pub(in crate::vfs) fn await_next(&self) {
        self.is_awaited.store(true, Ordering::Relaxed);
    }

    /// Begins to receive a listing.
    pub(in crate::vfs) fn begin(&self) -> Receiving<'_, N> {
        let is_awaited = self.is_awaited.swap(false, Ordering::Relaxed);
        let listing = Arc::new(PartialListing::new(is_awaited));
        *self.current.lock() = Some(Arc::clone(&listing));
        self.begun.notify_waiters();
        Receiving {
            incoming: self,
            listing,
        }
    }

    /// The listing that is received now or next, once it has names.
    pub(in crate::vfs) async fn first_names(&self) -> Arc<PartialListing<N>> {
        loop {
            // Before the look: one that is begun after it is not missed.
            let begun = self.begun.notified();
            tokio::pin!(begun);
            begun.as_mut().enable();
            if let Some(listing) = self.current() {
                listing.ready(0).await;
                if listing.has_names() {
                    return listing;
                }
            }
            begun.await;
        }
    }
}

/// Guard: a listing is being received. Dropping it before it is complete fails the listing.
pub(in crate::vfs) struct Receiving<'a, N: Child> {
    incoming: &'a Incoming<N>,
    /// The listing.
    pub(in crate::vfs) listing: Arc<PartialListing<N>>,
}

impl<N: Child> Receiving<'_, N> {
    /// The listing has failed.
    pub(in crate::vfs) fn fail(&self, error: TreeError) {
        self.listing.end(End::Failed(error));
    }
}

impl<N: Child> Drop for Receiving<'_, N> {
    fn drop(&mut self) {
        self.listing.end(End::Failed(TreeError::NotAsked));
        // This may be the last reference to the listing, and its memory is freed outside of the lock.
        let listing = self.incoming.current.lock().take();
        drop(listing);
    }
}

/// The names that a program reads from a directory: known ones, or those of a listing that is being received.
pub(crate) enum DirectoryNames<N> {
    /// Known ones.
    Known(Arc<Snapshot<N>>),
    /// Of a listing that is being received, or was when the program began.
    Partial(Arc<PartialListing<N>>),
}

impl<N> Clone for DirectoryNames<N> {
    fn clone(&self) -> Self {
        match self {
            DirectoryNames::Known(names) => DirectoryNames::Known(Arc::clone(names)),
            DirectoryNames::Partial(listing) => DirectoryNames::Partial(Arc::clone(listing)),
        }
    }
}

impl<N: Child> DirectoryNames<N> {
    /// What is at this position.
    pub(crate) fn at(&self, position: usize) -> Position<N> {
        match self {
            DirectoryNames::Known(names) if position < names.len() => Position::Name(Arc::clone(names), position),
            DirectoryNames::Known(_) => Position::End,
            DirectoryNames::Partial(listing) => listing.at(position),
        }
    }

    /// Returns once there is something at this position.
    pub(crate) async fn ready(&self, position: usize) {
        match self {
            DirectoryNames::Known(_) => {}
            DirectoryNames::Partial(listing) => listing.ready(position).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::source::{Entries, Entry, EntryKind, ListedSize, Name, SingleFile};
    use crate::vfs::nodes::dates::Dates;
    use crate::vfs::nodes::listed_names::{ListedNames, ListingContext};
    use crate::vfs::nodes::node::Node;

    fn snapshot(names: &[&str]) -> Arc<Snapshot<Node>> {
        let directory = Url::parse("http://h/d/").unwrap();
        let mut entries = Entries::of(&directory);
        for name in names {
            let entry = Entry {
                url: directory.join(name).unwrap(),
                name: Name::new((*name).into()).unwrap(),
                kind: EntryKind::File(ListedSize::Exact(7)),
                modified: None,
                published: None,
            };
            assert!(entries.push(&entry));
        }
        let context = ListingContext::new(&entries, 1, Dates::by(Arc::default()), Arc::new(SingleFile));
        Arc::new(Snapshot::new(ListedNames::new(entries, context, None, None)))
    }

    /// The names from this position on, and what follows them.
    fn read(listing: &PartialListing<Node>, from: usize) -> (Vec<String>, Position<Node>) {
        let mut names = Vec::new();
        loop {
            match listing.at(from + names.len()) {
                Position::Name(snapshot, at) => names.push(snapshot.name(at).to_str().unwrap().to_owned()),
                other => return (names, other),
            }
        }
    }

    #[test]
    fn rest_of_the_listing_follows_what_was_shown() {
        let incoming: Incoming<Node> = Incoming::default();
        let receiving = incoming.begin();
        let listing = Arc::clone(&receiving.listing);
        let document = listing.begin_document();
        listing.add(document, snapshot(&["b", "c"]));
        assert!(matches!(read(&listing, 0), (names, Position::Later) if names == ["b", "c"]));
        listing.add(document, snapshot(&["e"]));
        // A name that was uncertain comes first in the listing, and one that was shown is gone.
        listing.begin_document();
        listing.complete(&snapshot(&["a", "b", "d", "e", "f"]), || TreeError::NotAsked);
        drop(receiving);
        assert!(matches!(read(&listing, 0), (names, Position::End) if names == ["b", "c", "e", "a", "d", "f"]));
        assert!(matches!(read(&listing, 4), (names, Position::End) if names == ["d", "f"]));
        assert!(matches!(read(&listing, 99), (names, Position::End) if names.is_empty()));
        assert!(incoming.current().is_none());
    }

    #[test]
    fn contradicted_names_end_in_an_error() {
        let incoming: Incoming<Node> = Incoming::default();
        let receiving = incoming.begin();
        let listing = Arc::clone(&receiving.listing);
        listing.add(listing.begin_document(), snapshot(&["a", "b"]));
        listing.complete(&snapshot(&["a", "c"]), || TreeError::Changed);
        assert!(matches!(read(&listing, 0), (names, Position::Failed(TreeError::Changed)) if names == ["a", "b"]));
    }

    #[test]
    fn failure_follows_the_names() {
        let incoming: Incoming<Node> = Incoming::default();
        let receiving = incoming.begin();
        let listing = Arc::clone(&receiving.listing);
        listing.add(listing.begin_document(), snapshot(&["a"]));
        receiving.fail(TreeError::NotFound);
        drop(receiving);
        listing.add(1, snapshot(&["b"]));
        assert!(matches!(read(&listing, 0), (names, Position::Failed(TreeError::NotFound)) if names == ["a"]));
    }

    #[test]
    fn names_of_an_earlier_attempt_are_not_added() {
        let incoming: Incoming<Node> = Incoming::default();
        let receiving = incoming.begin();
        let listing = Arc::clone(&receiving.listing);
        let (first, second) = (listing.begin_document(), listing.begin_document());
        listing.add(first, snapshot(&["a"]));
        assert!(listing.batches(first).is_none() && !listing.has_names());
        listing.add(second, snapshot(&["b"]));
        assert!(listing.find(OsStr::new("b")).is_some() && listing.find(OsStr::new("a")).is_none());
    }

    #[tokio::test]
    async fn readers_wait_for_names_of_a_later_attempt() {
        let incoming: Arc<Incoming<Node>> = Arc::default();
        let waiting = tokio::spawn({
            let incoming = Arc::clone(&incoming);
            async move { incoming.first_names().await }
        });
        // The first request fails before it has names.
        drop(incoming.begin());
        tokio::task::yield_now().await;
        let receiving = incoming.begin();
        let document = receiving.listing.begin_document();
        receiving.listing.add(document, snapshot(&["a"]));
        assert!(waiting.await.unwrap().has_names());
    }
}
