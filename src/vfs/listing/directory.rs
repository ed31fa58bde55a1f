//! Directories: what is known of one, and until when it counts. How it is had is in [`listing`](crate::vfs::listing).

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
use crate::source::{LeftOut, ListedTime};
use crate::vfs::TreeError;
use crate::vfs::node::{Attributes, Ino, Node, undated};
use crate::vfs::request::Urgency;

/// The bytes that `stat` shows for a directory: what local file systems show for a small one.
const SHOWN_SIZE: u64 = 4096;

/// A directory of the tree.
pub struct Directory {
    /// Where its listing is. `None` for the top of a mount of several sources, which never changes.
    pub(in crate::vfs) url: Option<Url>,
    /// Those of what is in it.
    pub(in crate::vfs) dates: Arc<Dates>,
    pub(in crate::vfs) state: RwLock<State>,
    /// Held by the one who asks for the listing; the others wait for the answer to the same question.
    pub(in crate::vfs) refreshing: tokio::sync::Mutex<()>,
    /// The position after the file whose size was last asked for, for asking side by side.
    pub(in crate::vfs) resolved_until: AtomicUsize,
}

/// See [`Directory`].
#[derive(Default)]
pub(in crate::vfs) struct State {
    /// Its date in its parent's newest listing.
    listed_time: Option<ListedTime>,
    pub(in crate::vfs) snapshot: Option<Arc<Snapshot>>,
    /// When the names were let go of: those whose nodes the kernel knew then.
    pub(in crate::vfs) survivors: HashMap<OsString, Weak<Node>>,
    /// Until when the names are shown without asking again.
    pub(in crate::vfs) fresh_until: Option<Instant>,
    /// The names are those that an earlier mount was told.
    pub(in crate::vfs) is_stored: bool,
    /// The names are those that a mirror told.
    pub(in crate::vfs) is_by_mirror: bool,
    /// Whether the catalogue was asked for them.
    pub(in crate::vfs) is_searched: bool,
    /// What the last listing left out.
    pub(in crate::vfs) left_out: LeftOut,
    /// The listing that was written down last.
    pub(in crate::vfs) kept: Option<Kept>,
    /// What is known of names that the listing does not have.
    pub(in crate::vfs) unlisted: HashMap<OsString, Unlisted>,
    /// How the last request for the listing failed. Cleared when the directory is listed.
    pub(in crate::vfs) failed: Option<Failed>,
}

/// A listing that could not be had.
pub(in crate::vfs) struct Failed {
    /// The server's refusal, if it was asked ahead of need and would say the same again. The next look takes it.
    unseen: Option<(TreeError, Instant)>,
}

/// How long the answer to a request ahead of need is good for the look that it was made for.
const UNSEEN: Duration = Duration::from_secs(10);

/// What tells a listing that was written down from others, and when that was.
pub(in crate::vfs) struct Kept {
    /// A hash.
    pub(in crate::vfs) names: u64,
    pub(in crate::vfs) modified: Option<SystemTime>,
    pub(in crate::vfs) at: SystemTime,
}

impl Kept {
    pub(in crate::vfs) fn says_the_same(&self, other: &Kept) -> bool {
        (self.names, self.modified) == (other.names, other.modified)
    }
}

impl Directory {
    /// A directory whose names come from a listing.
    pub(in crate::vfs) fn listed(url: Url, listed_time: Option<ListedTime>, dates: Arc<Dates>) -> Directory {
        Directory {
            url: Some(url),
            dates,
            state: RwLock::new(State {
                listed_time,
                ..State::default()
            }),
            refreshing: tokio::sync::Mutex::default(),
            resolved_until: AtomicUsize::new(0),
        }
    }

    /// A directory whose names are given once.
    pub fn fixed() -> Directory {
        Directory {
            url: None,
            ..Directory::listed(
                Url::parse("http://-/").expect("a constant"),
                None,
                Dates::by(Arc::default()),
            )
        }
    }

    /// The names, if they need not be asked for again yet.
    pub fn fresh(&self) -> Option<Arc<Snapshot>> {
        let state = self.state.read();
        let is_fresh = self.url.is_none() || state.fresh_until.is_some_and(|until| Instant::now() < until);
        state.snapshot.clone().filter(|_| is_fresh)
    }

    /// The names as they were last heard of, however old.
    pub fn last_known(&self) -> Option<Arc<Snapshot>> {
        self.state.read().snapshot.clone()
    }

    /// Forgets the names, which can be had again; but not the nodes of those that are known elsewhere.
    pub(in crate::vfs) fn let_go(&self, is_known: impl Fn(Ino) -> bool) {
        let names = {
            let mut state = self.state.write();
            (state.fresh_until, state.is_searched) = (None, false);
            state.unlisted.clear();
            state.snapshot.take()
        };
        let Some(names) = names else { return };
        let known = names.children().iter().filter(|(_, node)| is_known(node.ino));
        let survivors = known
            .map(|(name, node)| (name.as_os_str().to_owned(), Arc::downgrade(node)))
            .collect();
        let mut state = self.state.write();
        // Somebody may have had them again meanwhile.
        if state.snapshot.is_none() {
            state.survivors = survivors;
        }
    }

    pub(in crate::vfs) fn set(&self, snapshot: Snapshot) {
        self.state.write().snapshot = Some(Arc::new(snapshot));
    }

    /// Believes what is known for so long.
    pub(in crate::vfs) fn believe_for(&self, time: Duration) {
        self.state.write().fresh_until = Some(Instant::now() + time);
    }

    /// Its date in its parent's newest listing.
    pub(in crate::vfs) fn listed_time(&self) -> Option<ListedTime> {
        self.state.read().listed_time
    }

    /// The parent's newest listing gives it this date.
    pub(in crate::vfs) fn set_listed_time(&self, listed_time: Option<ListedTime>) {
        self.state.write().listed_time = listed_time;
    }

    /// Whether the last request for its listing failed: then nobody asks ahead of need, or a walk would ask again at each step.
    pub(in crate::vfs) fn has_failed(&self) -> bool {
        self.state.read().failed.is_some()
    }

    /// Notes that its listing could not be had.
    pub(in crate::vfs) fn note_failure(&self, asker: Urgency, error: &TreeError) {
        let is_lasting = match error {
            TreeError::NotFound => true,
            TreeError::Http(error) => !error.kind.is_temporary(),
            _ => false,
        };
        let is_unseen = matches!(asker, Urgency::Guessing) && is_lasting;
        self.state.write().failed = Some(Failed {
            unseen: is_unseen.then(|| (error.clone(), Instant::now())),
        });
    }

    /// The refusal that a request ahead of need got a moment ago, once: it was made for the look that asks now.
    pub(in crate::vfs) fn take_unseen_failure(&self) -> Option<TreeError> {
        if !self.has_failed() {
            return None;
        }
        let (error, at) = self.state.write().failed.as_mut()?.unseen.take()?;
        (at.elapsed() < UNSEEN).then_some(error)
    }

    /// Believes what is known no longer, without forgetting it.
    pub(in crate::vfs) fn expire(&self) {
        let mut state = self.state.write();
        (state.fresh_until, state.failed) = (None, None);
    }

    /// The origin says that there is no such directory.
    pub(in crate::vfs) fn forget(&self) {
        let mut state = self.state.write();
        (state.snapshot, state.fresh_until, state.kept) = (None, None, None);
        state.survivors.clear();
        state.unlisted.clear();
    }

    /// What `stat` shows.
    pub fn attributes(&self, ino: Ino) -> Attributes {
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
        let links = snapshot.map_or(1, |snapshot| 2 + snapshot.directories);
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
