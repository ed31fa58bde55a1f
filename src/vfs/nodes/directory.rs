//! The state of a directory: its names, how fresh they are, and what is known of names that its listing lacks.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use url::Url;

use super::attributes::{Attributes, undated};
use super::dates::Dates;
use super::freshness::Freshness;
use super::ino::{Ino, ROOT};
use super::listed_names::ListingContext;
use super::partial_listing::Incoming;
use super::snapshot::{Child, Snapshot};
use super::totals::{Counted, Totals};
use crate::http::Validator;
use crate::source::{Entries, LeftOut, ListedTime, SingleFile, Source};
use crate::vfs::error::TreeError;

/// The size in bytes that `stat` shows for a directory, as local file systems show for a small one.
const SHOWN_SIZE: u64 = 4096;

/// How long the kernel may keep at most that a name is absent. Scanners of media libraries ask for thousands of names
/// beside each film, and for most of them several times at once. It can't be told of a name that has appeared without a
/// lock that look-ups hold (`fuse_reverse_inval_entry` in the kernel's fs/fuse/dir.c), so a refresh waits as long instead.
const ABSENT: Duration = Duration::from_secs(1);

/// A directory of the tree; its children are nodes of type `N`.
pub(in crate::vfs) struct Directory<N> {
    /// The URL of its listing. `None` for the root of a mount of several sources, which never changes.
    pub(in crate::vfs) url: Option<Url>,
    /// Lists it.
    pub(in crate::vfs) source: Arc<dyn Source>,
    /// The directory that first listed it. The root is its own parent.
    pub(super) parent: Ino,
    /// The dates of its entries.
    pub(in crate::vfs) dates: Arc<Dates>,
    /// Locked for a look-up, or while a listing's names are replaced. No I/O under it.
    pub(in crate::vfs) state: RwLock<State<N>>,
    /// Held while a task fetches the listing; other tasks wait for the same answer.
    pub(in crate::vfs) refreshing: tokio::sync::Mutex<()>,
    /// The listing that is being received while no names are known.
    pub(in crate::vfs) incoming: Incoming<N>,
    /// The position after the file whose size was last requested, for requests ahead of `stat`.
    pub(in crate::vfs) resolved_until: AtomicUsize,
}

/// The mutable state of a [`Directory`].
pub(in crate::vfs) struct State<N> {
    /// Its date in its parent's newest listing.
    listed_time: Option<ListedTime>,
    snapshot: Option<Arc<Snapshot<N>>>,
    /// The names' share of the totals. **`Some` exactly while `snapshot` is.**
    counted: Option<Counted>,
    freshness: Freshness,
    /// Pinned nodes that the kernel still referenced when the names were dropped.
    pub(in crate::vfs) survivors: HashMap<OsString, Weak<N>>,
    /// By which the origin can tell whether its listing is still the one with these names.
    pub(in crate::vfs) validator: Validator,
    /// When the origin last sent a whole listing, or confirmed the one of an earlier mount.
    pub(in crate::vfs) whole_at: Option<Instant>,
    /// Whether the names come from an earlier mount.
    pub(in crate::vfs) is_stored: bool,
    /// Whether the names come from a mirror.
    pub(in crate::vfs) is_by_mirror: bool,
    /// Whether the catalog was searched for stored names.
    pub(in crate::vfs) is_searched: bool,
    /// What the last listing left out.
    pub(in crate::vfs) left_out: LeftOut,
    /// The listing that this mount stored last, and when.
    pub(in crate::vfs) stored: Option<(Fingerprint, SystemTime)>,
    /// Until when the kernel may keep that names are absent.
    absent_until: Option<Instant>,
    /// What is known of names that the listing lacks.
    pub(in crate::vfs) unlisted: HashMap<OsString, CachedLookup<N>>,
}

/// Identifies a stored listing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) struct Fingerprint {
    /// A hash of the names.
    pub(in crate::vfs) names: u64,
    /// The date of the listing.
    pub(in crate::vfs) modified: Option<SystemTime>,
}

