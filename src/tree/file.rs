//! Files: from what a listing says to a version whose bytes can be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use url::Url;

use super::node::{Attributes, Ino, undated};
use crate::cache::{CacheEntry, Confirmed, StoredFile};
use crate::http::{Metadata, Version};
use crate::source::{ListedSize, ListedTime};

/// One version of a remote file, as far as it is known.
pub struct RemoteFile {
    pub(super) url: Url,
    pub(super) listed_size: ListedSize,
    pub(super) listed_time: Option<ListedTime>,
    /// How the listing has it, whether or not that is true of this version.
    listed_as: (ListedSize, Option<ListedTime>),
    /// What the listing says was told to an earlier mount, and so belongs to what the catalogue has of the file.
    pub(super) is_stored: bool,
    /// The date that was first shown for this node. It stays: `tar` takes a file whose dates move
    /// while it is read for one that was changed.
    shown_time: OnceLock<SystemTime>,
    state: Mutex<State>,
    changed: AtomicBool,
    /// Held by the one who asks the origin, so that it is asked once.
    pub(super) asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What the origin said of it apart from its bytes, and when.
    known: Option<Known>,
    /// The cache entry, while anybody or the cache keeps it open.
    entry: Weak<CacheEntry>,
    /// The exact size that was last shown, in bytes. **The kernel may go by it** and stop reading there, so a version of
    /// another size that is known before its first byte is gets a node of its own.
    shown_size: Option<u64>,
    /// The version of the bytes that were shown under this node. The kernel may keep their pages, so
    /// **the node never shows another version's**.
    shown: Arc<OnceLock<Confirmed>>,
}

/// What an origin said of a file.
#[derive(Clone)]
pub struct Known {
    /// The current version.
    pub version: Version,
    /// When it was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    /// When the origin said so; `None` if that was to an earlier mount.
    pub at: Option<Instant>,
}

