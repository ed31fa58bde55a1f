//! Remote files: what a listing, the origin and the cache know of a version, and whether a node may show it.

pub(super) mod open;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use url::Url;

use super::listing::dates::{Dates, Learnt};
use super::listing::stored::file_text;
use super::node::{Attributes, Ino, Kind, Node, undated};
use crate::cache::{CacheEntry, Confirmed, StoredFile};
use crate::http::Version;
use crate::origin::Metadata;
use crate::source::{ListedSize, ListedTime};

/// How long a file without a date is not asked about again after the origin could not be asked for the date.
const DATE_ASKED_AGAIN: Duration = Duration::from_secs(10);

/// How long a name that is listed but does not exist is hidden from its directory, unless the listing says something
/// else of it.
const GHOST: Duration = Duration::from_secs(60);

/// One version of a remote file, as far as it is known. A node holds it.
pub struct RemoteFile {
    pub(super) url: Url,
    pub(super) listed_size: ListedSize,
    pub(super) listed_time: Option<ListedTime>,
    /// The listing's latest size and date for the URL. They may be those of another version.
    listed_as: (ListedSize, Option<ListedTime>),
    /// Whether the listing's size and date come from an earlier mount's listing, and so belong to what the catalog
    /// stores of the file.
    pub(super) is_stored: bool,
    /// The dates of its directory's listing.
    dates: Arc<Dates>,
    state: Mutex<State>,
    /// Open handles that are still read from.
    handles: AtomicU32,
    /// Whether the catalog stores what this node shows.
    is_written: AtomicBool,
    /// Whether the server says that the URL is a directory.
    is_directory: AtomicBool,
    changed: AtomicBool,
    /// Whether it replaced another version that was shown under this name.
    is_successor: AtomicBool,
    /// The node that a later listing has in its place.
    successor: OnceLock<Weak<Node>>,
    /// Held while a task asks the origin, so that the origin is asked once.
    pub(super) asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What the origin said of the file in a metadata answer, and when.
    known: Option<Box<Known>>,
    /// The cache entry, while a handle or the cache keeps it open.
    entry: Weak<CacheEntry>,
    /// The exact size that was last shown, in bytes. **The kernel may rely on it** and stop reading there. So a
    /// version of another size gets a node of its own, if the size is known before the first byte.
    shown_size: Option<u64>,
    /// The date that was last shown.
    shown_date: Option<SystemTime>,
    /// When the origin was last asked for a date that the listing lacks, successful or not.
    date_asked: Option<Instant>,
    /// When the origin last answered that the file does not exist.
    ghost_since: Option<Instant>,
    /// The version for which an earlier mount gave this node its number. **Another version gets another number.**
    stored: Option<Box<Version>>,
    /// The version whose bytes were read under this node. The kernel may keep their pages, so **the node never shows
    /// another version's bytes**.
    shown: Option<Arc<OnceLock<Confirmed>>>,
}

/// What an origin said of a file.
#[derive(Clone)]
pub struct Known {
    /// The current version.
    pub version: Version,
    /// Modification time, if the origin gave one.
    pub modified: Option<SystemTime>,
    /// When the origin answered; `None` if an earlier mount received the answer.
    pub at: Option<Instant>,
}

