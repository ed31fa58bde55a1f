//! Remote files: what a listing, the origin and the cache know of a version, and whether a node may show it.

pub(in crate::vfs) mod known;
mod listed;
pub(super) mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use smol_str::SmolStr;
use url::Url;

use super::attributes::{Attributes, undated};
use super::dates::{Dates, Learnt};
use super::file_text::FileText;
use super::ino::Ino;
use super::listed_names::{ListedNames, ListingContext};
use crate::cache::{CacheEntry, Confirmed, StoredFile};
use crate::http::Version;
use crate::origin::Content;
use crate::source::{Entries, EntryKind, ListedSize, ListedTime, Published, Source, seconds, time};
use known::Known;
use listed::Listed;
use state::{State, Successor};

/// How long a file without a date is not asked about again after the origin could not be asked for the date.
const DATE_ASKED_AGAIN: Duration = Duration::from_secs(10);

/// How long a name that is listed but does not exist is hidden from its directory, unless the listing says something
/// else of it.
const GHOST: Duration = Duration::from_secs(60);

/// One version of a remote file, as far as it is known. A node holds it.
///
/// The kernel may reference a million of them, and most have nothing but their listing. So everything else is in a
/// [`State`], which is created on demand.
pub(crate) struct RemoteFile {
    context: Arc<ListingContext>,
    /// The URL, without the base if it [begins with that](Self::is_below). Most are short enough to be held here.
    rest: SmolStr,
    /// Of [`Self::listed`].
    size: u64,
    /// Of [`Self::listed`].
    nanoseconds: i64,
    /// The date that was last shown, in seconds after the listed date, or [`NOT_SHOWN`]. **Valid only while `state`
    /// is `None`.**
    shown_plainly: AtomicI32,
    /// What the listing says, and facts that stay; see [`Listed`] and the constants below.
    said: u8,
    /// What changes; see the constants below.
    flags: AtomicU8,
    /// Locked only to read or change the state.
    state: Mutex<Option<Box<State>>>,
}

/// Bit of `said`: the URL begins with the base.
const IS_BELOW: u8 = 16;
/// Bit of `said`: the listing's size and date apply to this version.
const IS_LISTED: u8 = 32;
/// Bit of `said`: the listing's size and date come from an earlier mount's listing, and so belong to what the catalog
/// stores of the file.
const IS_STORED: u8 = 64;
const _: () = assert!((IS_BELOW | IS_LISTED | IS_STORED) & Listed::BITS == 0);

/// Flag: the catalog stores what this node shows.
const WRITTEN: u8 = 1;
/// Flag: the server says that the URL is a directory.
const DIRECTORY: u8 = 2;
/// Flag: the file has another version now.
const CHANGED: u8 = 4;
/// Flag: it replaced another version that was shown under this name.
const SUCCESSOR: u8 = 8;

/// No date was shown yet.
const NOT_SHOWN: i32 = i32::MIN;

impl RemoteFile {
    /// The file at this position of a listing.
    pub(in crate::vfs) fn listed(names: &ListedNames, at: usize) -> RemoteFile {
        let entries = names.entries();
        let (rest, is_below) = entries.link(at);
        let size = match entries.kind(at) {
            EntryKind::File(size) => size,
            EntryKind::Directory => ListedSize::Unknown,
        };
        let (context, listed) = (Arc::clone(&names.context), Listed::new(size, entries.modified(at)));
        let mut file = RemoteFile::at(context, rest.into(), is_below, listed);
        file.said |= IS_LISTED | if names.is_stored(at) { IS_STORED } else { 0 };
        file
    }

    fn at(context: Arc<ListingContext>, rest: SmolStr, is_below: bool, listed: Listed) -> RemoteFile {
        RemoteFile {
            context,
            rest,
            size: listed.size,
            nanoseconds: listed.nanoseconds,
            shown_plainly: AtomicI32::new(NOT_SHOWN),
            said: listed.said | if is_below { IS_BELOW } else { 0 },
            flags: AtomicU8::new(0),
            state: Mutex::new(None),
        }
    }

    /// What the listing says of it.
    fn listed_facts(&self) -> Listed {
        Listed {
            size: self.size,
            nanoseconds: self.nanoseconds,
            said: self.said & Listed::BITS,
        }
    }

    fn is_below(&self) -> bool {
        self.said & IS_BELOW != 0
    }

    fn is_listed(&self) -> bool {
        self.said & IS_LISTED != 0
    }

    /// Whether the listing's size and date come from an earlier mount's listing, and so belong to what the catalog
    /// stores of the file.
    pub(in crate::vfs) fn is_stored(&self) -> bool {
        self.said & IS_STORED != 0
    }

