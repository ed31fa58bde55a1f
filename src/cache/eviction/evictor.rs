//! The thread that makes room, ahead of need where it can.
//!
//! It sleeps until somebody wants room: a writer here, or one in another process that shares the folder. Then it takes away
//! what the [policy](crate::cache::quota::policy) ranks lowest, in batches, until the low mark is reached. In each batch:
//!
//! 1. chunks leave the present sets, so that nobody begins to read them;
//! 2. the index forgets them, in one transaction;
//! 3. when that is committed, their bytes are punched out of the files; and files of which nothing is left are deleted.
//!
//! A crash in between leaves bytes that nobody trusts, and that an [audit](super::audit) gives back. When the index can't be
//! written, nothing is punched.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::audit;
use super::victims::{Closed, PAGE, Victim, coldest, open_or_forget};
use crate::cache::entry::cached_file::CachedFile;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::index::{CatalogUpdate, Order, Record};
use crate::cache::key::EntryKey;
use crate::cache::quota::room::Mark;
use crate::cache::quota::rounds::Outcome;
use crate::cache::quota::{Quota, seconds_now};
use crate::util::panic_guard::contained;

/// Bytes of a batch, at most: writers that wait can go on after each.
const BATCH: u64 = 64 << 20;

/// How long it sleeps at most when nothing is wanted: at least so often what is too old is looked for, if it may be at all. And no
/// more often it looks at all data files because nothing can go.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// How long what is too old may stay: a part of the age that it may reach, and not so short that looking costs anything.
const LATE_BY: u32 = 8;
const LOOK_NO_SOONER: Duration = Duration::from_secs(1);

/// A cache that was just opened is not audited before that, unless room is wanted: whoever mounts it wants to read. And so often
/// it is looked whether a folder that is gone has come back.
const SETTLING: Duration = Duration::from_secs(3);

/// The thread. Dropped, it ends.
pub struct Evictor {
    quota: Arc<Quota>,
    thread: Option<JoinHandle<()>>,
}

impl Evictor {
    /// Starts it. `let_go` closes files that are kept open without need.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(versions: Arc<VersionStore>, let_go: impl Fn() + Send + 'static) -> io::Result<Evictor> {
        let quota = Arc::clone(&versions.quota);
        let thread = std::thread::Builder::new()
            .name("evictor".into())
            .spawn(move || run(&versions, &let_go))?;
        Ok(Evictor {
            quota,
            thread: Some(thread),
        })
    }
}

