//! Remote files: what a listing, the origin and the cache know of a version, and whether a node may show it.

mod attributes;
pub(in crate::vfs) mod known;
mod listed;
pub(super) mod state;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smol_str::SmolStr;
use url::Url;

use super::dates::Dates;
use super::file_text::FileText;
use super::ino::Ino;
use super::listed_names::{ListedNames, ListingContext};
use crate::cache::StoredFile;
use crate::origin::Content;
use crate::source::{Entries, EntryKind, ListedSize, ListedTime, Published, Source};
use known::Known;
use listed::Listed;
use state::State;

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

    /// The lock that a task holds while it asks the origin, so that the origin is asked once.
    pub(in crate::vfs) fn asking(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.change(|state| Arc::clone(state.asking.get_or_insert_default()))
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
}