    /// The directory that first listed it.
    pub(super) fn parent(&self) -> Ino {
        self.context.parent
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    /// Sets a flag. Returns whether it was set before.
    fn set(&self, flag: u8) -> bool {
        self.flags.fetch_or(flag, Ordering::AcqRel) & flag != 0
    }

    /// A file from the origin's metadata answer.
    pub(in crate::vfs) fn known(
        url: &Url,
        parent: Ino,
        known: Option<Known>,
        dates: Arc<Dates>,
        source: Arc<dyn Source>,
    ) -> RemoteFile {
        let context = ListingContext::unlisted(parent, dates, source);
        let listed = Listed::new(ListedSize::Unknown, None);
        let file = RemoteFile::at(context, url.as_str().into(), false, listed);
        file.change(|state| state.known = known);
        file
    }

    /// The same file, if an earlier mount showed it and the listing has not changed since.
    pub(in crate::vfs) fn shown_before(self, file: StoredFile) -> RemoteFile {
        let known = Known::stored(file);
        self.set(WRITTEN);
        let listed = self.listed_time();
        // A listing without a date says the same of any version.
        if let (Some(listed), Some(modified)) = (listed, known.modified) {
            self.dates().learn(listed, modified);
        }
        self.change(|state| {
            state.stored = Some(known.version.clone());
            if listed.is_some() {
                state.known = Some(known);
            }
        });
        self
    }

    /// The same URL for the version that follows this one.
    pub(in crate::vfs) fn next_version(&self) -> RemoteFile {
        let known = self.look(|state| {
            let shown = state.shown().map(|shown| &shown.version);
            let is_news = |known: &&Known| match shown {
                Some(shown) => known.version != *shown,
                None => Some(known.version.size) != state.shown_size,
            };
            state.known.as_ref().filter(is_news).cloned()
        });
        // The listing may describe either version. While it stays the same, it says nothing new of this one.
        let (context, rest) = (Arc::clone(&self.context), self.rest.clone());
        let next = RemoteFile::at(context, rest, self.is_below(), self.listed_facts());
        next.set(SUCCESSOR);
        next.change(|state| state.known = known);
        next
    }

    /// The file's URL.
    pub(in crate::vfs) fn url(&self) -> Url {
        self.context.url(&self.rest, self.is_below())
    }

    /// Whether the entry at this position has this file's URL.
    pub(super) fn is_at(&self, entries: &Entries, at: usize) -> bool {
        self.context.is_at(&self.rest, self.is_below(), entries, at)
    }

    /// What its listing says of its content.
    pub(in crate::vfs) fn content(&self) -> Content {
        Content::at(self.url(), self.listed_size()).with(self.published().cloned())
    }

    /// What its source publishes of it.
    pub(super) fn published(&self) -> Option<&Arc<Published>> {
        self.context.published(&self.rest)
    }

    /// The source that listed it.
    pub(in crate::vfs) fn source(&self) -> &Arc<dyn Source> {
        &self.context.source
    }

    /// The dates of its directory's files.
    pub(in crate::vfs) fn dates(&self) -> &Arc<Dates> {
        &self.context.dates
    }

    /// The size that the listing gives this version.
    pub(in crate::vfs) fn listed_size(&self) -> ListedSize {
        if self.is_listed() {
            self.listed_facts().size()
        } else {
            ListedSize::Unknown
        }
    }

    /// The date that the listing gives this version.
    pub(in crate::vfs) fn listed_time(&self) -> Option<ListedTime> {
        self.listed_facts().time().filter(|_| self.is_listed())
    }

    /// Whether there is more state than the listing gives.
    pub(in crate::vfs) fn has_own_state(&self) -> bool {
        self.has(CHANGED) || self.state.lock().is_some()
    }

    /// Reads the state; an empty one if there is none.
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        match self.state.lock().as_deref() {
            Some(state) => look(state),
            None => look(&self.plain_state()),
        }
    }

