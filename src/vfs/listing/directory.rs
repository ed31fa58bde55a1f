//! The state of a directory, and how long its names count as fresh. [`listing`](crate::vfs::listing) fetches them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use url::Url;

use super::dates::Dates;
use super::snapshot::Snapshot;
use super::unlisted::Unlisted;
use crate::source::{LeftOut, ListedTime, SingleFile, Source};
use crate::vfs::TreeError;
use crate::vfs::node::{Attributes, Counted, Ino, Node, Totals, undated};
use crate::vfs::request::urgency::Urgency;

/// The size in bytes that `stat` shows for a directory, as local file systems show for a small one.
const SHOWN_SIZE: u64 = 4096;

/// A directory of the tree.
pub(crate) struct Directory {
    /// The URL of its listing. `None` for the root of a mount of several sources, which never changes.
    pub(in crate::vfs) url: Option<Url>,
    /// Lists it.
    pub(in crate::vfs) source: Arc<dyn Source>,
    /// The dates of its entries.
    pub(in crate::vfs) dates: Arc<Dates>,
    pub(in crate::vfs) state: RwLock<State>,
    /// Held while a task fetches the listing; other tasks wait for the same answer.
    pub(in crate::vfs) refreshing: tokio::sync::Mutex<()>,
    /// The position after the file whose size was last requested, for requests ahead of `stat`.
    pub(in crate::vfs) resolved_until: AtomicUsize,
}

/// The mutable state of a [`Directory`].
#[derive(Default)]
pub(in crate::vfs) struct State {
    /// Its date in its parent's newest listing.
    listed_time: Option<ListedTime>,
    snapshot: Option<Arc<Snapshot>>,
    /// The names' share of the totals. **`Some` exactly while `snapshot` is.**
    counted: Option<Counted>,
    /// Pinned nodes that the kernel still referenced when the names were dropped.
    pub(in crate::vfs) survivors: HashMap<OsString, Weak<Node>>,
    /// Until when the names are fresh.
    pub(in crate::vfs) fresh_until: Option<Instant>,
    /// Whether the names come from an earlier mount.
    pub(in crate::vfs) is_stored: bool,
    /// Whether the names come from a mirror.
    pub(in crate::vfs) is_by_mirror: bool,
    /// Whether the catalog was searched for stored names.
    pub(in crate::vfs) is_searched: bool,
    /// What the last listing left out.
    pub(in crate::vfs) left_out: LeftOut,
    /// The listing that was stored last.
    pub(in crate::vfs) kept: Option<Kept>,
    /// What is known of names that the listing lacks.
    pub(in crate::vfs) unlisted: HashMap<OsString, Unlisted>,
    /// How the last fetch of the listing failed. Cleared when a fetch succeeds.
    pub(in crate::vfs) failed: Option<Failed>,
}

/// A failed fetch of a listing.
pub(in crate::vfs) struct Failed {
    /// The server's refusal, if a prefetch received it and the server would repeat it. The next look-up reports it.
    unseen: Option<(TreeError, Instant)>,
}

/// How long a prefetch's refusal is kept for the look-up that it was made for.
const UNSEEN: Duration = Duration::from_secs(10);

/// Identifies a stored listing, with the time when it was stored.
pub(in crate::vfs) struct Kept {
    /// A hash of the names.
    pub(in crate::vfs) names: u64,
    pub(in crate::vfs) modified: Option<SystemTime>,
    pub(in crate::vfs) at: SystemTime,
}

impl Kept {
    pub(in crate::vfs) fn says_the_same(&self, other: &Kept) -> bool {
        (self.names, self.modified) == (other.names, other.modified)
    }
}

impl State {
    pub(in crate::vfs) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Shows these names from now on.
    pub(in crate::vfs) fn show(&mut self, snapshot: Arc<Snapshot>, totals: &Arc<Totals>) {
        self.counted = Some(Counted::new(totals, snapshot.totals()));
        self.snapshot = Some(snapshot);
    }

    fn take_snapshot(&mut self) -> Option<Arc<Snapshot>> {
        self.counted = None;
        self.snapshot.take()
    }
}

impl Directory {
    /// A directory whose names come from a listing.
    pub(in crate::vfs) fn listed(
        source: Arc<dyn Source>,
        url: Url,
        listed_time: Option<ListedTime>,
        dates: Arc<Dates>,
    ) -> Directory {
        Directory {
            url: Some(url),
            source,
            dates,
            state: RwLock::new(State {
                listed_time,
                ..State::default()
            }),
            refreshing: tokio::sync::Mutex::default(),
            resolved_until: AtomicUsize::new(0),
        }
    }