impl RemoteFile {
    /// A file of which a listing tells.
    pub fn listed(url: Url, listed_size: ListedSize, listed_time: Option<ListedTime>) -> RemoteFile {
        RemoteFile {
            url,
            listed_size,
            listed_time,
            listed_as: (listed_size, listed_time),
            is_stored: false,
            shown_time: OnceLock::new(),
            state: Mutex::default(),
            changed: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// A file of which a listing told an earlier mount.
    pub fn stored(url: Url, listed_size: ListedSize, listed_time: Option<ListedTime>) -> RemoteFile {
        RemoteFile {
            is_stored: true,
            ..RemoteFile::listed(url, listed_size, listed_time)
        }
    }

    /// A file of which the origin has told.
    pub fn known(url: Url, known: Option<Known>) -> RemoteFile {
        let file = RemoteFile::listed(url, ListedSize::Unknown, None);
        file.state.lock().known = known;
        file
    }

    /// The same URL, in the version that has come after this one.
    pub fn next_version(&self) -> RemoteFile {
        let state = self.state.lock();
        let shown = state.shown.get().map(|shown| &shown.version);
        let is_news = |known: &&Known| match shown {
            Some(shown) => known.version != *shown,
            None => Some(known.version.size) != state.shown_size,
        };
        // What the listing said may have been said of either version; but as long as it goes on saying that, it has
        // nothing new to say of this one.
        RemoteFile {
            listed_as: self.listed_as,
            ..RemoteFile::known(self.url.clone(), state.known.as_ref().filter(is_news).cloned())
        }
    }

    /// The one truth for the size, or the best guess while there is none; and whether it is exact.
    fn size(&self) -> (u64, bool) {
        let state = self.state.lock();
        match (state.shown.get(), &state.known, self.listed_size) {
            (Some(shown), ..) => (shown.version.size, true),
            (None, Some(known), _) => (known.version.size, true),
            (None, None, ListedSize::Exact(size)) => (size, true),
            (None, None, ListedSize::Rounded(size)) => (size, false),
            (None, None, ListedSize::Unknown) => (0, false),
        }
    }

    /// The size that is shown now, in bytes.
    pub fn shown_size(&self) -> u64 {
        self.size().0
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
    }

    /// Whether what a newer listing says can be true of this version.
    pub fn still_fits(&self, url: &Url, size: ListedSize, time: Option<ListedTime>) -> bool {
        *url == self.url && (size, time) == self.listed_as
    }

    /// What `stat` shows.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let (size, is_exact) = self.size();
        if is_exact {
            self.state.lock().shown_size = Some(size);
        }
        let modified = || {
            let known = self.state.lock().known.as_ref().and_then(|known| known.modified);
            known
                .or(self.listed_time.map(|listed| listed.time))
                .unwrap_or_else(undated)
        };
        // While the size is a guess, the origin has yet to be asked, and will tell the date too.
        let modified = if is_exact {
            *self.shown_time.get_or_init(modified)
        } else {
            modified()
        };
        Attributes {
            ino,
            is_directory: false,
            size,
            is_exact,
            modified: modified.max(UNIX_EPOCH),
            links: 1,
        }
    }

    /// What the origin said of it within `ttl`: by itself, or with its bytes.
    pub(super) fn freshly_known(&self, ttl: Duration) -> Option<Known> {
        let known = self.state.lock().known.clone();
        known
            .into_iter()
            .chain(self.shown())
            .find(|known| known.at.is_some_and(|at| at.elapsed() < ttl))
    }

    /// The version of which bytes were shown under this node, if any were: the kernel may still have them.
    pub(super) fn shown(&self) -> Option<Known> {
        let shown = self.state.lock().shown.get().cloned();
        shown.map(|Confirmed { version, modified, at }| Known {
            version,
            modified,
            at: Some(at),
        })
    }

    /// The open entry, if its version was confirmed within `ttl`; or if nobody knows its version
    /// yet, because its first range is still on its way.
    pub(super) fn open_entry(&self, ttl: Duration) -> Option<Arc<CacheEntry>> {
        let entry = self.state.lock().entry.upgrade()?;
        (entry.settled().is_none() || self.freshly_known(ttl).is_some()).then_some(entry)
    }

    /// Notes what the origin said of it.
    pub(super) fn note(&self, known: Known) {
        self.state.lock().known = Some(known);
    }

    /// The entry that somebody, or the cache, keeps open, however old its version's confirmation.
    pub(super) fn kept_entry(&self) -> Option<Arc<CacheEntry>> {
        self.state.lock().entry.upgrade()
    }

    /// Notes that this entry was opened for it.
    pub(super) fn opened(&self, entry: &Arc<CacheEntry>) {
        let mut state = self.state.lock();
        state.entry = Arc::downgrade(entry);
        if state.shown.get().is_none() {
            state.shown = Arc::clone(entry.confirmed());
        }
    }

    /// Whether this version can be shown here; if not, the file is marked as changed.
    pub(super) fn admits(&self, version: &Version) -> bool {
        let state = self.state.lock();
        let admits = match (state.shown.get(), state.shown_size) {
            (Some(shown), _) => shown.version == *version,
            (None, Some(size)) => size == version.size,
            (None, None) => true,
        };
        if !admits {
            self.changed.store(true, Ordering::Release);
        }
        admits
    }
}

impl Known {
    /// What the origin has just said.
    pub fn of(metadata: Metadata) -> Option<Known> {
        let version = metadata.version?;
        Some(Known {
            version,
            modified: metadata.modified,
            at: Some(Instant::now()),
        })
    }

    /// What it said to an earlier mount.
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
        RemoteFile::listed(url, ListedSize::Exact(size), None)
    }

    fn told(file: &RemoteFile, size: u64) {
        let version = Version {
            size,
            validator: Validator::None,
        };
        file.state.lock().known = Some(Known {
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