    /// Changes the state; creates it if there is none.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        change(state.get_or_insert_with(|| Box::new(self.plain_state())))
    }

    /// The state that an absent one stands for.
    fn plain_state(&self) -> State {
        let after = self.shown_plainly.load(Ordering::Relaxed);
        if after == NOT_SHOWN {
            return State::default();
        }
        let (seconds, nanoseconds) = self.listed_facts().seconds();
        let date = match self.listed_time() {
            Some(_) => time(seconds.saturating_add(after.into()), nanoseconds),
            None => Some(undated()),
        };
        State {
            shown_size: match self.listed_size() {
                ListedSize::Exact(size) => Some(size),
                ListedSize::Rounded(_) | ListedSize::Unknown => None,
            },
            shown_date: date,
            ..State::default()
        }
    }

    /// Records the shown date of a file without a state. Returns false if only a state can hold it.
    fn note_shown_plainly(&self, date: SystemTime) -> bool {
        let after = match self.listed_time() {
            None => Some(0),
            Some(_) => {
                let (shown, nanoseconds) = seconds(date);
                let listed = self.listed_facts().seconds();
                let after = shown.checked_sub(listed.0);
                let after = after.and_then(|after| i32::try_from(after).ok());
                after.filter(|_| nanoseconds == listed.1)
            }
        };
        let Some(after) = after.filter(|&after| after != NOT_SHOWN) else {
            return false;
        };
        self.shown_plainly.store(after, Ordering::Relaxed);
        true
    }

    /// The lock that a task holds while it asks the origin, so that the origin is asked once.
    pub(in crate::vfs) fn asking(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.change(|state| Arc::clone(state.asking.get_or_insert_default()))
    }

    /// The size in bytes, or the best estimate; and whether it is exact.
    fn size(&self) -> (u64, bool) {
        self.look(|state| self.size_by(state))
    }

    fn size_by(&self, state: &State) -> (u64, bool) {
        match (state.shown(), &state.known, self.listed_size()) {
            (Some(shown), ..) => (shown.version.size, true),
            (None, Some(known), _) => (known.version.size, true),
            (None, None, ListedSize::Exact(size)) => (size, true),
            (None, None, ListedSize::Rounded(size)) => (size, false),
            (None, None, ListedSize::Unknown) => (0, false),
        }
    }

    /// The version, if it is known.
    pub(in crate::vfs) fn version(&self) -> Option<Version> {
        self.look(|state| {
            let shown = state.shown().map(|shown| &shown.version);
            shown.or(state.known.as_ref().map(|known| &known.version)).cloned()
        })
    }

    /// The size that is shown now, in bytes.
    pub(in crate::vfs) fn shown_size(&self) -> u64 {
        self.size().0
    }

    /// The exact size that the listing gives now, in bytes. It may be another version's.
    pub(in crate::vfs) fn exactly_listed(&self) -> Option<u64> {
        match self.listed_facts().size() {
            ListedSize::Exact(size) => Some(size),
            ListedSize::Rounded(_) | ListedSize::Unknown => None,
        }
    }

    /// The exact size in bytes, if it is known.
    pub(in crate::vfs) fn exact_size(&self) -> Option<u64> {
        let (size, is_exact) = self.size();
        is_exact.then_some(size)
    }

    /// See [`Node::is_changed`](super::node::Node::is_changed).
    pub(in crate::vfs) fn is_changed(&self) -> bool {
        if self.has(CHANGED) {
            return true;
        }
        if self.state.lock().is_none() {
            return false;
        }
        let entry = self.live_entry();
        entry.is_some_and(|entry| entry.is_changed()) || self.is_rejected() || self.is_succeeded()
    }

    /// Whether a newer listing's size and date at this position can be true of this version.
    pub(in crate::vfs) fn still_fits(&self, entries: &Entries, at: usize) -> bool {
        if !self.context.is_of_listing() {
            return self.url() == entries.url(at) && entries.published(at).is_none() && self.may_be(entries, at);
        }
        let EntryKind::File(size) = entries.kind(at) else {
            return false;
        };
        Listed::new(size, entries.modified(at)) == self.listed_facts()
            && entries.published(at) == self.published()
            && self.is_at(entries, at)
    }

    /// Whether what a listing says at this position can be true of a file that was found before it was listed. Notes
    /// what the first listing says, with which later ones are compared.
    fn may_be(&self, entries: &Entries, at: usize) -> bool {
        let EntryKind::File(size) = entries.kind(at) else {
            return false;
        };
        let listed = (size, entries.modified(at));
        self.change(|state| {
            let is_true = match state.listed {
                Some(before) => before == listed,
                None => {
                    let version = state.shown().map(|shown| &shown.version);
                    let version = version.or(state.known.as_ref().map(|known| &known.version));
                    let has_size = match size {
                        ListedSize::Exact(size) => version.is_some_and(|version| version.size == size),
                        ListedSize::Rounded(_) | ListedSize::Unknown => true,
                    };
                    let dates = listed.1.zip(state.modified());
                    has_size && dates.is_none_or(|(listed, modified)| may_be_date(listed, modified))
                }
            };
            if is_true {
                state.listed = Some(listed);
            }
            is_true
        })
    }

    /// The attributes that `stat` shows.
    pub(in crate::vfs) fn attributes(&self, ino: Ino) -> Attributes {
        let mut state = self.state.lock();
        let (size, modified, is_exact, has_date) = match state.as_deref_mut() {
            None => {
                let plain = State::default();
                let (size, is_exact) = self.size_by(&plain);
                (size, self.date(&plain), is_exact, self.has_date(&plain))
            }
            Some(state) => {
                let (size, is_exact) = self.size_by(state);
                let modified = match state.shown_date {
                    Some(date) if state.handles > 0 => date,
                    _ => self.date(state),
                };
                (size, modified, is_exact, self.has_date(state))
            }
        };
        if state.is_some() || !self.note_shown_plainly(modified) {
            let state = state.get_or_insert_default();
            if is_exact {
                state.shown_size = Some(size);
            }
            state.shown_date = Some(modified);
        }
        Attributes {
            ino,
            is_directory: false,
            size,
            is_exact: is_exact && has_date,
            modified,
            links: 1,
        }
    }

    /// The date to show; see [`dates`](super::dates) for the rules.
    fn date(&self, state: &State) -> SystemTime {
        let listed = || self.listed_time().map(|listed| self.dates().shown(listed));
        let date = state.modified().or_else(listed);
        date.unwrap_or_else(undated).max(UNIX_EPOCH)
    }

    /// Notes that the server says this is a directory. A directory node replaces it.
    pub(in crate::vfs) fn mark_directory(&self) {
        self.set(DIRECTORY);
        self.set(CHANGED);
    }

    /// Whether a directory node must replace it.
    pub(in crate::vfs) fn is_directory(&self) -> bool {
        self.has(DIRECTORY)
    }

    /// Notes that the origin says the file does not exist.
    pub(in crate::vfs) fn note_absent(&self) {
        self.change(|state| state.ghost_since = Some(Instant::now()));
    }

    /// See [`Node::is_ghost`](super::node::Node::is_ghost).
    pub(in crate::vfs) fn is_ghost(&self) -> bool {
        let since = self.look(|state| state.ghost_since);
        since.is_some_and(|since| since.elapsed() < GHOST)
    }

    /// Whether the date can be shown without a request.
    fn has_date(&self, state: &State) -> bool {
        match self.listed_time() {
            Some(_) => state.modified().is_some() || self.dates().are_ready(),
            None => {
                state.known.is_some()
                    || state.shown().is_some()
                    || state.date_asked.is_some_and(|at| at.elapsed() < DATE_ASKED_AGAIN)
            }
        }
    }

    /// See [`Node::is_ready`](super::node::Node::is_ready).
    pub(in crate::vfs) fn is_ready(&self) -> bool {
        self.look(|state| self.size_by(state).1 && self.has_date(state))
    }

    /// Whether the size is known, but the date only by a listing whose clock is unknown.
    pub(in crate::vfs) fn lacks_clock(&self) -> bool {
        let lacks_clock = |state: &State| self.size_by(state).1 && !self.has_date(state);
        self.listed_time().is_some() && self.look(lacks_clock)
    }

    /// Notes that the origin was asked for the date.
    pub(in crate::vfs) fn note_date_asked(&self) {
        self.change(|state| state.date_asked = Some(Instant::now()));
    }

    /// Derives the clock of the directory's dates from the listed and the exact date, if both are known.
    pub(in crate::vfs) fn teach_dates(&self) -> Learnt {
        let modified = self.look(State::modified);
        let dates = self.listed_time().zip(modified);
        dates.map_or(Learnt::Nothing, |(listed, modified)| {
            self.dates().learn(listed, modified)
        })
    }

    /// Whether the date that was shown differs from the one to show now.
    pub(in crate::vfs) fn has_another_date(&self) -> bool {
        self.look(|state| state.shown_date.is_some_and(|shown| shown != self.date(state)))
    }

    /// What the catalog has to store so that the next mount shows this node as it is: the listing's text. Returns it
    /// once. `None` while the version is unknown.
    pub(in crate::vfs) fn take_unstored(&self) -> Option<String> {
        let is_known = self.look(|state| state.known.is_some() || state.shown().is_some());
        if !is_known || self.is_changed() || self.set(WRITTEN) {
            return None;
        }
        let (size, time) = self
            .look(|state| state.listed)
            .unwrap_or((self.listed_facts().size(), self.listed_facts().time()));
        Some(FileText(size, time).to_string())
    }

    /// Counts an open handle. The date stays the same until [`Self::handle_closed`].
    pub(in crate::vfs) fn handle_opened(&self) {
        self.change(|state| state.handles += 1);
    }

    /// Whether a handle is open and read from.
    pub(super) fn is_open(&self) -> bool {
        self.look(|state| state.handles > 0)
    }

    /// Discounts a handle that is closed or no longer read from.
    pub(in crate::vfs) fn handle_closed(&self) {
        self.change(|state| state.handles = state.handles.saturating_sub(1));
    }

    /// What the origin said within `ttl`, in a metadata answer or with the file's bytes.
    pub(in crate::vfs) fn freshly_known(&self, ttl: Duration) -> Option<Known> {
        let known = self.look(|state| state.known.clone());
        known
            .into_iter()
            .chain(self.shown())
            .find(|known| known.at.is_some_and(|at| at.elapsed() < ttl))
    }

    /// The version whose bytes were read under this node, if any were. The kernel may still cache them.
    pub(in crate::vfs) fn shown(&self) -> Option<Known> {
        let shown = self.look(|state| state.shown().cloned());
        shown.map(
            |Confirmed {
                 version, modified, at, ..
             }| Known {
                version,
                modified,
                at: Some(at),
            },
        )
    }

    /// The open entry, if its version was confirmed within `ttl`, or is unknown because the first range is still in
    /// flight.
    pub(in crate::vfs) fn open_entry(&self, ttl: Duration) -> Option<Arc<CacheEntry>> {
        let entry = self.live_entry()?;
        (entry.settled().is_none() || self.freshly_known(ttl).is_some()).then_some(entry)
    }

    /// Notes the origin's answer.
    pub(in crate::vfs) fn note(&self, known: Known) {
        self.change(|state| state.known = Some(known));
    }

    /// The entry, while a handle or the cache keeps it open. Its version may be long unconfirmed.
    pub(in crate::vfs) fn live_entry(&self) -> Option<Arc<CacheEntry>> {
        self.state.lock().as_ref()?.entry.upgrade()
    }

    /// Notes that this entry was opened for the file.
    pub(in crate::vfs) fn opened(&self, entry: &Arc<CacheEntry>) {
        self.change(|state| {
            state.entry = Arc::downgrade(entry);
            if state.shown().is_none() {
                state.shown = Some(Arc::clone(entry.confirmed()));
            }
        });
    }

    /// Whether the bytes that were read under this node turned out not to be the file's.
    fn is_rejected(&self) -> bool {
        self.look(|state| state.shown().is_some_and(|shown| shown.rejected.is_set()))
    }

    /// Notes the node that a later listing has in its place. The listing may differ although the version is the same.
    pub(super) fn set_successor(&self, next: Weak<dyn Successor>) {
        self.change(|state| _ = state.successor.get_or_insert(next));
    }

    /// Whether the origin has confirmed another version under the node that replaced this one.
    fn is_succeeded(&self) -> bool {
        let next = self.look(|state| state.successor.as_ref().and_then(Weak::upgrade));
        let next = next.and_then(|next| next.shown_version());
        self.shown()
            .zip(next)
            .is_some_and(|(shown, next)| shown.version != next)
    }

    /// Notes that it replaced another version that was shown under this name.
    pub(super) fn set_is_successor(&self) {
        self.set(SUCCESSOR);
    }

    /// Whether it replaced another version that was shown under this name.
    pub(in crate::vfs) fn is_successor(&self) -> bool {
        self.has(SUCCESSOR)
    }

    /// Whether this version can be shown here; if not, the file is marked as changed.
    pub(in crate::vfs) fn admits(&self, version: &Version) -> bool {
        let admits = self.look(|state| match (state.shown(), &state.stored, state.shown_size) {
            (Some(shown), ..) => shown.version == *version,
            (None, Some(stored), _) => stored == version,
            (None, None, Some(size)) => size == version.size,
            (None, None, None) => true,
        });
        if !admits {
            self.set(CHANGED);
        }
        admits
    }
}

/// Whether a listing's date can be this one. The listing may be in the server's local time, and lack the seconds.
fn may_be_date(listed: ListedTime, modified: SystemTime) -> bool {
    /// Offsets from UTC are multiples of it, in seconds.
    const ZONES: i64 = 900;
    /// The largest offset.
    const FARTHEST: i64 = 14 * 3600;
    let resolution = if listed.exact { 1 } else { 60 };
    let apart = (seconds(listed.time).0 - seconds(modified).0).abs();
    let beside = (apart % ZONES).min(ZONES - apart % ZONES);
    beside <= resolution && apart <= FARTHEST + resolution
}