/// The cached look-up of a name that the listing lacks.
pub(in crate::vfs) struct CachedLookup<N> {
    /// `None` if the server does not have it.
    pub(in crate::vfs) node: Option<Arc<N>>,
    /// When the server said so.
    pub(in crate::vfs) at: Instant,
}

impl<N: Child> State<N> {
    pub(in crate::vfs) fn snapshot(&self) -> Option<&Arc<Snapshot<N>>> {
        self.snapshot.as_ref()
    }

    /// Shows these names from now on. Nothing tells yet whether they have changed.
    pub(in crate::vfs) fn show(&mut self, snapshot: Arc<Snapshot<N>>, is_stored: bool, totals: &Arc<Totals>) {
        (self.validator, self.whole_at) = (Validator::None, None);
        // Names that were found before they were listed have nodes in the snapshot now.
        self.unlisted
            .retain(|name, lookup| lookup.node.is_none() || snapshot.listed.find(name).is_none());
        self.counted = Some(Counted::new(totals, snapshot.totals()));
        self.snapshot = Some(snapshot);
        self.is_stored = is_stored;
        self.freshness.clear_failure();
    }

    fn take_snapshot(&mut self) -> Option<Arc<Snapshot<N>>> {
        self.counted = None;
        self.freshness.expire();
        self.unlisted.clear();
        (self.validator, self.whole_at) = (Validator::None, None);
        self.snapshot.take()
    }
}

impl<N: Child> Directory<N> {
    /// A directory whose names come from a listing.
    pub(in crate::vfs) fn listed(
        source: Arc<dyn Source>,
        parent: Ino,
        url: Url,
        listed_time: Option<ListedTime>,
        dates: Arc<Dates>,
    ) -> Directory<N> {
        Directory {
            url: Some(url),
            source,
            parent,
            dates,
            state: RwLock::new(State {
                listed_time,
                snapshot: None,
                counted: None,
                freshness: Freshness::default(),
                survivors: HashMap::new(),
                validator: Validator::None,
                whole_at: None,
                is_stored: false,
                is_by_mirror: false,
                is_searched: false,
                left_out: LeftOut::default(),
                stored: None,
                absent_until: None,
                unlisted: HashMap::new(),
            }),
            refreshing: tokio::sync::Mutex::default(),
            incoming: Incoming::default(),
            resolved_until: AtomicUsize::new(0),
        }
    }

    /// A directory whose names never change.
    pub(in crate::vfs) fn fixed() -> Directory<N> {
        let nowhere = Url::parse("http://-/").expect("a constant");
        Directory {
            url: None,
            ..Directory::listed(Arc::new(SingleFile), ROOT, nowhere, None, Dates::by(Arc::default()))
        }
    }

    /// What the files of a listing of it share; its node has the number `ino`.
    pub(in crate::vfs) fn context(&self, ino: Ino, entries: &Entries) -> Arc<ListingContext> {
        let (dates, source) = (Arc::clone(&self.dates), Arc::clone(&self.source));
        ListingContext::new(entries, ino, dates, source)
    }

    /// Whether there is a directory with this URL at this position.
    pub(super) fn is_at(&self, entries: &Entries, at: usize) -> bool {
        entries.is_directory(at) && self.url.as_ref().is_some_and(|url| *url == entries.url(at))
    }

    /// The names, if they are fresh.
    pub(in crate::vfs) fn fresh(&self) -> Option<Arc<Snapshot<N>>> {
        let state = self.state.read();
        let is_fresh = self.url.is_none() || state.freshness.is_fresh();
        state.snapshot.clone().filter(|_| is_fresh)
    }

    /// The fresh names, if the origin itself gave them within this time, and when it did. What they say of a file is as good
    /// as an answer for the file.
    pub(in crate::vfs) fn answered_within(&self, time: Duration) -> Option<(Arc<Snapshot<N>>, Instant)> {
        let at = self.state.read().freshness.answered_within(time)?;
        Some((self.fresh()?, at))
    }

    /// The last known names, however old.
    pub(in crate::vfs) fn last_known(&self) -> Option<Arc<Snapshot<N>>> {
        self.state.read().snapshot.clone()
    }