impl Drop for Evictor {
    fn drop(&mut self) {
        self.quota.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(versions: &VersionStore, let_go: &dyn Fn()) {
    let quota = &versions.quota;
    let (mut looked, mut names_looked, begun) = (None, None, Instant::now());
    while !quota.rounds.is_closed() {
        let wanted = quota.ledger.wanted();
        let asked = quota.rounds.asked();
        let is_in_place = versions.is_in_place();
        // Who waits for room is told the outcome in any case.
        let outcome = contained("making room", || make_room(versions, let_go, &mut looked)).unwrap_or(Outcome::Busy);
        quota.rounds.have_ended(asked, outcome);
        quota.ledger.relieve();
        // Writers go first; what can wait comes when they have what they want.
        let is_settled = asked > 0 || begun.elapsed() >= SETTLING;
        contained("looking after the cache's folder", || {
            if is_settled {
                audit::run_if_due(versions);
            }
            if let Some(age) = quota.max_age {
                let age_in_seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                let since = seconds_now().saturating_sub(age_in_seconds);
                evict_older(versions, since);
                // All names are looked at for this.
                if names_looked.is_none_or(|looked: Instant| looked.elapsed() >= (age / LATE_BY).max(LOOK_NO_SOONER)) {
                    names_looked = Some(Instant::now());
                    versions.index.note(CatalogUpdate::NotUsedSince(since.into()));
                }
            }
        });
        if !quota.rounds.is_closed() {
            let longest = if is_settled && is_in_place {
                look_for_old_every(quota.max_age)
            } else {
                SETTLING
            };
            quota.ledger.wait_wanted(wanted, longest);
        }
    }
}

fn look_for_old_every(max_age: Option<Duration>) -> Duration {
    max_age.map_or(LOOK_FOR_OLD, |age| (age / LATE_BY).clamp(LOOK_NO_SOONER, LOOK_FOR_OLD))
}

/// A round; and before it is said that nothing can go, a look at what is really there: somebody may have deleted data files.
/// `looked` is when that was done last.
pub(in crate::cache) fn make_room(versions: &VersionStore, let_go: &dyn Fn(), looked: &mut Option<Instant>) -> Outcome {
    let outcome = round(versions, let_go);
    let is_due = looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_OLD);
    if outcome != Outcome::Exhausted || !is_due || versions.quota.rounds.is_closed() {
        return outcome;
    }
    *looked = Some(Instant::now());
    audit::run(versions);
    round(versions, let_go)
}

/// Makes room until the low mark is reached, or nothing more can go.
pub(in crate::cache) fn round(versions: &VersionStore, let_go: &dyn Fn()) -> Outcome {
    let quota = &versions.quota;
    if !versions.is_in_place() {
        return Outcome::Exhausted;
    }
    trim_leftovers(versions);
    if quota.shortfall(Mark::Low) > 0 && quota.has_others() {
        // Others can't make room in what is open here.
        let_go();
    }
    let mut is_relieved = false;
    let mut refused = HashSet::new();
    let is_busy = loop {
        let need = quota.shortfall(Mark::Low);
        if need == 0 || quota.rounds.is_closed() {
            return Outcome::Relieved;
        }
        let victims = coldest(versions, need.min(BATCH), &refused);
        // Somebody else had them open, or came to use them.
        let is_busy = victims.iter().any(|victim| !victim.chunks.is_empty());
        let evicted = evict(versions, victims);
        quota.measure_index();
        if evicted.freed == 0 && evicted.refused.is_empty() {
            break is_busy || !refused.is_empty();
        }
        // They are not asked again: what is warmer would never have its turn.
        refused.extend(evicted.refused);
        if evicted.freed > 0 {
            is_relieved = true;
            quota.ledger.relieve();
        }
    };
    match is_relieved {
        true => Outcome::Relieved,
        false
            if is_busy
                || versions
                    .cached_files
                    .all()
                    .iter()
                    .any(|cached_file| cached_file.is_busy()) =>
        {
            Outcome::Busy
        }
        false => Outcome::Exhausted,
    }
}

/// Gives back what fetches have left behind that ended within a chunk.
fn trim_leftovers(versions: &VersionStore) {
    let quota = &versions.quota;
    // They are held for as long as this takes; what is in use now is tried again in a later round if it is still open.
    let leftovers = std::mem::take(&mut *quota.leftovers.lock());
    for cached_file in versions.cached_files.all() {
        versions.trim(&cached_file, false);
    }
    drop(leftovers);
}

/// What was not used since this second (since 1970) goes.
pub fn evict_older(versions: &VersionStore, since: u32) -> u64 {
    if !versions.is_in_place() {
        return 0;
    }
    let pinned = versions.index.pinned();
    let mut cached_files = versions.cached_files.all();
    let known: HashSet<EntryKey> = cached_files.iter().map(|cached_file| cached_file.key.clone()).collect();
    cached_files.retain(|cached_file| !pinned.contains(&cached_file.key));
    let mut freed = 0;
    let mut evict_old = |cached_files: Vec<Arc<CachedFile>>| {
        let victims = cached_files.into_iter().map(|cached_file| {
            let old =
                (0..cached_file.presence.segments()).filter(|&segment| cached_file.recency.of(segment).seconds < since);
            let chunks = old.flat_map(|segment| cached_file.evictable(segment)).collect();
            Victim { cached_file, chunks }
        });
        freed += evict(versions, victims.collect()).freed;
    };
    evict_old(cached_files);
    let mut closed = Closed::new(versions, Order::NotUsedSince(since));
    loop {
        let page: Vec<_> = closed.by_ref().take(PAGE).collect();
        if page.is_empty() {
            return freed;
        }
        let rows = page.iter().filter(|row| !known.contains(&row.key));
        evict_old(rows.filter_map(|row| open_or_forget(versions, row)).collect());
    }
}

/// Lets all chunks of a version that is open go, as far as nobody is using them. False if any are left.
pub fn evict_all(versions: &VersionStore, cached_file: Arc<CachedFile>) -> bool {
    let segments = 0..cached_file.presence.segments();
    let chunks = segments.flat_map(|segment| cached_file.evictable(segment)).collect();
    let (presence, kept) = (Arc::clone(&cached_file.presence), Arc::downgrade(&cached_file));
    evict(versions, vec![Victim { cached_file, chunks }]);
    presence.is_empty()
        && kept
            .upgrade()
            .is_none_or(|cached_file| cached_file.unverified.is_empty())
}

/// What came of letting chunks go.
#[derive(Default)]
struct Evicted {
    /// Bytes that were given back.
    freed: u64,
    /// Entries that somebody else has open, of which nothing could go.
    refused: Vec<EntryKey>,
}

/// Lets chunks go.
fn evict(versions: &VersionStore, victims: Vec<Victim>) -> Evicted {
    // What is in its place by now, under the same names, is somebody else's.
    if !versions.is_in_place() {
        return Evicted::default();
    }
    let mut leaving = Vec::new();
    let mut doomed = HashSet::new();
    let mut refused = Vec::new();
    let is_committed = {
        // Each record follows its chunks' leaving at once: should one of them be wanted again, that is recorded later.
        let records = victims.iter().filter_map(|Victim { cached_file, chunks }| {
            let key = cached_file.key.clone();
            let Some(mut begun) = cached_file.begin_eviction(chunks) else {
                refused.extend((!chunks.is_empty()).then_some(key));
                return None;
            };
            let chunks = begun.chunks.clone();
            begun.is_doomed = cached_file.presence.is_empty()
                && cached_file.unverified.is_empty()
                && versions.cached_files.take_unused(cached_file);
            let is_doomed = begun.is_doomed;
            if is_doomed {
                doomed.insert(key.clone());
            }
            if !is_doomed && chunks.is_empty() {
                return None;
            }
            leaving.push(begun);
            Some(if is_doomed {
                Record::Forget { key }
            } else {
                Record::ForgetChunks { key, chunks }
            })
        });
        versions.index.commit(records)
    };
    let mut freed = 0;
    for leaving in leaving {
        if !is_committed {
            leaving.give_up();
            continue;
        }
        let change = if leaving.is_doomed {
            leaving.unlink(&versions.store)
        } else {
            leaving.punch()
        };
        versions.quota.adjust(change.counted);
        freed += change.freed;
        if let Some(errno) = change.failed {
            // Room that can't be made is not made for the next ten seconds either: each try would forget what stays.
            versions.trouble.failed(&io::Error::from_raw_os_error(errno));
        }
    }
    for Victim { cached_file, chunks } in victims {
        // Of those that were opened for this, the index is to know what is left.
        if !chunks.is_empty() && !doomed.contains(&cached_file.key) && Arc::strong_count(&cached_file) == 1 {
            versions.note_use(&cached_file);
        }
    }
    if freed > 0 {
        log::debug!("made room in the cache: {freed} bytes");
    }
    Evicted { freed, refused }
}