impl RemoteFile {
    /// A file from a listing.
    pub(super) fn listed(
        url: Url,
        listed_size: ListedSize,
        listed_time: Option<ListedTime>,
        dates: Arc<Dates>,
    ) -> RemoteFile {
        RemoteFile {
            url,
            listed_size,
            listed_time,
            listed_as: (listed_size, listed_time),
            is_stored: false,
            dates,
            state: Mutex::default(),
            handles: AtomicU32::new(0),
            is_written: AtomicBool::new(false),
            is_directory: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            is_successor: AtomicBool::new(false),
            successor: OnceLock::new(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// A file from the origin's metadata answer.
    pub(super) fn known(url: Url, known: Option<Known>, dates: Arc<Dates>) -> RemoteFile {
        let file = RemoteFile::listed(url, ListedSize::Unknown, None, dates);
        file.state.lock().known = known.map(Box::new);
        file
    }

    /// The same file, if an earlier mount showed it and the listing has not changed since.
    pub(super) fn shown_before(self, file: StoredFile) -> RemoteFile {
        let known = Known::stored(file);
        self.is_written.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.stored = Some(Box::new(known.version.clone()));
        // A listing without a date says the same of any version.
        if let Some(listed) = self.listed_time {
            if let Some(modified) = known.modified {
                self.dates.learn(listed, modified);
            }
            state.known = Some(Box::new(known));
        }
        drop(state);
        self
    }

    /// The same URL for the version that follows this one.
    pub fn next_version(&self) -> RemoteFile {
        let state = self.state.lock();
        let shown = state.shown().map(|shown| &shown.version);
        let is_news = |known: &&Known| match shown {
            Some(shown) => known.version != *shown,
            None => Some(known.version.size) != state.shown_size,
        };
        // The listing may describe either version. While it stays the same, it says nothing new of this one.
        RemoteFile {
            listed_as: self.listed_as,
            is_successor: AtomicBool::new(true),
            ..RemoteFile::known(
                self.url.clone(),
                state.known.as_deref().filter(is_news).cloned(),
                Arc::clone(&self.dates),
            )
        }
    }

    /// The size in bytes, or the best estimate; and whether it is exact.
    fn size(&self) -> (u64, bool) {
        let state = self.state.lock();
        match (state.shown(), &state.known, self.listed_size) {
            (Some(shown), ..) => (shown.version.size, true),
            (None, Some(known), _) => (known.version.size, true),
            (None, None, ListedSize::Exact(size)) => (size, true),
            (None, None, ListedSize::Rounded(size)) => (size, false),
            (None, None, ListedSize::Unknown) => (0, false),
        }
    }

    /// The version, if it is known.
    pub(super) fn version(&self) -> Option<Version> {
        let state = self.state.lock();
        let shown = state.shown().map(|shown| &shown.version);
        shown.or(state.known.as_ref().map(|known| &known.version)).cloned()
    }

    /// The size that is shown now, in bytes.
    pub fn shown_size(&self) -> u64 {
        self.size().0
    }

    /// The exact size that the listing gives now, in bytes. It may be another version's.
    pub(super) fn exactly_listed(&self) -> Option<u64> {
        match self.listed_as.0 {
            ListedSize::Exact(size) => Some(size),
            ListedSize::Rounded(_) | ListedSize::Unknown => None,
        }
    }

    /// See [`Node::has_exact_size`].
    pub fn has_exact_size(&self) -> bool {
        self.size().1
    }

    /// See [`Node::is_changed`].
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
            || self
                .state
                .lock()
                .entry
                .upgrade()
                .is_some_and(|entry| entry.is_changed())
            || self.is_succeeded()
    }

    /// Whether a newer listing's size and date can be true of this version.
    pub fn still_fits(&self, url: &Url, size: ListedSize, time: Option<ListedTime>) -> bool {
        *url == self.url && (size, time) == self.listed_as
    }

    /// The attributes that `stat` shows.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let (size, is_exact) = self.size();
        let mut state = self.state.lock();
        if is_exact {
            state.shown_size = Some(size);
        }
        let is_open = self.handles.load(Ordering::Relaxed) > 0;
        let modified = match state.shown_date {
            Some(date) if is_open => date,
            _ => self.date(&state),
        };
        state.shown_date = Some(modified);
        Attributes {
            ino,
            is_directory: false,
            size,
            is_exact: is_exact && self.has_date(&state),
            modified,
            links: 1,
        }
    }

    /// The date to show; see [`dates`](super::listing::dates) for the rules.
    fn date(&self, state: &State) -> SystemTime {
        let listed = || self.listed_time.map(|listed| self.dates.shown(listed));
        let date = state.modified().or_else(listed);
        date.unwrap_or_else(undated).max(UNIX_EPOCH)
    }

    /// Notes that the server says this is a directory. A directory node replaces it.
    pub(super) fn mark_directory(&self) {
        self.is_directory.store(true, Ordering::Release);
        self.changed.store(true, Ordering::Release);
    }

    /// Whether a directory node must replace it.
    pub(super) fn is_directory(&self) -> bool {
        self.is_directory.load(Ordering::Acquire)
    }

    /// Notes that the origin says the file does not exist.
    pub(super) fn note_absent(&self) {
        self.state.lock().ghost_since = Some(Instant::now());
    }

    /// See [`Node::is_ghost`](super::Node::is_ghost).
    pub(super) fn is_ghost(&self) -> bool {
        let since = self.state.lock().ghost_since;
        since.is_some_and(|since| since.elapsed() < GHOST)
    }

    /// The listing's latest size and date.
    pub(super) fn listed_as(&self) -> (ListedSize, Option<ListedTime>) {
        self.listed_as
    }

    /// Whether the date can be shown without a request.
    fn has_date(&self, state: &State) -> bool {
        match self.listed_time {
            Some(_) => state.modified().is_some() || self.dates.are_ready(),
            None => {
                state.known.is_some()
                    || state.shown().is_some()
                    || state.date_asked.is_some_and(|at| at.elapsed() < DATE_ASKED_AGAIN)
            }
        }
    }

    /// See [`Node::is_ready`].
    pub(super) fn is_ready(&self) -> bool {
        self.has_exact_size() && self.has_date(&self.state.lock())
    }

    /// Whether the size is known, but the date only by a listing whose clock is unknown.
    pub(super) fn lacks_clock(&self) -> bool {
        self.listed_time.is_some() && self.has_exact_size() && !self.has_date(&self.state.lock())
    }

    /// Notes that the origin was asked for the date.
    pub(super) fn note_date_asked(&self) {
        self.state.lock().date_asked = Some(Instant::now());
    }

    /// Derives the clock of the directory's dates from the listed and the exact date, if both are known.
    pub(super) fn teach_dates(&self) -> Learnt {
        let modified = self.state.lock().modified();
        let dates = self.listed_time.zip(modified);
        dates.map_or(Learnt::Nothing, |(listed, modified)| self.dates.learn(listed, modified))
    }

    /// Whether the listing gives both files the same date.
    pub(super) fn is_listed_with(&self, other: &RemoteFile) -> bool {
        self.listed_time == other.listed_time
    }

    /// Whether the date that was shown differs from the one to show now.
    pub(super) fn has_another_date(&self) -> bool {
        let state = self.state.lock();
        state.shown_date.is_some_and(|shown| shown != self.date(&state))
    }

    /// What the catalog has to store so that the next mount shows this node as it is: the listing's text. Returns it
    /// once. `None` while the version is unknown.
    pub(super) fn to_write(&self) -> Option<String> {
        let is_known = {
            let state = self.state.lock();
            state.known.is_some() || state.shown().is_some()
        };
        if !is_known || self.is_changed() || self.is_written.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (size, time) = self.listed_as;
        Some(file_text(size, time))
    }

    /// Counts an open handle. The date stays the same until [`Self::handle_closed`].
    pub(super) fn handle_opened(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Discounts a handle that is closed or no longer read from.
    pub(super) fn handle_closed(&self) {
        self.handles.fetch_sub(1, Ordering::Relaxed);
    }

    /// What the origin said within `ttl`, in a metadata answer or with the file's bytes.
    pub(super) fn freshly_known(&self, ttl: Duration) -> Option<Known> {
        let known = self.state.lock().known.as_deref().cloned();
        known
            .into_iter()
            .chain(self.shown())
            .find(|known| known.at.is_some_and(|at| at.elapsed() < ttl))
    }

    /// The version whose bytes were read under this node, if any were. The kernel may still cache them.
    pub(super) fn shown(&self) -> Option<Known> {
        let shown = self.state.lock().shown().cloned();
        shown.map(|Confirmed { version, modified, at }| Known {
            version,
            modified,
            at: Some(at),
        })
    }

    /// The open entry, if its version was confirmed within `ttl`, or is unknown because the first range is still in
    /// flight.
    pub(super) fn open_entry(&self, ttl: Duration) -> Option<Arc<CacheEntry>> {
        let entry = self.state.lock().entry.upgrade()?;
        (entry.settled().is_none() || self.freshly_known(ttl).is_some()).then_some(entry)
    }

    /// Notes the origin's answer.
    pub(super) fn note(&self, known: Known) {
        self.state.lock().known = Some(Box::new(known));
    }

    /// The entry, while a handle or the cache keeps it open. Its version may be long unconfirmed.
    pub(super) fn kept_entry(&self) -> Option<Arc<CacheEntry>> {
        self.state.lock().entry.upgrade()
    }

    /// Notes that this entry was opened for the file.
    pub(super) fn opened(&self, entry: &Arc<CacheEntry>) {
        let mut state = self.state.lock();
        state.entry = Arc::downgrade(entry);
        if state.shown().is_none() {
            state.shown = Some(Arc::clone(entry.confirmed()));
        }
    }

    /// Notes the node that a later listing has in its place. The listing may differ although the version is the same.
    pub(super) fn note_successor(&self, node: &Arc<Node>) {
        if let Kind::File(next) = &node.kind {
            next.is_successor.store(true, Ordering::Relaxed);
            let _ = self.successor.set(Arc::downgrade(node));
        }
    }

    /// Whether the origin has confirmed another version under the node that replaced this one.
    fn is_succeeded(&self) -> bool {
        let Some(next) = self.successor.get().and_then(Weak::upgrade) else {
            return false;
        };
        let Kind::File(next) = &next.kind else { return false };
        match (self.shown(), next.shown()) {
            (Some(shown), Some(next)) => shown.version != next.version,
            _ => false,
        }
    }

    /// Whether it replaced another version that was shown under this name.
    pub(super) fn is_successor(&self) -> bool {
        self.is_successor.load(Ordering::Relaxed)
    }

    /// Whether this version can be shown here; if not, the file is marked as changed.
    pub(super) fn admits(&self, version: &Version) -> bool {
        let state = self.state.lock();
        let admits = match (state.shown(), &state.stored, state.shown_size) {
            (Some(shown), ..) => shown.version == *version,
            (None, Some(stored), _) => **stored == *version,
            (None, None, Some(size)) => size == version.size,
            (None, None, None) => true,
        };
        if !admits {
            self.changed.store(true, Ordering::Release);
        }
        admits
    }
}

impl State {
    fn shown(&self) -> Option<&Confirmed> {
        self.shown.as_ref()?.get()
    }

    /// Last-Modified of the bytes that were read, or else from the origin's metadata answer.
    fn modified(&self) -> Option<SystemTime> {
        let shown = self.shown().and_then(|shown| shown.modified);
        shown.or(self.known.as_ref().and_then(|known| known.modified))
    }
}

/// A version as text, for [`number`](super::nodes::number).
pub(super) fn version_text(version: &Version) -> String {
    format!("{} {}", version.size, version.validator.to_key())
}

impl Known {
    /// What the origin answered just now.
    pub fn of(metadata: Metadata) -> Option<Known> {
        let version = metadata.version?;
        Some(Known {
            version,
            modified: metadata.modified,
            at: Some(Instant::now()),
        })
    }

    /// What an earlier mount stored.
    pub fn stored(StoredFile { version, modified }: StoredFile) -> Known {
        Known {
            version,
            modified,
            at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Validator;

    fn file(size: u64) -> RemoteFile {
        let url = Url::parse("http://h/f").unwrap();
        RemoteFile::listed(url, ListedSize::Exact(size), None, Dates::by(Arc::default()))
    }

    fn told(file: &RemoteFile, size: u64) {
        let version = Version {
            size,
            validator: Validator::None,
        };
        file.note(Known {
            version,
            modified: None,
            at: Some(Instant::now()),
        });
    }

    #[test]
    fn a_listing_that_goes_on_giving_a_wrong_size_has_nothing_new_to_say_of_the_next_version() {
        let listed = file(3);
        listed.attributes(2);
        told(&listed, 4);
        let next = listed.next_version();
        assert_eq!(next.size(), (4, true));
        assert!(next.still_fits(&listed.url, ListedSize::Exact(3), None));
        assert!(!next.still_fits(&listed.url, ListedSize::Exact(4), None));
    }

    #[test]
    fn what_was_told_of_the_old_version_is_not_taken_for_the_next_one() {
        let listed = file(3);
        told(&listed, 3);
        listed.attributes(2);
        assert_eq!(listed.next_version().size(), (0, false));
    }
}