    /// A directory whose names never change.
    pub(crate) fn fixed() -> Directory {
        Directory {
            url: None,
            ..Directory::listed(
                Arc::new(SingleFile),
                Url::parse("http://-/").expect("a constant"),
                None,
                Dates::by(Arc::default()),
            )
        }
    }

    /// The names, if they are fresh.
    pub(crate) fn fresh(&self) -> Option<Arc<Snapshot>> {
        let state = self.state.read();
        let is_fresh = self.url.is_none() || state.fresh_until.is_some_and(|until| Instant::now() < until);
        state.snapshot.clone().filter(|_| is_fresh)
    }

    /// The last known names, however old.
    pub(crate) fn last_known(&self) -> Option<Arc<Snapshot>> {
        self.state.read().snapshot.clone()
    }

    /// Drops the names, which can be fetched again. Nodes that `is_known` accepts stay reachable through `survivors`.
    pub(in crate::vfs) fn let_go(&self, is_known: impl Fn(Ino) -> bool) {
        let names = {
            let mut state = self.state.write();
            (state.fresh_until, state.is_searched) = (None, false);
            state.unlisted.clear();
            state.take_snapshot()
        };
        let Some(names) = names else { return };
        let pinned = names.all_pinned().into_iter();
        let known = pinned.filter(|(_, node)| is_known(node.ino));
        let survivors = known
            .map(|(at, node)| (names.name(at).to_owned(), Arc::downgrade(&node)))
            .collect();
        let mut state = self.state.write();
        // The names may have been fetched again meanwhile.
        if state.snapshot.is_none() {
            state.survivors = survivors;
        }
    }

    pub(in crate::vfs) fn set(&self, snapshot: Snapshot, totals: &Arc<Totals>) {
        self.state.write().show(Arc::new(snapshot), totals);
    }

    /// Treats the names as fresh for this time.
    pub(in crate::vfs) fn believe_for(&self, time: Duration) {
        self.state.write().fresh_until = Some(Instant::now() + time);
    }

    /// Sets its date from its parent's newest listing.
    pub(in crate::vfs) fn set_listed_time(&self, listed_time: Option<ListedTime>) {
        self.state.write().listed_time = listed_time;
    }

    /// Whether the last fetch of its listing failed. Then it is not prefetched, or a walk would ask again at each
    /// step.
    pub(in crate::vfs) fn has_failed(&self) -> bool {
        self.state.read().failed.is_some()
    }

    /// Notes a failed fetch of its listing.
    pub(in crate::vfs) fn note_failure(&self, urgency: Urgency, error: &TreeError) {
        let is_lasting = match error {
            TreeError::NotFound => true,
            TreeError::Source(error) => !error.is_temporary(),
            _ => false,
        };
        let is_unseen = matches!(urgency, Urgency::Prefetching) && is_lasting;
        self.state.write().failed = Some(Failed {
            unseen: is_unseen.then(|| (error.clone(), Instant::now())),
        });
    }

    /// Takes the refusal that a prefetch has just received for the look-up that asks now.
    pub(in crate::vfs) fn take_unseen_failure(&self) -> Option<TreeError> {
        if !self.has_failed() {
            return None;
        }
        let (error, at) = self.state.write().failed.as_mut()?.unseen.take()?;
        (at.elapsed() < UNSEEN).then_some(error)
    }

    /// Makes the names stale without dropping them.
    pub(in crate::vfs) fn expire(&self) {
        let mut state = self.state.write();
        (state.fresh_until, state.failed) = (None, None);
    }

    /// Drops all names, because the origin says that the directory does not exist.
    pub(in crate::vfs) fn forget(&self) {
        let mut state = self.state.write();
        drop(state.take_snapshot());
        (state.fresh_until, state.kept) = (None, None);
        state.survivors.clear();
        state.unlisted.clear();
    }

    /// The attributes that `stat` shows.
    pub(crate) fn attributes(&self, ino: Ino) -> Attributes {
        let (snapshot, listed) = {
            let state = self.state.read();
            (
                state.snapshot.clone(),
                state.listed_time.map(|listed| self.dates.clock.utc(listed.time)),
            )
        };
        let modified = listed
            .or(snapshot.as_ref().and_then(|s| s.modified))
            .unwrap_or_else(undated)
            .max(UNIX_EPOCH);
        let links = snapshot.map_or(1, |snapshot| 2 + snapshot.directories());
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