    /// Drops the names, which can be fetched again. Nodes that `is_known` accepts stay reachable through `survivors`.
    pub(in crate::vfs) fn drop_names(&self, is_known: impl Fn(Ino) -> bool) {
        let names = {
            let mut state = self.state.write();
            state.is_searched = false;
            state.take_snapshot()
        };
        let Some(names) = names else { return };
        let pinned = names.all_pinned().into_iter();
        let known = pinned.filter(|(_, node)| is_known(node.ino()));
        let survivors = known
            .map(|(at, node)| (names.name(at).to_owned(), Arc::downgrade(&node)))
            .collect();
        let mut state = self.state.write();
        // The names may have been fetched again meanwhile.
        if state.snapshot.is_none() {
            state.survivors = survivors;
        }
    }

    /// Drops all names, because the origin says that the directory does not exist.
    pub(in crate::vfs) fn forget(&self) {
        let mut state = self.state.write();
        drop(state.take_snapshot());
        state.stored = None;
        state.survivors.clear();
    }

    /// How long the kernel may keep that a name is absent: as long as the names are fresh, and for [`ABSENT`] at most.
    pub(in crate::vfs) fn absent_for(&self) -> Duration {
        if self.url.is_none() {
            return ABSENT;
        }
        let mut state = self.state.write();
        let time = state.freshness.remaining().min(ABSENT);
        state.absent_until = state.absent_until.max(Some(Instant::now() + time));
        time
    }

    /// Until when the kernel may keep that names are absent which the directory has now.
    pub(in crate::vfs) fn absent_until(&self) -> Option<Instant> {
        self.state.read().absent_until
    }

    /// Forgets which names the server was said to lack.
    pub(in crate::vfs) fn forget_absent(&self) {
        self.state.write().unlisted.retain(|_, lookup| lookup.node.is_some());
    }

    /// Whether its names are in memory.
    pub(in crate::vfs) fn is_listed(&self) -> bool {
        self.state.read().snapshot.is_some()
    }

    /// Treats the names as fresh for this time.
    pub(in crate::vfs) fn set_fresh_for(&self, time: Duration) {
        self.state.write().freshness.extend(time);
    }

    /// Notes that the origin itself has just given the names, which are fresh for this time.
    pub(in crate::vfs) fn note_answer(&self, time: Duration) {
        self.state.write().freshness.note_answer(time);
    }

    /// Makes the names stale without dropping them.
    pub(in crate::vfs) fn expire(&self) {
        let freshness = &mut self.state.write().freshness;
        freshness.expire();
        freshness.clear_failure();
    }

    /// Sets its date from its parent's newest listing.
    pub(in crate::vfs) fn set_listed_time(&self, listed_time: Option<ListedTime>) {
        self.state.write().listed_time = listed_time;
    }

    /// Whether the last fetch of its listing failed. Then it is not prefetched, or a walk would ask again at each
    /// step.
    pub(in crate::vfs) fn has_failed(&self) -> bool {
        self.state.read().freshness.has_failed()
    }

    /// Notes a failed fetch of its listing. `unseen` is the error to report to the next look-up.
    pub(in crate::vfs) fn note_failure(&self, unseen: Option<TreeError>) {
        self.state.write().freshness.note_failure(unseen);
    }

    /// Takes the error that a prefetch has just received for the look-up that asks now.
    pub(in crate::vfs) fn take_unseen_failure(&self) -> Option<TreeError> {
        if !self.has_failed() {
            return None;
        }
        self.state.write().freshness.take_unseen_failure()
    }

    /// The attributes that `stat` shows.
    pub(super) fn attributes(&self, ino: Ino) -> Attributes {
        let (snapshot, listed) = {
            let state = self.state.read();
            let listed = state.listed_time.map(|listed| self.dates.clock.utc(listed.time));
            (state.snapshot.clone(), listed)
        };
        let own = snapshot.as_ref().and_then(|snapshot| snapshot.listed.modified);
        Attributes {
            ino,
            is_directory: true,
            size: SHOWN_SIZE,
            is_exact: true,
            modified: listed.or(own).unwrap_or_else(undated).max(UNIX_EPOCH),
            links: snapshot.map_or(1, |snapshot| 2 + snapshot.directories()),
        }
    }
}
